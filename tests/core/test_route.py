import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.motion import Trajectory
from omniloop.core.route import (
    ROUTE_COUNT,
    ROUTE_SPACING_M,
    RouteLine,
    route_at,
    route_from_lanes,
    route_from_recording,
)
from omniloop.core.scene import Lane, VectorMap


def recorded(xyz, yaw=0.0, step_us=100_000) -> Trajectory:
    xyz = np.asarray(xyz, dtype=np.float64)
    yaw = np.broadcast_to(np.asarray(yaw, dtype=np.float64), (len(xyz),))
    return Trajectory(step_us * np.arange(len(xyz)), geometry.poses_from_xyz_yaw(xyz, yaw))


def straight(length_m: float, step_m: float = 1.0, y_m: float = 0.0) -> np.ndarray:
    x = np.arange(0, length_m + step_m / 2, step_m)
    return np.stack([x, np.full_like(x, y_m), 0 * x], axis=1)


def curvy(curvatures: list[float], step_m: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Positions and headings along a path of given curvature per metre."""
    heading = np.cumsum(np.repeat(curvatures, 10)) * step_m
    xy = np.cumsum(step_m * np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0)
    return np.column_stack([xy, 0.02 * np.arange(len(xy))]), heading


def heading_changes_rad(points: np.ndarray) -> np.ndarray:
    step = np.diff(points[:, :2], axis=0)
    return np.abs(geometry.wrap_rad(np.diff(np.arctan2(step[:, 1], step[:, 0]))))


# ------------------------------------------------------------------- what a policy sees


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(-0.05, 0.05), min_size=3, max_size=8),
    st.floats(0, 1), st.floats(-3, 3), st.floats(-0.5, 0.5), st.floats(-0.1, 0.1),
)  # fmt: skip
def test_waypoints_start_at_the_projection_and_lie_evenly_on_the_line(
    bends, part, aside, turn, pitch
):
    xyz, heading = curvy(bends)
    line = route_from_recording(recorded(xyz, heading))
    i = int(part * (len(xyz) - 1))
    pose = geometry.pose(*xyz[i], heading[i] + turn)
    pose = geometry.compose(
        pose, np.array([0, aside, 0, 0, np.sin(pitch / 2), 0, np.cos(pitch / 2)])
    )
    route, s = route_at(line, pose, 5)
    local = geometry.transform_points(pose, route.waypoints_rig)
    assert route.time_us == 5
    assert 2 <= len(local) <= ROUTE_COUNT
    assert np.isfinite(local).all()
    np.testing.assert_allclose(
        local, line.at(s + ROUTE_SPACING_M * np.arange(len(local))), atol=1e-9
    )
    ends = line.at(np.array([-50.0, line.length_m + 50.0]))
    endless = np.vstack([ends[:1], line.points, ends[1:]])
    nearest_s, nearest = geometry.project_on_polyline(pose[None, :2], endless)
    assert np.hypot(*(local[0] - pose[:3])[:2]) == pytest.approx(nearest[0], abs=1e-9)
    assert s == pytest.approx(nearest_s[0] - 50.0, abs=1e-6)


def test_spacing_on_a_straight_line_is_constant_and_z_stays_in_the_rig():
    xyz = straight(100)
    xyz[:, 2] = 0.1 * xyz[:, 0]
    pitch = -np.arctan(0.1) / 2
    pose = np.array([20.0, 0, 2.0, 0, np.sin(pitch), 0, np.cos(pitch)])
    route, s = route_at(route_from_recording(recorded(xyz)), pose, 0)
    assert s == pytest.approx(20.0)
    assert len(route.waypoints_rig) == ROUTE_COUNT
    step = np.diff(route.waypoints_rig, axis=0)
    np.testing.assert_allclose(
        np.linalg.norm(step, axis=1)[:15], ROUTE_SPACING_M * np.hypot(1, 0.1), rtol=1e-9
    )
    # On the slope, a rig that is pitched with it sees the way straight ahead.
    np.testing.assert_allclose(route.waypoints_rig[:15, 1:], 0, atol=1e-9)


def test_a_route_gets_shorter_towards_its_end_but_keeps_two_waypoints():
    line = RouteLine(straight(100))
    counts = [
        len(route_at(line, geometry.pose(x), 0)[0].waypoints_rig) for x in (0, 50, 80, 95, 99, 130)
    ]
    assert counts == [20, 12, 5, 2, 2, 2]
    route, s = route_at(line, geometry.pose(130.0, 1.0), 0)
    assert s == pytest.approx(130.0)
    np.testing.assert_allclose(
        route.waypoints_rig, [[0, -1, 0], [ROUTE_SPACING_M, -1, 0]], atol=1e-9
    )
    assert route_at(line, geometry.pose(-3.0), 0)[1] == pytest.approx(-3.0)


def test_the_last_projection_keeps_its_branch_where_the_line_crosses_itself():
    t = np.linspace(0, 2 * np.pi, 400)
    eight = np.stack([60 * np.sin(t), 60 * np.sin(t) * np.cos(t), 0 * t], axis=1)
    line = RouteLine(eight)
    middle = line.length_m / 2
    assert line.project(0.1, 0.1, near_s_m=3.0) == pytest.approx(0.14, abs=0.1)
    assert line.project(0.1, -0.1, near_s_m=middle - 5) == pytest.approx(middle, abs=0.5)


def test_a_position_beyond_the_part_looked_at_is_found_on_the_whole_line():
    line = RouteLine(straight(300))
    assert line.project(200.0, 1.0, near_s_m=10.0) == pytest.approx(200.0)
    assert line.project(10.0, 1.0, near_s_m=200.0) == pytest.approx(10.0)


def test_projections_along_a_drive_never_go_back():
    xyz, _ = curvy([0.05, -0.05, 0.1, -0.1, 0.0])
    line, near, seen = route_from_recording(recorded(xyz)), None, []
    for x, y, _ in xyz:
        near = line.project(x, y, near)
        seen.append(near)
    assert (np.diff(seen) > 0).all()


# ----------------------------------------------------------------------- the recording


def test_a_recorded_route_is_the_driven_path_thinned_to_20_cm():
    line = route_from_recording(recorded(straight(50, 0.05)))
    inside = line.points[line.s_m <= 50]
    assert np.diff(inside[:, 0]).min() >= 0.2 - 1e-9
    assert np.diff(inside[:, 0]).max() < 0.3
    np.testing.assert_allclose(line.points[:, 1:], 0, atol=1e-12)


def test_an_ego_that_stands_gets_a_route_straight_ahead_of_it():
    noise = np.random.default_rng(0).normal(0, 0.01, (200, 3)) * [1, 1, 0]
    line = route_from_recording(recorded(noise + [3.0, 4.0, 0.5], yaw=np.pi / 2))
    assert len(line.points) >= 2
    assert line.length_m >= 80
    np.testing.assert_allclose(line.points[:, 0], 3.0, atol=0.1)
    assert line.points[-1, 1] > 84
    route, _ = route_at(line, geometry.pose(3.0, 4.0, 0.5, np.pi / 2), 0)
    assert route.waypoints_rig[-1, 0] == pytest.approx(80, abs=0.2)


def test_points_that_fold_the_path_back_are_dropped():
    xyz = straight(40)
    xyz[20, 0] -= 6.0  # a jump back of one sample
    reverse = np.vstack([straight(20), straight(20)[::-1][:9], straight(40)[12:]])
    for path in (xyz, reverse):
        line = route_from_recording(recorded(path))
        assert heading_changes_rad(line.points).max() < 1e-9
        assert (np.diff(line.points[:, 0]) > 0).all()


def test_a_recorded_route_does_not_end_before_the_recording_does():
    slow = recorded(straight(10, 0.05), step_us=100_000)  # 20 s for 10 m
    assert route_from_recording(slow).length_m == pytest.approx(15 * 20.0, abs=1.0)
    fast = recorded(straight(300, 3.0))
    assert route_from_recording(fast).length_m == pytest.approx(380, abs=1.0)


def test_a_straight_extension_keeps_the_slope_for_40_m_and_is_then_level():
    xyz = straight(50)
    xyz[:, 2] = 0.05 * xyz[:, 0]
    line = route_from_recording(recorded(xyz))
    np.testing.assert_allclose(
        line.at(np.array([60.0, 90.0, 120.0]))[:, 2], [3.0, 4.5, 4.5], atol=1e-6
    )


def test_an_empty_recording_has_no_route():
    empty = Trajectory(np.zeros(0, dtype=np.int64), np.zeros((0, 7)))
    assert route_from_recording(empty) is None
    assert route_from_lanes(VectorMap(), empty) is None


@pytest.mark.parametrize(
    "points",
    [np.zeros((1, 3)), np.zeros((3, 3)), np.array([[0, 0, 0], [np.nan, 0, 0]]), np.zeros((4, 2))],
)
def test_a_line_refuses_points_that_make_no_route(points):
    with pytest.raises(ValueError, match="route"):
        RouteLine(points)


# ------------------------------------------------------------------------------- lanes


def fork(y_m: float = 0.0) -> VectorMap:
    """A lane along +x for 60 m, then straight on to 200 m, or a left turn; a lane beside it."""
    turn = np.linspace(0, np.pi / 2, 20)
    left = np.stack([60 + 15 * np.sin(turn), 15 - 15 * np.cos(turn) + y_m, 0 * turn], axis=1)
    return VectorMap(
        lanes=(
            Lane("a", straight(60, 5, y_m), successors=("a_left", "b"), left_lane="beside"),
            Lane("a_left", left, predecessors=("a",)),
            Lane("b", straight(200, 5, y_m)[12:], predecessors=("a",)),
            Lane("beside", straight(60, 5, y_m + 3.5), right_lane="a"),
            Lane("path", straight(200, 5, y_m + 0.5), kind="bike"),
        )
    )


def test_beyond_the_recording_the_route_takes_the_straightest_successor():
    line = route_from_recording(recorded(straight(40, 1.0, 0.8)), fork())
    assert line.length_m >= 120
    end = line.at(np.array([line.length_m]))[0]
    assert end[0] >= 120 - 1.0
    # It fades from 0.8 m beside the centre line into it, without a kink.
    assert line.at(np.array([40.0]))[0, 1] == pytest.approx(0.8, abs=1e-6)
    np.testing.assert_allclose(line.at(np.arange(60.0, 110.0))[:, 1], 0, atol=1e-6)
    assert heading_changes_rad(line.points).max() < np.deg2rad(5)


def test_beyond_the_recording_heights_go_on_from_the_recorded_ones():
    xyz = straight(40)
    xyz[:, 2] = 7.0
    lanes = fork().lanes
    raised = tuple(
        Lane(one.id, one.centerline + [0, 0, 50.0], successors=one.successors) for one in lanes
    )
    line = route_from_recording(recorded(xyz), VectorMap(lanes=raised))
    np.testing.assert_allclose(line.points[:, 2], 7.0, atol=1e-9)


def test_beyond_the_lanes_the_route_goes_straight_on():
    line = route_from_recording(recorded(straight(190)), fork())
    assert line.length_m == pytest.approx(15 * 19.0, abs=1.0)
    np.testing.assert_allclose(line.at(np.arange(210.0, 280.0, 10))[:, 1], 0, atol=1e-6)


def test_the_lane_route_is_the_centre_line_at_recorded_heights():
    xyz = straight(40, 0.5, 0.6)
    xyz[:, 1] += 0.2 * np.sin(xyz[:, 0])
    xyz[:, 2] = 1.0 + 0.01 * xyz[:, 0]
    line = route_from_lanes(fork(), recorded(xyz))
    assert line.notes == ()
    inside = line.at(np.linspace(0, 39, 50))
    np.testing.assert_allclose(inside[:, 1], 0, atol=1e-9)
    np.testing.assert_allclose(inside[:, 2], 1.0 + 0.01 * inside[:, 0], atol=1e-6)


def test_a_lane_change_is_spread_out():
    x = np.arange(0, 50.5, 0.5)
    y = 3.5 / (1 + np.exp(-(x - 25) / 1.5))
    line = route_from_lanes(fork(), recorded(np.stack([x, y, 0 * x], axis=1)))
    assert line.at(np.array([5.0]))[0, 1] == pytest.approx(0, abs=0.01)
    assert line.at(np.array([45.0]))[0, 1] == pytest.approx(3.5, abs=0.01)
    step = np.diff(line.points[line.s_m < 50], axis=0)
    assert np.abs(np.arctan2(step[:, 1], step[:, 0])).max() < 1.4 * np.arctan(3.5 / 6)


def test_where_no_lane_is_near_the_recorded_path_stays_and_a_note_says_so():
    away = straight(60)
    away[20:, 1] = np.minimum(2.0 * (away[20:, 0] - 20), 40.0)
    line = route_from_lanes(fork(), recorded(away))
    assert "no lane within 10 m" in line.notes[0]
    assert geometry.project_on_polyline(np.array([[55.0, 40.0]]), line.points)[1][0] < 0.1
    without = route_from_lanes(VectorMap(), recorded(away))
    np.testing.assert_allclose(
        geometry.project_on_polyline(away[:, :2], without.points)[1], 0, atol=0.3
    )
    assert without.notes


def test_an_oncoming_lane_nearby_is_not_taken():
    own = Lane("own", straight(100, 5))
    oncoming = Lane("oncoming", straight(100, 5, 1.0)[::-1].copy())
    alone = route_from_lanes(VectorMap(lanes=(oncoming,)), recorded(straight(60, 1.0, 0.9)))
    assert alone.notes
    np.testing.assert_allclose(alone.at(np.linspace(0, 59, 20))[:, 1], 0.9, atol=1e-9)
    line = route_from_lanes(VectorMap(lanes=(own, oncoming)), recorded(straight(60, 1.0, 0.9)))
    np.testing.assert_allclose(line.at(np.linspace(0, 59, 20))[:, 1], 0, atol=1e-9)
