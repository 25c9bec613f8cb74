"""Ego and actors on the score grid: what every metric looks at.

The grid is one for all sensor backends: every 100 ms from handover
(`Schedule.score_times_us`), whatever the renderer's frames and the decision period.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, EgoMotion, Mask, Times, bracket
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Vehicle
from omniloop.core.time import US_PER_S


@dataclass(frozen=True, eq=False)
class EgoSamples:
    """The true ego at some instants.

    Attributes:
        times_us: ``(K,)``.
        local_to_rig: ``(K, 7)``.
        local_to_aabb: ``(K, 7)`` poses of its box centre.
        velocity_mps: ``(K, 2)`` velocity of the rig origin in the plane of `local`.
        yaw_rate_radps: ``(K,)`` rate of turn about the rig's z axis.
        corners_xy: ``(K, 4, 2)`` corners of its footprint, see `geometry.box_corners_xy`.
    """

    times_us: Times
    local_to_rig: Array
    local_to_aabb: Array
    velocity_mps: Array
    yaw_rate_radps: Array
    corners_xy: Array

    @property
    def speed_mps(self) -> Array:
        """``(K,)``."""
        return np.hypot(self.velocity_mps[:, 0], self.velocity_mps[:, 1])


@dataclass(frozen=True, eq=False)
class ScoreSamples:
    """Ego and actors on the score grid; at least two samples.

    Attributes:
        ego: The true ego.
        actors: The scene's actors in their order.
    """

    ego: EgoSamples
    actors: ActorMotion

    @property
    def times_us(self) -> Times:
        """``(K,)`` the score grid."""
        return self.ego.times_us

    @functools.cached_property
    def driven_m(self) -> Array:
        """``(K,)`` distance driven by the rig origin since handover, in the plane."""
        return geometry.arc_length_m(self.ego.local_to_rig[:, :2])

    @functools.cached_property
    def actor_velocity_mps(self) -> Array:
        """``(A, K, 2)`` mean velocities of actors over the grid step that ends at a sample.

        At the first sample, and where an actor was absent a step earlier, it is that of
        the step that begins there; NaN where the actor is absent at both.
        """
        xy, valid = self.actors.local_to_aabb[..., :2], self.actors.valid
        dt_s = np.diff(self.times_us) / US_PER_S
        step = np.diff(xy, axis=1) / dt_s[:, None]
        step[~(valid[:, 1:] & valid[:, :-1])] = np.nan
        out = np.full(xy.shape, np.nan)
        out[:, 1:] = step
        fill = np.isnan(out[:, :-1, 0])
        out[:, :-1][fill] = step[fill]
        return out


def sample_ego(ego: EgoMotion, vehicle: Vehicle, times_us: Times) -> EgoSamples:
    """Interpolate committed ego states at times ``(K,)`` inside them.

    Poses as `Trajectory.sample`, velocities (in the rig frame) linearly.
    """
    lo, hi, alpha = bracket(ego.times_us, times_us)
    poses = geometry.interpolate_poses(ego.local_to_rig[lo], ego.local_to_rig[hi], alpha)
    before = ego.dynamics[lo, :6]
    motion = before + alpha[:, None] * (ego.dynamics[hi, :6] - before)
    boxes = geometry.shift_body(poses, vehicle.rig_to_aabb[:3])
    return EgoSamples(
        times_us=times_us,
        local_to_rig=poses,
        local_to_aabb=boxes,
        velocity_mps=geometry.rotate(poses[:, 3:], motion[:, :3])[:, :2],
        yaw_rate_radps=motion[:, 5],
        corners_xy=geometry.box_corners_xy(boxes, vehicle.size_m),
    )


@once_per_object
def score_samples(record: RolloutRecord) -> ScoreSamples | None:
    """Ego and actors on the score grid; None with fewer than two samples.

    One sample is handover itself, at which the policy has driven nothing yet.
    """
    times = record.schedule.score_times_us(record.frontier_us)
    if len(times) < 2:
        return None
    ego = sample_ego(record.ego, record.scene.vehicle, times)
    return ScoreSamples(ego, record.actors.sample(times))


def ignored_since_handover(event: Mask, seen: Mask, before: Mask) -> Mask:
    """Which samples of an event that was on at handover do not count.

    Such an event is the scene's doing, not the policy's: it counts only once it has
    been seen to be off.

    Args:
        event: ``(N, K)`` whether each of N events is on at each sample.
        seen: ``(N, K)`` whether it could be told.
        before: ``(N,)`` whether each is on since handover, up to the first sample.

    Returns:
        ``(N, K)`` whether it is still on since handover.
    """
    off = np.logical_or.accumulate(seen & ~event, axis=1)
    return before[:, None] & ~off


def episodes(on: Mask) -> list[tuple[int, int]]:
    """Runs of True in ``(K,)`` as pairs of first and last index."""
    edges = np.diff(np.concatenate([[False], on, [False]]).astype(np.int8))
    firsts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [(int(a), int(b) - 1) for a, b in zip(firsts, ends, strict=True)]
