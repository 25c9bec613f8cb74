"""Everything of an ASL log but its images and plans, gathered in one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from omniloop.core.geometry import IDENTITY, Array
from omniloop.core.motion import Mask, Times
from omniloop.runlog.writer import LATEST_US
from omniloop.services.asl_file import AslReader
from omniloop.services.codec import dynamics_from_wire, poses_from_wire
from omniloop.services.protos.logging_pb2 import LogEntry, RolloutMetadata
from omniloop.services.traffic_codec import EGO_ID

MOST_STATES = 10_000_000
"""Poses of all actors at all times; a log of more is refused rather than held."""

_ROW = tuple[list[str], Array]


@dataclass
class Gathered:
    """What an ASL log says of its rollout.

    Attributes:
        metadata: Its first entry.
        sessions: The first entry of each kind that starts a session or lists cameras.
        times_us: ``(N,)`` of `actor_poses`, growing.
        decisions_us: When the driver was asked.
        asked_us: When driver or controller were asked.
        terminated: The driver's last answer ended the rollout.
        frames_us: Shutter start and end of each delivered frame, by camera.
        chunks_us: The times of each chunk that a video model was asked for.
        renders: Whether sensorsim was asked for frames.
        driven: Motion ``(12,)`` that the controller answered, by time.
        estimated: Pose and motion ``(19,)`` that the driver was told, by time.
        notes: What was passed over, and why.
    """

    metadata: RolloutMetadata
    sessions: dict[str, Any] = field(default_factory=dict)
    times_us: list[int] = field(default_factory=list)
    decisions_us: list[int] = field(default_factory=list)
    asked_us: list[int] = field(default_factory=list)
    terminated: bool = False
    frames_us: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    chunks_us: list[list[int]] = field(default_factory=list)
    renders: bool = False
    driven: dict[int, Array] = field(default_factory=dict)
    estimated: dict[int, Array] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _rows: list[_ROW] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)

    @property
    def ids(self) -> list[str]:
        """Everybody with poses but ego, in the order in which they came."""
        return [
            n for n in dict.fromkeys(n for names, _ in self._rows for n in names) if n != EGO_ID
        ]

    def ego_local_to_aabb(self) -> Array:
        """Ego's box ``(N, 7)`` at `times_us`."""
        return np.array([poses[names.index(EGO_ID)] for names, poses in self._rows]).reshape(-1, 7)

    def actors_local_to_aabb(self, ids: list[str]) -> tuple[Array, Mask]:
        """Boxes ``(A, N, 7)`` of actors at `times_us`, and where they are there."""
        shape = (len(ids), len(self._rows))
        poses = np.tile(IDENTITY, (*shape, 1))
        valid: Mask = np.zeros(shape, dtype=bool)
        row_of = {name: row for row, name in enumerate(ids)}
        for column, (names, given) in enumerate(self._rows):
            known = [(row_of[name], i) for i, name in enumerate(names) if name in row_of]
            if known:
                rows, index = map(list, zip(*known, strict=True))
                poses[rows, column], valid[rows, column] = given[index], True
        return poses, valid


_ONCE = (
    "available_cameras_return", "driver_session_request", "traffic_session_request",
    "video_model_session_request",
)  # fmt: skip


def gather(reader: AslReader) -> Gathered:
    """Read a log once.

    Raises:
        RunFolderError: it is no ASL log, or what it says of states cannot be used.
    """
    found: Gathered | None = None
    for entry in reader:
        kind = entry.WhichOneof("log_entry")
        if found is None:
            if kind != "rollout_metadata":
                raise reader.error(f"the first entry is '{kind}', not rollout_metadata")
            found = Gathered(entry.rollout_metadata)
            continue
        if kind is None:
            continue
        if kind in _ONCE:
            found.sessions.setdefault(kind, getattr(entry, kind))
            continue
        take = _TAKES.get(kind)
        if take is None:
            continue
        try:
            take(found, entry)
        except ValueError as error:
            raise reader.error(f"an entry '{kind}' cannot be used: {error}") from error
    if found is None:
        raise reader.error("the log holds no whole entry")
    found.notes = [*found.notes, *reader.notes()]
    return found


def _actor_poses(found: Gathered, entry: LogEntry) -> None:
    message = entry.actor_poses
    names = [p.actor_id for p in message.actor_poses]
    time_us = _time(message.timestamp_us)
    if EGO_ID not in names:
        raise ValueError(f"there is no pose of '{EGO_ID}' at {time_us} us")
    if len(set(names)) < len(names):
        raise ValueError(f"an actor comes twice at {time_us} us")
    if found.times_us and time_us <= found.times_us[-1]:
        if time_us < found.times_us[-1]:
            raise ValueError(f"{time_us} us is before {found.times_us[-1]} us")
        return  # AlpaSim logs context start twice where it is the first decision too
    found._known.update(names)
    if len(found._known) * (len(found.times_us) + 1) > MOST_STATES:
        raise ValueError(f"{len(found._known)} actors at {len(found.times_us)} times are too many")
    found.times_us.append(time_us)
    found._rows.append((names, poses_from_wire(p.actor_pose for p in message.actor_poses)))


def _time(value: int) -> int:
    if value > LATEST_US:
        raise ValueError(f"time {value} us is beyond {LATEST_US} us")
    return value


def _driver_request(found: Gathered, entry: LogEntry) -> None:
    found.decisions_us.append(_time(entry.driver_request.time_now_us))
    found.asked_us.append(found.decisions_us[-1])


def _driver_return(found: Gathered, entry: LogEntry) -> None:
    found.terminated = entry.driver_return.terminate_session


def _driver_ego(found: Gathered, entry: LogEntry) -> None:
    message = entry.driver_ego_trajectory
    poses = poses_from_wire(p.pose for p in message.trajectory.poses)
    moving = np.zeros((len(poses), 12))
    if len(message.dynamic_states) == len(poses):
        moving = dynamics_from_wire(message.dynamic_states)
    for state, pose, motion in zip(message.trajectory.poses, poses, moving, strict=True):
        found.estimated[_time(state.timestamp_us)] = np.concatenate([pose, motion])


def _camera_image(found: Gathered, entry: LogEntry) -> None:
    image = entry.driver_camera_image.camera_image
    span = (_time(image.frame_start_us), _time(image.frame_end_us))
    if image.image_bytes:
        found.frames_us.setdefault(image.logical_id, []).append(span)


def _controller_request(found: Gathered, entry: LogEntry) -> None:
    found.asked_us.append(_time(entry.controller_request.state.timestamp_us))


def _controller_return(found: Gathered, entry: LogEntry) -> None:
    states = [s for s in entry.controller_return.states if s.HasField("dynamic_state")]
    moving = dynamics_from_wire(s.dynamic_state for s in states)
    for state, motion in zip(states, moving, strict=True):
        found.driven[_time(state.timestamp_us)] = motion


def _chunk_request(found: Gathered, entry: LogEntry) -> None:
    poses = entry.video_model_chunk_request.rig_trajectory.poses
    found.chunks_us.append([_time(p.timestamp_us) for p in poses])


def _rendered(found: Gathered, entry: LogEntry) -> None:
    found.renders = True


_TAKES: dict[str, Callable[[Gathered, LogEntry], None]] = {
    "actor_poses": _actor_poses, "driver_request": _driver_request,
    "driver_return": _driver_return, "driver_ego_trajectory": _driver_ego,
    "driver_camera_image": _camera_image, "controller_request": _controller_request,
    "controller_return": _controller_return, "video_model_chunk_request": _chunk_request,
    "render_request": _rendered, "batch_render_request": _rendered,
    "aggregated_render_request": _rendered,
}  # fmt: skip


def as_times(values: list[int]) -> Times:
    """Times as an array."""
    return np.array(values, dtype=np.int64)
