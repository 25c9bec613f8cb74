"""The scores of the `alpasim` family, by AlpaSim's own names."""

from __future__ import annotations

from omniloop.metrics.alpasim_aggregate import LAST, MAX, MEAN, MIN
from omniloop.metrics.alpasim_settings import HORIZONS_S, Settings
from omniloop.metrics.definition import Better, MetricDefinition, Reduction

PREFIX = "alpasim_"

_DEFAULT = Settings()
_COMPAT = ("compat", _DEFAULT.compat)
_TUBE = ("max_dist_to_gt_trajectory", _DEFAULT.max_dist_to_gt_trajectory)
_SHAPE = (
    ("vehicle_shrink_factor", _DEFAULT.vehicle_shrink_factor),
    ("vehicle_corner_roundness", _DEFAULT.vehicle_corner_roundness),
)
_FLAG = "0 or 1"
_WORDS = {
    MAX: "greatest over the rows that count",
    MIN: "least over the rows that count",
    LAST: "at the last row that counts",
    MEAN: "mean over the rows that count and have a value",
}
_NO_ROAD = "the map has no lanes, no road edges and no drivable areas; strict: never, and 0"
_NO_LANES = "the map has no lanes"
_ENDS = "the recording ends before the rollout"
_SOURCE = "AlpaSim 3032e0c, eval/scorers"
_MODIFIERS = "AlpaSim 3032e0c, eval/aggregation/modifiers.py"

_Row = tuple[str, str, str, str, Reduction, Better, str, str, tuple[tuple[str, float | str], ...]]

_ROWS: tuple[_Row, ...] = (
    ("collision_front", _FLAG,
     "the shape of an actor meets ego's shape and the front bumper: the part of ego's shape"
     " within the corner radius of the front edge of its shrunk box",
     MAX, "rate", "lower", "", "collision.py", _SHAPE),
    ("collision_rear", _FLAG, "it meets ego's shape and the rear bumper, but not the front bumper",
     MAX, "rate", "lower", "", "collision.py", _SHAPE),
    ("collision_lateral", _FLAG, "it meets ego's shape, but neither bumper",
     MAX, "rate", "lower", "", "collision.py", _SHAPE),
    ("collision_any", _FLAG, "any of the three", MAX, "rate", "lower", "", "collision.py", _SHAPE),
    ("offroad", _FLAG,
     "ego's shape is not within one lane, nor within the union of the lanes whose centre line is"
     " within 6 m of its centre, and it is less than 1 mm from a road edge or beyond one: off the"
     " drivable surface, with an edge on the shortest way to the nearest lane. A map without road"
     " edges lends the outline of its drivable surface",
     MAX, "rate", "lower", _NO_ROAD, "offroad.py", _SHAPE),
    ("wrong_lane", _FLAG,
     "a lane that holds ego's centre heads more than 120 degrees away from ego, by its centre line"
     " at the nearest point", MAX, "rate", "lower", _NO_LANES, "offroad.py", ()),
    ("min_distance_to_lane_boundary_m", "m",
     "distance of ego's shape from the boundary of the union of the lanes within 6 m; 0 if it is"
     " not within that union", MIN, "mean", "higher", _NO_LANES, "", _SHAPE),
    ("min_distance_to_obstacle_m", "m", "distance of ego's shape from the nearest actor's",
     MIN, "mean", "higher", "no actor is present in a row that counts", "", _SHAPE),
    ("open_loop_collision", _FLAG,
     "a decision's plan: ego's shape at a planned pose, up to 3 s ahead, meets an actor where it is"
     " simulated to be at that time", MEAN, "mean", "lower",
     "no plan has a pose in these 3 s; strict counts such a plan as 0", "",
     _SHAPE),
    ("progress", "1",
     "arc length at the point of the whole recorded path nearest to ego's centre, over its length",
     LAST, "mean", "higher", "the recorded path has no length", "ground_truth.py", ()),
    ("progress_rel_to_total", "1", "the same as progress",
     LAST, "mean", "higher", "the recorded path has no length", "ground_truth.py", ()),
    ("progress_rel", "1",
     "arc length at the nearest point of the recorded path up to that time, through the"
     " recording's positions at the rows, over its length; 1 while that is 0",
     MIN, "mean", "higher", _ENDS, "ground_truth.py", ()),
    ("dist_to_gt_trajectory", "m", "distance of ego's centre from the whole recorded path",
     MAX, "mean", "lower", "", "ground_truth.py", ()),
    ("dist_to_gt_location", "m", "distance of ego's centre from the recorded one at that time",
     MAX, "mean", "lower", _ENDS, "ground_truth.py", ()),
    ("dist_traveled_m", "m",
     "length of the way of ego's centre through the rows, from the context start on: warm-up"
     " included", LAST, "mean", "neither", "", "ground_truth.py", ()),
    ("gt_dist_traveled_m", "m", "length of the whole recorded path, every recorded pose",
     LAST, "mean", "neither", "", "ground_truth.py", ()),
    *(
        (f"min_ade@{h}s({target})", "m",
         "a decision's sampled trajectories: mean distance in the plane from"
         f" {'the recording' if target == 'gt' else 'what ego drove'} over the rows from the next"
         f" decision to {h} s after this one, the least of all samples",
         MEAN, "mean", "lower",
         "the policy gives no sampled trajectories, or none reaches so far"
         + (f"; {_ENDS}" if target == "gt" else ""),
         "minADE.py", ())
        for target in ("gt", "self") for h in HORIZONS_S
    ),
    ("plan_deviation", "m",
     "two consecutive plans at the times of the later one, without its first, that the earlier one"
     " reaches: mean of their distances in the plane with weights exp(-plan_decay i); at least"
     " plan_min_timesteps such times",
     MEAN, "mean", "lower", "no two plans have so many times in common", "plan_deviation.py",
     (("plan_decay", _DEFAULT.plan_decay), ("plan_min_timesteps", _DEFAULT.plan_min_timesteps))),
    ("img_is_black", _FLAG,
     "no value of the newest frame of the camera at a row is above 10 of 255; of a rollout with"
     " such a frame after handover all other scores are undefined",
     MAX, "rate", "lower",
     "nobody has looked at the images of the log (`omniloop score --frames`), or the camera gave none", "", (("camera", _DEFAULT.camera),)),
    ("safety_monitor_triggered", _FLAG, "the driver says that its trajectory is not safe",
     MAX, "rate", "lower", "always: plans carry no such state", "safety.py", ()),
)  # fmt: skip

_DERIVED: tuple[_Row, ...] = (
    ("offroad_or_collision", _FLAG, "collision_any or offroad; its first row is the last that counts",
     MAX, "rate", "lower", "offroad is undefined", "", ()),
    ("collision_at_fault", _FLAG, "collision_front or collision_lateral",
     MAX, "rate", "lower", "", "", ()),
    ("offroad_or_collision_at_fault", _FLAG, "collision_at_fault or offroad",
     MAX, "rate", "lower", "offroad is undefined", "", ()),
    ("duration_frac_20s", "1", "time since the first row at or after handover, over 20 s",
     LAST, "mean", "higher", "", "", ()),
    ("progress_clipped_rel", "1", "progress_rel_to_total at the last row that counts",
     LAST, "mean", "higher", "the recorded path has no length", "", ()),
)  # fmt: skip

OVER_TIME = {row[0]: row[3] for row in (*_ROWS, *_DERIVED)}
"""Aggregation over time by AlpaSim's name, in the order of the scores."""


def _definition(row: _Row, source: str) -> MetricDefinition:
    name, unit, formula, over_time, over_rollouts, better, undefined, where, settings = row
    never = "nothing was driven"
    return MetricDefinition(
        name=PREFIX + name,
        family="alpasim",
        unit=unit,
        formula=formula,
        over_time=_WORDS[over_time],
        over_rollouts=over_rollouts,
        better=better,
        undefined=f"{never}; {undefined}" if undefined else never,
        source=f"{source}/{where}" if where else source,
        settings=(_COMPAT, _TUBE, *settings),
    )


DEFINITIONS: tuple[MetricDefinition, ...] = (
    *(_definition(row, _SOURCE) for row in _ROWS),
    *(_definition(row, _MODIFIERS) for row in _DERIVED),
    MetricDefinition(
        name=PREFIX + "scene_score",
        family="alpasim",
        unit="1",
        formula=(
            "0 if collision_at_fault or offroad; else 1 if gt_dist_traveled_m < min_gt_distance_m;"
            " else min(1, p / progress_saturation) with p = progress_clipped_rel within 0 and 1"
        ),
        over_time="from the aggregated scores",
        over_rollouts="mean",
        better="higher",
        undefined="nothing was driven; one of its parts is undefined",
        source="AlpaSim 3032e0c, eval/aggregation/scene_score.py",
        settings=(
            _COMPAT, _TUBE,
            ("progress_saturation", _DEFAULT.progress_saturation),
            ("min_gt_distance_m", _DEFAULT.min_gt_distance_m),
        ),
    ),
)  # fmt: skip
