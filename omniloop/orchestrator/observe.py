"""What the policy gets to see at a decision: frames, ego history, privileged inputs."""

from __future__ import annotations

from collections import deque

import numpy as np

from omniloop.core.contracts import CameraFrame, PolicySpec
from omniloop.core.motion import EgoMotion, bracket
from omniloop.core.time import US_PER_S, seconds_to_us


class FrameBuffer:
    """Delivered frames per camera, kept as long as the policy's image history reaches."""

    def __init__(self, spec: PolicySpec, camera_ids: tuple[str, ...]) -> None:
        wanted = camera_ids if spec.cameras is None else spec.cameras
        self._frames: dict[str, deque[CameraFrame]] = {
            c: deque() for c in camera_ids if c in wanted
        }
        self._everything = spec.everything
        self._offsets_us = [
            seconds_to_us((spec.images.count - 1 - k) / spec.images.rate_hz)
            for k in range(spec.images.count)
        ]

    def add(self, frame: CameraFrame) -> None:
        """Take a delivered frame; frames of cameras the policy ignores are let go."""
        frames = self._frames.get(frame.camera_id)
        if frames is None:
            return
        place = len(frames)
        while place and frames[place - 1].capture_us > frame.capture_us:
            place -= 1  # a delayed frame comes after later ones
        frames.insert(place, frame)
        if self._everything:
            return
        horizon_us = frames[-1].capture_us - self._offsets_us[0]
        while len(frames) > 1 and frames[1].capture_us <= horizon_us:
            frames.popleft()

    def history(self, time_us: int) -> dict[str, tuple[CameraFrame, ...]]:
        """Choose frames by time: the newest at or before each wished instant.

        A policy that is told everything gets all frames since the last call.
        """
        if self._everything:
            told = {camera: tuple(frames) for camera, frames in self._frames.items()}
            for frames in self._frames.values():
                frames.clear()
            return told
        out: dict[str, tuple[CameraFrame, ...]] = {}
        for camera, frames in self._frames.items():
            if not frames:
                out[camera] = ()
                continue
            held = list(frames)
            captures = np.array([f.capture_us for f in held], dtype=np.int64)
            wished = np.array([time_us - o for o in self._offsets_us], dtype=np.int64)
            index = np.maximum(np.searchsorted(captures, wished, side="right") - 1, 0)
            out[camera] = tuple(held[i] for i in index)
        return out


def ego_history(
    ego: EgoMotion, spec: PolicySpec, time_us: int, told_until_us: int | None = None
) -> EgoMotion:
    """The part of the ego's states that a policy declared it needs, ending at `time_us`.

    Resampled states before the first one held repeat it. A policy that is told everything
    gets all states after `told_until_us`, from the first one held if that is None.
    """
    if spec.ego_history_hz is None or spec.everything:
        if spec.everything:
            since_us = -1 if told_until_us is None else told_until_us + 1
        else:
            since_us = time_us - seconds_to_us(spec.ego_history_s)
        first = np.searchsorted(ego.times_us, since_us, side="left")
        stop = np.searchsorted(ego.times_us, time_us, side="right")
        part = slice(min(first, stop - 1), stop)
        return EgoMotion(ego.times_us[part], ego.local_to_rig[part], ego.dynamics[part])
    step_us = US_PER_S / spec.ego_history_hz
    count = int(np.floor(seconds_to_us(spec.ego_history_s) / step_us + 1e-9)) + 1
    times = time_us - np.rint(step_us * np.arange(count - 1, -1, -1)).astype(np.int64)
    held = np.clip(times, ego.times_us[0], None)
    lo, hi, alpha = bracket(ego.times_us, held)
    dynamics = ego.dynamics[lo] + alpha[:, None] * (ego.dynamics[hi] - ego.dynamics[lo])
    return EgoMotion(times, ego.trajectory.sample(held), dynamics)
