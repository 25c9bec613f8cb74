"""A recorder that writes while services are waited for."""

from __future__ import annotations

import asyncio

import pytest

from omniloop.core.contracts import CameraFrame
from omniloop.core.errors import RunFolderError
from omniloop.runlog.deferred import DeferredRecorder


class Log:
    """Keeps the order of what it is told, and fails on request."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.told: list[str] = []
        self._fails_at = fails_at

    def __getattr__(self, kind: str):
        def tell(*arguments: object) -> None:
            if len(self.told) == self._fails_at:
                raise RunFolderError("the disk is full")
            self.told.append(kind)

        return tell


def frame() -> CameraFrame:
    return CameraFrame("front", b"x", 0, 0, 0)


def test_messages_wait_until_the_loop_turns_and_keep_their_order() -> None:
    async def run() -> None:
        log = Log()
        recorder = DeferredRecorder(log)
        recorder.vehicle(None, None)
        recorder.commit(0, None, None, None)
        assert log.told == []
        await asyncio.sleep(0.001)
        assert log.told == ["vehicle", "commit"]

    asyncio.run(run())


def test_what_is_started_after_a_message_is_on_its_way_before_it_is_written() -> None:
    async def run() -> list[str]:
        log = Log()
        recorder = DeferredRecorder(log)
        order: list[str] = log.told

        async def call() -> None:
            order.append("call begins")
            await asyncio.sleep(0.001)
            order.append("call ends")

        recorder.render_request(0, None)
        await asyncio.create_task(call())
        return order

    assert asyncio.run(run()) == ["call begins", "render_request", "call ends"]


def test_answers_of_plugins_are_written_before_the_next_decision() -> None:
    async def run() -> None:
        log = Log()
        recorder = DeferredRecorder(log)
        recorder.traffic(0, None)
        recorder.observation(None)
        assert log.told == ["traffic"]
        recorder.frame(frame())
        recorder.flush()
        assert log.told == ["traffic", "observation", "frame"]

    asyncio.run(run())


def test_a_log_that_cannot_be_written_ends_the_rollout_at_its_next_message() -> None:
    async def run() -> None:
        recorder = DeferredRecorder(Log(fails_at=1))
        recorder.frame(frame())
        recorder.frame(frame())
        await asyncio.sleep(0.001)
        with pytest.raises(RunFolderError, match="disk is full"):
            recorder.frame(frame())

    asyncio.run(run())


def test_a_failure_is_raised_by_the_last_flush() -> None:
    async def run() -> None:
        recorder = DeferredRecorder(Log(fails_at=0))
        recorder.end(0, "")
        with pytest.raises(RunFolderError):
            recorder.flush()

    asyncio.run(run())
