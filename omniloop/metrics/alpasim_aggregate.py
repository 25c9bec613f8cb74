"""From series to one value for each score: AlpaSim's modifiers in their order.

1. Rows before the first that is `eval_relevant` are dropped.
2. `offroad_or_collision`, `collision_at_fault` and `offroad_or_collision_at_fault` are
   added, and `duration_frac_20s` from the first row that is left.
3. A rollout with a black image in any row that is left is dropped as a whole.
4. Rows after the first with `offroad_or_collision` are dropped; that row is kept.
5. Rows after the first at `max_dist_to_gt_trajectory` or more from the recorded path are
   dropped; that row is kept. `progress_clipped_rel` is the last `progress_rel_to_total`.
6. What is left becomes one value: the greatest, least, last or mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from omniloop.core.contracts import MetricValue
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Times
from omniloop.metrics.alpasim_series import Series
from omniloop.metrics.alpasim_settings import Settings
from omniloop.metrics.values import undefined

MAX, MIN, LAST, MEAN = "max", "min", "last", "mean"

LAST_20S_US = 20_000_000
"""`duration_frac_20s` is a share of this."""

BLACK = "AlpaSim drops the whole rollout: an image after handover is black"
NO_ROW = "no row that counts has a value"


@dataclass(frozen=True, eq=False)
class Clipped:
    """Series with all derived columns, and the rows that count.

    Attributes:
        values: As in `Series`.
        kept: ``(K,)`` rows that are left after all modifiers.
        black: The rollout is dropped.
        cut_by: "incident", "tube" or, if neither cut rows off, "".
        cut_us: The last row that is left.
    """

    times_us: Times
    values: Mapping[str, Array | str]
    kept: Mask
    black: bool
    cut_by: str
    cut_us: int


def clip(series: Series, settings: Settings) -> Clipped:
    """Apply the modifiers, in order, to series with at least one relevant row."""
    times = series.times_us
    values = dict(series.values)
    kept = np.logical_or.accumulate(series.relevant)
    if settings.strict and isinstance(values["offroad"], str):
        values["offroad"] = np.zeros(len(times))  # AlpaSim's column of a scorer that was skipped
    values["offroad_or_collision"] = _either(values, "collision_any", "offroad")
    values["collision_at_fault"] = _either(values, "collision_front", "collision_lateral")
    values["offroad_or_collision_at_fault"] = _either(values, "collision_at_fault", "offroad")
    values["duration_frac_20s"] = (times - times[kept][0]) / LAST_20S_US
    dark = values["img_is_black"]
    black = not isinstance(dark, str) and bool((dark[kept] > 0).any())

    incident = values["offroad_or_collision"]
    if isinstance(incident, str):  # off-road cannot be told: collisions alone end the rollout
        incident = values["collision_any"]
    away_m = values["dist_to_gt_trajectory"]
    assert not isinstance(incident, str)
    assert not isinstance(away_m, str)
    cut_by = ""
    for event, cause in (
        (incident > 0, "incident"),
        (away_m >= settings.max_dist_to_gt_trajectory, "tube"),
    ):
        at = np.flatnonzero(event & kept)
        if len(at):
            if kept[at[0] + 1 :].any():
                cut_by = cause
            kept[at[0] + 1 :] = False
    values["progress_clipped_rel"] = values["progress_rel_to_total"]
    return Clipped(times, values, kept, black, cut_by, int(times[kept][-1]))


def aggregate(clipped: Clipped, over_time: Mapping[str, str]) -> dict[str, MetricValue]:
    """One value for each name in `over_time`, by the aggregation that it names there.

    Of a rollout that is dropped for a black image, only `img_is_black` has a value.
    """
    out = {}
    for name, how in over_time.items():
        found = clipped.values[name]
        if clipped.black and name == "img_is_black":
            out[name] = MetricValue(name, 1.0)
        elif clipped.black:
            out[name] = MetricValue(name, None, BLACK)
        elif isinstance(found, str):
            out[name] = MetricValue(name, None, found)
        else:
            left = found[clipped.kept]
            left = left[~np.isnan(left)]
            out[name] = (
                MetricValue(name, reduced(left, how))
                if len(left)
                else MetricValue(name, None, NO_ROW)
            )
    return out


def scene_score(scores: Mapping[str, MetricValue], settings: Settings) -> MetricValue:
    """AlpaSim's score of a rollout; undefined where one of its parts is."""
    name = "scene_score"
    needed = ("collision_at_fault", "offroad", "gt_dist_traveled_m", "progress_clipped_rel")
    fault, offroad, recorded_m, progress = (scores[n].value for n in needed)
    short = recorded_m is not None and recorded_m < settings.min_gt_distance_m
    for part, value in zip(needed, (fault, offroad, recorded_m, progress), strict=True):
        if value is None and not (part == "progress_clipped_rel" and short and not settings.strict):
            return undefined([name], f"{part} is undefined: {scores[part].reason}")[0]
    failure = "collision_at_fault" if fault else "offroad" if offroad else None
    share = min(max(progress or 0.0, 0.0), 1.0)
    progress_score = 1.0 if short else min(share / settings.progress_saturation, 1.0)
    return MetricValue(
        name,
        0.0 if failure else progress_score,
        details={"failure_reason": failure, "progress_score": progress_score},
    )


def _either(values: Mapping[str, Array | str], one: str, other: str) -> Array | str:
    """1 where either is; a reason if either has one."""
    a, b = values[one], values[other]
    if isinstance(a, str):
        return f"{one} is undefined: {a}"
    if isinstance(b, str):
        return f"{other} is undefined: {b}"
    return np.maximum(a, b)


def reduced(values: Array, how: str) -> float:
    """One value for some: the greatest, least, last or mean."""
    if how == LAST:
        return float(values[-1])
    if how == MEAN:
        return float(values.mean())
    return float(values.max() if how == MAX else values.min())
