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
from pathlib import Path
from typing import Any

from omniloop.core.errors import OmniloopError, ServiceError
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

    def _send(self, document: dict[str, Any]) -> None:
        data = frame(document)
        with self._sending:
            try:
                self._link.sendall(data)
            except OSError:
                os._exit(1)  # the run is gone

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
                    task = asyncio.create_task(self._rollout(core, document))
                    self._tasks[document["number"]] = task
                elif document["do"] == "scene":
                    self._scene(document, data)
                elif document["do"] == "forget":
                    core.forget(document["request"])
                elif document["do"] == "stop":
                    break
        finally:
            beats.cancel()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            await core.close()
            writer.close()

    def _scene(self, document: dict[str, Any], data: bytes) -> None:
        waiter = self._waiting.pop((document["request"], document["scene"]))
        if waiter.done():
            return
        if "error" in document:
            waiter.set_exception(ServiceError(document["error"]))
        else:
            waiter.set_result(data)

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
            self._send({"tell": "ended", "number": number, "result": result.to_json()})
        except OmniloopError as error:
            self._send({"tell": "refused", "number": number, "error": error_to_json(error)})
        except OSError as error:
            told = {
                "type": "RunFolderError", "what": f"cannot write the run: {error.strerror or error}",
                "where": str(error.filename or ""),
                "remedy": "free some space, then go on with run.resume=true",
            }  # fmt: skip
            self._send({"tell": "refused", "number": number, "error": told})
        finally:
            del self._tasks[number]

    async def _beat(self, core: WorkerCore) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            self._send({"tell": "beat", "beat": beat_to_json(core.beat())})

    def _stands_still(self, late_s: float, orders: list[Order]) -> None:
        faulthandler.dump_traceback(all_threads=True)
        self._send({"tell": "hung", "late_s": late_s, "rollouts": [o.job.name for o in orders]})
        os._exit(HUNG_EXIT)


def _end_with_parent(parent: int) -> None:
    """End this process when its parent is gone, even while the event loop stands still."""
    while os.getppid() == parent:
        time.sleep(BEAT_S)
    os._exit(1)


def main() -> None:
    """Serve the run at the other end of the socket whose file descriptor is the argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's to handle
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    link = socket.socket(fileno=int(sys.argv[1]))
    parent = os.getppid()
    threading.Thread(target=_end_with_parent, args=(parent,), name="parent", daemon=True).start()
    try:
        asyncio.run(_Worker(link).run())
    except (asyncio.IncompleteReadError, ConnectionError):
        os._exit(1)  # the run is gone: nothing that is under way matters


if __name__ == "__main__":
    main()
