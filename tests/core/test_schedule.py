"""The worked timelines, and what cannot be scheduled."""

from __future__ import annotations

import numpy as np
import pytest

from omniloop.core.contracts import RendererSpec
from omniloop.core.errors import ConfigError, SceneError
from omniloop.core.schedule import CameraClock, SceneTooShort, camera_clocks
from tests.core.schedules import STARTS_US, camera_of, policy_of, scene_of, schedule_of

FI = 33_333

starts = pytest.mark.parametrize("start_us", STARTS_US)


def warmup_ks(schedule):
    return [k for k, t in enumerate(schedule.decisions_us.tolist()) if schedule.is_warmup(t)]


# -------------------------------------------- worked timelines, alpasim.md section 2.8


@starts
@pytest.mark.parametrize("lead_us", [0, 41_234])
def test_sensorsim_base_timeline(start_us, lead_us):
    render_start = start_us + lead_us
    cameras = tuple(camera_of(c, render_start, 100_000) for c in ("front", "left"))
    schedule = schedule_of(scene_of(start_us, 20_000_000), cameras, warmup_s=1.7)
    assert schedule.render_start_us == schedule.first_decision_us == render_start
    assert schedule.decision_period_us == 100_000
    assert schedule.n_decisions == (20_000_000 - lead_us) // 100_000
    expected = render_start + 100_000 * np.arange(schedule.n_decisions)
    np.testing.assert_array_equal(schedule.decisions_us, expected)
    assert warmup_ks(schedule) == list(range(17))
    assert schedule.handover_us == render_start + 1_700_000
    assert schedule.end_us <= start_us + 20_000_000
    # One frame of each camera at R, then one per interval, the last exactly at the end.
    initial = schedule.initial_frames()
    assert initial.capture_us.tolist() == [render_start] * 2
    assert initial.camera_index.tolist() == [0, 1]
    frames = schedule.frames_in(render_start, schedule.end_us)
    assert len(frames) + 2 == 2 * (1 + schedule.n_decisions)
    assert frames.capture_us[-1] == schedule.end_us
    for t in schedule.decisions_us[:3].tolist():
        step = schedule.frames_in(t, t + 100_000)
        assert step.capture_us.tolist() == [t + 100_000] * 2


@starts
def test_vavam_timeline(start_us):
    cameras = (camera_of(first_end_us=start_us + 7, interval_us=500_000),)
    schedule = schedule_of(scene_of(start_us, 20_000_000), cameras, period_us=500_000, warmup_s=3.0)
    render_start = start_us + 7
    assert warmup_ks(schedule) == list(range(6))
    assert schedule.handover_us == render_start + 3_000_000
    assert schedule.n_decisions == 39
    assert schedule.end_us == render_start + 39 * 500_000
    assert len(schedule.frames_in(start_us - 1, schedule.end_us)) == 1 + 39


@starts
@pytest.mark.parametrize(
    ("chunk", "first", "period", "warmup_us", "n_warmup", "first_decision"),
    [
        (8, 5, 266_664, 2_033_313, 7, 166_665),
        (12, 9, 399_996, 1_899_981, 4, 299_997),
        (16, 13, 533_328, 2_033_313, 3, 433_329),
    ],
)
def test_chunked_timelines(start_us, chunk, first, period, warmup_us, n_warmup, first_decision):
    render_start = start_us + 12_345
    cameras = (camera_of("front", render_start), camera_of("left", render_start + 9))
    schedule = schedule_of(
        scene_of(start_us, 20_000_000), cameras, frames=chunk, warmup_s=warmup_us / 1e6
    )
    assert schedule.render_start_us == render_start
    assert schedule.first_decision_us == render_start + first_decision
    assert schedule.decision_period_us == period == chunk * FI
    assert warmup_ks(schedule) == list(range(n_warmup))
    assert schedule.handover_us == render_start + warmup_us
    assert schedule.n_decisions == (20_000_000 - 12_345 - first_decision) // period
    # Chunk by chunk: exact frame times, in step for all cameras.
    initial = schedule.initial_frames()
    expected = render_start + FI * np.arange(1, first + 1)
    np.testing.assert_array_equal(initial.capture_us, np.repeat(expected, 2))
    np.testing.assert_array_equal(initial.camera_index, [0, 1] * first)
    assert initial.capture_us[-1] == schedule.first_decision_us
    total = len(initial)
    for j, t in enumerate(schedule.decisions_us.tolist()):
        frames = schedule.frames_in(t, t + period)
        expected = render_start + FI * (first + chunk * j + np.arange(1, chunk + 1))
        np.testing.assert_array_equal(frames.capture_us, np.repeat(expected, 2))
        np.testing.assert_array_equal(frames.start_us, frames.capture_us)
        assert frames.capture_us[-1] == t + period
        total += len(frames)
    assert total == 2 * (first + schedule.n_decisions * chunk)


def test_8frame_timeline_by_its_numbers():
    schedule = schedule_of(
        scene_of(0, 10_000_000), (camera_of(first_end_us=0),), frames=8, warmup_s=2.033313
    )
    assert schedule.initial_frames().capture_us.tolist() == [
        33_333,
        66_666,
        99_999,
        133_332,
        166_665,
    ]
    second = schedule.frames_in(166_665, 433_329).capture_us
    assert second.tolist() == [FI * k for k in range(6, 14)]
    warm = schedule.decisions_us[:7]
    assert (warm + schedule.decision_period_us)[[0, -1]].tolist() == [433_329, 2_033_313]
    assert schedule.decisions_us[7] == 2_033_313


@starts
def test_without_cameras_everything_starts_with_the_recording(start_us):
    schedule = schedule_of(scene_of(start_us, 5_000_000), warmup_s=1.0)
    assert schedule.render_start_us == schedule.first_decision_us == start_us
    assert schedule.n_decisions == 50
    assert schedule.handover_us == start_us + 1_000_000
    assert len(schedule.initial_frames()) == len(schedule.frames_in(0, schedule.end_us)) == 0


# -------------------------------------------------------------------- warm-up and end


@pytest.mark.parametrize(
    ("warmup_s", "n_warmup"),
    [(0.0, 0), (0.099999, 0), (0.1, 1), (0.100001, 1), (0.199999, 1), (0.2, 2)],
)
def test_a_decision_is_warm_up_if_its_interval_ends_with_the_warm_up_or_before(warmup_s, n_warmup):
    schedule = schedule_of(scene_of(0, 5_000_000), warmup_s=warmup_s)
    assert schedule.n_warmup == n_warmup


@pytest.mark.parametrize(("warmup_us", "n_warmup"), [(0, 0), (433_328, 0), (433_329, 1)])
def test_warm_up_counts_from_render_start_not_from_the_first_decision(warmup_us, n_warmup):
    schedule = schedule_of(
        scene_of(0, 5_000_000), (camera_of(),), frames=8, warmup_s=warmup_us / 1e6
    )
    assert schedule.n_warmup == n_warmup


def test_the_end_may_fall_on_the_last_recorded_time_but_not_after():
    assert schedule_of(scene_of(0, 1_000_000)).end_us == 1_000_000
    assert schedule_of(scene_of(0, 999_999)).end_us == 900_000
    assert schedule_of(scene_of(0, 1_000_000), duration_s=9.0).end_us == 1_000_000
    assert schedule_of(scene_of(0, 1_000_000), duration_s=0.55).end_us == 500_000
    assert schedule_of(scene_of(0, 1_000_000, may_run_on=True), duration_s=9.0).end_us == 9_000_000
    assert schedule_of(scene_of(0, 1_000_000, may_run_on=True)).end_us == 1_000_000


def test_one_closed_loop_decision_is_enough_and_none_is_too_short():
    kept = schedule_of(scene_of(0, 1_000_000), warmup_s=0.9)
    assert (kept.n_decisions, kept.n_warmup) == (10, 9)
    with pytest.raises(SceneTooShort) as caught:
        schedule_of(scene_of(0, 999_999), warmup_s=0.9)
    text = str(caught.value)
    assert "1.0 s leaves no closed-loop decision" in text
    assert "9 decisions every 0.100 s, 9 of them warm-up" in text
    assert "town-7" in text
    assert "sync.warmup_s" in text
    assert "sync.duration_s" not in text
    assert isinstance(caught.value, SceneError)


def test_a_duration_too_short_is_among_the_remedies():
    with pytest.raises(SceneTooShort, match=r"lengthen sync\.duration_s"):
        schedule_of(scene_of(0, 5_000_000), warmup_s=0.5, duration_s=0.5)


def test_a_recording_that_ends_before_the_first_decision_is_too_short():
    with pytest.raises(SceneTooShort):
        schedule_of(scene_of(0, 300_000), (camera_of(first_end_us=400_000),))
    with pytest.raises(SceneTooShort):
        schedule_of(scene_of(0, 300_000), (camera_of(),), frames=16)


def test_a_scene_that_runs_on_must_still_be_recorded_until_handover():
    scene = scene_of(0, 1_000_000, may_run_on=True)
    assert schedule_of(scene, warmup_s=1.0, duration_s=9.0).handover_us == 1_000_000
    with pytest.raises(SceneTooShort, match=r"ends 0\.100 s before handover"):
        schedule_of(scene, warmup_s=1.1, duration_s=9.0)


# ---------------------------------------------------------------------- camera clocks


def clocks_of(*cameras, start_us=0, **spec):
    return camera_clocks(cameras, RendererSpec(None, **spec), start_us)


def test_recorded_camera_times_come_before_the_renderers():
    recorded = camera_of("a", 30_000, 50_000, 10_000)
    unrecorded = camera_of("b")
    assert clocks_of(recorded, unrecorded, fps=20, shutter_us=5_000) == (
        CameraClock("a", 30_000, 50_000, 10_000),
        CameraClock("b", 5_000, 50_000, 5_000),
    )


@pytest.mark.parametrize(
    ("first_end_us", "expected_us"),
    [(1_016_000, 1_016_000), (1_015_999, 1_065_999), (900_000, 1_050_000), (0, 1_050_000)],
)
def test_a_camera_recorded_from_before_the_ego_starts_with_its_first_whole_frame(
    first_end_us, expected_us
):
    (clock,) = clocks_of(camera_of("a", first_end_us, 50_000, 16_000), start_us=1_000_000)
    assert clock.first_end_us == expected_us


def test_the_first_frame_of_a_camera_is_always_asked_for():
    scene = scene_of(1_000_000, 5_000_000)
    cameras = (camera_of("a", 1_001_000, 50_000, 16_000), camera_of("b", 1_020_000, 50_000, 16_000))
    schedule = schedule_of(scene, cameras)
    assert schedule.render_start_us == 1_020_000
    assert schedule.initial_frames().capture_us.tolist() == [1_020_000]
    assert schedule.initial_frames().start_us.tolist() == [1_004_000]
    frames = schedule.frames_in(1_020_000, 1_120_000)
    assert frames.capture_us.tolist() == [1_051_000, 1_070_000, 1_101_000, 1_120_000]
    assert frames.camera_index.tolist() == [0, 1, 0, 1]


def test_a_frame_belongs_to_the_interval_of_its_shutter_end():
    clock = camera_of("a", 100_000, 100_000, 60_000)
    schedule = schedule_of(scene_of(0, 1_000_000), (clock,), period_us=50_000)
    assert schedule.frames_in(150_000, 200_000).start_us.tolist() == [140_000]
    assert len(schedule.frames_in(100_000, 150_000)) == 0
    assert len(schedule.frames_in(100_000, 199_999)) == 0
    assert len(schedule.frames_in(200_000, 299_999)) == 0
    assert schedule.frames_in(99_999, 100_000).capture_us.tolist() == [100_000]


# ------------------------------------------------------------------- mistaken settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"period_us": 999}, r"sync\.decision_period_us is 999"),
        ({"warmup_s": -0.1}, r"sync\.warmup_s is -0\.1"),
        ({"warmup_s": float("nan")}, r"sync\.warmup_s is nan"),
        ({"warmup_s": float("inf")}, r"sync\.warmup_s is inf"),
        ({"duration_s": 0.0}, r"sync\.duration_s is 0\.0"),
        ({"duration_s": float("nan")}, r"sync\.duration_s is nan"),
        ({"decisions_per_chunk": 0}, r"sync\.decisions_per_chunk is 0"),
        ({"decisions_per_chunk": 2}, r"sync\.decisions_per_chunk is 2"),
        (
            {"decisions_per_chunk": 3, "postfetch": True, "frames": 8},
            "8 frames does not hold 3 decisions of whole frames",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_named_with_a_remedy(settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        schedule_of(scene_of(0, 9_000_000), (camera_of(),), **settings)
    assert caught.value.remedy


@pytest.mark.parametrize("frames", [-4, 0, 3, 5, 9, 10])
def test_a_chunk_that_is_no_multiple_of_four_frames_is_refused(frames):
    from omniloop.core.contracts import ChunkRule

    with pytest.raises(ConfigError, match=f"a chunk of {frames} frames"):
        ChunkRule(frames, 30)


# ------------------------------------------------------------------------- auto warm-up


@pytest.mark.parametrize(
    ("policy", "n_warmup"),
    [
        (policy_of(), 0),
        (policy_of(ego_s=1.5), 15),
        (policy_of(ego_s=1.45), 15),
        (policy_of(count=4, rate_hz=10.0), 3),
        (policy_of(count=4, rate_hz=3.0), 10),
        (policy_of(ego_s=0.5, count=2, rate_hz=1.0), 10),
        (policy_of(count=9, cameras=()), 0),
    ],
)
def test_auto_warm_up_covers_the_histories_that_a_policy_declares(policy, n_warmup):
    schedule = schedule_of(
        scene_of(0, 5_000_000), (camera_of(interval_us=100_000),), policy=policy, warmup_s=None
    )
    assert schedule.n_warmup == n_warmup


def test_auto_warm_up_waits_for_the_last_camera_that_the_policy_looks_at():
    cameras = (camera_of("a", 0, 100_000), camera_of("b", 250_000, 100_000))
    scene = scene_of(0, 5_000_000)
    both = schedule_of(scene, cameras, policy=policy_of(count=2), warmup_s=None)
    assert both.handover_us == 400_000
    one = schedule_of(scene, cameras, policy=policy_of(count=2, cameras=("a",)), warmup_s=None)
    assert one.handover_us == 100_000


def test_auto_warm_up_does_not_count_the_seed_image_of_a_chunked_renderer():
    # Frames from fi on; two of them at 6 Hz reach back 166 667 us from D0 = 166 665 us.
    schedule = schedule_of(
        scene_of(0, 5_000_000), (camera_of(),), frames=8,
        policy=policy_of(count=2, rate_hz=6.0), warmup_s=None,
    )  # fmt: skip
    assert schedule.n_warmup == 1
    assert schedule.handover_us == 433_329
