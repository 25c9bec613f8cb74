"""What running many rollouts costs and gives: workers, scheduling, services, live status."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omniloop.bench.batch_kill import kills
from omniloop.bench.batch_soak import soak
from omniloop.bench.wire import Bench, efficiency
from omniloop.bench.wire_servers import Role
from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError
from omniloop.live.events import Event, RolloutEnded, RolloutStarted
from omniloop.runlog.folder import RunFolder
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import assemble
from omniloop.runner.batch.engine import Batch, Request, Rules
from omniloop.runner.batch.executor import Source
from omniloop.runner.batch.rollouts import Beat
from omniloop.runner.batch.scheduler import Address, Scheduler, Task
from omniloop.runner.job import Job, Order
from omniloop.runner.planning.plan import Service, Workload, forecast
from omniloop.runner.run import execute
from omniloop.scenes.embedded import synthetic_scene
from omniloop.scenes.native import write_bundle

_PAIRS = 3
_ROLLOUTS = 128
_QUEUED = 10_000


def run(parts: Sequence[str], moments: int, rollouts: int) -> dict[str, Any]:
    """Measure the parts named.

    Args:
        parts: Names of `PARTS`.
        moments: At how many moments each kind of process is killed.
        rollouts: Rollouts of the soak.

    Raises:
        ConfigError: a part is unknown.
    """
    parts_here: dict[str, Callable[[], dict[str, Any]]] = {
        **PARTS,
        "kill": lambda: kills(moments),
        "soak": lambda: soak(rollouts),
    }
    unknown = [part for part in parts if part not in parts_here]
    if unknown:
        raise ConfigError(f"unknown part '{unknown[0]}'", remedy=f"parts: {', '.join(parts_here)}")
    return {part: parts_here[part]() for part in parts}


class _Span:
    """From the first rollout's start to the last one's end: what starting workers takes is apart."""

    def __init__(self) -> None:
        self.first_s = self.last_s = 0.0

    def tell(self, event: Event) -> None:
        """See `omniloop.live.events.Listener`."""
        if isinstance(event, RolloutStarted) and not self.first_s:
            self.first_s = time.perf_counter()
        elif isinstance(event, RolloutEnded):
            self.last_s = time.perf_counter()


def _workers() -> dict[str, Any]:
    """Rollouts a second of two worker processes over those of one."""
    ratios, whole, rates = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(synthetic_scene(20, 10.5), Path(folder) / "scenes" / "synthetic.zip")
        for pair in range(_PAIRS):
            took = {}
            for workers in (1, 2):
                span, began = _Span(), time.perf_counter()
                execute(compose([
                    "scenes=native", f"scenes.path={folder}/scenes", "renderer=none",
                    f"run.seeds={_ROLLOUTS}", f"run.workers={workers}", f"run.concurrency={workers}",
                    f"run.dir={folder}/runs", f"run.name={pair}-{workers}",
                ]), (span,))  # fmt: skip
                took[workers] = (span.last_s - span.first_s, time.perf_counter() - began)
            ratios.append(took[1][0] / took[2][0])
            whole.append(took[1][1] / took[2][1])
            rates.append(_ROLLOUTS / took[2][0])
    return {
        "target": ">= 1.8",
        "ratio": round(statistics.median(ratios), 3),
        "ratios": sorted(round(r, 3) for r in ratios),
        "ratio_with_start_tables_and_all": round(statistics.median(whole), 3),
        "rollouts_per_s_of_two": round(max(rates), 2),
    }


def _scheduling() -> dict[str, Any]:
    """What a rollout costs besides being run, with 10,000 queued."""
    took_s = []
    for _ in range(_PAIRS):
        scheduler = Scheduler(
            [Address(s, f"{s}:{k}", 4) for s in ("renderer", "policy") for k in range(8)]
        )
        scheduler.add_request("run", {
            s: [f"{s}:{k}" for k in range(8)] for s in ("renderer", "policy")
        })  # fmt: skip
        for k in range(4):
            scheduler.add_worker(f"worker-{k}", 8)
        began = time.perf_counter()
        scheduler.submit(Task("run", f"scene-{k % 200}", k) for k in range(_QUEUED))
        held, ended, now_s = [], 0, 0.0
        while ended < _QUEUED:
            while (assignment := scheduler.next(now_s)) is not None:
                held.append(assignment)
            scheduler.simulated(held[0], now_s)
            scheduler.ended(held.pop(0), now_s)
            ended, now_s = ended + 1, now_s + 1.0
        took_s.append(time.perf_counter() - began)
    return {
        "target": "<= 2 ms a rollout at 10,000 queued",
        "scheduler_ms": round(1e3 * min(took_s) / _QUEUED, 4),
        "scheduler_and_batch_ms": round(1e3 * min(_batch_s() for _ in range(_PAIRS)) / _QUEUED, 4),
    }


class _Instant:
    """An executor whose rollouts take no time and leave nothing."""

    kind = "instant"

    async def start(self) -> tuple[str, ...]:
        return ("a", "b")

    async def run(
        self, worker: str, source: Source, order: Order, simulated: Callable[[], None]
    ) -> RolloutResult:
        await asyncio.sleep(0)
        simulated()
        return RolloutResult(order.job.scene_id, order.job.seed, order.job.name, "completed")

    async def replace(self, worker: str) -> str:
        return worker

    def forget(self, source: Source) -> None:
        return None

    def beats(self) -> Mapping[str, Beat]:
        return {}

    async def stop(self) -> None:
        return None


def _batch_s() -> float:
    """Wall time of 10,000 rollouts that take none."""
    with tempfile.TemporaryDirectory() as folder:
        setup = assemble(compose(["scenes.ids=curve", "renderer=none"]))

        async def through() -> float:
            batch = Batch(_Instant(), Rules(per_worker=8, concurrency=16))
            jobs = [Job(f"scene-{k % 200}", k) for k in range(_QUEUED)]
            with RunFolder.acquire(Path(folder) / "run") as run_folder:
                source = Source("run", setup, run_folder)
                await batch.start()
                began = time.perf_counter()
                request = Request(source, jobs, lambda job: job.name)
                batch.add(request)
                await request.done
                took_s = time.perf_counter() - began
                await batch.stop()
                return took_s

        return asyncio.run(through())


def _pipeline() -> dict[str, Any]:
    """How near to the bound unequal services are kept busy by more rollouts than they can hold."""
    video = Role("video", 0.118, at_once=1, size=(640, 352))
    policy = Role("driver", 0.080, at_once=4)
    out: dict[str, Any] = {"target": ">= 0.95"}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), 120)
        for sessions, rollouts in ((1, 6), (4, 16)):
            found = efficiency(
                bench, [video, video], policy, rollouts, sessions, in_flight=2 * sessions
            )
            found["foretold_s"] = round(_foretold_s(found, sessions, rollouts), 3)
            found["foretold_over_took"] = round(found["foretold_s"] / found["took_s"], 3)
            out[f"2 renderers of {sessions} session(s), {rollouts} rollouts"] = found
    return out


def _foretold_s(found: Mapping[str, Any], sessions: int, rollouts: int) -> float:
    """What `omniloop plan` says of a pipeline, told its service times and nothing of the run."""
    renderer = Service("renderer", found["render_ms"] / 1e3, addresses=2, sessions=sessions)
    policy = Service("policy", found["policy_ms"] / 1e3, at_once=4)
    own_ms = found["critical_path_of_a_step_ms"] - found["render_ms"] - found["policy_ms"]
    workload = Workload(
        rollouts, found["steps"], (renderer, policy), loop_s=max(own_ms, 0.0) / 1e3,
    )  # fmt: skip
    return forecast(workload, exact=True).wall_s


def _live() -> dict[str, Any]:
    """CPU time of the live publisher over that of the run."""
    from omniloop.bench.batch_live import publisher_share

    return publisher_share()


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "workers": _workers,
    "scheduling": _scheduling,
    "pipeline": _pipeline,
    "live": _live,
}
"""What can be measured, besides "kill" and "soak"."""
