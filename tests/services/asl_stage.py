"""Rollouts and an independent reader for the tests of ASL logs."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from omniloop.configs.compose import compose
from omniloop.core import geometry
from omniloop.core.contracts import Observation, Plan, PolicySpec
from omniloop.core.motion import Trajectory
from omniloop.runner.run import execute

WIRE = Path(__file__).parents[3] / "shared" / "wire" / "alpasim_v0.json"


class Telling:
    """Goes straight on, tells why, and has a second plan."""

    spec = PolicySpec(horizon_s=3.0, cameras=None)

    def __init__(self, stop_us: int | None = None) -> None:
        self.stop_us = stop_us

    def plan(self, observation: Observation) -> Plan:
        times = observation.time_us + np.arange(31, dtype=np.int64) * 100_000
        ahead = np.zeros((31, 7))
        ahead[:, 0] = 0.8 * np.arange(31)
        ahead[:, 6] = 1
        path = Trajectory(times, geometry.compose(observation.ego.local_to_rig[-1], ahead))
        return Plan(
            path, samples=(path, path.between(observation.time_us, observation.time_us + 1_000_000)),
            reasoning=f"go on \u2192 at {observation.time_us} us",
            terminate=self.stop_us is not None and observation.time_us >= self.stop_us,
        )  # fmt: skip


def run(folder: Path, name: str, *settings: str) -> Path:
    """Run one rollout; return its log."""
    given = [*settings, "renderer.width=64", "renderer.height=32", "run.concurrency=1"]
    finished = execute(compose([*given, f"run.dir={folder}", f"run.name={name}"]))
    assert [r.outcome for r in finished.results] == ["completed"], finished.results
    return next((folder / name).glob("rollouts/*/*/log.mcap"))


class Independent:
    """Decodes ASL logs by the public table of messages, without anything of this project."""

    def __init__(self, table: Path = WIRE) -> None:
        facts = json.loads(table.read_text())
        pool = descriptor_pool.DescriptorPool()
        file = descriptor_pb2.FileDescriptorProto(name="alpasim.proto", syntax="proto3")
        self._messages: dict[str, Any] = {}
        packages = [c for c in facts.values() if isinstance(c, dict) and c["package"]]
        self._enums = {enum for content in packages for enum in content["enums"]}
        for content in packages:
            self._add(content)
        for name in sorted(self._messages):
            # One flat file: dots of nesting become part of a message's name.
            file.message_type.append(self._messages[name])
        pool.Add(file)
        found = pool.FindMessageTypeByName(_flat("logging.LogEntry"))
        self._entry = message_factory.GetMessageClass(found)

    def _add(self, content: dict[str, Any]) -> None:
        for name, fields in content["messages"].items():
            message = descriptor_pb2.DescriptorProto(name=_flat(name))
            for field_name, (number, kind, label) in fields.items():
                field = message.field.add(name=field_name, number=number)
                field.label = field.LABEL_REPEATED if label == "repeated" else field.LABEL_OPTIONAL
                scalar = f"TYPE_{kind.upper()}"
                if hasattr(field, scalar):
                    field.type = getattr(field, scalar)
                elif kind in self._enums:
                    field.type = field.TYPE_INT32  # the same on the wire
                else:
                    field.type, field.type_name = field.TYPE_MESSAGE, f".{_flat(kind)}"
            self._messages[name] = message

    def entries(self, path: Path) -> Iterator[tuple[str, Any]]:
        """Kind and content of each entry; the file must hold whole entries and nothing else."""
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from(">I", data, at)
            body = data[at + 4 : at + 4 + length]
            assert len(body) == length, f"the entry at {at} is cut off"
            entry = self._entry.FromString(body)
            ((field, value),) = entry.ListFields()
            yield field.name, value
            at += 4 + length


def _flat(name: str) -> str:
    return name.lstrip(".").replace(".", "_")
