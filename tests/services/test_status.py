"""Statuses of failed calls become the right kind of error."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from omniloop.core.errors import (
    OmniloopError,
    PolicyError,
    SceneError,
    ServiceError,
    SessionEvicted,
    SessionLost,
    TransientError,
)
from omniloop.services.status import failure


def failed(code: StatusCode, details: str, kind: str = "traffic") -> OmniloopError:
    return failure(
        code, details, kind=kind, method="simulate", address="h:1", timeout_s=3.0,
        where="s/0, traffic.simulate at 7 us, h:1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "details", "kind", "wanted"),
    [
        (StatusCode.UNAVAILABLE, "connection refused", "policy", TransientError),
        (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", "policy", TransientError),
        (StatusCode.UNKNOWN, "Exception calling application: boom", "policy", PolicyError),
        (StatusCode.FAILED_PRECONDITION, "not enough frames", "policy", PolicyError),
        (StatusCode.UNKNOWN, "Exception calling application: boom", "traffic", ServiceError),
        (StatusCode.INVALID_ARGUMENT, "no", "controller", ServiceError),
        (StatusCode.UNKNOWN, "Exception calling application: 'Session not found: X'", "renderer", SessionEvicted),
        (StatusCode.NOT_FOUND, "Unknown session X", "policy", SessionLost),
        (StatusCode.NOT_FOUND, "Unknown scene 'x'", "ground", SceneError),
        (StatusCode.UNIMPLEMENTED, "Method not found!", "policy", ServiceError),
        (StatusCode.RESOURCE_EXHAUSTED, "1 session(s) are open", "policy", ServiceError),
        (StatusCode.UNAUTHENTICATED, "no token", "policy", ServiceError),
        (StatusCode.PERMISSION_DENIED, "not you", "policy", ServiceError),
        (StatusCode.INTERNAL, "Exception deserializing response!", "policy", ServiceError),
        (
            StatusCode.RESOURCE_EXHAUSTED,
            "CLIENT: Received message larger than max (209715200 vs. 67108864)",
            "policy",
            ServiceError,
        ),
    ],
)  # fmt: skip
def test_a_status_becomes_an_error_of_its_kind(
    code: StatusCode, details: str, kind: str, wanted: type[OmniloopError]
) -> None:
    error = failed(code, details, kind)
    assert type(error) is wanted
    assert error.where == "s/0, traffic.simulate at 7 us, h:1"


def test_a_deadline_names_its_setting() -> None:
    error = failed(StatusCode.DEADLINE_EXCEEDED, "")
    assert "did not answer simulate within 3 s" in error.what
    assert "traffic.timeouts_s.simulate" in error.remedy


def test_a_server_that_is_full_names_the_capacity() -> None:
    error = failed(StatusCode.RESOURCE_EXHAUSTED, "1 session(s) are open, which is the limit")
    assert "traffic.sessions" in error.remedy


def test_a_chunk_of_another_length_names_its_setting() -> None:
    error = failed(
        StatusCode.INVALID_ARGUMENT, "Expected exactly 5 poses (initial chunk), got 9.", "renderer"
    )
    assert "renderer.chunk" in error.remedy


def test_a_message_that_is_too_large_names_its_setting() -> None:
    error = failed(StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)")
    assert "traffic.max_message_mib" in error.remedy
