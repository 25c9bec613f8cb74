from __future__ import annotations

from omniloop.core.contracts import MetricValue
from omniloop.report.incidents import incidents_from_metrics, incidents_of_record
from tests.report.builders import START_US, make_record, make_result


def test_the_rear_end_collision_of_the_authored_scene_is_found() -> None:
    (incident,) = incidents_of_record(make_record())
    # The gap closes at 5 m/s from 30 m between the rigs: front to rear at
    # (30 - 2.3 - (1.3965 + 5.393 / 2)) / 5 = 4.72 s.
    assert START_US + 4_720_000 <= incident.start_us <= START_US + 4_760_000
    assert incident.label == "front collision"
    assert incident.at_fault
    assert incident.facts == "car car at 5.0 m/s relative, ego 10.0 m/s"


def test_stored_results_give_the_same_incidents_as_the_record() -> None:
    record = make_record()
    assert incidents_from_metrics(make_result(record).metrics) == incidents_of_record(record)


def test_incidents_come_in_order_of_time() -> None:
    contact = {
        "actor_id": "a", "actor_class": "CAR", "start_us": 9, "end_us": 12, "kind": "ego_stopped",
        "ego_speed_mps": 0.0, "actor_speed_mps": None, "relative_speed_mps": None, "depth_m": 0.1, "at_fault": False,
    }  # fmt: skip
    metrics = {
        "collision": MetricValue("collision", 1.0, details={"contacts": [contact]}),
        "offroad": MetricValue(
            "offroad", 1.0, details={"excursions": [{"start_us": 3, "end_us": 5, "depth_m": 0.456}]}
        ),
    }
    off, hit = incidents_from_metrics(metrics)
    assert (off.label, off.facts, off.at_fault) == ("off-road", "0.46 m outside at most", True)
    assert (hit.label, hit.facts, hit.at_fault) == (
        "collision, ego stopped",
        "car a, ego 0.0 m/s",
        False,
    )


def test_undefined_or_absent_scores_give_no_incidents() -> None:
    assert incidents_from_metrics({}) == []
    assert incidents_from_metrics({"collision": MetricValue("collision", None, "why")}) == []
