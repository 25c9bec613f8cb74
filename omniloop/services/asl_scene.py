"""The scene and the timing of a rollout, as an ASL log tells them.

An ASL log holds no scene: ego's recording is in the metadata, the actors' recordings are in the
start of the traffic session, cameras in that of the driver session. The map is there where a
video model was given one. All else is the scene's own, if that is at hand.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.contracts import ChunkRule
from omniloop.core.errors import ConfigError, SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Trajectory
from omniloop.core.scene import FirstFrame, Scene, Track, VectorMap, Vehicle
from omniloop.core.schedule import CameraClock, Schedule
from omniloop.core.time import US_PER_S
from omniloop.scenes.clipgt import read_clipgt
from omniloop.services.asl_file import AslReader
from omniloop.services.asl_gather import Gathered, as_times
from omniloop.services.camera_codec import CameraAxes, camera_from_wire
from omniloop.services.codec import (
    pose_from_wire,
    size_from_wire,
    trajectory_from_wire,
    trajectory_to_wire,
)
from omniloop.services.protos import traffic_pb2
from omniloop.services.protos.common_pb2 import AABB
from omniloop.services.rpc import Refusal
from omniloop.services.traffic_codec import EGO_ID
from omniloop.services.traffic_scene import scene_of

_SAME_PLACE_M = 0.5
"""A scene whose recorded ego is further from the log's is another, or in another frame."""

_ROUNDED_M = 1e-3
_LONGEST_US = 24 * 3600 * US_PER_S
_MOST_STEPS = 1_000_000


@dataclass(frozen=True, eq=False)
class AslWorld:
    """What a log was driven in.

    Attributes:
        rig_to_aabb: ``(7,)`` ego's box in its rig, as the log has it.
        times_us: ``(N,)`` of the states that the log holds.
        local_to_rig: ``(N, 7)`` true ego at these times.
        local_to_aabb: ``(A, N, 7)`` the scene's actors, and where they are `valid`.
        schedule: The timing.
        stopped_by: Why it ended before the schedule's end; empty if it did not.
    """

    scene: Scene
    rig_to_aabb: Array
    times_us: np.ndarray
    local_to_rig: Array
    local_to_aabb: Array
    valid: np.ndarray
    schedule: Schedule
    stopped_by: str


def world_of(found: Gathered, reader: AslReader, own: Scene | None) -> AslWorld:
    """Work out scene and timing; what is missing is added to the notes of `found`.

    Args:
        own: The scene itself, if it is at hand.

    Raises:
        RunFolderError: the log does not say what is needed.
        SceneError: `own` is not the scene of the log.
    """
    if not found.times_us:
        cut = f" (it is {reader.problem})" if reader.problem else ""
        raise reader.error(f"the log holds no actor_poses: nothing was simulated{cut}")
    try:
        vehicle, rig_to_aabb = _vehicle(found)
        recorded = trajectory_from_wire(found.metadata.ego_rig_recorded_ground_truth_trajectory)
    except ValueError as error:
        raise reader.error(f"the rollout_metadata cannot be used: {error}") from error
    times = as_times(found.times_us)
    aabb_to_rig = geometry.inverse(rig_to_aabb)
    local_to_rig = geometry.compose(found.ego_local_to_aabb(), aabb_to_rig)
    if not len(recorded):
        found.notes.append("the ASL log has no recorded ego: what was driven stands in for it")
        recorded = Trajectory(times, local_to_rig)
    try:
        logged = scene_of(_traffic_session(found, recorded, vehicle), None)
    except Refusal as error:
        raise reader.error(f"traffic_session_request cannot be used: {error.details}") from error
    cameras = _cameras(found)
    if own is None:
        scene = replace(
            logged, source="asl", ego=recorded, vehicle=vehicle, cameras=cameras, map=_map(found),
            first_frames=_first_frames(found, cameras), prompt=_prompt(found),
        )  # fmt: skip
    else:
        scene = _merged(own, logged.tracks, recorded, reader)
    _check_spans(scene, found, reader)
    poses, valid = found.actors_local_to_aabb([a.id for a in scene.actors])
    strangers = set(found.ids) - {a.id for a in scene.actors}
    if strangers:
        found.notes.append(
            f"{len(strangers)} actor(s) of unknown size are left out, such as '{min(strangers)}'"
        )
    schedule = _schedule(found, recorded, reader)
    stopped_by = ""
    if times[-1] < schedule.end_us:
        stopped_by = "policy" if found.terminated else "the ASL log ends"
    return AslWorld(scene, rig_to_aabb, times, local_to_rig, poses, valid, schedule, stopped_by)


def _check_spans(scene: Scene, found: Gathered, reader: AslReader) -> None:
    """Refuse times that no rollout has, before anything is made at every 100 ms of them."""
    times = [as_times(found.times_us), scene.ego.times_us, *(t.times_us for t in scene.tracks)]
    first = [int(t[0]) for t in times if len(t)]
    last = [int(t[-1]) for t in times if len(t)]
    if max(last) - min(first) > _LONGEST_US:
        raise reader.error(
            f"states and recordings go from {min(first)} to {max(last)} us, which is more than a day"
        )


# --------------------------------------------------------------------------- ego and actors


def _vehicle(found: Gathered) -> tuple[Vehicle, Array]:
    boxes = {a.actor_id: a for a in found.metadata.actor_definitions.actor_aabb}
    if EGO_ID not in boxes:
        raise ValueError(f"actor_definitions has no '{EGO_ID}'")
    length_m, width_m, height_m = size_from_wire(boxes[EGO_ID].aabb).tolist()
    if not min(length_m, width_m, height_m) > 0:
        raise ValueError(f"'{EGO_ID}' has the size {[length_m, width_m, height_m]} m")
    if not found.metadata.HasField("transform_ego_coords_rig_to_aabb"):
        found.notes.append(
            "the ASL log does not say where ego's box is: AlpaSim's default is taken"
        )
        standard = Vehicle()
        center_m = length_m / 2 - (standard.length_m / 2 - standard.rear_axle_to_center_m)
        vehicle = Vehicle(length_m, width_m, height_m, center_m)
        return vehicle, vehicle.rig_to_aabb
    rig_to_aabb = pose_from_wire(found.metadata.transform_ego_coords_rig_to_aabb)
    vehicle = Vehicle(length_m, width_m, height_m, float(rig_to_aabb[0]))
    off_m = float(np.abs(rig_to_aabb[:3] - vehicle.rig_to_aabb[:3]).max())
    if off_m > _ROUNDED_M:
        found.notes.append(
            f"ego's box is {off_m:.3f} m beside where a vehicle of ours has it; poses of the rig are exact"
        )
    return vehicle, rig_to_aabb


def _traffic_session(
    found: Gathered, recorded: Trajectory, vehicle: Vehicle
) -> traffic_pb2.TrafficSessionRequest:
    """The start of a traffic session with every actor that has a size, in the log's order.

    Actors without a recording get what was driven as theirs.
    """
    session = found.sessions.get("traffic_session_request", traffic_pb2.TrafficSessionRequest())
    logged = {o.object_id: o for o in session.logged_object_trajectories}
    out = traffic_pb2.TrafficSessionRequest(scene_id=found.metadata.session_metadata.scene_id)
    boxes = recorded.shift_body(vehicle.rig_to_aabb)
    ego = out.logged_object_trajectories.add(object_id=EGO_ID)
    ego.trajectory.CopyFrom(trajectory_to_wire(boxes.times_us, boxes.poses))
    ego.aabb.CopyFrom(_ego_aabb(found))
    times = as_times(found.times_us)
    unrecorded = 0
    for box in found.metadata.actor_definitions.actor_aabb:
        if box.actor_id == EGO_ID:
            continue
        own = logged.pop(box.actor_id, None)
        if own is not None:
            out.logged_object_trajectories.append(own)
            continue
        poses, valid = found.actors_local_to_aabb([box.actor_id])
        there = out.logged_object_trajectories.add(
            object_id=box.actor_id, aabb=box.aabb, label_class=box.actor_label
        )
        there.trajectory.CopyFrom(trajectory_to_wire(times[valid[0]], poses[0][valid[0]]))
        unrecorded += int(valid.any())
    logged.pop(EGO_ID, None)
    out.logged_object_trajectories.extend(logged.values())
    if unrecorded:
        found.notes.append(
            f"the ASL log has no recording of {unrecorded} actor(s): what was driven stands in for it"
        )
    return out


def _ego_aabb(found: Gathered) -> AABB:
    boxes = found.metadata.actor_definitions.actor_aabb
    return next(a.aabb for a in boxes if a.actor_id == EGO_ID)


def _merged(
    own: Scene, logged: tuple[Track, ...], recorded: Trajectory, reader: AslReader
) -> Scene:
    """The scene itself, and actors that only the log has.

    Raises:
        SceneError: its recorded ego is elsewhere than the log's.
    """
    shared = recorded.times_us[
        (recorded.times_us >= own.start_us) & (recorded.times_us <= own.end_us)
    ]
    if not len(shared):
        raise SceneError(
            f"the scene's recording, {own.start_us} to {own.end_us} us, shares no time with the"
            f" log's, {recorded.start_us} to {recorded.end_us} us",
            where=f"scene {own.id}, {reader.path}", remedy="give the scene that was driven",
        )  # fmt: skip
    apart = own.ego.sample(shared)[:, :2] - recorded.sample(shared)[:, :2]
    away_m = float(np.hypot(apart[:, 0], apart[:, 1]).max())
    if away_m > _SAME_PLACE_M:
        raise SceneError(
            f"the scene's recorded ego is up to {away_m:.2f} m from the log's",
            where=f"scene {own.id}, {reader.path}",
            remedy="give the scene that was driven, in the frame in which it was driven",
        )
    have = {track.actor.id for track in own.tracks}
    added = tuple(t for t in logged if t.actor.id not in have)
    return replace(own, tracks=(*own.tracks, *added))


# ------------------------------------------------------------------- cameras, map, first frames


def _cameras(found: Gathered) -> tuple[Camera, ...]:
    """The cameras that the driver was told of, with the clocks of their frames."""
    video = "video_model_session_request" in found.sessions or found.chunks_us
    axes = CameraAxes.FLU if video else CameraAxes.OPTICAL
    driver = found.sessions.get("driver_session_request")
    listed = [] if driver is None else list(driver.rollout_spec.vehicle.available_cameras)
    catalogue = found.sessions.get("available_cameras_return")
    if not listed and catalogue is not None:
        listed = [c for c in catalogue.available_cameras if c.logical_id in found.frames_us]
    cameras = []
    for message in listed:
        try:
            camera = camera_from_wire(message, axes)
        except (ValueError, ConfigError) as error:
            found.notes.append(f"camera '{message.logical_id}' is left out of the scene: {error}")
            continue
        clock = None if video else _clock(camera.id, found.frames_us.get(camera.id, []))
        if clock is not None:
            camera = replace(
                camera, first_frame_end_us=clock.first_end_us,
                frame_interval_us=clock.interval_us, shutter_us=clock.shutter_us,
            )  # fmt: skip
        cameras.append(camera)
    return tuple(cameras)


def _clock(name: str, frames: list[tuple[int, int]]) -> CameraClock | None:
    """When a camera's shutter closed: most often so far apart."""
    if not frames:
        return None
    ends = sorted({end for _, end in frames})
    steps = Counter(b - a for a, b in pairwise(ends))
    interval_us = max(steps, key=lambda step: (steps[step], -step)) if steps else US_PER_S
    start_us, end_us = min(frames, key=lambda frame: frame[1])
    return CameraClock(name, end_us, interval_us, max(end_us - start_us, 0))


def _map(found: Gathered) -> VectorMap:
    session = found.sessions.get("video_model_session_request")
    archive = b"" if session is None else session.static_world_map.hdmap_parquets
    if not archive:
        found.notes.append(
            "the ASL log has no map: scores that need one are undefined; give the scene:"
            " scenes=usdz scenes.path=DIR"
        )
        return VectorMap()
    try:
        return read_clipgt(archive, "video_model_session_request").map
    except SceneError as error:
        found.notes.append(f"the ASL log's HD map cannot be read: {error.what}")
        return VectorMap()


def _first_frames(found: Gathered, cameras: tuple[Camera, ...]) -> tuple[FirstFrame, ...]:
    session = found.sessions.get("video_model_session_request")
    if session is None or len(session.initial_frames) != len(session.camera_specs):
        return ()
    at_us = found.metadata.session_metadata.render_start_timestamp_us
    known = {c.id for c in cameras}
    return tuple(
        FirstFrame(spec.logical_id, at_us, image.data)
        for spec, image in zip(session.camera_specs, session.initial_frames, strict=True)
        if image.data and spec.logical_id in known
    )


def _prompt(found: Gathered) -> str:
    session = found.sessions.get("video_model_session_request")
    return "" if session is None else str(session.text_prompt.positive)


# ---------------------------------------------------------------------------------- timing


def _schedule(found: Gathered, recorded: Trajectory, reader: AslReader) -> Schedule:
    """The timing, by the rules of AlpaSim's runtime (alpasim.md 2.2, 2.4)."""
    session, force_us = found.metadata.session_metadata, found.metadata.force_gt_duration
    period_us, start_us = session.control_timestep_us, session.start_timestamp_us
    render_us, last_us = session.render_start_timestamp_us or start_us, found.times_us[-1]
    if not 0 < period_us <= _LONGEST_US:
        raise reader.error(f"the rollout_metadata has the control_timestep_us {period_us}")
    first_us = _first_decision_us(found, render_us, period_us)
    if last_us <= first_us:
        raise reader.error(
            f"the log ends at {last_us} us, by the first decision at {first_us} us: nothing was driven"
        )
    steps = -(-(last_us - first_us) // period_us)
    planned = min(session.n_sim_steps, (recorded.end_us - first_us) // period_us)
    count = max(steps, planned)
    if count > _MOST_STEPS:
        raise reader.error(f"{count} steps of control_timestep_us {period_us} are too many")
    warmup = min(max((render_us + force_us - first_us) // period_us, 0), count)
    chunk = _chunk(found, period_us)
    if chunk is None:
        clocks = [_clock(name, frames) for name, frames in found.frames_us.items()]
    else:
        interval_us = chunk.frame_interval_us
        clocks = [CameraClock(name, render_us, interval_us, 0) for name in found.frames_us]
    per_chunk = 1 if chunk is None else chunk.duration_us // period_us
    return Schedule(
        context_start_us=min(start_us, found.times_us[0]), render_start_us=render_us,
        first_decision_us=first_us, decision_period_us=period_us, n_decisions=count,
        n_warmup=warmup, chunk=chunk, clocks=tuple(c for c in clocks if c is not None),
        decisions_per_chunk=per_chunk, postfetch=per_chunk > 1,
    )  # fmt: skip


def _first_decision_us(found: Gathered, render_us: int, period_us: int) -> int:
    """The first time at which driver or controller were asked.

    Where they were left out in warm-up, it is the second state with a video model, and render
    start without one.
    """
    asked_us = min(found.asked_us, default=None)
    begun = found.times_us[:2]
    if asked_us is not None and asked_us in begun:
        return asked_us
    on_grid = asked_us is None or (asked_us - render_us) % period_us == 0
    return render_us if on_grid and not found.chunks_us else begun[-1]


def _chunk(found: Gathered, period_us: int) -> ChunkRule | None:
    """The rule that the chunks asked for follow; None where there are none, or they follow none."""
    chunks = [times for times in found.chunks_us if len(times) > 1]
    if not chunks:
        return None
    interval_us = chunks[0][1] - chunks[0][0]
    frames = len(chunks[1]) if len(chunks) > 1 else len(chunks[0]) + 3
    if interval_us > 0 and frames % 4 == 0:
        rule = ChunkRule(frames, round(US_PER_S / interval_us))
        if rule.frame_interval_us == interval_us and rule.duration_us % period_us == 0:
            return rule
    found.notes.append(
        f"the video model's chunks of {frames} frames every {interval_us} us fit no chunk rule"
    )
    return None
