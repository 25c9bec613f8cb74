"""A real broker as a process: mosquitto where it is installed, else amqtt.

``OMNILOOP_TEST_BROKER=amqtt`` has amqtt taken though mosquitto is there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from omniloop.bench.batch_live import hold_port


def mosquitto() -> str | None:
    if os.environ.get("OMNILOOP_TEST_BROKER") == "amqtt":
        return None
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


_HELD: list[socket.socket] = []


def free_port() -> int:
    """A port at which nobody listens and that no other process is given, until this one ends.

    A socket that does not listen holds it. Only who asks for this very port can listen there
    beside it (SO_REUSEADDR, which servers set); before that, connections are refused.
    """
    _HELD.append(hold_port())
    port: int = _HELD[-1].getsockname()[1]
    return port


class Gate:
    """A port of its own that leads to a broker while it is open, to cut one client off."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._target, self._prefix = broker.port, broker.prefix
        self.port = free_port()
        self._changing = threading.Lock()
        self._ends: list[socket.socket] = []
        self._listener: socket.socket | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}/{self._prefix}"

    def open(self) -> Gate:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def close(self) -> None:
        with self._changing:
            assert self._listener is not None
            for end in (self._listener, *self._ends):
                self._cut(end)
            self._ends.clear()
            self._listener = None

    @staticmethod
    def _cut(end: socket.socket) -> None:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                with self._changing:
                    if self._listener is not listener:  # it was closed meanwhile
                        self._cut(near)
                        self._cut(far)
                        return
                    self._ends += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


@dataclass
class BrokerProcess:
    folder: Path
    user: str | None = None
    password: str | None = None
    tls: tuple[Path, Path] | None = None
    port: int = field(default_factory=free_port)
    prefix: str = "test"
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}/{self.prefix}"

    def start(self) -> BrokerProcess:
        self.folder.mkdir(parents=True, exist_ok=True)
        program = mosquitto()
        command = self._mosquitto(program) if program else self._amqtt()
        self._log = (self.folder / "log.txt").open("ab")
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        until = time.monotonic() + 150
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 60).close()
                return self
            except OSError:
                assert self._process.poll() is None, (self.folder / "log.txt").read_text()
                assert time.monotonic() < until, "the broker does not listen"
                time.sleep(0.02)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def suspend(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(how)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self._log.close()

    def _mosquitto(self, program: str) -> list[str]:
        lines = [f"listener {self.port} 127.0.0.1"]
        if os.getuid() == 0:
            lines.append("user root")
        if self.user is None:
            lines.append("allow_anonymous true")
        else:
            file = self.folder / "passwords"
            make = [str(Path(program).with_name("mosquitto_passwd")), "-b", "-c", str(file)]
            if not Path(make[0]).exists():
                make[0] = "mosquitto_passwd"
            subprocess.run([*make, self.user, str(self.password)], check=True, capture_output=True)
            lines += ["allow_anonymous false", f"password_file {file}"]
        if self.tls:
            lines += [f"certfile {self.tls[0]}", f"keyfile {self.tls[1]}"]
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        return [program, "-c", str(config)]

    def _amqtt(self) -> list[str]:
        listener: dict[str, object] = {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}
        if self.tls:
            listener |= {"ssl": True, "certfile": str(self.tls[0]), "keyfile": str(self.tls[1])}
        plugins: dict[str, object] = {
            "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": not self.user}
        }
        if self.user:
            from pwdlib.hashers.argon2 import Argon2Hasher

            file = self.folder / "passwords"
            file.write_text(f"{self.user}:{Argon2Hasher().hash(str(self.password))}\n")
            plugins = {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(file)}}
        config = self.folder / "amqtt.yaml"
        config.write_text(yaml.safe_dump({"listeners": {"default": listener}, "plugins": plugins}))
        return [
            sys.executable,
            str(Path(__file__).with_name("amqtt_process.py")),
            "-c",
            str(config),
        ]
