"""Methods of the wire interface, read from the compiled service descriptors."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import omniloop
from omniloop.services.protos.common_pb2 import VersionId

API_VERSION = (0, 55, 0)
"""The revision of the public v0 interface that is spoken (carla-driver-interface 2.3.1's)."""

VERSION_KEY = "omniloop-version"
"""Metadata by which Omniloop's own clients and servers know each other."""

SESSION_KEY = "omniloop-session"
"""Metadata of a start: the rollout's name, ``<scene>/<seed>``, percent-encoded."""

MIB = 1 << 20

MAX_MESSAGE_MIB = 2047
"""gRPC holds the limit of a message in an int32."""


@dataclass(frozen=True)
class Method:
    """One unary method.

    Attributes:
        path: ``/<package>.<Service>/<method>``.
        request, reply: Message classes.
    """

    name: str
    path: str
    request: type[Message]
    reply: type[Message]


@functools.cache
def methods_of(service: ServiceDescriptor) -> dict[str, Method]:
    """The methods of a service by name."""
    return {
        m.name: Method(
            m.name,
            f"/{service.full_name}/{m.name}",
            GetMessageClass(m.input_type),
            GetMessageClass(m.output_type),
        )
        for m in service.methods
    }


class Refusal(Exception):
    """A server refuses a call: the status code and details that the caller gets."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


@dataclass
class Caller:
    """Who calls a server's method.

    Attributes:
        metadata: What the caller sent.
        reply_metadata: What goes back as initial metadata.
    """

    metadata: Mapping[str, str] = field(default_factory=dict)
    reply_metadata: dict[str, str] = field(default_factory=dict)

    @property
    def is_omniloop(self) -> bool:
        """Whether the caller is a client of this project, which understands its extensions."""
        return VERSION_KEY in self.metadata

    @property
    def session_name(self) -> str | None:
        """The rollout's name, if the caller tells it."""
        name = self.metadata.get(SESSION_KEY)
        return None if name is None else unquote(name)


def session_metadata(session_id: str) -> tuple[tuple[str, str], ...]:
    """What our clients send with the start of a session."""
    return ((SESSION_KEY, quote(session_id, safe="/")),)


def own_version(served: str = "") -> VersionId:
    """The version that our servers report, with what they serve."""
    major, minor, patch = API_VERSION
    api = VersionId.APIVersion(major=major, minor=minor, patch=patch)
    name = f"omniloop {omniloop.__version__} {served}".strip()
    return VersionId(version_id=name, grpc_api_version=api)


def version_facts(version: Any) -> dict[str, str]:
    """A version as run.yaml holds it."""
    api = version.grpc_api_version
    return {
        "version_id": version.version_id,
        "git_hash": version.git_hash,
        "api": f"{api.major}.{api.minor}.{api.patch}",
    }
