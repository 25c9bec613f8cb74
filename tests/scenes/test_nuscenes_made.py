"""nuScenes: scenes made by hand, whole and damaged."""

from __future__ import annotations

import copy
import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import simplejpeg

from omniloop.core.errors import SceneError
from omniloop.core.scene import ActorClass, MarkColor, MarkStyle, Scene
from omniloop.scenes.nuscenes import NuScenesScenes


def state(
    xyz: list[list[float]], size: tuple[float, float, float], valid: list[int]
) -> dict[str, Any]:
    count = len(xyz)
    return {
        "position": xyz, "heading": [0.0] * count, "velocity": [[0.0, 0.0]] * count, "valid": valid,
        "length": [[size[0]]] * count, "width": [[size[1]]] * count, "height": [[size[2]]] * count,
    }  # fmt: skip


def scenario() -> dict[str, Any]:
    """Ego at 5 m/s along y = 0, a bus ahead, seen from 0.2 to 0.4 s, and a bicycle never seen."""
    ego = [[300 + 0.5 * i, 700.0, 0.0] for i in range(8)]
    bus = [[0.0, 0.0, 0.0]] * 2 + [[330.0, 700.0, 9.0]] * 3 + [[0.0, 0.0, 0.0]] * 3
    square = [[290, 690], [350, 690], [350, 710], [290, 710], [290, 690]]
    hole = [[300, 705], [310, 705], [310, 708], [300, 708], [300, 705]]
    return {
        "metadata": {"dataset": "nuscenes", "sdc_id": "ego", "ts": [0.1 * i for i in range(8)], "map": "boston"},
        "tracks": {
            "ego": {"metadata": {"type": "vehicle.car"}, "state": state(ego, (1.73, 4.08, 1.56), [1] * 8)},
            "bus": {
                "metadata": {"type": "vehicle.bus.rigid"},
                "state": state(bus, (12.0, 2.9, 3.2), [0, 0, 1, 1, 1, 0, 0, 0]),
            },
            "bike": {"metadata": {"type": "vehicle.bicycle"}, "state": state(ego, (0.0, 0.0, 0.0), [0] * 8)},
        },
        "map_features": {
            "lane": {
                "type": "LANE_SURFACE_STREET", "polyline": [[290, 700, 0.1], [320, 700, 0.2], [320, 700, 0.3]],
                "polygon": [[290, 698], [320, 698], [320, 702], [290, 702], [290, 698]],
            },
            "turn": {"type": "LANE_SURFACE_STREET", "polyline": [[320, 700, 0], [350, 700, 0]], "speed_limit_kmh": 100},
            "boundary_0": {"type": "ROAD_LINE_SOLID_SINGLE_WHITE", "polyline": square},
            "boundary_1": {"type": "ROAD_LINE_SOLID_SINGLE_WHITE", "polyline": hole},
            "divider": {"type": "ROAD_LINE_BROKEN_SINGLE_WHITE", "polyline": [[290, 702], [350, 702]]},
            "road": {"type": "ROAD_LINE_SOLID_SINGLE_YELLOW", "polyline": [[290, 698], [350, 698]]},
            "zebra": {"type": "CROSSWALK", "polygon": [[330, 690], [334, 690], [334, 710], [330, 710]]},
            "walk": {"type": "BOUNDARY_SIDEWALK", "polygon": []},
        },
    }  # fmt: skip


def load(folder: Path, raw: Any, name: str = "scene-0001") -> Scene:
    (folder / f"sd_nuscenes_{name}.json").write_text(json.dumps(raw))
    return NuScenesScenes(str(folder)).load(name)


def test_a_hand_made_scene_gives_what_was_put_in(tmp_path: Path):
    scene = load(tmp_path, scenario())
    np.testing.assert_array_equal(scene.dataset_to_local[:3, 3], [300, 700, 0])
    np.testing.assert_allclose(scene.ego.poses[:, 0], np.arange(8) * 0.5)
    (bus,) = scene.tracks
    assert bus.actor.actor_class is ActorClass.TRUCK
    assert bus.times_us.tolist() == [200_000, 300_000, 400_000]
    np.testing.assert_allclose(bus.local_to_aabb[:, :3], [[30, 0, 1.6]] * 3)
    assert scene.vehicle.length_m > scene.vehicle.width_m, "the file has them swapped"
    assert scene.tags == ("nuscenes", "boston")


def test_a_hand_made_map_gives_what_was_put_in(tmp_path: Path):
    made = load(tmp_path, scenario()).map
    lane, turn = made.lanes
    np.testing.assert_array_equal(lane.centerline, [[-10, 0, 0], [20, 0, 0]])
    assert len(lane.polygon) == 4
    assert (lane.successors, turn.predecessors) == (("turn",), ("lane",))
    assert turn.in_intersection
    assert [(x.style, x.color) for x in made.lane_lines] == [
        (MarkStyle.DASHED_SINGLE, MarkColor.WHITE),
        (MarkStyle.SOLID_SINGLE, MarkColor.YELLOW),
    ]
    (area,) = made.drivable_areas
    assert (len(area.outline), len(area.holes)) == (4, 1)
    assert len(made.crosswalks) == 1


def test_an_outline_that_crosses_itself_is_taken_by_the_even_odd_rule(tmp_path: Path):
    raw = scenario()
    del raw["map_features"]["boundary_1"]
    bow = [[290, 690], [350, 710], [350, 690], [290, 710], [290, 690]]
    raw["map_features"]["boundary_0"]["polyline"] = bow
    areas = load(tmp_path, raw).map.drivable_areas
    assert [shapely.Polygon(area.outline[:, :2]).area for area in areas] == [300.0, 300.0]


def test_lanes_are_linked_as_the_file_says_where_it_says_so(tmp_path: Path):
    raw = scenario()
    raw["map_features"]["turn"]["exit_lanes"] = ["lane", "beyond the map"]
    lane, turn = load(tmp_path, raw).map.lanes
    assert (lane.successors, lane.predecessors) == ((), ("turn",))
    assert (turn.successors, turn.predecessors) == (("lane",), ())


def damaged(*keys: str, value: Any = ...) -> dict[str, Any]:
    raw = copy.deepcopy(scenario())
    at = raw
    for key in keys[:-1]:
        at = at[key]
    if value is ...:
        del at[keys[-1]]
    else:
        at[keys[-1]] = value
    return raw


STATE = ("tracks", "bus", "state")


@pytest.mark.parametrize(
    ("raw", "complaint", "place"),
    [
        ([], "holds a list", ""),
        (damaged("metadata"), "lacks the key 'metadata'", ""),
        (damaged("metadata", "ts"), "lacks the key 'ts'", "metadata"),
        (damaged("metadata", "sdc_id"), "lacks the key 'sdc_id'", "metadata"),
        (
            damaged("metadata", "sdc_id", value="egg"),
            "lacks the key 'egg'.*Did you mean 'ego'",
            "tracks",
        ),
        (damaged("metadata", "dataset", value="waymo"), "a scene of 'waymo'", "metadata.dataset"),
        (
            damaged("metadata", "ts", value=[0, 0.1, 0.3, 0.2, 0.4, 0.5, 0.6, 0.7]),
            "not after 300000",
            "metadata.ts",
        ),
        (damaged("metadata", "ts", value=["now"]), "not an array of numbers", "metadata.ts"),
        (
            damaged("metadata", "ts", value=[0.0, 0.1]),
            r"valid has shape \(8,\), but there are 2",
            "track ego",
        ),
        (
            damaged("tracks", "ego", "state", "valid", value=[1] + [0] * 7),
            "has 1 recorded poses",
            "track ego",
        ),
        (
            damaged("tracks", "ego", "state", "heading", value=[math.nan] * 8),
            r"heading at 0 us is \[nan\], which is not finite",
            "track ego",
        ),
        (
            damaged("tracks", "ego", "state", "position", value=[[1]] * 8),
            "1 numbers per time, not 2",
            "track ego",
        ),
        (damaged(*STATE, "width"), "lacks the key 'width'", "track bus"),
        (
            damaged(*STATE, "position", value=[[1.0, math.inf, 0.0]] * 8),
            "is not finite",
            "track bus",
        ),
        (damaged(*STATE, "length", value=[[-1.0]] * 8), "is not positive", "track bus"),
        (damaged(*STATE, "valid", value=[1] * 3), r"shape \(3,\)", "track bus"),
        (damaged("tracks", "bus", "metadata"), "lacks the key 'metadata'", "track bus"),
        (damaged("map_features"), "lacks the key 'map_features'", ""),
        (damaged("map_features", value=[]), "is a list", ""),
        (
            damaged("map_features", "lane", "polyline"),
            "lacks the key 'polyline'",
            "map feature lane",
        ),
        (
            damaged("map_features", "lane", "polyline", value=[[1, 1]]),
            "fewer than two",
            "map feature lane",
        ),
        (
            damaged("map_features", "lane", "polyline", value=[[1, math.nan]] * 2),
            "is nan",
            "map feature lane",
        ),
        (
            damaged("map_features", "lane", "polyline", value=[1, 2]),
            "not a list of points",
            "map feature lane",
        ),
    ],
)
def test_a_damaged_scene_is_refused_by_file_and_place(tmp_path: Path, raw, complaint, place):
    with pytest.raises(SceneError, match=complaint) as caught:
        load(tmp_path, raw)
    assert "sd_nuscenes_scene-0001.json" in caught.value.where
    assert place in caught.value.where
    assert caught.value.remedy


def test_a_cut_off_file_is_refused(tmp_path: Path):
    whole = gzip.compress(json.dumps(scenario()).encode())
    (tmp_path / "sd_nuscenes_scene-0001.json.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SceneError, match="cannot be read"):
        NuScenesScenes(str(tmp_path)).load("scene-0001")


def first_frame(folder: Path) -> Path:
    out = folder / "scene-0001_first_frame"
    out.mkdir()
    jpeg = simplejpeg.encode_jpeg(np.zeros((9, 16, 3), dtype=np.uint8))
    (out / "front.jpg").write_bytes(jpeg)
    image = {
        "img_path": "front.jpg", "cam2img": [[10, 0, 8], [0, 10, 4.5], [0, 0, 1]], "timestamp": 99.99,
        "cam2ego": [[0, 0, 1, 1.7], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]],
    }  # fmt: skip
    entry = {"timestamp": 100.0, "images": {"CAM_FRONT": image}}
    (out / "info.json").write_text(json.dumps({"data_list": [entry]}))
    return out


def test_a_hand_made_first_frame_gives_what_was_put_in(tmp_path: Path):
    first_frame(tmp_path)
    scene = load(tmp_path, scenario())
    assert scene.first_frames[0].capture_us == -10_000
    assert scene.cameras[0].model.width == 16
    np.testing.assert_allclose(scene.cameras[0].rig_to_camera, [1.7, 0, 1.5, 0.5, -0.5, 0.5, -0.5])


@pytest.mark.parametrize(
    ("file", "data", "complaint"),
    [
        ("info.json", None, "lacks the file info.json"),
        ("info.json", b"{}", "lacks the key 'data_list'"),
        ("info.json", b'{"data_list": []}', "one keyframe"),
        ("info.json", b'{"data_list": [{"timestamp": 1, "images": []}]}', "not a mapping"),
        ("front.jpg", None, "cannot be read"),
        ("front.jpg", b"GIF89a", "no JPEG"),
    ],
)
def test_a_damaged_first_frame_is_refused(tmp_path: Path, file, data, complaint):
    target = first_frame(tmp_path) / file
    target.unlink()
    if data is not None:
        target.write_bytes(data)
    with pytest.raises(SceneError, match=complaint) as caught:
        load(tmp_path, scenario())
    assert "scene-0001_first_frame" in caught.value.where


def test_a_missing_or_empty_folder_says_what_it_should_look_like(tmp_path: Path):
    for give in (
        lambda: NuScenesScenes(str(tmp_path / "absent")),
        lambda: NuScenesScenes(str(tmp_path)).ids(),
    ):
        with pytest.raises(SceneError) as caught:
            give()
        assert "sd_nuscenes_" in caught.value.remedy


def test_an_unknown_scene_suggests_the_nearest(tmp_path: Path):
    load(tmp_path, scenario())
    with pytest.raises(SceneError, match="Did you mean 'scene-0001'"):
        NuScenesScenes(str(tmp_path)).load("scene-0002")


def test_two_files_of_one_scene_are_refused(tmp_path: Path):
    load(tmp_path, scenario())
    (tmp_path / "scene-0001.json").write_text("{}")
    with pytest.raises(SceneError, match="two files hold 'scene-0001'"):
        NuScenesScenes(str(tmp_path)).ids()
