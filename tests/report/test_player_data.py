from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Area, MapFeature, VectorMap
from omniloop.report.incidents import incidents_of_record
from omniloop.report.moment import Playback
from omniloop.report.palette import LIGHT
from omniloop.report.player_data import player_data, to_json
from omniloop.report.player_map import REACH_M, UNIT_M, deltas, packed_line, player_map
from tests.report.builders import START_US, make_record, make_scene

HANDOVER_MS = 1000


def unpacked(packed: list[int], origin: Array) -> Array:
    return np.cumsum(np.array(packed).reshape(-1, 2), axis=0) * UNIT_M + origin


@given(
    arrays(float, st.integers(0, 40), elements=st.floats(-1e5, 1e5)), st.sampled_from([0.01, 0.05])
)
def test_steps_add_up_to_the_values_without_drift(values: Array, unit: float) -> None:
    back = np.cumsum(deltas(values, unit)) * unit
    np.testing.assert_allclose(back, values, atol=unit / 2 + 1e-9)


@given(arrays(float, st.tuples(st.integers(1, 20), st.just(2)), elements=st.floats(-1e4, 1e4)))
def test_a_packed_line_comes_back_within_half_a_unit(xy: Array) -> None:
    origin = np.array([100.0, -7.0])
    np.testing.assert_allclose(
        unpacked(packed_line(xy, origin), origin), xy, atol=UNIT_M / 2 + 1e-9
    )


@pytest.fixture(scope="module")
def record() -> RolloutRecord:
    return make_record()


@pytest.fixture(scope="module")
def data(record: RolloutRecord) -> dict[str, Any]:
    return player_data(record, incidents_of_record(record))


def test_ego_and_actors_are_where_they_were(record: RolloutRecord, data: dict[str, Any]) -> None:
    assert (data["start_ms"], data["step_ms"], data["samples"]) == (-1000, 100, 61)
    first, count, x, y, yaw = data["ego"]["run"]
    assert (first, count) == (0, 61)
    np.testing.assert_allclose(np.cumsum(x) * UNIT_M, np.arange(61.0), atol=0.03)
    assert not any(y)
    assert not any(yaw)
    np.testing.assert_allclose(np.cumsum(data["ego"]["speed"]) * 0.1, 10.0)
    car = next(a for a in data["actors"] if a["id"] == "car")
    np.testing.assert_allclose(
        np.cumsum(car["runs"][0][2]) * UNIT_M, 30 + 0.5 * np.arange(61), atol=0.03
    )
    assert (car["class"], car["size_m"]) == ("car", [4.6, 1.9])


def test_what_never_moves_is_one_value(data: dict[str, Any]) -> None:
    parked = next(a for a in data["actors"] if a["id"] == "parked")
    assert parked["static"] == 1
    assert [len(values) for values in parked["runs"][0][2:]] == [1, 1, 1]
    assert parked["runs"][0][:2] == [0, 61]


def test_an_actor_that_comes_and_goes_has_several_runs_and_a_far_one_none(
    record: RolloutRecord,
) -> None:
    motion = record.actors
    valid = motion.valid.copy()
    valid[0, 10:20] = False
    poses = motion.local_to_aabb.copy()
    poses[1, :, 1] += REACH_M + 5
    changed = replace(record, actors=ActorMotion(motion.times_us, poses, valid))
    actors = {a["id"]: a for a in player_data(changed)["actors"]}
    assert [run[:2] for run in actors["car"]["runs"]] == [[0, 10], [20, 41]]
    assert "truck" not in actors


def test_the_plan_in_force_is_that_of_the_playback(
    record: RolloutRecord, data: dict[str, Any]
) -> None:
    playback, origin = Playback(record), np.array(data["origin"])
    for sample in (3, 9, 10, 27, 58):
        decision = playback.in_force(START_US + sample * 100_000)
        assert decision is not None
        plan = data["plans"][data["force"][sample]]
        assert plan[0] == (decision.time_us - START_US) // 1000 - HANDOVER_MS
        assert plan[2] == int(decision.dropped)
        xy = unpacked(plan[3:], origin)
        truth = playback.plan_at(decision, decision.time_us)
        np.testing.assert_allclose(xy[[0, -1]], truth.poses[[0, -1], :2], atol=UNIT_M)
        assert plan[1] * (len(xy) - 1) == (truth.end_us - truth.start_us) // 1000
        route = unpacked(data["routes"][data["force"][sample]], origin)
        np.testing.assert_allclose(route[[0, -1], 0] - xy[0, 0], [0.0, 60.0], atol=0.1)


def test_a_rollout_without_plans_traffic_or_map_is_a_player_all_the_same() -> None:
    scene = replace(make_scene(), tracks=(), map=VectorMap())
    data = player_data(replace(make_record(scene), decisions=()))
    assert data["actors"] == []
    assert set(data["force"]) == {-1}
    assert not any(data["map"].values())


def test_incidents_have_their_times_from_handover(data: dict[str, Any]) -> None:
    (incident,) = data["incidents"]
    assert incident[2:] == ["front collision", 1]
    assert 3500 < incident[0] < incident[1] <= 5000


def test_the_json_cannot_end_its_script(record: RolloutRecord) -> None:
    text = to_json({"label": "</script><!--&"})
    assert not set(text) & set("<>&")
    assert json.loads(text) == {"label": "</script><!--&"}


def test_a_step_finer_than_ten_a_second_is_refused(record: RolloutRecord) -> None:
    with pytest.raises(ValueError, match="finer than 100000 us"):
        player_data(record, step_us=50_000)


def test_the_map_has_its_layers_and_ends_near_the_drive(data: dict[str, Any]) -> None:
    layers = data["map"]
    assert [len(layers[k]) for k in ("areas", "lanes", "crosswalks", "edges", "stops")] == [
        1,
        2,
        1,
        1,
        1,
    ]
    colors = {(color, *dashes) for color, dashes, _ in layers["paint"]}
    assert colors == {("line_white",), ("line_white", 3.0, 9.0), ("line_yellow",)}
    edge = unpacked(layers["edges"][0], np.array(data["origin"]))
    np.testing.assert_allclose(edge, [[-60.0, -4.0], [60 + REACH_M, -4.0]], atol=0.1)


def test_features_near_the_drive_have_their_looks_and_a_map_without_any_says_nothing() -> None:
    def feature(name: str, kind: str, *xy: tuple[float, float]) -> MapFeature:
        return MapFeature(name, kind, np.array([[x, y, 0.0] for x, y in xy]))

    features = (
        feature("far", "pole", (REACH_M + 5.0, 0.0)),
        feature("lamp", "pole", (1.0, -2.0), (1.0, -2.0)),
        feature("island", "road_island", (0, 0), (4, 0), (4, 4), (0, 4)),
        feature("gore", "gore_area", (0, 10), (6, 10), (6, 13), (0, 13)),
        feature("gone", "intersection_area", (900, 0), (910, 0), (910, 9)),
    )
    drive = np.zeros((2, 2)), np.zeros(2)
    found = player_map(VectorMap(features=features), *drive)["features"]
    assert [(x["label"], x["draw"]) for x in found] == [
        ("island", "fill"), ("gore or buffer", "line"), ("pole", "dots"),
    ]  # fmt: skip
    assert all(x["color"] in asdict(LIGHT) for x in found)
    np.testing.assert_allclose(unpacked(found[2]["shapes"][0], drive[1]), [[1.0, -2.0]])
    assert "features" not in player_map(VectorMap(features=features[-1:]), *drive)


def test_holes_are_kept_and_a_twisted_area_does_no_harm() -> None:
    square = np.array([[0, 0, 0], [20, 0, 0], [20, 20, 0], [0, 20, 0]], dtype=float)
    bow = np.array([[0, 0, 0], [10, 10, 0], [10, 0, 0], [0, 10, 0]], dtype=float)
    areas = (Area("holed", square, (square[::-1] * 0.4 + 5,)), Area("bow", bow))
    found = player_map(VectorMap(drivable_areas=areas), np.zeros((2, 2)), np.zeros(2))["areas"]
    assert sorted(len(shape) for shape in found) == [1, 1, 2]  # the bow is two triangles
    for shape in found:
        rings = [unpacked(ring, np.zeros(2)) for ring in shape]
        turned = [
            np.sum(r[:, 0] * np.roll(r[:, 1], -1) - r[:, 1] * np.roll(r[:, 0], -1)) for r in rings
        ]
        assert turned[0] > 0  # for lanes overlap, and the nonzero rule needs one sense
        assert all(t < 0 for t in turned[1:])
