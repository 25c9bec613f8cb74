from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.motion import EgoMotion
from omniloop.report.moment import Playback
from tests.report.builders import START_US, make_record

HANDOVER_US = START_US + 1_000_000


def test_poses_and_speed_are_interpolated_between_committed_states() -> None:
    moment = Playback(make_record()).at(START_US + 2_150_000)
    np.testing.assert_allclose(moment.local_to_rig[:3], [21.5, 0.0, 0.0], atol=1e-9)
    assert moment.speed_mps == pytest.approx(10.0)
    np.testing.assert_allclose(moment.actors_local_to_aabb[0, 0], 30.0 + 5.0 * 2.15)
    assert moment.actors_valid.all()
    assert moment.since_handover_us == 1_150_000


def test_times_outside_the_rollout_show_its_ends() -> None:
    record = make_record()
    playback = Playback(record)
    assert playback.at(START_US - 5_000_000).time_us == START_US
    assert playback.at(START_US + 60_000_000).time_us == record.frontier_us


def test_the_trail_ends_at_ego() -> None:
    moment = Playback(make_record()).at(START_US + 2_150_000)
    assert moment.trail is not None
    np.testing.assert_array_equal(moment.trail[-1], moment.local_to_rig[:2])
    np.testing.assert_allclose(moment.trail[:, 0], [*np.arange(0.0, 21.6, 1.0), 21.5], atol=1e-9)


def test_a_plan_is_in_force_from_when_it_is_available() -> None:
    record = make_record()
    late = [replace(d, available_us=d.time_us + 150_000) for d in record.decisions]
    playback = Playback(replace(record, decisions=late))
    before, after = (
        playback.in_force(HANDOVER_US + 149_999),
        playback.in_force(HANDOVER_US + 150_000),
    )
    assert (
        before is None
    )  # plans of the warm-up were dropped, the first driven one is not there yet
    assert after is not None
    assert after.time_us == HANDOVER_US


def test_in_warm_up_the_plan_is_marked_as_dropped() -> None:
    playback = Playback(make_record())
    warm, driven = playback.at(HANDOVER_US - 1), playback.at(HANDOVER_US)
    assert warm.warmup
    assert warm.plan_dropped
    assert len(warm.plan)
    assert not driven.warmup
    assert not driven.plan_dropped


def test_of_a_plan_only_what_is_left_is_shown() -> None:
    plan = Playback(make_record()).at(START_US + 2_150_000).plan
    assert plan.start_us == START_US + 2_150_000
    assert plan.end_us == START_US + 5_000_000
    np.testing.assert_allclose(plan.poses[0, 0], 21.5)


def test_samples_and_words_come_with_the_plan_in_force() -> None:
    record = make_record()
    decisions = []
    for k, decision in enumerate(record.decisions):
        aside = decision.plan.local_to_rig.transform(geometry.pose(0.0, 3.0))
        ended = decision.plan.local_to_rig.clip(decision.time_us, decision.time_us + 1)
        plan = replace(decision.plan, samples=(aside, ended), reasoning=f"plan {k}")
        decisions.append(replace(decision, plan=plan))
    moment = Playback(replace(record, decisions=decisions)).at(START_US + 2_150_000)
    made = [k for k, d in enumerate(decisions) if d.time_us <= moment.time_us][-1]
    assert moment.reasoning == f"plan {made}"
    (sample,) = moment.samples
    np.testing.assert_allclose(sample.poses[:, 1], 3.0)
    assert sample.start_us == moment.time_us


def test_a_plan_that_has_run_out_is_empty() -> None:
    record = make_record()
    only = [d for d in record.decisions if d.time_us <= HANDOVER_US]
    playback = Playback(replace(record, decisions=only))
    assert len(playback.at(HANDOVER_US + 2_900_000).plan)
    assert len(playback.at(HANDOVER_US + 3_000_000).plan) == 0


def test_a_plan_made_from_a_wrong_estimate_is_shown_from_where_ego_was() -> None:
    record = make_record()
    drift = geometry.pose(2.0, -1.0, 0.0, 0.1)
    believed = geometry.compose(record.ego.local_to_rig, drift)
    estimated = EgoMotion(record.ego.times_us, believed, record.ego.dynamics)
    decisions = []
    for decision in record.decisions:
        here = geometry.compose(record.ego.trajectory.sample(decision.time_us)[0], drift)
        steps = decision.plan.local_to_rig.transform(
            geometry.compose(here, geometry.inverse(decision.plan.local_to_rig.poses[0]))
        )
        decisions.append(replace(decision, plan=replace(decision.plan, local_to_rig=steps)))
    record = replace(record, ego_estimated=estimated, decisions=decisions)
    moment = Playback(record).at(HANDOVER_US)
    np.testing.assert_allclose(moment.plan.poses[0], moment.local_to_rig, atol=1e-9)
    np.testing.assert_allclose(moment.plan.poses[-1, :2], [10.0 + 30.0, 0.0], atol=1e-9)


def test_the_route_is_placed_by_the_pose_that_the_policy_was_told() -> None:
    moment = Playback(make_record()).at(HANDOVER_US + 100_000)
    assert moment.route is not None
    np.testing.assert_allclose(moment.route[0, :2], [10.0, 0.0], atol=1e-9)
