from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import shapely

from omniloop.core import geometry
from omniloop.core.contracts import Plan
from omniloop.core.motion import Trajectory
from omniloop.core.record import Decision, RolloutRecord
from omniloop.core.scene import ActorClass, TrafficLight, VectorMap
from omniloop.metrics import navsim_formulas as formulas
from omniloop.metrics.lanes_under import CORNERS, RIG, lanes_under
from omniloop.metrics.navsim_comfort import NO_PAIRS
from omniloop.metrics.navsim_driven import NO_PROPOSALS, NavsimDrivenMetric
from omniloop.metrics.navsim_parts import FAULT_UNKNOWN, NO_ROUTE, time_to_collision
from omniloop.metrics.nuplan_faults import overlapping_since_handover
from omniloop.metrics.samples import score_samples
from omniloop.scenes.surface import drivable_surface
from tests.metrics.nuplan_records import (
    HANDOVER_US,
    TWO_LANES,
    line,
    random_record,
    straight,
    with_class,
    with_exact_motion,
)
from tests.metrics.records import (
    Body,
    Path,
    by_name,
    lane,
    moving,
    poses_of,
    record,
    rectangle,
    road,
    still,
)

RECORDING = moving(0, 0, 10)
SMALL = (2.0, 1.0, 1.5)


def part(name: str, made: RolloutRecord) -> float | None:
    return by_name(NavsimDrivenMetric(), made)[f"navsim_{name}_driven"].value


def reason(name: str, made: RolloutRecord) -> str:
    return by_name(NavsimDrivenMetric(), made)[f"navsim_{name}_driven"].reason


# --------------------------------------------------------------------------- formulas


def test_pdms_is_its_formula() -> None:
    for nc, dac, ep, ttc, c in itertools.product((0.0, 0.5, 1.0), repeat=5):
        parts = {"nc": nc, "dac": dac, "ep": ep, "ttc": ttc, "c": c}
        assert formulas.pdms(parts) == pytest.approx(nc * dac * (5 * ep + 5 * ttc + 2 * c) / 12)


def test_epdms_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        nc, dac, ddc, tlc, ep, ttc, lk, hc, ec = rng.random(9)
        parts = {
            "nc": nc, "dac": dac, "ddc": ddc, "tlc": tlc, "ep": ep, "ttc": ttc, "lk": lk, "hc": hc,
            "ec": ec,
        }  # fmt: skip
        mean = (5 * ep + 5 * ttc + 2 * lk + 2 * hc + 2 * ec) / 16
        assert formulas.epdms(parts) == pytest.approx(nc * dac * ddc * tlc * mean)
    assert formulas.epdms(dict.fromkeys(parts, 1.0)) == 1.0


def test_ego_progress_compares_with_the_best_that_breaks_no_rule() -> None:
    progress, multipliers = np.array([20.0, 10.0, -3.0]), np.array([1.0, 1.0, 1.0])
    assert formulas.ego_progress(progress, multipliers).tolist() == [1.0, 0.5, 0.0]
    assert formulas.ego_progress(progress, np.array([0.0, 1.0, 1.0])).tolist() == [1.0, 1.0, 0.0]
    assert formulas.ego_progress(progress / 4, multipliers).tolist() == [1.0, 1.0, 1.0]


def test_samples_in_intersections_neither_count_nor_end_a_row() -> None:
    far = np.array([0, 1, 1, 0, 1, 1, 1, 0, 1]) * 0.6
    crossing = np.zeros(9, dtype=bool)
    assert formulas.longest_off_centre(far, crossing, 0.5) == 3
    crossing[3] = True
    assert formulas.longest_off_centre(far, crossing, 0.5) == 5
    crossing[5] = True
    assert formulas.longest_off_centre(far, crossing, 0.5) == 4
    assert formulas.longest_off_centre(far, crossing, 0.6) == 0
    assert formulas.longest_off_centre(np.zeros(0), np.zeros(0, dtype=bool), 0.5) == 0


def test_the_human_filter_lets_only_a_human_zero_pass() -> None:
    assert formulas.human_filtered(0.0, 0.0) == 1.0
    assert formulas.human_filtered(0.0, 0.5) == 0.0
    assert formulas.human_filtered(0.5, 1.0) == 0.5
    assert formulas.human_filtered(0.0, None) == 0.0


# ------------------------------------------------------------------------- collisions


def test_an_agent_hit_is_0_and_any_number_of_objects_a_half() -> None:
    bodies = [Body(still(9, 0), SMALL), Body(still(12, 0), SMALL)]
    made = record(moving(0, 0, 8), bodies, recorded=still(-5, 0), vector_map=TWO_LANES)
    assert part("nc", made) == 0.0
    assert part("nc", with_class(made, ActorClass.PEDESTRIAN)) == 0.0
    assert part("nc", with_class(made, ActorClass.OTHER)) == 0.5


def test_a_rear_hit_is_not_at_fault() -> None:
    made = record(moving(0, 0, 5), [Body(moving(-8, 0, 10))], vector_map=TWO_LANES)
    assert part("nc", made) == 1.0


def test_a_lateral_contact_across_two_lanes_in_a_row_is_at_fault() -> None:
    """Other than nuPlan, NAVSIM knows no successors."""
    side: Path = lambda t: (1 + 5 * t, 3 - 2 * t, 0.0)  # noqa: E731
    for successors in ((), ("b",)):
        lanes = (
            straight("a", 0, -100, 4.6, successors=successors), straight("b", 0, 4.6, 200),
        )  # fmt: skip
        made = record(
            moving(0, 0, 5), [Body(side, SMALL)], recorded=still(0, 0),
            vector_map=VectorMap(lanes=lanes),
        )  # fmt: skip
        assert part("nc", made) == 0.0
    made = record(moving(0, 0, 5), [Body(side, SMALL)], recorded=still(0, 0))
    assert reason("nc", made) == FAULT_UNKNOWN


def test_where_the_recording_collides_too_the_driving_is_not_to_blame() -> None:
    made = record(moving(0, 0, 5), [Body(still(9, 0))], vector_map=TWO_LANES)
    value = by_name(NavsimDrivenMetric(), made)["navsim_nc_driven"]
    assert (value.value, value.details) == (1.0, {"driven": 0.0, "recording": 0.0})


# -------------------------------------------------------------------- area and direction


def leaving(y: float) -> Path:
    return lambda t: (10 * t, y * np.clip(2 * t - 1, 0, 1), 0.0)


def test_a_corner_must_not_be_off_the_drivable_area_at_all() -> None:
    for y, expected in ((2.99, 1.0), (3.02, 0.0)):
        made = record(leaving(y), recorded=RECORDING, vector_map=road())
        assert part("dac", made) == expected
    assert part("dac", record(leaving(3.02), vector_map=road())) == 1.0  # the recording's too


@pytest.mark.parametrize(("speed", "score"), [(1.8, 1.0), (1.9, 0.5), (5.4, 0.5), (5.5, 0.0)])
def test_travel_off_the_route_within_a_second(speed: float, score: float) -> None:
    oncoming = VectorMap(lanes=(straight("right", 0.0), straight("left", 4.0, back=True)))
    made = record(moving(0, 4, speed), recorded=RECORDING, vector_map=oncoming)
    assert part("ddc", made) == score
    in_lane = record(moving(0, 0, speed), recorded=RECORDING, vector_map=oncoming)
    assert part("ddc", in_lane) == 1.0


def test_intersections_are_no_oncoming_travel() -> None:
    lanes = (straight("right", 0.0), straight("left", 4.0, back=True, in_intersection=True))
    made = record(moving(0, 4, 9), recorded=RECORDING, vector_map=VectorMap(lanes=lanes))
    assert part("ddc", made) == 1.0
    far = VectorMap(lanes=(straight("far", 99.0),))
    made = record(moving(0, 4, 9), recorded=RECORDING, vector_map=far)
    assert reason("ddc", made) == reason("lk", made) == NO_ROUTE


# -------------------------------------------------------------------------------- lights


def junction(states: tuple[tuple[float, str], ...], ruled: str = "in") -> VectorMap:
    """A lane up to x = 10, an intersection beyond, and a lane that crosses it."""
    light = TrafficLight(
        "light", geometry.pose(30), np.ones(3), (ruled,),
        np.array([HANDOVER_US + round(t * 1e6) for t, _ in states], dtype=np.int64),
        tuple(state for _, state in states),
    )  # fmt: skip
    crossing = lane(
        rectangle(16, -30, 20, 30), "cross", centerline=line((18, -30), (18, 30)),
        in_intersection=True,
    )  # fmt: skip
    inside = straight("on", 0, 10, 30, in_intersection=True)
    lanes = (straight("in", 0, -100, 10, successors=("on",)), inside, crossing)
    return VectorMap(lanes=lanes, lights=(light,))


def lights(states: tuple[tuple[float, str], ...], ego: Path, ruled: str = "in") -> float | None:
    """With a recording that stays before the light; ego's front is 3 m ahead of it."""
    return part("tlc", record(ego, recorded=still(0, 0), vector_map=junction(states, ruled)))


def test_ego_must_not_come_into_the_intersection_on_red() -> None:
    red, green = ((-9.0, "red"),), ((-9.0, "green"),)
    assert lights(red, RECORDING) == 0.0
    assert lights(((-9.0, "red_yellow"),), RECORDING) == 0.0
    assert lights(green, RECORDING) == 1.0
    assert lights(red, moving(0, 0, 3)) == 1.0  # it stops at x = 9
    assert lights(red, RECORDING, ruled="on") == 0.0


def test_who_is_in_the_intersection_as_the_light_turns_red_may_clear_it() -> None:
    assert lights(((-9.0, "green"), (1.0, "red")), RECORDING) == 1.0
    assert lights(((-9.0, "green"), (0.5, "red")), RECORDING) == 0.0


def test_the_light_of_a_crossing_lane_is_not_egos() -> None:
    assert lights(((-9.0, "red"),), RECORDING, ruled="cross") == 1.0


def test_without_lights_there_is_no_compliance() -> None:
    assert "traffic light" in reason("tlc", record(RECORDING, vector_map=TWO_LANES))
    assert lights((), RECORDING) is None


# ------------------------------------------------------------------------------------ TTC


def ttc(ego: Path, body: Path, duration_s: float = 2.0, **kwargs: object) -> float | None:
    """With a recording that stands far behind."""
    made = record(
        ego, [Body(body, SMALL)], recorded=still(-60, 0), vector_map=TWO_LANES,
        duration_s=duration_s,
    )  # fmt: skip
    return part("ttc", made)


def braking(stop_s: float, speed: float = 10.0) -> Path:
    """From `stop_s` on it stands where it is: its box had gone on."""
    return lambda t: (speed * np.minimum(t, stop_s), 0.0, 0.0)


def test_ego_that_goes_on_must_not_be_where_an_actor_will_be() -> None:
    # At 0.9 s ego is at 9 m; going on it is at 18 m, its front at 21 m, at 1.8 s.
    assert ttc(braking(1.0), still(21.9, 0)) == 0.0
    assert ttc(braking(1.0), still(22.3, 0)) == 1.0
    assert ttc(braking(1.0), lambda t: (21.9, 6.0 * np.clip(t - 0.5, 0, 1), 0.0)) == 1.0


def test_an_actor_aside_counts_only_if_ego_is_between_lanes() -> None:
    crossing: Path = lambda t: (5.0, np.maximum(9.0 - 6.0 * t, 4.0), 0.0)  # noqa: E731
    assert ttc(still(0, 0), crossing) == 1.0  # ego stands
    for y, expected in ((0.0, 1.0), (2.0, 0.0)):
        side: Path = lambda t, y=y: (2 * t, y + 2.2 - np.clip(t - 1, 0, 0.8), 0.0)  # noqa: E731
        swerving: Path = lambda t, y=y: (2 * t, y + 0.0 * t, 0.0)  # noqa: E731
        assert ttc(swerving, side) == expected


def test_without_a_second_of_samples_there_is_no_time_to_collision() -> None:
    made = record(moving(0, 0, 5), vector_map=TWO_LANES, duration_s=0.8)
    assert part("ttc", made) is None
    assert part("ttc", record(moving(0, 0, 5), vector_map=TWO_LANES, duration_s=0.9)) == 1.0


def brute_force_ttc(made: RolloutRecord) -> float:
    """The rules again, hit by hit, with shapely's polygons."""
    samples = score_samples(made)
    assert samples is not None
    under, ego = lanes_under(made), samples.ego
    dropped: set[int] = set()
    for k in range(len(samples.times_us) - 9):
        yaw, speed = under.yaw_rad[k], ego.speed_mps[k]
        corners = under.inside[k, CORNERS]
        several = (corners.any(axis=0).sum() > 1) and not corners.all(axis=0).any()
        surface = drivable_surface(made.scene.map)
        assert surface is not None
        on = shapely.intersects_xy(surface.geometry, *under.points_xy[k, CORNERS].T)
        beside = (
            several
            or not (on | corners.any(axis=1)).all()
            or any(
                held and one.in_intersection
                for held, one in zip(under.inside[k, RIG], under.lanes, strict=True)
            )
        )
        for ahead in (0, 3, 6, 9):
            mine = ego.corners_xy[k] + 0.1 * ahead * speed * np.array([np.cos(yaw), np.sin(yaw)])
            for row, actor in enumerate(made.scene.actors):
                pose = samples.actors.local_to_aabb[row, k + ahead]
                its = geometry.box_corners_xy(pose, actor.size_m)
                met = shapely.Polygon(mine).intersection(shapely.Polygon(its)).area > 1e-9
                if row in dropped or speed < 0.005 or not met:
                    continue
                away = pose[:2] - ego.local_to_rig[k, :2]
                cos = (np.cos(yaw) * away[0] + np.sin(yaw) * away[1]) / np.hypot(*away)
                angle = np.degrees(np.arccos(np.clip(cos, -1, 1)))
                if angle < 30 or (beside and angle <= 150):
                    return 0.0
                dropped.add(row)
    return 1.0


def test_times_to_collision_are_those_of_brute_force() -> None:
    found = []
    for seed in range(40):
        made = random_record(seed)
        if not overlapping_since_handover(made).any():
            found.append(time_to_collision(made))
            assert found[-1] == brute_force_ttc(made), seed
    assert found.count(0.0) > 4 < found.count(1.0)


# ----------------------------------------------------------------------- lane and comfort


def test_two_seconds_beside_the_centre_line_are_too_long() -> None:
    def weaving(y: float, for_s: float) -> Path:
        return lambda t: (10 * t, np.where((t > 0.45) & (t < 0.45 + for_s), y, 0.0), 0.0)

    for y, for_s, expected in ((0.6, 1.9, 1.0), (0.6, 2.0, 0.0), (0.49, 3.0, 1.0)):
        made = record(
            weaving(y, for_s), recorded=RECORDING, vector_map=TWO_LANES, duration_s=4
        )  # fmt: skip
        assert part("lk", made) == expected


def test_comfort_begins_before_handover() -> None:
    kick: Path = lambda t: (10 * t + 2.0 * np.minimum(t + 0.2, 0) ** 2, 0.0, 0.0)  # noqa: E731
    made = with_exact_motion(record(kick, recorded=RECORDING, vector_map=TWO_LANES), kick)
    assert part("hc", made) == 0.0
    steady = with_exact_motion(record(RECORDING, vector_map=TWO_LANES), RECORDING)
    assert part("hc", steady) == 1.0


def planned(*speeds: float, step_s: float = 0.1, dropped: bool = False) -> RolloutRecord:
    """Plans of 4 s every 0.1 s from handover on, that accelerate from 10 m/s at some m/s2."""
    decisions = []
    for i, accel in enumerate(speeds):
        t_s = np.arange(0, 4 + 1e-9, step_s)
        times_us = HANDOVER_US + 100_000 * i + np.rint(t_s * 1e6).astype(np.int64)
        poses = poses_of(lambda t, a=accel: (10 * t + a * t * t / 2, 0.0, 0.0), t_s)
        plan = Plan(Trajectory(times_us, poses))
        decisions.append(Decision(int(times_us[0]), int(times_us[0]), plan, dropped))
    return replace(record(RECORDING, vector_map=TWO_LANES), decisions=tuple(decisions))


def test_extended_comfort_is_the_share_of_plans_that_agree() -> None:
    assert part("ec", planned(0.0, 0.0, 0.0)) == 1.0
    assert part("ec", planned(0.0, 0.6, 0.0)) == 1.0
    assert part("ec", planned(0.0, 0.8, 0.8)) == 0.5
    assert part("ec", planned(0.0, 2.0, 0.0)) == 0.0


def test_plans_that_cannot_be_compared_leave_extended_comfort_undefined() -> None:
    for made in (planned(0.0), planned(0.0, 0.0, step_s=0.5), planned(0.0, 0.0, dropped=True)):
        assert reason("ec", made) == NO_PAIRS


# ------------------------------------------------------------------------------- the rest


def test_what_needs_proposals_is_never_defined() -> None:
    made = record(RECORDING, vector_map=TWO_LANES)
    for name in ("ep", "pdms", "epdms"):
        assert reason(name, made) == NO_PROPOSALS
    values = by_name(NavsimDrivenMetric(), record(RECORDING, driven_s=0.0))
    assert set(values) == set(NavsimDrivenMetric.names)
    assert {value.value for value in values.values()} == {None}
