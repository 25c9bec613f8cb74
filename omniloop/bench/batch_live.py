"""What telling a broker how a run goes costs."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omniloop.configs.compose import compose
from omniloop.core.errors import ServiceError
from omniloop.live.events import Event
from omniloop.runner.run import execute

_ROLLOUTS = 200
_TICKS = os.sysconf("SC_CLK_TCK")
_AMQTT = """
import asyncio, sys
from amqtt.broker import Broker
async def main():
    broker = Broker({"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
                     "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}})
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


class _ThreadTime:
    """CPU time of the publisher's thread, read while it lives."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.heard = 0

    def tell(self, event: Event) -> None:
        """See `omniloop.live.events.Listener`."""
        self.heard += 1
        for thread in threading.enumerate():
            if thread.name == "omniloop-mqtt" and thread.native_id is not None:
                with contextlib.suppress(OSError):
                    text = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
                    fields = text.rpartition(")")[2].split()
                    self.seconds = (int(fields[11]) + int(fields[12])) / _TICKS


def publisher_share() -> dict[str, Any]:
    """Run with a broker.

    Returns:
        The publisher's CPU time over that of the whole process, workers none.

    Raises:
        ServiceError: there is no broker to be had.
    """
    took = _ThreadTime()
    with tempfile.TemporaryDirectory() as folder, broker() as local:
        began = time.process_time()
        execute(compose([
            "renderer=none", "scenes.ids=curve,straight_road", f"run.seeds={_ROLLOUTS // 2}",
            "run.workers=1", f"run.dir={folder}", "run.name=live", f"run.mqtt=mqtt://127.0.0.1:{local.port}/bench",
        ]), (took,))  # fmt: skip
        run_s = time.process_time() - began
    return {
        "target": "<= 0.01",
        "share": round(took.seconds / run_s, 5),
        "publisher_cpu_s": round(took.seconds, 3),
        "run_cpu_s": round(run_s, 3),
        "rollouts": _ROLLOUTS,
        "events": took.heard,
    }


class LocalBroker:
    """A broker of this machine: mosquitto if it is installed, else amqtt.

    Attributes:
        port: Where it listens, also after a restart.
    """

    def __init__(self) -> None:
        self._held = hold_port()
        self.port = self._held.getsockname()[1]
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        amqtt = [sys.executable, "-c", _AMQTT, str(self.port)]
        process = subprocess.Popen(
            [found, "-p", str(self.port)] if found else amqtt,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _wait(process, self.port)
        return process

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill it, and give up its port."""
        self.kill()
        self._held.close()

    def restart(self, after_s: float) -> None:
        """Kill it, and start another in its place a little later."""
        self.kill()
        time.sleep(after_s)
        self._process = self._start()


@contextlib.contextmanager
def broker() -> Iterator[LocalBroker]:
    """A broker that ends with the block.

    Raises:
        ServiceError: there is none to be had.
    """
    found = LocalBroker()
    try:
        yield found
    finally:
        found.close()


def hold_port() -> socket.socket:
    """A free port of loopback that nobody else is given while its socket is open.

    Who asks for this very port can listen there, and listen there again: the socket does not.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as those who listen do
    held.bind(("127.0.0.1", 0))
    return held


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until_s = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until_s:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    raise ServiceError(
        "no broker started", where="omniloop bench batch live",
        remedy="install mosquitto, or pip install amqtt",
    )  # fmt: skip
