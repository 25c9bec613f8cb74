"""The state of a rollout at any instant, as a picture needs it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import EMPTY_TRAJECTORY, Mask, Trajectory, bracket
from omniloop.core.record import Decision, RolloutRecord

_MOST_SAMPLES = 16


@dataclass(frozen=True, eq=False)
class Moment:
    """What is drawn of one instant; every position is in the `local` frame.

    Attributes:
        local_to_rig: ``(7,)`` true ego pose.
        speed_mps: Length of ego's velocity in the plane.
        actors_local_to_aabb: ``(A, 7)`` in the scene's order.
        actors_valid: ``(A,)``.
        plan: What is left of the plan in force; empty if there is none.
        plan_dropped: Warm-up: the plan is not driven.
        samples: What is left of further trajectories that the policy sampled with it.
        reasoning: The policy's words for it.
        route: ``(N, 3)`` the way ahead given with that plan, or None.
        trail: ``(K, 2)`` where ego has been, oldest first.
        since_handover_us: Negative during warm-up.
    """

    time_us: int
    local_to_rig: Array
    speed_mps: float
    actors_local_to_aabb: Array
    actors_valid: Mask
    plan: Trajectory = EMPTY_TRAJECTORY
    plan_dropped: bool = False
    samples: tuple[Trajectory, ...] = ()
    reasoning: str = ""
    route: Array | None = None
    trail: Array | None = None
    since_handover_us: int = 0

    @property
    def warmup(self) -> bool:
        """Whether the recording still moves ego and traffic."""
        return self.since_handover_us < 0


class Playback:
    """Looks up moments of a recorded rollout.

    A moment outside what was committed shows the nearest committed state.
    """

    def __init__(self, record: RolloutRecord) -> None:
        self.record = record
        self._true = record.ego.trajectory
        self._estimated = record.ego_estimated.trajectory
        self._planned = [d for d in record.decisions if len(d.plan.local_to_rig)]
        available = np.array([d.available_us for d in self._planned], dtype=np.int64)
        self._order = np.argsort(available, kind="stable")
        self._available_us = available[self._order]
        self._anchored: dict[int, tuple[Trajectory, ...]] = {}

    def in_force(self, time_us: int) -> Decision | None:
        """The newest decision whose plan had taken effect; None before the first.

        During warm-up it is one that was dropped; after it, one that was driven.
        """
        warmup = self.record.schedule.is_warmup(time_us)
        at = int(np.searchsorted(self._available_us, time_us, side="right")) - 1
        while at >= 0:
            decision: Decision = self._planned[self._order[at]]
            if decision.dropped == warmup:
                return decision
            at -= 1
        return None

    def plan_at(self, decision: Decision, time_us: int) -> Trajectory:
        """What is left at `time_us` of a decision's plan, in the true local frame."""
        return self._left(decision, time_us)[0]

    def _left(self, decision: Decision, time_us: int) -> tuple[Trajectory, ...]:
        """What is left of a decision's plan and of its first samples."""
        paths = self._anchored.get(decision.time_us)
        if paths is None:
            paths = self._anchored[decision.time_us] = self._anchor(decision)
        return tuple(
            EMPTY_TRAJECTORY
            if len(path) == 0 or path.end_us <= time_us
            else path.clip(max(time_us, path.start_us), path.end_us)
            for path in paths
        )

    def _anchor(self, decision: Decision) -> tuple[Trajectory, ...]:
        """Move plan and samples from where the policy believed ego to be to where it was."""
        correction = geometry.compose(
            self._true.sample_clamped(decision.time_us)[0],
            geometry.inverse(self._estimated.sample_clamped(decision.time_us)[0]),
        )
        plan = decision.plan
        paths = (plan.local_to_rig, *plan.samples[:_MOST_SAMPLES])
        return tuple(path.transform(correction) for path in paths)

    def at(self, time_us: int) -> Moment:
        """The moment at `time_us`."""
        record = self.record
        ego = record.ego
        now = min(max(time_us, int(ego.times_us[0])), int(ego.times_us[-1]))
        lo, hi, alpha = bracket(ego.times_us, np.array([now]))
        pose = geometry.interpolate_poses(ego.local_to_rig[lo], ego.local_to_rig[hi], alpha)[0]
        v0, v1 = ego.dynamics[lo[0], :2], ego.dynamics[hi[0], :2]
        speed = float(np.linalg.norm(v0 + alpha[0] * (v1 - v0)))
        motion = record.actors
        if len(motion.times_us):
            states = motion.sample(min(max(now, int(motion.times_us[0])), int(motion.times_us[-1])))
            poses, valid = states.local_to_aabb[:, 0], states.valid[:, 0]
        else:
            poses, valid = np.zeros((len(motion.valid), 7)), np.zeros(len(motion.valid), dtype=bool)
        decision = self.in_force(now)
        plan, route = EMPTY_TRAJECTORY, None
        samples: tuple[Trajectory, ...] = ()
        if decision is not None:
            plan, *rest = self._left(decision, now)
            samples = tuple(path for path in rest if len(path) >= 2)
            if decision.route is not None:
                believed = self._estimated.sample_clamped(decision.route.time_us)[0]
                route = geometry.transform_points(believed, decision.route.waypoints_rig)
        return Moment(
            time_us=now, local_to_rig=pose, speed_mps=speed,
            actors_local_to_aabb=poses, actors_valid=valid,
            plan=plan, plan_dropped=decision is not None and decision.dropped, samples=samples,
            reasoning="" if decision is None else decision.plan.reasoning, route=route,
            trail=np.vstack([ego.local_to_rig[: hi[0], :2], pose[:2]]),
            since_handover_us=now - record.schedule.handover_us,
        )  # fmt: skip
