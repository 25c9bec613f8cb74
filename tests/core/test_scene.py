from __future__ import annotations

import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.geometry import IDENTITY
from omniloop.core.motion import Trajectory
from omniloop.core.scene import Actor, ActorClass, Lane, Scene, Track, VectorMap, Vehicle


def actor(name="a"):
    return Actor(name, ActorClass.CAR, "car", np.array([4.0, 2.0, 1.5]))


def track(times, xs, valid=None, name="a"):
    poses = geometry.poses_from_xyz_yaw(np.reshape([[x, 0.0, 0.0] for x in xs], (-1, 3)), 0.0)
    seen = np.ones(len(times), dtype=bool) if valid is None else np.array(valid)
    return Track(actor(name), np.array(times, dtype=np.int64), poses, seen)


def test_the_default_vehicle_is_alpasims():
    vehicle = Vehicle()
    np.testing.assert_allclose(vehicle.size_m, [5.393, 2.109, 1.503])
    np.testing.assert_allclose(vehicle.rig_to_aabb, [1.3965, 0, 0.7515, 0, 0, 0, 1])
    # Its rear face lies 1.3 m behind the rig origin.
    assert vehicle.rig_to_aabb[0] - vehicle.length_m / 2 == pytest.approx(-1.3)


def test_a_track_is_absent_outside_its_times_and_in_its_gaps():
    poses, valid = track([10, 20, 30, 40], [0.0, 1.0, 2.0, 3.0], [True, True, False, True]).at(
        [5, 10, 15, 20, 21, 30, 39, 40, 41]
    )
    assert valid.tolist() == [False, True, True, True, False, False, False, True, False]
    np.testing.assert_allclose(poses[valid, 0], [0.0, 0.5, 1.0, 3.0])


def test_a_track_seen_once_exists_at_that_instant_only():
    assert track([10], [2.0]).at([9, 10, 11])[1].tolist() == [False, True, False]


def test_a_track_without_samples_is_absent_always():
    poses, valid = track([], []).at([0, 10])
    np.testing.assert_array_equal(poses, [IDENTITY, IDENTITY])
    assert not valid.any()


@pytest.mark.filterwarnings("error::RuntimeWarning")  # numpy's
def test_poses_of_unseen_samples_may_be_anything():
    poses = np.tile(IDENTITY, (3, 1))
    poses[1] = np.nan
    seen = Track(actor(), np.array([0, 10, 20]), poses, np.array([True, False, True]))
    assert seen.at([0, 5, 10, 20])[1].tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("times", "message"), [([0, 10, 10], "not after 10 us"), ([0, 10], "do not match|broadcast")]
)
def test_an_impossible_track_is_named(times, message):
    with pytest.raises(SceneError, match=message) as caught:
        Track(actor("veh-9"), np.array(times), np.tile(IDENTITY, (3, 1)), np.ones(3, dtype=bool))
    assert caught.value.where == "track veh-9"
    assert caught.value.remedy


def test_a_scene_gives_the_recorded_actors_at_any_times():
    ego = Trajectory(np.array([0, 100]), np.tile(IDENTITY, (2, 1)))
    tracks = (track([0, 100], [0.0, 10.0]), track([40, 60], [5.0, 7.0], name="b"))
    scene = Scene("s", "embedded", ego, tracks=tracks)
    motion = scene.recorded_actors(np.array([-1, 0, 50, 100, 101]))
    assert motion.valid.tolist() == [
        [False, True, True, True, False],
        [False, False, True, False, False],
    ]
    np.testing.assert_allclose(motion.local_to_aabb[:, 2, 0], [5.0, 6.0])
    absent = motion.local_to_aabb[~motion.valid]
    np.testing.assert_array_equal(absent, np.tile(IDENTITY, (len(absent), 1)))
    assert [a.id for a in scene.actors] == ["a", "b"]
    assert scene.actor_sizes_m.shape == (2, 3)
    assert (scene.start_us, scene.end_us) == (0, 100)


def test_a_scene_without_actors_has_empty_arrays():
    scene = Scene("s", "embedded", Trajectory(np.array([0, 1]), np.tile(IDENTITY, (2, 1))))
    assert scene.actor_sizes_m.shape == (0, 3)
    assert scene.recorded_actors(np.array([0])).local_to_aabb.shape == (0, 1, 7)


def test_lanes_are_found_by_their_ids():
    lanes = (Lane("x", np.zeros((2, 3))), Lane("y", np.ones((2, 3))))
    assert VectorMap(lanes=lanes).lane_by_id == {"x": lanes[0], "y": lanes[1]}
