"""Runs and their workers as the operating system shows them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

LONG_S = 300.0
"""For what should come at once; only a defect takes longer, however busy the machine is."""


def workers_of(pid: int) -> list[int]:
    """Worker processes that a process has, in the order of their start."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = []
    for child in children:
        with contextlib.suppress(OSError):
            if b"omniloop.runner.batch.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def is_dead(pid: int) -> bool:
    """Whether a process has ended, be it waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def in_session(leader: int) -> list[int]:
    """Processes of a session that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state not in "ZX":
                found.append(int(path.parent.name))
    return found


def wait_until(true: Callable[[], object]) -> None:
    """Wait for something that is not told."""
    until_s = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < until_s, "it did not come to pass"
        time.sleep(0.01)
