from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from omniloop.core.contracts import (
    CameraFrame,
    ChunkRule,
    MetricValue,
    Observation,
    Plan,
    PolicySpec,
    RenderRequest,
)
from omniloop.core.geometry import IDENTITY
from omniloop.core.motion import ActorMotion, EgoMotion
from omniloop.core.scene import Vehicle


@pytest.mark.parametrize(
    ("frames", "fps", "first", "interval_us", "duration_us"),
    [(8, 30, 5, 33_333, 266_664), (12, 30, 9, 33_333, 399_996), (16, 30, 13, 33_333, 533_328),
     (4, 10, 1, 100_000, 400_000)],
)  # fmt: skip
def test_chunks_count_as_the_video_model_does(frames, fps, first, interval_us, duration_us):
    rule = ChunkRule(frames, fps)
    assert rule.first_frames == first
    assert rule.frame_interval_us == interval_us
    assert rule.duration_us == duration_us


def test_an_observation_states_the_age_of_each_cameras_newest_frame():
    def frame(camera, capture_us):
        return CameraFrame(camera, b"", capture_us, capture_us, capture_us)

    observation = Observation(
        "s/1", "s", 1, 500, 600, EgoMotion(np.array([500]), IDENTITY[None], np.zeros((1, 12))),
        {"a": (frame("a", 300), frame("a", 480)), "b": (frame("b", 500),), "c": ()},
        None, Vehicle(),
    )  # fmt: skip
    assert observation.frame_age_us == {"a": 20, "b": 0}


def test_an_undefined_score_is_a_reason_and_zero_is_a_score():
    assert not MetricValue("collision", None, "ego stood still").valid
    assert MetricValue("collision", 0.0).valid


def test_messages_cannot_be_reassigned():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Plan().terminate = True
    with pytest.raises(dataclasses.FrozenInstanceError):
        PolicySpec().horizon_s = 1.0


def test_an_empty_plan_is_an_empty_trajectory():
    assert len(Plan().local_to_rig) == 0


def test_a_render_request_counts_its_frames():
    times = np.array([0, 10])
    actors = ActorMotion(times, np.zeros((0, 2, 7)), np.zeros((0, 2), dtype=bool))
    request = RenderRequest(
        times, np.tile(IDENTITY, (2, 1)), (), actors,
        np.array([0, 1, 0]), np.array([0, 0, 1]), np.array([0, 0, 1]),
    )  # fmt: skip
    assert len(request) == 3
