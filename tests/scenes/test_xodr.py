"""OpenDRIVE maps: lanes, widths, links, paint, what stands there, where the map lies."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.scene import MarkColor, MarkStyle, VectorMap
from omniloop.scenes.surface import drivable_surface
from omniloop.scenes.validate_map import check_map_geometry, check_map_ids
from omniloop.scenes.xodr import xodr_to_map
from omniloop.scenes.xodr_geo import TransverseMercator, earth_from_degrees
from tests.memory import traced_peak

LINE = '<geometry s="0" x="0" y="0" hdg="0" length="100"><line/></geometry>'
W35 = '<width sOffset="0" a="3.5" b="0" c="0" d="0"/>'


def lane(number: int, kind: str = "driving", inner: str = W35, links: str = "", **more: str) -> str:
    extra = "".join(f' {k}="{v}"' for k, v in more.items())
    return (
        f'<lane id="{number}" type="{kind}" level="false"{extra}><link>{links}</link>{inner}</lane>'
    )


def section(*lanes: str, s: float = 0, center: str = "") -> str:
    sides = {"left": "", "right": ""}
    for text in lanes:
        sides["right" if 'id="-' in text else "left"] += text
    return (
        f'<laneSection s="{s}"><left>{sides["left"]}</left>'
        f'<center><lane id="0" type="none">{center}</lane></center>'
        f"<right>{sides['right']}</right></laneSection>"
    )


def road(
    name: str, *sections: str, plan: str = LINE, links: str = "", offset: str = "", more: str = "",
    junction: str = "-1", rule: str = "",
) -> str:  # fmt: skip
    keep = f' rule="{rule}"' if rule else ""
    return (
        f'<road id="{name}" length="100" junction="{junction}"{keep}><link>{links}</link>'
        f"<planView>{plan}</planView>{more}<lanes>{offset}{''.join(sections)}</lanes></road>"
    )


def document(*parts: str, header: str = "", minor: str = "4") -> bytes:
    head = f'<header revMajor="1" revMinor="{minor}">{header}</header>'
    return f'<?xml version="1.0"?><OpenDRIVE>{head}{"".join(parts)}</OpenDRIVE>'.encode()


def read(*parts: str, **more: str) -> VectorMap:
    return xodr_to_map(document(*parts, **more))[0]


def along(s: float, name: str, *, x: float, y: float = 0.0) -> str:
    return f'<geometry s="{s}" x="{x}" y="{y}" hdg="0" length="{name}"><line/></geometry>'


# ---------------------------------------------------------------------------- lanes


def test_lanes_keep_to_their_sides_of_the_road_and_know_their_neighbours() -> None:
    made = read(road("7", section(*(lane(i) for i in (2, 1, -1, -2)))))
    assert [x.id for x in made.lanes] == ["7_0_-2", "7_0_-1", "7_0_1", "7_0_2"]
    by_id = made.lane_by_id
    for number, y, heading in ((-2, -5.25, 0), (-1, -1.75, 0), (1, 1.75, np.pi), (2, 5.25, np.pi)):
        one = by_id[f"7_0_{number}"]
        np.testing.assert_allclose(one.centerline[:, 1], y)
        step = one.centerline[-1] - one.centerline[0]
        assert np.arctan2(step[1], step[0]) == pytest.approx(heading)
        left_of = geometry.rotate(geometry.pose(yaw_rad=heading)[3:], np.array([0, 1.75, 0]))
        np.testing.assert_allclose(one.left, one.centerline + left_of, atol=1e-9)
        np.testing.assert_allclose(one.right, one.centerline - left_of, atol=1e-9)
    assert (by_id["7_0_-1"].left_lane, by_id["7_0_-1"].right_lane) == (None, "7_0_-2")
    assert (by_id["7_0_-2"].left_lane, by_id["7_0_-2"].right_lane) == ("7_0_-1", None)
    assert (by_id["7_0_2"].left_lane, by_id["7_0_1"].right_lane) == ("7_0_1", "7_0_2")


def test_where_traffic_keeps_to_the_left_lanes_go_the_other_way() -> None:
    made = read(road("7", section(lane(1), lane(-1), lane(-2)), rule="LHT")).lane_by_id
    for name, heading in (("7_0_1", 0.0), ("7_0_-1", np.pi)):
        step = made[name].centerline[-1] - made[name].centerline[0]
        assert np.arctan2(step[1], step[0]) == pytest.approx(heading)
    assert made["7_0_-1"].left_lane == "7_0_-2"
    assert made["7_0_-2"].right_lane == "7_0_-1"


def test_a_reversed_lane_goes_against_its_side() -> None:
    made = read(road("7", section(lane(-1, direction="reversed"))), minor="8").lanes[0]
    assert made.centerline[0, 0] == 100
    assert made.left[0, 1] < made.right[0, 1]


def test_widths_and_offsets_are_their_polynomials() -> None:
    width = (
        '<width sOffset="0" a="3" b="0.1"/><width sOffset="20" a="5" b="0" c="-0.001" d="0.00001"/>'
    )
    made = read(
        road("1", section(lane(-1, inner=width)), offset='<laneOffset s="0" a="1" b="0" c="0.002" d="0"/>')
    )  # fmt: skip
    one = made.lanes[0]
    x = one.left[:, 0]
    inner = 1 + 0.002 * x**2
    d = x - 20
    wide = np.where(x < 20, 3 + 0.1 * x, 5 - 0.001 * d**2 + 1e-5 * d**3)
    np.testing.assert_allclose(one.left[:, 1], inner, atol=1e-5)
    np.testing.assert_allclose(one.right[:, 1], inner - wide, atol=1e-5)
    assert 20.0 in x


def test_borders_stand_in_for_widths() -> None:
    border = '<border sOffset="0" a="-3" b="0" c="0" d="0"/>'
    outer = '<border sOffset="0" a="-6.5" b="0.01" c="0" d="0"/>'
    made = read(road("1", section(lane(-1, inner=border), lane(-2, inner=outer)))).lane_by_id
    np.testing.assert_allclose(made["1_0_-1"].right[:, 1], -3)
    np.testing.assert_allclose(made["1_0_-2"].right[:, 1], -6.5 + 0.01 * made["1_0_-2"].right[:, 0])


@pytest.mark.parametrize("curvature", [0.0, 0.002, 0.05, 0.15])
def test_points_are_two_metres_apart_at_most_and_chords_five_centimetres_off(
    curvature: float,
) -> None:
    plan = (
        f'<geometry s="0" x="0" y="0" hdg="0" length="30"><arc curvature="{curvature}"/></geometry>'
    )
    made = read(road("1", section(lane(-1), lane(-2)), plan=plan))
    outer = made.lane_by_id["1_0_-2"].right
    if curvature:
        radius = 1 / curvature + 7
        center = np.array([0, 1 / curvature])
        middles = (outer[1:, :2] + outer[:-1, :2]) / 2
        assert radius - np.linalg.norm(middles - center, axis=1).min() < 0.05 + 1e-9
        np.testing.assert_allclose(np.linalg.norm(outer[:, :2] - center, axis=1), radius)
    inner = made.lane_by_id["1_0_-1"].left
    assert np.linalg.norm(np.diff(inner, axis=0), axis=1).max() <= 2.0 + 1e-9


def test_hills_and_tilted_roads_have_heights() -> None:
    more = (
        '<elevationProfile><elevation s="0" a="10" b="0.05" c="0" d="0"/></elevationProfile>'
        '<lateralProfile><superelevation s="0" a="0.1" b="0" c="0" d="0"/></lateralProfile>'
    )
    one = read(road("1", section(lane(-1)), more=more)).lanes[0]
    np.testing.assert_allclose(one.left[:, 2], 10 + 0.05 * one.left[:, 0])
    np.testing.assert_allclose(one.right[:, 2], 10 + 0.05 * one.right[:, 0] - 3.5 * np.sin(0.1))
    np.testing.assert_allclose(one.right[:, 1], -3.5 * np.cos(0.1))


def test_a_cross_section_is_linear_between_its_profiles() -> None:
    more = (
        '<lateralProfile><shape s="0" t="-10" a="0" b="0"/><shape s="100" t="-10" a="1" b="0"/>'
        '<shape s="100" t="-2" a="3" b="0"/></lateralProfile>'
    )
    one = read(road("1", section(lane(-1)), more=more)).lanes[0]
    np.testing.assert_allclose(one.left[:, 2], 3 * one.left[:, 0] / 100, atol=1e-9)
    np.testing.assert_allclose(one.right[:, 2], one.right[:, 0] / 100, atol=1e-9)


def test_lanes_are_of_their_kinds_and_what_is_no_lane_is_none() -> None:
    kinds = ("driving", "bus", "biking", "exit", "shoulder", "sidewalk")
    made = read(road("1", section(*(lane(-1 - i, kind) for i, kind in enumerate(kinds)))))
    assert [x.kind for x in made.lanes] == ["vehicle", "bike", "bus", "vehicle"]
    surface = drivable_surface(made)
    assert surface.kind == "drivable areas"
    across = np.array([[50.0, -3.5 * i - 1.75] for i in range(6)])
    np.testing.assert_array_equal(surface.depth_m(across) == 0, [True] * 5 + [False])
    edges = shapely.union_all([shapely.LineString(e.points[:, :2]) for e in made.road_boundaries])
    assert edges.distance(shapely.Point(50, 0)) < 0.01
    assert edges.distance(shapely.Point(50, -17.5)) < 0.01
    assert edges.distance(shapely.Point(0, -3.5)) > 1  # the road is cut there, no kerb stands


def test_speed_limits_are_the_lanes_else_the_roads() -> None:
    own = W35 + '<speed sOffset="0" max="30" unit="mph"/>'
    open_ = W35 + '<speed sOffset="0" max="no limit"/>'
    types = '<type s="0" type="town"><speed max="50" unit="km/h"/></type><type s="60" type="rural"><speed max="20"/></type>'
    made = read(
        road("1", section(lane(-1, inner=own), lane(-2), lane(-3, inner=open_)), section(lane(-1), s=60), more=types)
    ).lane_by_id  # fmt: skip
    assert made["1_0_-1"].speed_limit_mps == pytest.approx(13.4112)
    assert made["1_0_-2"].speed_limit_mps == pytest.approx(50 / 3.6)
    assert made["1_1_-1"].speed_limit_mps == 20
    assert read(road("1", section(lane(-1)))).lanes[0].speed_limit_mps is None


# ---------------------------------------------------------------------------- links


def linked(tag: str, number: int) -> str:
    return f'<{tag} id="{number}"/>'


def to_road(tag: str, name: str, contact: str) -> str:
    return f'<{tag} elementType="road" elementId="{name}" contactPoint="{contact}"/>'


def test_sections_and_roads_follow_each_other_in_the_direction_of_traffic() -> None:
    first = road(
        "1",
        section(lane(1, links=linked("successor", 1)), lane(-1, links=linked("successor", -2))),
        section(lane(1, links=linked("predecessor", 1) + linked("successor", 1)),
                lane(-1), lane(-2, links=linked("predecessor", -1) + linked("successor", -1)), s=40),
        links=to_road("successor", "2", "start"),
    )  # fmt: skip
    second = road(
        "2", section(lane(1, links=linked("predecessor", 1)), lane(-1, links=linked("predecessor", -2))),
        plan=along(0, "100", x=100), links=to_road("predecessor", "1", "end"),
    )  # fmt: skip
    made = read(first, second).lane_by_id
    assert made["1_0_-1"].successors == ("1_1_-2",)
    assert made["1_1_-2"].successors == ("2_0_-1",)
    assert made["1_1_-2"].predecessors == ("1_0_-1",)
    assert made["2_0_1"].successors == ("1_1_1",)
    assert made["1_1_1"].successors == ("1_0_1",)
    assert made["1_0_1"].successors == ()
    np.testing.assert_allclose(made["1_1_1"].centerline[-1], made["1_0_1"].centerline[0], atol=1e-6)


def test_roads_that_meet_head_on_join_lanes_of_opposite_signs() -> None:
    first = road("1", section(lane(1, links=linked("successor", -1)), lane(-1, links=linked("successor", 1))),
                 links=to_road("successor", "2", "end"))  # fmt: skip
    plan = f'<geometry s="0" x="200" y="0" hdg="{np.pi}" length="100"><line/></geometry>'
    second = road("2", section(lane(1), lane(-1)), plan=plan)
    made = read(first, second).lane_by_id
    assert made["1_0_-1"].successors == ("2_0_1",)
    assert made["2_0_-1"].successors == ("1_0_1",)
    np.testing.assert_allclose(
        made["1_0_-1"].centerline[-1], made["2_0_1"].centerline[0], atol=1e-9
    )


JUNCTION = (
    road("1", section(lane(1), lane(-1)), links='<successor elementType="junction" elementId="9"/>'),
    road(
        "2", section(lane(-1, links=linked("predecessor", -1) + linked("successor", -1))), junction="9",
        plan=along(0, "20", x=100), links=to_road("predecessor", "1", "end") + to_road("successor", "3", "start"),
    ),
    road("3", section(lane(1), lane(-1)), plan=along(0, "100", x=120),
         links='<predecessor elementType="junction" elementId="9"/>'),
    '<junction id="9"><connection id="0" incomingRoad="1" connectingRoad="2" contactPoint="start">'
    '<laneLink from="-1" to="-1"/></connection></junction>',
)  # fmt: skip


def test_a_junction_leads_through_its_connecting_roads() -> None:
    made = read(*JUNCTION).lane_by_id
    assert made["1_0_-1"].successors == ("2_0_-1",)
    assert made["2_0_-1"].successors == ("3_0_-1",)
    assert made["3_0_-1"].predecessors == ("2_0_-1",)
    assert made["1_0_1"].predecessors == ()
    assert [x.in_intersection for x in made.values()] == [False, False, True, False, False]


def test_links_to_what_is_not_in_the_map_are_counted() -> None:
    cut = [part for part in JUNCTION if 'id="3"' not in part]
    made, notes = xodr_to_map(document(*cut))
    assert made.lane_by_id["2_0_-1"].successors == ()
    assert notes == ("1 links lead to roads or lanes that are not in the map",)


def test_roads_in_a_circle_are_read() -> None:
    ring = [
        road(str(k), section(lane(-1, links=linked("successor", -1) + linked("predecessor", -1))),
             plan=f'<geometry s="0" x="{20 * np.sin(k * np.pi)}" y="{-20 * np.cos(k * np.pi)}" hdg="{k * np.pi}"'
             f' length="{20 * np.pi}"><arc curvature="0.05"/></geometry>',
             links=to_road("predecessor", str(1 - k), "end") + to_road("successor", str(1 - k), "start"))
        for k in (0, 1)
    ]  # fmt: skip
    made = read(*ring).lane_by_id
    assert made["0_0_-1"].successors == made["0_0_-1"].predecessors == ("1_0_-1",)


@pytest.mark.parametrize(("junction", "depth_m"), [("9", 0.0), ("-1", 1.5)])
def test_gaps_inside_a_junction_are_carriageway(junction: str, depth_m: float) -> None:
    """Two roads 3 m apart: outside junctions what lies between may be a median."""
    made = read(*(
        road(n, section(lane(-1)), plan=LINE.replace('y="0"', f'y="{y}"'), junction=junction)
        for n, y in (("1", 0), ("2", 6.5))
    ))  # fmt: skip
    assert drivable_surface(made).depth_m(np.array([[50.0, 1.5]]))[0] == pytest.approx(depth_m)


# ---------------------------------------------------------------------------- paint


def mark(kind: str, s: float = 0, color: str = "standard") -> str:
    return f'<roadMark sOffset="{s}" type="{kind}" color="{color}" weight="standard"/>'


def test_road_marks_are_lane_lines_at_the_sides_of_lanes() -> None:
    made = read(
        road("1", section(lane(1, inner=W35 + mark("solid broken")),
                          lane(-1, inner=W35 + mark("broken") + mark("solid", 60)),
                          lane(-2, inner=W35 + mark("curb")), center=mark("solid solid", color="yellow")))
    )  # fmt: skip
    found = {
        x.id: (x.style, x.color, x.points[0].tolist(), x.points[-1].tolist())
        for x in made.lane_lines
    }
    assert found == {
        "1_0_-1_mark0": (MarkStyle.DASHED_SINGLE, MarkColor.WHITE, [0, -3.5, 0], [60, -3.5, 0]),
        "1_0_-1_mark1": (MarkStyle.SOLID_SINGLE, MarkColor.WHITE, [60, -3.5, 0], [100, -3.5, 0]),
        "1_0_0_mark0": (MarkStyle.SOLID_GROUP, MarkColor.YELLOW, [0, 0, 0], [100, 0, 0]),
        # From the middle outwards solid, then dashed: solid at its right.
        "1_0_1_mark0": (MarkStyle.SOLID_DASHED, MarkColor.WHITE, [0, 3.5, 0], [100, 3.5, 0]),
    }
    by_id = made.lane_by_id
    assert (by_id["1_0_-1"].left_line, by_id["1_0_-1"].right_line) == (
        "1_0_0_mark0",
        "1_0_-1_mark0",
    )
    assert (by_id["1_0_1"].left_line, by_id["1_0_1"].right_line) == ("1_0_0_mark0", "1_0_1_mark0")
    assert (by_id["1_0_-2"].left_line, by_id["1_0_-2"].right_line) == ("1_0_-1_mark0", None)


# ------------------------------------------------------------------- what stands there


def test_signals_are_lights_signs_and_stop_lines_for_the_lanes_they_face() -> None:
    signals = (
        '<signals><signal id="light" s="90" t="-5" zOffset="4" dynamic="yes" orientation="+" type="1000001"'
        ' subtype="-1" height="0.8" width="0.3"/>'
        '<signal id="limit" s="50" t="6" zOffset="2" dynamic="no" orientation="-" type="274" subtype="50"/>'
        '<signal id="one" s="50" t="-9" dynamic="no" orientation="+" type="205" subtype="-1"><validity fromLane="-2" toLane="-2"/></signal>'
        '<signal id="line" s="88" t="0" dynamic="no" orientation="+" name="stopline" type="294" subtype="-1"/>'
        '</signals>'
    )  # fmt: skip
    made = read(road("1", section(lane(1), lane(-1), lane(-2)), more=signals))
    (light,) = made.lights
    assert light.lanes == ("1_0_-2", "1_0_-1")
    np.testing.assert_allclose(light.local_to_light[:3], [90, -5, 4.4])
    assert abs(geometry.yaw_rad(light.local_to_light)) == pytest.approx(np.pi)
    np.testing.assert_allclose(light.size_m, [0.3, 0.3, 0.8])
    assert [(x.id, x.kind, x.lanes) for x in made.signs] == [
        ("limit", "274.50", ("1_0_1",)), ("one", "205", ("1_0_-2",))
    ]  # fmt: skip
    assert geometry.yaw_rad(made.signs[0].local_to_sign) == pytest.approx(0)
    (stop,) = made.stop_lines
    assert (stop.id, stop.lanes) == ("line", ("1_0_-2", "1_0_-1"))
    np.testing.assert_allclose(stop.points, [[88, -7, 0], [88, 0, 0]], atol=1e-9)


def test_a_light_rules_the_lanes_of_other_roads_that_refer_to_it() -> None:
    here = '<signals><signal id="9" s="90" t="-5" dynamic="yes" orientation="+" type="1000001"/></signals>'
    there = '<signals><signalReference id="9" s="5" t="0" orientation="+"/></signals>'
    made = read(road("1", section(lane(-1)), more=here), road("2", section(lane(1), lane(-1)), plan=along(0, "100", x=100), more=there))  # fmt: skip
    assert made.lights[0].lanes == ("1_0_-1", "2_0_-1")


def test_objects_are_crosswalks_stop_lines_poles_and_islands() -> None:
    objects = (
        '<objects><object id="zebra" type="crosswalk" s="50" t="0" hdg="0.5" zOffset="0.1"><outlines><outline>'
        '<cornerLocal u="-2" v="-4"/><cornerLocal u="2" v="-4"/><cornerLocal u="2" v="4"/><cornerLocal u="-2" v="4"/>'
        '</outline></outlines></object>'
        '<object id="road" type="crosswalk" s="20" t="0"><outline><cornerRoad s="18" t="-7"/><cornerRoad s="22" t="-7"/>'
        '<cornerRoad s="22" t="3.5" dz="0.2"/></outline></object>'
        '<object id="stop" type="roadMark" subtype="signalLines" s="80" t="-3.5" length="0.4" width="7" orientation="+"/>'
        '<object id="lamp" type="pole" s="10" t="-8" radius="0.1" height="6"/>'
        '<object id="isle" type="trafficIsland" s="70" t="0" length="4" width="1"/>'
        '<object id="tree" type="tree" s="x" t="y"/></objects>'
    )  # fmt: skip
    made = read(road("1", section(lane(1), lane(-1), lane(-2)), more=objects))
    zebra, other = made.crosswalks
    corners = geometry.transform_points(
        geometry.pose(50, 0, 0.1, 0.5), np.array([[-2, -4, 0], [2, 4, 0]])
    )
    np.testing.assert_allclose(zebra.outline[[0, 2]], corners)
    np.testing.assert_allclose(other.outline, [[18, -7, 0], [22, -7, 0], [22, 3.5, 0.2]])
    (stop,) = made.stop_lines
    assert stop.lanes == ("1_0_-2", "1_0_-1")
    np.testing.assert_allclose(stop.points, [[80, -7, 0], [80, 0, 0]], atol=1e-9)
    pole, isle = made.features
    assert (pole.kind, isle.kind) == ("pole", "road_island")
    np.testing.assert_allclose(pole.points, [[10, -8, 0], [10, -8, 6]], atol=1e-9)
    assert shapely.Polygon(isle.points[:, :2]).area == pytest.approx(4)


def test_the_map_is_sound() -> None:
    made = read(*JUNCTION)
    assert [x for x in check_map_geometry(made) if x.level == "error"] == []
    assert [x for x in check_map_ids(made) if x.level != "info"] == []


# --------------------------------------------------------------------- where it lies

GEO = "<geoReference><![CDATA[+proj=tmerc +lat_0=59.35 +lon_0=17.96 +=alt_0=0 +ellps=WGS84 +units=m +geoidgrids=egm96_15.gtx]]></geoReference>"


def base_at(latitude: float, longitude: float, height: float, yaw: float) -> np.ndarray:
    """The pose in ECEF of a frame with z up whose x axis is `yaw` to the left of east."""
    phi, lam = np.radians([latitude, longitude])
    east = [-np.sin(lam), np.cos(lam), 0]
    north = [-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)]
    up = [np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)]
    out = np.eye(4)
    enu = np.stack([east, north, up], axis=1)
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    out[:3, :3] = enu @ turn
    out[:3, 3] = earth_from_degrees(
        np.array([latitude]), np.array([longitude]), np.array([height])
    )[0]
    return out


SIGNAL = (
    '<signals><signal id="light" s="90" t="0" dynamic="yes" orientation="-" type="1"/></signals>'
)


def test_a_map_is_put_where_the_scene_is() -> None:
    """The scene's origin is 60 m east and 20 m north of the map's, turned by a quarter, 3 m up."""
    projection = TransverseMercator(59.35, 17.96)
    latitude, longitude = projection.inverse(np.array([[60.0, 20.0]]))
    base = base_at(latitude[0], longitude[0], 3.0, np.pi / 2)
    data = document(road("1", section(lane(-1)), more=SIGNAL), header=GEO)
    made, notes = xodr_to_map(data, base)
    left = made.lanes[0].left
    expected = np.stack([np.full(len(left), -20.0), 60 - np.linspace(0, 100, len(left)), np.full(len(left), -3.0)], 1)  # fmt: skip
    np.testing.assert_allclose(left, expected, atol=2e-3)  # the meridians meet by 0.9 mm here
    light = made.lights[0]
    np.testing.assert_allclose(light.local_to_light[:2], [-20, -30], atol=2e-3)
    assert geometry.yaw_rad(light.local_to_light) == pytest.approx(-np.pi / 2, abs=1e-3)
    assert notes == ("the geoid grid of geoReference is passed over: heights are ellipsoidal",)
    np.testing.assert_allclose(made.road_boundaries[0].points[:, 2], -3, atol=2e-3)


def test_a_map_agrees_with_the_frame_of_its_origin_as_alpasim_places_it() -> None:
    """AlpaSim takes the map for east, north, up; the Earth's curve is 3 cm after 600 m."""
    data = document(road("1", section(lane(-1)), plan=along(0, "600", x=0)), header=GEO)
    base = base_at(59.351, 17.9567, 20.0, 1.0)
    made, _ = xodr_to_map(data, base)
    rigid = np.linalg.inv(base) @ base_at(59.35, 17.96, 0.0, 0.0)
    plain = xodr_to_map(data)[0].lanes[0].centerline
    moved = plain @ rigid[:3, :3].T + rigid[:3, 3]
    np.testing.assert_allclose(made.lanes[0].centerline, moved, atol=0.03)
    assert np.abs(made.lanes[0].centerline - moved).max() > 0.005


def test_a_header_offset_comes_before_the_projection() -> None:
    header = GEO + '<offset x="60" y="20" z="3" hdg="0"/>'
    latitude, longitude = TransverseMercator(59.35, 17.96).inverse(np.array([[60.0, 20.0]]))
    made, _ = xodr_to_map(
        document(road("1", section(lane(-1))), header=header),
        base_at(latitude[0], longitude[0], 3, 0),
    )
    np.testing.assert_allclose(made.lanes[0].left[0], 0, atol=1e-3)


def test_without_a_place_on_earth_the_map_is_in_local_already() -> None:
    data = document(road("1", section(lane(-1))), header=GEO)
    for base in (None, np.eye(4), np.eye(4).tolist()):
        np.testing.assert_array_equal(xodr_to_map(data, base)[0].lanes[0].left[0], [0, 0, 0])


def turned_badly() -> np.ndarray:
    base = base_at(59.35, 17.96, 0, 0)
    base[:3, :3] *= 2
    return base


@pytest.mark.parametrize(
    ("header", "base", "says"),
    [
        ("", base_at(59.35, 17.96, 0, 0), "no geoReference"),
        ("<geoReference> </geoReference>", base_at(59.35, 17.96, 0, 0), "no geoReference"),
        ("<geoReference>+proj=merc</geoReference>", base_at(59.35, 17.96, 0, 0), "not supported"),
        (GEO, base_at(48.0, 11.0, 0, 0), "nearest lane is 1[0-9]{3}.. km from the scene"),
        (GEO, np.full((4, 4), np.nan), "not a finite 4 x 4 pose"),
        (GEO, turned_badly(), "not a finite 4 x 4 pose"),
        (GEO, np.eye(3), "not a finite 4 x 4 pose"),
        (GEO, np.eye(4) + np.eye(4, k=3), "from the Earth's centre"),
    ],
)  # fmt: skip
def test_a_map_that_cannot_be_placed_is_refused(header: str, base: np.ndarray, says: str) -> None:
    with pytest.raises(SceneError, match=says):
        xodr_to_map(document(road("1", section(lane(-1))), header=header), base)


# ------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not well-formed XML"),
        (document(road("1", section(lane(-1))))[:-20], "not well-formed XML"),
        (b'<!DOCTYPE x [<!ENTITY a "aaaa">]><OpenDRIVE>&a;</OpenDRIVE>', "document type"),
        (b"<commonRoad/>", "holds <commonRoad>, not OpenDRIVE 1.4 to 1.8"),
        (b'<OpenDRIVE><header revMajor="2"/></OpenDRIVE>', "holds OpenDRIVE 2"),
        (document(), "the map has no roads"),
        (document('<road id="1"/>'), "no <geometry> in its <planView>"),
        (document(*[road("1", section(lane(-1)))] * 2), "two roads have the same id"),
        (document(road("1", section(lane(-1), lane(-1)))), "lane -1 is there twice"),
        (document(road("1", section(lane(-1).replace('"-1"', '"-1.5"')))), "id of <lane> is -1.5"),
        (document(road("1", section(lane(-1, inner='<width sOffset="0" a="nan"/>')))), "a of <width> is 'nan'"),
        (document(road("1", section(lane(-1, inner=W35 + '<speed max="3" unit="knots"/>')))), "speed unit 'knots'"),
        (document(road("1", section(lane(-1)), plan=along(0, "-5", x=0))), "which is negative"),
        (document(road("1", section(lane(-1)), more='<signals><signal id="a" s="q" t="0"/></signals>')), "s of <signal> is 'q'"),
        (document(road("1", section(lane(-1)), plan=along(0, "1e9", x=0))), r"road 1 alone is 1e\+06 km"),
    ],
)  # fmt: skip
def test_bad_maps_are_named(data: bytes, says: str) -> None:
    with traced_peak() as peak, pytest.raises(SceneError, match=says) as caught:
        xodr_to_map(data, where="scene.usdz, map.xodr")
    assert caught.value.where.startswith("scene.usdz, map.xodr")
    assert peak.size < 16 << 20  # whatever the file claims


def test_a_road_that_winds_at_every_centimetre_is_bounded() -> None:
    width = '<width sOffset="0" a="3" b="0" c="0" d="1"/>'
    made = read(road("1", section(lane(-1, inner=width))))
    assert len(made.lanes[0].centerline) < 4000


def test_tags_may_have_a_namespace() -> None:
    data = document(road("1", section(lane(-1))), minor="8").replace(
        b"<OpenDRIVE>",
        b'<OpenDRIVE xmlns="http://code.asam.net/simulation/standard/opendrive_schema">',
    )
    assert len(xodr_to_map(data)[0].lanes) == 1


def test_the_same_file_gives_the_same_map() -> None:
    from omniloop.core.motion import Trajectory
    from omniloop.core.scene import Scene
    from omniloop.scenes.native import scene_hash

    ego = Trajectory(np.array([0, 100_000]), np.stack([geometry.pose(), geometry.pose(1)]))
    hashes = {scene_hash(Scene("x", "test", ego, map=read(*JUNCTION))) for _ in range(2)}
    assert len(hashes) == 1


def test_roads_without_lanes_and_limits_in_doubt_are_told() -> None:
    speed = '<type s="0" type="town"><speed max="40" unit="mph"/></type>'
    data = document(road("1", section(lane(-1)), more=speed), road("2", plan=along(0, "10", x=100)))
    _, notes = xodr_to_map(data.replace(b'revMinor="4"', b'revMinor="4" vendor="DeepMap, Inc."'))
    assert notes[0] == "1 roads have no lane sections"
    assert "km/h as mph" in notes[1]
