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
from omniloop.runner.batch.rollouts import Beat, Pulse
from omniloop.runner.batch.worker import HUNG_EXIT
from omniloop.runner.job import Order

_START_S = 120.0
_END_S = 10.0
_CANCEL_S = 5.0
"""How long a cancelled rollout's worker may take to close its sessions."""
_UNHEARD_S = 60.0
"""A worker that sends nothing for so long beyond `hang_s` is taken for frozen, and killed."""
_GUARD_S = 1.0


@dataclass
class _Call:
    source: Source
    order: Order
    simulated: Callable[[], None]
    done: asyncio.Future[RolloutResult]
    is_cancelled: bool = False


@dataclass
class _Process:
    name: str
    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    pulse: Pulse = field(default_factory=Pulse)
    silent_s: float = 0.0
    calls: dict[int, _Call] = field(default_factory=dict)
    known: dict[str, Source] = field(default_factory=dict)
    hung: frozenset[str] = frozenset()
    why: str = ""
    ears: asyncio.Task[None] | None = None
    is_stopping: bool = False

    @property
    def hears(self) -> bool:
        """Whether its answers are still listened to."""
        return self.ears is not None and not self.ears.done() and not self.ears.cancelling()


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
        self._guard = asyncio.create_task(self._watch_over())
        return tuple(sorted(names, key=lambda name: int(name.rpartition("-")[2])))

    async def replace(self, worker: str) -> str:
        """See `Executor`."""
        await self._end(self._processes.pop(worker), kill=True)
        return await self._spawn()

    async def run(
        self, worker: str, source: Source, order: Order, simulated: Callable[[], None]
    ) -> RolloutResult:
        """See `Executor`."""
        process = self._processes.get(worker)
        if process is None or process.why:  # it died while it had nothing to do
            died = _died(worker, "it is gone" if process is None else process.why)
            died.began = False
            raise died
        self._numbers += 1
        number = self._numbers
        done: asyncio.Future[RolloutResult] = asyncio.get_running_loop().create_future()
        call = process.calls[number] = _Call(source, order, simulated, done)
        process.known[source.name] = source
        document = {
            "do": "rollout", "number": number, "request": source.name, "order": order_to_json(order),
            "config": source.setup.config.model_dump_json(), "run_dir": str(source.folder.path.absolute()),
        }  # fmt: skip
        try:
            self._send(process, frame(document))
            return await asyncio.shield(done)
        except asyncio.CancelledError:  # its sessions are free once the worker has closed them
            call.is_cancelled = True
            if not done.done() and process.hears:
                self._send(process, frame({"do": "cancel", "number": number}))
                await asyncio.wait([done], timeout=_CANCEL_S)
            raise
        finally:
            done.cancel()
            process.calls.pop(number, None)

    def forget(self, source: Source) -> None:
        """See `Executor`."""
        for process in self._processes.values():
            if source.name in process.known:
                del process.known[source.name]
                self._send(process, frame({"do": "forget", "request": source.name}))

    def beats(self) -> Mapping[str, Beat]:
        """See `Executor`."""
        return {name: process.pulse.read() for name, process in self._processes.items()}

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
        try:
            found = await self._popen(name)
        except OSError as error:
            raise ServiceError(
                f"a worker process cannot be started: {error.strerror or error}", where=name,
                remedy="give fewer run.workers, or raise the limit of processes or open files",
            ) from error  # fmt: skip
        try:
            self._send(found, frame({"do": "hello", "hang_s": self._hang_s}))
            async with asyncio.timeout(_START_S):
                while (await read_frame(found.reader))[0]["tell"] != "ready":
                    pass
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            await self._end(found, kill=True)
            raise ServiceError(
                f"a worker process did not start: {_how(found.process)}", where=name,
                remedy="see what it wrote above; run.workers=1 needs none",
            ) from error  # fmt: skip
        except asyncio.CancelledError:  # the run ends before it began
            await self._end(found, kill=True)
            raise
        found.ears = asyncio.create_task(self._listen(found))
        self._processes[name] = found
        return name

    async def _popen(self, name: str) -> _Process:
        ours, theirs = socket.socketpair()
        with theirs:
            inherited = (theirs.fileno(), *(() if self._lock is None else (self._lock,)))
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", "omniloop.runner.batch.worker", str(theirs.fileno())],
                    pass_fds=inherited, stdin=subprocess.DEVNULL, stdout=sys.__stderr__ or None,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    process_group=0,  # Ctrl-C is the run's to handle
                )  # fmt: skip
            except OSError:
                ours.close()
                raise
        return _Process(name, process, *await asyncio.open_connection(sock=ours))

    def _send(self, process: _Process, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # who listens finds the worker dead
            process.writer.write(data)

    async def _listen(self, process: _Process) -> None:
        """Take what a worker tells, until it is gone."""
        why = ""
        try:
            while True:
                document, _ = await read_frame(process.reader)
                process.silent_s = 0.0
                self._told(process, document)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it is gone
        except Exception as error:  # what it tells is not to be understood
            why = f"it was ended: {type(error).__name__}: {error}"
        # Only once it is dead may another write what it wrote.
        while process.process.poll() is None and not process.is_stopping:
            process.process.kill()
            await asyncio.sleep(0.01)
        _kill_children(process.process)
        process.why = why or _how(process.process)
        for call in process.calls.values():
            if not call.done.done():
                died = _died(process.name, process.why)
                died.hung = process.hung
                call.done.set_exception(died)

    def _told(self, process: _Process, document: dict[str, object]) -> None:
        told = document["tell"]
        if told == "beat":
            process.pulse.hear(beat_from_json(document["beat"]))  # type: ignore[arg-type]
            return
        if told == "need":
            self._send_scene(process, str(document["request"]), str(document["scene"]))
            return
        if told == "alive":
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
        elif told == "cancelled":
            if call.is_cancelled:  # else the worker is ending: its death is what counts
                call.done.cancel()
        else:
            call.done.set_exception(error_from_json(document["error"]))  # type: ignore[arg-type]

    def _send_scene(self, process: _Process, request: str, scene_id: str) -> None:
        source = process.known.get(request)
        if source is None:  # it was cancelled
            return
        answer: dict[str, object] = {"do": "scene", "request": request, "scene": scene_id}
        data = b""
        try:
            data = source.setup.bundle(scene_id)
        except OmniloopError as error:  # its file is gone, or not the same any more
            answer["error"] = f"the scene cannot be read again: {error.what}"
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            answer["error"] = f"the scene cannot be read again: {told}"
        # Not waiting until it is sent: the worker may wait for its own messages to be read.
        self._send(process, frame(answer, data))

    async def _watch_over(self) -> None:
        """Kill workers of which nothing is heard though their rollouts should long have ended."""
        while True:
            await asyncio.sleep(_GUARD_S)
            for process in tuple(self._processes.values()):
                process.silent_s += _GUARD_S  # by this clock nothing passes while a run is frozen
                if process.process.poll() is not None and not process.why:
                    process.writer.transport.abort()  # a child of it may hold the socket open
                elif (
                    self._hang_s is not None
                    and process.calls
                    and process.silent_s > self._hang_s + _UNHEARD_S
                ):
                    process.hung = frozenset(c.order.job.name for c in process.calls.values())
                    process.process.kill()

    async def _end(self, process: _Process, kill: bool = False) -> None:
        process.is_stopping = True
        if kill:
            process.process.kill()
        else:
            self._send(process, frame({"do": "stop"}))
        until_s = asyncio.get_running_loop().time() + _END_S
        while process.process.poll() is None:
            if asyncio.get_running_loop().time() > until_s:
                process.process.kill()
            await asyncio.sleep(0.01)
        _kill_children(process.process)
        if process.ears is not None:
            process.ears.cancel()
        process.writer.close()


def _kill_children(process: subprocess.Popen[bytes]) -> None:
    """Kill what the plugins of a dead worker have started and left: its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _died(worker: str, why: str) -> WorkerDied:
    return WorkerDied(
        f"the worker process died: {why}", where=worker,
        remedy="see what it wrote above; its rollouts are run again by another",
    )  # fmt: skip


def _how(process: subprocess.Popen[bytes]) -> str:
    """How a process ended, in words."""
    code = process.poll()
    if code is None:
        return "it does not answer"
    if code == HUNG_EXIT:
        return "its event loop stood still"
    if code < 0:
        return f"killed by {signal.strsignal(-code) if -code > 31 else signal.Signals(-code).name}"
    return f"exit code {code}"
