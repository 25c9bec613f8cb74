from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core.errors import ConfigError
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import VectorMap
from omniloop.metrics.offroad import OffroadMetric
from tests.metrics.records import EGO, Path, by_name, lane, moving, record, rectangle, road

HANDOVER_US = 1_500_000


def sideways(*knots: tuple[float, float]) -> Path:
    """Through ``(seconds, y)``, heading along x at 5 m/s."""
    t, y = np.array(knots).T
    return lambda s: (5 * s, np.interp(s, t, y), 0.0)


def drive(path: Path, vector_map: VectorMap | None = None, **kwargs: object) -> RolloutRecord:
    return record(path, vector_map=vector_map or road(), **kwargs)  # type: ignore[arg-type]


def test_on_the_road_is_on_the_road() -> None:
    values = by_name(OffroadMetric(), drive(sideways((0, 0), (2, 3.0))))
    assert values["offroad"].value == 0.0
    assert values["offroad_depth_m"].value == 0.0
    assert values["offroad"].details["surface"] == "drivable areas"
    assert values["offroad"].details["first_us"] is None


@pytest.mark.parametrize(("depth", "off"), [(0.295, 0.0), (0.305, 1.0)])
def test_a_corner_may_be_outside_by_the_tolerance(depth: float, off: float) -> None:
    # Ego's left edge is at y + 1, the road's at 4.
    values = by_name(OffroadMetric(), drive(sideways((0, 0), (1, 3 + depth), (2, 0))))
    assert values["offroad"].value == off
    assert values["offroad_depth_m"].value == pytest.approx(depth, abs=1e-6)


def test_every_excursion_is_kept_with_its_times_and_depth() -> None:
    path = sideways((0, 0), (0.3, 0), (0.4, 4), (0.7, 4), (0.8, 0), (1.4, 0), (1.5, -5))
    values = by_name(OffroadMetric(), drive(path))
    details = values["offroad"].details
    assert details["first_us"] == HANDOVER_US + 400_000
    found = details["excursions"]
    assert isinstance(found, list)
    spans = [(e["start_us"] - HANDOVER_US, e["end_us"] - HANDOVER_US) for e in found]
    assert spans == [(400_000, 700_000), (1_500_000, 2_000_000)]
    assert [e["depth_m"] for e in found] == pytest.approx([1.0, 2.0], abs=1e-6)
    assert values["offroad_depth_m"].value == pytest.approx(2.0, abs=1e-6)


def test_a_vehicle_wholly_beyond_the_edge_is_off_the_road() -> None:
    values = by_name(OffroadMetric(), drive(sideways((0, 0), (0.5, 30))))
    assert values["offroad"].value == 1.0
    assert values["offroad_depth_m"].value == pytest.approx(27.0, abs=1e-6)


def test_a_seam_between_the_lanes_under_the_vehicle_is_no_edge() -> None:
    seams = VectorMap(
        lanes=(
            lane(rectangle(-50, 1e-6, 40, 4), "a"),
            lane(rectangle(-50, -4, 40, -1e-6), "b"),
            lane(rectangle(40.06, -4, 90, 4), "c"),
        )
    )
    for y in (-1.0, -0.5, 0.0, 1.0):
        values = by_name(OffroadMetric(tolerance_m=0.0), drive(moving(30, y, 10), seams))
        assert values["offroad"].value == 0.0
        assert values["offroad"].details["surface"] == "lane union"


def test_off_the_surface_at_handover_is_ignored_until_ego_has_been_on_it() -> None:
    path = sideways((0, 8), (0.5, 8), (0.6, 0), (1.0, 0), (1.1, 5))
    values = by_name(OffroadMetric(), drive(path))
    details = values["offroad"].details
    assert values["offroad"].value == 1.0
    assert details["first_us"] == HANDOVER_US + 1_100_000
    assert details["ignored_until_us"] == HANDOVER_US + 600_000
    assert values["offroad_depth_m"].value == pytest.approx(2.0, abs=1e-6)
    back = by_name(OffroadMetric(), drive(sideways((0, 8), (0.5, 8), (0.6, 0))))
    assert back["offroad"].value == 0.0


def test_an_ego_that_never_comes_onto_the_surface_has_no_score() -> None:
    for value in OffroadMetric().compute(drive(moving(0, 20, 5))):
        assert value.value is None
        assert "never" in value.reason


def test_a_map_without_polygons_gives_a_reason() -> None:
    made = record(moving(0, 0, 10))
    for value in OffroadMetric().compute(made):
        assert value.value is None
        assert value.reason.startswith("no drivable surface")


def test_without_two_score_samples_nothing_is_defined() -> None:
    for value in OffroadMetric().compute(drive(moving(0, 0, 10), driven_s=0.0)):
        assert value.value is None
        assert "handover" in value.reason


@given(
    ys=st.lists(st.floats(-8, 8), min_size=1, max_size=6),
    low=st.floats(0, 3),
    more=st.floats(0, 3),
)
def test_a_greater_tolerance_never_finds_more(ys: list[float], low: float, more: float) -> None:
    knots = [(0.0, 0.0)] + [(0.3 * (i + 1), y) for i, y in enumerate(ys)]
    made = drive(sideways(*knots))
    strict, lax = (by_name(OffroadMetric(t), made) for t in (low, low + more))
    assert lax["offroad"].value is not None
    assert lax["offroad"].value <= strict["offroad"].value  # type: ignore[operator]
    assert lax["offroad_depth_m"].value == strict["offroad_depth_m"].value
    deep = strict["offroad_depth_m"].value
    assert deep is not None
    assert strict["offroad"].value == float(deep > low)


@given(st.floats(-np.pi, np.pi), st.floats(0.1, 6.0))
def test_the_depth_is_that_of_the_outermost_corner(yaw: float, y: float) -> None:
    made = drive(lambda t: (0 * t, np.where(t > 0.5, y, 0), np.where(t > 0.5, yaw, 0)))
    x = np.array([3.0, 3.0, -1.0, -1.0])
    side = np.array([1.0, -1.0, 1.0, -1.0])
    corners = y + np.sin(yaw) * x + np.cos(yaw) * side
    wanted = max(0.0, float(np.abs(corners).max()) - 4)
    values = by_name(OffroadMetric(), made)
    assert values["offroad_depth_m"].value == pytest.approx(wanted, abs=1e-6)


def test_the_box_of_the_vehicle_counts_not_its_origin() -> None:
    wide = replace(EGO, width_m=3.0)
    narrow = by_name(OffroadMetric(), drive(moving(0, 3, 5)))
    assert narrow["offroad"].value == 0.0
    made = drive(sideways((0, 0), (1, 3)), vehicle=wide)
    assert by_name(OffroadMetric(), made)["offroad"].value == 1.0


def test_the_details_tell_how_far_the_recording_itself_gets_off_the_surface() -> None:
    on = drive(sideways((0, 0), (1, 5)), recorded=moving(0, 0, 5))
    assert by_name(OffroadMetric(), on)["offroad"].details["recording_depth_m"] == 0.0
    off = drive(moving(0, 0, 5), recorded=sideways((0, 0), (1, 5)))
    depth = by_name(OffroadMetric(), off)["offroad"].details["recording_depth_m"]
    assert depth == pytest.approx(2.0, abs=1e-6)


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"metrics\.offroad\.tolerance_m is -0\.1"):
        OffroadMetric(tolerance_m=-0.1)
