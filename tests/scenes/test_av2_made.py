"""Argoverse 2: logs made by hand, whole and damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import shapely

from omniloop.core.errors import SceneError
from omniloop.core.scene import ActorClass, MarkColor, MarkStyle
from omniloop.scenes.av2 import Av2Scenes

T0_NS = 315_971_916_927_482_490


def points(*xyz: tuple[float, float, float]) -> list[dict[str, float]]:
    return [dict(zip("xyz", p, strict=True)) for p in xyz]


def lane(left: list[Any], right: list[Any], **changes: Any) -> dict[str, Any]:
    return {
        "id": 1, "is_intersection": False, "lane_type": "VEHICLE", "left_lane_boundary": left,
        "right_lane_boundary": right, "left_lane_mark_type": "DOUBLE_SOLID_YELLOW",
        "right_lane_mark_type": "NONE", "successors": [], "predecessors": [],
        "left_neighbor_id": None, "right_neighbor_id": None,
    } | changes  # fmt: skip


def city_map() -> dict[str, Any]:
    middle = points((1000, 0, 5), (1100, 0, 5))
    return {
        "lane_segments": {
            "1": lane(middle, points((1000, -4, 5), (1100, -4, 5)), left_neighbor_id=2, successors=[9]),
            "2": lane(middle[::-1], points((1100, 4, 5), (1000, 4, 5)), left_neighbor_id=1),
        },
        "drivable_areas": {
            "5": {"id": 5, "area_boundary": points((1000, -4, 5), (1050, -4, 5), (1050, 4, 5), (1000, 4, 5))},
            "6": {"id": 6, "area_boundary": points((1050, -4, 5), (1100, -4, 5), (1100, 4, 5), (1050, 4, 5))},
        },
        "pedestrian_crossings": {
            "7": {"id": 7, "edge1": points((1040, -6, 5), (1040, 6, 5)), "edge2": points((1043, 6, 5), (1043, -6, 5))}
        },
    }  # fmt: skip


def pose_columns(xyz: np.ndarray) -> dict[str, Any]:
    n = len(xyz)
    return {
        "tx_m": xyz[:, 0], "ty_m": xyz[:, 1], "tz_m": xyz[:, 2],
        "qx": np.zeros(n), "qy": np.zeros(n), "qz": np.zeros(n), "qw": np.ones(n),
    }  # fmt: skip


def write_feather(path: Path, columns: dict[str, Any]) -> None:
    pyarrow.feather.write_feather(pa.table(columns), path)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Ego at 10 m/s along y = -2; a car 20 m ahead and a cone at x = 1030, seen at 0 and 200 ms."""
    folder = tmp_path / "logs" / "hand-made"
    (folder / "map").mkdir(parents=True)
    ns = T0_NS + np.arange(11) * 50_000_000
    xyz = np.column_stack([1000.3 + np.arange(11) * 0.5, np.full(11, -2.0), np.full(11, 5.3)])
    ns, xyz = np.insert(ns, 3, ns[3]), np.insert(xyz, 3, xyz[3], axis=0)
    ns[4] += 1
    write_feather(folder / "city_SE3_egovehicle.feather", {"timestamp_ns": ns, **pose_columns(xyz)})
    seen = T0_NS + np.array([0, 100, 200, 0, 200]) * 1_000_000
    x = [20, 20, 20, 30 - 0.3, 28 - 0.3]
    boxes = {
        "timestamp_ns": seen, "track_uuid": ["car"] * 3 + ["cone"] * 2,
        "category": ["REGULAR_VEHICLE"] * 3 + ["CONSTRUCTION_CONE"] * 2,
        "length_m": [4.0, 4.0, 6.0, 0.3, 0.3], "width_m": [2.0] * 3 + [0.3] * 2, "height_m": [1.6] * 3 + [0.6] * 2,
        **pose_columns(np.column_stack([x, np.zeros(5), [0.5] * 3 + [0.0] * 2])),
    }  # fmt: skip
    write_feather(folder / "annotations.feather", boxes)
    (folder / "map" / "log_map_archive_hand-made____PIT_city_1.json").write_text(
        json.dumps(city_map())
    )
    heights = np.full((60, 400), 5.0, dtype=np.float16)
    heights[:, 200:] = 6.0  # from x = 1050 on
    np.save(folder / "map" / "hand-made_ground_height_surface____PIT.npy", heights)
    sim2 = {"R": [1.0, 0.0, 0.0, 1.0], "t": [-1000.0, 7.0], "s": 4.0}
    (folder / "map" / "hand-made___img_Sim2_city.json").write_text(json.dumps(sim2))
    return folder


def test_a_hand_made_log_gives_what_was_put_in(log: Path):
    scene = Av2Scenes(str(log.parent)).load("hand-made")
    assert scene.start_us == T0_NS // 1000
    assert len(scene.ego) == 11
    np.testing.assert_array_equal(scene.dataset_to_local[:3, 3], [1000, -2, 5])
    np.testing.assert_allclose(scene.ego.poses[0, :3], [0.3, 0.0, 0.0], atol=1e-9)
    car, cone = scene.tracks
    assert car.actor.size_m.tolist() == [4.0, 2.0, 1.6]
    np.testing.assert_allclose(car.local_to_aabb[:, 0], [20.3, 21.3, 22.3])
    np.testing.assert_allclose(car.local_to_aabb[:, 2], 0.8)
    assert (car.actor.is_static, cone.actor.is_static) == (False, True)
    assert cone.valid.tolist() == [True, False, True]
    np.testing.assert_allclose(cone.local_to_aabb[cone.valid, 0], 30.0)
    assert scene.tags == ("argoverse2", "sensor", "PIT")


def test_a_hand_made_map_gives_what_was_put_in(log: Path):
    made = Av2Scenes(str(log)).load("hand-made").map
    assert [line.points[:, 1].tolist() for line in made.lane_lines] == [[2.0, 2.0]]
    assert made.lane_lines[0].style is MarkStyle.SOLID_GROUP
    assert made.lane_lines[0].color is MarkColor.YELLOW
    one, two = made.lanes
    assert one.left_line == two.left_line == made.lane_lines[0].id
    assert one.right_line is None
    assert one.left_lane is None, "the neighbour goes the other way"
    assert one.successors == (), "lane 9 is not in the map"
    np.testing.assert_allclose(one.centerline[[0, -1], :2], [[0, 0], [100, 0]])
    assert shapely.Polygon(made.crosswalks[0].outline).area == pytest.approx(36.0)
    # Two areas that touch have one outline, open where the road was cut off.
    assert len(made.road_boundaries) == 2
    right, left = sorted(made.road_boundaries, key=lambda edge: edge.points[0, 1])
    for edge, side in ((right, -2), (left, 6)):
        assert np.ptp(edge.points[:, 0]) == pytest.approx(100)
        assert np.abs(edge.points[:, 1] - side).max() < 0.3


def test_the_ground_raster_is_read_at_the_centres_of_its_cells(log: Path):
    raster = Av2Scenes(str(log)).load("hand-made").ground
    assert raster is not None
    column, row = raster.local_xy_to_cell @ [50.125, 2 - 7 + 1.125, 1.0]
    assert (column, row) == pytest.approx((200, 4))
    assert raster.heights_m[4, 199:201].tolist() == [0.0, 1.0]
    cell = raster.local_xy_to_cell @ [0.125, 2 - 7 + 0.125, 1.0]
    np.testing.assert_allclose(cell, [0.0, 0.0], atol=1e-9)


def test_a_log_without_annotations_has_no_actors_and_without_raster_no_ground(log: Path):
    (log / "annotations.feather").unlink()
    for file in [*(log / "map").glob("*.npy"), *(log / "map").glob("*Sim2*")]:
        file.unlink()
    scene = Av2Scenes(str(log)).load("hand-made")
    assert scene.tracks == ()
    assert scene.ground is None


def edit_feather(path: Path, column: str, row: int, value: Any) -> None:
    table = pyarrow.feather.read_table(path).to_pydict()
    table[column][row] = value
    write_feather(path, table)


def edit_json(path: Path, *keys: str, value: Any) -> None:
    whole = json.loads(path.read_text())
    at = whole
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    path.write_text(json.dumps(whole))


MAP = "map/log_map_archive_hand-made____PIT_city_1.json"


@pytest.mark.parametrize(
    ("file", "damage", "complaint"),
    [
        ("annotations.feather", lambda p: p.write_bytes(p.read_bytes()[:300]), "cannot be read"),
        (
            "annotations.feather",
            lambda p: edit_feather(p, "tx_m", 1, float("nan")),
            "tx_m in row 1 is nan",
        ),
        (
            "annotations.feather",
            lambda p: edit_feather(p, "timestamp_ns", 1, T0_NS),
            "is not after",
        ),
        (
            "annotations.feather",
            lambda p: edit_feather(p, "timestamp_ns", 2, 2 * T0_NS),
            "beyond the ego",
        ),
        ("annotations.feather", lambda p: edit_feather(p, "height_m", 3, 0.0), "not positive|size"),
        ("annotations.feather", lambda p: edit_feather(p, "category", 3, None), "1 empty cells"),
        (
            "annotations.feather",
            lambda p: write_feather(p, {"a": [1]}),
            "lacks the column 'timestamp_ns'",
        ),
        ("city_SE3_egovehicle.feather", lambda p: edit_feather(p, "qw", 2, 0.5), "is no unit"),
        (
            "city_SE3_egovehicle.feather",
            lambda p: edit_feather(p, "timestamp_ns", 2, T0_NS - 9999),
            "not after",
        ),
        (MAP, lambda p: p.unlink(), "holds 0 files log_map_archive"),
        (MAP, lambda p: p.write_text("{"), "is not JSON"),
        (MAP, lambda p: edit_json(p, "drivable_areas", value=[]), "not a mapping"),
        (
            MAP,
            lambda p: edit_json(p, "lane_segments", "1", "left_lane_mark_type", value="ZIGZAG"),
            "'ZIGZAG'",
        ),
        (
            MAP,
            lambda p: edit_json(
                p, "lane_segments", "1", "left_lane_boundary", value=[{"x": 1, "y": 2}]
            ),
            "'z'",
        ),
        (
            MAP,
            lambda p: edit_json(p, "lane_segments", "1", "left_lane_boundary", value=[]),
            "fewer than two",
        ),
        (MAP, lambda p: edit_json(p, "lane_segments", "1", value={"id": 1}), "lacks the key"),
        (
            "map/hand-made_ground_height_surface____PIT.npy",
            lambda p: p.write_bytes(b"\x93NUM"),
            "cannot be read",
        ),
        (
            "map/hand-made_ground_height_surface____PIT.npy",
            lambda p: np.save(p, np.zeros(3)),
            "not heights",
        ),
        (
            "map/hand-made_ground_height_surface____PIT.npy",
            lambda p: p.unlink(),
            "0 ground height rasters",
        ),
        (
            "map/hand-made___img_Sim2_city.json",
            lambda p: edit_json(p, "R", value=[1, 0]),
            r"R has shape \(2,\)",
        ),
    ],
)
def test_a_damaged_log_is_refused_by_file_and_value(log: Path, file, damage, complaint):
    damage(log / file)
    with pytest.raises(SceneError, match=complaint) as caught:
        Av2Scenes(str(log)).load("hand-made")
    assert str(log) in caught.value.where
    assert caught.value.remedy


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """AV at 10 m/s along y = -2, a cyclist beside it for the second half of a second."""
    folder = tmp_path / "hand-made"
    folder.mkdir()
    (folder / "log_map_archive_hand-made.json").write_text(json.dumps(city_map()))
    rows = [("AV", "vehicle", i, 1000.0 + i, -2.0) for i in range(11)]
    rows += [("8", "cyclist", i, 1000.0 + i, 2.0) for i in range(5, 11)]
    names, kinds, steps, x, y = (list(column) for column in zip(*rows, strict=True))
    pyarrow.parquet.write_table(pa.table({
        "track_id": names, "object_type": kinds, "timestep": steps, "position_x": x, "position_y": y,
        "heading": [0.0] * len(x), "start_timestamp": [3.15e17] * len(x), "city": ["austin"] * len(x),
    }), folder / "scenario_hand-made.parquet")  # fmt: skip
    return folder


def test_a_hand_made_scenario_stands_on_its_map(scenario: Path):
    scene = Av2Scenes(str(scenario)).load("hand-made")
    np.testing.assert_array_equal(scene.dataset_to_local[:3, 3], [1000, -2, 5])
    np.testing.assert_allclose(scene.ego.poses[:, :3], [[i, 0, 0] for i in range(11)], atol=1e-9)
    assert scene.start_us == 315_000_000_000_000
    (cyclist,) = scene.tracks
    assert cyclist.times_us[0] == scene.start_us + 500_000
    assert cyclist.actor.actor_class is ActorClass.CYCLIST
    np.testing.assert_allclose(cyclist.local_to_aabb[:, 2], cyclist.actor.size_m[2] / 2, atol=1e-9)


def test_a_scenario_without_the_ego_is_refused(scenario: Path):
    file = scenario / "scenario_hand-made.parquet"
    table = pyarrow.parquet.read_table(file).to_pydict()
    table["track_id"] = ["7" if name == "AV" else name for name in table["track_id"]]
    pyarrow.parquet.write_table(pa.table(table), file)
    with pytest.raises(SceneError, match="has no track 'AV'"):
        Av2Scenes(str(scenario)).load("hand-made")


# ------------------------------------------------------------------------ the folder


def test_a_missing_or_empty_folder_says_what_it_should_look_like(tmp_path: Path):
    for give in (
        lambda: Av2Scenes(str(tmp_path / "absent")),
        lambda: Av2Scenes(str(tmp_path)).ids(),
    ):
        with pytest.raises(SceneError) as caught:
            give()
        assert "city_SE3_egovehicle.feather" in caught.value.remedy


def test_an_unknown_log_suggests_the_nearest(log: Path):
    with pytest.raises(SceneError, match=r"no scene 'hand-maid'.*Did you mean 'hand-made'"):
        Av2Scenes(str(log.parent)).load("hand-maid")


def test_two_logs_of_one_name_are_refused(log: Path):
    shutil.copytree(log, log.parent / "val" / "hand-made")
    with pytest.raises(SceneError, match="two logs are called 'hand-made'"):
        Av2Scenes(str(log.parent)).ids()


def test_a_table_of_other_types_or_much_too_large_is_named(log: Path) -> None:
    poses = log / "city_SE3_egovehicle.feather"
    whole = pyarrow.feather.read_table(poses)
    for name, values, message in (
        ("tx_m", ["x"] * len(whole), "column 'tx_m': it holds string, not numbers"),
        ("timestamp_ns", [0.5] * len(whole), "column 'timestamp_ns': it holds double, not whole numbers"),
        ("timestamp_ns", pa.array([2**64 - 1] * len(whole), pa.uint64()), "18446744073709551615 is too large"),
    ):  # fmt: skip
        at = whole.column_names.index(name)
        pyarrow.feather.write_feather(whole.set_column(at, name, pa.array(values)), poses)
        with pytest.raises(SceneError, match=message) as caught:
            Av2Scenes(str(log)).load("hand-made")
        assert caught.value.where == str(poses)
    pyarrow.feather.write_feather(pa.table({"timestamp_ns": pa.nulls(1 << 27)}), poses)
    assert poses.stat().st_size < 300_000
    with pytest.raises(SceneError, match="cannot be read: it holds more than 67108864 values"):
        Av2Scenes(str(log)).load("hand-made")


def test_text_that_one_entry_of_a_dictionary_repeats_is_refused(log: Path) -> None:
    file = log / "annotations.feather"
    whole = pyarrow.feather.read_table(file)
    rows = 2_000
    long = pa.DictionaryArray.from_arrays(
        pa.array([0] * rows, pa.int32()), pa.array(["x" * 200_000])
    )
    table = whole.take([0] * rows).set_column(1, "track_uuid", long)
    pyarrow.feather.write_feather(table, file, compression="zstd")
    assert file.stat().st_size < 20_000
    with pytest.raises(SceneError, match=r"column 'track_uuid': it holds more than .* 256 MiB"):
        Av2Scenes(str(log)).load("hand-made")


def test_a_raster_that_claims_more_than_it_has_is_not_given_the_memory(log: Path) -> None:
    file = next((log / "map").glob("*.npy"))
    head = np.lib.format.magic(1, 0)
    text = b"{'descr': '<f2', 'fortran_order': False, 'shape': (1000000, 1000000)}"
    text += b" " * (63 - (len(head) + 2 + len(text)) % 64) + b"\n"
    file.write_bytes(head + len(text).to_bytes(2, "little") + text + bytes(100))
    with pytest.raises(SceneError, match="cannot be read"):
        Av2Scenes(str(log)).load("hand-made")
    np.savez(file.with_suffix(""), a=np.zeros(3))
    file.with_suffix(".npz").rename(file)
    with pytest.raises(SceneError, match="holds a zip"):
        Av2Scenes(str(log)).load("hand-made")
