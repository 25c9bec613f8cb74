"""What the world-action model sees: images, ego motion and route as arrays.

Pure functions, used alike when data are made and when the policy drives. All that is metric
lies in the rig frame at the decision (x forward, y left).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.errors import PolicyError
from omniloop.core.geometry import Array
from omniloop.core.messages import Route
from omniloop.core.motion import EgoMotion, Trajectory, bracket

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

IMAGE_WIDTH, IMAGE_HEIGHT = 256, 128
HISTORY_STEPS, HISTORY_FEATURES = 16, 5
HISTORY_STEP_US = 100_000
HISTORY_S = 1.6
ROUTE_POINTS = 16
ROUTE_AHEAD_M = 80.0
PLAN_STEPS, PLAN_STEP_US = 64, 100_000
HORIZON_S = 6.4

HISTORY_OFFSETS_US = -HISTORY_STEP_US * np.arange(HISTORY_STEPS, 0, -1, dtype=np.int64)
"""``(16,)`` -1.6 s, -1.5 s, ..., -0.1 s."""

PLAN_OFFSETS_US = PLAN_STEP_US * np.arange(1, PLAN_STEPS + 1, dtype=np.int64)
"""``(64,)`` 0.1 s, ..., 6.4 s."""


def history_of(ego: EgoMotion, time_us: int) -> Floats:
    """The 1.6 s of ego motion before a decision.

    Args:
        ego: Estimated states that reach `time_us`; those before the first one repeat it.
        time_us: The decision.

    Returns:
        ``(16, 5)``, oldest first, at 1.6 s to 0.1 s before the decision: x and y in metres and
        cosine and sine of the yaw, in the rig frame at the decision, and speed in m/s.
    """
    times = np.clip(time_us + HISTORY_OFFSETS_US, ego.times_us[0], None)
    lo, hi, alpha = bracket(ego.times_us, times)
    poses = ego.trajectory.sample(times)
    now = ego.trajectory.sample(time_us)[0]
    speed = ego.dynamics[lo, 0] + alpha * (ego.dynamics[hi, 0] - ego.dynamics[lo, 0])
    planar = _planar(now, poses)
    out = np.empty((HISTORY_STEPS, HISTORY_FEATURES), dtype=np.float32)
    out[:, :2] = planar[:, :2]
    out[:, 2], out[:, 3], out[:, 4] = np.cos(planar[:, 2]), np.sin(planar[:, 2]), speed
    return out


def speed_of(ego: EgoMotion) -> float:
    """The newest estimated forward speed in m/s."""
    return float(ego.dynamics[-1, 0])


def route_of(route: Route | None) -> tuple[Floats, bool]:
    """A route as ``(16, 3)`` points every 5 m, the first 5 m ahead, and whether there is one.

    Distances are measured in the plane along the route; a shorter route repeats its end.
    """
    if route is None or not np.isfinite(route.waypoints_rig).all():
        return np.zeros((ROUTE_POINTS, 3), dtype=np.float32), False
    s_m = ROUTE_AHEAD_M / ROUTE_POINTS * np.arange(1, ROUTE_POINTS + 1)
    return geometry.resample_polyline(route.waypoints_rig, s_m).astype(np.float32), True


def target_of(
    plan_local_to_rig: Trajectory, local_to_rig: Array, time_us: int
) -> tuple[Floats, bool]:
    """A plan as the array that the model learns to give.

    Args:
        plan_local_to_rig: Poses from `time_us` on.
        local_to_rig: ``(7,)`` ego's pose at the decision.
        time_us: The decision.

    Returns:
        ``(64, 3)`` x, y in metres and yaw in rad in the rig frame at the decision, 0.1 s to
        6.4 s after it, and whether the plan reaches that far (zeros if not).
    """
    times = time_us + PLAN_OFFSETS_US
    plan = plan_local_to_rig
    if len(plan) < 2 or plan.start_us > times[0] or plan.end_us < times[-1]:
        return np.zeros((PLAN_STEPS, 3), dtype=np.float32), False
    out = _planar(local_to_rig, plan.sample(times))
    out[:, 2] = np.unwrap(out[:, 2])
    return out.astype(np.float32), True


def plan_of(waypoints: Array, local_to_rig: Array, time_us: int) -> Trajectory:
    """The inverse of `target_of`: poses from ego's own at `time_us` to 6.4 s later.

    Args:
        waypoints: ``(64, 3)`` x, y, yaw in the rig frame at the decision.
        local_to_rig: ``(7,)``.
        time_us: The decision.

    Raises:
        PolicyError: a waypoint is not finite.
    """
    if not np.isfinite(waypoints).all():
        raise PolicyError(
            "the world-action model gave a waypoint that is not finite",
            where=f"policy.plan at {time_us} us",
            remedy="check its checkpoint, and the images and ego motion that it gets",
        )
    steps = geometry.poses_from_xyz_yaw(
        np.column_stack([waypoints[:, :2], np.zeros(len(waypoints))]), waypoints[:, 2]
    )
    poses = np.concatenate([local_to_rig[None], geometry.compose(local_to_rig, steps)])
    times = np.concatenate([[time_us], time_us + PLAN_OFFSETS_US])
    return Trajectory(times, poses)


def image_of(data: bytes, where: str = "") -> Image:
    """Decode a JPEG or PNG into ``(128, 256, 3)`` RGB: scaled to cover, the centre cut out.

    This is what `CameraModel.resized` does to a camera, so that an image of another size shows
    what one rendered at 256 x 128 does.

    Raises:
        PolicyError: the bytes are no image.
    """
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if pixels is None:
        raise PolicyError(
            f"a frame of {len(data)} bytes is no JPEG or PNG image", where=where,
            remedy="check what the renderer delivers",
        )  # fmt: skip
    height, width = pixels.shape[:2]
    if (width, height) != (IMAGE_WIDTH, IMAGE_HEIGHT):
        scale = max(IMAGE_WIDTH / width, IMAGE_HEIGHT / height)
        wide, high = math.ceil(width * scale - 1e-6), math.ceil(height * scale - 1e-6)
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        pixels = cv2.resize(pixels, (wide, high), interpolation=method)
        left, top = (wide - IMAGE_WIDTH) // 2, (high - IMAGE_HEIGHT) // 2
        pixels = pixels[top : top + IMAGE_HEIGHT, left : left + IMAGE_WIDTH]
    return np.ascontiguousarray(pixels[:, :, ::-1])


def _planar(local_to_rig: Array, poses: Array) -> Array:
    """x, y, yaw ``(N, 3)`` of poses ``(N, 7)`` in the frame of one pose ``(7,)``."""
    relative = geometry.compose(geometry.inverse(local_to_rig), poses)
    out = np.empty((len(relative), 3))
    out[:, :2] = relative[:, :2]
    out[:, 2] = geometry.yaw_rad(relative)
    return out
