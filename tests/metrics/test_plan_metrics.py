"""Plans against recording and driving, against one another, and around disturbances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core.errors import ConfigError
from omniloop.core.geometry import Array
from omniloop.core.motion import EgoMotion
from omniloop.core.record import LostFrames, RolloutRecord
from omniloop.metrics.fault_reaction import FaultReactionMetric, disturbed
from omniloop.metrics.plan_consistency import PlanConsistencyMetric
from omniloop.metrics.plan_error import PlanErrorMetric
from omniloop.metrics.plans import plans_of
from tests.metrics.records import Path, by_name, decision, moving, record

EGO = moving(0, 0, 10)


def beside(offset_m: float) -> Path:
    return lambda t: (10 * t, offset_m, 0.0)


def driven(decisions: list[object], **kwargs: object) -> RolloutRecord:
    return record(EGO, decisions=decisions, **{"duration_s": 8, **kwargs})  # type: ignore[arg-type]


def errors(made: RolloutRecord) -> dict[str, float | None]:
    return {k: v.value for k, v in by_name(PlanErrorMetric(), made).items()}


def test_a_plan_beside_the_path_is_off_by_its_offset_at_all_horizons() -> None:
    made = driven([decision(0.0, beside(0.5)), decision(1.0, beside(1.5))])
    for name, value in errors(made).items():
        assert value == pytest.approx(1.0), name


def test_recording_and_driving_are_compared_apart() -> None:
    made = driven([decision(0.0, EGO)], recorded=beside(2.0))
    found = errors(made)
    assert found["plan_min_ade_recorded_1s_m"] == pytest.approx(2.0)
    assert found["plan_min_ade_driven_1s_m"] == pytest.approx(0.0)


def test_a_growing_error_is_averaged_over_the_horizon() -> None:
    # 1 m/s too slow: k 0.1 m behind after step k; the mean of 0.1 ... 0.5 m is 0.3 m.
    made = driven([decision(0.0, lambda t: (9 * t, 0.0, 0.0))])
    found = errors(made)
    assert found["plan_min_ade_driven_0.5s_m"] == pytest.approx(0.3)
    assert found["plan_min_ade_driven_1s_m"] == pytest.approx(0.55)
    assert found["plan_min_ade_driven_5s_m"] == pytest.approx(2.55)


def test_the_best_of_a_plan_and_its_samples_counts() -> None:
    made = driven([decision(0.0, beside(3.0), samples=(beside(5.0), beside(0.25)))])
    assert errors(made)["plan_min_ade_driven_2.5s_m"] == pytest.approx(0.25)


def test_only_decisions_whose_plan_and_truth_reach_the_horizon_count() -> None:
    made = driven([decision(0.0, beside(1.0), 1.0), decision(6.0, beside(3.0))])
    values = by_name(PlanErrorMetric(), made)
    assert values["plan_min_ade_driven_1s_m"].value == pytest.approx(2.0)
    assert values["plan_min_ade_driven_1s_m"].details["decisions"] == 2
    assert values["plan_min_ade_driven_2.5s_m"].value is None
    assert "reaches 2.5 s" in values["plan_min_ade_driven_2.5s_m"].reason
    short = by_name(PlanErrorMetric(), driven([decision(0.0, EGO)], recorded_s=2.0))
    assert short["plan_min_ade_recorded_2.5s_m"].value is None
    assert short["plan_min_ade_driven_2.5s_m"].value == pytest.approx(0.0)


def test_plans_of_warm_up_do_not_count() -> None:
    made = driven([decision(-0.2, beside(9.0)), decision(0.0, beside(1.0))])
    assert errors(made)["plan_min_ade_driven_1s_m"] == pytest.approx(1.0)
    assert plans_of(driven([decision(-0.2, EGO)])) is None
    for metric in (PlanErrorMetric(), PlanConsistencyMetric(), FaultReactionMetric()):
        for value in metric.compute(driven([decision(-0.2, EGO)])):
            assert "no plan after handover" in value.reason


def deviations(made: RolloutRecord, **settings: float) -> tuple[float | None, float | None]:
    values = by_name(PlanConsistencyMetric(**settings), made)
    return values["plan_deviation_m"].value, values["plan_deviation_max_m"].value


def test_plans_that_keep_to_what_was_planned_do_not_deviate() -> None:
    made = driven([decision(t, EGO) for t in (0.0, 0.1, 0.2)])
    assert deviations(made) == pytest.approx((0.0, 0.0))


def test_the_deviation_is_the_mean_distance_at_the_same_times() -> None:
    made = driven([decision(0.0, EGO), decision(0.1, beside(1.0)), decision(0.2, beside(1.5))])
    mean, most = deviations(made)
    assert mean == pytest.approx(0.75)
    assert most == pytest.approx(1.0)
    value = by_name(PlanConsistencyMetric(), made)["plan_deviation_max_m"]
    assert value.details == {"at_us": 1_600_000, "pairs": 2}


@pytest.mark.parametrize("period_s", [0.1, 0.133_332, 0.266_664, 0.5])
def test_any_decision_period_has_deviations(period_s: float) -> None:
    # Each plan is 1 m/s faster than the one before: 1 m/s x mean time since handover.
    plans = [decision(0.0, moving(0, 0, 9)), decision(period_s, moving(0, 0, 10))]
    mean, _ = deviations(driven(plans))
    assert mean == pytest.approx(period_s + 1.05, abs=1e-9)
    shorter, _ = deviations(driven(plans), horizon_s=1.0)
    assert shorter == pytest.approx(period_s + 0.55, abs=1e-9)


def test_plans_that_end_before_the_horizon_have_no_deviation() -> None:
    made = driven([decision(0.0, EGO, 2.0), decision(0.1, EGO, 2.0)])
    assert deviations(made) == (None, None)
    assert deviations(made, horizon_s=1.9) == pytest.approx((0.0, 0.0))
    assert deviations(driven([decision(0.0, EGO)])) == (None, None)


@pytest.mark.parametrize("value", [0.0, 0.04, 5.1, -1.0, float("nan")])
def test_a_horizon_that_plans_are_not_compared_over_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="horizon_s"):
        PlanConsistencyMetric(horizon_s=value)


def test_nothing_injected_is_no_reaction() -> None:
    made = driven([decision(t, EGO, late_s=0.1) for t in (0.0, 0.1, 0.2)])
    assert not disturbed(made).any()
    for value in FaultReactionMetric().compute(made):
        assert "no decision after handover was disturbed" in value.reason


def test_late_plans_are_disturbed_and_pairs_with_them_are_set_apart() -> None:
    plans = [decision(0.1 * k, beside(0.0 if k < 4 else 1.0), late_s=0.2 * (k == 4)) for k in range(8)]  # fmt: skip
    made = driven(plans)
    assert disturbed(made).tolist() == [False] * 4 + [True] + [False] * 3
    value = by_name(FaultReactionMetric(), made)["fault_plan_deviation_m"]
    assert value.value == pytest.approx(0.5)  # 1 m into the disturbed plan, 0 m out of it
    assert value.details == {"pairs": 2, "other_pairs": 5, "others_m": pytest.approx(0.0)}


def test_a_wrong_estimate_of_ego_is_a_disturbance() -> None:
    made = driven([decision(0.1 * k, EGO) for k in range(5)])
    poses = made.ego.local_to_rig.copy()
    poses[made.ego.times_us == 1_800_000, 1] += 0.3
    told = EgoMotion(made.ego.times_us, poses, made.ego.dynamics)
    assert disturbed(replace(made, ego_estimated=told)).tolist() == [False] * 3 + [True, False]
    slower = made.ego.dynamics.copy()
    slower[made.ego.times_us == 1_600_000, 0] -= 0.5
    told = EgoMotion(made.ego.times_us, made.ego.local_to_rig, slower)
    assert disturbed(replace(made, ego_estimated=told)).tolist() == [False, True] + [False] * 3


def test_a_lost_frame_disturbs_the_first_decision_that_would_have_seen_it() -> None:
    made = driven([decision(0.1 * k, EGO) for k in range(6)])
    at = np.array([d.time_us for d in made.decisions], dtype=np.int64)
    arrival = np.array([at[1], at[1] + 1, at[3] - 1, at[-1] + 1])
    lost = (
        LostFrames("front", arrival - 30_000, arrival),
        LostFrames("rear", at[4:5], at[4:5]),
    )
    assert disturbed(replace(made, lost_frames=lost)).tolist() == [False, True, True, True, True, False]  # fmt: skip
    assert not disturbed(made).any()


def test_the_reaction_to_lost_frames_is_scored() -> None:
    plans = [decision(0.1 * k, beside(0.0 if k < 4 else 1.0)) for k in range(8)]
    made = driven(plans)
    at = np.array([made.decisions[4].time_us], dtype=np.int64)
    value = by_name(
        FaultReactionMetric(), replace(made, lost_frames=(LostFrames("front", at, at),))
    )
    assert value["fault_plan_deviation_m"].value == pytest.approx(0.5)
    assert value["fault_speed_change_mps"].value == pytest.approx(0.0, abs=1e-6)


def test_the_change_of_speed_is_that_of_the_second_after() -> None:
    def brakes(t: Array) -> tuple[object, object, object]:
        since = np.clip(t - 1.0, 0.0, 1.0)
        return 10 * t - since**2 - 2 * np.clip(t - 2.0, 0.0, None), 0.0, 0.0

    def change(at_s: float) -> float | None:
        plans = [decision(k / 10, brakes, late_s=0.1 * (abs(k / 10 - at_s) < 0.01)) for k in range(40)]  # fmt: skip
        made = record(brakes, decisions=plans, duration_s=4)
        return by_name(FaultReactionMetric(), made)["fault_speed_change_mps"].value

    assert change(2.5) == pytest.approx(0.0, abs=1e-6)
    assert change(1.0) == pytest.approx(2.0, abs=0.15)
    assert change(3.5) is None


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_more_samples_never_make_the_best_worse(seed: int) -> None:
    rng = np.random.default_rng(seed)
    few = [beside(x) for x in rng.normal(0, 2, 2)]
    more = [*few, *(beside(x) for x in rng.normal(0, 2, 3))]
    one, other = (
        errors(driven([decision(0.0, beside(3.0), samples=samples)])) for samples in (few, more)
    )
    for name, value in one.items():
        assert other[name] <= value + 1e-12  # type: ignore[operator]
