"""What a served session told of itself, back to the rollout that it served.

The public protocols have no field for it, so it goes as initial metadata of the answer to
`close_session`, between our own servers and clients alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from omniloop.runlog.results import jsonable
from omniloop.services.connection import Started
from omniloop.services.rpc import Caller

TOLD_KEY = "omniloop-session-facts"
"""Metadata of the answer: the facts as ASCII JSON."""

_LONGEST = 6000
"""gRPC allows 8 KiB of metadata; facts that do not fit are left out, and this is told."""

log = logging.getLogger("omniloop.serve")


def tell_facts(session: Any, caller: Caller) -> None:
    """Put a closed session's facts, if it has any, into the answer to its client."""
    if not caller.is_omniloop or not hasattr(session, "facts"):
        return
    try:
        text = json.dumps(jsonable(session.facts()), allow_nan=False)
    except Exception:  # a served plugin may be anybody's code; its rollout is over
        log.exception("the facts of a session cannot be told")
        return
    if len(text) > _LONGEST:
        text = json.dumps({"left_out": f"{len(text)} bytes of facts do not fit the wire"})
    caller.reply_metadata[TOLD_KEY] = text


async def closed(call: Started) -> Mapping[str, object]:
    """Await a call of `close_session`; returns what the session told of itself."""
    await call
    text = (await call.initial_metadata()).get(TOLD_KEY, "{}")
    try:
        facts = json.loads(text)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
