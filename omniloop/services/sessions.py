"""Sessions on the server's side: known by uuid, limited in number, ended when idle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from grpc import StatusCode

from omniloop.services.rpc import Refusal

S = TypeVar("S")


@dataclass
class _Entry(Generic[S]):
    session: S
    used_s: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class SessionTable(Generic[S]):
    """The open sessions of a server; status codes are those of carla-driver-interface.

    Args:
        limit: How many may be open at once; None for any number.
        idle_timeout_s: A session that nobody called for so long is ended.
        end: Ends a session: called when it is closed, idle, or at shutdown.
    """

    def __init__(
        self,
        end: Callable[[S], Awaitable[None]],
        limit: int | None = None,
        idle_timeout_s: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._end = end
        self._limit = limit
        self._idle_timeout_s = idle_timeout_s
        self._clock = clock
        self._open: dict[str, _Entry[S]] = {}
        self._opening: set[str] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def start(self, uuid: str, make: Callable[[], Awaitable[S]]) -> S:
        """Open a session.

        Raises:
            Refusal: the uuid is empty (INVALID_ARGUMENT) or known (ALREADY_EXISTS), or as
                many as may be are open (RESOURCE_EXHAUSTED).
        """
        await self.sweep()
        if not uuid:
            raise Refusal(StatusCode.INVALID_ARGUMENT, "session_uuid is empty")
        if uuid in self._open or uuid in self._opening:
            raise Refusal(StatusCode.ALREADY_EXISTS, f"Session {uuid} exists already")
        if self._limit is not None and len(self._open) + len(self._opening) >= self._limit:
            raise Refusal(
                StatusCode.RESOURCE_EXHAUSTED,
                f"{self._limit} session(s) are open, which is the limit; close one, or raise --max-sessions",
            )
        self._opening.add(uuid)
        try:
            session = await make()
        finally:
            self._opening.discard(uuid)
        self._open[uuid] = _Entry(session, self._clock())
        return session

    def entry(self, uuid: str) -> tuple[S, asyncio.Lock]:
        """A session and the lock under which its calls follow one another.

        Raises:
            Refusal: it is unknown (NOT_FOUND).
        """
        found = self._open.get(uuid)
        if found is None:
            raise Refusal(StatusCode.NOT_FOUND, f"Unknown session {uuid}")
        found.used_s = self._clock()
        return found.session, found.lock

    async def close(self, uuid: str) -> None:
        """End a session; one that is unknown is ended already."""
        found = self._open.pop(uuid, None)
        if found is not None:
            await self._end(found.session)

    async def sweep(self) -> None:
        """End the sessions that were idle for too long."""
        now = self._clock()
        for uuid in [
            u
            for u, e in self._open.items()
            if now - e.used_s > self._idle_timeout_s and not e.lock.locked()
        ]:
            await self.close(uuid)

    async def close_all(self) -> None:
        """End every session."""
        for uuid in list(self._open):
            await self.close(uuid)
