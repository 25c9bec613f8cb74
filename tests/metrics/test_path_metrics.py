from __future__ import annotations

import numpy as np
import pytest

from omniloop.core.motion import Trajectory
from omniloop.core.record import Metric
from omniloop.core.scene import Scene
from omniloop.metrics.displacement import DisplacementMetric
from omniloop.metrics.path_distance import PathDistanceMetric
from omniloop.metrics.progress import ProgressMetric
from omniloop.scenes.recorded_path import recorded_path
from tests.metrics.records import by_name, moving, poses_of, record, still

HANDOVER_US = 1_500_000


def test_a_replayed_recording_has_no_distance_and_full_progress() -> None:
    made = record(moving(0, 0, 10), duration_s=2)
    assert by_name(PathDistanceMetric(), made)["path_distance_max_m"].value == pytest.approx(0)
    assert by_name(DisplacementMetric(), made)["displacement_final_m"].value == pytest.approx(0)
    progress = by_name(ProgressMetric(), made)
    assert progress["progress_m"].value == pytest.approx(20)
    assert progress["progress_rel"].value == pytest.approx(1)
    assert progress["distance_driven_m"].value == pytest.approx(20)


def test_path_distance_is_measured_to_the_path_whatever_the_time() -> None:
    # Half as fast and drifting off at 0.5 m/s: 1 m beside the path, 10 m behind in time.
    made = record(
        lambda t: (5 * t, np.maximum(0.5 * t, 0), 0.0), recorded=moving(0, 0, 10), duration_s=2
    )
    values = by_name(PathDistanceMetric(), made)
    assert values["path_distance_max_m"].value == pytest.approx(1.0)
    assert values["path_distance_mean_m"].value == pytest.approx(0.5)
    assert values["path_distance_max_m"].details["at_us"] == HANDOVER_US + 2_000_000
    moved = by_name(DisplacementMetric(), made)
    assert moved["displacement_final_m"].value == pytest.approx(np.hypot(10, 1))
    assert moved["displacement_mean_m"].value == pytest.approx(np.hypot(10, 1) / 2)


def test_the_whole_recorded_path_counts_also_before_handover() -> None:
    made = record(
        lambda t: (-4 * np.clip(t, 0, 1), 0.5, 0.0), recorded=moving(0, 0, 10), duration_s=1
    )
    values = by_name(PathDistanceMetric(), made)
    assert values["path_distance_max_m"].value == pytest.approx(0.5)
    progress = by_name(ProgressMetric(), made)
    assert progress["progress_m"].value == pytest.approx(-4)
    assert progress["progress_rel"].value == 0.0
    assert progress["distance_driven_m"].value == pytest.approx(4)


def test_an_ego_ahead_of_the_recording_makes_more_progress_than_it() -> None:
    made = record(moving(0, 0, 6), recorded=moving(0, 0, 5), duration_s=1, recorded_s=4)
    progress = by_name(ProgressMetric(), made)
    assert progress["progress_rel"].value == pytest.approx(1.2)
    assert progress["progress_rel"].details["recorded_progress_m"] == pytest.approx(5)


def test_progress_follows_a_curve() -> None:
    def arc(t: np.ndarray) -> tuple[object, object, object]:
        return 20 * np.sin(t / 2), 20 - 20 * np.cos(t / 2), t / 2

    def inside(t: np.ndarray) -> tuple[object, object, object]:
        return 18 * np.sin(t / 2), 20 - 18 * np.cos(t / 2), t / 2

    made = record(inside, recorded=arc, duration_s=2)
    progress = by_name(ProgressMetric(), made)
    assert progress["progress_m"].value == pytest.approx(20, rel=2e-3)
    assert progress["progress_rel"].value == pytest.approx(1, rel=2e-3)
    assert progress["distance_driven_m"].value == pytest.approx(18, rel=1e-3)
    off = by_name(PathDistanceMetric(), made)["path_distance_mean_m"].value
    assert off == pytest.approx(2, abs=0.02)


def test_relative_progress_of_a_recording_that_stands_is_undefined() -> None:
    made = record(moving(0, 0, 5), recorded=moving(0, 0, 0.9), duration_s=2)
    values = by_name(ProgressMetric(), made)
    assert values["progress_rel"].value is None
    assert "1.80 m" in values["progress_rel"].reason
    assert values["progress_m"].value is not None
    lower = by_name(ProgressMetric(min_recorded_m=1.0), made)
    assert lower["progress_rel"].value == pytest.approx(values["progress_m"].value / 1.8)
    parked = by_name(ProgressMetric(min_recorded_m=0.0), record(still(0, 0)))
    assert parked["progress_rel"].value is None


def test_what_compares_at_equal_times_is_undefined_once_the_recording_has_ended() -> None:
    made = record(moving(0, 0, 10), duration_s=2, recorded_s=1)
    for values in (by_name(DisplacementMetric(), made), by_name(ProgressMetric(), made)):
        for name in ("displacement_final_m", "displacement_mean_m", "progress_rel"):
            if name in values:
                assert values[name].value is None
                assert "recording ends" in values[name].reason
    assert by_name(PathDistanceMetric(), made)["path_distance_max_m"].value == pytest.approx(10)


@pytest.mark.parametrize("metric", [DisplacementMetric(), PathDistanceMetric(), ProgressMetric()])
def test_without_two_score_samples_nothing_is_defined(metric: Metric) -> None:
    values = metric.compute(record(moving(0, 0, 10), driven_s=0.0))
    assert len(values) >= 2
    for value in values:
        assert value.value is None
        assert "handover" in value.reason


def test_noise_of_a_fast_pose_stream_adds_no_path_while_ego_stands() -> None:
    times = 1_000_000 + 6_000 * np.arange(3_000, dtype=np.int64)
    poses = poses_of(still(3, 4), times / 1e6)
    poses[:, :2] += np.random.default_rng(1).normal(0, 1e-3, (len(times), 2))
    line = recorded_path(Scene("s", "test", Trajectory(times, poses)))
    length = np.linalg.norm(np.diff(line, axis=0), axis=1).sum()
    assert np.linalg.norm(np.diff(poses[:, :2], axis=0), axis=1).sum() > 3
    assert length < 0.1


def test_poses_one_step_apart_are_kept_in_every_frame() -> None:
    times = 1_000_000 + 100_000 * np.arange(200, dtype=np.int64)
    for yaw in np.linspace(-3, 3, 25):
        poses = poses_of(moving(1e4, -3e3, 2.5, yaw), times / 1e6)
        assert len(recorded_path(Scene("s", "test", Trajectory(times, poses)))) == 200


def test_the_recorded_path_keeps_its_ends_and_its_shape() -> None:
    times = 1_000_000 + 6_000 * np.arange(1_000, dtype=np.int64)

    def circle(t: np.ndarray) -> tuple[object, object, object]:
        return 5 * np.cos(t), 5 * np.sin(t), t + np.pi / 2

    poses = poses_of(circle, times / 1e6)
    line = recorded_path(Scene("s", "test", Trajectory(times, poses)))
    assert len(line) < 130
    assert line[[0, -1]].tolist() == poses[[0, -1], :2].tolist()
    middle = (line[1:] + line[:-1]) / 2
    assert np.abs(np.linalg.norm(middle, axis=1) - 5).max() < 2e-3
