"""What services behind gRPC cost: against a bare loop, against the bound, over time."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omniloop.bench.loop import resident_mib, spread
from omniloop.bench.wire_bare import BareTimes, bare_loop
from omniloop.bench.wire_servers import Role, Work, measured_work, spec_of
from omniloop.bench.wire_serving import divergence, frames_per_second
from omniloop.configs.compose import compose
from omniloop.core.cameras import select_cameras
from omniloop.core.errors import ConfigError, ServiceError
from omniloop.core.route import route_from_recording
from omniloop.core.scene import Scene
from omniloop.live.events import Event, RolloutEnded
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import Setup
from omniloop.runner.run import execute
from omniloop.scenes.embedded import synthetic_scene
from omniloop.scenes.native import write_bundle
from omniloop.services.connection import open_channels

ACTORS = 20
SIZE = (640, 352)
_PAIRS = 7
_POLICY_AT_ONCE = 8
"""Plans that the slow policy makes together, as one that batches does."""


@dataclass
class Bench:
    """Where the benches work.

    Attributes:
        folder: Scenes and runs, thrown away at the end.
        steps: Steps of a rollout at 10 Hz.
    """

    folder: Path
    steps: int
    scene: Scene = field(init=False)

    def __post_init__(self) -> None:
        self.scene = synthetic_scene(ACTORS, self.steps / 10 + 0.5)
        write_bundle(self.scene, self.folder / "scenes" / "synthetic.zip")


@dataclass
class _Ran:
    """One run of ours: from the first rollout's start to the last one's end."""

    wall_s: float
    cpu_s: float
    results: list[RolloutResult]
    in_flight: int
    most_lag_ms: float
    tasks: list[int]
    channels: list[int]
    resident_mib: list[float]

    @property
    def steps(self) -> int:
        """Decisions of all rollouts."""
        return sum(r.decisions or 0 for r in self.results)

    @property
    def ms_per_step(self) -> float:
        """Wall time over all steps."""
        return 1e3 * self.wall_s / self.steps

    @property
    def cpu_ms_per_step(self) -> float:
        """CPU time of this process over all steps."""
        return 1e3 * self.cpu_s / self.steps


def run(steps: int, parts: Sequence[str]) -> dict[str, Any]:
    """Measure the parts named.

    Args:
        steps: Steps of a rollout, 10 of them a simulated second.
        parts: Names of `PARTS`.

    Raises:
        ConfigError: a part is unknown, or `steps` too few.
    """
    unknown = [p for p in parts if p not in PARTS]
    if unknown or steps < 10:
        raise ConfigError(
            f"unknown part '{unknown[0]}'" if unknown else f"steps is {steps}",
            remedy=f"parts: {', '.join(PARTS)}; at least 10 steps",
        )
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), steps)
        return {name: PARTS[name](bench) for name in parts}


# ----------------------------------------------------------------------------- parts


def _overhead(bench: Bench) -> dict[str, Any]:
    """Ours over the bare loop against the same server process; services answer at once."""
    out: dict[str, Any] = {"target": "1 in flight <= 1.35, 8 in flight <= 1.6"}
    with servers([Role("sensor", size=SIZE), Role("driver")]) as ports:
        for in_flight in (1, 8):
            bare: list[BareTimes] = []
            ours: list[_Ran] = []
            for _ in range(_PAIRS):  # in turn, so that a slow spell of the machine meets both
                bare.append(_bare(bench, ports, in_flight))
                ours.append(_ours(bench, _per_frame(ports), in_flight, rollouts=max(2, in_flight)))
            ratios = [o.ms_per_step / b.ms_per_step for o, b in zip(ours, bare, strict=True)]
            own_cpu = min(o.cpu_ms_per_step for o in ours) - min(b.cpu_ms_per_step for b in bare)
            out[f"{in_flight} in flight"] = {
                "ratio": round(statistics.median(ratios), 3),
                "ratio_of_least": round(
                    min(o.ms_per_step for o in ours) / min(b.ms_per_step for b in bare), 3
                ),
                "ratios": sorted(round(r, 3) for r in ratios),
                "ours_ms_per_step": spread([o.ms_per_step for o in ours]),
                "bare_ms_per_step": spread([b.ms_per_step for b in bare]),
                "own_cpu_ms_per_step": round(own_cpu, 3),
            }
    return out


def _pipeline(bench: Bench) -> dict[str, Any]:
    """How near to the bound slow services are kept busy."""
    slow = Role("video", 0.118, at_once=1, size=SIZE)
    policy = Role("driver", 0.080, at_once=_POLICY_AT_ONCE)
    return {
        "target": ">= 0.95",
        "renderer 20 ms, one call at a time, 8 in flight": efficiency(
            bench, [Role("sensor", 0.020, at_once=1, size=SIZE)], Role("driver"), 8, None
        ),
        "118 ms per 8 frames, policy 80 ms, 2 renderers of 1 session": efficiency(
            bench, [slow, slow], policy, 8, 1
        ),
        "118 ms per 8 frames, policy 80 ms, 2 renderers of 4 sessions": efficiency(
            bench, [slow, slow], policy, 8, 4
        ),
    }


def _camera30(bench: Bench) -> dict[str, Any]:
    """A 30 Hz camera on a renderer of 20 ms a frame that serves 4 calls at once."""
    with servers([Role("sensor", 0.020, at_once=4, size=SIZE), Role("driver")]) as ports:
        ours = _ours(bench, [*_per_frame(ports), "renderer.fps=30"], 1, rollouts=1)
    with servers([Role("sensor", size=SIZE), Role("driver")]) as ports:
        bare = _bare(bench, ports, 1)
    allowed = 1.3 * 20.0 + bare.ms_per_step
    return {
        "target": "<= 1.3 x 20 ms + the bare loop",
        "ms_per_step": round(ours.ms_per_step, 2),
        "allowed_ms_per_step": round(allowed, 2),
        "bare_ms_per_step": round(bare.ms_per_step, 2),
    }


def _in_flight(bench: Bench) -> dict[str, Any]:
    """64 rollouts at once: steps a second against 8, and the event loop's longest lag."""
    out = {}
    with servers([Role("sensor", size=SIZE), Role("driver")]) as ports:
        for count in (8, 64):
            ran = _ours(bench, _per_frame(ports), count, rollouts=2 * count)
            out[f"{count} in flight"] = {
                "steps_per_s": round(ran.steps / ran.wall_s, 1),
                "longest_lag_ms": round(ran.most_lag_ms, 1),
            }
    return out


def _growth(bench: Bench) -> dict[str, Any]:
    """Memory, tasks and channels over 500 rollouts."""
    short = replace_steps(bench, 10)
    with servers([Role("sensor", size=SIZE), Role("driver")]) as ports:
        ran = _ours(short, _per_frame(ports), 8, rollouts=500)
    at = {n: n - 1 for n in (100, 300, 500)}
    return {
        "target": "none grows",
        "resident_mib": {n: ran.resident_mib[k] for n, k in at.items()},
        "tasks": {n: ran.tasks[k] for n, k in at.items() if n < 500},
        "channels": {n: ran.channels[k] for n, k in at.items()},
    }


def _serving(bench: Bench) -> dict[str, Any]:
    """The rasteriser served, against the same payload from a server that draws nothing."""

    def served(payload_bytes: int) -> AbstractContextManager[list[int]]:
        return servers([Role("sensor", payload_bytes=payload_bytes)])

    return frames_per_second(served)


def _divergence(bench: Bench) -> dict[str, Any]:
    """How far float32 on the wire moves the embedded scenes' rollouts."""
    runs = {}
    for name in ("float64", "float32"):
        extra = ["run.wire_precision=float32"] if name == "float32" else []
        settings = ["renderer=none", f"run.dir={bench.folder}/runs", f"run.name={name}", *extra]
        runs[name] = execute(compose(settings))
    return divergence(runs["float64"].run_dir, runs["float32"].run_dir)


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "overhead": _overhead,
    "pipeline": _pipeline,
    "camera30": _camera30,
    "in_flight": _in_flight,
    "serving": _serving,
    "divergence": _divergence,
    "growth": _growth,
}
"""What can be measured."""


# --------------------------------------------------------------------------- helpers


def replace_steps(bench: Bench, steps: int) -> Bench:
    """The same bench with rollouts of another length."""
    return Bench(bench.folder / f"steps-{steps}", steps)


@contextmanager
def servers(roles: Sequence[Role]) -> Iterator[list[int]]:
    """All of them in one process of their own; yields their ports."""
    process = subprocess.Popen(
        [sys.executable, "-m", "omniloop.bench.wire_servers", spec_of(roles)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018
    try:
        line = process.stdout.readline()
        if not line:
            raise ServiceError("the bench's servers did not start", where="omniloop bench wire")
        yield json.loads(line)
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()


def _per_frame(ports: Sequence[int]) -> list[str]:
    width, height = SIZE
    return [
        "renderer=nurec", f"renderer.address=127.0.0.1:{ports[0]}", "renderer.fps=10",
        f"renderer.width={width}", f"renderer.height={height}",
        "policy=remote", f"policy.address=127.0.0.1:{ports[1]}",
    ]  # fmt: skip


def _bare(
    bench: Bench, ports: Sequence[int], in_flight: int, chunk: int = 0, steps: int | None = None
) -> BareTimes:
    camera = select_cameras(bench.scene.cameras, None, bench.scene.id)[0]
    camera = replace(camera, model=camera.model.resized(*SIZE))
    route = route_from_recording(bench.scene.ego, bench.scene.map)
    assert route is not None  # the synthetic scene drives straight on
    addresses = (f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}")
    return bare_loop(bench.scene, camera, route, addresses, steps or bench.steps, in_flight, chunk)


def _ours(bench: Bench, settings: Sequence[str], in_flight: int, rollouts: int) -> _Ran:
    began: list[float] = []
    tasks: list[int] = []
    channels: list[int] = []
    memory: list[float] = []
    lag = _Lag()
    last = [0.0, 0.0]
    cpu: list[float] = []

    def started(setup: Setup, run_dir: Path, todo: int, done: int) -> None:
        began.append(time.perf_counter())
        cpu.append(time.process_time())

    class Watch:
        """Takes stock at the end of each rollout."""

        def tell(self, event: Event) -> None:
            if isinstance(event, RolloutEnded):
                last[:] = [time.perf_counter(), time.process_time()]
                lag.watch()
                tasks.append(len(asyncio.all_tasks()))
                channels.append(open_channels())
                memory.append(resident_mib())

    out = execute(
        compose(
            [
                "scenes=native", f"scenes.path={bench.folder}/scenes", "sync.decision_period_us=100000",
                "run.workers=1", f"run.concurrency={in_flight}", f"run.seeds={rollouts}", f"run.dir={bench.folder}/runs",
                f"run.name={time.perf_counter_ns()}", *settings,
            ]
        ),
        (Watch(),),
        started,
    )  # fmt: skip
    failed = [r for r in out.results if r.outcome != "completed"]
    if failed:
        raise ServiceError(f"a rollout failed: {failed[0].error}", where="omniloop bench wire")
    return _Ran(
        last[0] - began[0], last[1] - cpu[0], out.results, in_flight, lag.most_ms, tasks, channels,
        memory,
    )  # fmt: skip


class _Lag:
    """How late the event loop wakes a task that sleeps for 10 ms."""

    def __init__(self) -> None:
        self.most_ms = 0.0
        self._task: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Begin, once, in the running event loop."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._sleep())

    async def _sleep(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            self.most_ms = max(self.most_ms, 1e3 * (time.perf_counter() - began) - 10.0)


def efficiency(
    bench: Bench,
    renderers: Sequence[Role],
    policy: Role,
    rollouts: int,
    sessions: int | None,
    in_flight: int | None = None,
) -> dict[str, Any]:
    """The bound over the time taken, for all rollouts together, with the bound's terms.

    The bound is the larger of: a resource's work over its capacity, as the servers measured
    it; and the rollouts that one session must simulate one after the other, each as long as
    its initial frames and its steps in the bare loop, with the servers to itself.

    Args:
        sessions: Of each renderer, of chunks of 8 frames; None for frame by frame, any number.
        in_flight: Rollouts at once; all of them by default.
    """
    in_flight = in_flight or rollouts
    long = replace_steps(bench, 120)
    width, height = SIZE
    chunk = 0 if sessions is None else 8
    settings = [f"renderer.width={width}", f"renderer.height={height}", "policy=remote"]
    if sessions is None:
        settings += ["renderer=nurec", "renderer.fps=10"]
    else:
        settings += [
            "renderer=omnidreams", "renderer.first_frame=raster", f"renderer.sessions={sessions}"
        ]  # fmt: skip
    with servers([*renderers, policy]) as ports:
        path_ms = _bare(long, (ports[0], ports[-1]), 1, chunk=chunk, steps=12).ms_per_step
        before = measured_work([*renderers, policy], [f"127.0.0.1:{p}" for p in ports])
        addresses = ",".join(f"127.0.0.1:{p}" for p in ports[:-1])
        settings += [f"renderer.address={addresses}", f"policy.address=127.0.0.1:{ports[-1]}"]
        ran = _ours(long, settings, in_flight, rollouts=rollouts)
        after = measured_work([*renderers, policy], [f"127.0.0.1:{p}" for p in ports])
    work = [
        Work(a.calls - b.calls, a.held_s - b.held_s) for a, b in zip(after, before, strict=True)
    ]
    held = in_flight if sessions is None else min(in_flight, len(renderers) * sessions)
    render_s = sum(w.held_s for w in work[:-1]) / sum(w.calls for w in work[:-1])
    terms = {
        "renderers busy": sum(w.held_s for w in work[:-1]) / len(renderers) / renderers[0].at_once,
        "policy busy": work[-1].held_s / policy.at_once,
        "rollouts of one session": -(-rollouts // held)
        * (render_s + ran.steps / rollouts * path_ms / 1e3),
    }
    return {
        "efficiency": round(max(terms.values()) / ran.wall_s, 3),
        "took_s": round(ran.wall_s, 3),
        "bound_s": {name: round(value, 3) for name, value in terms.items()},
        "render_ms": round(1e3 * render_s, 2),
        "policy_ms": round(1e3 * work[-1].held_s / work[-1].calls, 2),
        "critical_path_of_a_step_ms": round(path_ms, 2),
        "steps": ran.steps // rollouts,
    }
