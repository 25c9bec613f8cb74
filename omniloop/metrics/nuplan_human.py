"""The recording as a rollout: what nuPlan's expert and NAVSIM's human did in the same period."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omniloop.core.motion import ActorMotion, EgoMotion
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.replay import RecordedActors, recorded_motion_at
from omniloop.core.scene import Scene
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
    ego, actors = _recording(scene, first_us)
    end = int(np.searchsorted(ego.times_us, until_us, side="right"))
    ego = EgoMotion(ego.times_us[:end], ego.local_to_rig[:end], ego.dynamics[:end])
    actors = actors.between(first_us - 1, until_us)
    return replace(record, ego=ego, ego_estimated=ego, actors=actors, decisions=(), stopped_by="")


@once_per_object
def _recording(scene: Scene, first_us: int) -> tuple[EgoMotion, ActorMotion]:
    """The recording from some time on, every 100 ms: the same for all rollouts of a scene."""
    times_us = np.arange(first_us, scene.end_us + 1, SCORE_STEP_US, dtype=np.int64)
    return recorded_motion_at(scene.ego, times_us), RecordedActors(scene).at(times_us)
