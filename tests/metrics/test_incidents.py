from __future__ import annotations

import numpy as np
import pytest

from omniloop.metrics.collision import CollisionMetric
from omniloop.metrics.incidents import IncidentsMetric
from omniloop.metrics.offroad import OffroadMetric
from tests.metrics.records import Body, Path, by_name, moving, record, road, still

HANDOVER_US = 1_500_000


def leaving(t0: float, speed: float = 10.1) -> Path:
    """Along x at 10 m/s; from `t0` on also to the left: 4.04 m after 0.4 s."""
    return lambda t: (10 * t, speed * np.maximum(t - t0, 0), 0.0)


def test_nothing_happens() -> None:
    values = by_name(IncidentsMetric(), record(moving(0, 0, 10), vector_map=road()))
    assert values["incident"].value == 0.0
    assert values["incident_at_fault"].value == 0.0
    assert values["incident_in_tube"].value == 0.0
    assert values["distance_in_tube_m"].value == pytest.approx(20)
    assert values["time_to_incident_s"].value is None
    assert values["time_to_incident_s"].reason == "no incident"
    assert values["incident"].details["counts"] == "collisions and off-road"


def test_a_rear_hit_is_an_incident_that_is_not_at_fault() -> None:
    made = record(moving(0, 0, 5), [Body(moving(-12, 0, 15))], vector_map=road())
    values = by_name(IncidentsMetric(), made)
    assert (values["incident"].value, values["incident_at_fault"].value) == (1.0, 0.0)
    assert values["incident_in_tube"].details["at_fault"] is False
    # Its rear at -1, the other's front at -10, closing at 10 m/s.
    assert values["time_to_incident_s"].value == pytest.approx(0.92)
    assert values["time_to_incident_s"].details["kind"] == "collision"
    assert values["time_to_incident_s"].details["distance_driven_m"] == pytest.approx(4.6)


def test_a_rear_hit_does_not_hide_a_later_incident_at_fault() -> None:
    made = record(moving(0, 0, 5), [Body(moving(-6, 0, 15)), Body(still(13, 0))], vector_map=road())
    values = by_name(IncidentsMetric(), made)
    assert values["incident_at_fault"].value == 1.0


def test_driving_off_the_road_is_an_incident_at_fault() -> None:
    made = record(leaving(1.0), recorded=moving(0, 0, 10), vector_map=road())
    values = by_name(IncidentsMetric(), made)
    assert (values["incident"].value, values["incident_at_fault"].value) == (1.0, 1.0)
    assert values["time_to_incident_s"].details["kind"] == "offroad"
    assert values["time_to_incident_s"].value == pytest.approx(1.4)


def tube(y_of_wall: float, tube_m: float | None = 4.0) -> tuple[float | None, float | None]:
    """Ego leaves to the left from t = 1 s, where a wall stands along the path."""
    wall = Body(still(20, y_of_wall + 1.0 + 0.1), size=(60.0, 0.2, 2.0))
    made = record(leaving(1.0), [wall], recorded=moving(0, 0, 10))
    values = by_name(IncidentsMetric(tube_m=tube_m), made)
    return values["incident_in_tube"].value, values["distance_in_tube_m"].value


def test_incidents_in_the_tube_count_and_those_beyond_do_not() -> None:
    # The sample at 1.4 s is the first with a path distance of 4 m or more.
    driven = 10 + 0.4 * np.hypot(10, 10.1)
    assert tube(2.0) == (1.0, pytest.approx(driven))
    assert tube(5.0) == (0.0, pytest.approx(driven))


def test_an_incident_on_the_crossing_row_counts() -> None:
    # Found at 1.4 s, which is the crossing row itself, and 20 ms later.
    assert tube(4.03)[0] == 1.0
    assert tube(4.05)[0] == 0.0


def test_the_tube_is_left_at_its_radius_or_beyond() -> None:
    made = record(leaving(1.0), recorded=moving(0, 0, 10))
    left = by_name(IncidentsMetric(tube_m=4.03), made)["incident_in_tube"].details["left_us"]
    assert left == HANDOVER_US + 1_400_000
    left = by_name(IncidentsMetric(tube_m=4.05), made)["incident_in_tube"].details["left_us"]
    assert left == HANDOVER_US + 1_500_000
    beside = record(moving(0, 4, 10), recorded=moving(0, 0, 10))
    details = by_name(IncidentsMetric(), beside)["incident_in_tube"].details
    assert details["left_us"] == HANDOVER_US


def test_coming_back_into_the_tube_counts_no_more() -> None:
    def out_and_back(t: np.ndarray) -> tuple[object, object, object]:
        return 10 * t, np.interp(t, [0, 0.5, 1.0, 1.5], [0, 0, 6, 0]), 0.0

    made = record(out_and_back, [Body(still(20, 0))], recorded=moving(0, 0, 10))
    values = by_name(IncidentsMetric(), made)
    assert values["incident"].value == 1.0
    assert values["incident_in_tube"].value == 0.0


def test_the_tube_can_be_switched_off() -> None:
    made = record(moving(0, 0, 10), [Body(still(15, 0))])
    values = by_name(IncidentsMetric(tube_m=None), made)
    assert values["incident"].value == 1.0
    for name in ("incident_in_tube", "distance_in_tube_m"):
        assert values[name].value is None
        assert values[name].reason == "the tube is off"


def test_without_a_surface_collisions_alone_count_and_the_details_say_so() -> None:
    made = record(moving(0, 0, 10), [Body(still(15, 0))])
    values = by_name(IncidentsMetric(), made)
    assert values["incident"].value == 1.0
    counts = values["incident"].details["counts"]
    assert isinstance(counts, str)
    assert counts.startswith("collisions only: off-road is undefined, no drivable surface")


def test_without_two_score_samples_nothing_is_defined() -> None:
    for value in IncidentsMetric().compute(record(moving(0, 0, 10), driven_s=0.0)):
        assert value.value is None
        assert "handover" in value.reason


def test_incidents_are_those_of_the_two_metrics_with_the_same_thresholds() -> None:
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(30):
        bodies = [
            Body(moving(rng.uniform(5, 25), rng.uniform(-4, 4), rng.uniform(0, 8)))
            for _ in range(2)
        ]
        made = record(
            leaving(rng.uniform(0.5, 2.5), 4), bodies, recorded=moving(0, 0, 10), vector_map=road()
        )
        collision, offroad = (
            by_name(CollisionMetric(), made)["collision"].value,
            by_name(OffroadMetric(0.5), made)["offroad"].value,
        )
        got = by_name(IncidentsMetric(offroad_tolerance_m=0.5), made)["incident"].value
        assert got == max(collision, offroad)  # type: ignore[type-var]
        seen.add((collision, offroad))
    assert len(seen) >= 3
