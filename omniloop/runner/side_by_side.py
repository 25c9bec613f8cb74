"""Many jobs in one event loop, so many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from omniloop.core.errors import RunFolderError

J = TypeVar("J")


async def side_by_side(todo: Sequence[J], at_once: int, do: Callable[[J], Awaitable[None]]) -> None:
    """Do every job, in their order as places come free; the first that raises ends them all.

    Raises:
        RunFolderError: the operating system refused a file.
        Exception: whatever a job raised.
    """
    queue = iter(todo)

    async def worker() -> None:
        for job in queue:
            await do(job)

    workers = [asyncio.create_task(worker()) for _ in range(min(at_once, len(todo)))]
    try:
        await asyncio.gather(*workers)
    except OSError as error:
        raise RunFolderError(
            f"cannot write the run: {error.strerror or error}", where=str(error.filename or ""),
            remedy="free some space, then go on with run.resume=true",
        ) from error  # fmt: skip
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
