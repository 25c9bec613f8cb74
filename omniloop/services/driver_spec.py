"""What driver clients and servers tell each other in metadata, beside the messages.

The contract revision is carla-driver-interface's (contracts.md 1.2). The rest goes between
Omniloop's own client and server only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from omniloop.core.messages import PolicySpec
from omniloop.runlog.declared import policy_document, policy_from_document
from omniloop.services.camera_codec import CameraAxes

CONTRACT_KEY = "carla-driver-interface-contract"
"""Revision of the contract: of a server with get_version, of a client with start_session."""

SPEC_KEY = "omniloop-policy-spec"
"""With get_version: what the served policy declares, as JSON."""

AVAILABLE_KEY = "omniloop-available-us"
"""With an image that reached the policy later than its shutter closed: when it did."""

_REVISIONS = tuple(int(axes.value) for axes in CameraAxes)


def axes_of_revision(metadata: Mapping[str, str]) -> CameraAxes:
    """The axes of a peer's camera poses; optical ones, as AlpaSim's, of a peer that tells none.

    Raises:
        ValueError: its revision is no number, or unknown.
    """
    told = metadata.get(CONTRACT_KEY)
    if told is None:
        return CameraAxes.OPTICAL
    try:
        revision = int(told)
    except ValueError:
        raise ValueError(f"{CONTRACT_KEY}={told!r} is not a revision") from None
    if revision not in _REVISIONS:
        raise ValueError(f"contract revision {revision} is not one of {_REVISIONS}")
    return CameraAxes(str(revision))


def spec_to_json(spec: PolicySpec) -> str:
    """A policy's declaration as ASCII text."""
    return json.dumps(policy_document(spec))


def spec_from_json(text: str) -> PolicySpec:
    """Read a declaration; what a newer peer adds is left out.

    Raises:
        ValueError: it is none.
    """
    try:
        return policy_from_document(json.loads(text))
    except ValueError as error:
        raise ValueError(f"{SPEC_KEY}={text!r} is no policy's declaration: {error}") from error
