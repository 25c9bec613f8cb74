import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.traffic.conflicts import arrival_s, brake_to_yield
from omniloop.traffic.entries import place_taken
from omniloop.traffic.lane_index import Line
from omniloop.traffic.paths import PathTable, Timetable, continued, recorded_path


def drive(steps, turn=0.0):
    """Poses at 10 Hz that go `steps` metres at a time and turn."""
    steps = np.asarray(steps, dtype=np.float64)
    yaw = turn * np.cumsum(steps)
    xy = np.cumsum(np.stack([steps * np.cos(yaw), steps * np.sin(yaw)], axis=1), axis=0)
    xyz = np.column_stack([xy, 0.01 * np.arange(len(steps))])
    return np.arange(len(steps)) / 10, geometry.poses_from_xyz_yaw(xyz, yaw)


@given(
    steps=st.lists(st.floats(0.0, 3.0), min_size=2, max_size=40),
    turn=st.floats(-0.1, 0.1),
)
def test_a_recorded_path_passes_where_the_actor_was_at_its_time(steps, turn):
    times, poses = drive(steps, turn)
    path = recorded_path(times, poses, np.ones(len(times), dtype=bool))
    table = PathTable([path], np.array([[4.5, 1.9, 1.6]]))
    assert np.all(np.diff(path.s_m) > 0)
    assert np.all(np.diff(path.done_m) >= 0)
    for t in range(len(times)):
        s = path.done_m[t : t + 1]
        found = table.poses(np.array([0]), s)[0]
        assert np.linalg.norm(found[:2] - poses[t, :2]) < 0.3


def test_a_standing_car_whose_annotation_trembles_stays_one_station():
    rng = np.random.default_rng(0)
    xyz = np.column_stack([rng.uniform(-0.1, 0.1, (50, 2)), np.zeros(50)])
    poses = geometry.poses_from_xyz_yaw(xyz, np.zeros(50))
    path = recorded_path(np.arange(50) / 10, poses, np.ones(50, dtype=bool))
    assert path.s_m[-1] < 0.3


def test_a_path_goes_on_without_a_jump_in_place_or_heading():
    times, poses = drive([1.0] * 20)
    path = recorded_path(times, poses, np.ones(20, dtype=bool))
    end = poses[-1, :3]
    beyond = end + np.array([[1.0, 0.1, 0], [2.0, 0.4, 0], [4.0, 1.6, 0], [9.0, 6.0, 0]])
    longer = continued(path, beyond, path.recorded_m, 5.0)
    assert np.all(np.diff(longer.s_m) > 0)
    gap = np.linalg.norm(np.diff(longer.local_to_aabb[:, :2], axis=0), axis=1)
    assert gap.max() < 1.6
    turn = np.abs(geometry.wrap_rad(np.diff(geometry.yaw_rad(longer.local_to_aabb))))
    assert turn.max() < 0.5
    assert longer.recorded_m == path.recorded_m
    assert np.isinf(longer.when_s[-1])


def test_recorded_speeds_are_smoothed_over_noise():
    done = np.cumsum(np.full((1, 40), 1.0), axis=1)
    done[0, 1::2] += 0.05
    timetable = Timetable(np.arange(40) * 100_000, done, np.ones((1, 40), dtype=bool))
    assert np.abs(timetable.speed_mps[0, 3:-3] - 10.0).max() < 0.2
    assert timetable.at(1_950_000)[0][0] == pytest.approx(20.525)


def test_time_of_arrival_by_hand():
    # From rest at 1 m/s^2: 8 m take 4 s. At speed already: distance by speed.
    found = arrival_s(np.array([8.0, 30.0, 0.0]), np.array([0.0, 10.0, 5.0]), np.full(3, 10.0))
    assert found == pytest.approx([4.0, 3.0, 0.0])


def test_yielding_either_comes_later_or_stops_before():
    room, speed = np.array([31.0, 11.0]), np.array([10.0, 10.0])
    brake = brake_to_yield(room, speed, np.array([4.0, 1e3]))
    # 30 m in 4 s from 10 m/s: 2 (40 - 30) / 16; 10 m to a stop: 100 / 20.
    assert brake == pytest.approx([-1.25, -5.0])


def test_who_comes_after_the_place_is_clear_does_not_brake():
    assert brake_to_yield(np.array([31.0]), np.array([2.0]), np.array([3.0]))[0] == 0.0


@pytest.mark.parametrize(
    ("x", "y", "yaw", "taken"),
    [(4.0, 0.0, 0.0, True), (5.2, 0.0, 0.0, False), (0.0, 2.6, 0.0, False), (0.0, 2.6, 0.6, True)],
)
def test_a_place_is_taken_with_half_a_metre_of_room(x, y, yaw, taken):
    size = np.array([4.5, 2.0, 1.5])
    others = geometry.pose(x, y, 0.0, yaw)[None]
    assert place_taken(geometry.pose(), size, others, size[None]) is taken


def test_nobody_takes_a_place_in_an_empty_world():
    assert not place_taken(geometry.pose(), np.ones(3), np.zeros((0, 7)), np.zeros((0, 3)))


@given(
    points=st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=8),
    steps=st.lists(st.floats(0.1, 3.0), min_size=2, max_size=40),
    turn=st.floats(-0.1, 0.1),
)
def test_a_line_projects_as_the_geometry_module_does(points, steps, turn):
    line = drive(steps, turn)[1][:, :3]
    found = Line(line).project(np.array(points))
    for a, b in zip(
        found, geometry.project_on_polyline(np.array(points), line[:, :2]), strict=True
    ):
        assert a == pytest.approx(b, abs=1e-9)


@given(turn=st.floats(-0.1, 0.1), who=st.integers(0, 2))
def test_a_table_with_one_other_path_is_that_of_all_paths(turn, who):
    sizes = np.array([[4.5, 1.9, 1.6], [12.0, 2.5, 3.0], [0.6, 0.6, 1.8]])
    paths = [recorded_path(*drive([k + 0.5] * 20), np.ones(20, dtype=bool)) for k in range(3)]
    other = recorded_path(*drive([1.2] * 33, turn), np.ones(33, dtype=bool))
    table = PathTable(paths, sizes).with_path(who, other)
    paths[who] = other
    anew = PathTable(paths, sizes)
    for name, values in vars(anew).items():
        if isinstance(values, np.ndarray):
            assert np.array_equal(getattr(table, name), values), name
