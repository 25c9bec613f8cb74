"""What Foxglove reads: decoded by the schemas in the file alone, it shows committed states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory

from omniloop.core import geometry
from omniloop.core.motion import ActorMotion, EgoMotion, Trajectory
from omniloop.core.scene import Actor, ActorClass, Vehicle
from omniloop.runlog import views
from omniloop.runlog.proto import foxglove_pb2 as fg
from tests.runlog.samples import START_US, make_scene, play


def pose_of(message: Any) -> list[float]:
    p, q = message.position, message.orientation
    return [p.x, p.y, p.z, q.x, q.y, q.z, q.w]


def decoded(path: Path, topic: str) -> list[tuple[int, Any]]:
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        return [(m.log_time, value) for _, _, m, value in reader.iter_decoded_messages(topic)]


@given(st.integers(0, 2**34 * 10**6))
def test_a_timestamp_of_fixed_length_is_read_as_the_time(time_us: int) -> None:
    data = views.timestamp(time_us)
    assert len(data) == 12
    assert Timestamp.FromString(data).ToMicroseconds() == time_us


@given(st.lists(st.booleans(), max_size=6), st.integers(0, 2**60))
def test_a_scene_view_is_what_protobuf_itself_would_write(valid: list[bool], time_us: int) -> None:
    time_us %= 2**53
    rng = np.random.default_rng(len(valid))
    n = len(valid)
    actors = [
        Actor(f"id{i}" * (i + 1), list(ActorClass)[i % 5], "x", rng.uniform(1, 9, 3))
        for i in range(n)
    ]
    poses = geometry.poses_from_xyz_yaw(rng.normal(size=(n, 1, 3)), rng.normal(size=(n, 1)))
    motion = ActorMotion(np.array([time_us]), poses, np.array(valid, dtype=bool).reshape(n, 1))
    update = fg.SceneUpdate.FromString(views.SceneView(actors, Vehicle()).encode(motion))
    assert [d.type for d in update.deletions] == [fg.SceneEntityDeletion.ALL]
    ego, *boxes = update.entities
    assert (ego.id, ego.frame_id) == ("ego", "rig")
    assert pose_of(ego.cubes[0].pose) == Vehicle().rig_to_aabb.tolist()
    shown = [i for i in range(n) if valid[i]]
    assert [b.id for b in boxes] == [f"{actors[i].id} x" for i in shown]
    for box, i in zip(boxes, shown, strict=True):
        assert pose_of(box.cubes[0].pose) == poses[i, 0].tolist()
        size = box.cubes[0].size
        assert [size.x, size.y, size.z] == actors[i].size_m.tolist()
    stamps = {m.timestamp.ToMicroseconds() for m in (*update.deletions, *update.entities)}
    assert stamps == {time_us}


def test_transforms_are_ego_at_each_of_its_times() -> None:
    rng = np.random.default_rng(1)
    times = START_US + np.array([0, 1, 999_999, 1_000_000, 2_500_000])
    poses = geometry.poses_from_xyz_yaw(rng.normal(size=(5, 3)), rng.normal(size=5))
    message = fg.FrameTransforms.FromString(
        views.encode_transforms(EgoMotion(times, poses, np.zeros((5, 12))))
    )
    assert [t.timestamp.ToMicroseconds() for t in message.transforms] == times.tolist()
    for transform, pose in zip(message.transforms, poses.tolist(), strict=True):
        assert (transform.parent_frame_id, transform.child_frame_id) == ("local", "rig")
        p, q = transform.translation, transform.rotation
        assert [p.x, p.y, p.z, q.x, q.y, q.z, q.w] == pose


@pytest.mark.parametrize("n", [0, 1, 51])
def test_a_plan_is_shown_in_the_local_frame(n: int) -> None:
    plan = Trajectory(np.arange(n), geometry.poses_from_xyz_yaw(np.ones((n, 3)), np.arange(n) / 10))
    message = fg.PosesInFrame.FromString(views.encode_plan_view(START_US, plan))
    assert message.frame_id == "local"
    assert message.timestamp.ToMicroseconds() == START_US
    assert [pose_of(p) for p in message.poses] == plan.poses.tolist()


@pytest.mark.parametrize(
    ("image", "name"),
    [(b"\xff\xd8\xff\xe0", "jpeg"), (b"\x89PNG\r\n", "png"), (b"{}", ""), (b"", "")],
)
def test_an_image_says_its_format(image: bytes, name: str) -> None:
    assert views.image_format(image) == name


def test_a_log_decodes_by_its_own_schemas(tmp_path: Path) -> None:
    path = tmp_path / "log.mcap"
    record = play(path, scene=make_scene())
    shown = [(time_ns, value) for time_ns, value in decoded(path, "/view/scene")]
    assert shown[-1][0] == record.frontier_us * 1000
    assert len(shown[-1][1].entities) == 1 + int(record.actors.valid[:, -1].sum())
    transforms = [t for _, value in decoded(path, "/view/transforms") for t in value.transforms]
    assert [t.timestamp.ToMicroseconds() for t in transforms] == record.ego.times_us.tolist()
    assert [t.translation.x for t in transforms] == record.ego.local_to_rig[:, 0].tolist()
    images = decoded(path, "/camera/camera_front_wide_120fov")
    assert {value.format for _, value in images} == {"jpeg"}
    plans = [value for _, value in decoded(path, "/omniloop/plan")]
    flat = [p for plan in plans for p in plan.local_to_rig.poses]
    assert flat == [
        p for d in record.decisions for p in d.plan.local_to_rig.poses.reshape(-1).tolist()
    ]
