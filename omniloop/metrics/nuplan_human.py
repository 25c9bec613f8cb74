"""The recording as a rollout: what nuPlan's expert and NAVSIM's human did in the same period."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.replay import RecordedActors, recorded_motion_at
from omniloop.core.time import SCORE_STEP_US


@once_per_object
def human_record(record: RolloutRecord) -> RolloutRecord:
    """The recorded ego among the recorded actors, up to the end of the rollout or of the recording.

    States are sampled every 100 ms, on the score grid.
    """
    scene = record.scene
    until_us = min(record.frontier_us, scene.end_us)
    first_us = record.schedule.handover_us
    first_us -= (first_us - scene.start_us) // SCORE_STEP_US * SCORE_STEP_US
    times_us = np.arange(first_us, until_us + 1, SCORE_STEP_US, dtype=np.int64)
    ego = recorded_motion_at(scene.ego, times_us)
    actors = RecordedActors(scene).at(times_us)
    return replace(record, ego=ego, ego_estimated=ego, actors=actors, decisions=(), stopped_by="")
