from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely

from omniloop.core import geometry
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import ActorClass, VectorMap
from omniloop.metrics.boxes import Rectangles
from omniloop.metrics.contacts import STOPPED_MPS, VERTICAL_TOLERANCE_M, contacts
from omniloop.metrics.lanes_under import ONE, lanes_under
from omniloop.metrics.nuplan_faults import collisions
from omniloop.metrics.nuplan_ttc import NAME, STEP_S, STEPS, NuplanTtcMetric, time_to_contact_s
from omniloop.metrics.samples import score_samples
from tests.metrics.nuplan_records import TWO_LANES, random_record, straight, with_class
from tests.metrics.records import Body, Path, by_name, moving, record, still


def corners(of: Rectangles) -> np.ndarray:
    poses = geometry.poses_from_xyz_yaw(np.pad(of.xy, ((0, 0), (0, 1))), of.yaw_rad)
    return geometry.box_corners_xy(poses, np.pad(2 * of.half_m, ((0, 0), (0, 1))))


def test_times_are_those_of_boxes_moved_step_by_step() -> None:
    rng = np.random.default_rng(4)
    n = 400
    one, other = (
        Rectangles(rng.uniform(-12, 12, (n, 2)), rng.uniform(-4, 4, n), rng.uniform(0.3, 3, (n, 2)))
        for _ in range(2)
    )
    speeds = np.where(rng.random((2, n)) < 0.2, 0.0, rng.uniform(0, 12, (2, n)))
    found = time_to_contact_s(one, speeds[0], other, speeds[1])
    expected = np.full(n, np.inf)
    for step in range(STEPS, 0, -1):
        polygons = []
        for rectangles, speed in zip((one, other), speeds, strict=True):
            heading = np.stack([np.cos(rectangles.yaw_rad), np.sin(rectangles.yaw_rad)], axis=1)
            moved = step * STEP_S * speed[:, None] * heading
            polygons.append(shapely.polygons(corners(rectangles) + moved[:, None]))
        met = shapely.area(shapely.intersection(*polygons)) > 1e-9
        expected[met] = step * STEP_S
    assert 50 < np.isfinite(expected).sum() < n - 50
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("gap_m", "expected_s"),
    [(0.5, 0.1), (0.95, 0.1), (1.05, 0.2), (9.45, 1.0), (28.95, 2.9), (29.05, np.inf)],
)
def test_projections_are_29_steps_of_0_1_s(gap_m: float, expected_s: float) -> None:
    """The gap closes at 10 m/s, whoever drives: 0.1, 0.2, ..., 2.9 s are looked at."""
    half = np.array([[2.0, 1.0]])
    one = Rectangles(np.zeros((1, 2)), np.zeros(1), half)
    ahead = Rectangles(np.array([[4.0 + gap_m, 0.0]]), np.zeros(1), half)
    facing = Rectangles(ahead.xy, np.array([np.pi]), half)
    for other, speeds in ((ahead, (10.0, 0.0)), (ahead, (25.0, 15.0)), (facing, (4.0, 6.0))):
        found = time_to_contact_s(one, np.array(speeds[:1]), other, np.array(speeds[1:]))
        assert found[0] == pytest.approx(expected_s)


def coming(bearing_deg: float, away_m: float, ego_y: float, vector_map: VectorMap) -> RolloutRecord:
    """A small car comes at ego on a constant bearing from its rear axle, and is 0.5 s away.

    Ego drives at 5 m/s; the rollout ends 0.1 s after handover, before they meet.
    """
    turn = np.deg2rad(bearing_deg)
    vx, vy = 5.0 - 6.0 * np.cos(turn), -6.0 * np.sin(turn)
    x, y = away_m * np.cos(turn), ego_y + away_m * np.sin(turn)
    body = Body(moving(x, y, float(np.hypot(vx, vy)), float(np.arctan2(vy, vx))), (1.0, 0.5, 1.5))
    return record(moving(0, ego_y, 5), [body], vector_map=vector_map, duration_s=0.1)


def at_bearing(
    bearing_deg: float, away_m: float, ego_y: float, vector_map: VectorMap
) -> float | None:
    made = coming(bearing_deg, away_m, ego_y, vector_map)
    return by_name(NuplanTtcMetric(), made)[NAME].value


def test_ahead_is_nearer_than_30_degrees_seen_from_the_rear_axle() -> None:
    for bearing_deg, expected in ((29.7, 0.0), (30.3, 1.0), (-29.7, 0.0), (-30.3, 1.0)):
        assert at_bearing(bearing_deg, 7.0, 0.0, TWO_LANES) == expected
        assert at_bearing(bearing_deg, 7.0, 2.0, TWO_LANES) == 0.0  # between the lanes


def test_behind_is_farther_than_150_degrees_seen_from_the_rear_axle() -> None:
    for bearing_deg, expected in ((149.7, 0.0), (150.3, 1.0), (-149.7, 0.0), (-150.3, 1.0)):
        assert at_bearing(bearing_deg, 5.0, 2.0, TWO_LANES) == expected
        assert at_bearing(bearing_deg, 5.0, 0.0, TWO_LANES) == 1.0  # in one lane


def test_the_rear_axle_tells_whether_ego_is_in_an_intersection() -> None:
    for seam, expected in ((0.6, 1.0), (-0.1, 0.0)):  # the box's centre is at 1.0 m, in it
        lanes = (
            straight("before", 0, -100, seam, successors=("in",)),
            straight("in", 0, seam, 200, in_intersection=True),
        )
        assert at_bearing(60.0, 6.0, 0.0, VectorMap(lanes=lanes)) == expected


def test_ego_stands_at_exactly_0_005_mps() -> None:
    made = record(still(0, 0), [Body(moving(9, 0, 5, np.pi))], vector_map=TWO_LANES, duration_s=0.1)
    for speed, expected in ((0.005, 1.0), (float(np.nextafter(0.005, 1)), 0.0)):
        dynamics = np.zeros_like(made.ego.dynamics)
        dynamics[:, 0] = speed
        creeping = replace(made, ego=replace(made.ego, dynamics=dynamics))
        assert by_name(NuplanTtcMetric(), creeping)[NAME].value == expected


def closing(gap_m: float) -> float | None:
    """Ego at 10 m/s for 2 s; the gap to a car at 5 m/s closes to `gap_m`."""
    made = record(moving(0, 0, 10), [Body(moving(15 + gap_m, 0, 5))], vector_map=TWO_LANES)
    return by_name(NuplanTtcMetric(), made)[NAME].value


def test_the_least_time_must_exceed_0_95_s() -> None:
    assert closing(4.6) == 1.0  # met at 1.0 s
    assert closing(4.4) == 0.0  # met at 0.9 s


def test_the_details_tell_the_least_time() -> None:
    made = record(moving(0, 0, 10), [Body(moving(15 + 7.2, 0, 5))], vector_map=TWO_LANES)
    value = by_name(NuplanTtcMetric(), made)[NAME]
    assert value.value == 1.0
    assert value.details["least_s"] == pytest.approx(1.5)
    assert value.details["at_us"] == 3_500_000
    alone = by_name(NuplanTtcMetric(), record(moving(0, 0, 10), vector_map=TWO_LANES))[NAME]
    assert (alone.value, alone.details["least_s"]) == (1.0, None)


def beside(
    ego_y: float, vector_map: VectorMap | None, heading: float = -np.pi / 4, x: float = 2.0
) -> float | None:
    """A car 60 degrees aside heads for ego, up to 0.2 s before they meet."""
    towards: Path = moving(x, ego_y + 5.0, 8, heading)
    made = record(
        moving(0, ego_y, 5), [Body(towards, (2.0, 1.0, 1.5))], duration_s=0.2,
        vector_map=vector_map,
    )  # fmt: skip
    return by_name(NuplanTtcMetric(), made)[NAME].value


def test_actors_aside_count_between_lanes_and_in_intersections_only() -> None:
    assert beside(0.0, TWO_LANES) == 1.0
    assert beside(2.0, TWO_LANES) == 0.0
    crossing = VectorMap(lanes=(straight("right", 0.0, in_intersection=True),))
    assert beside(0.0, crossing) == 0.0


def test_actors_behind_never_count() -> None:
    """Between two lanes, 0.6 s before the other drives into ego's rear."""
    made = record(moving(0, 2, 5), [Body(moving(-5.5, 2, 9))], duration_s=0.5, vector_map=TWO_LANES)
    assert by_name(NuplanTtcMetric(), made)[NAME].value == 1.0


def test_without_lanes_the_score_is_undefined_only_if_they_decide() -> None:
    assert beside(0.0, None) is None
    made = record(moving(0, 0, 10), [Body(moving(19, 0, 5))])
    assert by_name(NuplanTtcMetric(), made)[NAME].value == 0.0
    assert by_name(NuplanTtcMetric(), record(moving(0, 0, 10)))[NAME].value == 1.0


def test_a_standing_ego_has_no_time_to_collision() -> None:
    coming = Body(moving(30, 0, 10, np.pi))
    for speed, expected in ((0.004, 1.0), (0.006, 0.0)):
        made = record(moving(0, 0, speed), [coming], vector_map=TWO_LANES, duration_s=2.0)
        assert by_name(NuplanTtcMetric(), made)[NAME].value == expected


def test_a_contact_at_fault_is_a_time_of_zero() -> None:
    made = record(moving(0, 0, 5), [Body(still(9, 0))], vector_map=TWO_LANES)
    value = by_name(NuplanTtcMetric(), made)[NAME]
    assert (value.value, value.details["least_s"]) == (0.0, 0.0)


def test_actors_that_have_been_in_contact_are_left_out() -> None:
    """Hit from behind, which is not its fault, ego then has the other ahead of it."""
    overtaking: Path = lambda t: (-8 + 10 * t - 2 * t * t, 0, 0)  # noqa: E731
    made = record(moving(0, 0, 5), [Body(overtaking)], vector_map=TWO_LANES, duration_s=3)
    assert by_name(NuplanTtcMetric(), made)[NAME].value == 1.0


def test_an_overlap_since_handover_is_left_out_until_it_ends() -> None:
    leaving: Path = lambda t: (3 + 7 * t, 0, 0)  # noqa: E731
    made = record(moving(0, 0, 5), [Body(leaving)], vector_map=TWO_LANES, duration_s=1)
    assert by_name(NuplanTtcMetric(), made)[NAME].value == 1.0
    stopping: Path = lambda t: (3 + 15 * np.minimum(t, 1), 0, 0)  # noqa: E731
    made = record(moving(0, 0, 5), [Body(stopping)], vector_map=TWO_LANES, duration_s=2)
    assert by_name(NuplanTtcMetric(), made)[NAME].value == 0.0


def test_objects_do_not_move() -> None:
    made = record(moving(0, 0, 5), [Body(moving(11.5, 0, 5))], vector_map=TWO_LANES, duration_s=0.2)
    assert by_name(NuplanTtcMetric(), made)[NAME].value == 1.0
    as_object = with_class(
        record(moving(0, 0, 5), [Body(moving(9.4, 0, 5))], vector_map=TWO_LANES), ActorClass.OTHER
    )
    assert by_name(NuplanTtcMetric(), as_object)[NAME].value == 0.0


def test_a_bridge_above_is_no_collision() -> None:
    above = Body(still(30, 0), z=5.0)
    made = record(moving(0, 0, 10), [above], vector_map=TWO_LANES, duration_s=3)
    assert by_name(NuplanTtcMetric(), made)[NAME].value == 1.0


def brute_force_least_s(made: RolloutRecord) -> float:
    """The rules again, one sample, actor and step after another, with shapely's polygons."""
    samples = score_samples(made)
    assert samples is not None
    under = lanes_under(made)
    ego, least_s = samples.ego, np.inf
    beside = under.box != ONE
    since = {one.row: one for one in collisions(made)}
    overlaps = {o.actor_id: o for o in contacts(made, STOPPED_MPS, VERTICAL_TOLERANCE_M).ignored}
    for k, time_us in enumerate(samples.times_us):
        if any(c.sample == k and c.at_fault(beside) for c in since.values()):
            return 0.0
        crossing = any(
            held and lane.in_intersection
            for held, lane in zip(under.inside[k, 1], under.lanes, strict=True)
        )
        yaw, speed = under.yaw_rad[k], ego.speed_mps[k]
        for row, actor in enumerate(made.scene.actors):
            if not samples.actors.valid[row, k] or speed <= 0.005:
                continue
            if row in since and time_us >= since[row].start_us:
                continue
            ignored = overlaps.get(actor.id)
            if ignored and (ignored.parted_us is None or time_us < ignored.parted_us):
                continue
            pose = samples.actors.local_to_aabb[row, k]
            away = pose[:2] - ego.local_to_rig[k, :2]
            cos = (np.cos(yaw) * away[0] + np.sin(yaw) * away[1]) / np.hypot(*away)
            angle = np.degrees(np.arccos(np.clip(cos, -1, 1)))
            if not (angle < 30 or ((beside[k] or crossing) and angle <= 150)):
                continue
            going = np.hypot(*samples.actor_velocity_mps[row, k])
            turn = geometry.yaw_rad(pose)
            for step in range(1, STEPS + 1):
                t = step * STEP_S
                mine = ego.corners_xy[k] + t * speed * np.array([np.cos(yaw), np.sin(yaw)])
                its = geometry.box_corners_xy(pose, actor.size_m)
                its = its + t * going * np.array([np.cos(turn), np.sin(turn)])
                if shapely.Polygon(mine).intersection(shapely.Polygon(its)).area > 1e-9:
                    least_s = min(least_s, t)
                    break
    return float(least_s)


def test_least_times_are_those_of_brute_force() -> None:
    finite = 0
    for seed in range(12):
        made = random_record(seed)
        value = by_name(NuplanTtcMetric(), made)[NAME]
        expected = brute_force_least_s(made)
        found = value.details["least_s"]
        assert found == (None if np.isinf(expected) else pytest.approx(expected)), seed
        assert value.value == float(expected > 0.95)
        finite += 0.0 < expected < np.inf
    assert finite >= 3
