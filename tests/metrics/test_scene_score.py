from __future__ import annotations

import pytest

from omniloop.core.errors import ConfigError
from omniloop.metrics.scene_score import SceneScoreMetric
from tests.metrics.records import Body, by_name, moving, record, road, still


def score(ego, actors=(), recorded=None, vector_map=None):
    made = record(ego, list(actors), recorded=recorded, vector_map=vector_map or road())
    return by_name(SceneScoreMetric(), made)["scene_score"]


def test_without_an_incident_it_is_the_progress():
    value = score(moving(0, 0, 5), recorded=moving(0, 0, 10))
    # From handover on the recording goes 20 m and ego 10 m.
    assert value.value == pytest.approx(0.5)
    assert value.details == {"progress": pytest.approx(0.5), "incident": 0.0}


def test_more_than_the_recording_counts_as_much_as_the_recording():
    assert score(moving(0, 0, 12), recorded=moving(0, 0, 8)).value == 1.0


def test_a_collision_at_fault_takes_all():
    value = score(moving(0, 0, 10), [Body(still(13, 0))])
    assert (value.value, value.details["incident"]) == (0.0, 1.0)


def test_who_is_run_into_from_behind_loses_nothing():
    value = score(moving(0, 0, 5), [Body(moving(-12, 0, 15))])
    assert value.value == 1.0


def test_without_progress_in_the_recording_it_is_undefined_unless_there_is_an_incident():
    value = score(still(0, 0), recorded=still(0, 0))
    assert value.value is None
    assert "less than 2 m" in value.reason
    hit = score(moving(0, 0, 10), [Body(still(13, 0))], recorded=still(0, 0))
    assert hit.value == 0.0


def test_a_threshold_that_is_no_number_is_refused():
    with pytest.raises(ConfigError, match="min_recorded_m"):
        SceneScoreMetric(min_recorded_m=-1.0)
