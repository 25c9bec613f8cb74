"""Sessions of a server: duplicates, strangers, limits, idleness."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

from omniloop.services.rpc import Refusal
from omniloop.services.sessions import SessionTable


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def table(
    ended: list[str], clock: Clock | None = None, limit: int | None = None
) -> SessionTable[str]:
    async def end(session: str) -> None:
        ended.append(session)

    return SessionTable(end, limit=limit, idle_timeout_s=10.0, clock=clock or Clock())


async def named(name: str) -> str:
    return name


def refused(code: StatusCode) -> pytest.RaisesExc[Refusal]:
    return pytest.RaisesExc(Refusal, check=lambda e: e.code is code)


def test_a_stranger_is_not_found() -> None:
    with refused(StatusCode.NOT_FOUND):
        table([]).entry("x")


def test_a_uuid_starts_once_even_while_it_is_starting() -> None:
    async def run() -> None:
        sessions, gate = table([]), asyncio.Event()

        async def slow() -> str:
            await gate.wait()
            return "a"

        first = asyncio.create_task(sessions.start("a", slow))
        await asyncio.sleep(0)
        with refused(StatusCode.ALREADY_EXISTS):
            await sessions.start("a", lambda: named("b"))
        gate.set()
        await first
        with refused(StatusCode.ALREADY_EXISTS):
            await sessions.start("a", lambda: named("b"))
        assert sessions.entry("a")[0] == "a"

    asyncio.run(run())


def test_a_start_that_fails_leaves_its_uuid_free() -> None:
    async def fails() -> str:
        raise ValueError("no")

    async def run() -> None:
        sessions = table([], limit=1)
        with pytest.raises(ValueError, match="no"):
            await sessions.start("a", fails)
        await sessions.start("a", lambda: named("a"))

    asyncio.run(run())


def test_an_empty_uuid_is_refused() -> None:
    with refused(StatusCode.INVALID_ARGUMENT):
        asyncio.run(table([]).start("", lambda: named("a")))


def test_closing_twice_or_a_stranger_is_no_error_and_ends_once() -> None:
    ended: list[str] = []

    async def run() -> None:
        sessions = table(ended)
        await sessions.start("a", lambda: named("a"))
        await sessions.close("a")
        await sessions.close("a")
        await sessions.close("never")

    asyncio.run(run())
    assert ended == ["a"]


def test_more_than_the_limit_is_refused_until_one_closes() -> None:
    async def run() -> None:
        sessions = table([], limit=1)
        await sessions.start("a", lambda: named("a"))
        with refused(StatusCode.RESOURCE_EXHAUSTED):
            await sessions.start("b", lambda: named("b"))
        await sessions.close("a")
        await sessions.start("b", lambda: named("b"))

    asyncio.run(run())


def test_an_idle_session_ends_and_makes_room() -> None:
    ended: list[str] = []
    clock = Clock()

    async def run() -> None:
        sessions = table(ended, clock, limit=2)
        await sessions.start("idle", lambda: named("idle"))
        await sessions.start("busy", lambda: named("busy"))
        clock.now_s = 9.0
        sessions.entry("busy")
        clock.now_s = 11.0
        await sessions.start("new", lambda: named("new"))
        assert ended == ["idle"]
        sessions.entry("busy")

    asyncio.run(run())


def test_a_session_in_the_middle_of_a_call_is_not_idle() -> None:
    ended: list[str] = []
    clock = Clock()

    async def run() -> None:
        sessions = table(ended, clock)
        await sessions.start("a", lambda: named("a"))
        _, lock = sessions.entry("a")
        async with lock:
            clock.now_s = 100.0
            await sessions.sweep()
        assert ended == []
        await sessions.sweep()
        assert ended == ["a"]

    asyncio.run(run())


def test_all_are_ended_at_shutdown() -> None:
    ended: list[str] = []

    async def run() -> None:
        sessions = table(ended)
        for name in ("a", "b"):
            await sessions.start(name, lambda name=name: named(name))
        await sessions.close_all()
        assert len(sessions) == 0

    asyncio.run(run())
    assert ended == ["a", "b"]
