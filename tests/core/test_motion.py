from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.geometry import IDENTITY
from omniloop.core.motion import (
    EMPTY_TRAJECTORY,
    ActorMotion,
    EgoMotion,
    Trajectory,
    as_times,
    bracket,
    grid_times_us,
)

EPOCH_US = 1_600_000_000_123_457


def random_trajectory(n=12, start_us=EPOCH_US, seed=0):
    rng = np.random.default_rng(seed)
    times = start_us + np.cumsum(rng.integers(1, 200_000, n))
    poses = rng.normal(scale=10, size=(n, 7))
    return Trajectory(times, geometry.normalise(poses))


def random_actors(n_actors=5, n=12, seed=0, absent=()):
    rng = np.random.default_rng(seed)
    times = EPOCH_US + 100_000 * np.arange(n, dtype=np.int64)
    poses = geometry.normalise(rng.normal(scale=10, size=(n_actors, n, 7)))
    valid = np.ones((n_actors, n), dtype=bool)
    for actor, sample in absent:
        valid[actor, sample] = False
        poses[actor, sample] = IDENTITY
    return ActorMotion(times, poses, valid)


# -------------------------------------------------------------------------- bracketing


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=20, unique=True),
    st.lists(st.floats(0, 1), max_size=10),
    st.sampled_from([0, EPOCH_US]),
)
def test_bracket_holds_each_query_between_its_samples(times, fractions, start_us):
    times = start_us + np.array(sorted(times), dtype=np.int64)
    span = times[-1] - times[0]
    query = np.array([times[0] + int(f * span) for f in fractions], dtype=np.int64)
    query = np.concatenate([query, times])
    lo, hi, alpha = bracket(times, query)
    assert ((alpha >= 0) & (alpha < 1)).all()
    on_sample = np.isin(query, times)
    np.testing.assert_array_equal(times[lo][on_sample], query[on_sample])
    np.testing.assert_array_equal(lo[on_sample], hi[on_sample])
    assert (alpha[on_sample] == 0).all()
    between = ~on_sample
    assert (hi[between] == lo[between] + 1).all()
    assert ((times[lo] < query) & (query < times[hi]))[between].all()
    np.testing.assert_allclose(times[lo] + alpha * (times[hi] - times[lo]), query, rtol=0, atol=0.5)


@pytest.mark.parametrize("query", [-1, 11, 10**15])
def test_bracket_refuses_queries_outside(query):
    with pytest.raises(ValueError, match=rf"{query} us is outside \[0, 10\] us"):
        bracket(np.array([0, 5, 10]), np.array([5, query]))


def test_bracket_of_nothing():
    assert all(len(part) == 0 for part in bracket(np.array([1, 2]), np.zeros(0, dtype=np.int64)))
    with pytest.raises(ValueError, match="nothing is held to sample at 5 us"):
        bracket(np.zeros(0, dtype=np.int64), np.array([5]))


def test_fractions_are_exact_at_epoch_sized_times():
    lo, hi, alpha = bracket(EPOCH_US + np.array([0, 100_000]), EPOCH_US + np.array([1, 33_333]))
    assert (lo.tolist(), hi.tolist(), alpha.tolist()) == ([0, 0], [1, 1], [1e-5, 0.33333])


# ---------------------------------------------------------------------------- one body


def test_samples_come_back_bit_for_bit():
    trajectory = random_trajectory()
    assert trajectory.sample(trajectory.times_us).tobytes() == trajectory.poses.tobytes()
    mixed = np.sort(np.concatenate([trajectory.times_us, trajectory.times_us[:-1] + 1]))
    out = trajectory.sample(mixed)[np.isin(mixed, trajectory.times_us)]
    np.testing.assert_array_equal(out, trajectory.poses)


def test_a_query_between_two_samples_is_interpolated():
    trajectory = Trajectory(
        EPOCH_US + np.array([0, 100_000]),
        geometry.poses_from_xyz_yaw([[0.0, 0.0, 0.0], [2.0, 0.0, 1.0]], [0.0, 0.4]),
    )
    expected = geometry.poses_from_xyz_yaw([[0.5, 0.0, 0.25]], [0.1])
    np.testing.assert_allclose(trajectory.sample(EPOCH_US + 25_000), expected, atol=1e-15)


def test_queries_need_not_be_sorted_and_may_repeat():
    trajectory = random_trajectory()
    query = trajectory.times_us[[7, 2, 2, 9]] + np.array([5, 3, 3, 0])
    out = trajectory.sample(query)
    for row, time in zip(out, query, strict=True):
        assert row.tobytes() == trajectory.sample([time])[0].tobytes()


def test_sampling_outside_the_range_is_refused_and_clamping_is_not():
    trajectory = random_trajectory()
    for bad in (trajectory.start_us - 1, trajectory.end_us + 1):
        with pytest.raises(ValueError, match=f"{bad} us is outside"):
            trajectory.sample([trajectory.start_us, bad])
        end = trajectory.poses[0 if bad < trajectory.start_us else -1]
        np.testing.assert_array_equal(trajectory.sample_clamped(bad)[0], end)
    with pytest.raises(ValueError, match="nothing is held"):
        EMPTY_TRAJECTORY.sample(3)
    assert EMPTY_TRAJECTORY.sample([]).shape == (0, 7)


@given(st.integers(0, 1_200_000), st.integers(0, 1_200_000))
def test_clip_has_exact_ends_and_the_samples_between(a, b):
    trajectory = random_trajectory()
    span = trajectory.end_us - trajectory.start_us
    start, end = sorted(trajectory.start_us + min(x, span) for x in (a, b))
    part = trajectory.clip(start, end)
    inside = trajectory.times_us[(trajectory.times_us > start) & (trajectory.times_us < end)]
    assert part.times_us.tolist() == sorted({start, end, *inside.tolist()})
    assert part.poses.tobytes() == trajectory.sample(part.times_us).tobytes()


def test_clip_on_samples_neither_repeats_nor_loses_them():
    trajectory = random_trajectory()
    start, end = (int(t) for t in trajectory.times_us[[3, 8]])
    part = trajectory.clip(start, end)
    np.testing.assert_array_equal(part.times_us, trajectory.times_us[3:9])
    assert part.poses.tobytes() == trajectory.poses[3:9].tobytes()
    assert trajectory.clip(start, start).times_us.tolist() == [start]


def test_clip_refuses_ends_outside_or_in_the_wrong_order():
    trajectory = random_trajectory()
    with pytest.raises(ValueError, match="is outside"):
        trajectory.clip(trajectory.start_us - 1, trajectory.end_us)
    with pytest.raises(ValueError, match="is outside"):
        trajectory.clip(trajectory.start_us, trajectory.end_us + 1)
    with pytest.raises(ValueError, match="the start is after the end"):
        trajectory.clip(trajectory.end_us, trajectory.start_us)


def test_between_leaves_out_its_start_and_holds_its_end():
    trajectory = Trajectory(np.array([10, 20, 30, 40]), np.tile(IDENTITY, (4, 1)))
    assert trajectory.between(10, 30).times_us.tolist() == [20, 30]
    assert trajectory.between(9, 29).times_us.tolist() == [10, 20]
    assert len(trajectory.between(40, 99)) == 0
    assert len(trajectory.between(20, 20)) == 0


def test_transform_changes_the_frame_and_shift_body_the_point():
    trajectory = random_trajectory()
    offset = geometry.pose(1.0, 2.0, 0.5, 0.3)
    moved, shifted = trajectory.transform(offset), trajectory.shift_body(offset)
    for k in range(len(trajectory)):
        np.testing.assert_array_equal(moved.poses[k], geometry.compose(offset, trajectory.poses[k]))
        np.testing.assert_array_equal(
            shifted.poses[k], geometry.compose(trajectory.poses[k], offset)
        )


@pytest.mark.parametrize(
    ("times", "poses", "message"),
    [
        ([0, 10], np.tile(IDENTITY, (3, 1)), r"times \(2,\) and poses \(3, 7\) do not match"),
        ([[0]], IDENTITY[None], r"times \(1, 1\)"),
        ([0, 10, 10], np.tile(IDENTITY, (3, 1)), "time 10 us at index 2 is not after 10 us"),
        ([0, 10, 5], np.tile(IDENTITY, (3, 1)), "time 5 us at index 2 is not after 10 us"),
        ([0, 7], [IDENTITY, [np.nan, *IDENTITY[1:]]], "at 7 us is not finite"),
        ([0, 7], [IDENTITY, [0, 0, 0, np.inf, 0, 0, 1]], "at 7 us is not finite"),
        ([0, 7], [IDENTITY, np.zeros(7)], "at 7 us is not a unit"),
        ([0.0, np.nan], np.tile(IDENTITY, (2, 1)), "not finite"),
    ],
)
def test_impossible_trajectories_are_refused(times, poses, message):
    with pytest.raises(ValueError, match=message):
        Trajectory(times, poses)


def test_quaternions_of_single_precision_are_units():
    poses = random_trajectory().poses.astype(np.float32)
    assert len(Trajectory(np.arange(len(poses)), poses)) == len(poses)


def test_float_times_are_rounded_not_cut_off():
    times = 0.1 * np.arange(1, 5) * 1e6  # 300000.00000000006 among them
    assert Trajectory(times - 0.4, np.tile(IDENTITY, (4, 1))).times_us.tolist() == [
        100_000, 200_000, 300_000, 400_000,
    ]  # fmt: skip


def test_a_trajectory_does_not_change_with_the_buffer_it_was_made_from():
    times, poses = np.array([0, 10]), np.tile(IDENTITY, (2, 1))
    trajectory = Trajectory(times, poses)
    times[1], poses[1, 0] = 99, 5.0
    assert trajectory.end_us == 10
    assert trajectory.poses[1, 0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        trajectory.poses[0, 0] = 1.0
    assert trajectory.between(-1, 5).poses.base is trajectory.poses


def test_as_times_is_a_read_only_copy():
    source = np.array([1, 2])
    out = as_times(source)
    source[0] = 9
    assert out.tolist() == [1, 2]
    assert not out.flags.writeable


def test_ego_motion_has_its_poses_as_a_trajectory():
    trajectory = random_trajectory(4)
    motion = EgoMotion(trajectory.times_us, trajectory.poses, np.zeros((4, 12)))
    assert len(motion) == 4
    assert motion.trajectory.poses is trajectory.poses


# -------------------------------------------------------------------------- many actors


def test_actors_sampled_at_their_samples_come_back_bit_for_bit():
    motion = random_actors(absent=[(1, 4), (3, 0), (3, 1)])
    out = motion.sample(motion.times_us)
    assert out.local_to_aabb.tobytes() == motion.local_to_aabb.tobytes()
    np.testing.assert_array_equal(out.valid, motion.valid)


@given(st.lists(st.integers(0, 1_100_000), min_size=1, max_size=6))
def test_every_actor_is_sampled_as_if_alone(offsets):
    motion = random_actors(absent=[(1, 4), (1, 5), (3, 0), (4, 11)])
    query = EPOCH_US + np.array(offsets, dtype=np.int64)
    out = motion.sample(query)
    assert out.times_us.tolist() == query.tolist()
    assert out.local_to_aabb.shape == (5, len(query), 7)
    assert out.local_to_aabb.flags.c_contiguous
    for actor in range(5):
        alone = Trajectory(motion.times_us, motion.local_to_aabb[actor])
        for k, time in enumerate(query):
            around = motion.valid[
                actor, (motion.times_us >= time - 99_999) & (motion.times_us <= time + 99_999)
            ]
            on_sample = np.flatnonzero(motion.times_us == time)
            seen = bool(motion.valid[actor, on_sample[0]]) if len(on_sample) else bool(around.all())
            assert out.valid[actor, k] == seen
            expected = alone.sample([time])[0] if seen else IDENTITY
            assert out.local_to_aabb[actor, k].tobytes() == (expected + 0.0).tobytes()


def test_an_actor_is_absent_between_a_seen_and_an_unseen_sample():
    motion = random_actors(n_actors=1, absent=[(0, 5)])
    t = motion.times_us
    query = np.array([t[4], t[4] + 1, t[5] - 1, t[5], t[5] + 1, t[6] - 1, t[6]])
    seen = [True, False, False, False, False, False, True]
    assert motion.sample(query).valid[0].tolist() == seen
    for time, expected in zip(query, seen, strict=True):
        assert motion.sample(time).valid.tolist() == [[expected]]


@pytest.mark.filterwarnings("error::RuntimeWarning")  # numpy's
@pytest.mark.parametrize("junk", [0.0, np.nan, np.inf])
def test_poses_of_absent_actors_may_be_anything(junk):
    motion = random_actors(absent=[(1, 4), (1, 5)])
    motion.local_to_aabb[~motion.valid] = junk
    for query in (motion.times_us[3:8], motion.times_us[3:8] + 7):
        out = motion.sample(query)
        np.testing.assert_array_equal(
            out.local_to_aabb[~out.valid], np.tile(IDENTITY, (np.sum(~out.valid), 1))
        )
        assert np.isfinite(out.local_to_aabb).all()


def test_sampling_actors_does_not_change_them():
    motion = random_actors(absent=[(1, 4)])
    before = motion.local_to_aabb.copy()
    for query in (motion.times_us[4:6], motion.times_us[4:6] + 1):
        motion.sample(query).local_to_aabb[...] = 7.0
    np.testing.assert_array_equal(motion.local_to_aabb, before)


def test_actors_outside_their_times_are_refused():
    motion = random_actors()
    for bad in (motion.times_us[0] - 1, motion.times_us[-1] + 1):
        with pytest.raises(ValueError, match=f"{bad} us is outside"):
            motion.sample([motion.times_us[3], bad])


def test_no_actors_and_no_queries_are_fine():
    motion = random_actors()
    assert motion.sample([]).local_to_aabb.shape == (5, 0, 7)
    empty = ActorMotion(motion.times_us, np.zeros((0, 12, 7)), np.zeros((0, 12), dtype=bool))
    assert empty.sample(motion.times_us[:2] + 5).local_to_aabb.shape == (0, 2, 7)
    assert empty.sample(motion.times_us[:2]).valid.shape == (0, 2)


def test_actors_between_two_times_are_their_own_samples():
    motion = random_actors()
    part = motion.between(EPOCH_US + 100_000, EPOCH_US + 350_000)
    assert (part.times_us - EPOCH_US).tolist() == [200_000, 300_000]
    np.testing.assert_array_equal(part.local_to_aabb, motion.local_to_aabb[:, 2:4])
    np.testing.assert_array_equal(part.valid, motion.valid[:, 2:4])


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 10**5))
def test_grid_times_end_at_the_end_with_steps_no_longer_than_asked(after, span, step):
    after += EPOCH_US
    times = grid_times_us(after, after + span, step)
    steps = np.diff(times, prepend=after)
    assert times[-1] == after + span
    assert ((steps > 0) & (steps <= step)).all()
    assert (steps[:-1] == step).all()
