"""Poses as bytes: what protobuf itself reads and writes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.services.codec import poses_to_wire, trajectory_from_wire, trajectory_to_wire
from omniloop.services.pose_bytes import pose_bytes, read_trajectory, trajectory_bytes
from omniloop.services.protos.common_pb2 import Pose, PoseAtTime, Trajectory

FLOATS = st.floats(-1e4, 1e4, width=32)
ROWS = st.lists(st.tuples(*[FLOATS] * 7), min_size=1, max_size=6)


@given(ROWS)
def test_written_poses_are_read_by_protobuf(rows: list[tuple[float, ...]]) -> None:
    poses = np.array(rows, dtype=np.float64)
    read = [Pose.FromString(row.tobytes()) for row in pose_bytes(poses)]
    values = [(p.vec.x, p.vec.y, p.vec.z, p.quat.x, p.quat.y, p.quat.z, p.quat.w) for p in read]
    np.testing.assert_array_equal(values, poses)


@given(ROWS, st.integers(0, 2**63 - 10))
def test_what_is_read_at_once_is_what_protobuf_holds(
    rows: list[tuple[float, ...]], start_us: int
) -> None:
    poses = np.array(rows, dtype=np.float64)
    times = np.minimum(start_us, 2**62) + np.arange(len(rows), dtype=np.int64)
    quick = read_trajectory(trajectory_to_wire(times, poses))
    if quick is not None:
        np.testing.assert_array_equal(quick[0], times)
        np.testing.assert_array_equal(quick[1], poses)


@given(ROWS, st.integers(0, 2**62))
def test_a_trajectory_has_the_bytes_that_protobuf_reads(
    rows: list[tuple[float, ...]], start_us: int
) -> None:
    poses = np.array(rows, dtype=np.float64)
    times = start_us + np.arange(len(rows), dtype=np.int64)
    built = Trajectory(
        poses=[
            PoseAtTime(timestamp_us=t, pose=pose)
            for t, pose in zip(times.tolist(), poses_to_wire(poses), strict=True)
        ]
    )
    assert Trajectory.FromString(trajectory_bytes(times, poses)) == built


def unit_poses(count: int, z: float = 1.5) -> np.ndarray:
    poses = np.zeros((count, 7))
    poses[:, :3] = np.arange(1, count + 1)[:, None] * [1.0, 0.25, 0.0] + [0.0, 0.0, z]
    poses[:, 3:] = [0.5, 0.5, 0.5, 0.5]
    return poses


@pytest.mark.parametrize("z", [1.5, 0.0])
def test_poses_of_one_layout_are_read_at_once_also_without_a_height(z: float) -> None:
    poses, times = unit_poses(41, z), np.arange(1, 42, dtype=np.int64)
    quick = read_trajectory(trajectory_to_wire(times, poses))
    assert quick is not None
    np.testing.assert_array_equal(quick[1], poses)


def test_poses_of_several_layouts_are_read_one_by_one() -> None:
    poses, times = unit_poses(5), np.arange(1, 6, dtype=np.int64)
    poses[2, 0] = 0.0
    message = trajectory_to_wire(times, poses)
    assert read_trajectory(message) is None
    np.testing.assert_array_equal(trajectory_from_wire(message).poses, poses)


@pytest.mark.parametrize(
    "poses",
    [
        [PoseAtTime(timestamp_us=3)],
        [PoseAtTime(timestamp_us=3, pose=Pose())],
        [PoseAtTime(pose=poses_to_wire(unit_poses(1))[0])],
    ],
)
def test_a_pose_that_lacks_a_part_is_not_read_at_once(poses: list[PoseAtTime]) -> None:
    assert read_trajectory(Trajectory(poses=poses)) is None


def test_a_time_beyond_int64_is_refused() -> None:
    pose = poses_to_wire(unit_poses(1))[0]
    with pytest.raises(ValueError, match="is beyond"):
        trajectory_from_wire(Trajectory(poses=[PoseAtTime(timestamp_us=2**64 - 1, pose=pose)]))
