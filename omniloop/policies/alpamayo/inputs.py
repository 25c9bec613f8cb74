"""What an Alpamayo model is told, from an observation: images, ego motion, navigation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.contracts import CameraFrame, Observation, Route
from omniloop.core.errors import PolicyError
from omniloop.core.geometry import Array

FRAMES, STEP_US = 4, 100_000
"""Images per camera, and the time between two of them as well as between ego poses."""

HISTORY_STEPS = 16

HISTORY_S = (HISTORY_STEPS - 1) * STEP_US / 1e6

_TURN_RAD = np.deg2rad(25.0)
_BEGINS_RAD = np.deg2rad(8.0)


@dataclass(frozen=True, eq=False)
class ModelInput:
    """One observation as the model takes it.

    Attributes:
        time_us: t0, the capture time of the newest image: outputs are relative to it.
        local_to_rig: ``(7,)`` ego at t0, the frame of all that follows.
        images: ``(cameras * 4, 3, H, W)`` uint8 RGB, camera by camera, oldest first.
        history_m: ``(16, 3)`` ego positions in rig(t0) every 100 ms, the last at t0.
        history_rotation: ``(16, 3, 3)`` their rotations.
        navigation: What to do ahead, in words; None if nothing is to be said.
    """

    time_us: int
    local_to_rig: Array
    images: NDArray[np.uint8]
    history_m: Array
    history_rotation: Array
    navigation: str | None


def model_input(
    observation: Observation, camera_ids: tuple[str, ...], navigation: str
) -> ModelInput | None:
    """Bring an observation into the model's form; None while there is too little to go by.

    Args:
        camera_ids: In the order of the model's camera indices.
        navigation: "none", "route" for words made of the route, or the words themselves.

    Raises:
        PolicyError: an image cannot be decoded, or cameras differ in size.
    """
    frames = {camera: observation.frames.get(camera, ()) for camera in camera_ids}
    if any(len(held) < FRAMES for held in frames.values()):
        return None
    time_us = max(held[-1].capture_us for held in frames.values())
    ego = observation.ego
    wanted = time_us - STEP_US * np.arange(HISTORY_STEPS - 1, -1, -1)
    if len(ego) < 2 or wanted[0] < ego.times_us[0]:
        return None
    if any(held[-1].capture_us - held[0].capture_us < STEP_US for held in frames.values()):
        return None  # the same image again and again: the camera has only begun
    poses = ego.trajectory.sample(np.clip(wanted, None, ego.times_us[-1]))
    in_rig = geometry.matrix_from_pose(geometry.compose(geometry.inverse(poses[-1]), poses))
    said: str | None = navigation
    if navigation in ("none", "route"):
        said = None if navigation == "none" or observation.route is None else words(observation)
    return ModelInput(
        time_us, poses[-1], _stacked(frames), in_rig[:, :3, 3], in_rig[:, :3, :3], said
    )


def _stacked(frames: dict[str, tuple[CameraFrame, ...]]) -> NDArray[np.uint8]:
    images = [_decoded(frame) for held in frames.values() for frame in held[-FRAMES:]]
    sizes = sorted({image.shape[:2] for image in images})
    if len(sizes) > 1:
        raise PolicyError(
            f"cameras of different sizes: {', '.join(f'{w} x {h}' for h, w in sizes)}",
            where=", ".join(frames), remedy="set renderer.width and renderer.height",
        )  # fmt: skip
    return np.stack(images).transpose(0, 3, 1, 2)


def _decoded(frame: CameraFrame) -> NDArray[np.uint8]:
    """``(H, W, 3)`` RGB."""
    import cv2

    image = cv2.imdecode(np.frombuffer(frame.image, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise PolicyError(
            f"a frame of {len(frame.image)} bytes is no image that can be decoded",
            where=f"camera {frame.camera_id} at {frame.capture_us} us",
            remedy="look at the renderer: it sends JPEG or PNG",
        )
    return np.asarray(image, dtype=np.uint8)


def words(observation: Observation) -> str | None:
    """The next turn of the route in the words that Alpamayo 1.5 was trained on."""
    route = observation.route
    return None if route is None else _next_turn(route)


def _next_turn(route: Route) -> str | None:
    """ "Turn left in 30m", or None where the route goes straight on."""
    step = np.diff(route.waypoints_rig[:, :2], axis=0)
    heading = geometry.wrap_rad(np.arctan2(step[:, 1], step[:, 0]))
    turned = np.flatnonzero(np.abs(heading) > _TURN_RAD)
    if len(turned) == 0:
        return None
    left = heading[turned[0]] > 0
    begins = int(np.flatnonzero(np.abs(heading) > _BEGINS_RAD)[0])
    distance_m = geometry.arc_length_m(route.waypoints_rig[:, :2])[begins]
    return f"Turn {'left' if left else 'right'} in {distance_m:.0f}m"
