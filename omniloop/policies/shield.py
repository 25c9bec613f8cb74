"""A safety filter around any policy: it brakes where the policy's plan would end badly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from omniloop.core import geometry, registry
from omniloop.core.cameras import Camera
from omniloop.core.contracts import Observation, Plan, PolicySession, PolicySpec, SessionInfo
from omniloop.core.errors import PluginError
from omniloop.core.geometry import Array
from omniloop.core.local import as_service
from omniloop.core.motion import Trajectory
from omniloop.core.scene import Scene
from omniloop.policies.foresight import Threat, first_threats
from omniloop.scenes.surface import drivable_surface

_STEP_US = 100_000
_SEES = frozenset({"actors", "map"})


class ShieldPolicy:
    """Passes on another policy's plans, but brakes where one leads to contact or off-road.

    A plan is followed for `horizon_s` among actors that keep their velocity. If something goes
    wrong on it, the same path is driven with the gentlest braking on which nothing does; if
    there is none, with what goes wrong last. Every such intervention is told in the plan's
    reasoning and counted in the result's facts. What the shield knows (actors, map) is kept
    from the policy unless that declares it too.

    Args:
        of: The policy: its name, or ``module:Class``.
        settings: The policy's own settings.
        horizon_s: How far ahead is looked, at most as far as plans reach.
        margin_m: Room that ego keeps to others.
        offroad_tolerance_m: How deep a corner may be outside the drivable surface.
        brakes_mps2: Decelerations that are tried, gentle first.
    """

    def __init__(
        self,
        of: str,
        settings: Mapping[str, Any] | None = None,
        horizon_s: float = 3.0,
        margin_m: float = 0.2,
        offroad_tolerance_m: float = 0.3,
        brakes_mps2: tuple[float, ...] = (2.0, 4.0, 8.0),
    ) -> None:
        for name, value, low, high in (
            ("horizon_s", horizon_s, 0.1, 20.0), ("margin_m", margin_m, 0.0, 5.0),
            ("offroad_tolerance_m", offroad_tolerance_m, 0.0, 5.0),
            *(("brakes_mps2", brake, 0.1, 20.0) for brake in brakes_mps2),
        ):  # fmt: skip
            if not low <= value <= high:
                raise PluginError(
                    f"{name} is {value}", where=f"policy.{name}", remedy=f"give {low} to {high}"
                )
        if not brakes_mps2:
            raise PluginError("no brakes_mps2", where="policy.brakes_mps2", remedy="give one")
        self._inner = as_service("policy", registry.create("policy", of, dict(settings or {})))
        self.steps = round(horizon_s * 1e6) // _STEP_US
        self.margin_m, self.offroad_tolerance_m = margin_m, offroad_tolerance_m
        self.brakes_mps2 = tuple(sorted(brakes_mps2))

    @property
    def spec(self) -> PolicySpec:
        """The policy's own, with what the shield must see."""
        spec: PolicySpec = self._inner.spec
        return replace(spec, privileged=spec.privileged | _SEES)

    def __getattr__(self, name: str) -> Any:
        # capacity, versions, notes, connect, disconnect: the policy's own, where it has them.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    async def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> ShieldSession:
        """Begin a rollout."""
        inner = await self._inner.open(session, cameras)
        return ShieldSession(self, inner, self._inner.spec.privileged, session.scene)


class ShieldSession:
    """One rollout's shield, with what it did."""

    def __init__(
        self, shield: ShieldPolicy, inner: PolicySession, may_see: frozenset[str], scene: Scene
    ) -> None:
        self._shield, self._inner, self._may_see = shield, inner, may_see
        self._surface = drivable_surface(scene.map)
        self._sizes_m = scene.actor_sizes_m
        self._count = {"plans": 0, "interventions": 0, "contact": 0, "off_road": 0, "no_way_out": 0}

    async def plan(self, observation: Observation) -> Plan:
        """The policy's plan, or a braked one."""
        plan = await self._inner.plan(self._as_declared(observation))
        if len(plan.local_to_rig.times_us) < 2:
            return plan
        self._count["plans"] += 1
        own = _on_grid(plan.local_to_rig, observation.time_us, self._shield.steps)
        (threat,) = self._threats(observation, own[None])
        if not threat.kind:
            return plan
        speed_mps = max(float(observation.ego.dynamics[-1, 0]), 0.0)
        tried = [_braked(own, speed_mps, brake) for brake in self._shield.brakes_mps2]
        threats = self._threats(observation, np.stack(tried))
        safe = [k for k, other in enumerate(threats) if not other.kind]
        latest = max(range(len(tried)), key=lambda k: (threats[k].after_s, k))
        chosen = safe[0] if safe else latest
        self._count["contact" if threat.kind == "contact" else "off_road"] += 1
        self._count["no_way_out"] += not safe
        if not safe and threats[chosen].after_s <= threat.after_s:
            return replace(plan, reasoning=_told(plan, threat, "nothing helps"))
        self._count["interventions"] += 1
        # As far as the policy planned: a shorter plan may not reach the next decision.
        end_us = int(plan.local_to_rig.times_us[-1])
        steps = max(-(-(end_us - observation.time_us) // _STEP_US), self._shield.steps)
        whole = _on_grid(plan.local_to_rig, observation.time_us, steps)
        brake = self._shield.brakes_mps2[chosen]
        times_us = observation.time_us + _STEP_US * np.arange(steps + 1)
        return replace(
            plan,
            local_to_rig=Trajectory(times_us, _braked(whole, speed_mps, brake)),
            samples=(plan.local_to_rig, *plan.samples),
            reasoning=_told(plan, threat, f"brakes with {brake:g} m/s2"),
        )

    def facts(self) -> dict[str, object]:
        """How often it had to step in, and why; beside the policy's own facts."""
        inner = getattr(self._inner, "facts", None)
        return {**(inner() if inner is not None else {}), "shield": dict(self._count)}

    async def close(self) -> None:
        """End the policy's session."""
        await self._inner.close()

    def _as_declared(self, observation: Observation) -> Observation:
        hidden: dict[str, None] = {}
        if "actors" not in self._may_see:
            hidden |= {"actors": None, "actor_motion": None}
        if "map" not in self._may_see:
            hidden["map"] = None
        return replace(observation, **hidden)  # type: ignore[arg-type]

    def _threats(self, observation: Observation, paths: Array) -> list[Threat]:
        assert observation.actor_motion is not None  # declared
        return first_threats(
            paths, _STEP_US / 1e6, observation.vehicle, observation.actor_motion, self._sizes_m,
            self._surface, margin_m=self._shield.margin_m,
            offroad_tolerance_m=self._shield.offroad_tolerance_m,
        )  # fmt: skip


def _told(plan: Plan, threat: Threat, answer: str) -> str:
    told = f"shield: {threat.kind} in {threat.after_s:.1f} s, {answer}"
    return f"{told} | {plan.reasoning}" if plan.reasoning else told


def _on_grid(path: Trajectory, start_us: int, steps: int) -> Array:
    """Poses ``(steps + 1, 7)`` every 100 ms; where the plan ends ego stays."""
    wanted = start_us + _STEP_US * np.arange(steps + 1)
    return path.sample(np.clip(wanted, path.times_us[0], path.times_us[-1])).copy()


def _braked(path: Array, speed_mps: float, brake_mps2: float) -> Array:
    """The same way, driven with constant braking, never farther than planned."""
    planned_m = geometry.arc_length_m(path[:, :3])
    t = np.minimum(_STEP_US / 1e6 * np.arange(len(path)), speed_mps / brake_mps2)
    braked_m = np.minimum(planned_m, speed_mps * t - brake_mps2 * t * t / 2)
    # Between the poses that lie there; where the plan stands, the first of them.
    after = np.clip(np.searchsorted(planned_m, braked_m), 1, len(path) - 1)
    length_m = planned_m[after] - planned_m[after - 1]
    share = (braked_m - planned_m[after - 1]) / np.where(length_m > 0, length_m, 1.0)
    return geometry.interpolate_poses(path[after - 1], path[after], np.clip(share, 0.0, 1.0))
