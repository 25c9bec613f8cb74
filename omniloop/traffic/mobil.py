"""MOBIL: whether to change lanes, from accelerations alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omniloop.core.geometry import Array
from omniloop.traffic.parameters import MobilParameters


def mobil_decides(
    accel_now: Array,
    accel_there: Array,
    follower_there_now: Array,
    follower_there_after: Array,
    follower_here_now: Array,
    follower_here_after: Array,
    m: MobilParameters,
) -> NDArray[np.bool_]:
    """True where a change is safe and worth it ``(A,)``.

    Safe: ``follower_there_after >= -b_safe``. Worth it: the own gain and p times the gains of
    both followers are together at least the threshold (Kesting, Treiber and Helbing, 2007, symmetric
    rule: no lane is preferred; equality is enough, as in highway-env 1.12.1).

    Args:
        accel_now: ``(A,)`` [m/s^2] of the one who may change, behind its lead here.
        accel_there: Its own, behind the lead there.
        follower_there_now: Of the one behind on the other lane; 0 where there is none.
        follower_there_after: The same with the one who may change as its lead; 0 for none.
        follower_here_now: Of the one behind on this lane; 0 where there is none.
        follower_here_after: The same behind the lead here; 0 for none.
    """
    others = follower_there_after - follower_there_now + follower_here_after - follower_here_now
    gain = accel_there - accel_now + m.politeness * others
    return np.asarray(
        (follower_there_after >= -m.safe_brake_mps2) & (gain >= m.min_gain_mps2), dtype=np.bool_
    )
