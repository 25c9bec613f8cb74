"""Waymo Open Motion Dataset: what cannot be right, in each form."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omniloop.core.errors import SceneError
from omniloop.scenes import womd_json
from omniloop.scenes.protos.womd_pb2 import Scenario
from omniloop.scenes.validate import validate_scene
from omniloop.scenes.womd import WomdScenes
from tests.memory import traced_peak
from tests.scenes.womd_made import (
    SCENARIO_ID,
    as_json,
    framed,
    made_scenario,
    write_json,
    write_tfrecord,
)

MADE = made_scenario()
NAN = float("nan")


def fails(path: Path, **settings: str) -> SceneError:
    source = WomdScenes(str(path), **settings)
    with pytest.raises(SceneError) as caught:
        source.load(source.ids()[0])
    assert str(path) in caught.value.where
    assert caught.value.remedy
    return caught.value


# ----------------------------------------------------------------------- other messages


def nested(number: int, data: bytes) -> bytes:
    length, out = len(data), bytes([number << 3 | 2])
    while length > 127:
        out, length = out + bytes([length & 127 | 128]), length >> 7
    return out + bytes([length]) + data


def example(key: bytes) -> bytes:
    entry = nested(1, key) + nested(2, nested(2, nested(1, bytes(400))))
    return nested(1, nested(1, entry) + nested(1, entry))


FOREIGN = {
    "tf.Example of the dataset": (example(b"state/current/x"), "tf.Example of the dataset", "scenario/"),
    "another tf.Example": (example(b"image/encoded"), "tf.Example (its first feature is 'image/encoded')", "scenario/"),
    "another message": (nested(1, bytes(30)) + nested(2, b"frame"), "has no scenario_id", "scenario/"),
    "empty record": (b"", "has no scenario_id", "scenario/"),
    "text": (b"id,x,y\n1,2,3\n", "no protobuf message", "copy"),
    "a field beyond the end": (nested(1, bytes(30))[:-5], "no protobuf message", "copy"),
    "an id that is no name": (nested(5, b"../../etc/passwd"), "cannot be a folder name", "rename"),
    "a huge id": (nested(5, b"/" * 5_000_000), "cannot be a folder name", "rename"),
    "a damaged track": (nested(5, b"abc") + nested(2, b"\xff\xff\xff"), "is no Scenario message", "copy"),
}  # fmt: skip


@pytest.mark.parametrize("form", ["x.tfrecord", "x.pb"])
@pytest.mark.parametrize("case", FOREIGN)
def test_a_foreign_message_is_named(tmp_path: Path, case: str, form: str):
    data, what, remedy = FOREIGN[case]
    file = tmp_path / form
    file.write_bytes(data if form == "x.pb" else framed(data))
    error = fails(file)
    assert what in error.what
    assert len(error.what) < 500
    assert remedy in error.remedy
    assert ("record 0" in error.where) == (form == "x.tfrecord")


def test_a_file_of_no_form_is_refused(tmp_path: Path):
    (tmp_path / "scene.xml").write_text("<x/>")
    with pytest.raises(SceneError, match="no scenario file"):
        WomdScenes(str(tmp_path / "scene.xml"))


def test_a_cut_shard_is_named_with_its_record(tmp_path: Path):
    file = write_tfrecord(tmp_path / "x.tfrecord-00001-of-00150", MADE, MADE)
    file.write_bytes(file.read_bytes()[:-1000])
    source = WomdScenes(str(file))
    with pytest.raises(SceneError, match="cut off") as caught:
        source.ids()
    assert caught.value.where == f"{file}, record 1"


# --------------------------------------------------------------------- bad scenarios

Change = Callable[[Scenario], None]


def set_ego_valid(*steps: int) -> Change:
    def change(s: Scenario) -> None:
        for k, state in enumerate(s.tracks[2].states):
            state.valid = k in steps

    return change


def later_ego(s: Scenario) -> None:
    s.tracks[2].states[0].valid = False


def set_on(path: str, value: Any) -> Change:
    """Set a field by a path such as ``tracks[2].states[5].center_x``."""

    def change(s: Scenario) -> None:
        holder, _, name = path.rpartition(".")
        target = eval(f"s.{holder}" if holder else "s", {}, {"s": s})
        setattr(target, name, value)

    return change


def set_time(step: int, value: float) -> Change:
    def change(s: Scenario) -> None:
        s.timestamps_seconds[step] = value

    return change


SCENARIOS: dict[str, tuple[Change, str, str]] = {
    "no sdc": (lambda s: s.ClearField("sdc_track_index"), "does not say which object recorded", ""),
    "sdc beyond the tracks": (set_on("sdc_track_index", 6), "sdc_track_index is 6, but there are 6 tracks", ""),
    "negative sdc": (set_on("sdc_track_index", -1), "sdc_track_index is -1", ""),
    "sdc not valid at the start": (later_ego, "not valid before step 1", "track 2252"),
    "sdc never valid": (set_ego_valid(), "not valid at any step", "track 2252"),
    "sdc with a gap": (set_on("tracks[2].states[40].valid", False), "not valid at step 40 (4.0 s)", "track 2252"),
    "sdc once": (set_ego_valid(0), "the ego has 1 recorded poses", "track 2252"),
    "NaN position": (set_on("tracks[0].states[7].center_y", NAN), "step 7 is marked valid, but", "track 7"),
    "NaN heading of ego": (set_on("tracks[2].states[3].heading", NAN), "step 3 is marked valid, but", "track 2252"),
    "infinite size": (set_on("tracks[3].states[0].length", float("inf")), "step 0 is marked valid, but", "track 9"),
    "no size": (lambda s: [setattr(x, "width", 0.0) for x in s.tracks[0].states], "not positive", "track 7"),
    "time going back": (set_time(20, 1.85), "step 20 is at 1.850000 s, not after step 19 at 1.900010 s", "timestamps_seconds"),
    "time standing": (set_time(1, 0.0), "step 1 is at 0.000000 s, not after step 0", "timestamps_seconds"),
    "NaN time": (set_time(4, NAN), "timestamps_seconds at index (4,) is nan", "timestamps_seconds"),
    "time in nanoseconds": (set_time(90, 1.6e18), "a time of 1.6e+18 s", "timestamps_seconds"),
    "a time too many": (lambda s: s.timestamps_seconds.append(9.1), "91 states, but there are 92 times", "track 7"),
    "no times": (lambda s: s.ClearField("timestamps_seconds"), "91 states, but there are 0 times", "track 7"),
    "a state missing": (lambda s: s.tracks[4].states.pop(), "90 states, but there are 91 times", "track 10"),
    "no tracks": (lambda s: s.ClearField("tracks"), "sdc_track_index is 2, but there are 0 tracks", ""),
    "a track twice": (set_on("tracks[0].id", 8), "two tracks have the id 8", ""),
    "a lane twice": (set_on("map_features[0].id", 2), "ids of map features occur more than once: 2", ""),
    "NaN in the map": (set_on("map_features[3].lane.polyline[2].x", NAN), "points at index (2, 0) is nan", "map feature 12"),
    "NaN stop point": (set_on("dynamic_map_states[9].lane_states[1].stop_point.y", NAN), "is nan", "dynamic_map_states 9, lane 13"),
    "signals beyond the end": (lambda s: s.dynamic_map_states.add(), "92 dynamic_map_states, but 91 times", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", SCENARIOS)
def test_a_bad_scenario_is_refused_with_file_record_and_place(tmp_path: Path, case: str):
    change, what, where = SCENARIOS[case]
    scenario = Scenario()
    scenario.CopyFrom(MADE)
    change(scenario)
    error = fails(write_tfrecord(tmp_path / "x.tfrecord", scenario))
    assert what in error.what
    assert f"x.tfrecord, record 0{', ' if where else ''}{where}" in error.where


def test_an_empty_map_is_a_scene_that_says_so(tmp_path: Path):
    scenario = Scenario()
    scenario.CopyFrom(MADE)
    del scenario.map_features[:]
    found = WomdScenes(str(write_tfrecord(tmp_path / "x.tfrecord", scenario))).load(SCENARIO_ID)
    assert (found.map.lanes, found.map.lights) == ((), ())
    assert ("map", "is empty") in {(f.where, f.what) for f in validate_scene(found)}


def test_indices_and_ids_that_point_nowhere_do_not_matter_to_the_map(tmp_path: Path):
    scenario = Scenario()
    scenario.CopyFrom(MADE)
    lane = scenario.map_features[0].lane
    lane.left_boundaries[0].lane_start_index = -5
    lane.left_boundaries[0].lane_end_index = 2**31 - 1
    lane.right_boundaries[0].boundary_feature_id = 2**62
    lane.right_neighbors[0].feature_id = -1
    lane.speed_limit_mph = NAN
    lane.entry_lanes.append(1)
    found = WomdScenes(str(write_tfrecord(tmp_path / "x.tfrecord", scenario))).load(SCENARIO_ID)
    one = found.map.lane_by_id["1"]
    assert (one.left_line, one.right_line, one.right_lane) == ("31", "41", None)
    assert one.speed_limit_mps is None
    assert "1" not in one.successors


# -------------------------------------------------------------------------- bad JSON

CONTENT = as_json(MADE)


def put(*keys: Any, value: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def drop(*keys: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


JSON: dict[str, tuple[Callable[[Any], None], str, str]] = {
    "no objects": (drop("objects"), "lacks the key 'objects'", ""),
    "no roads": (drop("roads"), "lacks the key 'roads'", ""),
    "objects by name": (put("objects", value={}), "'objects' is a dict, not a list", ""),
    "an object that is a number": (put("objects", 1, value=7), "holds a int", "object 1"),
    "an id twice": (put("objects", 0, "id", value=8), "2 objects have the id 8", ""),
    "no position": (drop("objects", 0, "position"), "lacks the key 'position'", "object 7"),
    "positions that are numbers": (put("objects", 0, "position", value=[1.0] * 91), "no list of points", "object 7"),
    "a position without y": (drop("objects", 0, "position", 3, "y"), "no list of points with x and y: KeyError('y')", "object 7"),
    "a word as x": (put("objects", 0, "position", 3, "x", value="far"), "no list of points", "object 7"),
    "a number of 400 digits": (put("objects", 0, "position", 3, "x", value=10**400), "no list of points", "object 7"),
    "NaN position": (put("objects", 0, "position", 3, "x", value=NAN), "step 3 is marked valid but holds a position that is not finite", "object 7"),
    "infinite position": (put("objects", 0, "position", 3, "z", value=1e999), "not finite", "object 7"),
    "null position": (put("objects", 0, "position", 3, "x", value=None), "not finite", "object 7"),
    "NaN heading": (put("objects", 0, "heading", 3, value=NAN), "step 3 is marked valid but holds a heading that is not finite", "object 7"),
    "a fill value marked valid": (put("objects", 0, "position", 3, value={"x": -1e4, "y": -1e4, "z": -1e4}), "step 3 is marked valid but holds the converter's fill value", "object 7"),
    "a heading missing": (drop("objects", 0, "heading", 90), "'heading' has shape (90,), but there are 91 positions", "object 7"),
    "one heading for all": (put("objects", 0, "heading", value=0.3), "'heading' has shape ()", "object 7"),
    "a mask too long": (put("objects", 0, "valid", value=[True] * 92), "'valid' has shape (92,)", "object 7"),
    "words as mask": (put("objects", 0, "valid", value=["yes"] * 91), "'valid' is no list of numbers", "object 7"),
    "no width": (drop("objects", 0, "width"), "lacks the key 'width'", "object 7"),
    "a word as length": (put("objects", 0, "length", value="long"), "length, width, height is not an array of numbers", "object 7"),
    "a length of 400 digits": (put("objects", 0, "length", value=10**400), "length, width, height is not an array of numbers", "object 7"),
    "negative width": (put("objects", 0, "width", value=-2.0), "not positive", "track 7"),
    "sdc beyond the objects": (put("metadata", "sdc_track_index", value=6), "sdc_track_index is 6, but there are 6 objects", "metadata"),
    "sdc by name": (put("metadata", "sdc_track_index", value="2252"), "sdc_track_index is '2252'", "metadata"),
    "no sdc": (drop("metadata"), "does not say which object recorded", ""),
    "metadata a list": (put("metadata", value=[1]), "'metadata' is a list", ""),
    "a road that is a number": (put("roads", 2, value=5), "holds a int", "road 2"),
    "a road without geometry": (drop("roads", 0, "geometry"), "lacks the key 'geometry'", "road 1"),
    "NaN in the map": (put("roads", 0, "geometry", 4, "y", value=NAN), "geometry at index (4, 1) is nan", "road 1"),
    "a number as type": (put("roads", 0, "type", value=3), "'type' is 3, not a word", "road 1"),
    "a lane twice": (put("roads", 0, "id", value=2), "ids of map features occur more than once: 2", ""),
    "signals a list": (put("tl_states", value=[1]), "'tl_states' is a list", ""),
    "an unknown state": (put("tl_states", "12", "state", 0, value="blue"), "state 'blue' is unknown", "tl_states of lane 12"),
    "a signal beyond the end": (put("tl_states", "12", "time_index", 0, value=91), "beyond the 91 steps", "tl_states of lane 12"),
    "signals without places": (drop("tl_states", "12", "x"), "lacks the key 'x'", "tl_states of lane 12"),
    "places missing": (drop("tl_states", "12", "y", 0), "'y' has shape (85,)", "tl_states of lane 12"),
}  # fmt: skip


@pytest.mark.parametrize("case", JSON)
def test_bad_json_is_refused_with_file_and_place(tmp_path: Path, case: str):
    change, what, where = JSON[case]
    content = copy.deepcopy(CONTENT)
    change(content)
    error = fails(write_json(tmp_path / "x.json", content))
    assert what in error.what
    assert f"x.json{', ' if where else ''}{where}" in error.where


TEXTS = {
    "cut": (json.dumps(CONTENT)[:50_000], "is not JSON"),
    "empty": ("", "is not JSON"),
    "a list": ("[1, 2]", "holds a list"),
    "nested too deep": ("[" * 200_000 + "]" * 200_000, "is not JSON"),
    "a number of 10000 digits": ('{"objects": [], "roads": [], "x": ' + "9" * 10_000 + "}", "is not JSON"),
    "no objects at all": ('{"objects": [], "roads": []}', "does not say which object recorded"),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_text_that_is_no_scenario_is_refused(tmp_path: Path, case: str):
    text, what = TEXTS[case]
    assert what in fails(write_json(tmp_path / "x.json", text)).what


def test_other_bytes_are_not_json(tmp_path: Path):
    (tmp_path / "x.json").write_bytes(b"\x89PNG\xff\xfe\x00")
    assert "is not JSON" in fails(tmp_path / "x.json").what


def test_objects_of_different_lengths_are_refused(tmp_path: Path):
    content = copy.deepcopy(CONTENT)
    for key in ("position", "heading", "valid"):
        content["objects"][1][key].pop()
    error = fails(write_json(tmp_path / "x.json", content))
    assert "objects have 90 to 91 steps" in error.what


def test_a_file_too_long_is_not_read(tmp_path: Path):
    file = tmp_path / "x.json"
    with file.open("wb") as out:  # a hole: it takes no room on the disk
        out.truncate(womd_json.MAX_JSON_BYTES + 1)
    assert_refused_unread(file)


def assert_refused_unread(file: Path) -> None:
    fails(file)  # imports what reads it
    with traced_peak() as peak:
        assert "is longer than" in fails(file).what
    assert peak.size < 1_000_000


def test_a_scenario_file_of_10_gb_is_not_read(tmp_path: Path):
    file = tmp_path / "x.pb"
    file.write_bytes(nested(5, b"abc"))
    with file.open("ab") as out:
        out.truncate(10 << 30)
    assert_refused_unread(file)


def test_a_damaged_file_of_several_is_listed_by_its_name(tmp_path: Path) -> None:
    write_tfrecord(tmp_path / "b.tfrecord", MADE)
    (tmp_path / "a.tfrecord").write_bytes((tmp_path / "b.tfrecord").read_bytes()[:-10])
    source = WomdScenes(str(tmp_path))
    assert source.ids() == sorted(["a.tfrecord", SCENARIO_ID])
    assert source.load(SCENARIO_ID).id == SCENARIO_ID
    with pytest.raises(SceneError, match="is cut off") as caught:
        source.load("a.tfrecord")
    assert "a.tfrecord" in caught.value.where


def test_numbers_and_words_that_no_scenario_has_are_named(tmp_path: Path) -> None:
    for key, value, message in (
        ("state", [None], "state [None] is unknown"),
        ("state", "9" * 5000, "is unknown"),
        ("y", 1e308, "is 1e+308"),
    ):
        raw = as_json(MADE)
        next(iter(raw["tl_states"].values()))[key][0] = value
        error = fails(write_json(tmp_path / "a_0123456789ab.json", raw))
        assert message in error.what
        assert len(error.what) < 300
    far = made_scenario()
    far.tracks[2].states[1].center_x = 1e300
    (tmp_path / "far.pb").write_bytes(far.SerializeToString())
    assert "or beyond 1e+30" in fails(tmp_path / "far.pb").what
