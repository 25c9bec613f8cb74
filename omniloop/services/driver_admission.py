"""Which sessions a served policy can drive: cameras, scene and times of a start_session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grpc import StatusCode

from omniloop.core.calls import CallFunnel
from omniloop.core.cameras import Camera
from omniloop.core.messages import PolicySpec, SessionInfo
from omniloop.core.motion import EMPTY_TRAJECTORY
from omniloop.core.scene import Scene
from omniloop.services.camera_codec import CameraAxes, camera_from_wire
from omniloop.services.codec import LATEST_US
from omniloop.services.rpc import Caller, Refusal
from omniloop.services.session_times import TIMES_KEY, times_from_text
from omniloop.services.shelf import SceneShelf


@dataclass(frozen=True)
class Admission:
    """What a policy is told of a session.

    Attributes:
        cameras: Those that the policy looks at.
        declared: Ids of all cameras whose frames may come.
        knows_scene: Whether the scene is the server's own, else it is but a name.
    """

    info: SessionInfo
    cameras: tuple[Camera, ...]
    declared: frozenset[str]
    knows_scene: bool


def admit(
    request: Any, caller: Caller, axes: CameraAxes, spec: PolicySpec, scenes: SceneShelf | None
) -> Admission:
    """Read a start_session.

    Raises:
        Refusal: a camera cannot be read (INVALID_ARGUMENT) or is missing (FAILED_PRECONDITION),
            or the policy needs a scene that is not served (NOT_FOUND) or named
            (FAILED_PRECONDITION).
        SceneError: the scene cannot be loaded.
    """
    declared = request.rollout_spec.vehicle.available_cameras
    cameras = _cameras(declared, spec.cameras, axes)
    scene, is_known = _scene(request.debug_info.scene_id, spec, scenes)
    name = caller.session_name or request.session_uuid
    try:
        start_us, handover_us, end_us = _times(caller, scene)
    except ValueError as error:
        raise Refusal(StatusCode.INVALID_ARGUMENT, f"{TIMES_KEY}: {error}") from error
    info = SessionInfo(
        name, scene, request.random_seed, scene.vehicle, start_us, handover_us, end_us,
        CallFunnel(name),
    )  # fmt: skip
    return Admission(info, cameras, frozenset(c.logical_id for c in declared), is_known)


def _scene(scene_id: str, spec: PolicySpec, scenes: SceneShelf | None) -> tuple[Scene, bool]:
    """The scene of a session, and whether it is one of the server's own."""
    if scenes is not None and scene_id in scenes.ids:
        return scenes.get(scene_id), True
    needed = " and ".join(sorted(spec.privileged & {"map", "recording"}))
    if needed and not scene_id:
        raise Refusal(
            StatusCode.FAILED_PRECONDITION,
            f"the policy needs the {needed} of a scene, but debug_info.scene_id names none",
        )
    if needed:
        raise Refusal(
            StatusCode.NOT_FOUND,
            f"the policy needs the {needed} of scene '{scene_id}': {not_served(scene_id)}",
        )
    return Scene(scene_id, "wire", EMPTY_TRAJECTORY), False


def _cameras(declared: Any, wanted: tuple[str, ...] | None, axes: CameraAxes) -> tuple[Camera, ...]:
    """The declared cameras that the policy looks at; the others may be of any kind."""
    try:
        cameras = tuple(
            camera_from_wire(c, axes) for c in declared if wanted is None or c.logical_id in wanted
        )
    except ValueError as error:
        raise Refusal(StatusCode.INVALID_ARGUMENT, f"available_cameras: {error}") from error
    missing = [c for c in wanted or () if c not in {camera.id for camera in cameras}]
    if missing:
        raise Refusal(
            StatusCode.FAILED_PRECONDITION,
            f"the policy looks at camera '{missing[0]}', which is not declared; available_cameras:"
            f" {[c.logical_id for c in declared]}",
        )
    return cameras


def _times(caller: Caller, scene: Scene) -> tuple[int, int, int]:
    """Start, handover and end of a session; for a foreign caller it is closed-loop from its start."""
    if caller.is_omniloop and TIMES_KEY in caller.metadata:
        return times_from_text(caller.metadata[TIMES_KEY])
    if len(scene.ego):
        return scene.start_us, scene.start_us, scene.end_us
    return 0, 0, 0


def valid_time(time_us: int, field: str) -> int:
    """A time of a request.

    Raises:
        Refusal: it is too large to be one.
    """
    if time_us > LATEST_US:
        raise Refusal(StatusCode.INVALID_ARGUMENT, f"{field} is {time_us}, beyond {LATEST_US} us")
    return time_us


def not_served(scene_id: str) -> str:
    """What to do about a scene that the server does not have."""
    return f"the scene '{scene_id}' is not served here; start `omniloop serve policy scenes=... scenes.path=...`"
