"""The record of a rollout, made from its log alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from omniloop.core.motion import ActorMotion, EgoMotion
from omniloop.core.record import Decision, RolloutRecord, lost_frames
from omniloop.core.scene import Scene
from omniloop.runlog import messages as topics
from omniloop.runlog.messages import Committed, End, FrameInfo, LogHeader
from omniloop.runlog.reader import LogReader
from omniloop.scenes.native import scene_from_bytes

_TOPICS = (topics.HEADER, topics.PLAN, topics.COMMIT, topics.LOST_FRAME, topics.END)


def read_record(
    path: Path, *, scene: Scene | None = None, allow_cut_off: bool = False
) -> RolloutRecord:
    """Read a rollout's record; every array is bit for bit what was simulated.

    Images are passed over: memory does not depend on them.

    Args:
        path: The log.
        scene: The scene, if it is at hand; else it is read from the log.
        allow_cut_off: Take what is there of a log that is cut off.

    Raises:
        RunFolderError: the log cannot be read, is cut off, or holds no committed state.
        SceneError: the scene bundle in it cannot be read.
    """
    reader = LogReader(path)
    header: LogHeader | None = None
    commits: list[Committed] = []
    decisions: list[Decision] = []
    lost: list[FrameInfo] = []
    stopped_by = ""
    for event in reader.events(_TOPICS):
        value = event.value
        if isinstance(value, LogHeader):
            header = value
        elif isinstance(value, Committed):
            commits.append(value)
        elif isinstance(value, Decision):
            decisions.append(value)
        elif isinstance(value, FrameInfo):
            lost.append(value)
        elif isinstance(value, End):
            stopped_by = value.stopped_by
    if reader.problem and not allow_cut_off:
        raise reader.error("the log is incomplete")
    if header is None or not commits:
        raise reader.error(
            "the log has no header" if header is None else "the log holds no committed state"
        )
    if scene is None:
        scene = scene_from_bytes(reader.scene_bundle(), f"{path}, {topics.SCENE_ATTACHMENT}")
    return RolloutRecord(
        session_id=header.session_id,
        scene=scene,
        schedule=header.schedule,
        ego=_joined([c.ego_true for c in commits]),
        ego_estimated=_joined([c.ego_estimated for c in commits]),
        actors=_joined_actors([c.actors for c in commits]),
        decisions=tuple(decisions),
        privileged=header.privileged,
        stopped_by=stopped_by,
        lost_frames=lost_frames(lost),
    )


def _joined(parts: Sequence[EgoMotion]) -> EgoMotion:
    return EgoMotion(
        np.concatenate([p.times_us for p in parts]),
        np.concatenate([p.local_to_rig for p in parts]),
        np.concatenate([p.dynamics for p in parts]),
    )


def _joined_actors(parts: Sequence[ActorMotion]) -> ActorMotion:
    return ActorMotion(
        np.concatenate([p.times_us for p in parts]),
        np.concatenate([p.local_to_aabb for p in parts], axis=1),
        np.concatenate([p.valid for p in parts], axis=1),
    )
