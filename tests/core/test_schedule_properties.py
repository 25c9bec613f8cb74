"""What holds for every schedule, whatever the rates."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from omniloop.core.errors import ConfigError
from omniloop.core.schedule import SceneTooShort
from tests.core.schedules import STARTS_US, camera_of, policy_of, scene_of, schedule_of

start_times = st.sampled_from(STARTS_US)
warmups = st.one_of(st.none(), st.floats(0, 4))
policies = st.builds(
    policy_of,
    ego_s=st.floats(0, 2),
    count=st.integers(1, 6),
    rate_hz=st.floats(1, 30),
    cameras=st.sampled_from([None, (), ("c0",)]),
)


@st.composite
def camera_sets(draw, start_us):
    """Cameras whose rates need not divide anything and whose first frames may be early."""
    out = []
    for i in range(draw(st.integers(1, 3))):
        first = draw(st.one_of(st.none(), st.integers(-300_000, 600_000)))
        out.append(
            camera_of(
                f"c{i}",
                None if first is None else start_us + first,
                draw(st.integers(7_000, 400_000)),
                draw(st.integers(0, 50_000)),
            )
        )
    return tuple(out)


@st.composite
def schedules(draw, *, chunked=None):
    start_us = draw(start_times)
    scene = scene_of(
        start_us, draw(st.integers(2_000_000, 9_000_000)), may_run_on=draw(st.booleans())
    )
    chunked = draw(st.booleans()) if chunked is None else chunked
    frames = draw(st.sampled_from([4, 8, 12, 16])) if chunked else None
    postfetch = draw(st.booleans())
    per_chunk = draw(st.sampled_from([1, 2, 4])) if postfetch else 1
    try:
        schedule = schedule_of(
            scene, draw(camera_sets(start_us)), frames=frames,
            fps=draw(st.sampled_from([10, 24, 30])), policy=draw(policies),
            period_us=draw(st.integers(20_000, 700_000)), warmup_s=draw(warmups),
            duration_s=draw(st.one_of(st.none(), st.floats(1, 12))),
            decisions_per_chunk=per_chunk, postfetch=postfetch,
        )  # fmt: skip
    except SceneTooShort:
        assume(False)
    return scene, schedule


def as_pairs(frames):
    return list(zip(frames.capture_us.tolist(), frames.camera_index.tolist(), strict=True))


@given(schedules())
def test_the_intervals_hold_every_frame_once_in_order(case):
    scene, schedule = case
    seen = as_pairs(schedule.initial_frames())
    edges = [*schedule.decisions_us.tolist(), schedule.end_us]
    for after, until in itertools.pairwise(edges):
        frames = schedule.frames_in(after, until)
        pairs = as_pairs(frames)
        assert pairs == sorted(pairs)
        assert all(after < capture <= until for capture, _ in pairs)
        shutters = np.array([c.shutter_us for c in schedule.clocks])[frames.camera_index]
        np.testing.assert_array_equal(frames.start_us, frames.capture_us - shutters)
        seen += pairs
    assert seen == sorted(seen)
    # Counted another way: clock by clock. The chunked renderer's image at R is its seed.
    first_k = 1 if schedule.chunk else 0
    expected = [
        (clock.first_end_us + k * clock.interval_us, index)
        for index, clock in enumerate(schedule.clocks)
        for k in range(first_k, (schedule.end_us - clock.first_end_us) // clock.interval_us + 1)
    ]
    assert seen == sorted(expected)
    assert all(c.first_end_us - c.shutter_us >= scene.start_us for c in schedule.clocks)


@given(schedules())
def test_decisions_handover_and_end_lie_on_one_grid_inside_the_recording(case):
    scene, schedule = case
    decisions = schedule.decisions_us
    assert decisions.dtype == np.int64
    assert len(decisions) == schedule.n_decisions > schedule.n_warmup >= 0
    assert decisions[0] == schedule.first_decision_us >= schedule.render_start_us
    assert schedule.render_start_us >= schedule.context_start_us == scene.start_us
    assert (np.diff(decisions) == schedule.decision_period_us).all()
    assert schedule.end_us == decisions[-1] + schedule.decision_period_us
    assert schedule.handover_us == decisions[schedule.n_warmup]
    assert schedule.handover_us <= scene.end_us
    assert scene.may_run_on or schedule.end_us <= scene.end_us
    assert [schedule.is_warmup(t) for t in decisions.tolist()] == [
        k < schedule.n_warmup for k in range(schedule.n_decisions)
    ]
    assert not schedule.is_warmup(schedule.end_us)


@given(schedules())
def test_a_longer_rollout_would_not_fit_the_recording(case):
    scene, schedule = case
    assume(not scene.may_run_on)
    chunk_us = schedule.decision_period_us * schedule.decisions_per_chunk
    limit = schedule_of(  # the same cameras and rates, for as long as the recording lasts
        scene,
        tuple(
            camera_of(c.camera_id, c.first_end_us, c.interval_us, c.shutter_us)
            for c in schedule.clocks
        ),
        frames=schedule.chunk.frames if schedule.chunk else None,
        fps=schedule.chunk.fps if schedule.chunk else 30,
        period_us=schedule.decision_period_us,
        decisions_per_chunk=schedule.decisions_per_chunk,
        postfetch=schedule.postfetch,
    )
    assert limit.first_decision_us == schedule.first_decision_us
    assert limit.end_us <= scene.end_us < limit.end_us + chunk_us


@given(schedules(chunked=True))
def test_every_chunk_asks_for_exactly_its_frames(case):
    _, schedule = case
    rule, n_cameras = schedule.chunk, len(schedule.clocks)
    assert rule.first_frames == rule.frames - 3
    assert len(schedule.initial_frames()) == rule.first_frames * n_cameras
    per_decision, rest = divmod(rule.frames, schedule.decisions_per_chunk)
    assert rest == 0
    assert schedule.decision_period_us == per_decision * rule.frame_interval_us
    assert schedule.n_decisions % schedule.decisions_per_chunk == 0
    chunk_us = rule.duration_us
    for j in range(schedule.n_decisions // schedule.decisions_per_chunk):
        start = schedule.first_decision_us + j * chunk_us
        frames = schedule.frames_in(start, start + chunk_us)
        assert len(frames) == rule.frames * n_cameras
        assert frames.capture_us[0] == start + rule.frame_interval_us
        assert frames.capture_us[-1] == start + chunk_us


@given(
    start_times, st.sampled_from([4, 8, 12, 16]), st.integers(1, 16), st.sampled_from([10, 24, 30])
)
def test_a_chunk_is_split_among_decisions_of_whole_frames_or_refused(start_us, frames, m, fps):
    def build():
        return schedule_of(
            scene_of(start_us, 20_000_000), (camera_of(),), frames=frames, fps=fps,
            decisions_per_chunk=m, postfetch=True,
        )  # fmt: skip

    if frames % m:
        with pytest.raises(ConfigError, match=f"does not hold {m} decisions"):
            build()
        return
    assert build().decision_period_us == (frames // m) * (1_000_000 // fps)


@given(start_times, st.data())
def test_auto_warm_up_is_the_least_that_covers_the_histories(start_us, data):
    cameras = data.draw(camera_sets(start_us))
    policy = data.draw(policies)
    frames = data.draw(st.sampled_from([None, 8, 12]))
    scene = scene_of(start_us, 40_000_000)
    schedule = schedule_of(
        scene, cameras, frames=frames, policy=policy, warmup_s=None,
        period_us=data.draw(st.integers(20_000, 400_000)),
    )  # fmt: skip

    def covered(handover_us):
        ego_reaches_us = handover_us - round(policy.ego_history_s * 1e6)
        if ego_reaches_us < scene.start_us:
            return False
        oldest_us = handover_us - round((policy.images.count - 1) / policy.images.rate_hz * 1e6)
        captured = as_pairs(schedule.initial_frames()) + as_pairs(
            schedule.frames_in(schedule.first_decision_us, handover_us)
        )
        looks_at = [
            index
            for index, clock in enumerate(schedule.clocks)
            if policy.cameras is None or clock.camera_id in policy.cameras
        ]
        return all(any(c == index and t <= oldest_us for t, c in captured) for index in looks_at)

    assert covered(schedule.handover_us)
    if schedule.n_warmup:
        assert not covered(schedule.handover_us - schedule.decision_period_us)


@given(schedules(), schedules())
def test_scores_are_sampled_every_100_ms_from_handover_whatever_the_renderer(a, b):
    for _, schedule in (a, b):
        times = schedule.score_times_us(schedule.end_us)
        assert times[0] == schedule.handover_us
        assert (np.diff(times) == 100_000).all()
        assert schedule.end_us - 100_000 < times[-1] <= schedule.end_us
        assert schedule.score_times_us(schedule.handover_us).tolist() == [schedule.handover_us]
    offsets = [s.score_times_us(s.handover_us + 1_000_000) - s.handover_us for _, s in (a, b)]
    np.testing.assert_array_equal(*offsets)


@given(
    st.integers(100_000, 5_000_000), st.integers(20_000, 700_000), st.floats(0, 5),
    st.sampled_from([None, 8, 16]), st.one_of(st.none(), st.floats(0.01, 6)),
)  # fmt: skip
def test_a_scene_is_too_short_exactly_if_no_closed_loop_decision_is_left(
    duration_us, period_us, warmup_s, frames, duration_s
):
    # By the definition: decisions t with t + d inside, and t + d > R + warm-up for one.
    scene = scene_of(0, duration_us)
    chunk_us = (frames or 0) * 33_333
    d = chunk_us or period_us
    first = (frames - 3) * 33_333 if frames else 0
    limit = duration_us if duration_s is None else min(duration_us, first + round(duration_s * 1e6))
    decisions = range(first, limit - d + 1, d)
    closed = [t for t in decisions if t + d > round(warmup_s * 1e6)]
    try:
        schedule = schedule_of(
            scene, (camera_of(first_end_us=0),), frames=frames, period_us=period_us,
            warmup_s=warmup_s, duration_s=duration_s,
        )  # fmt: skip
    except SceneTooShort:
        assert closed == []
        return
    assert schedule.decisions_us.tolist() == list(decisions)
    assert schedule.decisions_us[schedule.n_warmup :].tolist() == closed != []
