"""A policy for making data: somebody drives, disturbed; an expert says what it would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from omniloop.core import geometry, registry
from omniloop.core.cameras import Camera
from omniloop.core.contracts import Observation, Plan, PolicySession, PolicySpec, SessionInfo
from omniloop.core.errors import PluginError
from omniloop.core.local import as_service
from omniloop.core.motion import Times, Trajectory
from omniloop.core.seeds import generator
from omniloop.core.time import US_PER_S, seconds_to_us
from omniloop.policies.wam.inputs import HISTORY_S, HORIZON_S

_STEP_US = 100_000
_STEEPEST = 0.35
"""Sideways over ahead: more would be no driving."""

_EARLIEST_END = 0.5
"""A disturbance may end when half of it is driven: ego then heads away from its way."""


class TaughtPolicy:
    """Drives as `driver` does, disturbed now and then, and tells the expert's plan beside it.

    `Plan.local_to_rig` is what is driven. `Plan.samples` holds one trajectory: the plan of the
    undisturbed expert at the state that ego has come to, 6.4 s long.

    A disturbance starts from the plan at its begin, moves aside by up to `lateral_m` and goes
    faster or slower by up to `speed_share`, and is driven for about a second whatever happens.
    It may end before ego is parallel to its way again, so that headings are disturbed too. When
    and how follows from the session's seed.

    Args:
        expert: The policy that is to be learned from; must plan 6.4 s ahead.
        driver: Who drives between disturbances; None for the expert.
        driver_arguments: Arguments of the driver's constructor.
        lateral_m: Standard deviation of the move aside; it is at most 2.5 times as large.
        speed_share: Largest relative change of speed.
        pause_s: Mean time from a disturbance to the next; None for no disturbances.
        start_share: Share of rollouts that are disturbed right after handover.
        cameras: Cameras whose frames the data are to hold.
    """

    def __init__(
        self,
        expert: str = "route_follower",
        driver: str | None = None,
        driver_arguments: dict[str, Any] | None = None,
        lateral_m: float = 0.6,
        speed_share: float = 0.3,
        pause_s: float | None = 3.0,
        start_share: float = 0.6,
        cameras: Sequence[str] = (),
    ) -> None:
        for name, value, most in (
            ("lateral_m", lateral_m, 2.0), ("speed_share", speed_share, 0.6),
            ("start_share", start_share, 1.0),
        ):  # fmt: skip
            if not 0 <= value <= most:
                raise PluginError(
                    f"{name} is {value}", where=f"policy.{name}", remedy=f"give 0 to {most:g}"
                )
        if pause_s is not None and not pause_s > 0:
            raise PluginError(
                f"pause_s is {pause_s}", where="policy.pause_s", remedy="give a positive number"
            )
        self._expert = as_service(
            "policy", registry.create("policy", expert, {"horizon_s": HORIZON_S})
        )
        self._driver = None
        if driver is not None:
            self._driver = as_service(
                "policy", registry.create("policy", driver, driver_arguments or {})
            )
        self._lateral_m, self._speed_share = lateral_m, speed_share
        self._pause_s, self._start_share = pause_s, start_share
        self.spec = _joint(self._expert.spec, self._driver and self._driver.spec, tuple(cameras))

    async def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> TaughtSession:
        """Begin a rollout."""
        expert = await self._expert.open(session, cameras)
        driver = None if self._driver is None else await self._driver.open(session, cameras)
        rng = generator(session.seed, "disturbances")
        draws = Disturbances(
            rng, session.handover_us, session.end_us, self._lateral_m, self._speed_share,
            self._pause_s, self._start_share,
        )  # fmt: skip
        return TaughtSession(expert, driver, draws)


def _joint(expert: PolicySpec, driver: PolicySpec | None, cameras: tuple[str, ...]) -> PolicySpec:
    """What all of them need to be told."""
    history_s = max(expert.ego_history_s, HISTORY_S)
    spec = replace(expert, cameras=cameras, ego_history_s=history_s, route=True)
    if driver is None:
        return spec
    return replace(
        spec, images=driver.images, ego_history_s=max(history_s, driver.ego_history_s),
        rate_hz=driver.rate_hz, privileged=expert.privileged | driver.privileged,
    )  # fmt: skip


class Disturbances:
    """When a rollout is disturbed, and how far.

    Args:
        rng: Draws everything.
        handover_us: None begins before.
        end_us: None begins after.
        lateral_m: See `TaughtPolicy`; likewise the others.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        handover_us: int,
        end_us: int,
        lateral_m: float,
        speed_share: float,
        pause_s: float | None,
        start_share: float,
    ) -> None:
        self.begins_us: list[int] = []
        self._rng, self._lateral_m, self._speed_share = rng, lateral_m, speed_share
        if pause_s is None:
            return
        at_us = handover_us
        if rng.uniform() >= start_share:
            at_us += seconds_to_us(float(rng.exponential(pause_s)))
        while at_us < end_us:
            self.begins_us.append(at_us)
            at_us += seconds_to_us(1.0 + float(rng.exponential(pause_s)))

    def take(self, time_us: int) -> bool:
        """Whether one begins now; those that fell into another are dropped."""
        due = [t for t in self.begins_us if t <= time_us]
        self.begins_us = self.begins_us[len(due) :]
        return bool(due)

    def disturbed(self, plan: Trajectory) -> tuple[Trajectory, int]:
        """A disturbed plan, and when the next plan is to be driven instead."""
        rng = self._rng
        lasts_s = float(rng.uniform(0.8, 1.8))
        limit = 2.5 * self._lateral_m
        aside_m = float(np.clip(rng.normal(0.0, self._lateral_m), -limit, limit))
        factor = 1.0 + float(rng.uniform(-self._speed_share, self._speed_share))
        ends = float(rng.uniform(_EARLIEST_END, 1.0))
        times = plan.start_us + np.arange(0, seconds_to_us(3.0) + 1, _STEP_US, dtype=np.int64)
        return (
            shifted(plan, times, lasts_s, aside_m, factor),
            plan.start_us + seconds_to_us(ends * lasts_s),
        )


def shifted(
    plan: Trajectory, times_us: Times, lasts_s: float, aside_m: float, factor: float
) -> Trajectory:
    """A plan whose speed changes linearly to `factor` times its own and that moves aside.

    Args:
        plan: Starts at ``times_us[0]``.
        times_us: ``(K,)`` of the answer.
        lasts_s: How long both changes take; the offset stays afterwards.
        aside_m: To the left, along ``6 u^5 - 15 u^4 + 10 u^3`` of the time's share u.
        factor: Of the speed.
    """
    t = (times_us - times_us[0]) / US_PER_S
    ramp = np.minimum(t, lasts_s)
    warped = t + (factor - 1) * (ramp**2 / (2 * lasts_s) + (t - ramp))
    at = plan.start_us + np.rint(warped * US_PER_S).astype(np.int64)
    poses = np.array(plan.sample_clamped(at))
    speed_mps = np.linalg.norm(np.gradient(poses[:, :2], t, axis=0), axis=1)
    within = t < lasts_s
    slowest_mps = float(speed_mps[within].min())
    # Who crawls cannot move aside: headings turn by no more than `_STEEPEST`.
    most_m = _STEEPEST * slowest_mps * lasts_s / 1.875
    aside_m = min(max(aside_m, -most_m), most_m)
    u = ramp / lasts_s
    offset = aside_m * u**3 * (10 - 15 * u + 6 * u**2)
    rate_mps = aside_m * 30 * u**2 * (1 - u) ** 2 / lasts_s
    yaw = geometry.yaw_rad(poses)
    poses[:, 0] -= offset * np.sin(yaw)
    poses[:, 1] += offset * np.cos(yaw)
    turned = np.arctan2(rate_mps, np.maximum(speed_mps, 0.1))
    turns = geometry.poses_from_xyz_yaw(np.zeros((len(poses), 3)), turned)
    return Trajectory(times_us, geometry.compose(poses, turns))


class TaughtSession:
    """One rollout."""

    def __init__(
        self, expert: PolicySession, driver: PolicySession | None, draws: Disturbances
    ) -> None:
        self._expert, self._driver, self._draws = expert, driver, draws
        self._held: Trajectory | None = None
        self._held_until_us = 0

    async def plan(self, observation: Observation) -> Plan:
        """What is driven, and beside it what the expert would do."""
        now_us = observation.time_us
        taught = (await self._expert.plan(observation)).local_to_rig
        driven = taught
        if self._driver is not None:
            answer = (await self._driver.plan(observation)).local_to_rig
            driven = answer if len(answer) else taught
        if self._held is not None and now_us >= self._held_until_us:
            self._held = None
        if self._draws.take(now_us) and self._held is None:
            self._held, self._held_until_us = self._draws.disturbed(driven)
        if self._held is not None:
            driven = self._held.clip(now_us, self._held.end_us)
        return Plan(driven, samples=(taught,))

    async def close(self) -> None:
        """End the sessions of expert and driver."""
        await self._expert.close()
        if self._driver is not None:
            await self._driver.close()
