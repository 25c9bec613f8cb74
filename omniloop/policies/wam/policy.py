"""The policy ``wam``: drives by a world-action model from frames and ego motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.contracts import (
    CameraFrame,
    ImageHistory,
    Observation,
    Plan,
    PolicySpec,
    SessionInfo,
)
from omniloop.core.errors import ConfigError, PluginError, PolicyError
from omniloop.core.seeds import generator
from omniloop.policies.wam import inputs
from omniloop.policies.wam.ablation import ABLATIONS, Ablation

if TYPE_CHECKING:
    from omniloop.policies.wam.network import Answer, Query

FRAME_US = 200_000
"""Frames are kept at 5 Hz, as in training."""

_EARLY_US = 10_000
"""A camera of 30 Hz is up to so much ahead of the grid of 5 Hz."""

_FORWARD_RAD = np.deg2rad(20.0)


class WamPolicy:
    """A world-action model: it sees frames and its own motion, and the route if told to.

    Frames are kept in a streaming cache at 5 Hz; a newer frame in between is looked at for the
    decision and let go. Plans reach 6.4 s.

    Args:
        checkpoint: A file that `omniloop train wam` wrote; None for the one of the package.
        camera: Id of the wide front camera; "auto" for the widest of those delivered that
            look forward.
        tele_camera: Id of a second, narrow front camera; needs `camera`.
        route_token: Show it the route, which is a variant of its own.
        plan: "zero" for the plan that the flow makes of zero noise, "medoid" for the most
            central of the samples.
        samples: Plans sampled from seeded noise, handed on as the plan's samples.
        history: "full" shows it 1.6 s of ego motion, "speed" its present speed alone.
        ablate: "none"; "black" blackens every image; "shuffled" shows the images of another
            rollout instead, those of the folder `ablate_images`.
        ablate_images: Folder of JPEG or PNG images for ``ablate=shuffled``.
        device: "auto", "cpu" or "cuda".
        compiled: Compile for static shapes with CUDA graphs; on cuda only.
        batch: Rows of one pass of the networks on cuda; on the CPU it is always one.
        vae: Folder of the VAE that the checkpoint was trained with, if it was with one.
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        camera: str = "auto",
        tele_camera: str | None = None,
        route_token: bool = False,
        plan: str = "zero",
        samples: int = 0,
        history: str = "full",
        ablate: str = "none",
        ablate_images: str | None = None,
        device: str = "auto",
        compiled: bool = False,
        batch: int = 1,
        vae: str | None = None,
    ) -> None:
        _one_of("plan", plan, ("zero", "medoid"))
        _one_of("history", history, ("full", "speed"))
        _one_of("ablate", ablate, ABLATIONS)
        _one_of("device", device, ("auto", "cpu", "cuda"))
        _at_least("samples", samples, 3 if plan == "medoid" else 0)
        _at_least("batch", batch, 1)
        if tele_camera is not None and camera == "auto":
            raise PluginError(
                f"tele_camera is '{tele_camera}' while camera is auto", where="policy.tele_camera",
                remedy="name the wide camera too: policy.camera=ID",
            )  # fmt: skip
        self.camera, self.tele_camera = camera, tele_camera
        self.route_token, self.plan_by, self.samples = route_token, plan, samples
        self.has_motion = history == "full"
        self.ablation = Ablation.of(ablate, ablate_images)
        torch_device = _device(device)
        if compiled and torch_device != "cuda":
            raise PluginError(
                f"compiled is true on {torch_device}", where="policy.compiled",
                remedy="leave it out, or set policy.device=cuda",
            )  # fmt: skip
        from omniloop.policies.wam import checkpoint as files
        from omniloop.policies.wam.network import Network

        path = files.PACKAGED if checkpoint is None else Path(checkpoint)
        held = files.load(path, torch_device, None if vae is None else Path(vae))
        self.network = Network(held, torch_device, batch, compiled)
        named = (camera, tele_camera) if tele_camera else (camera,)
        self.spec = PolicySpec(
            cameras=None if camera == "auto" else named,
            images=ImageHistory(self.network.config.window, 1_000_000 / FRAME_US),
            ego_history_s=inputs.HISTORY_S,
            ego_history_hz=1_000_000 / inputs.HISTORY_STEP_US,
            horizon_s=inputs.HORIZON_S,
            route=route_token,
        )

    def check_cameras(self, cameras: tuple[Camera, ...]) -> None:
        """Refuse a run without a camera to look ahead with, before it starts.

        Raises:
            ConfigError: nothing is rendered, or no camera looks forward.
        """
        if self.camera == "auto":
            _widest_forward(cameras)

    def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> WamSession:
        """Begin a rollout.

        Raises:
            ConfigError: as of `check_cameras`.
        """
        camera = self.camera if self.camera != "auto" else _widest_forward(cameras)
        return WamSession(self, session, camera)

    @property
    def batch_size(self) -> int:
        """Decisions of concurrent rollouts that share a pass; see `omniloop.core.batching`."""
        return self.network.batch

    @property
    def batch_wait_ms(self) -> float:
        """How long a decision waits for others."""
        return 2.0 if self.network.batch > 1 else 0.0

    def plan_batch(
        self, observations: Sequence[Observation], sessions: Sequence[WamSession]
    ) -> list[Plan | PolicyError]:
        """Plan for several rollouts in shared passes of the networks.

        Returns:
            For each rollout the plan that it would get alone, or the error that ends it: no frame
            after warm-up, one that is no image, or numbers that are not finite.
        """
        steps = [s.begin(o) for s, o in zip(sessions, observations, strict=True)]
        failed: dict[int, PolicyError] = {}
        for depth in range(max((len(s.frames) for s in steps), default=0)):
            queries: dict[int, Query] = {}
            for k, step in enumerate(steps):
                if depth < len(step.frames) and k not in failed:
                    try:
                        queries[k] = sessions[k].query(observations[k], step.frames[depth])
                    except PolicyError as error:
                        failed[k] = error
            for k, answer in zip(queries, self.network.decide(list(queries.values())), strict=True):
                sessions[k].take(steps[k].frames[depth], answer)
                steps[k].answer = answer
        for k, session in enumerate(sessions):
            if k not in failed:
                try:
                    steps[k].plan = session.finish(observations[k], steps[k])
                except PolicyError as error:
                    failed[k] = error
        return [failed.get(k, step.plan) for k, step in enumerate(steps)]


@dataclass
class _Step:
    """A decision in the making: frames yet to look at, oldest first, and what came of them."""

    frames: list[CameraFrame]
    answer: Answer | None = None
    plan: Plan = field(default_factory=Plan)


class WamSession:
    """One rollout: its streaming cache and the seeds of its noise."""

    def __init__(self, policy: WamPolicy, session: SessionInfo, camera: str) -> None:
        self._policy = policy
        self._camera = camera
        self._seed = session.seed
        self._handover_us = session.handover_us
        self._origin_us: int | None = None
        self._cache = policy.network.empty()
        self._kept_us: int | None = None
        self._newest: tuple[int, Answer] | None = None
        self._tele: tuple[CameraFrame, ...] = ()

    def plan(self, observation: Observation) -> Plan:
        """Return poses every 100 ms, the first at ego's own; empty before the first frame.

        Raises:
            PolicyError: there is no frame after warm-up, or the networks gave numbers that are
                not finite.
        """
        plan = self._policy.plan_batch([observation], [self])[0]
        if isinstance(plan, PolicyError):
            raise plan
        return plan

    def begin(self, observation: Observation) -> _Step:
        """Choose the frames to look at: those due for the cache, and the newest one."""
        frames = observation.frames.get(self._camera, ())
        if not frames:
            return _Step([])
        self._tele = observation.frames.get(self._policy.tele_camera or "", ())
        if self._origin_us is None:
            self._origin_us = frames[0].capture_us
        last_us, due = self._kept_us, []
        if self._newest is not None and self._is_due(self._newest[0], last_us):
            last_us = self._newest[0]
        for frame in frames[:-1]:
            if self._is_due(frame.capture_us, last_us) and frame.capture_us < frames[-1].capture_us:
                due.append(frame)
                last_us = frame.capture_us
        return _Step([*due, frames[-1]])

    def query(self, observation: Observation, frame: CameraFrame) -> Query:
        """What the networks are asked about one frame, the cache holding those before it."""
        from omniloop.policies.wam.network import Query

        policy, config = self._policy, self._policy.network.config
        if (
            self._newest is not None
            and self._is_due(self._newest[0], self._kept_us)
            and (frame.capture_us > self._newest[0])
        ):
            self._kept_us, self._cache = self._newest[0], self._newest[1].cache
        assert self._origin_us is not None
        where = f"camera {self._camera} at {frame.capture_us} us"
        tele = _at_or_before(self._tele, frame.capture_us)
        noise = generator(self._seed, "frame", frame.capture_us).standard_normal(
            config.latent_shape, dtype=np.float32
        )
        start = np.zeros((1 + policy.samples, 3 * inputs.PLAN_STEPS), dtype=np.float32)
        start[1:] = generator(self._seed, "plan", observation.time_us).standard_normal(
            start[1:].shape, dtype=np.float32
        )
        route, has_route = inputs.route_of(observation.route)
        ablation = policy.ablation
        return Query(
            cache=self._cache,
            image=ablation(inputs.image_of(frame.image, where), frame.capture_us - self._origin_us),
            tele=None if tele is None else ablation(
                inputs.image_of(tele.image, where), tele.capture_us - self._origin_us
            ),
            capture_s=(frame.capture_us - self._origin_us) / 1e6,
            decision_s=(observation.time_us - self._origin_us) / 1e6,
            frame_noise=noise, plan_noise=start,
            history=inputs.history_of(observation.ego, observation.time_us),
            speed=inputs.speed_of(observation.ego), has_motion=policy.has_motion,
            route=route, has_route=has_route and policy.route_token,
        )  # fmt: skip

    def take(self, frame: CameraFrame, answer: Answer) -> None:
        """Remember the newest frame's answer: its cache is kept once a later frame comes."""
        self._newest = (frame.capture_us, answer)

    def finish(self, observation: Observation, step: _Step) -> Plan:
        """Make a plan of the last answer."""
        from omniloop.policies.wam.network import medoid

        now, time_us = observation.ego.local_to_rig[-1], observation.time_us
        if step.answer is None:
            if time_us < self._handover_us:
                return Plan()
            raise PolicyError(
                f"no frame of camera '{self._camera}' has come", where=f"{time_us} us",
                remedy="lengthen sync.warmup_s, or check that the renderer delivers the camera",
            )  # fmt: skip
        plans = step.answer.plans
        poses = [inputs.plan_of(p, now, time_us) for p in plans]
        best = 0 if self._policy.plan_by == "zero" else 1 + medoid(plans[1:])
        return Plan(poses[best], samples=tuple(poses[1:]))

    def _is_due(self, capture_us: int, last_us: int | None) -> bool:
        return last_us is None or capture_us - last_us >= FRAME_US - _EARLY_US


def _at_or_before(frames: tuple[CameraFrame, ...], time_us: int) -> CameraFrame | None:
    """The newest of frames not after a time."""
    return next((f for f in reversed(frames) if f.capture_us <= time_us), None)


def _widest_forward(cameras: tuple[Camera, ...]) -> str:
    """Of the cameras that look ahead the one with the widest model; else the most forward."""
    if not cameras:
        raise ConfigError(
            "the policy wam needs a camera, but nothing is rendered", where="renderer=none",
            remedy="choose a renderer, such as renderer=rasterizer",
        )  # fmt: skip
    ahead = [geometry.rotate(c.rig_to_camera[3:], np.array([0.0, 0.0, 1.0]))[0] for c in cameras]
    forward = [c for c, x in zip(cameras, ahead, strict=True) if x > np.cos(_FORWARD_RAD)]
    if not forward:
        raise ConfigError(
            "none of the cameras looks forward", where="policy.camera=auto",
            remedy=f"name one: policy.camera=ID of {', '.join(c.id for c in cameras)}",
        )  # fmt: skip
    return max(forward, key=_width_rad).id


def _width_rad(camera: Camera) -> float:
    """Angle between the directions of the left and right ends of the middle row."""
    row = (camera.model.height - 1) / 2
    left, right = camera.model.unproject(np.array([[0.0, row], [camera.model.width - 1.0, row]]))
    return float(np.arccos(np.clip(left @ right, -1.0, 1.0)))


def _device(wish: str) -> str:
    try:
        import torch
    except ImportError as error:
        raise PluginError(
            "the policy wam needs torch, which is not installed", where="policy=wam",
            remedy="pip install 'omniloop[models]'",
        ) from error  # fmt: skip
    if wish == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wish == "cuda" and not torch.cuda.is_available():
        raise PluginError(
            "torch sees no CUDA device", where="policy.device=cuda",
            remedy="set policy.device=cpu, or install a torch built for CUDA",
        )  # fmt: skip
    return wish


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise PluginError(
            f"{name} is {value!r}", where=f"policy.{name}", remedy=f"choose {' or '.join(known)}"
        )


def _at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise PluginError(
            f"{name} is {value!r}", where=f"policy.{name}", remedy=f"give at least {least}"
        )
