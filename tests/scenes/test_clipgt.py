"""HD-map archives: the ClipGT layout, what comes back of a scene, what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omniloop.core import geometry
from omniloop.core.camera_fit import fit_error_rad
from omniloop.core.cameras import Camera, PinholeCamera, default_camera, optical_from_flu
from omniloop.core.errors import SceneError
from omniloop.core.motion import Trajectory
from omniloop.core.registry import create
from omniloop.core.scene import (
    Area,
    Lane,
    LaneLine,
    MarkColor,
    MarkStyle,
    Polyline,
    Scene,
    TrafficLight,
    TrafficSign,
    VectorMap,
)
from omniloop.scenes import clipgt
from omniloop.scenes.clipgt import clip_id_of, read_clipgt, write_clipgt
from omniloop.scenes.clipgt_write import lane_rails
from omniloop.scenes.embedded import EmbeddedScenes

TIMES = np.array([0, 100_000, 200_000], dtype=np.int64)
EGO = Trajectory(TIMES, geometry.poses_from_xyz_yaw(np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]), np.zeros(3)))  # fmt: skip


def a_scene(scene_id: str = "s", **parts: object) -> Scene:
    return Scene(scene_id, "test", EGO, map=VectorMap(**parts))  # type: ignore[arg-type]


def line(*points: tuple[float, float]) -> np.ndarray:
    return np.array([(x, y, 0.0) for x, y in points])


def lane(name: str, y: float = 0.0, **more: object) -> Lane:
    return Lane(name, line((0, y), (10, y)), line((0, y + 2), (10, y + 2)), line((0, y - 2), (10, y - 2)), **more)  # type: ignore[arg-type]  # fmt: skip


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rows(data: bytes, table: str) -> list[dict]:
    found = next(v for k, v in members(data).items() if k.endswith(f".{table}.parquet"))
    return pq.read_table(pa.BufferReader(found)).to_pylist()


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return out.getvalue()


def parquet(table: list[dict]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(table), sink)
    return sink.getvalue()


def as_float32(points: np.ndarray) -> np.ndarray:
    return points.astype(np.float32).astype(np.float64)


def assert_same_map(read: VectorMap, scene: Scene) -> None:
    """Everything that is drawn came back, points as float32."""
    was = scene.map
    painted = [x for x in was.lane_lines if x.style is not MarkStyle.NONE]
    assert [x.id for x in read.lane_lines] == [x.id for x in painted]
    for back, given in zip(read.lane_lines, painted, strict=True):
        assert (back.style, back.color) == (given.style, given.color)
        np.testing.assert_array_equal(back.points, as_float32(given.points))
    for part in ("road_boundaries", "stop_lines"):
        for back, given in zip(getattr(read, part), getattr(was, part), strict=True):
            np.testing.assert_array_equal(back.points, as_float32(given.points))
    for back, given in zip(read.crosswalks, was.crosswalks, strict=True):
        np.testing.assert_array_equal(back.outline, as_float32(given.outline))
    for back, given in zip(read.lights, was.lights, strict=True):
        assert back.id == given.id
        np.testing.assert_allclose(back.local_to_light, given.local_to_light, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(back.size_m, as_float32(given.size_m))
    for back, given in zip(read.signs, was.signs, strict=True):
        assert (back.id, back.kind) == (given.id, given.kind)
        np.testing.assert_allclose(back.local_to_sign, given.local_to_sign, rtol=1e-6, atol=1e-6)
    plain = {x.id: x.id.replace("-", "_") for x in was.lanes}
    for back, given in zip(read.lanes, was.lanes, strict=True):
        assert back.id == plain[given.id]
        assert back.successors == tuple(plain[x] for x in given.successors if x in plain)
        assert len(back.left) == len(back.right)
        for side, known in ((back.left, given.left), (back.right, given.right)):
            if known is not None:  # each vertex is still one
                gaps = np.linalg.norm(side[:, None] - as_float32(known), axis=2).min(axis=0)
                assert gaps.max() < 1e-3


@pytest.mark.parametrize("name", EmbeddedScenes().ids())
def test_an_embedded_scene_comes_back(name: str) -> None:
    scene = EmbeddedScenes().load(name)
    read = read_clipgt(write_clipgt(scene))
    assert_same_map(read.map, scene)
    np.testing.assert_array_equal(read.ego.times_us, scene.ego.times_us)
    np.testing.assert_allclose(read.ego.poses, scene.ego.poses, rtol=1e-6, atol=1e-6)
    assert [t.actor.id for t in read.tracks] == [a.id for a in scene.actors]
    assert [t.actor.actor_class for t in read.tracks] == [a.actor_class for a in scene.actors]
    for back, given in zip(read.tracks, scene.tracks, strict=True):
        np.testing.assert_array_equal(back.times_us, given.times_us[given.valid])
        np.testing.assert_allclose(
            back.local_to_aabb, given.local_to_aabb[given.valid], rtol=1e-6, atol=1e-6
        )
        np.testing.assert_allclose(back.actor.size_m, given.actor.size_m, rtol=1e-6)


@pytest.mark.parametrize(
    ("source", "folder", "scene_id"),
    [
        ("av2", "av2/sensor", "7fab2350-7eaf-3b7e-a39d-6937a4c1bede"),
        ("nuscenes", "nuscenes_mini", "scene-0061"),
        ("commonroad", "commonroad_ngsim/US101", "USA_US101-8_1_T-1"),
    ],
)
def test_a_recorded_scene_comes_back(
    shared_data: Path, source: str, folder: str, scene_id: str
) -> None:
    scene = create("scenes", source, {"path": str(shared_data / folder)}).load(scene_id)
    read = read_clipgt(write_clipgt(scene))
    assert_same_map(read.map, scene)
    for camera, given in zip(read.cameras, scene.cameras or (default_camera(),), strict=True):
        assert camera.id == given.id
        assert fit_error_rad(given.model, camera.model) < 1e-3
        np.testing.assert_allclose(camera.rig_to_camera[:3], given.rig_to_camera[:3], atol=1e-9)
        turn = abs(camera.rig_to_camera[3:] @ given.rig_to_camera[3:])
        assert turn == pytest.approx(1.0, abs=1e-12)


# ------------------------------------------------------------------------- the layout

XYZ = pa.struct([("x", pa.float32()), ("y", pa.float32()), ("z", pa.float32())])
XYZW = pa.struct([*XYZ, pa.field("w", pa.float32())])
POINTS, TEXT, TEXTS = pa.list_(XYZ), pa.string(), pa.list_(pa.string())
MAP_KEY = {"clip_id": TEXT, "label_class_id": TEXT, "map_id": TEXT, "map_id_version": TEXT}
TIME_KEY = {"clip_id": TEXT, "timestamp_micros": pa.int64(), "label_class_id": TEXT}
BOX = {"center": XYZ, "dimensions": XYZ, "orientation": XYZW, "category": TEXT}
SHAPE = {"category": TEXT, "location": POINTS}
LAYOUT = {
    "calibration_estimate": (TIME_KEY, {"name": TEXT, "rig_json": TEXT}),
    "egomotion_estimate": (TIME_KEY, {"name": TEXT, "location": XYZ, "orientation": XYZW}),
    "obstacle": (
        {**TIME_KEY, "label_id": TEXT},
        {
            "trackline_id": TEXT,
            "center": XYZ,
            "size": XYZ,
            "orientation": XYZW,
            "category": TEXT,
        },
    ),
    "lane": (
        MAP_KEY,
        {
            "left_rail": POINTS,
            "right_rail": POINTS,
            "left_edge_styles": TEXTS,
            "right_edge_styles": TEXTS,
            "speed_limit": pa.float64(),
            "vehicle_types": TEXTS,
        },
    ),
    "lane_line": (
        MAP_KEY,
        {
            "line_rail": POINTS,
            "styles": TEXTS,
            "colors": TEXTS,
            "left_driving_direction": TEXTS,
            "right_driving_direction": TEXTS,
        },
    ),
    "road_boundary": (MAP_KEY, SHAPE),
    "crosswalk": (MAP_KEY, SHAPE),
    "wait_line": (MAP_KEY, {**SHAPE, "is_implicit": pa.bool_(), "intersection_subtype": TEXT}),
    "traffic_light": (MAP_KEY, BOX),
    "traffic_sign": (MAP_KEY, BOX),
    "association": ({"clip_id": TEXT, "kind": TEXT}, {"subjects": TEXT, "objects": TEXTS}),
    "clip": ({"clip_id": TEXT}, {"name": TEXT}),
}
"""Columns by table, as contracts.md 2.6 lists them."""


@pytest.mark.parametrize("scene", [a_scene("clipgt-0a.b"), EmbeddedScenes().load("junction")])
def test_every_table_has_the_columns_of_the_layout_even_when_it_is_empty(scene: Scene) -> None:
    clip_id = {"clipgt-0a.b": "0a_b"}.get(scene.id, scene.id)
    files = members(write_clipgt(scene))
    assert sorted(files) == sorted(f"{clip_id}.{table}.parquet" for table in LAYOUT)
    for table, (key, payload) in LAYOUT.items():
        found = pq.read_table(pa.BufferReader(files[f"{clip_id}.{table}.parquet"]))
        assert found.column_names == ["key", table, "version"]
        for column, wanted in (("key", key), (table, payload)):
            kind = found.schema.field(column).type
            got = {f.name: f.type for f in kind}
            assert got == wanted, (table, column)
        assert found.schema.field("version").type == pa.uint64()
        assert all(k["clip_id"] == clip_id for k in found.column("key").to_pylist())


def test_a_clip_is_named_like_its_scene_without_what_file_names_cannot_hold() -> None:
    assert clip_id_of("clipgt-01d503d4-449b") == "01d503d4-449b"
    assert clip_id_of("USA_US101-8_1_T-1") == "USA_US101-8_1_T-1"
    assert clip_id_of("../a b.c") == "___a_b_c"


def test_the_same_scene_gives_the_same_bytes_in_every_process() -> None:
    code = (
        "import hashlib; from omniloop.scenes.clipgt import write_clipgt;"
        "from omniloop.scenes.embedded import EmbeddedScenes;"
        "print(hashlib.sha256(write_clipgt(EmbeddedScenes().load('junction'))).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    data = write_clipgt(EmbeddedScenes().load("junction"))
    assert hashlib.sha256(data).hexdigest() == there.stdout.strip()
    with zipfile.ZipFile(io.BytesIO(data)) as made:
        assert made.namelist() == sorted(made.namelist())
        assert {i.date_time for i in made.infolist()} == {(1980, 1, 1, 0, 0, 0)}


# ------------------------------------------------------------------------- the map


def test_rails_are_cut_where_either_has_a_vertex_and_keep_their_shapes() -> None:
    bent = Lane("x", line((0, 0), (10, 0)), line((0, 2), (5, 3), (10, 2)), line((0, -2), (10, -2)))
    left, right = lane_rails(bent)
    np.testing.assert_allclose(left[:, :2], [[0, 2], [5, 3], [10, 2]])
    np.testing.assert_allclose(right[:, :2], [[0, -2], [5, -2], [10, -2]])


def test_a_lane_without_sides_gets_rails_beside_its_centre_line() -> None:
    left, right = lane_rails(Lane("x", line((0, 0), (10, 0), (20, 0))))
    np.testing.assert_allclose(left[:, 1], 1.75)
    np.testing.assert_allclose(right[:, 1], -1.75)
    up, _ = lane_rails(Lane("x", line((0, 0), (0, 10))))
    np.testing.assert_allclose(up[:, 0], -1.75)


def test_ids_with_dashes_stay_apart_from_each_other_and_from_their_lanes() -> None:
    scene = a_scene(
        lanes=(lane("a-1", successors=("a_1",)), lane("a_1", 4.0, predecessors=("a-1", "gone"))),
        stop_lines=(Polyline("st-op", line((9, -2), (9, 6)), ("a-1", "a_1")),),
    )
    data = write_clipgt(scene)
    assert [r["key"]["map_id"] for r in rows(data, "lane")] == ["a_1", "a_1_"]
    assert [r["key"]["map_id"] for r in rows(data, "wait_line")] == ["st_op-a_1", "st_op-a_1_"]
    links = [(r["key"]["kind"], *r["association"].values()) for r in rows(data, "association")]
    assert links == [
        ("NEXT_LANE", "a_1", ["a_1_"]),
        ("NEXT_LANE", "a_1_", []),
        ("PREVIOUS_LANE", "a_1_", ["a_1"]),
    ]
    read = read_clipgt(data).map
    assert [(x.id, x.lanes) for x in read.stop_lines] == [("st_op", ("a_1", "a_1_"))]
    assert [(x.successors, x.predecessors) for x in read.lanes] == [(("a_1_",), ()), ((), ("a_1",))]


def test_neighbours_and_the_lanes_of_signs_are_associated() -> None:
    sign = TrafficSign("stop", geometry.pose(9, 3, 2), np.array([0.1, 0.8, 0.8]), "R1", ("left",))
    scene = a_scene(
        lanes=(lane("left", 4.0, right_lane="right"), lane("right", left_lane="left")), signs=(sign,)
    )  # fmt: skip
    read = read_clipgt(write_clipgt(scene)).map
    assert (read.lanes[0].right_lane, read.lanes[1].left_lane) == ("right", "left")
    assert read.signs[0].lanes == ("left",)


def test_a_stop_line_without_lanes_goes_to_the_nearest_one() -> None:
    stop = Polyline("stop", line((9, 3), (9, 5)))
    with_lanes = a_scene(lanes=(lane("near", 4.0), lane("far", -40.0)), stop_lines=(stop,))
    assert rows(write_clipgt(with_lanes), "wait_line")[0]["key"]["map_id"] == "stop-near"
    bare = rows(write_clipgt(a_scene(stop_lines=(stop,))), "wait_line")
    assert bare[0]["key"]["map_id"] == "stop-none"


def test_lights_have_label_classes_of_their_own() -> None:
    """Newer readers group lights by it."""
    lights = tuple(
        TrafficLight(f"light{i}", geometry.pose(i, 0, 5), np.array([0.3, 0.3, 1])) for i in range(2)
    )
    classes = [r["key"]["label_class_id"] for r in rows(write_clipgt(a_scene(lights=lights)), "traffic_light")]  # fmt: skip
    assert len(set(classes)) == 2


def test_drivable_areas_bound_the_road_only_where_nothing_else_does() -> None:
    square = line((0, 0), (10, 0), (10, 10), (0, 10))
    hole = line((4, 4), (6, 4), (6, 6))
    area = Area("area", square, (hole,))
    alone = read_clipgt(write_clipgt(a_scene(drivable_areas=(area,)))).map.road_boundaries
    np.testing.assert_array_equal(alone[0].points, np.concatenate([square, square[:1]]))
    np.testing.assert_array_equal(alone[1].points, np.concatenate([hole, hole[:1]]))
    kerb = Polyline("kerb", line((0, 0), (10, 0)))
    both = a_scene(drivable_areas=(area,), road_boundaries=(kerb,))
    assert [x.id for x in read_clipgt(write_clipgt(both)).map.road_boundaries] == ["kerb"]


def test_lines_that_are_not_painted_are_left_out() -> None:
    lines = (
        LaneLine("none", line((0, 0), (1, 0)), MarkStyle.NONE),
        LaneLine("double", line((0, 1), (1, 1)), MarkStyle.SOLID_GROUP, MarkColor.YELLOW),
    )
    found = rows(write_clipgt(a_scene(lane_lines=lines)), "lane_line")
    assert [r["key"]["map_id"] for r in found] == ["double"]
    assert found[0]["lane_line"]["styles"] == ["SOLID_GROUP", "SOLID_GROUP"]
    assert found[0]["lane_line"]["colors"] == ["YELLOW", "YELLOW"]


def test_a_point_that_is_not_finite_is_named() -> None:
    bad = line((0, 0), (1, 0))
    bad[1, 1] = np.nan
    with pytest.raises(SceneError, match="lane line kaputt has a point that is not finite"):
        write_clipgt(a_scene(lane_lines=(LaneLine("kaputt", bad),)))


# ------------------------------------------------------------------------- cameras

RIG = {
    "rig": {
        "sensors": [
            {
                "name": "camera:front:wide:120fov",
                "properties": {
                    "Model": "ftheta", "width": "1920", "height": "1080", "cx": "960", "cy": "540",
                    "polynomial": "0 0.001 0 0 0", "polynomial-type": "pixeldistance-to-angle",
                },
                "nominalSensor2Rig_FLU": {"roll-pitch-yaw": [0, 0, 80.0], "t": [1.7, 0, 1.4]},
                "correction_sensor_R_FLU": {"roll-pitch-yaw": [0, 0, 10.0]},
                "correction_rig_T": [0.0, 0.1, 0.0],
            },
            {"name": "imu", "properties": None},
        ]
    }
}  # fmt: skip


def with_rig(text: str) -> bytes:
    files = members(write_clipgt(a_scene()))
    key = {"clip_id": "s", "timestamp_micros": -1, "label_class_id": "c"}
    row = {"key": key, "calibration_estimate": {"name": "n", "rig_json": text}, "version": 1}
    return archive({**files, "s.calibration_estimate.parquet": parquet([row])})


def test_a_calibration_is_read_with_its_corrections_and_flu_axes() -> None:
    (camera,) = read_clipgt(with_rig(json.dumps(RIG))).cameras
    assert camera.id == "camera_front_wide_120fov"
    np.testing.assert_allclose(camera.rig_to_camera[:3], [1.7, 0.1, 1.4])
    # 80 + 10 degrees to the left: the optical axis points along the rig's y, right along its x.
    np.testing.assert_allclose(
        geometry.rotate(camera.rig_to_camera[3:], np.eye(3)),
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-12,
    )  # fmt: skip
    # 0.001 rad a pixel: 0.3 rad to the right is 300 px right of the principal point.
    pixels, covered = camera.model.project(np.array([np.sin(0.3), 0.0, np.cos(0.3)]))
    np.testing.assert_allclose(pixels, [1260.0, 540.0], atol=1e-6)
    assert covered


@pytest.mark.parametrize("text", ["{", "[]", '{"rig": {"sensors": [{"properties": {"Model": "ftheta"}}]}}'])  # fmt: skip
def test_a_calibration_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(SceneError, match="rig_json of calibration_estimate cannot be read"):
        read_clipgt(with_rig(text))


def test_cameras_come_back_and_one_that_cannot_be_fitted_is_left_out() -> None:
    pinhole = PinholeCamera(640, 480, 500.0, 490.0, 319.5, 239.5)
    fits = Camera("CAM_FRONT", pinhole, optical_from_flu(geometry.pose(1, 2, 3, 0.5)))
    wide = Camera("wide", replace(pinhole, fx=100.0), geometry.IDENTITY)
    scene = replace(a_scene(), cameras=(fits, wide, default_camera()))
    read = read_clipgt(write_clipgt(scene)).cameras
    assert [c.id for c in read] == ["CAM_FRONT", "camera_front_wide_120fov"]
    assert fit_error_rad(pinhole, read[0].model) < 1e-3
    np.testing.assert_allclose(read[0].rig_to_camera, fits.rig_to_camera, atol=1e-9)
    assert read[1].model.angle_to_pixeldist[:2] == default_camera().model.angle_to_pixeldist


# --------------------------------------------------------------- archives of others


def test_tables_of_another_writer_are_read_as_nvidia_reads_them() -> None:
    """Doubles, rails of one lane in a list of subjects, NaN and null elements, other styles."""
    key = {"clip_id": "s", "label_class_id": "x", "map_id": "m", "map_id_version": "v"}

    def pts(*xs: float) -> list[dict]:
        return [{"x": x, "y": 0.0, "z": 0.0} for x in xs]

    lines = [(pts(0, 1), "VIRTUAL"), (pts(0, np.nan), "SOLID_SINGLE"), (pts(2, 3), "DOT_SOLID_SINGLE"),
             (pts(4, 5), "SOLID_DOUBLE"), (None, "SOLID_SINGLE"), (pts(6, 7), "OTHER")]  # fmt: skip
    tables = {
        "lane_line": [
            {"key": key, "lane_line": {"line_rail": p, "styles": [s], "colors": ["RED"]}, "version": 1}
            for p, s in lines
        ],
        "lane": [{"key": key, "lane": {"left_rail": pts(0, 1), "right_rail": pts(0, 1)}, "version": 1}],
        "association": [
            {
                "key": {"clip_id": "s", "kind": "NEXT_LANE"},
                "association": {"subjects": ["m"], "objects": ["n"]},
                "version": 1,
            }
        ],
        "traffic_sign": [
            {
                "key": key,
                "traffic_sign": {
                    "center": {"x": 1.0, "y": 2.0, "z": 3.0},
                    "dimensions": {"x": 1.0, "y": 1.0, "z": 1.0},
                    "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": w},
                },
                "version": 1,
            }
            for w in (2.0, 0.0)
        ],
    }  # fmt: skip
    files = members(write_clipgt(a_scene()))
    keep = {k: v for k, v in files.items() if "_estimate" in k}
    data = archive(keep | {f"s.{name}.parquet": parquet(table) for name, table in tables.items()})
    read = read_clipgt(data).map
    assert [(x.points[0, 0], x.style) for x in read.lane_lines] == [
        (0.0, MarkStyle.NONE),
        (2.0, MarkStyle.SHORT_DASHED_SINGLE),
        (4.0, MarkStyle.SOLID_SINGLE),
        (6.0, MarkStyle.LONG_DASHED_SINGLE),
    ]
    assert read.lane_lines[0].color is MarkColor.UNKNOWN
    assert read.lanes[0].successors == ("n",)
    assert len(read.signs) == 1  # the other has no orientation
    np.testing.assert_allclose(read.signs[0].local_to_sign, [1, 2, 3, 0, 0, 0, 1])


def test_what_is_no_zip_is_refused() -> None:
    for data in (b"", b"no zip", write_clipgt(a_scene())[:-40]):
        with pytest.raises(SceneError, match="no readable zip"):
            read_clipgt(data)


@pytest.mark.parametrize("name", ["../s.lane.parquet", "/etc/s.lane.parquet", "a/../../s", "..\\s", "C:\\s"])  # fmt: skip
def test_a_path_that_leads_out_of_the_archive_is_refused(name: str) -> None:
    files = members(write_clipgt(a_scene()))
    with pytest.raises(SceneError, match="a path that escapes extraction"):
        read_clipgt(archive({**files, name: b"x"}))


@pytest.mark.parametrize(
    ("drop", "says"),
    [
        (("calibration_estimate",), "lacks the table calibration_estimate$"),
        (("egomotion_estimate",), "lacks the table egomotion_estimate$"),
        (tuple(LAYOUT), "lacks the table calibration_estimate and egomotion_estimate"),
    ],
)
def test_an_archive_without_a_required_table_is_refused(drop: tuple[str, ...], says: str) -> None:
    files = members(write_clipgt(a_scene()))
    left = {k: v for k, v in files.items() if k.split(".")[1] not in drop}
    with pytest.raises(SceneError) as caught:
        read_clipgt(archive({"readme.txt": b"", **left}))
    assert "No suitable loader found" in caught.value.what
    assert re.search(says, caught.value.what)


def test_a_damaged_table_is_named() -> None:
    files = members(write_clipgt(EmbeddedScenes().load("junction")))
    name = "junction.lane.parquet"
    for damaged in (b"", files[name][:100], files[name][:-1], b"PAR1" + bytes(100) + b"PAR1"):
        with pytest.raises(SceneError, match="table lane: not a readable parquet file") as caught:
            read_clipgt(archive({**files, name: damaged}), "the map of s/0")
        assert caught.value.where == "the map of s/0, junction.lane"


@pytest.mark.parametrize(
    ("table", "row", "says"),
    [
        ("lane", {"lane": 3}, "column 'key' is missing|column 'lane' is int64"),
        ("road_boundary", {"key": {"map_id": "m"}, "road_boundary": {"category": "x"}}, "'road_boundary.location' is missing"),
        ("road_boundary", {"key": {"map_id": "m"}, "road_boundary": {"location": "x"}}, "not a list of points"),
        ("road_boundary", {"key": {"map_id": "m"}, "road_boundary": {"location": [{"x": "a"}]}}, "'road_boundary.location.x' is missing or no number"),
        ("egomotion_estimate", {"key": {"timestamp_micros": "x"}, "egomotion_estimate": {"location": {"x": 0.0, "y": 0.0, "z": 0.0}, "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}}}, "timestamp_micros' is string"),
        ("egomotion_estimate", {"key": {"timestamp_micros": 1}, "egomotion_estimate": {"location": {"x": 0.0, "y": 0.0, "z": 0.0}, "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 0.0}}}, "not finite"),
    ],
)  # fmt: skip
def test_columns_of_another_kind_are_refused(table: str, row: dict, says: str) -> None:
    files = members(write_clipgt(a_scene()))
    files[f"s.{table}.parquet"] = parquet([row])
    with pytest.raises(SceneError, match=says):
        read_clipgt(archive(files))


def test_an_archive_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    files = members(write_clipgt(a_scene()))
    monkeypatch.setattr(clipgt, "_MAX_BYTES", 1 << 20)
    bomb = archive({**files, "s.pole.parquet": bytes(1 << 20)})
    assert len(bomb) < 1 << 16
    with pytest.raises(SceneError, match="unpacks to more than 1 MiB"):
        read_clipgt(bomb)
    with pytest.raises(SceneError, match="or 1000 members"):
        read_clipgt(archive({f"{i}.txt": b"" for i in range(1001)}))


def test_a_table_that_claims_too_many_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from omniloop.scenes import clipgt_tables

    monkeypatch.setattr(clipgt_tables, "_MAX_ROWS", 100)
    with pytest.raises(SceneError, match=r"it claims \d+ rows"):
        read_clipgt(write_clipgt(EmbeddedScenes().load("junction")))
