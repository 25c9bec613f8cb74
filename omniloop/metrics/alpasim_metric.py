"""The scores of AlpaSim under its own names, behind the prefix ``alpasim_``."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.alpasim_aggregate import aggregate, clip, scene_score
from omniloop.metrics.alpasim_definitions import DEFINITIONS, OVER_TIME, PREFIX
from omniloop.metrics.alpasim_series import series
from omniloop.metrics.alpasim_settings import CAMERA, Compat, Settings
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NOTHING_DRIVEN, undefined


class AlpasimMetric:
    """AlpaSim's own scores and scene score, with its aggregation over time.

    Names, definitions and aggregation are those of AlpaSim at commit 3032e0c, behind the
    prefix ``alpasim_``. They are another ruler than the scores of the family `omniloop`: flags
    and distances of one word have other values there.

    *Rows.* AlpaSim scores the times at which its log holds actor poses. Here these are the
    context start, the first decision and every committed ego state after it, so at least every
    100 ms; how dense they are is the controller's doing, as it is there. Ego is its box's
    centre, also in the recorded path. Scores of plans stand at the row of their decision, and
    plans are taken in the frame that the policy knows.

    *Modifiers*, in this order: rows before handover are dropped; `offroad_or_collision`,
    `collision_at_fault`, `offroad_or_collision_at_fault` and `duration_frac_20s` are added; a
    rollout with a black image is dropped as a whole; rows after the first with
    `offroad_or_collision` are dropped, that row is kept; rows after the first with
    `dist_to_gt_trajectory` at `max_dist_to_gt_trajectory` or more are dropped, that row is kept.
    So an incident on the row that leaves the tube counts, a hit from behind hides a later one
    at fault, and a policy that leaves the tube early is scored on a short and easy part: state
    `alpasim_dist_traveled_m` beside every rate. What overlaps at handover counts.

    `compat=strict` reproduces what is known to be wrong in AlpaSim, for comparison with
    published numbers; `corrected`, the default, mends each:

    | what | strict | corrected |
    | --- | --- | --- |
    | several actors touch ego in one row | the last in the scene's order alone decides front, rear or lateral | each is classified |
    | heading of a lane against ego's | the difference is not wrapped: ego heading about west is on a wrong lane | wrapped |
    | first two rows | made up: distances 0, `progress_rel` 1, `progress` interpolated from 0 | computed |
    | values marked as not valid | take part: a plan without a pose in the 3 s of `open_loop_collision` counts as free | left out |
    | beyond a road edge | on the road unless the edge is touched | off the road |
    | road edges | only the one nearest to ego's centre is looked at | all |
    | map without road edges | on the road | the outline of the drivable surface is the edge |
    | map without lanes, edges and areas | on the road | undefined, and so is what needs `offroad` |
    | seams of micrometres between lanes | part them: ego across one is in no union, the distance to the boundary 0 | seams up to 10 cm are closed |
    | `plan_min_timesteps` | not used: one common time is enough | used |
    | actor not seen for a while | moved through the gap in a straight line | absent |
    | `dist_traveled_m` where ego's way crosses or retraces itself | distance to the first place that is as near | length of the way |
    | horizon of `min_ade` | counted in rows from the decision though distances begin at the next: too late by the rows between | by time |
    | a sampled trajectory that ends early | all of `min_ade` is missing | left out where it does not reach |
    | recorded path shorter than 5 m without any length | no scene score | 1, or 0 with a failure |

    *Not there.* `safety_monitor_triggered` is always undefined: drivers send it pickled, which is
    never read. `img_is_black` needs images, which the record of a rollout does not hold:
    `omniloop score RUN --frames` looks at those of its log. Until then no rollout is dropped for
    a black image. AlpaSim computes with float32 poses and takes any lane of the map; here poses
    are float64, and footways, rails and bicycle lanes are no lanes. In junctions
    `wrong_lane` counts crossing lanes under ego, as it does there.

    *Over rollouts* AlpaSim takes the mean over clips for each rollout number, then mean and
    standard deviation over these, and divides kilometres by incidents: `omniloop tables RUN
    --family alpasim` prints that, each score beside the distance driven in the tube, and says how
    many rollouts the rule for black images removed, or why it was not applied. A clip is a scene,
    a rollout's number the rank of its seed in its scene. `run`, `score` and `report` leave it
    in the run's folder under AlpaSim's names: ``aggregate/metrics_results.txt``,
    ``metrics_results.parquet`` and ``results-summary.json``.

    Args:
        compat: "strict" keeps AlpaSim's known defects, "corrected" mends each.
        max_dist_to_gt_trajectory: Rows after the first this far from the recorded path do
            not count [m].
        vehicle_shrink_factor: Boxes lose this share of length and width.
        vehicle_corner_roundness: Radius of corners over half the shorter side.
        plan_decay: Weights of `plan_deviation` fall as ``exp(-plan_decay i)``.
        plan_min_timesteps: Fewest common times of two plans.
        progress_saturation: Share of the recorded path that earns the full scene score.
        min_gt_distance_m: Recorded path below which the scene score leaves progress out.
        camera: The camera of `img_is_black`, which needs `omniloop score --frames`.

    Attributes:
        frames_of: The camera whose images the record should say something of.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = DEFINITIONS
    names: ClassVar[tuple[str, ...]] = tuple(d.name for d in DEFINITIONS)

    def __init__(
        self,
        compat: Compat = "corrected",
        max_dist_to_gt_trajectory: float = 4.0,
        vehicle_shrink_factor: float = 0.02,
        vehicle_corner_roundness: float = 0.5,
        plan_decay: float = 0.1,
        plan_min_timesteps: int = 5,
        progress_saturation: float = 0.8,
        min_gt_distance_m: float = 5.0,
        camera: str = CAMERA,
    ) -> None:
        self.settings = Settings(
            compat, max_dist_to_gt_trajectory, vehicle_shrink_factor, vehicle_corner_roundness,
            plan_decay, plan_min_timesteps, progress_saturation, min_gt_distance_m, camera,
        ).checked()  # fmt: skip
        self.frames_of = camera

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; details of `offroad_or_collision` tell which rows count."""
        if score_samples(record) is None:
            return undefined(self.names, NOTHING_DRIVEN)
        clipped = clip(series(record, self.settings), self.settings)
        scores = aggregate(clipped, OVER_TIME)
        scores["scene_score"] = scene_score(scores, self.settings)
        scores["offroad_or_collision"] = replace(
            scores["offroad_or_collision"],
            details={
                "compat": self.settings.compat,
                "rows": int(clipped.kept.sum()),
                "cut_by": clipped.cut_by,
                "last_row_us": clipped.cut_us,
            },
        )
        return [replace(score, name=PREFIX + name) for name, score in scores.items()]
