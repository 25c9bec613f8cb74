"""Waymo Open Motion Dataset: a scenario made by hand, read from each of its forms."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import shapely

from omniloop.core import geometry
from omniloop.core.contracts import SceneSource
from omniloop.core.errors import ConfigError, SceneError
from omniloop.core.scene import ActorClass, MarkColor, MarkStyle, Scene
from omniloop.scenes.native import scene_from_bytes, scene_to_bytes
from omniloop.scenes.protos.womd_pb2 import Scenario
from omniloop.scenes.surface import drivable_surface
from omniloop.scenes.tfrecord import crc32c
from omniloop.scenes.validate import validate_scene
from omniloop.scenes.womd import WomdScenes
from tests.scenes.womd_made import (
    SCENARIO_ID,
    STEPS,
    X0,
    Y0,
    as_json,
    framed,
    made_scenario,
    write_json,
    write_tfrecord,
)


def load(path: Path, **settings: str) -> Scene:
    source = WomdScenes(str(path), **settings)
    (name,) = source.ids()
    return source.load(name)


@pytest.fixture(scope="module")
def made() -> Scenario:
    return made_scenario()


@pytest.fixture(scope="module")
def scene(made: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("womd")
    return load(write_tfrecord(folder / "training.tfrecord-00000-of-01000", made))


# ---------------------------------------------------------------- what a scenario holds


def test_ego_is_the_recording_vehicle_with_its_rig_on_the_ground(scene: Scene):
    assert scene.id == SCENARIO_ID
    assert (scene.start_us, scene.end_us, len(scene.ego)) == (0, 9_000_000, STEPS)
    assert scene.ego.times_us[1] == 100_010
    np.testing.assert_allclose(scene.vehicle.size_m, [5.0, 2.1, 1.8], atol=1e-6)
    box = geometry.compose(scene.ego.poses, scene.vehicle.rig_to_aabb)
    dataset = box[:, :3] + scene.dataset_to_local[:3, 3]
    np.testing.assert_allclose(dataset[0], [X0 - 50, Y0 - 1.8, 59.9], atol=1e-6)
    np.testing.assert_allclose(dataset[-1], [X0 + 40, Y0 - 1.8, 59.9], atol=1e-6)
    assert np.abs(scene.ego.poses[:, 2]).max() < 1e-6
    assert np.abs(scene.ego.poses[0, :3]).max() <= 0.5
    assert (scene.dataset_to_local[:3, 3] == np.round(scene.dataset_to_local[:3, 3])).all()


def test_tracks_keep_gaps_classes_and_boxes(scene: Scene):
    tracks = {t.actor.id: t for t in scene.tracks}
    assert list(tracks) == ["7", "8", "9", "10"], "neither ego nor who is never valid"
    classes = {name: t.actor.actor_class for name, t in tracks.items()}
    assert classes == {
        "7": ActorClass.CAR, "8": ActorClass.CAR, "9": ActorClass.CYCLIST,
        "10": ActorClass.PEDESTRIAN,
    }  # fmt: skip
    assert tracks["8"].actor.is_static
    assert not tracks["7"].actor.is_static
    gap = tracks["9"].valid
    assert len(gap) == STEPS
    assert (~gap).sum() == (~gap[30:51]).sum() == 21
    np.testing.assert_allclose(tracks["7"].actor.size_m, [4.5, 2.0, 1.5])
    np.testing.assert_allclose(tracks["7"].local_to_aabb[:, 2], 0.75, atol=1e-6)
    assert geometry.yaw_rad(tracks["10"].local_to_aabb[:1])[0] == pytest.approx(np.pi / 2)


def test_lanes_keep_their_links_neighbours_limits_and_kinds(scene: Scene):
    lanes = scene.map.lane_by_id
    assert lanes["2"].successors == ("12", "13"), "13 names its entry only"
    assert lanes["12"].predecessors == ("2",)
    assert lanes["1"].predecessors == (), "lane 99 is not in the map"
    assert (lanes["2"].left_lane, lanes["2"].right_lane) == ("1", None)
    assert (lanes["1"].left_lane, lanes["1"].right_lane) == (None, "2")
    assert lanes["1"].speed_limit_mps == pytest.approx(11.176)
    assert lanes["3"].speed_limit_mps is None
    assert (lanes["3"].kind, lanes["1"].kind) == ("bike", "vehicle")
    assert {name for name, lane in lanes.items() if lane.in_intersection} == {"11", "12"}


def test_sides_come_from_what_is_beside_a_lane(scene: Scene):
    lanes = scene.map.lane_by_id
    offset = Y0 - scene.dataset_to_local[1, 3]
    for name, left, right in (("1", 3.6, 0.0), ("2", 0.0, -3.6), ("12", 0.0, -3.6)):
        np.testing.assert_allclose(lanes[name].left[:, 1], left + offset, atol=1e-9)
        np.testing.assert_allclose(lanes[name].right[:, 1], right + offset, atol=1e-9)
    # The bicycle lane goes west: its left is the yellow line, its right the kerb.
    np.testing.assert_allclose(lanes["3"].left[:, 1], 3.6 + offset, atol=1e-9)
    np.testing.assert_allclose(lanes["3"].right[:, 1], 6.4 + offset, atol=1e-9)
    assert (lanes["1"].left_line, lanes["1"].right_line) == ("31", "41")
    assert (lanes["2"].left_line, lanes["2"].right_line) == ("41", None), "an edge is no line"
    assert shapely.Polygon(lanes["1"].polygon[:, :2]).area == pytest.approx(60 * 3.6)


def test_lines_of_another_level_are_not_beside_a_lane(made: Scenario, tmp_path: Path):
    scenario = Scenario()
    scenario.CopyFrom(made)
    for feature in scenario.map_features:
        if feature.id == 52:
            for point in feature.road_edge.polyline:
                point.y, point.z = point.y + 0.4, point.z + 6.0
    found = load(write_tfrecord(tmp_path / "x.tfrecord", scenario)).map.lane_by_id["3"]
    widths = np.abs(found.right[:, 1] - found.centerline[:, 1])
    np.testing.assert_allclose(widths, 1.4, err_msg="as far as the other side, not the bridge")


def test_lines_across_a_lane_are_not_beside_it(made: Scenario, tmp_path: Path):
    scenario = Scenario()
    scenario.CopyFrom(made)
    line = scenario.map_features.add(id=91).road_line
    for y in (-30.0, 30.0):
        line.polyline.add(x=X0 + 40.0 + y / 6, y=Y0 + y, z=59.0)
    found = load(write_tfrecord(tmp_path / "x.tfrecord", scenario)).map.lane_by_id
    np.testing.assert_allclose(np.abs(found["3"].right - found["3"].centerline)[:, 1], 1.4)


def test_a_lane_of_unknown_width_says_so(scene: Scene):
    crossing = scene.map.lane_by_id["14"]
    assert (crossing.left, crossing.right, crossing.polygon) == (None, None, None)
    findings = [f for f in validate_scene(scene) if "no known sides" in f.what]
    assert len(findings) == 1
    assert findings[0].what.startswith("1 of 9 have no known sides: strips of 3.7 m")
    surface = drivable_surface(scene.map)
    assert surface.from_centerlines == 1


def test_the_recorded_ego_stays_on_the_surface_and_touches_nobody(scene: Scene):
    assert [f for f in validate_scene(scene) if f.severity != "info"] == []


def test_lines_edges_crosswalks_and_signs_are_taken(scene: Scene):
    styles = {line.id: (line.style, line.color) for line in scene.map.lane_lines}
    assert styles == {
        "31": (MarkStyle.SOLID_GROUP, MarkColor.YELLOW),
        "41": (MarkStyle.DASHED_SINGLE, MarkColor.WHITE),
    }, "a line of one point is left out"
    assert [edge.id for edge in scene.map.road_boundaries] == ["51", "52"]
    assert shapely.Polygon(scene.map.crosswalks[0].outline).area == pytest.approx(52.0)
    (sign,) = scene.map.signs
    assert (sign.kind, sign.lanes) == ("stop", ("2",))
    np.testing.assert_allclose(
        geometry.rotate(sign.local_to_sign[3:], [1.0, 0, 0]), [-1, 0, 0], atol=1e-12
    )


def test_signals_become_lights_with_a_shared_stop_line_at_their_stop_point(scene: Scene):
    straight, turn = scene.map.lights
    assert (straight.lanes, turn.lanes) == (("12",), ("13",))
    assert straight.states == ("off", "red", "green"), "off before it was first seen"
    assert straight.times_us.tolist() == [0, 500_010, 2_000_000]
    assert turn.states == ("off", "red")
    (line,) = scene.map.stop_lines
    assert line.lanes == ("12", "13")
    x = X0 - scene.dataset_to_local[0, 3]
    np.testing.assert_allclose(line.points[:, 0], x)
    assert np.ptp(line.points[:, 1]) == pytest.approx(3.6)
    facing = geometry.rotate(straight.local_to_light[3:], [1.0, 0, 0])
    np.testing.assert_allclose(facing, [-1, 0, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "off"), (1, "red"), (2, "yellow"), (3, "green"), (4, "red"), (5, "yellow"), (6, "green"), (7, "off"), (8, "off"), (99, "off")],
)  # fmt: skip
def test_every_signal_state_has_its_light(made: Scenario, tmp_path: Path, number: int, shown: str):
    scenario = Scenario()
    scenario.CopyFrom(made)
    for step in scenario.dynamic_map_states:
        for state in step.lane_states:
            state.state = number
    scene = load(write_tfrecord(tmp_path / "x.tfrecord", scenario))
    assert scene.map.lights[0].states[-1] == shown


def test_the_scene_survives_a_bundle(scene: Scene):
    data = scene_to_bytes(scene)
    back = scene_from_bytes(data, "x")
    assert scene_to_bytes(back) == data
    assert (back.ego.poses == scene.ego.poses).all()


# ---------------------------------------------------------------------- the wire format


def tag(number: int, wire: int) -> bytes:
    return bytes([number << 3 | wire])


def nested(number: int, data: bytes) -> bytes:
    length, out = len(data), b""
    while length > 127:
        out, length = out + bytes([length & 127 | 128]), length >> 7
    return tag(number, 2) + out + bytes([length]) + data


def doubles(values: dict[int, float]) -> bytes:
    return b"".join(tag(n, 1) + struct.pack("<d", v) for n, v in values.items())


def floats(values: dict[int, float]) -> bytes:
    return b"".join(tag(n, 5) + struct.pack("<f", v) for n, v in values.items())


def point(x: float, y: float, z: float) -> bytes:
    return doubles({1: x, 2: y, 3: z})


def test_bytes_with_the_published_field_numbers_are_understood(tmp_path: Path):
    """Written without the schema here: numbers and types of scenario.proto and map.proto."""
    states = [
        doubles({2: 100.0 + k, 3: 200.0, 4: 30.75})
        + floats({5: 4.5, 6: 2.0, 7: 1.5, 8: 0.0, 9: 10.0, 10: 0.0})
        + tag(11, 0) + b"\x01"
        for k in range(3)
    ]  # fmt: skip
    ego = tag(1, 0) + b"\x2a" + tag(2, 0) + b"\x01" + b"".join(nested(3, s) for s in states)
    ids = nested(9, bytes([7])) + nested(10, bytes([8, 9]))  # packed
    neighbor = tag(1, 0) + b"\x05" + tag(2, 0) + b"\x00" + tag(3, 0) + b"\x02"
    boundary = tag(1, 0) + b"\x00" + tag(2, 0) + b"\x01" + tag(3, 0) + b"\x06" + tag(4, 0) + b"\x02"
    lane = (
        doubles({1: 35.0}) + tag(2, 0) + b"\x01" + tag(3, 0) + b"\x01"
        + b"".join(nested(8, point(100.0 + 2 * k, 200.0, 30.0)) for k in range(3))
        + ids + nested(11, neighbor) + nested(13, boundary) + nested(14, boundary)
    )  # fmt: skip
    beside = b"".join(nested(8, point(100.0 + 2 * k, 203.0, 30.0)) for k in range(3))
    line = tag(1, 0) + b"\x07" + nested(2, point(95, 201.5, 30)) + nested(2, point(120, 201.5, 30))
    edge = tag(1, 0) + b"\x02" + nested(2, point(95, 198.0, 30)) + nested(2, point(120, 198.0, 30))
    outline = b"".join(nested(1, point(*p, 30)) for p in ((101, 198), (103, 198), (103, 202)))
    sign = tag(1, 0) + b"\x04" + nested(2, point(104, 198, 30))
    features = [(4, 3, lane), (5, 3, beside), (6, 4, line), (10, 5, edge), (11, 7, sign), (12, 8, outline)]  # fmt: skip
    features += [(13, 9, outline), (14, 10, outline)]  # a speed bump and a driveway
    signal = tag(1, 0) + b"\x04" + tag(2, 0) + b"\x03" + nested(3, point(102, 200, 30))
    data = b"".join(tag(1, 1) + struct.pack("<d", 0.1 * k) for k in range(3))
    data += (
        nested(2, ego) + tag(4, 0) + b"\x2a" + nested(5, b"abcdef0123456789") + tag(6, 0) + b"\x00"
    )
    data += nested(7, nested(1, signal)) + nested(7, b"") + nested(7, b"")
    data += b"".join(nested(8, tag(1, 0) + bytes([n]) + nested(kind, f)) for n, kind, f in features)
    data += tag(10, 0) + b"\x01" + nested(11, tag(1, 0) + b"\x00" + tag(2, 0) + b"\x01")
    data += nested(12, b"lidar") + nested(13, b"tokens")
    file = tmp_path / "x.tfrecord-00003-of-00150"
    file.write_bytes(framed(data))
    scene = load(file)
    assert scene.id == "abcdef0123456789"
    box = geometry.compose(scene.ego.poses, scene.vehicle.rig_to_aabb)[:, :3]
    expected = np.array([[100, 200, 30.75], [101, 200, 30.75], [102, 200, 30.75]])
    np.testing.assert_allclose(box + scene.dataset_to_local[:3, 3], expected)
    one = scene.map.lane_by_id["4"]
    assert (one.in_intersection, one.left_lane, one.left_line) == (True, "5", "6")
    assert one.speed_limit_mps == pytest.approx(15.6464)
    np.testing.assert_allclose(one.left[:, 1] - one.centerline[:, 1], 1.5)
    assert scene.map.lane_lines[0].color is MarkColor.YELLOW
    assert [e.id for e in scene.map.road_boundaries] == ["10"]
    assert [(s.id, s.lanes) for s in scene.map.signs] == [("11", ("4",))]
    assert [c.id for c in scene.map.crosswalks] == ["12"]
    assert scene.map.lights[0].states == ("green", "off")


# ------------------------------------------------------------------------- JSON files


def same_motion(a: Scene, b: Scene, tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(a.ego.poses, b.ego.poses, atol=tolerance)
    assert len(a.tracks) == len(b.tracks)
    for one, other in zip(a.tracks, b.tracks, strict=True):
        assert (one.valid == other.valid).all()
        np.testing.assert_allclose(one.local_to_aabb, other.local_to_aabb, atol=tolerance)
        assert one.actor.actor_class is other.actor.actor_class


@pytest.mark.parametrize("fill", [-1e4, 1e-4])
@pytest.mark.parametrize("unit", ["degrees", "radians"])
def test_json_is_the_same_scene_whatever_the_unit_and_the_fill_value(
    made: Scenario, scene: Scene, tmp_path: Path, unit: str, fill: float
):
    content = as_json(made, degrees=unit == "degrees", fill=fill)
    found = load(write_json(tmp_path / "tfrecord-00000-of-00150_2a173b334be3d32c.json", content))
    assert found.id == SCENARIO_ID
    assert found.tags == ("womd", "json", f"headings_in_{unit}")
    same_motion(found, scene)
    assert [t.actor.id for t in found.tracks] == [t.actor.id for t in scene.tracks]
    assert found.map.lights[0].states == scene.map.lights[0].states
    assert found.map.stop_lines[0].lanes == ("12", "13")
    assert [line.style for line in found.map.lane_lines] == [
        line.style for line in scene.map.lane_lines
    ]
    # JSON has no links, boundaries and neighbours: where lanes touch, and what is beside them.
    for lane in scene.map.lanes:
        other = found.map.lane_by_id[lane.id]
        assert set(other.successors) == set(lane.successors)
        assert other.kind == lane.kind
        if lane.left is not None:
            np.testing.assert_allclose(other.left, lane.left, atol=1e-9)
            np.testing.assert_allclose(other.right, lane.right, atol=1e-9)


def test_json_without_heights_and_ids_stands_on_the_plane(made: Scenario, tmp_path: Path):
    content = as_json(made, degrees=True, nocturne=True)
    found = load(write_json(tmp_path / "noct-7.json", content), ego="2")
    assert found.id == "noct-7"
    assert found.tags == ("womd", "json", "headings_in_degrees", "planar")
    assert [t.actor.id for t in found.tracks] == ["0", "1", "3", "4"]
    assert found.vehicle.height_m == 1.6
    assert (found.ego.poses[:, 2] == 0).all()
    for track in found.tracks:
        assert track.local_to_aabb[track.valid, 2] == pytest.approx(track.actor.size_m[2] / 2)
    assert {float(t.actor.size_m[2]) for t in found.tracks} == {1.6, 1.7}
    assert all((lane.centerline[:, 2] == 0).all() for lane in found.map.lanes)
    assert found.map.lights == (), "without ids nothing says which lane a signal rules"
    assert [f for f in validate_scene(found) if f.severity != "info"] == []


def test_a_single_missing_z_makes_the_world_a_plane(made: Scenario, tmp_path: Path):
    content = as_json(made)
    del content["roads"][0]["geometry"][3]["z"]
    found = load(write_json(tmp_path / "x.json", content))
    assert "planar" in found.tags
    assert (found.ego.poses[:, 2] == 0).all()
    lines = [*found.map.road_boundaries, *found.map.lane_lines, *found.map.stop_lines]
    assert all((line.points[:, 2] == 0).all() for line in lines)
    assert all((lane.centerline[:, 2] == 0).all() for lane in found.map.lanes)


def test_a_missing_height_is_the_classes_own(made: Scenario, tmp_path: Path):
    content = as_json(made)
    del content["objects"][3]["height"]
    content["objects"][4]["height"] = None
    found = load(write_json(tmp_path / "x.json", content))
    assert [float(t.actor.size_m[2]) for t in found.tracks[2:]] == [1.7, 1.7]


def test_without_masks_fill_values_are_gaps(made: Scenario, scene: Scene, tmp_path: Path):
    content = as_json(made)
    for one in content["objects"]:
        del one["valid"]
    same_motion(load(write_json(tmp_path / "x.json", content)), scene)


def test_an_object_marked_sdc_is_ego(made: Scenario, scene: Scene, tmp_path: Path):
    content = as_json(made)
    del content["metadata"]
    content["objects"][2]["is_sdc"] = True
    same_motion(load(write_json(tmp_path / "x.json", content)), scene)


# --------------------------------------------------------------------- files and ids


def test_files_of_all_forms_are_found_below_a_folder(made: Scenario, tmp_path: Path):
    (tmp_path / "training").mkdir()
    renamed = []
    for k in range(4):
        scenario = Scenario()
        scenario.CopyFrom(made)
        scenario.scenario_id = f"{k}{SCENARIO_ID[1:]}"
        renamed.append(scenario)
    write_tfrecord(tmp_path / "training" / "x.tfrecord-00000-of-00002", *renamed[:2])
    write_tfrecord(tmp_path / "training" / "x.tfrecord-00001-of-00002", renamed[2])
    (tmp_path / "one.pb").write_bytes(renamed[3].SerializeToString())
    write_json(tmp_path / "tfrecord-00005-of-00150_402.json", as_json(made))
    (tmp_path / "README.md").write_text("not a scenario")
    source = WomdScenes(str(tmp_path))
    assert isinstance(source, SceneSource)
    ids = sorted([s.scenario_id for s in renamed] + ["tfrecord-00005-of-00150_402"])
    assert source.ids() == ids
    assert WomdScenes(str(tmp_path)).load(ids[1]).id == ids[1], "without listing all first"
    assert [source.load(name).id for name in ids] == ids


def test_listing_reads_no_tracks(made: Scenario, tmp_path: Path):
    """The data's checksum is verified when a scenario is loaded: a listing does not notice."""
    data = bytearray(framed(made.SerializeToString()))
    at = data.index(struct.pack("<d", made.tracks[0].states[50].center_x))
    data[at] ^= 0xFF
    file = tmp_path / "x.tfrecord"
    file.write_bytes(data)
    source = WomdScenes(str(file))
    assert source.ids() == [SCENARIO_ID]
    with pytest.raises(SceneError, match="fail their checksum"):
        source.load(SCENARIO_ID)


def test_two_scenarios_of_one_id_are_refused(made: Scenario, tmp_path: Path):
    write_tfrecord(tmp_path / "a.tfrecord", made)
    shutil.copy(tmp_path / "a.tfrecord", tmp_path / "b.tfrecord")
    source = WomdScenes(str(tmp_path))
    for _ in range(2):  # asked again, it does not answer with half a list
        with pytest.raises(SceneError, match="two scenarios are called"):
            source.ids()


def test_wrong_paths_ids_and_settings_are_refused(made: Scenario, tmp_path: Path):
    with pytest.raises(SceneError, match="nothing at"):
        WomdScenes(str(tmp_path / "absent"))
    with pytest.raises(SceneError, match="no scenario file"):
        WomdScenes(str(tmp_path))
    write_tfrecord(tmp_path / "a.tfrecord", made)
    with pytest.raises(SceneError, match=f"Did you mean '{SCENARIO_ID}'"):
        WomdScenes(str(tmp_path)).load(SCENARIO_ID[:-1] + "d")
    with pytest.raises(ConfigError, match="'gon'") as caught:
        WomdScenes(str(tmp_path), heading_unit="gon")  # type: ignore[arg-type]
    assert caught.value.where == "scenes.heading_unit"


def test_another_object_can_be_ego_for_its_own_time(made: Scenario, tmp_path: Path):
    file = write_tfrecord(tmp_path / "a.tfrecord", made)
    found = load(file, ego="7")
    assert found.vehicle.length_m == 4.5
    assert "2252" in {t.actor.id for t in found.tracks}
    with pytest.raises(SceneError, match="no object 70") as caught:
        load(file, ego="70")
    assert "scenes.ego" in caught.value.remedy
    with pytest.raises(SceneError, match=r"not valid at step 30 \(3\.0 s\)"):
        load(file, ego="9")


def test_the_same_file_gives_the_same_bytes(made: Scenario, tmp_path: Path):
    file = write_tfrecord(tmp_path / "a.tfrecord", made)
    assert crc32c(scene_to_bytes(load(file))) == crc32c(scene_to_bytes(load(file)))
