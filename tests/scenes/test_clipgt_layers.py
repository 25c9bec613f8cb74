"""Each layer of the ClipGT map tables there and back, and the tables of other writers."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.motion import Trajectory
from omniloop.core.scene import (
    Area,
    HeightRaster,
    Lane,
    LaneLine,
    MapFeature,
    MarkColor,
    MarkStyle,
    Polyline,
    Scene,
    TrafficLight,
    TrafficSign,
    VectorMap,
)
from omniloop.scenes.clipgt import read_map_tables
from omniloop.scenes.clipgt_tables import FEATURE_TABLES
from omniloop.scenes.clipgt_write import tables_of
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.scenes.fastmap import on_ground
from omniloop.scenes.native import scene_from_bytes, scene_hash, scene_to_bytes
from omniloop.scenes.validate_map import check_map_geometry, check_map_ids

EGO = Trajectory(np.array([0, 100_000]), np.stack([geometry.pose(), geometry.pose(1)]))


def line(*points: tuple[float, float], z: float = 0.5) -> np.ndarray:
    return np.array([(x, y, z) for x, y in points])


def a_scene(vector_map: VectorMap) -> Scene:
    return Scene("clipgt-abc", "test", EGO, map=vector_map)


def there_and_back(vector_map: VectorMap) -> VectorMap:
    tables = tables_of(a_scene(vector_map), "abc")
    return read_map_tables({f"clipgt/abc.{k}.parquet": v for k, v in tables.items()})[0]


def a_lane(name: str, y: float = 0.0, **more: object) -> Lane:
    return Lane(name, line((0, y), (10, y)), line((0, y + 2), (10, y + 2)), line((0, y - 2), (10, y - 2)), **more)  # type: ignore[arg-type]  # fmt: skip


def parquet(rows: list[dict], schema: pa.Schema | None = None) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), sink)
    return sink.getvalue()


def xyz(points: np.ndarray) -> list[dict]:
    return [dict(zip("xyz", map(float, p), strict=True)) for p in points]


def rows(table: str, *payloads: dict, ids: tuple[str, ...] = ()) -> list[dict]:
    """Rows without a clip id in their keys."""
    return [
        {"key": {"map_id": ids[i] if ids else f"{table}{i}"}, table: p}
        for i, p in enumerate(payloads)
    ]


LANE = rows(
    "lane", {"left_rail": xyz(line((0, 2), (10, 2))), "right_rail": xyz(line((0, -2), (10, -2)))}
)
LANES = {"lane.parquet": parquet(LANE)}

# ------------------------------------------------------------------ there and back


def test_lanes_with_their_links_limits_and_kinds() -> None:
    lanes = (
        a_lane("a", successors=("b", "c"), left_lane="l", speed_limit_mps=13.5),
        a_lane("l", 4.0, right_lane="a", kind="bus"),
        a_lane("b", predecessors=("a",)),
        a_lane("c", predecessors=("a",), kind="bike"),
    )
    for back, given in zip(there_and_back(VectorMap(lanes=lanes)).lanes, lanes, strict=True):
        assert (back.id, back.successors, back.predecessors) == (given.id, given.successors, given.predecessors)  # fmt: skip
        assert (back.left_lane, back.right_lane) == (given.left_lane, given.right_lane)
        assert (back.kind, back.speed_limit_mps) == (given.kind, given.speed_limit_mps)
        for side in ("centerline", "left", "right"):
            np.testing.assert_array_equal(getattr(back, side), getattr(given, side))


def test_lines_and_areas() -> None:
    given = VectorMap(
        lanes=(a_lane("a"), a_lane("b", 4.0)),
        lane_lines=tuple(
            LaneLine(f"{s.value}{c.value}", line((0, 2), (10, 2)), s, c)
            for s in MarkStyle if s is not MarkStyle.NONE for c in MarkColor
        ),
        road_boundaries=(Polyline("edge", line((0, 6), (5, 7), (10, 6))),),
        crosswalks=(Area("zebra", line((4, -2), (6, -2), (6, 6), (4, 6))),),
        stop_lines=(Polyline("stop", line((9, -2), (9, 6)), ("a", "b")),),
    )  # fmt: skip
    back = there_and_back(given)
    assert [(x.id, x.style, x.color) for x in back.lane_lines] == [(x.id, x.style, x.color) for x in given.lane_lines]  # fmt: skip
    for part in ("lane_lines", "road_boundaries", "stop_lines"):
        for x, y in zip(getattr(back, part), getattr(given, part), strict=True):
            np.testing.assert_array_equal(x.points, y.points)
    assert [(x.id, x.lanes) for x in back.stop_lines] == [("stop", ("a", "b"))]
    np.testing.assert_array_equal(back.crosswalks[0].outline, given.crosswalks[0].outline)


def test_signs_and_lights_with_the_lanes_they_rule() -> None:
    size = np.array([0.25, 0.5, 1.0])
    given = VectorMap(
        lanes=(a_lane("a"), a_lane("b", 4.0)),
        signs=(TrafficSign("s", geometry.pose(9, 3, 2, 1.0), size, "yield", ("b",)),),
        lights=(TrafficLight("t", geometry.pose(9, 3, 5, -2.0), size, ("a", "b")), TrafficLight("u", geometry.pose(), size)),
    )  # fmt: skip
    back = there_and_back(given)
    assert [(x.id, x.kind, x.lanes) for x in back.signs] == [("s", "yield", ("b",))]
    assert [(x.id, x.lanes) for x in back.lights] == [("t", ("a", "b")), ("u", ())]
    np.testing.assert_allclose(back.signs[0].local_to_sign, given.signs[0].local_to_sign, atol=1e-6)
    np.testing.assert_allclose(
        back.lights[0].local_to_light, given.lights[0].local_to_light, atol=1e-6
    )
    np.testing.assert_array_equal(back.lights[0].size_m, size)


FEATURES = tuple(
    MapFeature(f"{kind}{i}", kind, points, word)
    for kind in FEATURE_TABLES
    for i, (points, word) in enumerate(
        (
            (line((1, 1), (3, 1), (3, 2)) if kind != "pole" else line((1, 1)), "ARROW"),
            (line((5, 1), (7, 1), (7, 2), (5, 3)), ""),
        )
    )
)  # fmt: skip


def test_poles_markings_islands_and_areas() -> None:
    back = there_and_back(VectorMap(features=FEATURES)).features
    assert [(x.id, x.kind, x.category) for x in back] == [(x.id, x.kind, x.category) for x in FEATURES]  # fmt: skip
    for x, y in zip(back, FEATURES, strict=True):
        np.testing.assert_array_equal(x.points, y.points)


def test_a_feature_that_no_table_is_named_like_is_refused() -> None:
    made = VectorMap(features=(MapFeature("x", "bench", line((0, 0), (1, 0))),))
    with pytest.raises(SceneError, match="features of the kind 'bench' have no ClipGT table"):
        tables_of(a_scene(made), "abc")


@pytest.mark.parametrize("name", EmbeddedScenes().ids())
def test_an_embedded_map_keeps_what_traffic_obeys(name: str) -> None:
    given = EmbeddedScenes().load(name).map
    back = there_and_back(given)
    for one, other in zip(back.lanes, given.lanes, strict=True):
        assert one.kind == other.kind
        assert one.speed_limit_mps == pytest.approx(other.speed_limit_mps, abs=1e-6)
        assert len(one.successors) == len(other.successors)
        assert (one.left_lane is None, one.right_lane is None) == (other.left_lane is None, other.right_lane is None)  # fmt: skip
    assert [len(x.lanes) for x in back.lights] == [len(x.lanes) for x in given.lights]


# ------------------------------------------------------------------ native bundles


def test_features_are_part_of_a_native_bundle() -> None:
    scene = a_scene(VectorMap(features=FEATURES))
    back = scene_from_bytes(scene_to_bytes(scene), "x").map.features
    assert [(x.id, x.kind, x.category) for x in back] == [(x.id, x.kind, x.category) for x in FEATURES]  # fmt: skip
    for x, y in zip(back, FEATURES, strict=True):
        np.testing.assert_array_equal(x.points, y.points)
    assert scene_hash(scene) != scene_hash(a_scene(VectorMap()))


def test_a_bundle_without_features_does_not_mention_them() -> None:
    """Its bytes are those of the versions before, which suites pin."""
    assert b"features" not in scene_to_bytes(EmbeddedScenes().load("junction"))


def test_features_are_checked() -> None:
    bad = replace(FEATURES[1], points=line((0, np.nan), (1, 0)))
    made = VectorMap(features=(*FEATURES, bad, FEATURES[0]))
    assert ["pole pole1" in f.where for f in check_map_geometry(made)] == [True]
    assert [f.what for f in check_map_ids(made)] == ["2 ids occur more than once: pole pole0, pole pole1"]  # fmt: skip


# ------------------------------------------------------------------- other writers


@pytest.mark.parametrize(
    "name", ["lane.parquet", "clipgt/lane.parquet", "map_data/0a.b.lane.parquet", "x\\fastmap\\c.lane.parquet"]
)  # fmt: skip
def test_tables_are_found_whatever_their_folder_and_clip(name: str) -> None:
    made, notes = read_map_tables({name: LANES["lane.parquet"], "clipgt/readme.txt": b"x"})
    assert [x.id for x in made.lanes] == ["lane0"]
    assert notes == ()


def test_a_folder_without_lanes_is_refused_with_what_it_has() -> None:
    edge = parquet(rows("road_boundary", {"location": xyz(line((0, 0), (1, 0)))}))
    members = {"clipgt/road_boundary.parquet": edge, "clipgt/dw_lane.parquet": edge}
    with pytest.raises(SceneError, match="no table of lanes; there are the tables dw_lane, road_boundary") as caught:  # fmt: skip
        read_map_tables(members, "scene.usdz, clipgt")
    assert caught.value.where == "scene.usdz, clipgt"
    with pytest.raises(SceneError, match="there are the tables none"):
        read_map_tables({})


def test_a_table_of_nulls_without_a_type_has_no_elements() -> None:
    """NuRec writes empty tables so: one row, every column of nulls."""
    nothing = pa.table({"key": pa.nulls(1), "crosswalk": pa.nulls(1), "version": pa.nulls(1)})
    typed = pa.table({
        "key": pa.array([{"clip_id": None, "map_id": None}]),
        "traffic_sign": pa.array([{"center": None, "dimensions": None, "orientation": None, "category": None}]),
    })  # fmt: skip
    sinks = [io.BytesIO(), io.BytesIO()]
    for table, sink in zip((nothing, typed), sinks, strict=True):
        pq.write_table(table, sink)
    members = {
        **LANES,
        "crosswalk.parquet": sinks[0].getvalue(),
        "traffic_sign.parquet": sinks[1].getvalue(),
    }
    made, notes = read_map_tables(members)
    assert (made.crosswalks, made.signs) == ((), ())
    assert sorted(notes) == [
        "table crosswalk has no elements",
        "table traffic_sign has no elements",
    ]


def test_what_cannot_be_used_is_told() -> None:
    good, bad = line((0, 0), (1, 0)), line((0, 0), (np.inf, 0))
    members = {
        **LANES,
        "road_boundary.parquet": parquet(rows("road_boundary", *({"location": xyz(p)} for p in (good, bad, good[:1])))),
        "traffic_light.parquet": parquet(rows("traffic_light", {
            "center": {"x": 0.0, "y": 0.0, "z": float("nan")}, "dimensions": {"x": 1.0, "y": 1.0, "z": 1.0},
            "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0},
        })),
        "lane.parquet": parquet(LANE + rows("lane", {"left_rail": xyz(good), "right_rail": xyz(bad)}, ids=("nan",))),
    }  # fmt: skip
    made, notes = read_map_tables(members)
    assert (len(made.lanes), len(made.road_boundaries), len(made.lights)) == (1, 1, 0)
    reason = "numbers that are missing or not finite"
    assert sorted(notes) == [
        f"table lane: 1 of 2 elements left out: fewer than 2 points or {reason}",
        f"table road_boundary: 2 of 3 elements left out: fewer than 2 points or {reason}",
        f"table traffic_light: 1 of 1 elements left out: {reason}",
    ]


def test_rails_of_unequal_length_keep_their_points_and_get_a_line_between() -> None:
    left, right = line((0, 2), (5, 3), (10, 2)), line((0, -2), (10, -2))
    members = {
        "lane.parquet": parquet(rows("lane", {"left_rail": xyz(left), "right_rail": xyz(right)}))
    }
    made, notes = read_map_tables(members)
    np.testing.assert_allclose(made.lanes[0].left, left)
    np.testing.assert_allclose(made.lanes[0].right, right)
    np.testing.assert_allclose(made.lanes[0].centerline, line((0, 0), (5, 0.5), (10, 0)))
    assert "1 of 1 lanes have unequal numbers of points" in notes[0]


def test_other_types_of_texts_numbers_and_lists_are_read() -> None:
    point = pa.struct([("x", pa.int32()), ("y", pa.float64()), ("z", pa.float32())])
    text = pa.dictionary(pa.int32(), pa.large_string())
    schema = pa.schema([
        ("key", pa.struct([("clip_id", text), ("map_id", pa.int64())])),
        ("lane_line", pa.struct([
            ("line_rail", pa.large_list(point)), ("styles", pa.large_list(pa.large_string())),
            ("colors", pa.list_(pa.string(), 1)),
        ])),
    ])  # fmt: skip
    row = {
        "key": {"clip_id": "c", "map_id": 17},
        "lane_line": {"line_rail": [{"x": 0, "y": 1.0, "z": 2.0}, {"x": 5, "y": 1.0, "z": 2.0}],
                      "styles": ["DASHED_SINGLE"], "colors": ["YELLOW"]},
    }  # fmt: skip
    (made,) = read_map_tables({**LANES, "lane_line.parquet": parquet([row], schema)})[0].lane_lines
    assert (made.id, made.style, made.color) == ("17", MarkStyle.DASHED_SINGLE, MarkColor.YELLOW)
    np.testing.assert_array_equal(made.points, [[0, 1, 2], [5, 1, 2]])
    fixed = pa.schema([
        ("key", pa.struct([("map_id", pa.string())])),
        ("road_boundary", pa.struct([("location", pa.list_(point, 2))])),
    ])  # fmt: skip
    edge = [{"key": {"map_id": "e"}, "road_boundary": {"location": row["lane_line"]["line_rail"]}}]
    (boundary,) = read_map_tables({**LANES, "road_boundary.parquet": parquet(edge, fixed)})[
        0
    ].road_boundaries
    np.testing.assert_array_equal(boundary.points, [[0, 1, 2], [5, 1, 2]])


def test_associations_are_read_in_whichever_direction_they_are_said() -> None:
    box = {"center": {"x": 1.0, "y": 2.0, "z": 5.0}, "dimensions": {"x": 1.0, "y": 1.0, "z": 1.0},
           "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}}  # fmt: skip
    said = [
        ("LIGHT_TO_LANE", ["t"], ["lane0"]), ("LIGHT_TO_LANE", ["lane0"], ["u"]), ("SIGN_TO_LANE", ["lane0"], ["s"]),
        ("INTERSECTION_AREA_TO_LANE", ["area"], ["lane0"]), ("WAIT_LINE_TO_LANE", ["w"], ["lane0"]),
    ]  # fmt: skip
    members = {
        **LANES,
        "traffic_light.parquet": parquet(rows("traffic_light", box, box, ids=("t", "u"))),
        "traffic_sign.parquet": parquet(rows("traffic_sign", box, ids=("s",))),
        "wait_line.parquet": parquet(rows("wait_line", {"location": xyz(line((9, -2), (9, 2)))}, ids=("w",))),
        "association.parquet": parquet([
            {"key": {"kind": k}, "association": {"subjects": a, "objects": b}} for k, a, b in said
        ]),
    }  # fmt: skip
    made, _ = read_map_tables(members)
    assert [x.lanes for x in (*made.lights, *made.signs, *made.stop_lines)] == [("lane0",)] * 4
    assert made.lanes[0].in_intersection


def test_limits_are_miles_per_hour_and_zero_is_none() -> None:
    """24.8548 is 40 km/h in NuRec scenes."""
    payloads = [{**LANE[0]["lane"], "speed_limit": v} for v in (24.854801, 0.0, None)]
    made, _ = read_map_tables({"lane.parquet": parquet(rows("lane", *payloads))})
    assert made.lanes[0].speed_limit_mps == pytest.approx(40 / 3.6, abs=1e-4)
    assert [x.speed_limit_mps for x in made.lanes[1:]] == [None, None]


@pytest.mark.parametrize(
    ("table", "payload", "says"),
    [
        ("lane", {**LANE[0]["lane"], "speed_limit": "fast"}, "'lane.speed_limit' is string, not a number"),
        ("lane", {"left_rail": LANE[0]["lane"]["left_rail"]}, "'lane.right_rail' is missing"),
        ("pole", {"location": 3}, "'pole.location' is int64, not a list of points"),
        ("road_island", {"location": [1.0, 2.0]}, "'road_island.location' is double, not a struct"),
    ],
)  # fmt: skip
def test_columns_of_another_kind_are_named(table: str, payload: dict, says: str) -> None:
    with pytest.raises(SceneError, match=says) as caught:
        read_map_tables({**LANES, f"{table}.parquet": parquet(rows(table, payload))}, "the folder")
    assert caught.value.where == f"the folder, {table}"


# --------------------------------------------------------------- the newer lane tables


def dw_lanes(stamp: int, shift: float) -> tuple[list[dict], list[dict]]:
    """An ego lane of two chunks that leads to another, with a lane at its left."""

    def lane(name: int, position: int, chunks: list[int], after: list[int]) -> dict:
        return {
            "key": {"timestamp_micros": stamp},
            "dw_lane": {
                "currentId": name, "position": position, "laneClass": 0, "beginType": 0, "endType": 0,
                "chunkIndices": chunks, "lgwm_lane_continuation_array": after,
            },
        }  # fmt: skip

    def chunk(x: float, y: float) -> dict:
        def side(d: float) -> list[dict]:
            return xyz(line((x + shift, y + d), (x + shift + 5, y + d)))

        return {
            "key": {"timestamp_micros": stamp},
            "lane_chunk": {"center": side(0), "left": side(2), "right": side(-2)},
        }

    lanes = [
        lane(7, 1, [0, 1], [1]),
        lane(8, 0, [2], []),
        lane(9, 2, [3], []),
        lane(10, 3, [9], []),
    ]
    return lanes, [chunk(0, 0), chunk(5, 0), chunk(10, 0), chunk(0, 4)]


def test_lanes_as_seen_every_two_seconds() -> None:
    seen = [dw_lanes(1000 + 100_000 * k, float(k)) for k in range(22)]
    members = {
        "dw_lane.parquet": parquet([row for lanes, _ in seen for row in lanes]),
        "lane_chunk.parquet": parquet([row for _, chunks in seen for row in chunks]),
    }
    made, notes = read_map_tables(members)
    assert [x.id for x in made.lanes] == ["7_0", "8_0", "9_0", "7_20", "8_20", "9_20"]
    ego = made.lane_by_id["7_20"]
    np.testing.assert_allclose(ego.centerline, line((20, 0), (25, 0), (30, 0)))
    np.testing.assert_allclose(ego.left, line((20, 2), (25, 2), (30, 2)))
    assert (ego.successors, ego.left_lane) == (("8_20",), "9_20")
    assert "table dw_lane: 2 of 8 lanes left out" in notes[0]  # they have no chunks


# ----------------------------------------------------------------------- heights


def test_a_map_is_put_on_the_ground_where_it_is_known() -> None:
    x, y = np.meshgrid(np.arange(0, 21.0), np.arange(-5, 6.0))
    heights = 10 + 0.5 * x - 0.25 * y
    heights[:, 15:] = np.nan
    ground = HeightRaster(heights, np.array([[1.0, 0, 0], [0, 1.0, 5]]))
    light = TrafficLight("t", geometry.pose(9, 3, 25), np.ones(3))
    given = VectorMap(
        lanes=(a_lane("a"),),
        crosswalks=(Area("z", line((1.3, 0.7), (12, 0), (18, 0)), (line((2, 0), (3, 0), (3, 1)),)),),
        lights=(light,), features=FEATURES,
    )  # fmt: skip
    made = on_ground(given, ground)
    for points in (made.lanes[0].left, made.crosswalks[0].outline[:2], made.crosswalks[0].holes[0]):
        np.testing.assert_allclose(points[:, 2], 10 + 0.5 * points[:, 0] - 0.25 * points[:, 1])
    assert made.crosswalks[0].outline[2, 2] == 0.5
    assert made.lights == (light,)
    assert [x.points[0, 2] == 0.5 for x in made.features if x.kind == "pole"] == [True, True]
    none = HeightRaster(np.zeros((0, 0)), np.eye(2, 3))
    np.testing.assert_array_equal(on_ground(given, none).lanes[0].left, given.lanes[0].left)
