"""The series of AlpaSim's RuntimeService: each at times of its own, summed up where valid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omniloop.core.record import BlackFrames
from omniloop.metrics.alpasim_rows import rows
from omniloop.metrics.alpasim_settings import CAMERA, Compat, Settings
from omniloop.metrics.alpasim_steps import StepMetric, step_metrics, summed_up
from tests.metrics.alpasim_records import planned
from tests.metrics.records import Body, moving, record, still

PLAN_SCORES = ("open_loop_collision", "plan_deviation", "min_ade@1.0s(gt)")


def by_name(steps: tuple[StepMetric, ...]) -> dict[str, StepMetric]:
    return {step.name: step for step in steps}


def test_scores_of_plans_have_the_times_of_decisions_and_all_others_those_of_rows() -> None:
    # States every 50 ms, decisions every 100 ms; the third has no plan.
    made = record(moving(0, 0, 5), [Body(still(90.0, 0.0))], step_us=50_000, duration_s=3.0)
    made = planned(
        made, lambda s: moving(0, 0, 5) if round(s * 10) != 2 else None,
        samples=[lambda s: moving(0, 0, 5)],
    )  # fmt: skip
    at = [d.time_us for d in made.decisions if len(d.plan.local_to_rig)]
    assert len(at) == len(made.decisions) - 1
    found = by_name(step_metrics(made, Settings()))
    assert found["open_loop_collision"].times_us.tolist() == at
    assert found["plan_deviation"].times_us.tolist() == at[1:]
    # The samples of the last second have no rollout to be compared with.
    ends_us = made.frontier_us - 1_000_000
    decided = [d.time_us for d in made.decisions]
    assert found["min_ade@1.0s(gt)"].times_us.tolist() == [t for t in decided if t <= ends_us]
    every = rows(made).times_us
    assert len(every) > 1.9 * len(at)
    for name, step in found.items():
        assert len(step.values) == len(step.valid) == len(step.times_us), name
        assert np.array_equal(np.isnan(step.values), ~step.valid), name
        if name not in PLAN_SCORES and not name.startswith("min_ade@"):
            assert np.array_equal(step.times_us, every), name


def test_a_row_without_an_actor_is_marked_and_left_out_of_the_sum() -> None:
    near = Body(still(10.0, 0.0), present=lambda t: t < 1.0)
    found = by_name(step_metrics(record(moving(0, 0, 1), [near], duration_s=3.0), Settings()))
    step = found["min_distance_to_obstacle_m"]
    assert 0 < step.valid.sum() < len(step.valid)
    assert summed_up((step,)) == {step.name: step.values[step.valid].min()}


@pytest.mark.parametrize("compat", ["corrected", "strict"])
def test_a_plan_without_a_pose_in_the_window_is_marked_and_left_out_of_the_mean(
    compat: Compat,
) -> None:
    made = record(moving(0, 0, 1), [Body(still(40.0, 0.0))], duration_s=6.0)
    made = planned(made, lambda s: moving(-15 * s, 0, 16), horizon_s=3.0)
    short = [
        d if i % 2 else replace(d, plan=replace(d.plan, local_to_rig=d.plan.local_to_rig.between(0, d.time_us)))
        for i, d in enumerate(made.decisions)
    ]  # fmt: skip
    steps = step_metrics(replace(made, decisions=tuple(short)), Settings(compat=compat))
    step = by_name(steps)["open_loop_collision"]
    assert step.valid.tolist() == [bool(i % 2) for i in range(len(short))]
    assert summed_up(steps)[step.name] == step.values[1::2].mean() > 0.5


def test_black_images_are_told_at_the_rows_that_have_one() -> None:
    made = record(moving(0, 0, 5), duration_s=2.0)
    assert "img_is_black" not in by_name(step_metrics(made, Settings()))
    times = rows(made).times_us
    frames = BlackFrames(CAMERA, times[5:10], np.arange(5) == 2)
    step = by_name(step_metrics(made, Settings(), frames))["img_is_black"]
    assert np.array_equal(step.times_us, times[5:])
    assert step.valid.all()
    assert np.flatnonzero(step.values).tolist() == [2]
    other = replace(frames, camera_id="another")
    assert "img_is_black" not in by_name(step_metrics(made, Settings(), other))
    none = BlackFrames(CAMERA, times[:0], np.zeros(0, dtype=bool))
    assert "img_is_black" not in by_name(step_metrics(made, Settings(), none))


def test_what_no_time_defines_is_left_out() -> None:
    found = by_name(step_metrics(record(moving(0, 0, 5)), Settings()))
    assert not {"safety_monitor_triggered", *PLAN_SCORES} & set(found)
    made = planned(record(moving(0, 0, 5)), lambda s: moving(0, 0, 5), horizon_s=0.2)
    assert "plan_deviation" not in by_name(step_metrics(made, Settings()))  # too few times
