"""What a run and its workers tell each other: JSON with, at times, bytes behind it.

A frame is two 32-bit big-endian lengths, of the JSON and of the bytes, and then both.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from omniloop.core.errors import (
    ConfigError,
    OmniloopError,
    PluginError,
    RunFolderError,
    SceneError,
    ServiceError,
)
from omniloop.runner.batch.rollouts import Beat, ServiceUse
from omniloop.runner.job import Job, Order

_LENGTHS = struct.Struct(">II")

_ERRORS = {
    kind.__name__: kind for kind in (ConfigError, SceneError, PluginError, ServiceError, RunFolderError)
}  # fmt: skip


def frame(document: Mapping[str, Any], data: bytes = b"") -> bytes:
    """A message as it is sent."""
    # In ASCII, as a path that is not UTF-8 holds what cannot be encoded.
    text = json.dumps(document, separators=(",", ":")).encode("ascii")
    return b"".join((_LENGTHS.pack(len(text), len(data)), text, data))


async def read_frame(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    """The next message.

    Raises:
        asyncio.IncompleteReadError: the other side is gone.
    """
    text, data = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
    document: dict[str, Any] = json.loads(await reader.readexactly(text))
    return document, await reader.readexactly(data)


def order_to_json(order: Order) -> dict[str, Any]:
    """An order as JSON."""
    return asdict(order)


def order_from_json(document: Mapping[str, Any]) -> Order:
    """An order from JSON."""
    return Order(**{**document, "job": Job(**document["job"])})


def error_to_json(error: OmniloopError) -> dict[str, str]:
    """An error as JSON, of the nearest kind that the other side knows."""
    kind = next((k.__name__ for k in type(error).__mro__ if k.__name__ in _ERRORS), "ServiceError")
    return {"type": kind, "what": error.what, "where": error.where, "remedy": error.remedy}


def error_from_json(document: Mapping[str, str]) -> OmniloopError:
    """An error from JSON."""
    kind = _ERRORS[document["type"]]
    return kind(document["what"], where=document["where"], remedy=document["remedy"])


def beat_to_json(beat: Beat) -> dict[str, Any]:
    """A beat as JSON."""
    return asdict(beat)


def beat_from_json(document: Mapping[str, Any]) -> Beat:
    """A beat from JSON."""
    services = tuple(ServiceUse(**use) for use in document["services"])
    return Beat(**{**document, "services": services})
