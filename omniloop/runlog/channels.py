"""Channels of the log: for each topic, the schema that its messages have."""

from __future__ import annotations

import functools
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from mcap_protobuf.schema import build_file_descriptor_set

from omniloop.runlog import messages as topics
from omniloop.runlog.codec import MESSAGES
from omniloop.runlog.proto import foxglove_pb2 as fg

_OWN_PACKAGE = "omniloop.log.v1.foxglove"

VIEWS: dict[str, Any] = {
    topics.VIEW_TRANSFORMS: fg.FrameTransforms,
    topics.VIEW_SCENE: fg.SceneUpdate,
    topics.VIEW_PLAN: fg.PosesInFrame,
}
"""Topic to message class, for every topic below ``/view/``."""

ALL_TOPICS: tuple[str, ...] = (*MESSAGES, *VIEWS)
"""Every topic but those of cameras, in the order of their channels."""


def message_class(topic: str) -> Any:
    """The generated class of a topic's messages."""
    if topic.startswith(topics.CAMERA_PREFIX):
        return fg.CompressedImage
    return MESSAGES.get(topic) or VIEWS[topic]


@functools.cache
def schema_of(topic: str) -> tuple[str, bytes]:
    """Name and serialised ``FileDescriptorSet`` of a topic's messages.

    The set holds only the messages that the topic needs: MCAP stores it once per
    channel, and the whole file would add 50 kB to every log.
    """
    return _schema(message_class(topic))


@functools.cache
def _schema(kind: Any) -> tuple[str, bytes]:
    files = build_file_descriptor_set(kind)
    needed = _reachable(kind.DESCRIPTOR)
    for file in files.file:
        kept = [m for m in file.message_type if f"{file.package}.{m.name}" in needed]
        del file.message_type[:]
        file.message_type.extend(kept)
        if file.package == _OWN_PACKAGE:
            _rename_package(file)
    name: str = kind.DESCRIPTOR.full_name.replace(_OWN_PACKAGE, "foxglove", 1)
    return name, files.SerializeToString(deterministic=True)


def _reachable(root: Descriptor) -> set[str]:
    """Full names of a message and of those that its fields hold."""
    found: set[str] = set()
    waiting = [root]
    while waiting:
        message = waiting.pop()
        if message.full_name not in found:
            found.add(message.full_name)
            waiting += [f.message_type for f in message.fields if f.message_type is not None]
    return found


def _rename_package(file: FileDescriptorProto) -> None:
    """Give the Foxglove schemas the package that Foxglove knows them by."""
    file.package = "foxglove"
    file.name = "omniloop/foxglove.proto"
    for message in file.message_type:
        for field in message.field:
            if field.type_name.startswith(f".{_OWN_PACKAGE}."):
                field.type_name = field.type_name.replace(_OWN_PACKAGE, "foxglove", 1)
