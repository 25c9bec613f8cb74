"""Policies and renderers of known behaviour, for grids whose answer is known beforehand."""

from __future__ import annotations

import cv2
import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.contracts import Observation, Plan, PolicySpec, RendererSpec, SessionInfo
from omniloop.core.motion import Trajectory
from omniloop.renderer_client.rasterizer import Rasterizer, RasterSession

NOISY_LEVELS = 12.0
"""Median Laplacian of a grey image above which it is taken for noise."""


class Beside:
    """Drives as recorded, but so far to the right, reached within two seconds; sees nothing."""

    spec = PolicySpec(horizon_s=3.0, route=False, privileged=frozenset({"recording"}))

    def __init__(self, offset_m: float = 0.0, history_s: float = 0.0) -> None:
        self.offset_m = offset_m
        self.spec = PolicySpec(
            horizon_s=3.0, route=False, privileged=frozenset({"recording"}), ego_history_s=history_s
        )

    def wished_m(self, observation: Observation) -> float:
        return self.offset_m

    def plan(self, observation: Observation) -> Plan:
        seconds = np.arange(31) / 10
        times = observation.time_us + np.arange(31, dtype=np.int64) * 100_000
        recorded = observation.recording.sample(times)
        right = np.zeros((31, 7))
        right[:, 6] = 1
        ego = observation.ego.local_to_rig[-1]
        now_m = -geometry.compose(geometry.inverse(recorded[0]), ego)[1]
        right[:, 1] = -(now_m + (self.wished_m(observation) - now_m) * np.minimum(seconds / 2, 1))
        poses = geometry.compose(recorded, right)
        poses[0] = ego
        return Plan(Trajectory(times, poses))


class Looker(Beside):
    """Stays within an arm's length of the recorded path while its frames are clear, and leaves
    the road when they are noisy."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = PolicySpec(
            cameras=None, horizon_s=3.0, route=False, privileged=frozenset({"recording"})
        )

    def wished_m(self, observation: Observation) -> float:
        (frames,) = observation.frames.values()
        data = np.frombuffer(frames[-1].image, dtype=np.uint8)
        grey = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE).astype(np.float32)
        return 9.0 if np.median(abs(cv2.Laplacian(grey, cv2.CV_32F))) > NOISY_LEVELS else 0.4


class Fixed:
    """The rasteriser as a renderer whose chunks nobody else may choose."""

    def __init__(self, chunk: int = 8, fps: int = 30, cameras: list[str] | None = None) -> None:
        self._drawer = Rasterizer(chunk=chunk, fps=fps, width=64, height=48, cameras=cameras)
        self.spec: RendererSpec = self._drawer.spec

    def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> RasterSession:
        return self._drawer.open(session, cameras)


class OneByOne(Fixed):
    """The same frame by frame, without a setting for chunks."""

    def __init__(self, fps: int = 10) -> None:
        super().__init__(chunk=0, fps=fps)


class Breaks(Fixed):
    """Fails in the rollouts of one scene."""

    def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> RasterSession:
        if session.scene.id == "curve":
            raise ConnectionError("the renderer went away")
        return super().open(session, cameras)
