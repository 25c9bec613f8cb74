import numpy as np
import pytest

from omniloop.bench.traffic import cost, ego_motion, overlapping_pairs, overlaps
from omniloop.core import geometry
from omniloop.core.errors import ConfigError
from omniloop.core.motion import ActorMotion
from omniloop.scenes.av2 import Av2Scenes
from omniloop.scenes.commonroad import CommonRoadScenes
from omniloop.scenes.embedded import EmbeddedScenes, synthetic_scene
from omniloop.scenes.nuscenes import NuScenesScenes

SIZES = np.array([[4.0, 2.0, 1.5], [4.0, 2.0, 1.5]])


def two(apart_m) -> ActorMotion:
    """Two boxes, one behind the other, with these distances between their centres."""
    xyz = np.zeros((2, len(apart_m), 3))
    xyz[1, :, 0] = apart_m
    times = np.arange(len(apart_m), dtype=np.int64) * 100_000
    poses = geometry.poses_from_xyz_yaw(xyz, np.zeros(xyz.shape[:2]))
    return ActorMotion(times, poses, np.ones(poses.shape[:2], dtype=bool))


def test_a_pair_that_comes_to_overlap_is_counted_once_with_its_first_sample():
    assert overlapping_pairs(two([6, 5, 3.5, 3, 5, 3]), SIZES) == {(0, 1): (2, pytest.approx(0.5))}


def test_a_pair_that_overlaps_at_the_start_is_left_out_for_good():
    assert overlapping_pairs(two([3, 6, 3]), SIZES) == {}


def test_touching_is_no_overlap():
    assert overlapping_pairs(two([6, 4, 4]), SIZES) == {}


def test_ego_counts_as_the_last_actor():
    scene = synthetic_scene(2, 1.0)
    motion = two([6, 6, 6])
    ego = ego_motion(scene, "recorded", motion.times_us)
    held = ego.poses.copy()
    held[1:] = motion.local_to_aabb[0, 1:]
    held[0, 1] = 50.0
    ego = type(ego)(ego.times_us, held)
    assert list(overlapping_pairs(motion, SIZES, ego, SIZES[0])) == [(0, 2)]


def test_a_braking_ego_stands_in_the_end():
    scene = EmbeddedScenes().load("straight_road")
    times = np.arange(scene.start_us, scene.end_us, 100_000)
    ego = ego_motion(scene, "brakes", times)
    recorded = ego_motion(scene, "recorded", times)
    assert np.array_equal(ego.poses[:20], recorded.poses[:20])
    assert np.allclose(ego.poses[60:], ego.poses[-1])


def test_an_unknown_ego_motion_is_refused():
    with pytest.raises(ConfigError, match="recorded, brakes, slower"):
        ego_motion(EmbeddedScenes().load("curve"), "backwards", np.array([0, 100_000]))


def test_the_cost_is_stated_against_log_replay_and_the_bare_law():
    found = cost(synthetic_scene(5, 2.0), "omniloop", "slower", 500_000, 1)
    assert found["actors"] == 5
    assert 0 < found["interval_ms"] <= found["slowest_ms"]
    each_us = found["per_actor_step_us"] * 5 * 5  # actors, and steps of 100 ms in an interval
    assert each_us == pytest.approx(1e3 * found["interval_ms"], rel=0.01, abs=1.0)
    assert np.isfinite([found["to_log_replay"], found["to_bare_law"]]).all()


def test_no_more_actors_overlap_than_in_the_recording_when_ego_brakes(shared_data):
    sources = (
        (Av2Scenes(str(shared_data / "av2")), 1),
        (NuScenesScenes(str(shared_data / "nuscenes_mini")), 4),
        (CommonRoadScenes(str(shared_data / "commonroad_ngsim")), 36),
    )
    for source, every in sources:
        found = overlaps(
            (source.load(name) for name in source.ids()[::every]), "omniloop", "brakes"
        )
        assert found["scenes"] >= {1: 3, 4: 2, 36: 3}[every]
        assert found["total"]["actors_idm"] <= found["total"]["actors_log"]
        assert found["total"]["ego_idm"] <= found["total"]["ego_log"]
