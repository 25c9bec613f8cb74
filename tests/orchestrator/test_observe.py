from __future__ import annotations

import numpy as np
import pytest

from omniloop.core.contracts import CameraFrame, ImageHistory, PolicySpec
from omniloop.core.motion import EgoMotion
from omniloop.orchestrator.observe import FrameBuffer, ego_history


def frame(capture_us, camera="front"):
    return CameraFrame(camera, b"x", capture_us, capture_us, capture_us)


def test_frames_are_chosen_by_time_not_by_count():
    buffer = FrameBuffer(PolicySpec(cameras=None, images=ImageHistory(4, 10.0)), ("front",))
    for k in range(31):
        buffer.add(frame(33_333 * k))
    chosen = [f.capture_us for f in buffer.history(999_990)["front"]]
    assert chosen == [
        33_333 * k for k in (20, 23, 26, 30)
    ]  # newest at or before t - 0.3, 0.2, 0.1, 0


def test_a_history_longer_than_what_there_is_repeats_the_oldest():
    buffer = FrameBuffer(PolicySpec(cameras=None, images=ImageHistory(3, 10.0)), ("front",))
    buffer.add(frame(500_000))
    assert [f.capture_us for f in buffer.history(510_000)["front"]] == [500_000] * 3


def test_frames_of_cameras_that_the_policy_ignores_are_let_go():
    buffer = FrameBuffer(PolicySpec(cameras=("front",)), ("front", "rear"))
    buffer.add(frame(0, "rear"))
    assert buffer.history(0) == {"front": ()}


def test_memory_is_bounded_by_the_history():
    buffer = FrameBuffer(PolicySpec(cameras=None, images=ImageHistory(2, 10.0)), ("front",))
    for k in range(1000):
        buffer.add(frame(10_000 * k))
    assert len(buffer._frames["front"]) <= 12


def motion(times):
    times = np.array(times, dtype=np.int64)
    poses = np.zeros((len(times), 7))
    poses[:, 6] = 1
    poses[:, 0] = times / 1e6
    dynamics = np.zeros((len(times), 12))
    dynamics[:, 0] = times / 1e6
    return EgoMotion(times, poses, dynamics)


def test_ego_history_ends_at_the_decision_and_is_resampled():
    spec = PolicySpec(ego_history_s=1.5, ego_history_hz=10.0)
    history = ego_history(motion(range(0, 2_000_001, 37_000)), spec, 1_961_000)
    assert len(history) == 16
    assert history.times_us[-1] == 1_961_000
    assert np.diff(history.times_us).tolist() == [100_000] * 15
    assert history.local_to_rig[:, 0] == pytest.approx(history.times_us / 1e6)
    assert history.dynamics[:, 0] == pytest.approx(history.times_us / 1e6)


def test_ego_history_without_a_rate_is_the_committed_states():
    history = ego_history(
        motion(range(0, 1_000_001, 50_000)), PolicySpec(ego_history_s=0.2), 1_000_000
    )
    assert history.times_us.tolist() == [800_000, 850_000, 900_000, 950_000, 1_000_000]


def test_ego_history_of_length_zero_is_the_newest_state():
    assert ego_history(motion([0, 70_000]), PolicySpec(), 70_000).times_us.tolist() == [70_000]


def test_a_policy_that_is_told_everything_gets_each_frame_once():
    buffer = FrameBuffer(PolicySpec(cameras=None, everything=True), ("front", "rear"))
    for k in range(5):
        buffer.add(frame(33_333 * k))
    first = buffer.history(200_000)
    assert [f.capture_us for f in first["front"]] == [33_333 * k for k in range(5)]
    assert first["rear"] == ()
    buffer.add(frame(166_665))
    assert [f.capture_us for f in buffer.history(300_000)["front"]] == [166_665]
    assert buffer.history(400_000)["front"] == ()


def test_a_policy_that_is_told_everything_gets_each_ego_state_once():
    spec, ego = PolicySpec(everything=True), motion(range(0, 500_001, 50_000))
    whole = ego_history(ego, spec, 300_000, None)
    assert whole.times_us.tolist() == list(range(0, 300_001, 50_000))
    assert ego_history(ego, spec, 500_000, 300_000).times_us.tolist() == [
        350_000, 400_000, 450_000, 500_000,
    ]  # fmt: skip
