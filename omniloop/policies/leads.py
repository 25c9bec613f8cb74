"""Who is in ego's way along a path, now or soon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, Mask
from omniloop.core.scene import Vehicle
from omniloop.policies.smooth_path import SmoothPath

_VELOCITY_US = 200_000
"""Actors' velocities are differences over this time."""

_MARGIN_M = 0.25
"""Room that ego wants on either side, to actors ahead of its front."""

_CROSSING_MPS = 0.3
_AHEAD_S = 3.0
"""Who moves sideways faster than this leaves or enters the corridor; looked ahead so far."""

_BEFORE_S, _AFTER_S = 0.5, 1.0
"""Ego does not pass closer than this in time before or after a crossing actor."""

_START_MPS = 2.0
"""A standing ego is taken to cross at least this fast."""

_MAX_SWING_M = 0.6
_STOREY_M = 3.0
_COARSE = 4
_PARTS = np.array([-1.0, 0.0, 1.0])
"""A box is looked at as three boxes one behind the other: a bus bends with the road."""


@dataclass(frozen=True, eq=False)
class Obstacles:
    """What limits ego's progress along its path, each for a time.

    Attributes:
        rear_m: ``(C,)`` how far ego's front is now from the near end of one ahead.
        speed_mps: ``(C,)`` its speed along the path.
        until_s: ``(C,)`` how long it is in the way; may be infinite.
        wait_m: ``(W,)`` how far ego's front is now from the way of one that crosses.
        wait_s: ``(W,)`` how long ego must not be there.
    """

    rear_m: Array
    speed_mps: Array
    until_s: Array
    wait_m: Array
    wait_s: Array

    def nearest(self, times_s: Array) -> tuple[Array, Array]:
        """Near end and speed of the nearest one ahead at times ``(T,)``; inf and 0 if none."""
        if len(self.rear_m) == 0:
            return np.full(len(times_s), np.inf), np.zeros(len(times_s))
        there = self.rear_m[:, None] + self.speed_mps[:, None] * times_s
        there = np.where(times_s <= self.until_s[:, None], there, np.inf)
        first = np.argmin(there, axis=0)
        return there[first, np.arange(len(times_s))], self.speed_mps[first]

    def braking(self, times_s: Array, speed_mps: float, room_m: float) -> Array:
        """Acceleration ``(T,)``, at most 0, that lets those who cross pass; inf if none.

        Either ego stops `room_m` before the place (or half way to it), or it comes there
        only when the other has gone, whichever needs less.
        """
        if len(self.wait_m) == 0:
            return np.full(len(times_s), np.inf)
        room = np.maximum(np.maximum(self.wait_m - room_m, self.wait_m / 2), 0.1)
        later = 2 * (speed_mps * self.wait_s - room) / self.wait_s**2
        stop = speed_mps**2 / (2 * room)
        brake = np.maximum(np.where(later * self.wait_s <= speed_mps, later, stop), 0.0)
        active = times_s < self.wait_s[:, None]
        return np.asarray(np.where(active, -brake[:, None], np.inf).min(axis=0))


_NONE = np.zeros(0)
NO_OBSTACLES = Obstacles(_NONE, _NONE, _NONE, _NONE, _NONE)


def actor_velocities(motion: ActorMotion) -> tuple[Array, Mask]:
    """Velocities ``(A, 2)`` in `local` of actors and whether they are known.

    They are differences over the last 200 ms, or over the last step where an actor has
    not been there that long; they mean nothing where they are not known.
    """
    times, poses, valid = motion.times_us, motion.local_to_aabb, motion.valid
    last = len(times) - 1
    first = max(int(np.searchsorted(times, times[-1] - _VELOCITY_US, side="right")) - 1, 0)
    if first == last:
        return np.zeros((len(valid), 2)), np.zeros(len(valid), dtype=bool)
    known = valid[:, first] & valid[:, last]
    out = (poses[:, last, :2] - poses[:, first, :2]) * (1e6 / int(times[last] - times[first]))
    late = valid[:, last - 1] & valid[:, last] & ~known
    if late.any():
        step_s = int(times[last] - times[last - 1]) / 1e6
        out[late] = (poses[late, last, :2] - poses[late, last - 1, :2]) / step_s
        known |= late
    return out, known


def find_obstacles(
    path: SmoothPath,
    speed_mps: float,
    vehicle: Vehicle,
    motion: ActorMotion,
    sizes_m: Array,
    mobile: Mask,
) -> Obstacles:
    """Find actors in ego's corridor ahead, or about to cross it.

    The corridor is the path with ego's width, a margin and, in curves, the swing of ego's
    front. Actors of all classes are predicted with constant velocity. One that stands in
    the corridor, moves along it or merges into it ahead of ego counts where it is, with
    its speed along the path, until it has left. For one that moves across or against ego,
    ego waits before the place where both would be at about the same time.

    Args:
        path: Ego's path.
        speed_mps: Ego's speed.
        motion: Committed motion of A actors; its last states are the present.
        sizes_m: ``(A, 3)``.
        mobile: ``(A,)`` whether an actor seen for the first time is taken to move, at ego's
            speed along its own heading; else it is taken to stand.
    """
    if len(sizes_m) == 0 or len(motion.times_us) == 0:
        return NO_OBSTACLES
    now, there = motion.local_to_aabb[:, -1], motion.valid[:, -1]
    velocity, known = actor_velocities(motion)
    new = there & ~known
    if new.any():
        yaw = geometry.yaw_rad(now[new])
        guess = np.where(mobile[new], speed_mps, 0.0)
        velocity[new] = guess[:, None] * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    # Coarse first: only actors that could reach the corridor soon are looked at closely.
    coarse = path.table[:-1:_COARSE, :2]
    dx, dy = now[:, 0, None] - coarse[:, 0], now[:, 1, None] - coarse[:, 1]
    gap2 = (dx * dx + dy * dy).min(axis=1)
    reach = sizes_m[:, 0] / 2 + _AHEAD_S * np.sqrt(velocity[:, 0] ** 2 + velocity[:, 1] ** 2)
    close = np.flatnonzero(there & (gap2 < (reach + vehicle.width_m + 3.0) ** 2))
    if len(close) == 0:
        return NO_OBSTACLES
    boxes, sizes, velocity = now[close], sizes_m[close], velocity[close]
    rear, speed, until, across = _followed(path, speed_mps, vehicle, boxes, sizes, velocity)
    if not across.any():
        return Obstacles(rear, speed, until, _NONE, _NONE)
    boxes, sizes, velocity = boxes[across], sizes[across], velocity[across]
    wait_m, wait_s = _crossing(path, speed_mps, vehicle, boxes, sizes, velocity)
    return Obstacles(rear, speed, until, wait_m, wait_s)


def _followed(
    path: SmoothPath,
    speed_mps: float,
    vehicle: Vehicle,
    boxes: Array,
    sizes_m: Array,
    velocity: Array,
) -> tuple[Array, Array, Array, Mask]:
    """Near ends, speeds and times of actors that stand in, move along or merge into the way.

    They are predicted along and across the path, so that traffic in the next lane stays
    there in curves. The last of the answer is who moves across or against ego instead.
    """
    stations, x, y = path.table[:-1], boxes[:, 0], boxes[:, 1]
    dx, dy = x[:, None] - stations[:, 0], y[:, None] - stations[:, 1]
    at = np.argmin(dx * dx + dy * dy, axis=1)
    yaw = geometry.yaw_rad(boxes)[:, None]
    cos_yaw, sin_yaw = np.cos(yaw), np.sin(yaw)
    # Parts of a box, (K, 3), lie at other stations than its centre.
    offset = sizes_m[:, 0, None] / 3 * _PARTS
    nearest = stations[at]
    per_m = (len(stations) - 1) / path.route_end_m
    further = per_m * (cos_yaw * nearest[:, 3, None] + sin_yaw * nearest[:, 4, None])
    at = at[:, None] + np.rint(further * offset).astype(np.int64)
    at = np.minimum(np.maximum(at, 0), len(stations) - 1)
    nearest, curvature = stations[at], path.curvature_1pm[at]
    dx = boxes[:, 0, None] + offset * cos_yaw - nearest[..., 0]
    dy = boxes[:, 1, None] + offset * sin_yaw - nearest[..., 1]
    c, s = nearest[..., 3], nearest[..., 4]
    along, aside = path.s_m[at] + c * dx + s * dy, c * dy - s * dx
    level = np.abs((boxes[:, 2] - sizes_m[:, 2] / 2)[:, None] - nearest[..., 2]) < _STOREY_M
    vx, vy = velocity[:, 0, None], velocity[:, 1, None]
    v_along, v_aside = c * vx + s * vy, c * vy - s * vx
    ct, st = np.abs(c * cos_yaw + s * sin_yaw), np.abs(c * sin_yaw - s * cos_yaw)
    half_l, half_w = sizes_m[:, 0, None] / 6, sizes_m[:, 1, None] / 2
    reach_along, reach_aside = ct * half_l + st * half_w, st * half_l + ct * half_w
    near_m, far_m = along - reach_along, along + reach_along
    right_m, left_m = aside - reach_aside, aside + reach_aside

    front_m = vehicle.rear_axle_to_center_m + vehicle.length_m / 2
    swing = front_m**2 / 2 * curvature
    half = vehicle.width_m / 2 + np.where(near_m > front_m, _MARGIN_M, 0.0)
    to_left = half + np.minimum(np.maximum(-swing, 0.0), _MAX_SWING_M)
    to_right = half + np.minimum(np.maximum(swing, 0.0), _MAX_SWING_M)

    inside = (right_m < to_left) & (left_m > -to_right)
    sideways = np.abs(v_aside)
    moving = sideways > _CROSSING_MPS
    sideways = np.maximum(sideways, _CROSSING_MPS)
    leftward = v_aside > 0
    gap = np.where(leftward, -to_right - left_m, right_m - to_left)
    room = np.where(leftward, to_left - right_m, left_m + to_right)
    enters_s = gap / sideways
    leaves_s = np.where(moving, room / sideways, np.inf)
    merges = moving & (gap >= 0) & (enters_s <= _AHEAD_S)
    merges &= near_m + v_along * enters_s > front_m + speed_mps * enters_s
    against = v_along <= np.where(moving, np.abs(v_aside), -_CROSSING_MPS)
    chosen = level & (far_m > front_m) & ~against & (inside | merges)
    return near_m[chosen] - front_m, v_along[chosen], leaves_s[chosen], (against & level)[:, 1]


def _crossing(
    path: SmoothPath,
    speed_mps: float,
    vehicle: Vehicle,
    boxes: Array,
    sizes_m: Array,
    velocity: Array,
) -> tuple[Array, Array]:
    """Places and times of actors whose straight way meets ego's path when ego is about there.

    At every station the actor's box is in ego's way for a span of time, and ego is there
    for another; where they overlap, some time between them included, ego has to wait.
    """
    speed = np.sqrt(velocity[:, 0] ** 2 + velocity[:, 1] ** 2)
    ux, uy = velocity[:, 0] / speed, velocity[:, 1] / speed
    turn = geometry.yaw_rad(boxes) - np.arctan2(uy, ux)
    ct, st = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    half_l = (ct * sizes_m[:, 0] + st * sizes_m[:, 1]) / 2
    half_w = (st * sizes_m[:, 0] + ct * sizes_m[:, 1]) / 2
    stations, s_m = path.table[:-1], path.s_m[:-1]
    dx, dy = stations[:, 0] - boxes[:, 0, None], stations[:, 1] - boxes[:, 1, None]
    ux, uy, speed = ux[:, None], uy[:, None], speed[:, None]
    ahead_s = (dx * ux + dy * uy) / speed
    aside_m = np.abs(dy * ux - dx * uy)
    half = vehicle.width_m / 2
    span_s = (half_l + half)[:, None] / speed
    enters_s, leaves_s = ahead_s - span_s, ahead_s + span_s

    front_m = vehicle.rear_axle_to_center_m + vehicle.length_m / 2
    ego_mps = max(speed_mps, _START_MPS)
    arrives_s = (s_m - front_m) / ego_mps
    past_s = arrives_s + vehicle.length_m / ego_mps
    meets = (aside_m < (half_w + half + _MARGIN_M)[:, None]) & (s_m > front_m)
    meets &= (leaves_s > 0) & (enters_s < _AHEAD_S)
    meets &= (arrives_s < leaves_s + _AFTER_S) & (past_s > enters_s - _BEFORE_S)
    chosen = meets.any(axis=1)
    meets, leaves_s = meets[chosen], leaves_s[chosen]
    first = np.argmax(meets, axis=1)
    gone_s = np.where(meets, leaves_s, 0.0).max(axis=1, initial=0.0)
    return s_m[first] - front_m, gone_s + _AFTER_S
