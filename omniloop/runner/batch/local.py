"""Rollouts in worker processes of this machine, each with one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from omniloop.core.errors import OmniloopError, ServiceError
from omniloop.runlog.results import RolloutResult
from omniloop.runner.batch.executor import Source, WorkerDied
from omniloop.runner.batch.messages import (
    beat_from_json,
    error_from_json,
    frame,
    order_to_json,
    read_frame,
)
from omniloop.runner.batch.rollouts import Beat
from omniloop.runner.batch.worker import HUNG_EXIT
from omniloop.runner.job import Order

_START_S = 120.0
_END_S = 10.0
_UNHEARD_S = 60.0
"""A worker that sends no beat for so long beyond `hang_s` is taken for frozen, and killed."""


@dataclass
class _Call:
    source: Source
    order: Order
    simulated: Callable[[], None]
    done: asyncio.Future[RolloutResult]


@dataclass
class _Process:
    name: str
    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    beat: Beat = field(default_factory=Beat)
    heard_s: float = 0.0
    calls: dict[int, _Call] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    hung: frozenset[str] = frozenset()
    ears: asyncio.Task[None] | None = None
    is_stopping: bool = False


class LocalWorkers:
    """Runs rollouts in processes that are started anew, never forked.

    A worker that dies takes only its own rollouts along; `replace` starts another. Workers
    hold the run folder's lock as long as they live, and end when this process does.

    Args:
        count: How many.
        hang_s: After how long without an answer a rollout is given up; None for never.
        lock: File descriptor that workers inherit: the run folder's lock.
    """

    kind = "local"

    def __init__(self, count: int, hang_s: float | None, lock: int | None = None) -> None:
        self._count = count
        self._hang_s = hang_s
        self._lock = lock
        self._processes: dict[str, _Process] = {}
        self._started = 0
        self._numbers = 0
        self._guard: asyncio.Task[None] | None = None

    async def start(self) -> tuple[str, ...]:
        """See `Executor`."""
        names = await asyncio.gather(*(self._spawn() for _ in range(self._count)))
        self._guard = asyncio.create_task(self._kill_frozen())
        return tuple(sorted(names, key=lambda name: int(name.rpartition("-")[2])))

    async def replace(self, worker: str) -> str:
        """See `Executor`."""
        await self._end(self._processes.pop(worker), kill=True)
        return await self._spawn()

    async def run(
        self, worker: str, source: Source, order: Order, simulated: Callable[[], None]
    ) -> RolloutResult:
        """See `Executor`."""
        process = self._processes[worker]
        self._numbers += 1
        number = self._numbers
        done: asyncio.Future[RolloutResult] = asyncio.get_running_loop().create_future()
        process.calls[number] = _Call(source, order, simulated, done)
        process.known.add(source.name)
        document = {
            "do": "rollout", "number": number, "request": source.name, "order": order_to_json(order),
            "config": source.setup.config.model_dump_json(), "run_dir": str(source.folder.path.absolute()),
        }  # fmt: skip
        try:
            self._send(process, frame(document))
            return await done
        finally:
            process.calls.pop(number, None)

    def forget(self, source: Source) -> None:
        """See `Executor`."""
        for process in self._processes.values():
            if source.name in process.known:
                process.known.discard(source.name)
                self._send(process, frame({"do": "forget", "request": source.name}))

    def beats(self) -> Mapping[str, Beat]:
        """See `Executor`."""
        return {name: process.beat for name, process in self._processes.items()}

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by worker."""
        return {name: process.process.pid for name, process in self._processes.items()}

    async def stop(self) -> None:
        """See `Executor`."""
        if self._guard is not None:
            self._guard.cancel()
        processes = [self._processes.pop(name) for name in tuple(self._processes)]
        await asyncio.gather(*(self._end(process) for process in processes))

    async def _spawn(self) -> str:
        self._started += 1
        name = f"worker-{self._started}"
        ours, theirs = socket.socketpair()
        inherited = (theirs.fileno(), *(() if self._lock is None else (self._lock,)))
        process = subprocess.Popen(
            [sys.executable, "-m", "omniloop.runner.batch.worker", str(theirs.fileno())],
            pass_fds=inherited, stdin=subprocess.DEVNULL, stdout=sys.__stderr__ or None,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        found = _Process(name, process, reader, writer)
        self._send(found, frame({"do": "hello", "hang_s": self._hang_s}))
        try:
            async with asyncio.timeout(_START_S):
                await read_frame(reader)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            await self._end(found, kill=True)
            raise ServiceError(
                f"a worker process did not start: {_how(process)}", where=name,
                remedy="see what it wrote above; run.workers=1 needs none",
            ) from error  # fmt: skip
        found.heard_s = asyncio.get_running_loop().time()
        found.ears = asyncio.create_task(self._listen(found))
        self._processes[name] = found
        return name

    def _send(self, process: _Process, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # who listens finds the worker dead
            process.writer.write(data)

    async def _listen(self, process: _Process) -> None:
        """Take what a worker tells, until it is gone."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                document, _ = await read_frame(process.reader)
                process.heard_s = loop.time()
                await self._told(process, document)
        while process.process.poll() is None and not process.is_stopping:
            process.process.kill()
            await asyncio.sleep(0.01)
        for call in process.calls.values():
            if not call.done.done():
                died = WorkerDied(
                    f"the worker process died: {_how(process.process)}", where=process.name,
                    remedy="see what it wrote above; its rollouts are run again by another",
                )  # fmt: skip
                died.hung = process.hung
                call.done.set_exception(died)

    async def _told(self, process: _Process, document: dict[str, object]) -> None:
        told = document["tell"]
        if told == "beat":
            process.beat = beat_from_json(document["beat"])  # type: ignore[arg-type]
            return
        if told == "need":
            await self._send_scene(process, str(document["request"]), str(document["scene"]))
            return
        if told == "hung":
            process.hung = frozenset(document["rollouts"])  # type: ignore[call-overload]
            return
        call = process.calls.get(int(document["number"]))  # type: ignore[call-overload]
        if call is None or call.done.done():
            return
        if told == "simulated":
            call.simulated()
        elif told == "ended":
            call.done.set_result(RolloutResult.from_json(str(document["result"])))
        else:
            call.done.set_exception(error_from_json(document["error"]))  # type: ignore[arg-type]

    async def _send_scene(self, process: _Process, request: str, scene_id: str) -> None:
        setup = next(c.source.setup for c in process.calls.values() if c.source.name == request)
        answer: dict[str, object] = {"do": "scene", "request": request, "scene": scene_id}
        data = b""
        try:
            data = setup.bundle(scene_id)
        except OmniloopError as error:  # its file is gone, or not the same any more
            answer["error"] = f"the scene cannot be read again: {error.what}"
        self._send(process, frame(answer, data))
        with contextlib.suppress(ConnectionError):
            await process.writer.drain()

    async def _kill_frozen(self) -> None:
        """Kill workers of which nothing is heard though their rollouts should long have ended."""
        while self._hang_s is not None:
            await asyncio.sleep(1.0)
            now_s = asyncio.get_running_loop().time()
            for process in tuple(self._processes.values()):
                if process.calls and now_s - process.heard_s > self._hang_s + _UNHEARD_S:
                    process.hung = frozenset(c.order.job.name for c in process.calls.values())
                    process.process.kill()

    async def _end(self, process: _Process, kill: bool = False) -> None:
        process.is_stopping = True
        for call in process.calls.values():
            call.done.cancel()
        if kill:
            process.process.kill()
        else:
            self._send(process, frame({"do": "stop"}))
        until_s = asyncio.get_running_loop().time() + _END_S
        while process.process.poll() is None:
            if asyncio.get_running_loop().time() > until_s:
                process.process.kill()
            await asyncio.sleep(0.01)
        if process.ears is not None:
            process.ears.cancel()
        process.writer.close()


def _how(process: subprocess.Popen[bytes]) -> str:
    """How a process ended, in words."""
    code = process.poll()
    if code is None:
        return "it does not answer"
    if code == HUNG_EXIT:
        return "its event loop stood still"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
