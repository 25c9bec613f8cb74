"""A worker process: ``python -m omniloop.runner.batch.worker FD``, started by a run.

It reads orders from a socket and writes results to it. When the run's end of the socket is
gone, the run is: the process then ends at once, whatever it does.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from omniloop.core.errors import OmniloopError, RunFolderError, ServiceError
from omniloop.runner.batch.messages import (
    beat_to_json,
    error_to_json,
    frame,
    order_from_json,
    read_frame,
)
from omniloop.runner.batch.rollouts import Rollouts
from omniloop.runner.batch.worker_core import WorkerCore
from omniloop.runner.job import Order

BEAT_S = 0.5
HUNG_EXIT = 70
_PATIENCE_S = 600.0


class _Worker:
    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._sending = threading.Lock()
        self._waiting: dict[tuple[str, str], asyncio.Future[bytes]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def alive(self) -> None:
        """Tell the run, from any thread, that this process is not frozen."""
        self._send({"tell": "alive"})

    def _send(self, document: dict[str, Any]) -> None:
        data = frame(document)
        with self._sending:
            try:
                self._link.sendall(data)
            except OSError:
                _end_all()  # the run is gone

    async def run(self) -> None:
        # The loop reads from a duplicate; threads write, and wait where the run is slow to read.
        self._link.settimeout(_PATIENCE_S)
        reader, writer = await asyncio.open_connection(sock=self._link.dup())
        hello, _ = await read_frame(reader)
        rollouts = Rollouts(hello["hang_s"], self._stands_still)
        rollouts.start()
        core = WorkerCore(rollouts)
        self._send({"tell": "ready", "pid": os.getpid()})
        beats = asyncio.create_task(self._beat(core))
        try:
            while True:
                document, data = await read_frame(reader)
                if document["do"] == "rollout":
                    self._begin(core, document)
                elif document["do"] == "cancel":
                    if (running := self._tasks.get(document["number"])) is not None:
                        running.cancel()
                elif document["do"] == "scene":
                    self._scene(document, data)
                elif document["do"] == "forget":
                    await core.forget(document["request"])
                elif document["do"] == "stop":
                    break
        finally:
            beats.cancel()
            under_way = tuple(self._tasks.values())
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            await core.close()
            writer.close()

    def _scene(self, document: dict[str, Any], data: bytes) -> None:
        waiter = self._waiting.pop((document["request"], document["scene"]), None)
        if waiter is None or waiter.done():  # its rollout was cancelled
            return
        if "error" in document:
            waiter.set_exception(ServiceError(document["error"]))
        else:
            waiter.set_result(data)

    def _begin(self, core: WorkerCore, document: dict[str, Any]) -> None:
        number = document["number"]
        task = self._tasks[number] = asyncio.create_task(self._rollout(core, document))

        def over(_: asyncio.Task[None]) -> None:
            del self._tasks[number]
            if task.cancelled():
                self._send({"tell": "cancelled", "number": number})

        task.add_done_callback(over)

    async def _rollout(self, core: WorkerCore, document: dict[str, Any]) -> None:
        number, request = document["number"], document["request"]

        async def fetch(scene_id: str) -> bytes:
            waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._waiting[request, scene_id] = waiter
            self._send({"tell": "need", "request": request, "scene": scene_id})
            return await waiter

        def simulated() -> None:
            self._send({"tell": "simulated", "number": number})

        try:
            result = await core.run(
                request, document["config"], Path(document["run_dir"]),
                order_from_json(document["order"]), fetch, simulated,
            )  # fmt: skip
            # With the last result the run knows the last of the times, too.
            self._send({"tell": "beat", "beat": beat_to_json(core.beat())})
            self._send({"tell": "ended", "number": number, "result": result.to_json()})
        except OmniloopError as error:
            self._refuse(number, error)
        except OSError as error:
            self._refuse(number, RunFolderError(
                f"cannot write the run: {error.strerror or error}", where=str(error.filename or ""),
                remedy="free some space, then go on with run.resume=true",
            ))  # fmt: skip
        except Exception as error:  # told, or the run would wait for ever
            traceback.print_exc()
            self._refuse(number, ServiceError(
                f"the worker broke down: {type(error).__name__}: {error}",
                where=order_from_json(document["order"]).job.name,
                remedy="see the traceback above; go on with run.resume=true",
            ))  # fmt: skip

    def _refuse(self, number: int, error: OmniloopError) -> None:
        self._send({"tell": "refused", "number": number, "error": error_to_json(error)})

    async def _beat(self, core: WorkerCore) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            self._send({"tell": "beat", "beat": beat_to_json(core.beat())})

    def _stands_still(self, late_s: float, orders: list[Order]) -> None:
        faulthandler.dump_traceback(all_threads=True)
        self._send({"tell": "hung", "late_s": late_s, "rollouts": [o.job.name for o in orders]})
        os._exit(HUNG_EXIT)


def _end_with_parent(parent: int, worker: _Worker) -> None:
    """End this process when its parent is gone, even while the event loop stands still."""
    while os.getppid() == parent:
        worker.alive()
        time.sleep(BEAT_S)
    _end_all()


def _end_all() -> None:
    """End this process at once, and what its plugins started."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Serve the run at the other end of the socket whose file descriptor is the argument."""
    # What goes to all processes of a job is the run's to handle; a worker ends with it. Not
    # SIG_IGN, which programs that a plugin starts would inherit.
    for sent_to_all in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sent_to_all, lambda *_: None)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    link = socket.socket(fileno=int(sys.argv[1]))
    parent = os.getppid()
    worker = _Worker(link)
    threading.Thread(
        target=_end_with_parent, args=(parent, worker), name="parent", daemon=True
    ).start()
    try:
        asyncio.run(worker.run())
    except (asyncio.IncompleteReadError, ConnectionError):
        _end_all()  # the run is gone: nothing that is under way matters


if __name__ == "__main__":
    main()
