"""The recording as a rollout is the same for every rollout of a scene, up to its end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omniloop.core.motion import EgoMotion
from omniloop.core.replay import RecordedActors, recorded_motion_at
from omniloop.metrics.nuplan_human import human_record
from tests.metrics.records import Body, moving, record


def test_a_rollout_that_ends_early_gets_the_recording_up_to_its_end() -> None:
    whole = record(moving(0, 0, 5), [Body(moving(20, 0, 3))], recorded=moving(0, 0, 7))
    ego = whole.ego
    short = replace(
        whole,
        ego=EgoMotion(ego.times_us[:-7], ego.local_to_rig[:-7], ego.dynamics[:-7]),
        actors=whole.actors.between(0, int(ego.times_us[-8])),
    )
    for made in (whole, short):
        human = human_record(made)
        times_us = np.arange(
            made.schedule.context_start_us, made.frontier_us + 1, 100_000, dtype=np.int64
        )
        wanted = recorded_motion_at(made.scene.ego, times_us)
        assert np.array_equal(human.ego.times_us, times_us)
        assert np.array_equal(human.ego.local_to_rig, wanted.local_to_rig)
        assert np.array_equal(human.ego.dynamics, wanted.dynamics)
        actors = RecordedActors(made.scene).at(times_us)
        assert np.array_equal(human.actors.times_us, times_us)
        assert np.array_equal(human.actors.local_to_aabb, actors.local_to_aabb)
        assert np.array_equal(human.actors.valid, actors.valid)
        assert human.decisions == ()
