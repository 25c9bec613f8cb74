"""Frames that are lost or late, drawn by camera and number of the frame.

The draws do not depend on how frames are asked for: chunks of any size, pre-fetch and
post-fetch lose and delay the same frames. The frames of a session's first request, which
comes before the first decision, are left alone, so that a policy has its history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from omniloop.core.cameras import Camera
from omniloop.core.messages import RendererSpec, RenderRequest, RenderResult, SessionInfo
from omniloop.core.motion import Mask, Times
from omniloop.core.schedule import CameraClock, camera_clocks
from omniloop.core.seeds import generator
from omniloop.imperfection.draws import uniform_us
from omniloop.imperfection.settings import FrameSettings


def draw_losses(settings: FrameSettings, count: int, seed: int, camera_id: str) -> Mask:
    """Which of a camera's first `count` frames are lost, ``(count,)``.

    With `burst_frames` it is a two-state Markov chain that loses every frame in its bad state
    (Gilbert, Bell System Technical Journal 39, 1960): it leaves the bad state with
    probability ``r = 1 / burst_frames`` and the good one with ``r loss / (1 - loss)``, and
    starts in its stationary distribution.
    """
    drawn = generator(seed, "frames", "loss", camera_id).random(count)
    if settings.burst_frames is None or settings.loss in (0, 1):
        return np.asarray(drawn < settings.loss)
    leave = 1.0 / settings.burst_frames
    enter = leave * settings.loss / (1.0 - settings.loss)
    lost = np.zeros(count, dtype=np.bool_)
    bad = False
    for k, value in enumerate(drawn.tolist()):
        bad = value < (settings.loss if k == 0 else 1.0 - leave if bad else enter)
        lost[k] = bad
    return lost


def draw_delays_us(settings: FrameSettings, clock: CameraClock, count: int, seed: int) -> Times:
    """Delays of a camera's first `count` frames, ``(count,)``.

    Each is `delay_us` and a uniform jitter, or longer: no frame overtakes one that was
    captured before it.
    """
    jitter = uniform_us(settings.jitter_us, count, seed, "frames", "delay", clock.camera_id)
    capture = clock.interval_us * np.arange(count, dtype=np.int64)
    arrival = np.maximum.accumulate(capture + settings.delay_us + jitter)
    return np.asarray(arrival - capture)


@dataclass
class _Count:
    frames: int = 0
    lost: int = 0
    delayed: int = 0
    total_us: int = 0
    longest_us: int = 0


class FrameFaults:
    """The lost and late frames of one rollout.

    Args:
        spec: The renderer's.
        cameras: The session's, in order.
        seed: Of the rollout's disturbances.
    """

    def __init__(
        self,
        settings: FrameSettings,
        spec: RendererSpec,
        session: SessionInfo,
        cameras: Sequence[Camera],
        seed: int,
    ) -> None:
        self._clocks = camera_clocks(tuple(cameras), spec, session.start_us)
        self._lost: list[Mask] = []
        self._late_us: list[Times] = []
        for clock in self._clocks:
            count = max(session.end_us - clock.first_end_us, 0) // clock.interval_us + 1
            self._lost.append(draw_losses(settings, count, seed, clock.camera_id))
            self._late_us.append(draw_delays_us(settings, clock, count, seed))
        self._counts = [_Count() for _ in self._clocks]
        self._is_first = True

    def apply(self, request: RenderRequest, result: RenderResult) -> RenderResult:
        """Say which frames are lost and how late the others are."""
        lost = np.zeros(len(request), dtype=np.bool_)
        late_us = np.zeros(len(request), dtype=np.int64)
        capture = request.times_us[request.end_index]
        for number, clock in enumerate(self._clocks):
            of_camera = np.flatnonzero(np.asarray(request.camera_index) == number)
            self._counts[number].frames += len(of_camera)
            if self._is_first or not len(of_camera):
                continue
            frame = (capture[of_camera] - clock.first_end_us) // clock.interval_us
            gone = self._lost[number][frame]
            late = np.where(gone, 0, self._late_us[number][frame])
            lost[of_camera], late_us[of_camera] = gone, late
            self._count(self._counts[number], gone, late)
        self._is_first = False
        if result.lost is not None:
            lost |= result.lost
        if result.late_us is not None:
            late_us += result.late_us
        return replace(result, lost=lost, late_us=late_us)

    @staticmethod
    def _count(count: _Count, lost: Mask, late_us: Times) -> None:
        count.lost += int(np.count_nonzero(lost))
        count.delayed += int(np.count_nonzero(late_us))
        count.total_us += int(late_us.sum())
        count.longest_us = max(count.longest_us, int(late_us.max()))

    def facts(self) -> dict[str, object]:
        """By camera: frames asked for, lost and delayed, and the delay of the delayed ones."""
        return {
            clock.camera_id: {
                "frames": count.frames,
                "lost": count.lost,
                "delayed": count.delayed,
                "delay_mean_us": count.total_us / count.delayed if count.delayed else 0.0,
                "delay_max_us": count.longest_us,
            }
            for clock, count in zip(self._clocks, self._counts, strict=True)
        }
