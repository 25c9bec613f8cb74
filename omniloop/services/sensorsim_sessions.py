"""Open sessions of a renderer plugin for a protocol that has none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable

from omniloop.core.contracts import RenderSession
from omniloop.core.messages import RenderRequest, RenderResult

log = logging.getLogger("omniloop.serve")


class IdleSessions:
    """Sessions by what they were opened for; those used last are kept open.

    A plugin's session answers one call at a time, so calls at once get one each.

    Args:
        limit: How many may wait for their next call.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: list[tuple[Hashable, RenderSession]] = []
        self._drawing: set[asyncio.Future[RenderResult]] = set()

    async def render(
        self, key: Hashable, make: Callable[[], Awaitable[RenderSession]], request: RenderRequest
    ) -> RenderResult:
        """Render in an idle session, or in a new one that `make` opens.

        When the caller goes away the drawing goes on, for a thread cannot be stopped, and
        its session is used by others only after that.
        """
        drawing = asyncio.ensure_future(self._render(key, make, request))
        self._drawing.add(drawing)
        drawing.add_done_callback(self._drawing.discard)
        return await asyncio.shield(drawing)

    async def _render(
        self, key: Hashable, make: Callable[[], Awaitable[RenderSession]], request: RenderRequest
    ) -> RenderResult:
        at = next((i for i in reversed(range(len(self._idle))) if self._idle[i][0] == key), None)
        session = await make() if at is None else self._idle.pop(at)[1]
        try:
            result = await session.render(request)
        except BaseException:
            await _close(session)  # what a failed call left in it is not known
            raise
        self._idle.append((key, session))
        if len(self._idle) > self._limit:
            await _close(self._idle.pop(0)[1])
        return result

    async def aclose(self) -> None:
        """End all sessions, once what is being drawn is done."""
        await asyncio.gather(*self._drawing, return_exceptions=True)
        while self._idle:
            await _close(self._idle.pop()[1])


async def _close(session: RenderSession) -> None:
    try:
        await session.close()
    except Exception:  # it must not fail the call of another client
        log.exception("a renderer's session cannot be closed")
