from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.motion import ActorMotion, EgoMotion
from omniloop.orchestrator.world import World


def ego_at(times, x=0.0):
    times = np.array(times, dtype=np.int64)
    poses = geometry.poses_from_xyz_yaw(
        np.stack([x + times / 1e6, 0 * times, 0 * times], 1), np.zeros(len(times))
    )
    return EgoMotion(times, poses, np.zeros((len(times), 12)))


def actors_at(times, count=2):
    times = np.array(times, dtype=np.int64)
    poses = np.broadcast_to(geometry.IDENTITY, (count, len(times), 7)).copy()
    return ActorMotion(times, poses, np.ones((count, len(times)), dtype=bool))


def seeded(until=0):
    world = World(2)
    world.commit(ego_at([until]), ego_at([until]), actors_at([until]), until)
    return world


@given(st.lists(st.lists(st.integers(1, 100_000), min_size=1, max_size=6), max_size=40))
def test_timelines_only_grow_and_committed_states_never_change(intervals):
    world = seeded()
    views, copies, now = [], [], 0
    for steps in intervals:
        times = now + np.cumsum(steps)
        world.commit(ego_at(times), ego_at(times), actors_at(times), int(times[-1]))
        now = int(times[-1])
        assert world.frontier_us == now
        views.append(world.ego_true)
        copies.append((world.ego_true.times_us.copy(), world.ego_true.local_to_rig.copy()))
    for view, (times, poses) in zip(views, copies, strict=True):
        assert np.array_equal(view.times_us, times)
        assert np.array_equal(view.local_to_rig, poses)
        assert (np.diff(view.times_us) > 0).all()


def test_committed_arrays_are_read_only():
    world = seeded()
    with pytest.raises(ValueError, match="read-only"):
        world.ego_true.local_to_rig[0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        world.actors.valid[0, 0] = False


@pytest.mark.parametrize(
    ("times", "until", "message"),
    [
        ([50_000], 100_000, "ends at 50000 us, not at 100000"),
        ([0, 100_000], 100_000, "do not grow"),
        ([150_000], 150_000, "150000 us apart"),
        ([], 100_000, "ends at nothing"),
    ],
)
def test_motion_that_does_not_fit_the_frontier_is_refused(times, until, message):
    world = seeded()
    with pytest.raises(ValueError, match=message):
        world.commit(ego_at(times), ego_at(times), actors_at([until]), until)
    assert world.frontier_us == 0


def test_motion_that_is_not_finite_is_refused():
    world, bad = seeded(), ego_at([100_000], x=np.nan)
    with pytest.raises(ValueError, match="not finite"):
        world.commit(bad, bad, actors_at([100_000]), 100_000)


def test_nothing_committed_has_no_frontier():
    with pytest.raises(ValueError, match="nothing is committed"):
        _ = World(0).frontier_us
