"""The formulas of NAVSIM's scores, and the rules that make its parts of time series.

Source: navsim, `docs/metrics.md` and
`planning/simulation/planner/pdm_planner/scoring/pdm_scorer.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import Mask

PDMS_MULTIPLIERS = ("nc", "dac")
PDMS_WEIGHTS = {"ep": 5.0, "ttc": 5.0, "c": 2.0}
EPDMS_MULTIPLIERS = ("nc", "dac", "ddc", "tlc")
EPDMS_WEIGHTS = {"ep": 5.0, "ttc": 5.0, "lk": 2.0, "hc": 2.0, "ec": 2.0}

LEAST_PROGRESS_M = 5.0
"""Up to this progress of the best proposal every proposal has an EP of 1."""


def pdms(parts: Mapping[str, float]) -> float:
    """PDMS = NC DAC (5 EP + 5 TTC + 2 C) / 12, of NAVSIM v1."""
    return _score(parts, PDMS_MULTIPLIERS, PDMS_WEIGHTS)


def epdms(parts: Mapping[str, float]) -> float:
    """EPDMS = NC DAC DDC TLC (5 EP + 5 TTC + 2 LK + 2 HC + 2 EC) / 16, of NAVSIM v2."""
    return _score(parts, EPDMS_MULTIPLIERS, EPDMS_WEIGHTS)


def _score(
    parts: Mapping[str, float], multipliers: tuple[str, ...], weights: Mapping[str, float]
) -> float:
    product = float(np.prod([parts[name] for name in multipliers]))
    return product * sum(w * parts[name] for name, w in weights.items()) / sum(weights.values())


def ego_progress(progress_m: Array, multipliers: Array) -> Array:
    """EP ``(N,)`` of N proposals that are scored together, as in NAVSIM v2.

    Args:
        progress_m: ``(N,)`` progress along the centre line.
        multipliers: ``(N,)`` product of each proposal's multipliers.
    """
    made_m = np.maximum(progress_m, 0.0)
    most_m = float((made_m * multipliers).max())
    if most_m <= LEAST_PROGRESS_M:
        return np.ones(len(made_m))
    return np.clip(made_m / most_m, 0.0, 1.0)


def longest_off_centre(distance_m: Array, in_intersection: Mask, limit_m: float) -> int:
    """Most samples in a row at which a distance exceeds a limit.

    Samples in intersections are passed over: they neither count nor end a row.

    Args:
        distance_m: ``(K,)``.
        in_intersection: ``(K,)``.
    """
    far = (distance_m > limit_m)[~in_intersection]
    total = np.cumsum(far)
    return int((total - np.maximum.accumulate(np.where(far, 0, total))).max(initial=0))


def human_filtered(score: float, human: float | None) -> float:
    """A score, or 1 where the human's own is 0: the scene, not the driving, is at fault then."""
    return 1.0 if human == 0.0 else score
