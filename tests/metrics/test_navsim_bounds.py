"""NAVSIM's constants, each by a case on either side of it, and rules that decide alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.signal import savgol_filter

from omniloop.core import geometry
from omniloop.core.contracts import Plan
from omniloop.core.motion import Trajectory
from omniloop.core.record import Decision, RolloutRecord
from omniloop.core.scene import ActorClass, Area, VectorMap
from omniloop.metrics.navsim_comfort import extended_comfort, history_comfort
from omniloop.metrics.navsim_parts import (
    drivable_area,
    lane_keeping,
    no_collision,
    time_to_collision,
    traffic_light,
)
from tests.metrics.nuplan_records import HANDOVER_US, TWO_LANES, line, straight
from tests.metrics.records import (
    Body,
    Path,
    lane,
    moving,
    poses_of,
    record,
    rectangle,
    road,
    still,
    transformed,
)
from tests.metrics.test_navsim import junction

SMALL = (2.0, 1.0, 1.5)


def with_classes(of: RolloutRecord, *classes: ActorClass) -> RolloutRecord:
    """The same rollout with one class for each actor."""
    tracks = tuple(
        replace(track, actor=replace(track.actor, actor_class=one))
        for track, one in zip(of.scene.tracks, classes, strict=True)
    )
    return replace(of, scene=replace(of.scene, tracks=tracks))


def with_speed(of: RolloutRecord, speed_mps: float) -> RolloutRecord:
    """The same rollout with ego at another speed, whatever its poses do."""
    dynamics = np.zeros_like(of.ego.dynamics)
    dynamics[:, 0] = speed_mps
    return replace(of, ego=replace(of.ego, dynamics=dynamics))


# -------------------------------------------------------------------------------- NC, DAC


@pytest.mark.parametrize("order", [(ActorClass.CAR, ActorClass.OTHER), (ActorClass.OTHER, ActorClass.CAR)])  # fmt: skip
def test_an_agent_and_an_object_are_0_in_either_order(order: tuple[ActorClass, ActorClass]) -> None:
    bodies = [Body(still(9, 0), SMALL), Body(still(12, 0), SMALL)]
    made = record(moving(0, 0, 8), bodies, vector_map=TWO_LANES)
    assert no_collision(with_classes(made, *order)) == 0.0
    assert no_collision(with_classes(made, ActorClass.OTHER, ActorClass.OTHER)) == 0.5


def hit_beside(y: float, vector_map: VectorMap) -> float | str:
    """NC of an ego that drives at `y` while a small car drifts into its left flank."""
    side: Path = lambda t: (1 + 5 * t, y + 3.0 - 2 * t, 0.0)  # noqa: E731
    return no_collision(record(moving(0, y, 5), [Body(side, SMALL)], vector_map=vector_map))


def test_what_makes_a_lateral_contact_a_fault() -> None:
    one = VectorMap(lanes=(straight("one", 0.0),))
    assert hit_beside(0.0, one) == 1.0
    assert hit_beside(-1.5, one) == 0.0  # two corners off the drivable area, in one lane at most
    assert hit_beside(2.0, TWO_LANES) == 0.0  # in two lanes
    wide = lane(rectangle(-100, -4, 200, 4), "wide", centerline=line((-100, 0), (200, 0)))
    assert hit_beside(2.0, VectorMap(lanes=(*TWO_LANES.lanes, wide))) == 1.0  # one holds all four


def test_a_corner_in_a_lane_off_the_drivable_area_is_on_it() -> None:
    beyond = lane(rectangle(-100, 4, 200, 8), "beyond", centerline=line((-100, 6), (200, 6)))
    areas = road().drivable_areas
    leaving: Path = lambda t: (10 * t, 3.5 * np.clip(2 * t - 1, 0, 1), 0.0)  # noqa: E731
    assert drivable_area(record(leaving, vector_map=VectorMap(drivable_areas=areas))) == 0.0
    both = VectorMap(lanes=(beyond,), drivable_areas=areas)
    assert drivable_area(record(leaving, vector_map=both)) == 1.0


def test_there_is_no_tolerance_of_0_3_m() -> None:
    """Other than nuPlan: a corner 0.1 m off is off."""
    leaving: Path = lambda t: (10 * t, 3.1 * np.clip(2 * t - 1, 0, 1), 0.0)  # noqa: E731
    assert drivable_area(record(leaving, vector_map=road())) == 0.0


# ------------------------------------------------------------------------------------- TTC


@pytest.mark.parametrize("offset", range(12))
def test_collisions_are_looked_for_0_3_6_and_9_samples_ahead(offset: int) -> None:
    """Ego is on the road at one sample alone, and an actor before it at one alone.

    At 10 m/s ego would be where the actor is `offset` samples later.
    """
    at = 0.3

    def only(t: np.ndarray, when_s: float, here: float, elsewhere: float) -> np.ndarray:
        return np.where(np.abs(t - when_s) < 0.01, here, elsewhere)

    ego: Path = lambda t: (only(t, at, 0.0, -80.0), 0.0, 0.0)  # noqa: E731
    actor: Path = lambda t: (only(t, at + offset / 10, 3.0 + offset, 120.0), 0.0, 0.0)  # noqa: E731
    made = record(ego, [Body(actor, SMALL)], vector_map=TWO_LANES)
    assert time_to_collision(with_speed(made, 10.0)) == float(offset not in (0, 3, 6, 9))


def test_ego_drives_from_0_005_mps_on() -> None:
    """Other than nuPlan, whose ego stands at exactly that speed."""
    coming = Body(moving(9, 0, 5, np.pi))
    made = record(still(0, 0), [coming], vector_map=TWO_LANES, duration_s=0.9)
    for speed, expected in ((0.005, 0.0), (float(np.nextafter(0.005, 0)), 1.0)):
        assert time_to_collision(with_speed(made, speed)) == expected


def test_who_drives_into_the_rear_does_not_count_even_between_lanes() -> None:
    """Where it is as they would meet is still behind where ego is now: 1.7 m."""
    behind = Body(moving(-3.5, 2, 2))
    made = record(moving(0, 2, 1), [behind], vector_map=TWO_LANES, duration_s=0.9)
    assert time_to_collision(made) == 1.0
    passing = Body(moving(-5.5, 2, 9))  # at 0.9 s it would be 2.6 m ahead of where ego is now
    made = record(moving(0, 2, 5), [passing], vector_map=TWO_LANES, duration_s=0.9)
    assert time_to_collision(made) == 0.0


def test_a_bridge_and_who_overlaps_since_handover_do_not_count() -> None:
    above = record(moving(0, 0, 10), [Body(still(15, 0), z=5.0)], vector_map=TWO_LANES)
    assert time_to_collision(above) == 1.0
    leaning = record(moving(0, 0, 5), [Body(moving(3, 0, 5))], vector_map=TWO_LANES)
    assert time_to_collision(leaning) == 1.0
    assert time_to_collision(record(moving(0, 0, 10), [Body(still(15, 0))], vector_map=TWO_LANES)) == 0.0  # fmt: skip


# -------------------------------------------------------------------------------------- LK


@pytest.mark.parametrize(("away_m", "expected"), [(0.495, 1.0), (0.505, 0.0)])
def test_half_a_metre_from_the_centre_line_is_too_far(away_m: float, expected: float) -> None:
    made = record(
        moving(0, away_m, 10), recorded=moving(0, 0, 10), vector_map=TWO_LANES, duration_s=3
    )
    assert lane_keeping(made) == expected


# -------------------------------------------------------------------------------------- HC


@pytest.mark.parametrize(("before_s", "expected"), [(1.7, 1.0), (1.4, 0.0), (0.1, 0.0)])
def test_1_5_s_before_handover_belong_to_the_ride(before_s: float, expected: float) -> None:
    """For one sample, so long before handover, ego is faster by 2 m/s: a kick of 10 m/s2."""
    made = record(moving(0, 0, 10), vector_map=TWO_LANES, duration_s=3.5)
    made = replace(made, schedule=replace(made.schedule, n_warmup=25))
    ego = with_speed(made, 10.0).ego
    kick = np.searchsorted(ego.times_us, made.schedule.handover_us - round(before_s * 1e6))
    ego.dynamics[kick, 0] = 12.0
    assert history_comfort(replace(made, ego=ego)) == expected


# -------------------------------------------------------------------------------------- EC

Pair = Callable[[float], tuple[Path, Path]]
"""A size to two plans that differ by it; paths over seconds since handover."""


def two_plans(pair: tuple[Path, Path]) -> RolloutRecord:
    """The first plan is for 4 s from handover on, the second for 4 s from 0.5 s later on."""
    decisions = []
    for delay_us, path in zip((0, 500_000), pair, strict=True):
        times_us = HANDOVER_US + delay_us + 100_000 * np.arange(41)
        plan = Plan(Trajectory(times_us, poses_of(path, (times_us - HANDOVER_US) / 1e6)))
        decisions.append(Decision(int(times_us[0]), int(times_us[0]), plan, dropped=False))
    return replace(record(moving(0, 0, 10)), decisions=tuple(decisions))


def differences(pair: tuple[Path, Path]) -> np.ndarray:
    """RMS differences over their 3.5 s of overlap, in parts of NAVSIM's bounds: ``(4,)``."""
    t = 0.5 + 0.1 * np.arange(36)
    found = []
    for path in pair:
        x, y, yaw = (np.broadcast_to(v, t.shape) for v in path(t))
        centre = np.stack([x + np.cos(yaw), y + np.sin(yaw)])  # 1 m ahead of the rear axle
        accel = np.gradient(np.gradient(centre, 0.1, axis=1), 0.1, axis=1)
        size = savgol_filter(np.hypot(*accel), 8, 2)
        found.append(
            [
                size,
                savgol_filter(size, 15, 2, deriv=1, delta=0.1),
                savgol_filter(yaw, 5, 2, deriv=1, delta=0.1),
                savgol_filter(yaw, 5, 3, deriv=2, delta=0.1),
            ]
        )
    rms = np.sqrt(np.mean((np.array(found[0]) - np.array(found[1])) ** 2, axis=1))
    return np.asarray(rms / np.array([0.7, 0.5, 0.1, 0.1]))


CRUISE = moving(0, 0, 1)

PAIRS: dict[str, Pair] = {
    "accel": lambda a: (lambda t: (t + t**2, 0.0, 0.0), lambda t: (t + (1 + a / 2) * t**2, 0.0, 0.0)),
    "jerk": lambda a: (
        lambda t: (t + 2 * t**2, 0.0, 0.0), lambda t: (t + 2 * t**2 - a * np.sin(2 * t), 0.0, 0.0),
    ),
    "yaw rate": lambda a: (CRUISE, lambda t: (t, 0.0, a * t)),
    "yaw acceleration": lambda a: (CRUISE, lambda t: (t, 0.0, a * np.sin(2 * t))),
}  # fmt: skip


@pytest.mark.parametrize("row", range(4))
def test_plans_agree_up_to_each_bound(row: int) -> None:
    """The size at which a pair reaches the bound is found with scipy's filters."""
    pair = list(PAIRS.values())[row]
    size = brentq(lambda a: differences(pair(a))[row] - 1.0, 1e-4, 2.0)
    assert differences(pair(size)).argmax() == row
    assert extended_comfort(two_plans(pair(0.995 * size))) == 1.0
    assert extended_comfort(two_plans(pair(1.005 * size))) == 0.0


def test_what_lies_beyond_the_overlap_of_two_plans_is_not_compared() -> None:
    swerving: Path = lambda t: (t, 0.0, np.where(t > 4.05, 1.0, 0.0))  # noqa: E731
    assert extended_comfort(two_plans((CRUISE, swerving))) == 1.0
    late: Path = lambda t: (t, 0.0, np.where(t > 3.55, 1.0, 0.0))  # noqa: E731
    assert extended_comfort(two_plans((CRUISE, late))) == 0.0


def test_areas_make_no_fault_unknown_without_lanes() -> None:
    """An area tells what is drivable, but not whether ego is in several lanes."""
    areas = VectorMap(drivable_areas=(Area("a", rectangle(-100, -4, 200, 4)),))
    assert isinstance(hit_beside(0.0, areas), str)


# ------------------------------------------------------------------------- moved rollouts


@settings(max_examples=25)
@given(
    red_s=st.floats(-1.0, 2.0),
    accel=st.floats(0.0, 1.5),
    yaw=st.floats(-np.pi, np.pi),
    xy=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
    shift_us=st.integers(-1_000_000, 2_000_000_000_000_000),
)
def test_lights_and_plans_are_judged_alike_in_every_frame_and_on_every_clock(
    red_s: float, accel: float, yaw: float, xy: tuple[float, float], shift_us: int
) -> None:
    lights = junction(((-9.0, "green"), (red_s, "red")))
    made = record(moving(0, 0, 10), recorded=still(0, 0), vector_map=lights)
    made = replace(made, decisions=two_plans(PAIRS["accel"](accel)).decisions)
    moved = transformed(made, geometry.pose(*xy, 3.0, yaw), shift_us)
    for part in (traffic_light, extended_comfort, lane_keeping, history_comfort):
        assert part(made) == part(moved), part.__name__
    assert isinstance(traffic_light(made), float)
    assert isinstance(extended_comfort(made), float)
