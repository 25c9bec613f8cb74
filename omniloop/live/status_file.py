"""``status.json`` in the run's folder: what the run does now, rewritten about once a second."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from omniloop.live.events import Event, RunStarted
from omniloop.live.schema import Notable, RolloutMessage, encode
from omniloop.live.telling import Telling

STATUS_NAME = "status.json"

_PERIOD_S = 1.0
_MOST_UNREAD = 2_000
_KEPT = 30


class StatusFile:
    """Keeps ``status.json``; the run neither waits for the disk nor fails by it."""

    def __init__(self, notice: Callable[[str], None], period_s: float = _PERIOD_S) -> None:
        """Nothing is written before the run's start is told.

        Args:
            notice: Told in a line that the file cannot be written.
            period_s: The shortest time from one writing to the next.
        """
        self._notice = notice
        self._period_s = period_s
        self._telling = Telling()
        self._unread: deque[Event] = deque(maxlen=_MOST_UNREAD)
        self._latest: deque[Notable] = deque(maxlen=_KEPT)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._path: Path | None = None
        self._failed = False

    def tell(self, event: Event) -> None:
        """Take note of an event; returns at once and raises nothing."""
        if self._closing.is_set():
            return
        self._unread.append(event)
        if self._thread is None and isinstance(event, RunStarted):
            self._path = Path(event.run_dir) / STATUS_NAME
            self._thread = threading.Thread(target=self._work, name="omniloop-status", daemon=True)
            self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write the last state, waiting for the disk at most so long."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _work(self) -> None:
        try:
            ended = False
            while not ended:
                ended = self._closing.wait(self._period_s if self._telling.started else 0.0)
                self._read()
                self._write()
        except Exception as error:  # the run goes on whatever happens here
            self._notice(f"{STATUS_NAME} is not kept any more: {type(error).__name__}: {error}")

    def _read(self) -> None:
        while self._unread:
            for message in self._telling.take(self._unread.popleft()):
                if not isinstance(message, RolloutMessage) or message.outcome != "completed":
                    self._latest.append(message)

    def _write(self) -> None:
        assert self._path is not None
        temporary = self._path.with_name(f".{STATUS_NAME}.{os.getpid()}.tmp")
        # Not flushed to the disk as results are: after a power cut nobody asks what runs.
        try:
            temporary.write_bytes(encode(self._telling.snapshot(list(self._latest))))
            temporary.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            if not self._failed:
                self._failed = True
                self._notice(f"{self._path} cannot be written, the run goes on: {error}")
