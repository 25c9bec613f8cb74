from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.record import BlackFrames, RolloutRecord
from omniloop.metrics.alpasim_metric import AlpasimMetric
from omniloop.metrics.alpasim_rows import rows
from omniloop.metrics.alpasim_series import NO_SAFETY_MONITOR, series
from omniloop.metrics.alpasim_settings import Settings
from omniloop.metrics.scoring import score
from tests.metrics.alpasim_records import planned, scores, two_lanes
from tests.metrics.records import Body, moving, record, still, transformed
from tests.metrics.test_invariance import random_record

CORRECTED, STRICT = Settings(), Settings(compat="strict")


def test_rows_are_the_context_start_the_first_decision_and_all_driven_states() -> None:
    made = record(moving(0, 0, 5), step_us=40_000, duration_s=1.0)
    late = replace(
        made.schedule, first_decision_us=made.schedule.first_decision_us + 190_000, n_warmup=2
    )
    made = replace(made, schedule=late)
    at = rows(made)
    start_us = made.schedule.context_start_us
    assert at.times_us[:3].tolist() == [start_us, start_us + 190_000, start_us + 200_000]
    assert set(made.ego.times_us[made.ego.times_us > start_us + 190_000]) < {*at.times_us}
    assert at.times_us[at.relevant][0] >= late.handover_us
    assert at.times_us[-1] == made.frontier_us


def test_ego_is_the_centre_of_its_box() -> None:
    made = record(moving(0, 0, 5, yaw=np.pi / 2))
    assert rows(made).ego_xy[-1] == pytest.approx([0.0, 11.0])


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), strict=st.booleans())
def test_contacts_and_distances_are_those_of_shapely(seed: int, strict: bool) -> None:
    made = random_record(seed)
    found = series(made, STRICT if strict else CORRECTED)
    sizes = [made.scene.vehicle.size_m, *made.scene.actor_sizes_m]
    actors = made.actors.sample(found.times_us)
    seen = np.zeros(actors.valid.shape, dtype=bool)
    for i, track in enumerate(actors.valid):
        there = np.flatnonzero(track)
        if len(there):
            seen[i, there[0] : there[-1] + 1] = True
    assert (seen == actors.valid).all()  # these actors have no gaps
    for k in range(len(found.times_us)):
        ego = geometry.shift_body(
            made.ego.trajectory.sample(found.times_us[k : k + 1]),
            made.scene.vehicle.rig_to_aabb[:3],
        )[0]
        shapes = [_shape(ego, sizes[0])] + [_shape(actors.local_to_aabb[i, k], sizes[i + 1]) for i in range(4) if actors.valid[i, k]]  # fmt: skip
        others = shapes[1:]
        gaps = [shapely.distance(shapes[0], other) for other in others]
        nearest = found.values["min_distance_to_obstacle_m"][k]
        assert nearest == pytest.approx(min(gaps), abs=2e-3) if gaps else np.isnan(nearest)
        touched = [other for other, gap in zip(others, gaps, strict=True) if gap == 0]
        if strict:
            touched = touched[-1:]
        front, rear = _bumpers(ego, sizes[0], shapes[0])
        kinds = {
            "front" if shapely.intersects(front, t) else "rear" if shapely.intersects(rear, t) else "lateral"
            for t in touched
        }  # fmt: skip
        if any(0 < gap < 2e-3 for gap in gaps):
            continue  # which side of touching an arc of straight pieces lies on
        for kind in ("front", "rear", "lateral"):
            assert found.values[f"collision_{kind}"][k] == (kind in kinds), (k, kind)


def _box(pose: np.ndarray, size: np.ndarray) -> np.ndarray:
    return geometry.box_corners_xy(pose, 0.98 * size)


def _shape(pose: np.ndarray, size: np.ndarray) -> shapely.Geometry:
    radius = 0.98 * min(size[:2]) / 4
    return shapely.Polygon(_box(pose, size)).buffer(-radius).buffer(radius)


def _bumpers(
    pose: np.ndarray, size: np.ndarray, shape: shapely.Geometry
) -> tuple[shapely.Geometry, shapely.Geometry]:
    front_left, rear_left, rear_right, front_right = _box(pose, size)
    radius = 0.98 * min(size[:2]) / 4
    front, rear = (
        shapely.LineString([front_left, front_right]),
        shapely.LineString([rear_left, rear_right]),
    )
    return front.buffer(radius) & shape, rear.buffer(radius) & shape


def test_corners_are_cut_off() -> None:
    # Exact boxes touch with their corners; rounded ones pass each other.
    made = record(still(0, 0), [Body(still(4.9, 1.9))], recorded=moving(0, 0, 10))
    found = scores(made)
    assert found["collision_any"].value == 0
    assert 0 < found["min_distance_to_obstacle_m"].value < 0.5


def test_distance_to_the_boundary_is_that_of_the_lanes_near_ego_together() -> None:
    found = scores(record(moving(0, 1.0, 5), vector_map=two_lanes()))
    assert found["min_distance_to_lane_boundary_m"].value == pytest.approx(3.5 - 1.98, abs=2e-3)
    beside = record(moving(0, 3.0, 5), vector_map=two_lanes())
    assert scores(beside)["min_distance_to_lane_boundary_m"].value == 0


def test_ego_across_two_lanes_is_on_the_road_even_at_an_edge_between_them() -> None:
    made = record(moving(0, 0.0, 5), vector_map=two_lanes(edges=0.5))
    assert scores(made)["offroad"].value == 0


def test_progress_is_against_the_whole_recording_and_against_that_so_far() -> None:
    # The recording drives 5 m in warm-up and 20 m after; ego half of these 20 m.
    def slow(t: np.ndarray) -> tuple[object, object, object]:
        return np.where(t < 0, 10 * t, 5 * t), 1.0, 0.0

    found = {k: v.value for k, v in scores(record(slow, recorded=moving(0, 0, 10))).items()}
    assert found["gt_dist_traveled_m"] == pytest.approx(25)
    assert found["progress"] == found["progress_rel_to_total"] == pytest.approx(15 / 25)
    assert found["progress_rel"] == pytest.approx(15 / 25)
    assert found["dist_to_gt_trajectory"] == pytest.approx(1)
    assert found["dist_to_gt_location"] == pytest.approx(np.hypot(10, 1))
    assert found["dist_traveled_m"] == pytest.approx(15)
    assert found["scene_score"] is None


def test_what_needs_the_recording_at_that_time_is_undefined_after_its_end() -> None:
    found = scores(record(moving(0, 0, 5), recorded_s=1.0))
    for name in ("progress_rel", "dist_to_gt_location"):
        assert found[name].reason == "the recording ends before the rollout"
    assert found["progress"].value == pytest.approx(1.0)


def test_a_recording_that_stands_still_gives_no_progress_but_a_full_score() -> None:
    found = scores(record(moving(0, 0, 0.5), recorded=still(0, 0), vector_map=two_lanes()))
    assert found["progress"].reason == "the recorded path has no length"
    assert found["scene_score"].value == 1


def test_open_loop_collisions_are_looked_for_3_s_ahead() -> None:
    # Ego's front is at 2.96 m, the box's rear at 22.94 m: 6.66 m/s take 3 s.
    box = Body(still(24.9, 0.0))
    made = record(still(0, 0), [box], recorded=moving(0, 0, 5), duration_s=4.0)
    for speed, first in ((6.6, 0.0), (6.7, 1.0)):
        plans = planned(made, lambda s, v=speed: moving(-v * s, 0, v))  # type: ignore[misc]
        at = series(plans, CORRECTED)
        assert at.values["open_loop_collision"][at.relevant][0] == first  # type: ignore[index]


def test_a_small_actor_between_the_bumpers_is_hit_sideways() -> None:
    for x, kind in ((1.0, "lateral"), (2.8, "front"), (-0.8, "rear")):
        side = Body(moving(x, 2.0, 5.0), size=(0.5, 0.5, 1.0))
        gone = Body(lambda t, x=x: (x + 5 * t, 2.5 - t, 0.0), size=(0.5, 0.5, 1.0))  # type: ignore[misc]
        assert scores(record(moving(0, 0, 5), [side]))["collision_any"].value == 0
        found = scores(record(moving(0, 0, 5), [gone]))
        hit = [k for k in ("front", "rear", "lateral") if found[f"collision_{k}"].value]
        assert hit == [kind]


def test_plans_beyond_the_end_of_the_rollout_meet_nobody() -> None:
    box = Body(still(12.0, 0.0))
    made = record(still(0, 0), [box], recorded=moving(0, 0, 5), duration_s=4.0)
    found = scores(planned(made, lambda s: moving(-7.0 * s, 0, 7.0)))["open_loop_collision"].value
    # It takes ego 7.08 m, so 1.1 s, to get there: 29 of 40 decisions are early enough, and the
    # one at the handover row is among them; the box's rear is at 10.04 m, ego's front at 2.96 m.
    assert found == pytest.approx(30 / 40)


def test_min_ade_takes_the_best_sample_at_each_horizon() -> None:
    made = record(moving(0, 0, 5), recorded=moving(0, 0.5, 5), duration_s=8.0)

    def bent(now_s: float):  # type: ignore[no-untyped-def]
        return lambda t: (5 * t, np.where(t - now_s > 1.05, 3.0, 0.1), 0.0)

    made = planned(made, lambda s: moving(0, 0, 5), samples=[lambda s: moving(0, 1, 5), bent])
    found = {k: v.value for k, v in scores(made).items()}
    assert found["min_ade@0.5s(self)"] == pytest.approx(0.1)
    assert found["min_ade@1.0s(gt)"] == pytest.approx(0.4)
    assert found["min_ade@2.5s(self)"] == pytest.approx(1.0)
    assert found["min_ade@5.0s(gt)"] == pytest.approx(0.5)


def test_plan_deviation_weighs_what_is_near_more() -> None:
    # Each plan turns away from the one before: x metres to the left per metre ahead.
    made = record(moving(0, 0, 5), duration_s=2.0)

    def fan(now_s: float):  # type: ignore[no-untyped-def]
        return lambda t: (5 * t, np.maximum(t - now_s, 0) * (round(now_s * 10) % 2), 0.0)

    found = scores(planned(made, fan, horizon_s=1.0))["plan_deviation"].value
    # Two consecutive plans, one straight: lateral distances 0.1 k + 0.1 (or 0.1 k) at times k.
    w = np.exp(-0.1 * np.arange(9))
    late = (0.1 * np.arange(2, 11)) @ w / w.sum()
    early = (0.1 * np.arange(1, 10)) @ w / w.sum()
    assert min(early, late) <= found <= max(early, late)


def test_what_a_record_cannot_tell_says_so() -> None:
    found = scores(record(moving(0, 0, 5)))
    assert found["safety_monitor_triggered"].reason == NO_SAFETY_MONITOR
    assert "images" in found["img_is_black"].reason
    assert found["open_loop_collision"].reason == "the policy made no plan"
    assert found["min_distance_to_obstacle_m"].reason == "no row that counts has a value"


def weaving_record(seed: int) -> RolloutRecord:
    """Random bodies among plans and samples, on two lanes with edges."""
    made = random_record(seed)
    made = replace(made, scene=replace(made.scene, map=two_lanes(4.0)))
    rng = np.random.default_rng(seed)
    drift, speed = rng.normal(0, 1, 2), rng.uniform(0, 12)
    return planned(
        made, lambda s: moving(0, drift[0] * s, speed),
        samples=[lambda s: moving(0, drift[1] * s, speed)], horizon_s=3.0,
    )  # fmt: skip


def test_the_random_rollouts_below_show_all_kinds_of_outcome() -> None:
    values = [
        {v.name: v.value for v in AlpasimMetric().compute(weaving_record(i))} for i in range(60)
    ]
    for name in ("collision_front", "collision_rear", "offroad", "open_loop_collision"):
        assert {v[f"alpasim_{name}"] for v in values} >= {0.0, 1.0}, name


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    yaw=st.floats(-np.pi, np.pi),
    x=st.floats(-1e4, 1e4),
    y=st.floats(-1e4, 1e4),
    shift_us=st.integers(-1_000_000, 2_000_000_000_000_000),
)
def test_no_score_depends_on_the_frame_or_on_the_clock(
    seed: int, yaw: float, x: float, y: float, shift_us: int
) -> None:
    made, metrics = weaving_record(seed), [AlpasimMetric()]
    to_made = geometry.pose(x, y, 3.0, yaw)
    moved = transformed(made, to_made, shift_us)
    moved = replace(
        moved,
        decisions=tuple(
            replace(
                d, time_us=d.time_us + shift_us, available_us=d.available_us + shift_us,
                plan=replace(
                    d.plan,
                    local_to_rig=_shifted(d.plan.local_to_rig, to_made, shift_us),
                    samples=tuple(_shifted(s, to_made, shift_us) for s in d.plan.samples),
                ),
            )
            for d in made.decisions
        ),
    )  # fmt: skip
    for here, there in zip(score(made, metrics), score(moved, metrics), strict=True):
        assert here.name == there.name
        assert here.reason == there.reason
        if here.value is not None:
            assert here.value == pytest.approx(there.value, rel=1e-6, abs=1e-6), here.name


def _shifted(trajectory, local_to_made, shift_us):  # type: ignore[no-untyped-def]
    moved = trajectory.transform(local_to_made)
    return replace(moved, times_us=trajectory.times_us + shift_us)


def test_black_frames_are_those_that_are_newest_at_a_row() -> None:
    made = record(moving(0, 0, 5))
    camera, handover_us = CORRECTED.camera, made.schedule.handover_us

    def value(*black_at_s: float, of: str = camera) -> float | None:
        captures = handover_us + 30_000 * np.arange(-10, 70)
        black = np.isin(captures, [handover_us + round(s * 1e6) for s in black_at_s])
        frames = replace(made, black_frames=BlackFrames(of, captures, black))
        return scores(frames)["img_is_black"].value

    assert value() == 0
    assert value(0.09) == 1  # seen at the row at 0.1 s
    assert value(0.06) == 0  # no row's newest
    assert value(-0.03) == 0  # seen at handover at 0.0, a newer one is there
    assert value(0.0) == 1
    assert value(0.09, of="another") is None


def test_a_camera_without_frames_says_so() -> None:
    made = record(moving(0, 0, 5))
    none = BlackFrames(CORRECTED.camera, np.zeros(0, np.int64), np.zeros(0, bool))
    assert "no frame" in scores(replace(made, black_frames=none))["img_is_black"].reason
