"""Schemas of all channels parse on their own and carry the names that viewers know."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from mcap.reader import make_reader

from omniloop.runlog.channels import ALL_TOPICS, message_class, schema_of
from tests.runlog.samples import play

TOPICS = (*ALL_TOPICS, "/camera/front")


@pytest.mark.parametrize("topic", TOPICS)
def test_a_schema_is_complete_by_itself(topic: str) -> None:
    name, data = schema_of(topic)
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    found = pool.FindMessageTypeByName(name)
    expected = message_class(topic).DESCRIPTOR
    assert [(f.name, f.number, f.type) for f in found.fields] == [
        (f.name, f.number, f.type) for f in expected.fields
    ]


def test_views_carry_the_names_of_foxglove() -> None:
    names = {topic: schema_of(topic)[0] for topic in TOPICS if not topic.startswith("/omniloop")}
    assert names == {
        "/view/transforms": "foxglove.FrameTransforms",
        "/view/scene": "foxglove.SceneUpdate",
        "/view/plan": "foxglove.PosesInFrame",
        "/camera/front": "foxglove.CompressedImage",
    }


def test_foxglove_field_numbers_are_those_of_its_sdk() -> None:
    # github.com/foxglove/foxglove-sdk, schemas/proto/foxglove/*.proto
    expected = {
        "CompressedImage": {"timestamp": 1, "data": 2, "format": 3, "frame_id": 4},
        "FrameTransform": {
            "timestamp": 1, "parent_frame_id": 2, "child_frame_id": 3, "translation": 4, "rotation": 5,
        },
        "SceneEntity": {
            "timestamp": 1, "frame_id": 2, "id": 3, "lifetime": 4, "frame_locked": 5, "cubes": 8,
        },
        "SceneEntityDeletion": {"timestamp": 1, "type": 2, "id": 3},
        "SceneUpdate": {"deletions": 1, "entities": 2},
        "CubePrimitive": {"pose": 1, "size": 2, "color": 3},
        "PosesInFrame": {"timestamp": 1, "frame_id": 2, "poses": 3},
    }  # fmt: skip
    for topic in ("/view/transforms", "/view/scene", "/view/plan", "/camera/front"):
        for file in FileDescriptorSet.FromString(schema_of(topic)[1]).file:
            for message in file.message_type:
                if file.package == "foxglove" and message.name in expected:
                    assert {f.name: f.number for f in message.field} == expected[message.name]


def test_a_written_log_holds_every_channel_with_a_schema(tmp_path: Path) -> None:
    play(tmp_path / "log.mcap")
    with (tmp_path / "log.mcap").open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    topics = {channel.topic: channel for channel in summary.channels.values()}
    assert set(ALL_TOPICS) < set(topics)
    for topic, channel in topics.items():
        schema = summary.schemas[channel.schema_id]
        assert (channel.message_encoding, schema.encoding) == ("protobuf", "protobuf")
        assert (schema.name, schema.data) == schema_of(topic)
