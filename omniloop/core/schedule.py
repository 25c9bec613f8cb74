"""The timing of one rollout, computed once and shared by every service.

See the design's section Time. R is the render start, D0 the first decision, d the
decision period, fi the frame interval:

    context start ... R ... D0 --- d --- D0+d --- ... --- D0+n d = end
                                 ^ handover = D0 + n_warmup d
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omniloop.core.cameras import Camera
from omniloop.core.contracts import ChunkRule, PolicySpec, RendererSpec
from omniloop.core.errors import ConfigError, SceneError
from omniloop.core.motion import Times
from omniloop.core.scene import Scene
from omniloop.core.time import SCORE_STEP_US, US_PER_S, frame_interval_us, seconds_to_us


class SceneTooShort(SceneError):
    """A scene leaves no closed-loop decision: it is excluded and listed as such."""


@dataclass(frozen=True)
class CameraClock:
    """When a camera's shutter closes: ``first_end_us + k interval_us``, k >= 0."""

    camera_id: str
    first_end_us: int
    interval_us: int
    shutter_us: int


@dataclass(frozen=True, eq=False)
class FrameTimes:
    """Frames of an interval, ordered by capture time, then camera.

    Attributes:
        camera_index: ``(F,)`` index into `Schedule.clocks`.
        start_us: ``(F,)`` shutter starts.
        capture_us: ``(F,)`` shutter ends.
    """

    camera_index: NDArray[np.int64]
    start_us: Times
    capture_us: Times

    def __len__(self) -> int:
        return len(self.capture_us)


@dataclass(frozen=True)
class Schedule:
    """The timing of one rollout.

    Attributes:
        context_start_us: First recorded ego pose.
        render_start_us: R.
        first_decision_us: D0.
        decision_period_us: d.
        n_decisions: n; decisions are ``D0 + k d`` for k = 0 .. n-1.
        n_warmup: How many of them the recording overrules.
        chunk: The renderer's chunk rule, None for per-frame or no renderer.
        clocks: One per camera; with a chunk rule all share R and fi.
        decisions_per_chunk: Above 1 in post-fetch only.
        postfetch: Whether frames become available together at the end of their chunk.
    """

    context_start_us: int
    render_start_us: int
    first_decision_us: int
    decision_period_us: int
    n_decisions: int
    n_warmup: int
    chunk: ChunkRule | None = None
    clocks: tuple[CameraClock, ...] = ()
    decisions_per_chunk: int = 1
    postfetch: bool = False

    @property
    def end_us(self) -> int:
        """``D0 + n d``; there is no decision at it."""
        return self.first_decision_us + self.n_decisions * self.decision_period_us

    @property
    def handover_us(self) -> int:
        """The first decision whose plan is driven."""
        return self.first_decision_us + self.n_warmup * self.decision_period_us

    @property
    def decisions_us(self) -> Times:
        """``(n,)`` decision times."""
        return self.first_decision_us + self.decision_period_us * np.arange(self.n_decisions)

    def is_warmup(self, decision_us: int) -> bool:
        """Whether the recording moves ego and traffic through this decision's interval."""
        return decision_us < self.handover_us

    def frames_in(
        self, after_us: int, until_us: int, *, not_before_us: int | None = None
    ) -> FrameTimes:
        """Frames whose shutter ends in ``(after_us, until_us]``.

        With `not_before_us`, only those whose shutter also starts at or after it.
        """
        cameras, starts, ends = [], [], []
        for index, clock in enumerate(self.clocks):
            first_k = max(-(-(after_us + 1 - clock.first_end_us) // clock.interval_us), 0)
            last_k = (until_us - clock.first_end_us) // clock.interval_us
            end = clock.first_end_us + clock.interval_us * np.arange(
                first_k, last_k + 1, dtype=np.int64
            )
            start = end - clock.shutter_us
            if not_before_us is not None:
                end, start = end[start >= not_before_us], start[start >= not_before_us]
            cameras.append(np.full(len(end), index, dtype=np.int64))
            starts.append(start)
            ends.append(end)
        if not cameras:
            none = np.zeros(0, dtype=np.int64)
            return FrameTimes(none, none, none)
        camera, capture = np.concatenate(cameras), np.concatenate(ends)
        order = np.lexsort((camera, capture))
        return FrameTimes(camera[order], np.concatenate(starts)[order], capture[order])

    def initial_frames(self) -> FrameTimes:
        """Frames of the initial request.

        Chunked: those of ``(R, D0]``; the image at R is the session's seed. Per frame:
        every frame with its shutter inside ``[context start, D0]``.
        """
        if self.chunk is not None:
            return self.frames_in(self.render_start_us, self.first_decision_us)
        return self.frames_in(
            self.context_start_us - 1, self.first_decision_us, not_before_us=self.context_start_us
        )

    def score_times_us(self, until_us: int) -> Times:
        """The score grid: every 100 ms from handover, up to `until_us`."""
        return np.arange(self.handover_us, until_us + 1, SCORE_STEP_US, dtype=np.int64)


def camera_clocks(
    cameras: tuple[Camera, ...], spec: RendererSpec, context_start_us: int
) -> tuple[CameraClock, ...]:
    """Clocks of the cameras to render: their recorded times first, else the renderer's.

    A clock starts with the first frame whose shutter lies inside the recording: a camera
    may have been recorded from before the first ego pose on.
    """
    clocks = []
    for camera in cameras:
        shutter = camera.shutter_us or spec.shutter_us
        interval = camera.frame_interval_us or frame_interval_us(spec.fps)
        first = camera.first_frame_end_us
        if first is not None:
            missed_us = context_start_us + (0 if spec.chunk else shutter) - first
            first += max(-(-missed_us // interval), 0) * interval
        clocks.append(
            CameraClock(
                camera_id=camera.id,
                first_end_us=context_start_us + shutter if first is None else first,
                interval_us=interval,
                shutter_us=shutter,
            )
        )
    if spec.chunk is None or not clocks:
        return tuple(clocks)
    start = min(clock.first_end_us for clock in clocks)
    interval = spec.chunk.frame_interval_us
    return tuple(CameraClock(c.camera_id, start, interval, 0) for c in clocks)


def build_schedule(
    scene: Scene,
    cameras: tuple[Camera, ...],
    renderer: RendererSpec | None,
    policy: PolicySpec,
    *,
    decision_period_us: int,
    warmup_s: float | None,
    duration_s: float | None,
    first_decision_us: int = 0,
    decisions_per_chunk: int = 1,
    postfetch: bool = False,
) -> Schedule:
    """Compute the timing of a rollout.

    Args:
        cameras: The cameras to render, in order.
        renderer: None to render nothing.
        decision_period_us: d for per-frame rendering; a chunk rule sets its own.
        warmup_s: None ("auto") for the smallest that covers the policy's histories.
        duration_s: From D0; None for the whole recording.
        first_decision_us: D0 after R for per-frame rendering; the first chunk sets its own.
        decisions_per_chunk: Above 1 needs `postfetch`.

    Raises:
        ConfigError: the settings contradict each other.
        SceneTooShort: no closed-loop decision is left.
    """
    if decision_period_us < 1000:
        raise ConfigError(
            f"sync.decision_period_us is {decision_period_us}", remedy="give at least 1000 (1 ms)"
        )
    if decisions_per_chunk < 1 or (decisions_per_chunk > 1 and not postfetch):
        raise ConfigError(
            f"sync.decisions_per_chunk is {decisions_per_chunk}",
            remedy="use 1, or sync=postfetch for several decisions on one chunk",
        )
    chunk = renderer.chunk if renderer is not None else None
    clocks = camera_clocks(cameras, renderer, scene.start_us) if renderer is not None else ()
    render_start = min((c.first_end_us for c in clocks), default=scene.start_us)
    if chunk is not None:
        if chunk.frames % decisions_per_chunk:
            raise ConfigError(
                f"a chunk of {chunk.frames} frames does not hold {decisions_per_chunk} decisions of whole frames",
                where="sync.decisions_per_chunk",
                remedy=f"choose a divisor of {chunk.frames}",
            )
        period = chunk.duration_us // decisions_per_chunk
        first_decision = render_start + chunk.first_frames * chunk.frame_interval_us
    else:
        period, first_decision = decision_period_us, render_start + first_decision_us

    if warmup_s is None:
        n_warmup = _auto_warmup(scene, policy, clocks, chunk, first_decision, period)
    else:
        if not 0 <= warmup_s < float("inf"):
            raise ConfigError(
                f"sync.warmup_s is {warmup_s}", remedy="give 0 or more seconds, or auto"
            )
        warm_end = render_start + seconds_to_us(warmup_s)
        n_warmup = max((warm_end - first_decision) // period, 0)

    limit = scene.end_us
    if duration_s is not None:
        if not 0 < duration_s < float("inf"):
            raise ConfigError(
                f"sync.duration_s is {duration_s}", remedy="give a positive number of seconds"
            )
        wished = first_decision + seconds_to_us(duration_s)
        limit = wished if scene.may_run_on else min(limit, wished)
    n = max((limit - first_decision) // period, 0)
    n -= n % decisions_per_chunk
    if n - n_warmup < 1:
        raise SceneTooShort(
            f"the recording of {(scene.end_us - scene.start_us) / US_PER_S:.1f} s leaves no closed-loop decision:"
            f" {n} decisions every {period / US_PER_S:.3f} s, {n_warmup} of them warm-up",
            where=f"scene {scene.id}",
            remedy="shorten sync.warmup_s, choose a smaller renderer.chunk"
            f"{'' if duration_s is None else ', lengthen sync.duration_s'}, or leave the scene out",
        )
    handover = first_decision + n_warmup * period
    if handover > scene.end_us:  # only a scene that may run on gets here
        raise SceneTooShort(
            f"the recording ends {(handover - scene.end_us) / US_PER_S:.3f} s before handover,"
            " so it cannot be followed until then",
            where=f"scene {scene.id}",
            remedy="shorten sync.warmup_s, lengthen sync.duration_s, choose a smaller renderer.chunk,"
            " or leave the scene out",
        )
    return Schedule(
        context_start_us=scene.start_us, render_start_us=render_start, first_decision_us=first_decision,
        decision_period_us=period, n_decisions=n, n_warmup=n_warmup, chunk=chunk, clocks=clocks,
        decisions_per_chunk=decisions_per_chunk, postfetch=postfetch,
    )  # fmt: skip


def _auto_warmup(
    scene: Scene,
    policy: PolicySpec,
    clocks: tuple[CameraClock, ...],
    chunk: ChunkRule | None,
    first_decision_us: int,
    period_us: int,
) -> int:
    """Decisions before the policy's ego and image histories are covered."""
    ready = scene.start_us + seconds_to_us(policy.ego_history_s)
    if clocks and policy.cameras != ():
        looks_at = [c for c in clocks if policy.cameras is None or c.camera_id in policy.cameras]
        first = max(
            (c.first_end_us + (c.interval_us if chunk else 0) for c in looks_at), default=ready
        )
        span = seconds_to_us((policy.images.count - 1) / policy.images.rate_hz)
        ready = max(ready, first + span)
    return max(-(-(ready - first_decision_us) // period_us), 0)
