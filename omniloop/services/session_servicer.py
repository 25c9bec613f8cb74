"""What servers have in common whose clients name their sessions."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from omniloop.services.protos.common_pb2 import Empty
from omniloop.services.rpc import Caller, Refusal
from omniloop.services.serving import Servicer
from omniloop.services.session_facts import tell_facts
from omniloop.services.sessions import SessionTable

log = logging.getLogger("omniloop.serve")


@dataclass
class ServedSession:
    """A session of a served plugin.

    Attributes:
        plugin: What the plugin's `open` returned.
        close_error: What its end raised.
    """

    plugin: Any
    close_error: Exception | None = field(default=None, init=False)


S = TypeVar("S", bound=ServedSession)


class SessionServicer(Servicer, Generic[S]):
    """A protocol with `start_session` and `close_session`, and calls that name a session.

    Args:
        limit: Sessions at once; None for any number.
        idle_timeout_s: A session that nobody called for so long is ended.
    """

    def __init__(self, limit: int | None = None, idle_timeout_s: float = 3600.0) -> None:
        self._sessions: SessionTable[S] = SessionTable(_end, limit, idle_timeout_s)

    @contextlib.asynccontextmanager
    async def _turn(self, uuid: str) -> AsyncIterator[S]:
        """A session, while nobody else's call of it is answered.

        Raises:
            Refusal: it is unknown, or was closed while others had their turn.
        """
        session, lock = self._sessions.entry(uuid)
        async with lock:
            self._sessions.entry(uuid)
            yield session

    async def close_session(self, request: Any, caller: Caller) -> Any:
        """End a session once its calls are answered; one that is unknown has ended already."""
        uuid = request.session_uuid
        try:
            session, lock = self._sessions.entry(uuid)
        except Refusal:
            log.warning("close_session of the unknown session %s", uuid)
            return Empty()
        async with lock:
            await self._sessions.close(uuid)
        if session.close_error is not None:
            raise session.close_error
        tell_facts(session.plugin, caller)
        return Empty()

    async def sweep(self) -> None:
        """End the sessions that were idle for too long."""
        await self._sessions.sweep()

    async def aclose(self) -> None:
        """End all sessions."""
        await self._sessions.close_all()


async def _end(session: ServedSession) -> None:
    try:
        await session.plugin.close()
    except Exception as error:  # nobody may be there to hear of it
        log.exception("a session cannot be closed")
        session.close_error = error
