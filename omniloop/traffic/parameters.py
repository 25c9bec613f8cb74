"""Published parameter sets of car-following and lane-change models.

Each set but "omniloop" gives what a public code base does, its faults included, so that results
can be compared with those obtained there. What each gets wrong is in docs/traffic.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from omniloop.core.errors import ConfigError, nearest

Integration = Literal["euler", "trapezoid", "ballistic"]


@dataclass(frozen=True)
class IdmParameters:
    """The Intelligent Driver Model's constants, and how a code base computes with them.

    Treiber, Hennecke and Helbing, "Congested traffic states in empirical observations and
    microscopic simulations", Phys. Rev. E 62, 2000. The formula is in `omniloop.traffic.laws`.

    Attributes:
        desired_speed_mps: v0 where no lane gives one, or always.
        use_speed_limit: Whether a lane's speed limit, where known, is v0.
        min_gap_m: s0.
        headway_s: T.
        max_accel_mps2: a.
        comfortable_brake_mps2: b.
        exponent: delta.
        hardest_brake_mps2: Brakes no harder; infinite for no limit.
        gap_floor_m: The gap s that the model sees is no smaller.
        step_s: Time step of the code base.
        positive_interaction: s* is never less than s0; otherwise one who gets away fast makes
            s* negative, whose square brakes.
        integration: "euler" moves with the speed before the step, "trapezoid" with the mean of
            the speeds before and after, "ballistic" as "trapezoid" until it stands, with
            the stop at its exact place.
        length_in_gap_m: Added to the gap between bumpers to give s, where a code base measures
            between centres.
        nose_s: The gap is measured from ``nose_s * v`` ahead of the front bumper.
        free_brake_mps2: Above v0, with nobody ahead, brakes no harder.
    """

    desired_speed_mps: float
    use_speed_limit: bool
    min_gap_m: float
    headway_s: float
    max_accel_mps2: float
    comfortable_brake_mps2: float
    exponent: float
    hardest_brake_mps2: float
    gap_floor_m: float
    step_s: float
    positive_interaction: bool
    integration: Integration
    length_in_gap_m: float = 0.0
    nose_s: float = 0.0
    free_brake_mps2: float = math.inf


@dataclass(frozen=True)
class MobilParameters:
    """MOBIL's constants.

    Kesting, Treiber and Helbing, "General lane-changing model MOBIL for car-following models",
    Transportation Research Record 1999, 2007. The rule is in `omniloop.traffic.mobil`.

    Attributes:
        politeness: p, the weight of what others gain or lose.
        min_gain_mps2: The least gain that is worth a change.
        safe_brake_mps2: The new follower brakes no harder than this after the change.
        cooldown_s: Time between two looks at the lanes beside.
        duration_s: From leaving one lane's centre to reaching the other's.
        least_speed_mps: Slower ones do not change.
        clipped: Whether the accelerations compared are limited to `hardest_brake_mps2`.
    """

    politeness: float
    min_gain_mps2: float
    safe_brake_mps2: float
    cooldown_s: float
    duration_s: float
    least_speed_mps: float
    clipped: bool


@dataclass(frozen=True)
class LeadSearch:
    """Whom an actor takes for its lead.

    Attributes:
        look_ahead_m: How far from its front bumper along its path.
        corridor: "widths": whoever comes nearer to the path than both half widths and
            `buffer_m`. "lane": whoever has its centre in the lane.
        buffer_m: See `corridor`.
        sees_crossing: Whether one on another lane that reaches into the corridor counts.
        projected_speed: The lead's speed is its component along the actor's heading, else its
            full speed whatever its direction.
        stops_at_red: Whether a red stop line on the path is a standing lead.
        replayed_stand: Whether those that traffic only replays count as standing.
        path_end_is_lead: With nobody ahead, the end of the path is a standing lead.
        straight_ahead: Looks along its heading, not along its path.
        gap_step_m: Gaps are rounded up to a multiple of this; 0 for exact ones.
        blind_past_end: Past the end of its path, or far beside it, it keeps its speed.
    """

    look_ahead_m: float
    corridor: Literal["widths", "lane"]
    buffer_m: float = 0.0
    sees_crossing: bool = True
    projected_speed: bool = True
    stops_at_red: bool = False
    replayed_stand: bool = False
    path_end_is_lead: bool = False
    straight_ahead: bool = False
    gap_step_m: float = 0.0
    blind_past_end: bool = False


@dataclass(frozen=True)
class ParameterSet:
    """How traffic behaves.

    Attributes:
        mobil: None for traffic without lane changes: IDM on the recorded or mapped route.
        source: Where the values and the way to compute with them come from.
    """

    name: str
    idm: IdmParameters
    mobil: MobilParameters | None
    lead: LeadSearch
    source: str

    @property
    def compared(self) -> IdmParameters:
        """The car-following constants of the accelerations that MOBIL compares."""
        if self.mobil is None or self.mobil.clipped:
            return self.idm
        return replace(self.idm, hardest_brake_mps2=math.inf)


_OMNILOOP = ParameterSet(
    name="omniloop",
    idm=IdmParameters(
        desired_speed_mps=10.0,
        use_speed_limit=True,
        min_gap_m=1.0,
        headway_s=1.5,
        max_accel_mps2=1.0,
        comfortable_brake_mps2=2.0,
        exponent=4.0,
        # With a limit of at least 4 b IDM uses its full brake before it is too late:
        # where braking at the limit B just suffices, s* / s >= B / (2 sqrt(a b)), so that IDM
        # asks for B^2 / (4 b) >= B.
        hardest_brake_mps2=8.0,
        gap_floor_m=0.1,
        step_s=0.1,
        positive_interaction=True,
        integration="ballistic",
        free_brake_mps2=2.0,  # b: a lower speed limit ahead is no emergency
    ),
    mobil=MobilParameters(
        # The low end of 0.2 to 0.5, as Treiber and Kesting suggest ("Modeling lane-changing
        # decisions with MOBIL", Traffic and Granular Flow '07, 2009). With 0, as in highway-env, a
        # gain of 0.2 m/s^2 is worth making the one behind brake with 2 m/s^2.
        politeness=0.2,
        min_gain_mps2=0.2,
        safe_brake_mps2=2.0,
        cooldown_s=1.0,
        # Toledo and Zohar, "Modeling duration of lane changes", Transportation Research
        # Record 1999, 2007: 5 to 6 s on average.
        duration_s=5.0,
        least_speed_mps=1.0,
        clipped=True,
    ),
    lead=LeadSearch(look_ahead_m=100.0, corridor="widths", buffer_m=0.2, stops_at_red=True),
    source="constants of nuPlan's IDM agents and of highway-env's MOBIL; limits of its own",
)

_NUPLAN = ParameterSet(
    name="nuplan",
    idm=IdmParameters(
        desired_speed_mps=10.0,
        use_speed_limit=True,
        min_gap_m=1.0,
        headway_s=1.5,
        max_accel_mps2=1.0,
        comfortable_brake_mps2=2.0,
        exponent=4.0,
        hardest_brake_mps2=2.0,  # b is the limit, too
        gap_floor_m=1.0,
        step_s=0.1,
        positive_interaction=False,
        integration="euler",
        # An agent's own shape is stretched ahead by v T before distances are taken.
        nose_s=1.5,
    ),
    mobil=None,
    lead=LeadSearch(
        look_ahead_m=100.0,
        corridor="widths",
        stops_at_red=True,
        replayed_stand=True,
        path_end_is_lead=True,
    ),
    source=(
        "motional/nuplan-devkit, planning/simulation/observation/idm/idm_policy.py (c09d0280), "
        "idm_agent.py (3966f555), idm_agent_manager.py (761cdbd5), idm_agents_observation.yaml"
    ),
)

_WAYMAX = ParameterSet(
    name="waymax",
    idm=IdmParameters(
        desired_speed_mps=30.0,
        use_speed_limit=False,
        min_gap_m=2.0,
        headway_s=2.0,
        max_accel_mps2=2.0,
        comfortable_brake_mps2=4.0,
        exponent=4.0,
        hardest_brake_mps2=math.inf,
        gap_floor_m=0.1,
        step_s=0.1,
        positive_interaction=True,
        integration="trapezoid",
    ),
    mobil=None,
    lead=LeadSearch(
        look_ahead_m=10.0,
        corridor="widths",
        projected_speed=False,
        straight_ahead=True,
        gap_step_m=1.0,
        blind_past_end=True,
    ),
    source="waymo-research/waymax, agents/waypoint_following_agent.py (48b33d71), IDMRoutePolicy",
)

_HIGHWAY_ENV = ParameterSet(
    name="highway_env",
    idm=IdmParameters(
        desired_speed_mps=20.0,
        use_speed_limit=True,
        min_gap_m=10.0,  # 5 m and a car's length
        headway_s=1.5,
        max_accel_mps2=3.0,
        comfortable_brake_mps2=5.0,
        exponent=4.0,
        hardest_brake_mps2=6.0,
        gap_floor_m=0.01,
        step_s=1 / 15,
        positive_interaction=False,
        integration="euler",
        length_in_gap_m=5.0,  # of every vehicle there
    ),
    mobil=MobilParameters(
        politeness=0.0,
        min_gain_mps2=0.2,
        safe_brake_mps2=2.0,
        cooldown_s=1.0,
        # Not a constant there: its steering covers 95 % of a 4 m change in 1.9 s at 10 m/s, 1.5 s at 20.
        duration_s=1.5,
        least_speed_mps=1.0,
        clipped=False,
    ),
    # The nearest in the lane at any distance.
    lead=LeadSearch(look_ahead_m=1000.0, corridor="lane", buffer_m=1.0, sees_crossing=False),
    source="highway-env 1.12.1, vehicle/behavior.py IDMVehicle, vehicle/kinematics.py, road/road.py",
)

PARAMETER_SETS: dict[str, ParameterSet] = {
    s.name: s for s in (_OMNILOOP, _NUPLAN, _WAYMAX, _HIGHWAY_ENV)
}


def parameter_set(name: str) -> ParameterSet:
    """Return a set by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PARAMETER_SETS:
        raise ConfigError(
            f"there is no parameter set '{name}'.{nearest(name, PARAMETER_SETS)}",
            where=f"traffic.params={name}",
            remedy=f"choose one of {', '.join(PARAMETER_SETS)}",
        )
    return PARAMETER_SETS[name]
