"""Shared parts of scene readers."""

from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.scene import ActorClass, Track
from omniloop.scenes import build
from omniloop.scenes.opening import open_scenes

COORDINATES = st.floats(-20_000, 20_000, allow_nan=False)


@given(st.tuples(COORDINATES, COORDINATES, COORDINATES))
def test_the_origin_is_a_whole_metre_within_half_a_metre_of_the_ego(position):
    origin = build.local_origin(position)
    assert (origin == np.rint(origin)).all()
    assert np.abs(build.to_local(position, origin)).max() <= 0.5


@given(st.lists(st.tuples(COORDINATES, COORDINATES, COORDINATES), min_size=1, max_size=20))
def test_local_points_lead_back_to_the_dataset_within_a_nanometre(points):
    origin = build.local_origin(points[0])
    local = build.to_local(np.array(points), origin)
    back = local @ build.dataset_to_local(origin)[:3, :3].T + build.dataset_to_local(origin)[:3, 3]
    np.testing.assert_allclose(back, points, rtol=0, atol=1e-9)


def test_to_local_moves_poses_and_keeps_their_rotation():
    pose = geometry.pose(100.25, 7.5, 3.0, yaw_rad=0.3)
    moved = build.to_local(pose, np.array([100.0, 7.0, 3.0]))
    np.testing.assert_array_equal(moved[:3], [0.25, 0.5, 0.0])
    np.testing.assert_array_equal(moved[3:], pose[3:])


GRID_US = np.arange(10, dtype=np.int64) * 100_000


def track(
    rows: list[int], *, kind: ActorClass = ActorClass.CAR, step_m: float = 1.0, **changes: object
) -> Track:
    xyz = np.column_stack([np.array(rows) * step_m, np.zeros(len(rows)), np.ones(len(rows))])
    given_: dict[str, object] = {
        "label": "car", "size_m": (4.0, 2.0, 1.5), "times_us": GRID_US[rows], "grid_us": GRID_US,
        "local_to_aabb": geometry.poses_from_xyz_yaw(xyz, np.zeros(len(rows))), "where": "a.json",
    }  # fmt: skip
    return build.make_track("7", kind, **(given_ | changes))  # type: ignore[arg-type]


def test_a_track_covers_the_grid_from_its_first_to_its_last_sample_with_gaps_invalid():
    made = track([2, 3, 6])
    np.testing.assert_array_equal(made.times_us, GRID_US[2:7])
    np.testing.assert_array_equal(made.valid, [True, True, False, False, True])
    np.testing.assert_array_equal(made.local_to_aabb[made.valid, 0], [2, 3, 6])
    np.testing.assert_array_equal(made.local_to_aabb[2], geometry.IDENTITY)


def test_a_track_of_one_sample_holds_that_sample():
    made = track([9])
    np.testing.assert_array_equal(made.times_us, GRID_US[9:])
    assert made.valid.tolist() == [True]


def test_the_box_size_is_the_median_of_the_sizes():
    sizes = np.array([[4.0, 2.0, 1.5], [4.2, 2.0, 1.5], [9.0, 2.0, 1.5]])
    np.testing.assert_array_equal(track([0, 1, 2], size_m=sizes).actor.size_m, [4.2, 2.0, 1.5])


@pytest.mark.parametrize(
    ("kind", "step_m", "static"),
    [
        (ActorClass.CAR, 0.1, True),
        (ActorClass.CAR, 0.2, False),
        (ActorClass.OTHER, 0.0, True),
        (ActorClass.PEDESTRIAN, 0.0, False),
        (ActorClass.CYCLIST, 0.0, False),
    ],
)
def test_what_stays_within_half_a_metre_is_static_unless_it_is_alive(kind, step_m, static):
    assert track(list(range(10)), kind=kind, step_m=step_m).actor.is_static is static


def test_a_reader_that_knows_better_decides_what_is_static():
    assert track([0, 9], is_static=True).actor.is_static


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"times_us": GRID_US[[2, 6, 3]]}, "300000 us is not after 600000"),
        ({"times_us": GRID_US[[2, 3, 3]]}, "300000 us is not after 300000"),
        ({"times_us": GRID_US[[2, 3, 6]] + 1}, "not among the recording's"),
        ({"times_us": GRID_US[[2, 3, 6]] + 10**9}, "not among the recording's"),
        ({"size_m": (4.0, 0.0, 1.5)}, "not positive"),
        ({"size_m": (4.0, np.nan, 1.5)}, "not positive"),
        ({"local_to_aabb": np.full((3, 7), np.nan)}, "at 200000 us is not finite"),
    ],
)
def test_an_impossible_track_is_refused_by_file_track_and_value(changes, complaint):
    with pytest.raises(SceneError, match=complaint) as caught:
        track([2, 3, 6], **changes)
    assert caught.value.where == "a.json, track 7"
    assert caught.value.remedy


def test_a_track_without_samples_is_refused():
    with pytest.raises(SceneError, match="without samples"):
        track([])


@pytest.mark.parametrize(
    ("times", "poses", "complaint"),
    [
        ([0], [geometry.pose()], "1 recorded poses"),
        ([0, 0], [geometry.pose()] * 2, "is not after"),
        ([5, 3], [geometry.pose()] * 2, "is not after"),
        ([0, 1], [geometry.pose(), geometry.pose(x=np.nan)], "not finite"),
        ([0, 1], [geometry.pose(), np.zeros(7)], "not a unit"),
    ],
)
def test_an_impossible_ego_is_refused_by_file_and_value(times, poses, complaint):
    with pytest.raises(SceneError, match=complaint) as caught:
        build.recorded_ego(np.array(times), np.array(poses), "poses.feather")
    assert caught.value.where == "poses.feather"


def test_the_centre_line_of_a_straight_lane_runs_halfway():
    left = np.array([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0], [10.0, 2.0, 1.0]])
    right = np.array([[0.0, -1.0, 0.0], [10.0, -1.0, 0.0]])
    line = build.centerline(left, right)
    np.testing.assert_allclose(line[:, 1:], np.tile([0.5, 0.5], (len(line), 1)))
    np.testing.assert_allclose(line[[0, -1], 0], [0.0, 10.0])
    assert np.diff(line[:, 0]).max() <= 2.0


def test_the_strip_between_two_boundaries_is_counter_clockwise_and_open():
    left, right = np.array([[0.0, 1, 0], [5, 1, 0]]), np.array([[0.0, 0, 0], [5, 0, 0]])
    strip = build.between_boundaries(left, right)
    np.testing.assert_array_equal(strip[:, :2], [[0, 0], [5, 0], [5, 1], [0, 1]])


def test_boundaries_that_meet_in_a_point_give_it_once():
    left, right = np.array([[0.0, 0, 0], [5, 1, 0]]), np.array([[0.0, 0, 0], [5, 0, 0]])
    assert len(build.between_boundaries(left, right)) == 3


def test_repeated_points_are_dropped():
    points = np.array([[0.0, 0, 0], [0, 0, 5], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(build.without_repeats(points)[:, 0], [0, 1, 0])
    np.testing.assert_array_equal(build.without_repeats(points, closed=True)[:, 0], [0, 1])


def test_json_is_read_plain_and_gzipped(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"x": 1}')
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b'{"x": 1}'))
    assert (
        build.read_json(tmp_path / "a.json") == build.read_json(tmp_path / "a.json.gz") == {"x": 1}
    )


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        ("a.json", b'{"x": ', "is not JSON"),
        ("a.json", b"\xff\xfe\x00", "is not JSON"),
        (
            "a.json.gz",
            gzip.compress(json.dumps(list(range(9999))).encode())[:-40],
            "cannot be read",
        ),
        ("a.json.gz", b'{"x": 1}', "cannot be read"),
        ("b.json", None, "cannot be read"),
    ],
)
def test_a_damaged_file_is_named_with_a_remedy(tmp_path: Path, name, data, complaint):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(SceneError, match=complaint) as caught:
        build.read_json(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)
    assert "copy" in caught.value.remedy


def test_a_missing_key_is_named_with_the_nearest():
    with pytest.raises(SceneError, match=r"lacks the key 'tracks'.*Did you mean 'track'"):
        build.member({"track": 1}, "tracks", "a.json")
    with pytest.raises(SceneError, match="holds a list"):
        build.member([], "tracks", "a.json")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([[0, 1], [2]], "not an array of numbers"),
        ("far", "not an array of numbers"),
        ([[0, 1, 2]], r"shape \(1, 3\), not \(N, 2\)"),
        ([[0, 1], [np.nan, 3]], r"position at index \(1, 0\) is nan"),
    ],
)
def test_values_of_another_kind_or_shape_are_refused(values, complaint):
    with pytest.raises(SceneError, match=complaint):
        build.finite_array(values, (None, 2), "position", "a.json")


def test_an_unknown_scene_suggests_the_nearest_and_lists_some():
    error = build.unknown_scene("scene-006", [f"scene-{i:04}" for i in range(60, 70)], "data", "")
    assert "Did you mean 'scene-006" in error.what
    assert "and 5 more" in error.remedy


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "..", "é"])
def test_ids_that_are_no_folder_names_are_refused(name):
    with pytest.raises(SceneError, match="cannot be a folder name"):
        build.safe_id(name, "here")


def test_a_missing_path_says_what_it_should_look_like(tmp_path: Path):
    with pytest.raises(SceneError, match="nothing at") as caught:
        build.existing(tmp_path / "absent", "give a folder of logs")
    assert caught.value.remedy == "give a folder of logs"


def test_a_gzipped_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MAX_DOCUMENT_BYTES", 1 << 20)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b" " * (1 << 20) + b"1"))
    with pytest.raises(SceneError, match="unpacks to more than 1 MiB"):
        build.read_json(tmp_path / "a.json.gz")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("nuscenes", "scene-0001.json"), ("womd", "a.pb"), ("womd", "a.tfrecord"), ("womd", "a.json"),
        ("native", "a.zip"), ("usdz", "a.usdz"), ("commonroad", "a.xml"),
    ],
)  # fmt: skip
def test_a_pipe_is_refused_and_not_waited_for(source: str, name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    done: list[str] = []

    def read() -> None:
        try:
            scenes = open_scenes(source, {}, str(tmp_path / name))
            scenes.load(scenes.ids()[0])
        except SceneError as error:
            done.append(error.where)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(120)  # a read of it would wait for ever
    assert [place.startswith(str(tmp_path / name)) for place in done] == [True]
