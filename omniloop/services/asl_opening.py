"""What an ASL log begins with: the rollout's metadata, then what its sessions were started with.

The order is that of AlpaSim's runtime (alpasim.md 6.5): metadata, renderer, driver, traffic.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from google.protobuf.message import Message

from omniloop.core.camera_fit import as_ftheta
from omniloop.core.cameras import Camera
from omniloop.core.errors import ConfigError, SceneError
from omniloop.core.record import RolloutRecord
from omniloop.core.schedule import Schedule
from omniloop.runlog.messages import LogHeader
from omniloop.scenes.labels import alpasim_label
from omniloop.services.camera_codec import CameraAxes, available_camera
from omniloop.services.codec import pose_to_wire, size_to_wire, trajectory_to_wire
from omniloop.services.protos import egodriver_pb2, sensorsim_pb2, traffic_pb2, video_model_pb2
from omniloop.services.protos.common_pb2 import VersionId
from omniloop.services.protos.logging_pb2 import RolloutMetadata
from omniloop.services.rpc import API_VERSION
from omniloop.services.traffic_codec import EGO_ID
from omniloop.services.traffic_scene import logged_objects
from omniloop.services.video_requests import start_request

ORIGIN_KEY = "asl"
"""Key of a log header's settings under which a log that was read from ASL keeps the names of
its session, so that it gets them again."""

SKIPPED = "<skip>"
"""AlpaSim's version of a service that was not used (alpasim.md 1.1)."""

_MOST_INT32 = 2**31 - 1
_ROLES = {
    "egodriver_version": "policy", "sensorsim_version": "renderer", "physics_version": "ground",
    "traffic_version": "traffic", "controller_version": "controller", "video_model_version": "renderer",
}  # fmt: skip
"""Which plugin's name stands in which field of `VersionIds`."""

Entry = tuple[str, Message | bytes]
"""The field of an entry in ``LogEntry``, and what it holds."""


@dataclass(frozen=True, eq=False)
class Told:
    """What all entries of a log have in common.

    Attributes:
        uuid: The session's name in every service.
        cameras: Those that were rendered, in the order of the schedule's clocks, at their
            native size: readers scale intrinsics by the size of an image.
        notes: What the log cannot hold; entries add to it.
    """

    header: LogHeader
    record: RolloutRecord
    uuid: str
    cameras: tuple[Camera, ...]
    notes: list[str] = field(default_factory=list)

    @property
    def schedule(self) -> Schedule:
        """The rollout's timing."""
        return self.record.schedule

    @property
    def is_chunked(self) -> bool:
        """Whether a video model rendered, as AlpaSim would have it, and not sensorsim."""
        return self.schedule.chunk is not None


def session_uuid(header: LogHeader, header_bytes: bytes) -> str:
    """The session's name: that of the ASL log which the log was read from, else made of what
    was simulated with."""
    origin = header.config.get(ORIGIN_KEY)
    if isinstance(origin, dict) and isinstance(origin.get("session_uuid"), str):
        return str(origin["session_uuid"])
    sha256 = hashlib.sha256(header_bytes).hexdigest()
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"omniloop:rollout:{sha256}"))


def opening(told: Told) -> Iterator[Entry]:
    """Everything before the first states."""
    yield "rollout_metadata", _metadata(told)
    if told.is_chunked:
        yield from _video_session(told)
    elif told.cameras:
        asked = sensorsim_pb2.AvailableCamerasRequest(scene_id=told.header.scene_id)
        yield "available_cameras_request", asked
        listed = [available_camera(c, CameraAxes.OPTICAL) for c in told.cameras]
        answered = sensorsim_pb2.AvailableCamerasReturn(available_cameras=listed)
        yield "available_cameras_return", answered
    yield "driver_session_request", _driver_session(told)
    yield "traffic_session_request", _traffic_session(told)


def _metadata(told: Told) -> RolloutMetadata:
    header, schedule, scene = told.header, told.schedule, told.record.scene
    metadata = RolloutMetadata(
        session_metadata=RolloutMetadata.SessionMetadata(
            session_uuid=told.uuid, scene_id=header.scene_id, batch_size=1,
            n_sim_steps=schedule.n_decisions, start_timestamp_us=schedule.context_start_us,
            control_timestep_us=schedule.decision_period_us,
            render_start_timestamp_us=schedule.render_start_us,
        ),
        force_gt_duration=schedule.handover_us - schedule.render_start_us,
        version_ids=_versions(told),
        rollout_index=header.seed if header.seed <= _MOST_INT32 else 0,
        transform_ego_coords_rig_to_aabb=pose_to_wire(scene.vehicle.rig_to_aabb),
        ego_rig_recorded_ground_truth_trajectory=trajectory_to_wire(scene.ego.times_us, scene.ego.poses),
    )  # fmt: skip
    boxes = metadata.actor_definitions.actor_aabb
    boxes.add(actor_id=EGO_ID, aabb=size_to_wire(scene.vehicle.size_m), actor_label=EGO_ID)
    for actor in scene.actors:
        boxes.add(
            actor_id=actor.id, aabb=size_to_wire(actor.size_m), actor_label=alpasim_label(actor)
        )
    return metadata


def _versions(told: Told) -> RolloutMetadata.VersionIds:
    plugins = told.header.plugins
    unused = {"sensorsim_version"} if told.is_chunked else {"video_model_version"}
    if not told.cameras:
        unused.add("sensorsim_version")
    out = RolloutMetadata.VersionIds(runtime_version=_version("omniloop"))
    for name, kind in _ROLES.items():
        if name in unused:
            version = VersionId(version_id=SKIPPED, git_hash=SKIPPED)
        else:
            # An ASL log has no other place for what every result of ours says.
            sees = told.header.privileged if kind == "policy" else ()
            privileged = f" (privileged: {', '.join(sees)})" if sees else ""
            version = _version(f"omniloop {plugins.get(kind, kind)}{privileged}")
        getattr(out, name).CopyFrom(version)
    return out


def _version(name: str) -> VersionId:
    major, minor, patch = API_VERSION
    api = VersionId.APIVersion(major=major, minor=minor, patch=patch)
    return VersionId(version_id=name, grpc_api_version=api)


def _video_session(told: Told) -> Iterator[Entry]:
    scene, seed = told.record.scene, told.header.seeds.get("renderer", 0)
    frames = {f.camera_id: f.image for f in reversed(scene.first_frames)}
    ids = [c.id for c in told.cameras]
    first = [frames[name] for name in ids] if all(name in frames for name in ids) else []
    cameras = [_fitted(camera, told) for camera in told.cameras]
    try:
        request = start_request(
            scene, cameras, first, (scene.prompt, ""), seed or 1, video_model_pb2.DebugOptions()
        )
    except SceneError as error:
        told.notes.append(f"the video model's session is left out: {error.what}")
        return
    yield "video_model_session_request", request
    yield "video_model_session_id", video_model_pb2.SessionId(session_id=told.uuid)


def _fitted(camera: Camera, told: Told) -> Camera:
    """The camera as a video model is told it, by an f-theta polynomial where one fits."""
    try:
        return as_ftheta(camera)
    except ConfigError as error:
        told.notes.append(f"camera '{camera.id}' is written as it is: {error.what}")
        return camera


def _driver_session(told: Told) -> egodriver_pb2.DriveSessionRequest:
    # AlpaSim's drivers are told the renderer's axes (alpasim.md 0).
    axes = CameraAxes.FLU if told.is_chunked else CameraAxes.OPTICAL
    request = egodriver_pb2.DriveSessionRequest(
        session_uuid=told.uuid,
        random_seed=told.header.seeds.get("policy", 0),
        debug_info=egodriver_pb2.DriveSessionRequest.DebugInfo(scene_id=told.header.scene_id),
    )
    listed = request.rollout_spec.vehicle.available_cameras
    listed.extend(available_camera(c, axes) for c in told.cameras)
    return request


def _traffic_session(told: Told) -> traffic_pb2.TrafficSessionRequest:
    schedule, scene = told.schedule, told.record.scene
    request = traffic_pb2.TrafficSessionRequest(
        session_uuid=told.uuid, scene_id=told.header.scene_id,
        random_seed=told.header.seeds.get("traffic", 0), handover_time_us=max(schedule.handover_us, 1),
    )  # fmt: skip
    # Whoever reads the log has no other recording of the actors, so all of it is told.
    end_us = max(schedule.end_us, scene.end_us)
    start_us = schedule.context_start_us
    request.MergeFrom(logged_objects(scene, scene.vehicle, start_us, end_us, unseen_too=False))
    labels = {actor.id: alpasim_label(actor) for actor in scene.actors}
    for logged in request.logged_object_trajectories:
        logged.label_class = labels.get(logged.object_id, "")
    return request


def rendered_cameras(
    told_cameras: tuple[Camera, ...], sizes: dict[str, tuple[int, int]]
) -> tuple[Camera, ...]:
    """Cameras at the size of their images, where that is known."""
    return tuple(
        replace(c, model=c.model.resized(*sizes[c.id])) if c.id in sizes else c
        for c in told_cameras
    )
