import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.contracts import SessionInfo, TrafficRequest
from omniloop.core.motion import ActorMotion, Trajectory
from omniloop.core.registry import create
from omniloop.core.scene import Actor, ActorClass, Scene, Track

START, END = 1_000_000, 9_000_000


def track(name: str, times, seed: int, *, valid=None, static=False) -> Track:
    times = np.asarray(times, dtype=np.int64)
    rng = np.random.default_rng(seed)
    t = (times - START) / 1e6
    poses = geometry.poses_from_xyz_yaw(
        np.stack([rng.uniform(-9, 9) * t, np.sin(t), 0.1 * t], axis=1), rng.uniform(-3, 3) * t
    )
    if static:
        poses = np.tile(poses[0], (len(times), 1))
    actor = Actor(name, ActorClass.CAR, "car", np.array([4.5, 1.9, 1.6]), is_static=static)
    return Track(actor, times, poses, np.ones(len(times), dtype=bool) if valid is None else valid)


def scene(*tracks: Track) -> Scene:
    ego = Trajectory(np.array([START, END]), np.tile(geometry.IDENTITY, (2, 1)))
    return Scene("s", "test", ego, tracks=tracks)


def steps(world: Scene, times: list[int]) -> ActorMotion:
    session = SessionInfo("s/0", world, 0, world.vehicle, START, START, END)
    traffic = create("traffic", "log_replay", {}).open(session)
    parts = []
    for now, target in itertools.pairwise(times):
        ego = Trajectory(np.array([target]), geometry.IDENTITY[None])
        current = world.recorded_actors(np.array([now]))
        part = traffic.step(TrafficRequest(now, target, ego, current))
        assert part.times_us[-1] == target
        steps_us = np.diff(part.times_us, prepend=now)
        assert (steps_us > 0).all()
        assert (steps_us <= 100_000).all()
        assert part.local_to_aabb.shape == (len(world.tracks), len(part.times_us), 7)
        parts.append(part)
    return ActorMotion(
        np.concatenate([p.times_us for p in parts]),
        np.concatenate([p.local_to_aabb for p in parts], axis=1),
        np.concatenate([p.valid for p in parts], axis=1),
    )


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 50_000), st.sampled_from([100_000, 266_664, 533_328, 1_000_000, 33_333]),
    st.sampled_from([10.0, 2.0, 25.0]),
)  # fmt: skip
def test_recorded_poses_come_back_exactly_at_recorded_times(offset, period, rate_hz):
    recorded = START + offset + np.arange(0, 7_500_000, round(1e6 / rate_hz))
    world = scene(track("a", recorded, 1), track("b", recorded[3:-2], 2))
    motion = steps(world, list(range(START, END, period)))
    for i, one in enumerate(world.tracks):
        inside = (one.times_us > START) & (one.times_us <= motion.times_us[-1])
        at = np.searchsorted(motion.times_us, one.times_us[inside])
        np.testing.assert_array_equal(motion.times_us[at], one.times_us[inside])
        np.testing.assert_array_equal(motion.local_to_aabb[i, at], one.local_to_aabb[inside])
        assert motion.valid[i, at].all()
        poses, valid = one.at(motion.times_us)
        np.testing.assert_array_equal(motion.valid[i], valid)
        np.testing.assert_allclose(motion.local_to_aabb[i, valid], poses[valid], atol=1e-9)


def test_actors_keep_the_scenes_order_and_are_absent_where_not_observed():
    times = START + 100_000 * np.arange(80)
    valid = np.ones(80, dtype=bool)
    valid[30:40] = False
    world = scene(track("z", times[20:50], 3), track("a", times, 4, valid=valid))
    motion = steps(world, list(range(START, END - 100_000, 100_000)))
    seconds = np.round((motion.times_us - START) / 1e5).astype(int)
    np.testing.assert_array_equal(motion.valid[0], (seconds >= 20) & (seconds < 50))
    np.testing.assert_array_equal(motion.valid[1], (seconds < 30) | (seconds >= 40))
    np.testing.assert_array_equal(
        motion.local_to_aabb[~motion.valid], np.tile(geometry.IDENTITY, ((~motion.valid).sum(), 1))
    )


def test_tracks_that_share_no_times_are_replayed_on_a_grid():
    tracks = [track(str(i), START + 777 * i + 500_000 * np.arange(16), i) for i in range(12)]
    world = scene(*tracks)
    motion = steps(world, list(range(START, END - 500_000, 200_000)))
    assert len(motion.times_us) < 200
    for i, one in enumerate(tracks):
        poses, valid = one.at(motion.times_us)
        both = valid & motion.valid[i]
        assert both.sum() > 50
        gap = np.linalg.norm(motion.local_to_aabb[i, both, :3] - poses[both, :3], axis=1)
        assert gap.max() < 0.2


def test_after_the_recording_only_static_actors_stay():
    times = START + 100_000 * np.arange(81)
    world = scene(track("moving", times, 5), track("parked", times, 6, static=True))
    world = dataclasses.replace(world, may_run_on=True)
    motion = steps(world, list(range(END - 300_000, END + 600_000, 150_000)))
    after = motion.times_us > END
    assert after.any()
    assert motion.valid[0, ~after].all()
    assert not motion.valid[0, after].any()
    assert motion.valid[1].all()
    np.testing.assert_array_equal(
        motion.local_to_aabb[1],
        np.tile(world.tracks[1].local_to_aabb[0], (len(motion.times_us), 1)),
    )


def test_a_scene_without_actors_is_answered_all_the_same():
    motion = steps(scene(), [START, START + 100_000, START + 350_000])
    assert motion.valid.shape == (0, len(motion.times_us))


def test_it_takes_no_settings():
    with pytest.raises(Exception, match="has no setting 'speed'"):
        create("traffic", "log_replay", {"speed": 1})
