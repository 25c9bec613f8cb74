"""The first real scene, driven twice: what came out once must come out again."""

from __future__ import annotations

import numpy as np
import pytest

from omniloop.configs.compose import compose
from omniloop.runlog.record import read_record
from omniloop.runner.run import execute

START_US = 315_971_916_927_482


def drive(folder, shared_data, *settings):
    scenes = ("scenes=av2", f"scenes.path={shared_data}/av2/sensor", "scenes.limit=1")
    finished = execute(compose([*scenes, f"run.dir={folder}", "run.name=golden", *settings]))
    return finished.results[0], read_record(next(folder.glob("golden/rollouts/*/*/log.mcap")))


def test_straight_on_at_10_hz_without_a_camera(tmp_path, shared_data):
    result, record = drive(tmp_path, shared_data, "policy=constant_velocity", "renderer=none")
    schedule = record.schedule
    assert (schedule.context_start_us, schedule.render_start_us) == (START_US, START_US)
    assert (schedule.first_decision_us, schedule.handover_us) == (START_US, START_US)
    assert (schedule.n_decisions, schedule.end_us) == (159, START_US + 15_900_000)
    assert len(record.ego) == 160
    assert record.actors.valid.sum() == 27_207
    last = record.ego.local_to_rig[-1]
    np.testing.assert_allclose(last[:3], [-2.16681232, 73.11684883, -0.28651044], atol=1e-6)
    np.testing.assert_allclose(
        last[3:], [-0.00101493, -0.0023575, 0.71747776, 0.69657668], atol=1e-6
    )
    scores = {name: value.value for name, value in result.metrics.items()}
    assert (scores["collision"], scores["offroad"]) == (1.0, 0.0)
    assert scores["distance_driven_m"] == pytest.approx(72.7494309, abs=1e-5)
    assert scores["progress_m"] == pytest.approx(29.6663813, abs=1e-5)
    assert scores["displacement_final_m"] == pytest.approx(57.3242844, abs=1e-5)


def test_the_route_follower_under_the_8_frame_chunk_rule(tmp_path, shared_data):
    result, record = drive(tmp_path, shared_data, "renderer.width=320", "renderer.height=176")
    schedule = record.schedule
    assert schedule.first_decision_us - START_US == schedule.handover_us - START_US == 5 * 33_333
    assert (schedule.n_decisions, schedule.decision_period_us) == (59, 8 * 33_333)
    assert schedule.end_us - START_US == 15_899_841
    assert result.frames == {"camera_front_wide_120fov": 5 + 59 * 8}
    assert result.metrics["incident"].value == 0.0
    assert result.metrics["progress_rel"].value > 0.9
    # The speed follows from many branches of the policy, so this is looser than the other.
    np.testing.assert_allclose(record.ego.local_to_rig[-1, :2], [-52.1034, 24.8198], atol=1e-2)
