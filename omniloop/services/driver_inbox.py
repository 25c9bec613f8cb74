"""What a driver's session was pushed, and the observation that its policy gets of it."""

from __future__ import annotations

from collections import deque

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.messages import CameraFrame, Observation, PolicySpec, Route, SessionInfo
from omniloop.core.motion import EgoMotion, Mask, Times, Trajectory
from omniloop.core.replay import recorded_motion_at
from omniloop.orchestrator.observe import FrameBuffer, ego_history
from omniloop.orchestrator.world import Columns
from omniloop.services.privileged import PrivilegedLog

_REMEMBERED = 256
"""So many capture times of a camera are remembered, to tell a late frame from one sent again."""

_DERIVED_FROM = 32
"""How many poses before the new ones motion is derived from: more than its window needs."""


class EgoLog:
    """Ego's states as they were pushed."""

    def __init__(self) -> None:
        self._times = Columns((), 0, np.int64)
        self._states = Columns((19,), 0, np.float64)

    @property
    def motion(self) -> EgoMotion:
        """All states, in order of time."""
        states = self._states.view()
        return EgoMotion(self._times.view(), states[:, :7], states[:, 7:])

    def add(self, times_us: Times, local_to_rig: Array, dynamics: Array, told: Mask) -> None:
        """Take the states that are newer than all before them; the rest are known already.

        Args:
            times_us: ``(N,)`` in any order.
            local_to_rig: ``(N, 7)``.
            dynamics: ``(N, 12)``.
            told: ``(N,)``; where False, motion is derived from the poses.
        """
        held = self.motion
        latest = held.times_us[-1] if len(held) else -1
        before = np.maximum.accumulate(np.append(np.int64(latest), times_us))[:-1]
        new = times_us > before
        if not new.any():
            return
        times, states = times_us[new], np.hstack([local_to_rig, dynamics])[new]
        underived = ~told[new]
        if underived.any():
            path = Trajectory.unchecked(
                np.append(held.times_us[-_DERIVED_FROM:], times),
                np.vstack([held.local_to_rig[-_DERIVED_FROM:], states[:, :7]]),
            )
            states[underived, 7:] = recorded_motion_at(path, times[underived]).dynamics
        self._times.append(times)
        self._states.append(states)


class DriverInbox:
    """Collects what a session is pushed between two decisions.

    Args:
        info: The rollout, as far as the server knows it.
        spec: What the policy declares, and therefore gets.
        camera_ids: Cameras whose frames come.
    """

    def __init__(self, info: SessionInfo, spec: PolicySpec, camera_ids: tuple[str, ...]) -> None:
        self.ego = EgoLog()
        self.privileged = PrivilegedLog()
        self._info = info
        self._spec = spec
        self._route: Route | None = None
        self._frames = FrameBuffer(spec, camera_ids)
        self._had_us: dict[str, deque[int]] = {c: deque(maxlen=_REMEMBERED) for c in camera_ids}
        self._pushed: list[CameraFrame] = []
        self._told_until_us: int | None = None

    def add_frame(self, frame: CameraFrame) -> None:
        """Take a frame; those of one decision may come in any order."""
        if frame.camera_id in self._had_us:
            self._pushed.append(frame)

    def set_route(self, time_us: int, waypoints_rig: Array) -> None:
        """Take a route ``(N, 3)``: the padding goes, and fewer than two points are none."""
        finite = waypoints_rig[np.isfinite(waypoints_rig).all(axis=1)]
        self._route = Route(time_us, finite) if len(finite) > 1 else None

    def observation(self, time_us: int, next_decision_us: int) -> Observation | None:
        """All that the policy declared it needs; None before the first ego state.

        Ego history ends at `time_us`, or with the last state where there is none so late.
        """
        for frame in sorted(self._pushed, key=lambda f: f.capture_us):
            had_us = self._had_us[frame.camera_id]
            if frame.capture_us not in had_us:  # a late one is taken, one sent again is not
                had_us.append(frame.capture_us)
                self._frames.add(frame)
        self._pushed.clear()
        ego = self.ego.motion
        if not len(ego):
            return None
        ego_us = min(max(time_us, int(ego.times_us[0])), int(ego.times_us[-1]))
        info, privileged = self._info, self._spec.privileged
        sees_actors = "actors" in privileged
        told, self._told_until_us = self._told_until_us, time_us
        return Observation(
            session_id=info.session_id,
            scene_id=info.scene.id,
            seed=info.seed,
            time_us=time_us,
            next_decision_us=next_decision_us,
            ego=ego_history(ego, self._spec, ego_us, told),
            frames=self._frames.history(time_us),
            route=self._route if self._spec.route else None,
            vehicle=info.vehicle,
            actors=self.privileged.actors if sees_actors else None,
            actor_motion=self.privileged.motion if sees_actors else None,
            map=info.scene.map if "map" in privileged else None,
            recording=info.scene.ego if "recording" in privileged else None,
        )
