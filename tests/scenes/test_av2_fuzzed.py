"""Argoverse 2 files changed at random or claiming too much: a scene that can be checked, or a SceneError."""

from __future__ import annotations

import io
import math
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from omniloop.core.errors import SceneError
from omniloop.scenes.av2 import Av2Scenes
from omniloop.scenes.validate import validate_scene
from tests.scenes import test_av2_made as made
from tests.scenes.test_av2_made import log, scenario  # noqa: F401
from tests.scenes.test_readers_fuzzed import bytes_changed, json_changed, loads_or_refuses

pytestmark = pytest.mark.filterwarnings("error")

CASES = 80
NUMBERS = (math.nan, math.inf, 0.0, -1.0, 1e6, 1e9, 1e15, 1e30, 1e308, -1e18)
WHOLE = (0, -1, 2**31, 2**63 - 1, -(2**63), 10**12)
TEXTS = ("", "AV", "x" * 5000, "\0", "../x", "EGO_VEHICLE", "BICYCLE")


def table_changed(rng: random.Random, table: pa.Table) -> pa.Table:
    at = rng.randrange(table.num_columns)
    name, column = table.column_names[at], table.column(at)
    values = column.to_pylist()
    change = rng.choice(["value", "value", "all", "type", "drop", "twice", "null", "rows", "none"])
    if change in ("value", "all"):
        floats = pa.types.is_floating(column.type)
        odd = TEXTS if pa.types.is_string(column.type) else NUMBERS if floats else WHOLE
        value = rng.choice(odd)
        rows = range(len(values)) if change == "all" else [rng.randrange(len(values))]
        for row in rows:
            values[row] = value
        return table.set_column(at, name, pa.array(values, column.type))
    if change == "type":
        new = rng.choice([[str(v) for v in values], [[1]] * len(values), [True] * len(values)])
        return table.set_column(at, name, pa.array(new))
    if change == "drop":
        return table.drop_columns([name])
    if change == "twice":
        return table.append_column(name, column)
    if change == "null":
        return table.set_column(at, name, pa.nulls(len(values), column.type))
    if change == "rows":
        return table.take([rng.randrange(len(values)) for _ in values])
    return table.slice(0, 0)


def changed(rng: random.Random, file: Path, data: bytes) -> bytes:
    if file.suffix in (".feather", ".parquet") and rng.random() < 0.75:
        out = io.BytesIO()
        if file.suffix == ".feather":
            table = pyarrow.feather.read_table(io.BytesIO(data))
            pyarrow.feather.write_feather(table_changed(rng, table), out)
        else:
            table = pyarrow.parquet.read_table(io.BytesIO(data))
            pyarrow.parquet.write_table(table_changed(rng, table), out)
        return out.getvalue()
    if file.suffix == ".json" and rng.random() < 0.8:
        return json_changed(rng, data)
    while True:
        try:
            return bytes_changed(rng, data)
        except UnicodeDecodeError:  # a table has no encoding
            continue


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", ["log", "scenario"])
def test_a_file_changed_at_random_loads_or_is_refused(
    request: pytest.FixtureRequest, kind: str, seed: int
) -> None:
    folder: Path = request.getfixturevalue(kind)
    whole = {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
    rng = random.Random(f"{kind} {seed}")
    loaded = 0
    for _ in range(CASES):
        file = rng.choice(list(whole))
        file.write_bytes(changed(rng, file, whole[file]))
        loaded += loads_or_refuses(Av2Scenes, folder)
        file.write_bytes(whole[file])
    assert 0 < loaded < CASES


def refused(folder: Path, what: str) -> None:
    with pytest.raises(SceneError, match=what) as caught:
        Av2Scenes(str(folder)).load("hand-made")
    assert str(folder) in caught.value.where
    assert caught.value.remedy
    assert len(str(caught.value)) < 1_000


def line(*xy: tuple[float, float]) -> list[dict[str, float]]:
    return made.points(*((x, y, 5.0) for x, y in xy))


SCRIBBLE = line(*((1050 + 40 * math.cos(2.2 * k), 9 * math.sin(2.2 * k)) for k in range(100)))
LANE = ("lane_segments", "1")
MAPS: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "links": ((*LANE, "successors"), 2, "successors is 2, not a list"),
    "a mark": ((*LANE, "left_lane_mark_type"), [0] * 1000, "lane mark type is .*not a text"),
    "a long id": (("drivable_areas", "x" * 5000), {}, "an id is 'xxx"),
    "a long neighbour": ((*LANE, "left_neighbor_id"), 10**3000, "left_neighbor_id is"),
    "a lane of one line": (
        (*LANE, "right_lane_boundary"), line((1000, 0), (1100, 0)), "outline of 2 different points",
    ),
    "a crossing of one line": (
        ("pedestrian_crossings", "7", "edge2"), line((1040, -6), (1040, 6)), "2 different points",
    ),
    "a point in the sky": ((*LANE, "left_lane_boundary"), line((0, 0), (1e12, 0)), "beyond 1e"),
    "a lane round the world": (
        (*LANE, "left_lane_boundary"), line((1000, 0), (4e7, 0)), "lanes are 19999650 m long",
    ),
    "a tangle": (
        ("drivable_areas", "5", "area_boundary"), SCRIBBLE, "crosses itself more than 200 times",
    ),
    "points": (("drivable_areas", "5", "area_boundary"), line((1, 2)) * 50_000, "50016 points"),
}  # fmt: skip


@pytest.mark.parametrize("case", MAPS)
def test_a_map_that_cannot_be_is_refused(log: Path, case: str) -> None:  # noqa: F811
    *keys, value, what = (*MAPS[case][0], MAPS[case][1], MAPS[case][2])
    made.edit_json(log / made.MAP, *keys, value=value)
    refused(log, what)


def test_a_map_too_wide_for_a_raster_of_its_ground_is_refused(scenario: Path) -> None:  # noqa: F811
    wide = line((1000, 0), (90_000, 0), (90_000, 90_000))
    file = scenario / "log_map_archive_hand-made.json"
    made.edit_json(file, "drivable_areas", "5", "area_boundary", value=wide)
    refused(scenario, "the map is 89000 m by 9000. m")


class _Executed:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("executed",)


def test_a_raster_of_objects_is_refused_unopened(
    log: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(log)
    file = next((log / "map").glob("*.npy"))
    np.save(file, np.array([[_Executed()]], dtype=object), allow_pickle=True)
    refused(log, "cannot be read")
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("heights", "what"),
    [
        (np.zeros((0, 5)), "not heights"),
        (np.full((2, 2), np.inf), "a height of inf m"),
        (np.broadcast_to(np.float16(0), (6000, 6000)), "36000000 values"),
    ],
)
def test_a_raster_that_cannot_be_is_refused(log: Path, heights: Any, what: str) -> None:  # noqa: F811
    np.save(next((log / "map").glob("*.npy")), heights)
    refused(log, what)


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("s", 0, "s is 0 cells per metre"),
        ("R", [0, 0, 0, 0], "no rotation"),
        ("t", [1e12, 0], "beyond 1e"),
    ],
)
def test_a_raster_without_a_place_is_refused(log: Path, key: str, value: Any, what: str) -> None:  # noqa: F811
    made.edit_json(next((log / "map").glob("*Sim2*")), key, value=value)
    refused(log, what)


def boxes(tracks: int, times: int) -> dict[str, Any]:
    """Tracks seen at the first and last of many times."""
    ns = np.append(np.linspace(0, 500_000_000, times).astype(np.int64), [0, 500_000_000] * tracks)
    names = ["all"] * times + [f"{k // 2}" for k in range(2 * tracks)]
    return {
        "timestamp_ns": made.T0_NS + ns, "track_uuid": names, "category": ["BUS"] * len(ns),
        "length_m": np.ones(len(ns)), "width_m": np.ones(len(ns)), "height_m": np.ones(len(ns)),
        **made.pose_columns(np.zeros((len(ns), 3))),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        (boxes(2_000, 1), "2001 tracks"),
        (boxes(1_000, 6_000), "poses of tracks at 10 Hz"),
        ({"timestamp_ns": np.zeros(500_001, dtype=np.int64)}, "500001 rows"),
        (boxes(1, 1) | {"category": ["EGO_VEHICLE"] * 3, "width_m": np.zeros(3)}, "not positive"),
    ],
)
def test_boxes_that_cannot_be_are_refused(log: Path, columns: dict[str, Any], what: str) -> None:  # noqa: F811
    made.write_feather(log / "annotations.feather", columns)
    refused(log, what)


def test_tables_that_name_a_column_twice_or_hold_nothing_are_refused(log: Path) -> None:  # noqa: F811
    file = log / "city_SE3_egovehicle.feather"
    whole = pyarrow.feather.read_table(file)
    pyarrow.feather.write_feather(whole.append_column("qx", whole["qx"]), file)
    refused(log, "more than one column 'qx'")
    pyarrow.feather.write_feather(whole.slice(0, 0), file)
    refused(log, "the ego has 0 recorded poses")


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [("width_px", 0, "0 x 9 px"), ("fx_px", -1.0, "focal lengths of -1"), ("sensor_name", "b", "twice")],
)  # fmt: skip
def test_cameras_that_cannot_be_are_refused(log: Path, column: str, value: Any, what: str) -> None:  # noqa: F811
    (log / "calibration").mkdir()
    names = ["a", "b"]
    inner: dict[str, list[Any]] = {
        "sensor_name": names, "width_px": [9, 9], "height_px": [9, 9],
        **{name: [5.0, 5.0] for name in ("fx_px", "fy_px", "cx_px", "cy_px")},
    }  # fmt: skip
    made.write_feather(
        log / "calibration" / "egovehicle_SE3_sensor.feather",
        {"sensor_name": names, **made.pose_columns(np.zeros((2, 3)))},
    )
    file = log / "calibration" / "intrinsics.feather"
    made.write_feather(file, inner)
    scene = Av2Scenes(str(log)).load("hand-made")
    assert [camera.id for camera in scene.cameras] == names
    assert not [f for f in validate_scene(scene) if f.severity == "error"]
    made.write_feather(file, inner | {column: [value, inner[column][1]]})
    refused(log, what)


def test_folders_and_pipes_in_place_of_files_are_refused(log: Path) -> None:  # noqa: F811
    for file in [file for file in sorted(log.rglob("*")) if file.is_file()]:
        data = file.read_bytes()
        file.unlink()
        file.mkdir()
        refused(log, ".")
        file.rmdir()
        os.mkfifo(file)
        refused(log, ".")
        file.unlink()
        file.write_bytes(data)
    assert Av2Scenes(str(log)).load("hand-made").ego.start_us == made.T0_NS // 1000
