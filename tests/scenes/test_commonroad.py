"""The CommonRoad reader: hand-made files for every rule, recorded files for reality."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import shapely

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.scene import ActorClass, MarkStyle, Scene
from omniloop.scenes.commonroad import REAR_AXLE_TO_CENTER, WHEELBASE, CommonRoadScenes
from omniloop.scenes.native import scene_from_bytes, scene_to_bytes

NGSIM = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "commonroad_ngsim"
recorded = pytest.mark.skipif(
    not NGSIM.exists(), reason="recorded scenes are not in ../shared/data"
)


# ---------------------------------------------------------------------- small files


def bound(tag: str, points: list[tuple[float, float]], mark: str = "") -> str:
    inner = "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in points)
    return f"<{tag}>{inner}{f'<lineMarking>{mark}</lineMarking>' if mark else ''}</{tag}>"


def lanelet(
    name: int,
    x: tuple[float, float],
    y: tuple[float, float],
    extra: str = "",
    marks: tuple[str, str] = ("", ""),
    kind: str = "urban",
) -> str:
    """A straight lanelet between x[0] and x[1], its right bound at y[0], its left at y[1]."""
    left = bound("leftBound", [(x[0], y[1]), (x[1], y[1])], marks[0])
    right = bound("rightBound", [(x[0], y[0]), (x[1], y[0])], marks[1])
    return f'<lanelet id="{name}">{left}{right}{extra}<laneletType>{kind}</laneletType></lanelet>'


def state(step: int, x: float, y: float = 101.75, yaw: float = 0.0, tag: str = "state") -> str:
    return (
        f"<{tag}><position><point><x>{x}</x><y>{y}</y></point></position>"
        f"<orientation><exact>{yaw}</exact></orientation><time><exact>{step}</exact></time></{tag}>"
    )


BOX = "<rectangle><length>4.0</length><width>2.0</width></rectangle>"


def obstacle(
    name: int, xs: list[float], kind: str = "car", shape: str = BOX, y: float = 101.75
) -> str:
    states = "".join(state(k, x, y) for k, x in enumerate(xs) if k > 0)
    return (
        f'<dynamicObstacle id="{name}"><type>{kind}</type><shape>{shape}</shape>'
        f"{state(0, xs[0], y, tag='initialState')}<trajectory>{states}</trajectory></dynamicObstacle>"
    )


def parked(name: int, x: float, kind: str = "parkedVehicle", shape: str = BOX) -> str:
    return (
        f'<staticObstacle id="{name}"><type>{kind}</type><shape>{shape}</shape>'
        f"{state(0, x, 99.0, tag='initialState')}</staticObstacle>"
    )


LANES = lanelet(1, (200, 300), (100, 103.5), '<successor ref="2"/>') + lanelet(
    2, (300, 400), (100, 103.5), '<predecessor ref="1"/>'
)
EGO = obstacle(7, [210.4, 211.4, 212.4, 213.4])


def scenario(body: str, version: str = "2020a", dt: str = "0.1", head: str = "") -> str:
    return (
        f'<?xml version="1.0"?>{head}<commonRoad commonRoadVersion="{version}" benchmarkID="X" timeStepSize="{dt}">'
        f"<scenarioTags><urban/><critical/></scenarioTags>{body}</commonRoad>"
    )


def write(folder: Path, text: str, name: str = "DEU_Test-1_1_T-1.xml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def read(folder: Path, body: str, ego: str | None = None, **more: str) -> Scene:
    source = CommonRoadScenes(str(write(folder, scenario(body, **more))), ego)
    return source.load(source.ids()[0])


# ------------------------------------------------------------------------ ego, actors


def test_the_rig_is_behind_the_recorded_box_centre_on_the_ground(tmp_path: Path) -> None:
    scene = read(tmp_path, LANES + EGO)
    assert scene.vehicle.length_m == 4.0
    assert scene.vehicle.wheelbase_m == pytest.approx(4.0 * WHEELBASE)
    behind = REAR_AXLE_TO_CENTER * 4.0
    assert np.allclose(scene.ego.poses[0, :3], [210.4 - 210 - behind, 101.75 - 102, 0.0])
    centers = geometry.compose(scene.ego.poses, scene.vehicle.rig_to_aabb)
    assert np.allclose(centers[:, 0] + scene.dataset_to_local[0, 3], [210.4, 211.4, 212.4, 213.4])
    assert scene.ego.times_us.tolist() == [0, 100_000, 200_000, 300_000]
    assert scene.tags == ("urban", "critical")


def test_time_steps_become_microseconds(tmp_path: Path) -> None:
    assert read(tmp_path, LANES + EGO, dt="0.04").ego.times_us.tolist() == [
        0,
        40_000,
        80_000,
        120_000,
    ]


def test_the_longest_recording_is_ego_and_of_several_the_smallest_number(tmp_path: Path) -> None:
    body = LANES + obstacle(30, [250.0, 251]) + obstacle(100, [260.0, 261, 262])
    body += obstacle(20, [270.0, 271, 272]) + obstacle(9, [290.0] * 9, "pedestrian")
    scene = read(tmp_path, body)
    assert [actor.id for actor in scene.actors] == ["30", "100", "9"]


def test_ego_can_be_chosen(tmp_path: Path) -> None:
    scene = read(tmp_path, LANES + EGO + obstacle(8, [250.0, 251], "pedestrian"), ego="8")
    assert [actor.id for actor in scene.actors] == ["7"]
    assert scene.vehicle.height_m == 1.75


@pytest.mark.parametrize(
    ("kind", "actor_class", "height_m"),
    [
        ("car", ActorClass.CAR, 1.5),
        ("bus", ActorClass.TRUCK, 3.2),
        ("truck", ActorClass.TRUCK, 3.5),
        ("motorcycle", ActorClass.CYCLIST, 1.6),
        ("bicycle", ActorClass.CYCLIST, 1.7),
        ("pedestrian", ActorClass.PEDESTRIAN, 1.75),
        ("train", ActorClass.OTHER, 3.8),
        ("unknown", ActorClass.OTHER, 1.5),
    ],
)
def test_classes_and_their_heights(
    tmp_path: Path, kind: str, actor_class: ActorClass, height_m: float
) -> None:
    (track,) = read(tmp_path, LANES + EGO + obstacle(8, [250.0, 252], kind)).tracks
    assert track.actor.actor_class is actor_class
    assert track.actor.label == kind
    assert track.actor.size_m.tolist() == [4.0, 2.0, height_m]
    assert (track.local_to_aabb[:, 2] == height_m / 2).all()


def test_static_obstacles_stand_from_the_first_to_the_last_step(tmp_path: Path) -> None:
    scene = read(tmp_path, LANES + EGO + parked(50, 230.0))
    (track,) = scene.tracks
    assert track.actor.is_static
    assert (track.times_us[0], track.times_us[-1]) == (0, 300_000)
    assert track.actor.actor_class is ActorClass.CAR


def test_missing_steps_are_not_valid(tmp_path: Path) -> None:
    text = obstacle(8, [250.0, 251, 252, 253]).replace(state(2, 252), "")
    (track,) = read(tmp_path, LANES + EGO + text).tracks
    assert track.valid.tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("shape", "size", "center"),
    [
        ("<circle><radius>0.4</radius></circle>", (0.8, 0.8), (0, 0)),
        ("<rectangle><length>4</length><width>2</width><center><x>1</x><y>0.5</y></center></rectangle>", (4, 2), (1, 0.5)),
        ("<rectangle><length>4</length><width>2</width><orientation>1.5707963267948966</orientation></rectangle>", (2, 4), (0, 0)),
        (bound("polygon", [(-1, -1), (3, -1), (3, 1)]), (4, 2), (1, 0)),
        (BOX + "<circle><radius>1</radius><center><x>3</x><y>0</y></center></circle>", (6, 2), (1, 0)),
    ],
)  # fmt: skip
def test_shapes_become_their_bounding_box(
    tmp_path: Path, shape: str, size: tuple[float, float], center: tuple[float, float]
) -> None:
    (track,) = read(tmp_path, LANES + EGO + obstacle(8, [250.0, 251], shape=shape)).tracks
    assert track.actor.size_m[:2] == pytest.approx(size)
    at = track.local_to_aabb[0, :2] + [210, 102] - [250, 101.75]
    assert at == pytest.approx(center)


def test_intervals_count_as_their_middle(tmp_path: Path) -> None:
    text = EGO.replace(
        "<time><exact>3</exact></time>",
        "<time><intervalStart>2</intervalStart><intervalEnd>4</intervalEnd></time>",
    )
    text = text.replace(
        "<orientation><exact>0.0</exact></orientation>",
        "<orientation><intervalStart>0.1</intervalStart><intervalEnd>0.3</intervalEnd></orientation>",
    )
    text = text.replace(
        "<point><x>213.4</x><y>101.75</y></point>",
        "<rectangle><length>1</length><width>1</width><center><x>213.0</x><y>101.75</y></center></rectangle>",
    )
    scene = read(tmp_path, LANES + text)
    assert scene.ego.times_us[-1] == 300_000
    assert geometry.yaw_rad(scene.ego.poses) == pytest.approx(0.2)
    assert geometry.compose(scene.ego.poses, scene.vehicle.rig_to_aabb)[-1, 0] == pytest.approx(
        213.0 - 210
    )


def test_a_scenario_of_one_step_is_loaded(tmp_path: Path) -> None:
    scene = read(tmp_path, LANES + obstacle(7, [210.0]))
    assert scene.start_us == scene.end_us == 0


# -------------------------------------------------------------------------------- map


def test_lanelets_have_boundaries_centre_outline_and_topology(tmp_path: Path) -> None:
    first, second = read(tmp_path, LANES + EGO).map.lanes
    assert first.successors == ("2",)
    assert second.predecessors == ("1",)
    assert first.left[0].tolist() == [-10, 1.5, 0]
    assert first.right[-1].tolist() == [90, -2, 0]
    assert first.centerline.tolist() == [[-10, -0.25, 0], [90, -0.25, 0]]
    assert shapely.Polygon(first.polygon[:, :2]).area == pytest.approx(350)
    assert (first.kind, first.speed_limit_mps, first.in_intersection) == ("vehicle", None, False)


def test_only_neighbours_of_the_same_direction_are_neighbours(tmp_path: Path) -> None:
    body = lanelet(
        1,
        (200, 300),
        (100, 103.5),
        '<adjacentLeft ref="2" drivingDir="same"/><adjacentRight ref="3" drivingDir="opposite"/>',
    )
    scene = read(tmp_path, body + lanelet(2, (200, 300), (103.5, 107)) + EGO)
    assert (scene.map.lanes[0].left_lane, scene.map.lanes[0].right_lane) == ("2", None)


def test_a_line_that_both_neighbours_mark_is_one_line(tmp_path: Path) -> None:
    body = lanelet(
        1,
        (200, 300),
        (100, 103.5),
        '<adjacentLeft ref="2" drivingDir="same"/>',
        ("dashed", "solid"),
    )
    body += lanelet(
        2,
        (200, 300),
        (103.5, 107),
        '<adjacentRight ref="1" drivingDir="same"/>',
        ("broad_solid", "dashed"),
    )
    vector_map = read(tmp_path, body + EGO).map
    styles = {line.id: line.style for line in vector_map.lane_lines}
    assert styles == {
        "1_left": MarkStyle.DASHED_SINGLE,
        "1_right": MarkStyle.SOLID_SINGLE,
        "2_left": MarkStyle.SOLID_SINGLE,
    }
    assert [(lane.left_line, lane.right_line) for lane in vector_map.lanes] == [
        ("1_left", "1_right"),
        ("2_left", "1_left"),
    ]


@pytest.mark.parametrize("mark", ["no_marking", "unknown", "curb", "lowered_curb", ""])
def test_what_is_not_paint_is_no_line(tmp_path: Path, mark: str) -> None:
    vector_map = read(tmp_path, lanelet(1, (200, 300), (100, 103.5), marks=(mark, mark)) + EGO).map
    assert vector_map.lane_lines == ()
    assert vector_map.lanes[0].left_line is None


def test_speed_limits_come_from_signs_and_the_lowest_counts(tmp_path: Path) -> None:
    refs = '<trafficSignRef ref="61"/><trafficSignRef ref="62"/><trafficSignRef ref="63"/>'
    body = lanelet(1, (200, 300), (100, 103.5), refs) + EGO
    for name, kind, value in ((61, "274", 13.9), (62, "274", 8.3), (63, "206", 1.0)):
        body += f'<trafficSign id="{name}"><trafficSignElement><trafficSignID>{kind}</trafficSignID><additionalValue>{value}</additionalValue></trafficSignElement><virtual>true</virtual></trafficSign>'
    vector_map = read(tmp_path, body).map
    assert vector_map.lanes[0].speed_limit_mps == 8.3
    assert vector_map.signs == ()  # virtual ones stand nowhere


def test_signs_with_a_position_face_their_traffic(tmp_path: Path) -> None:
    body = lanelet(1, (200, 300), (100, 103.5), '<trafficSignRef ref="61"/>') + EGO
    body += '<trafficSign id="61"><trafficSignElement><trafficSignID>206</trafficSignID></trafficSignElement><position><point><x>299</x><y>99</y></point></position></trafficSign>'
    (sign,) = read(tmp_path, body).map.signs
    assert (sign.kind, sign.lanes) == ("206", ("1",))
    assert sign.local_to_sign[:3].tolist() == [89, -3, 2.3]
    assert np.allclose(geometry.rotate(sign.local_to_sign[3:], [1.0, 0, 0]), [-1, 0, 0])


def light(cycle: list[tuple[int, str]], offset: int | None, active: str = "true") -> str:
    parts = "".join(
        f"<cycleElement><duration>{d}</duration><color>{c}</color></cycleElement>" for d, c in cycle
    )
    shift = "" if offset is None else f"<timeOffset>{offset}</timeOffset>"
    return f'<trafficLight id="70"><cycle>{parts}{shift}</cycle><active>{active}</active></trafficLight>'


@pytest.mark.parametrize("offset", [None, 0, 1, 2, 5, 6, 7, 25])
def test_light_states_follow_the_cycle(tmp_path: Path, offset: int | None) -> None:
    cycle = [(2, "red"), (1, "redYellow"), (3, "green"), (1, "inactive")]
    long_ego = obstacle(7, [210.0 + k for k in range(20)])
    body = lanelet(1, (200, 300), (100, 103.5), '<trafficLightRef ref="70"/>') + long_ego
    (found,) = read(tmp_path, body + light(cycle, offset)).map.lights
    colors = [
        {"redYellow": "red_yellow", "inactive": "off"}.get(c, c) for d, c in cycle for _ in range(d)
    ]
    for step in range(20):
        held = np.searchsorted(found.times_us, step * 100_000, side="right") - 1
        assert found.states[held] == colors[(step - (offset or 0)) % 7], step
    assert found.times_us[0] == 0
    assert (np.diff(found.times_us) > 0).all()
    assert found.lanes == ("1",)
    assert found.local_to_light[:3].tolist() == [90, -2, 5.0]  # the end of its lanelet


def test_a_light_that_is_not_active_is_off(tmp_path: Path) -> None:
    body = lanelet(1, (200, 300), (100, 103.5), '<trafficLightRef ref="70"/>') + EGO
    (found,) = read(tmp_path, body + light([(5, "red")], 0, "false")).map.lights
    assert found.states == ("off",)


def test_an_unknown_colour_is_refused(tmp_path: Path) -> None:
    body = lanelet(1, (200, 300), (100, 103.5), '<trafficLightRef ref="70"/>') + EGO
    with pytest.raises(SceneError, match="colour 'blue'"):
        read(tmp_path, body + light([(5, "blue")], 0))


def test_stop_lines_lie_at_their_points_or_at_the_end_of_the_lanelet(tmp_path: Path) -> None:
    own = "<stopLine><point><x>290</x><y>100</y></point><point><x>290</x><y>103.5</y></point><lineMarking>solid</lineMarking></stopLine>"
    body = lanelet(1, (200, 300), (100, 103.5), own) + lanelet(
        2, (300, 400), (100, 103.5), "<stopLine><lineMarking>solid</lineMarking></stopLine>"
    )
    first, second = read(tmp_path, body + EGO).map.stop_lines
    assert first.points[:, 0].tolist() == [80, 80]
    assert second.points[:, 0].tolist() == [190, 190]
    assert second.lanes == ("2",)


def test_successors_of_incomings_lie_in_the_intersection(tmp_path: Path) -> None:
    cross = '<intersection id="80"><incoming id="81"><incomingLanelet ref="1"/><successorsStraight ref="2"/></incoming></intersection>'
    assert [lane.in_intersection for lane in read(tmp_path, LANES + EGO + cross).map.lanes] == [
        False,
        True,
    ]


def test_kinds_of_lanelets(tmp_path: Path) -> None:
    body = "".join(
        lanelet(k, (200, 300), (100 + 4 * k, 103.5 + 4 * k), kind=kind)
        for k, kind in enumerate(["busLane", "bicycleLane", "shoulder", "crosswalk", "sidewalk"])
    )
    vector_map = read(tmp_path, body + EGO).map
    assert {lane.id: lane.kind for lane in vector_map.lanes} == {
        "0": "bus",
        "1": "bike",
        "2": "shoulder",
    }
    assert [area.id for area in vector_map.crosswalks] == ["3"]


def test_road_edges_are_the_outline_without_the_ends(tmp_path: Path) -> None:
    edges = read(tmp_path, LANES + EGO).map.road_boundaries
    assert len(edges) == 2
    for edge in edges:
        assert np.ptp(edge.points[:, 1]) < 0.5  # stubs at the corners remain
        assert np.ptp(edge.points[:, 0]) == pytest.approx(200, abs=2)
    assert read(tmp_path, LANES + EGO).map.drivable_areas == ()


# ------------------------------------------------------------------------------ files


def test_files_are_found_below_a_folder_and_named_by_their_stem(tmp_path: Path) -> None:
    write(tmp_path, scenario(LANES + EGO), "b/DEU_B-1.xml.gz")
    write(tmp_path, scenario(LANES + EGO), "a/DEU A(1).xml")
    source = CommonRoadScenes(str(tmp_path))
    assert source.ids() == ["DEU_A_1_", "DEU_B-1"]
    assert source.load("DEU_B-1").id == "DEU_B-1"


def test_files_of_one_name_get_their_folders_names(tmp_path: Path) -> None:
    for folder in ("a", "b/c"):
        write(tmp_path, scenario(LANES + EGO), f"{folder}/same.xml")
    assert CommonRoadScenes(str(tmp_path)).ids() == ["a_same", "b_c_same"]


def test_a_file_beside_its_compressed_copy_is_refused(tmp_path: Path) -> None:
    for name in ("x.xml", "x.xml.gz"):
        write(tmp_path, scenario(LANES + EGO), name)
    with pytest.raises(SceneError, match="two files give the scene id 'x'"):
        CommonRoadScenes(str(tmp_path))


def test_ids_open_no_file(tmp_path: Path) -> None:
    write(tmp_path, "not xml at all", "bad.xml")
    assert CommonRoadScenes(str(tmp_path)).ids() == ["bad"]


def test_wrong_paths_and_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="nothing at"):
        CommonRoadScenes(str(tmp_path / "absent"))
    with pytest.raises(SceneError, match=r"holds no \.xml"):
        CommonRoadScenes(str(tmp_path))
    write(tmp_path, scenario(LANES + EGO), "USA_Lanker-1.xml")
    with pytest.raises(SceneError, match="Did you mean 'USA_Lanker-1'"):
        CommonRoadScenes(str(tmp_path)).load("USA_Lanker1")


BAD = {
    "malformed": (scenario(LANES + EGO)[:-20], "not well-formed", "copy the file again"),
    "empty": ("", "not well-formed", "copy the file again"),
    "document type": (scenario(LANES + EGO, head='<!DOCTYPE x [<!ENTITY a "aaaa">]>'), "document type", "remove it"),
    "another root": ("<osm/>", "<osm>", "commonroad-io"),
    "older version": (scenario(LANES + EGO, version="2018b"), "'2018b'", "commonroad-io"),
    "no obstacle": (scenario(LANES), "its 0 dynamic obstacles", "leave the scenario out"),
    "no vehicle": (scenario(LANES + obstacle(8, [1.0, 2.0], "pedestrian")), "its 1 dynamic obstacles", "scenes.ego=ID"),
    "no time step": (scenario(LANES + EGO, dt="fast"), "timeStepSize is 'fast'", "mend"),
    "time step 0": (scenario(LANES + EGO, dt="0.0"), "timeStepSize is 0.0", "positive"),
    "NaN position": (scenario(LANES + EGO.replace("212.4", "nan")), "x is 'nan'", "mend"),
    "no orientation": (scenario(LANES + EGO.replace("<orientation><exact>0.0</exact></orientation>", "", 1)), "lacks <orientation>", "mend"),
    "repeated step": (scenario(LANES + EGO.replace("<exact>3</exact>", "<exact>2</exact>")), "not after 200000", "one per time"),
    "position is a lanelet": (scenario(LANES + EGO.replace("<point><x>212.4</x><y>101.75</y></point>", '<lanelet ref="1"/>')), "neither a point", "exact"),
    "no shape": (scenario(LANES + EGO.replace(BOX, "")), "shape has no", "mend"),
    "flat box": (scenario(LANES + EGO.replace("<width>2.0", "<width>0.0")), "not positive", "mend"),
    "bound of one point": (scenario(lanelet(5, (1, 2), (1, 2)).replace("<point><x>1</x><y>2</y></point>", "") + EGO), "<leftBound> has 1 points", "two points"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_its_name_and_a_remedy(tmp_path: Path, case: str) -> None:
    text, what, remedy = BAD[case]
    path = write(tmp_path, text)
    with pytest.raises(SceneError) as caught:
        CommonRoadScenes(str(path)).load("DEU_Test-1_1_T-1")
    assert what in caught.value.what
    assert caught.value.where.startswith(str(path))
    assert remedy in caught.value.remedy


def test_errors_of_obstacles_name_the_obstacle_and_the_step(tmp_path: Path) -> None:
    with pytest.raises(SceneError) as caught:
        read(tmp_path, LANES + EGO.replace("212.4", "far"))
    assert "dynamicObstacle 7, time step 2" in caught.value.where


def test_a_document_type_is_refused_in_any_encoding(tmp_path: Path) -> None:
    text = '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE commonRoad SYSTEM "/etc/passwd"><commonRoad/>'
    path = tmp_path / "x.xml"
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(SceneError, match="document type"):
        CommonRoadScenes(str(path)).load("x")


def test_a_cut_off_gzip_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, scenario(LANES + EGO), "x.xml.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SceneError, match="cannot be read"):
        CommonRoadScenes(str(path)).load("x")


def test_an_unknown_ego_suggests_the_nearest(tmp_path: Path) -> None:
    body = LANES + obstacle(1881, [210.0, 211]) + obstacle(2000, [230.0, 231])
    with pytest.raises(SceneError, match="Did you mean '1881'") as caught:
        read(tmp_path, body, ego="1882")
    assert "scenes.ego" in caught.value.remedy


# --------------------------------------------------------------------- recorded files


@recorded
def test_all_recorded_files_are_found() -> None:
    ids = CommonRoadScenes(str(NGSIM)).ids()
    assert len(ids) == 108
    assert "USA_US101-1_1_T-1" in ids


@recorded
@pytest.mark.parametrize(
    "scene_id", ["USA_US101-1_1_T-1", "USA_Lanker-2_17_T-1", "USA_Lanker-1_10_T-1"]
)
def test_recorded_scenes_are_complete(scene_id: str) -> None:
    scene = CommonRoadScenes(str(NGSIM)).load(scene_id)
    assert np.abs(scene.ego.poses[0, :2]).max() < 3  # the rig is behind the rounded centre
    assert all(t.times_us[0] == 0 for t in scene.tracks)
    lanes = scene.map.lane_by_id
    refs = [s for lane in lanes.values() for s in (*lane.successors, *lane.predecessors)]
    assert set(refs) <= set(lanes)
    assert all(lane.polygon is not None for lane in lanes.values())
    assert scene.map.road_boundaries
    back = scene_from_bytes(scene_to_bytes(scene), scene_id)
    assert (back.ego.poses == scene.ego.poses).all()


@recorded
def test_an_urban_junction_has_lights_limits_and_stop_lines() -> None:
    vector_map = CommonRoadScenes(str(NGSIM)).load("USA_Lanker-1_10_T-1").map
    assert len(vector_map.lights) == 8
    assert {state for light_ in vector_map.lights for state in light_.states} <= {
        "red",
        "yellow",
        "green",
        "off",
    }
    assert {lane.speed_limit_mps for lane in vector_map.lanes} <= {13.4112, 11.176, 3.5763}
    assert sum(lane.in_intersection for lane in vector_map.lanes) > 10
    assert vector_map.stop_lines


@recorded
def test_recorded_cars_are_mostly_inside_the_lanes() -> None:
    scene = CommonRoadScenes(str(NGSIM)).load("USA_US101-1_1_T-1")
    surface = shapely.union_all(
        [shapely.Polygon(lane.polygon[:, :2]).buffer(0.05) for lane in scene.map.lanes]
    )
    centers = np.concatenate([track.local_to_aabb[track.valid, :2] for track in scene.tracks])
    assert shapely.contains_xy(surface, centers).mean() > 0.95
