"""How a failed call becomes one of Omniloop's errors.

The taxonomy: retryable (`TransientError`), the session is gone (`SessionLost`), the scene
(`SceneError`), the policy (`PolicyError`), and permanent (`ServiceError`).
"""

from __future__ import annotations

import re

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

_LOST = re.compile(r"(unknown session|session not found|no such session)", re.IGNORECASE)
"""FlashDreams answers UNKNOWN "Session not found: X", carla-driver-interface NOT_FOUND
"Unknown session X" (contracts.md 1.3, 2.5)."""

POLICY_PREFIX = "PolicyError: "
"""How our servers say that the policy is to blame: a controller that cannot follow its plan."""

_TOO_LARGE = re.compile(r"(larger than max|message exceeds|exceeds maximum)", re.IGNORECASE)
_UNREADABLE = re.compile(r"deserializ", re.IGNORECASE)
_POSES = re.compile(r"Expected exactly \d+ poses")
"""FlashDreams' answer to a chunk of another length than its own (contracts.md 1.3)."""

_BROKEN = (StatusCode.UNAVAILABLE, StatusCode.CANCELLED)
_LOCKED = (StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED)


def failure(
    code: StatusCode,
    details: str,
    *,
    kind: str,
    method: str,
    address: str,
    timeout_s: float,
    where: str,
) -> OmniloopError:
    """The error of a call that ended with a status other than OK.

    Args:
        kind: Which service of a rollout was called: "policy", "renderer", ...
        timeout_s: The deadline that the call had.
        where: Rollout, service, method, simulated time and address.
    """
    said = f"{code.name} {details!r}" if details else code.name
    if code is StatusCode.DEADLINE_EXCEEDED:
        return TransientError(
            f"{kind} did not answer {method} within {timeout_s:g} s", where=where,
            remedy=f"see whether the server hangs, or raise {kind}.timeouts_s.{method}",
        )  # fmt: skip
    if code in _BROKEN:
        return TransientError(
            f"{kind} cannot be reached: {said}", where=where,
            remedy=f"check that the server at {address} runs, and its log",
        )  # fmt: skip
    if code is StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE.search(details):
        return ServiceError(
            f"a message of {method} is too large: {details}", where=where,
            remedy=f"raise {kind}.max_message_mib if messages of this size are right",
        )  # fmt: skip
    if code is StatusCode.RESOURCE_EXHAUSTED:  # a full server says nothing about the policy
        return ServiceError(
            f"{kind} takes no more: {said}", where=where,
            remedy=f"set {kind}.sessions to what {address} takes, so that rollouts wait for their turn",
        )  # fmt: skip
    if code in _LOCKED:
        return ServiceError(
            f"{kind} lets nobody in: {said}", where=where, remedy=f"see {kind}.tls, and its log"
        )
    if code is StatusCode.UNIMPLEMENTED:
        return ServiceError(
            f"{kind} does not implement {method}: {said}", where=where,
            remedy=f"check that {address} serves this protocol, and in the same version",
        )  # fmt: skip
    if _UNREADABLE.search(details):
        return ServiceError(
            f"{kind} and Omniloop cannot read each other's {method}: {said}", where=where,
            remedy="the server speaks another version of the protocol; see its get_version",
        )  # fmt: skip
    if _LOST.search(details):
        lost = SessionEvicted if kind == "renderer" else SessionLost
        return lost(
            f"{kind} lost the session: {said}", where=where,
            remedy="it was restarted, or another client took its place: give it to one run at a time",
        )  # fmt: skip
    if code is StatusCode.NOT_FOUND and "scene" in details.lower():
        return SceneError(
            f"{kind} does not have the scene: {details}", where=where,
            remedy="serve the scenes that are run",
        )  # fmt: skip
    if details.startswith(POLICY_PREFIX):
        return PolicyError(details.removeprefix(POLICY_PREFIX), where=where)
    if _POSES.search(details):
        return ServiceError(
            f"{kind} failed in {method}: {said}", where=where,
            remedy=f"set {kind}.chunk to the frames that {address} makes at a time",
        )  # fmt: skip
    # What is left is the peer's own judgement: its code raised, or it refuses what it got.
    broken = PolicyError if kind == "policy" else ServiceError
    return broken(f"{kind} failed in {method}: {said}", where=where)
