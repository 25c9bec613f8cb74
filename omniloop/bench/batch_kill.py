"""Kill a run's processes at random moments, go on, and compare with an undisturbed run."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omniloop.bench.batch_live import broker, hold_port
from omniloop.core.errors import ServiceError
from omniloop.runlog.digest import digest_run
from omniloop.runlog.results import find_results

_SETTINGS = [
    "renderer=none", "scenes.ids=curve,straight_road", "sync.duration_s=1.0", "run.seeds=8",
    "run.workers=2",
]  # fmt: skip
_LIMIT_S = 300.0


def kills(moments: int) -> dict[str, Any]:
    """Kill the run, a worker, a service, and the broker, each at so many moments.

    Returns:
        By what was killed: rollouts lost, done twice, and moments after which a digest differed;
        all three should be 0.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (begin(place / "plain")).wait(_LIMIT_S)
        plain = digest_run(place / "plain" / "run")
        out: dict[str, Any] = {"target": "0 lost, 0 twice, 0 differ", "moments": moments}
        for name, disturb in (("run", _kill_run), ("worker", _kill_worker)):
            out[name] = _tally(place / name, moments, plain, disturb)
        with served_policy() as (address, restart):
            remote = ["policy=remote", f"policy.address={address}", "policy.connect_timeout_s=30"]
            begin(place / "remote", *remote).wait(_LIMIT_S)
            there = digest_run(place / "remote" / "run")
            out["service"] = _tally(
                place / "service", moments, there, lambda p, m, f: restart(m), remote
            )
        with broker() as local:
            told = [f"run.mqtt=mqtt://127.0.0.1:{local.port}/bench"]
            out["broker"] = _tally(
                place / "broker", moments, plain,
                lambda p, m, f: local.restart(m.uniform(0.0, 0.5)), told,
            )  # fmt: skip
    return out


Disturb = Callable[["subprocess.Popen[bytes]", random.Random, Path], None]


def begin(folder: Path, *settings: str) -> subprocess.Popen[bytes]:
    """Start a run in a process of its own, or go on with it."""
    return subprocess.Popen(
        [sys.executable, "-m", "omniloop.cli.main", "run", *_SETTINGS, f"run.dir={folder}",
         "run.name=run", "run.resume=true", *settings],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def workers_of(pid: int) -> list[int]:
    """Process ids of a run's workers."""
    with contextlib.suppress(OSError):
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _kill_run(process: subprocess.Popen[bytes], moment: random.Random, folder: Path) -> None:
    process.kill()


def _kill_worker(process: subprocess.Popen[bytes], moment: random.Random, folder: Path) -> None:
    workers = workers_of(process.pid)
    if workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(moment.choice(workers), signal.SIGKILL)


def _tally(
    folder: Path, moments: int, plain: list[tuple[str, str]], disturb: Disturb, more: list[str] | None = None
) -> dict[str, int]:  # fmt: skip
    lost = twice = differ = 0
    for number in range(moments):
        moment, place = random.Random(number), folder / str(number)
        process = begin(place, *(more or ()))
        _wait_for(place, moment.randrange(0, 12), process)
        time.sleep(moment.uniform(0.0, 0.1))
        disturb(process, moment, place)
        process.wait(_LIMIT_S)
        before = {r.key: r for r in find_results(place / "run").results}
        again = begin(place, *(more or ()))
        again.wait(_LIMIT_S)
        after = {r.key: r for r in find_results(place / "run").results}
        lost += len(plain) - len(after)
        twice += sum(
            after.get(key) != result
            for key, result in before.items()
            if result.outcome == "completed"
        )
        differ += digest_run(place / "run") != plain
    return {"lost": lost, "twice": twice, "differ": differ}


def _wait_for(folder: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + _LIMIT_S
    while len(list(folder.glob("run/rollouts/*/*/result.json"))) < count:
        if process.poll() is not None:
            return
        if time.monotonic() > until_s:
            raise ServiceError("the run stands still", where=str(folder))
        time.sleep(0.005)


@contextlib.contextmanager
def served_policy() -> Any:
    """A served policy; yields its address, and what kills it and starts another in its place."""
    running: list[subprocess.Popen[str]] = []

    def start(port: int) -> int:
        process = subprocess.Popen(
            [sys.executable, "-m", "omniloop.cli.main", "serve", "policy", "policy=constant_velocity",
             "--port", str(port)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("serving"):
            raise ServiceError("omniloop serve policy did not start", where="omniloop bench batch")
        return int(line.split(" at ")[1].split(" ")[0].rpartition(":")[2])

    held = hold_port()

    def restart(moment: random.Random) -> None:
        running[-1].kill()
        running[-1].wait()
        time.sleep(moment.uniform(0.0, 0.3))
        start(port)

    try:
        port = start(held.getsockname()[1])
        yield f"127.0.0.1:{port}", restart
    finally:
        for process in running:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        held.close()
