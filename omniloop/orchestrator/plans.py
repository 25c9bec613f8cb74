"""Which plan is in force: the newest that has taken effect, anchored at ego."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import PolicyError
from omniloop.core.geometry import Array
from omniloop.core.motion import EgoMotion, Trajectory
from omniloop.core.record import Decision
from omniloop.core.scene import Scene
from omniloop.core.schedule import Schedule
from omniloop.core.time import US_PER_S
from omniloop.orchestrator.world import World

RECORDED_PLAN_US = 5 * US_PER_S
"""How far the recording is offered as a plan to the controller."""


class Plans:
    """The decisions of a rollout, and the plan that drives.

    Attributes:
        decisions: Every call of the policy, in order.
    """

    def __init__(
        self, scene: Scene, schedule: Schedule, longest_latency_us: int, session_id: str
    ) -> None:
        self.decisions: list[Decision] = []
        self._candidates: list[Decision] = []
        self._scene = scene
        self._schedule = schedule
        self._longest_latency_us = longest_latency_us
        self._session_id = session_id

    def add(self, decision: Decision) -> None:
        """Take a decision; one that was dropped, or has no plan, never drives."""
        self.decisions.append(decision)
        if not decision.dropped and len(decision.plan.local_to_rig):
            self._candidates.append(decision)

    def in_force(self, world: World, now_us: int, target_us: int) -> Trajectory:
        """The newest plan that has taken effect by `now_us`, in the true local frame.

        In warm-up, and until the first closed-loop plan has taken effect, it is the recording.

        Raises:
            PolicyError: it does not reach `target_us`.
        """
        ready = [i for i, d in enumerate(self._candidates) if d.available_us <= now_us]
        latency_holds = now_us < self._schedule.handover_us + self._longest_latency_us
        if self._schedule.is_warmup(now_us) or (not ready and latency_holds):
            until_us = min(now_us + RECORDED_PLAN_US, self._scene.end_us)
            return self._scene.ego.clip(now_us, until_us)
        self._candidates = self._candidates[ready[-1] :]  # the newest; later ones may be late
        decision = self._candidates[0]
        plan = _anchored(decision, world)
        if plan.end_us < target_us:
            raise PolicyError(
                f"the plan made at {decision.time_us} us ends at {plan.end_us} us,"
                f" before the next decision at {target_us} us",
                where=f"{self._session_id}, policy.plan at {now_us} us",
                remedy="let plans reach at least observation.next_decision_us",
            )
        return plan


def _anchored(decision: Decision, world: World) -> Trajectory:
    """The plan with a pose at or before its decision, moved to the true local frame."""
    plan = decision.plan.local_to_rig
    estimated = _at(world.ego_estimated, decision.time_us)
    if plan.start_us > decision.time_us:
        plan = Trajectory(
            np.append(np.int64(decision.time_us), plan.times_us),
            np.vstack([estimated, plan.poses]),
        )
    true = _at(world.ego_true, decision.time_us)
    if np.array_equal(true, estimated):
        return plan
    # Plans come from plans: a quaternion's norm must not grow from one to the next.
    return plan.transform(geometry.normalise(geometry.compose(true, geometry.inverse(estimated))))


def _at(ego: EgoMotion, time_us: int) -> Array:
    """The pose ``(7,)`` at a committed time, most often the newest."""
    if time_us == ego.times_us[-1]:
        return np.asarray(ego.local_to_rig[-1])
    return np.asarray(ego.trajectory.sample(time_us)[0])
