from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.geometry import IDENTITY
from omniloop.core.motion import Trajectory
from omniloop.core.replay import RecordedActors, RecordedEgo, recorded_motion_at
from omniloop.core.scene import Actor, ActorClass, Scene, Track
from omniloop.scenes.av2 import Av2Scenes

EPOCH_US = 1_600_000_000_123_457


def circle(step_us, n=60, speed=12.0, rate=0.4, start_us=EPOCH_US):
    """A body on a circle with a constant speed and yaw rate."""
    times = start_us + step_us * np.arange(n, dtype=np.int64)
    phase = rate * (times - start_us) / 1e6
    xyz = speed / rate * np.stack([np.sin(phase), 1 - np.cos(phase), 0 * phase], axis=1)
    return Trajectory(times, geometry.poses_from_xyz_yaw(xyz, phase))


def scene_with(*tracks, end_us=1_000_000):
    ego = Trajectory(np.array([0, end_us]), np.tile(IDENTITY, (2, 1)))
    return Scene("s", "embedded", ego, tracks=tuple(tracks))


def track(times, name="a", is_static=False):
    poses = geometry.poses_from_xyz_yaw([[t / 1e5, 0.0, 0.0] for t in times], 0.0)
    actor = Actor(name, ActorClass.CAR, "car", np.array([4.0, 2.0, 1.5]), is_static)
    return Track(actor, np.array(times), poses, np.ones(len(times), dtype=bool))


# --------------------------------------------------------------------------------- ego


@pytest.mark.parametrize("start_us", [0, EPOCH_US])
@pytest.mark.parametrize("step_us", [5_882, 50_000, 100_000])
def test_motion_on_a_circle_is_found_at_any_clock(start_us, step_us):
    trajectory = circle(step_us, start_us=start_us)
    for offset_us in (0, step_us // 2):
        times = trajectory.times_us[20:30] + offset_us
        motion = recorded_motion_at(trajectory, times)
        np.testing.assert_allclose(motion.dynamics[:, 0], 12.0, rtol=1e-3)
        np.testing.assert_allclose(motion.dynamics[:, 5], 0.4, rtol=1e-9)
        np.testing.assert_allclose(motion.dynamics[:, 1:5], 0, atol=0.02)
        np.testing.assert_array_equal(motion.local_to_rig, trajectory.sample(times))
        # Seen by an observer at rest, a steady turn accelerates towards its centre.
        np.testing.assert_allclose(motion.dynamics[:, 7], 12.0 * 0.4, rtol=0.02)
        np.testing.assert_allclose(motion.dynamics[:, [6, 8, 9, 10, 11]], 0, atol=0.01)


@pytest.mark.parametrize("step_us", [10_000, 100_000, 500_000])
def test_acceleration_along_a_line_is_found_at_any_rate(step_us):
    times = EPOCH_US + step_us * np.arange(20, dtype=np.int64)
    t = (times - times[0]) / 1e6
    xyz = np.stack([2.0 * t + 0.5 * 3.0 * t**2, 0 * t, 0 * t], axis=1)
    trajectory = Trajectory(times, geometry.poses_from_xyz_yaw(xyz, 0.0))
    for offset_us in (0, step_us // 2):
        motion = recorded_motion_at(trajectory, times[6:12] + offset_us)
        np.testing.assert_allclose(motion.dynamics[:, 6], 3.0, rtol=1e-6)
        now_s = (times[6:12] + offset_us - times[0]) / 1e6
        np.testing.assert_allclose(motion.dynamics[:, 0], 2.0 + 3.0 * now_s, rtol=1e-6)


def test_motion_at_the_ends_uses_the_half_that_there_is():
    trajectory = circle(10_000)
    motion = recorded_motion_at(trajectory, trajectory.times_us[[0, -1]])
    np.testing.assert_allclose(motion.dynamics[:, 0], 12.0, rtol=1e-3)
    np.testing.assert_allclose(motion.dynamics[:, 5], 0.4, rtol=1e-9)
    assert not motion.dynamics[:, 6:].any()


def test_motion_of_a_single_pose_is_none():
    motion = recorded_motion_at(Trajectory(np.array([5]), IDENTITY[None]), np.array([5]))
    assert not motion.dynamics.any()


@given(st.integers(0, 590_000), st.integers(1, 590_000))
def test_recorded_ego_between_two_times_grows_to_the_end_exactly(after, span):
    trajectory = circle(10_000)
    after_us = trajectory.start_us + after
    until_us = min(after_us + span, trajectory.end_us)
    if until_us == after_us:
        return
    ego = RecordedEgo(Scene("s", "embedded", trajectory)).between(after_us, until_us)
    assert after_us < ego.times_us[0]
    assert ego.times_us[-1] == until_us
    assert (np.diff(ego.times_us) > 0).all()
    np.testing.assert_array_equal(ego.local_to_rig, trajectory.sample(ego.times_us))


def test_recorded_ego_over_a_span_holds_both_ends():
    trajectory = circle(10_000)
    start, end = trajectory.start_us + 12_345, trajectory.start_us + 98_765
    ego = RecordedEgo(Scene("s", "embedded", trajectory)).span(start, end)
    assert (ego.times_us[0], ego.times_us[-1]) == (start, end)
    assert len(ego) == 2 + 8


# ------------------------------------------------------------------------------ actors


def test_replayed_actors_pass_through_their_recorded_poses():
    scene = scene_with(
        track(range(0, 1_000_001, 100_000)), track(range(250_000, 800_000, 100_000), "b")
    )
    recorded = RecordedActors(scene)
    for i, of in enumerate(scene.tracks):
        motion = recorded.at(of.times_us)
        assert motion.valid[i].all()
        np.testing.assert_array_equal(motion.local_to_aabb[i], of.local_to_aabb)
    assert recorded.at(np.array([200_000])).valid[:, 0].tolist() == [True, False]


@given(st.integers(0, 900_000), st.integers(1, 500_000))
def test_replayed_motion_has_no_step_beyond_100_ms_and_ends_exactly(after_us, span_us):
    recorded = RecordedActors(scene_with(track([0, 450_000, 1_000_000]), end_us=2_000_000))
    motion = recorded.between(after_us, after_us + span_us)
    steps = np.diff(motion.times_us, prepend=after_us)
    assert motion.times_us[-1] == after_us + span_us
    assert ((steps > 0) & (steps <= 100_000)).all()
    np.testing.assert_array_equal(motion.valid[0], motion.times_us <= 1_000_000)
    np.testing.assert_allclose(
        motion.local_to_aabb[0, motion.valid[0], 0], motion.times_us[motion.valid[0]] / 1e5
    )


def test_only_static_actors_stay_after_the_recording():
    scene = scene_with(
        track([0, 500_000, 1_000_000]), track([0, 500_000, 1_000_000], "b", is_static=True)
    )
    motion = RecordedActors(scene).at(np.array([-5, 1_000_000, 3_000_000]))
    assert motion.valid.tolist() == [[False, True, False], [True, True, True]]
    np.testing.assert_allclose(motion.local_to_aabb[1, :, 0], [0.0, 10.0, 10.0])
    np.testing.assert_array_equal(motion.local_to_aabb[0, 2], IDENTITY)


def test_tracks_that_share_no_times_are_laid_on_one_grid():
    rng = np.random.default_rng(0)
    tracks = [
        track(sorted({0, *rng.integers(1, 1_000_000, 10).tolist()}), str(i)) for i in range(30)
    ]
    motion = RecordedActors(scene_with(*tracks)).between(0, 1_000_000)
    assert motion.times_us.tolist() == list(range(100_000, 1_000_001, 100_000))
    seen = motion.valid[0]
    np.testing.assert_allclose(motion.local_to_aabb[0, seen, 0], motion.times_us[seen] / 1e5)


def test_a_scene_without_actors_replays_none():
    motion = RecordedActors(scene_with()).between(0, 250_000)
    assert motion.times_us.tolist() == [100_000, 200_000, 250_000]
    assert motion.local_to_aabb.shape == (0, 3, 7)


def test_a_real_recording_replays_at_the_speed_it_was_driven(shared_data):
    source = Av2Scenes(str(shared_data / "av2" / "sensor"))
    trajectory = source.load(source.ids()[0]).ego
    grid = np.arange(trajectory.start_us, trajectory.end_us, 100_000)
    motion = recorded_motion_at(trajectory, grid)
    driven = geometry.arc_length_m(trajectory.sample(grid))[-1]
    integrated = np.trapezoid(np.linalg.norm(motion.dynamics[:, :3], axis=1), dx=0.1)
    assert driven > 1.0
    assert integrated == pytest.approx(driven, rel=0.01)
    turned = geometry.wrap_rad(np.diff(geometry.yaw_rad(motion.local_to_rig))).sum()
    assert np.trapezoid(motion.dynamics[:, 5], dx=0.1) == pytest.approx(turned, abs=0.01)


@pytest.mark.parametrize(
    ("until_us", "expected"), [(300_000, [200_000, 300_000]), (250_000, [200_000, 250_000])]
)
def test_replayed_motion_keeps_the_recorded_times_and_adds_only_the_end(until_us, expected):
    recorded = RecordedActors(scene_with(track(range(0, 1_000_001, 100_000))))
    motion = recorded.between(100_000, until_us)
    assert motion.times_us.tolist() == expected
    np.testing.assert_allclose(motion.local_to_aabb[0, :, 0], np.array(expected) / 1e5)


def test_a_static_actor_stays_where_it_was_seen_after_the_recording_ends_and_others_go():
    parked = track(range(200_000, 500_001, 100_000), "parked", is_static=True)
    moving = track(range(0, 1_000_001, 100_000), "moving")
    recorded = RecordedActors(scene_with(parked, moving))
    motion = recorded.at(np.array([900_000, 1_000_000, 1_500_000]))
    assert motion.valid.tolist() == [[False, False, True], [True, True, False]]
    np.testing.assert_array_equal(motion.local_to_aabb[0, 2], parked.local_to_aabb[-1])
    assert (motion.local_to_aabb[1, 2] == IDENTITY).all()
