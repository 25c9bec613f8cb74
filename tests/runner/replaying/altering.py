"""Logs with one value of one message changed."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omniloop.runlog import messages as topics
from omniloop.runlog.channels import message_class
from omniloop.runlog.reader import LogReader
from omniloop.runlog.writer import LogWriter

ANSWERS = {
    "policy": topics.PLAN, "controller": topics.VEHICLE, "traffic": topics.TRAFFIC,
    "ground": topics.GROUND,
}  # fmt: skip


def rewritten(
    log: Path, out: Path, change: Callable[[str, int, bytes], bytes | None], scene: bool = True
) -> Path:
    """Copy a log message by message.

    Args:
        change: From topic, number on the topic and bytes to new bytes; None leaves a message out.
    """
    reader = LogReader(log)
    counts: dict[str, int] = {}
    with LogWriter(out) as writer:
        if scene:
            writer.scene(reader.scene_bundle())
        for message in reader.messages():
            number = counts[message.topic] = counts.get(message.topic, -1) + 1
            data = change(message.topic, number, message.data)
            if data is not None:
                writer.copy(message.topic, message.time_us, data)
    return out


def next_bit(value: float) -> float:
    """The number whose bytes differ in the lowest one."""
    (bits,) = struct.unpack("<q", struct.pack("<d", value))
    return float(struct.unpack("<d", struct.pack("<q", bits ^ 1))[0])


def numbers_of(service: str, message: Any) -> Any:
    """The numbers of an answer."""
    if service == "policy":
        return message.local_to_rig.poses
    if service == "controller":
        return message.answer.local_to_rig
    return message.answer.local_to_aabb if service == "traffic" else message.local_to_aabb


def altered(log: Path, out: Path, service: str, which: int, place: int) -> tuple[int, str]:
    """Change one byte of one answer of a service; returns its time and the column that changed."""
    topic = ANSWERS.get(service) or _camera_topic(log)
    on_topic = list(LogReader(log).messages((topic,)))
    number = which % len(on_topic)
    column = ""

    def change(name: str, at: int, data: bytes) -> bytes:
        nonlocal column
        if name != topic or at != number:
            return data
        message = message_class(topic).FromString(data)
        if service == "renderer":
            image = bytearray(message.data)
            image[place % len(image)] ^= 1
            message.data = bytes(image)
            column = f"[{place % len(image)}]"
        else:
            numbers = numbers_of(service, message)
            index = place % len(numbers)
            numbers[index] = next_bit(numbers[index])
            column = ("x_m", "y_m", "z_m", "qx", "qy", "qz", "qw")[index % 7]
        return bytes(message.SerializeToString(deterministic=True))

    rewritten(log, out, change)
    return on_topic[number].time_us, column


def _camera_topic(log: Path) -> str:
    return next(
        m.topic for m in LogReader(log).messages() if m.topic.startswith(topics.CAMERA_PREFIX)
    )
