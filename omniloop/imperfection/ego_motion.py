"""The ego motion that a policy is told: the truth of a while ago, with errors.

The errors do not depend on when states are committed: they are drawn at knots every
100 ms from context start, and interpolated.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import EgoMotion, Times, bracket
from omniloop.core.seeds import generator
from omniloop.core.time import seconds_to_us
from omniloop.imperfection.settings import EgoMotionSettings

KNOT_US = 100_000
"""From one drawn error to the next."""

CHANNELS = ("along", "across", "yaw", "speed")


def gauss_markov_knots(decay: float, white: Array) -> Array:
    """A first-order Gauss-Markov process of unit variance at equal steps.

    ``x[0] = w[0]`` and ``x[k] = a x[k-1] + sqrt(1 - a^2) w[k]``, the exact discretisation
    (Gelb, Applied Optimal Estimation, section 3.6) with ``a = exp(-step / correlation time)``.

    Args:
        decay: ``a`` in [0, 1).
        white: ``(K, C)`` standard normal.
    """
    out: Array = white * np.sqrt(1.0 - decay * decay)
    out[:1] = white[:1]
    for k in range(1, len(out)):
        out[k] += decay * out[k - 1]
    return out


class EgoErrors:
    """Errors along, across, of yaw and of speed as functions of time.

    Between two knots of correlation `a` an error is interpolated with weights ``1 - f`` and
    ``f``, divided by ``sqrt((1-f)^2 + f^2 + 2 f (1-f) a)``, so that its standard deviation is
    the same everywhere.

    Args:
        start_us, end_us: The span in which errors are asked for.
        seed: Of the rollout's disturbances.
    """

    def __init__(self, settings: EgoMotionSettings, start_us: int, end_us: int, seed: int) -> None:
        count = (end_us - start_us) // KNOT_US + 2
        self._start_us = start_us
        decay = float(np.exp(-KNOT_US / seconds_to_us(settings.correlation_s)))
        slow, white = (
            np.stack(
                [
                    generator(seed, "ego_motion", kind, channel).standard_normal(count)
                    for channel in CHANNELS
                ],
                axis=1,
            )
            for kind in ("slow", "white")
        )
        slow = gauss_markov_knots(decay, slow) * settings.slow
        self._knots = np.stack([slow, white * settings.white], axis=1)  # (K, 2, 4)
        self._twice_correlation = np.array([2.0 * decay, 0.0])

    def at(self, times_us: Times) -> Array:
        """Errors ``(N, 4)`` along [m], across [m], of yaw [rad] and speed [m/s]."""
        knot, rest_us = np.divmod(times_us - self._start_us, KNOT_US)
        after = (rest_us / KNOT_US)[:, None]
        before = 1.0 - after
        norm = np.sqrt(before**2 + after**2 + before * after * self._twice_correlation)
        parts = (before / norm)[..., None] * self._knots[knot]
        parts += (after / norm)[..., None] * self._knots[knot + 1]
        return np.asarray(parts[:, 0] + parts[:, 1])


class EgoEstimator:
    """Tells for newly committed true states what the policy is told at the same times.

    The estimate at t is the true state at ``t - delay_us`` (the first state of all before
    that), moved along and across its heading, and turned about the local z axis.
    Height, roll and pitch have no error of their own. Its motion is the true one of
    ``t - delay_us`` with the error of speed added to the velocity along the rig's x axis.
    """

    def __init__(self, delay_us: int, errors: EgoErrors | None) -> None:
        self._delay_us = delay_us
        self._errors = errors
        self._past: EgoMotion | None = None

    def __call__(self, ego: EgoMotion) -> EgoMotion:
        """Estimate states that follow those of the call before."""
        seen = self._delayed(ego) if self._delay_us else ego
        if self._errors is None:
            return seen
        along, across, yaw, speed = self._errors.at(ego.times_us).T
        heading = geometry.yaw_rad(seen.local_to_rig)
        cos, sin = np.cos(heading), np.sin(heading)
        poses = np.array(seen.local_to_rig)
        poses[:, 0] += along * cos - across * sin
        poses[:, 1] += along * sin + across * cos
        turn = np.zeros((len(poses), 4))
        turn[:, 2], turn[:, 3] = np.sin(yaw / 2), np.cos(yaw / 2)
        poses[:, 3:] = geometry.quat_multiply(turn, poses[:, 3:])
        dynamics = np.array(seen.dynamics)
        dynamics[:, 0] += speed
        return EgoMotion(ego.times_us, geometry.normalise(poses), dynamics)

    def _delayed(self, ego: EgoMotion) -> EgoMotion:
        past = ego if self._past is None else _joined(self._past, ego)
        query = np.maximum(ego.times_us - self._delay_us, past.times_us[0])
        before, after, share = bracket(past.times_us, query)
        poses = geometry.interpolate_poses(
            past.local_to_rig[before], past.local_to_rig[after], share
        )
        step = past.dynamics[after] - past.dynamics[before]
        dynamics = past.dynamics[before] + share[:, None] * step
        kept = slice(int(before[-1]), None)
        self._past = EgoMotion(past.times_us[kept], past.local_to_rig[kept], past.dynamics[kept])
        return EgoMotion(ego.times_us, poses, dynamics)


def _joined(one: EgoMotion, other: EgoMotion) -> EgoMotion:
    return EgoMotion(
        np.concatenate([one.times_us, other.times_us]),
        np.concatenate([one.local_to_rig, other.local_to_rig]),
        np.concatenate([one.dynamics, other.dynamics]),
    )


def ego_estimator(
    settings: EgoMotionSettings, start_us: int, end_us: int, seed: int
) -> Callable[[], EgoEstimator] | None:
    """What makes a rollout's estimator; None if this is off.

    Args:
        start_us, end_us: Context start and the end of the rollout.
        seed: Of the rollout's disturbances.
    """
    if not settings.is_on:
        return None

    def make() -> EgoEstimator:
        errors = EgoErrors(settings, start_us, end_us, seed) if settings.is_noisy else None
        return EgoEstimator(settings.delay_us, errors)

    return make
