"""Hand-made rollouts through scores, modifiers and means over a run, corrected and strict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omniloop.core.record import BlackFrames, RolloutRecord
from omniloop.core.scene import VectorMap
from omniloop.metrics.alpasim_metric import AlpasimMetric
from omniloop.metrics.alpasim_settings import CAMERA
from omniloop.metrics.alpasim_summary import results_summary
from omniloop.metrics.alpasim_table import Line, Table, table
from omniloop.runlog.results import RolloutResult
from tests.metrics.alpasim_records import lane_along_x, two_lanes
from tests.metrics.records import Body, Path, moving, record, still

WIDE = VectorMap(lanes=(lane_along_x(-20.0, 20.0),))


def drifting(speed_mps: float) -> Path:
    """10 m/s along x, and from handover on to the left."""
    return lambda t: (10 * t, speed_mps * np.maximum(t, 0.0), 0.0)


def driven(ego: Path, bodies: list[Body] | None = None, roads: VectorMap = WIDE) -> RolloutRecord:
    """4 s after handover; the recording goes straight on at 10 m/s: 45 m in all."""
    made = record(
        ego, bodies or [], recorded=moving(0, 0, 10), duration_s=4.0, vector_map=roads
    )  # fmt: skip
    times = made.ego.times_us[::3]
    return replace(made, black_frames=BlackFrames(CAMERA, times, np.zeros(len(times), dtype=bool)))


def black(of: RolloutRecord) -> RolloutRecord:
    assert of.black_frames is not None
    dark = of.black_frames.black.copy()
    dark[-1] = True
    return replace(of, black_frames=replace(of.black_frames, black=dark))


# Boxes of 4 m lose 2 %. Ego's centre, 1 m + 10 m/s t, is 3.92 m from that of a car at 30 m after
# 2.508 s: at the row of 2.6 s, 31 m after the context start. A car behind has caught up by then.
CAR = Body(still(30.0, 0.0))
BEHIND = Body(lambda t: (10 * t - 2.92 - 0.5 * (2.55 - t), 0.0, 0.0))
BEYOND = Body(still(34.0, 6.0))

ROLLOUTS = {
    ("a", 0): driven(moving(0, 0, 10), [CAR, BEHIND]),
    ("a", 1): driven(moving(0, 0, 10)),
    # 4 m from the recorded path after 1.905 s: the row of 2.0 s is the last; the car does not count.
    ("b", 0): driven(drifting(2.1), [BEYOND]),
    ("b", 1): black(driven(moving(0, 0, 10), [CAR])),
    ("c", 0): driven(moving(0, 0, 10), roads=two_lanes()),
    # The shape, 0.98 m to each side, meets the edge at 4 m after 3.02 s: at the row of 3.1 s.
    ("c", 5): driven(drifting(1.0), roads=two_lanes()),
    ("d", 0): driven(moving(0, 0, 10), roads=VectorMap()),
}
TUBE_M = 5 + 2.0 * np.hypot(10, 2.1)
EDGE_M = 5 + 3.1 * np.hypot(10, 1.0)


def results(compat: str) -> list[RolloutResult]:
    metric = AlpasimMetric(compat=compat)  # type: ignore[arg-type]
    return [
        RolloutResult(
            scene, seed, f"{scene}/{seed}", "completed",
            metrics={value.name: value for value in metric.compute(of)},
        )
        for (scene, seed), of in ROLLOUTS.items()
    ]  # fmt: skip


def run(compat: str) -> tuple[Table, dict[str, Line]]:
    found = table(results(compat))
    return found, {line.name: line for line in found.lines}


def means(first: list[float], second: list[float]) -> tuple[float, float]:
    """Mean and deviation of the means of both rollout numbers."""
    both = [float(np.mean(values)) for values in (first, second)]
    return float(np.mean(both)), float(np.std(both, ddof=1))


def expect(line: Line, first: list[float], second: list[float]) -> None:
    assert (line.mean, line.std) == pytest.approx(means(first, second)), line.name


@pytest.mark.parametrize("compat", ["corrected", "strict"])
def test_what_both_modes_agree_on(compat: str) -> None:
    found, lines = run(compat)
    # Numbers: a/0, b/0, c/0, d/0 are the first, a/1, b/1, c/5 the second; b/1 is black.
    assert (found.rollouts, found.clips, found.numbers) == (7, 3.0, 2)
    assert found.removed_black == ("b/1",)
    assert found.black_unknown == ()
    assert lines["dist_traveled_m"].valid == 6
    expect(lines["dist_traveled_m"], [31, TUBE_M, 45, 45], [45, EDGE_M])
    expect(lines["gt_dist_traveled_m"], [45] * 4, [45] * 2)
    expect(lines["collision_any"], [1, 0, 0, 0], [0, 0])
    expect(lines["collision_rear"], [1, 0, 0, 0], [0, 0])
    expect(lines["duration_frac_20s"], [2.6 / 20, 2 / 20, 4 / 20, 4 / 20], [4 / 20, 3.1 / 20])
    # The boxes' centres are on the recorded path of centres: 5 m and 10 m/s of 45 m.
    expect(lines["progress_clipped_rel"], [31 / 45, 25 / 45, 1, 1], [1, 36 / 45])
    expect(lines["dist_to_gt_trajectory"], [0, 4.2, 0, 0], [0, 3.1])
    assert lines["img_is_black"].mean == 0.0
    assert lines["collision_any"].distance_m == pytest.approx(31 + TUBE_M + 3 * 45 + EDGE_M)


def test_corrected_leaves_out_what_is_not_known() -> None:
    _, lines = run("corrected")
    expect(lines["collision_front"], [1, 0, 0, 0], [0, 0])
    expect(lines["offroad"], [0, 0, 0], [0, 1])  # d has no map
    expect(lines["offroad_or_collision_at_fault"], [1, 0, 0], [0, 1])
    expect(lines["scene_score"], [0, 25 / 45 / 0.8, 1], [1, 0])
    for name in ("avg_dist_between_incidents", "avg_dist_between_incidents_at_fault"):
        expect(lines[name], [(31 + TUBE_M + 45) / 1000], [(45 + EDGE_M) / 1000])
        assert lines[name].valid == 5
        assert lines[name].distance_m == pytest.approx(31 + TUBE_M + 45 + 45 + EDGE_M)


def test_strict_counts_as_alpasim_does() -> None:
    _, lines = run("strict")
    # The car behind is the last in order: it alone decides, and ego is not at fault.
    expect(lines["collision_front"], [0, 0, 0, 0], [0, 0])
    expect(lines["offroad"], [0, 0, 0, 0], [0, 1])
    expect(lines["offroad_or_collision_at_fault"], [0, 0, 0, 0], [0, 1])
    expect(lines["scene_score"], [31 / 45 / 0.8, 25 / 45 / 0.8, 1, 1], [1, 0])
    between = lines["avg_dist_between_incidents"]
    expect(between, [(31 + TUBE_M + 45 + 45) / 1000], [(45 + EDGE_M) / 1000])
    at_fault = lines["avg_dist_between_incidents_at_fault"]
    assert at_fault.mean is None
    assert at_fault.reason.startswith("no incident in 1 of 2 rollout numbers; 0.2")


def test_without_frames_nothing_is_removed_and_the_table_says_why() -> None:
    metric = AlpasimMetric()
    unseen = [
        replace(r, metrics={v.name: v for v in metric.compute(replace(of, black_frames=None))})
        for r, of in zip(results("corrected"), ROLLOUTS.values(), strict=True)
    ]
    found = table(unseen)
    assert found.removed_black == ()
    ((reason, count),) = found.black_unknown
    assert count == 7
    assert "omniloop score --frames" in reason
    assert next(line for line in found.lines if line.name == "collision_any").valid == 7


def test_the_summary_has_the_same_numbers() -> None:
    _, lines = run("corrected")
    document = results_summary(results("corrected"), "demo", "1234")
    (row,) = document["metrics_results"]  # type: ignore[misc]
    assert (row["n_clips"], row["n_rollouts"]) == (3.0, 2)
    assert row["collision_any"] == lines["collision_any"].mean
    assert row["avg_dist_between_incidents_std"] == lines["avg_dist_between_incidents"].std
    status = {f"{r['clipgt_id']}/{r['rollout_id']}": r["status"] for r in document["rollouts"]}  # type: ignore[attr-defined]
    assert status == {
        "a/0": "fail", "a/1": "pass", "b/0": "pass", "b/1": "unscored", "c/0": "pass", "c/5": "fail",
        "d/0": "unscored",
    }  # fmt: skip
