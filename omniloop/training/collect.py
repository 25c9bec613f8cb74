"""Make shards: roll out a taught policy over many scenes, frame by frame at 5 Hz.

Rollouts go through the same services and the same loop as a run's, without log and scores. A
rollout whose shard is there is not made again, so that an interrupted collection goes on.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omniloop.core.calls import CallFunnel
from omniloop.core.contracts import CameraFrame, Observation
from omniloop.core.errors import OmniloopError, SceneError
from omniloop.core.geometry import Array
from omniloop.core.record import Decision
from omniloop.policies.wam import inputs
from omniloop.scenes.rig import FRONT_TELE, FRONT_WIDE
from omniloop.training.shards import HEIGHT, WIDTH, Shard, write_shard

if TYPE_CHECKING:
    from omniloop.runner.assemble import Setup

PERIOD_US = 200_000
"""Between decisions, and between frames."""

_BATCH = 8
"""Rollouts that a process is given at once."""


@dataclass(frozen=True)
class Work:
    """One planned rollout.

    Attributes:
        source: Settings that name the source of its scene, such as ``scenes=families``.
        scene_id: The scene there.
        seed: Of the rollout.
        split: Folder of its shard, "train" or "val".
        edits: Recipes of edits by name, in order.
        label: Ends its file's name if not empty.
    """

    source: tuple[str, ...]
    scene_id: str
    seed: int = 0
    split: str = "train"
    edits: tuple[str, ...] = ()
    label: str = ""

    def path(self, out: Path) -> Path:
        """Its shard's file."""
        words = (self.scene_id, *self.edits, str(self.seed), *([self.label] if self.label else []))
        return out / self.split / f"{'-'.join(words)}.npz"

    @property
    def settings(self) -> tuple[str, ...]:
        """Source and edits as settings; rollouts that share them share a process's plugins."""
        recipes = ",".join(f"recipe:{name}" for name in (*self.edits, "standard_rig"))
        return (*self.source, f"scenes.edit={recipes}")


@dataclass(frozen=True)
class CollectConfig:
    """How rollouts are made.

    Attributes:
        duration_s: Of each, warm-up included.
        traffic: Who moves the others: "idm" reacts to ego, "log_replay" does not.
        policy: Arguments of `TaughtPolicy`.
        processes: How many at a time; None for one per core.
        most_s: No batch begins after so many seconds; None for no limit.
    """

    duration_s: float = 12.0
    traffic: str = "idm"
    policy: dict[str, Any] = field(default_factory=dict)
    processes: int | None = None
    most_s: float | None = None


@dataclass
class Collected:
    """What a collection left.

    Attributes:
        rollouts: Shards made now.
        frames: Decisions with a valid label in them.
        kept: Shards that were there before.
        skipped: Why rollouts gave none, and how many.
        wall_s: Time taken.
    """

    rollouts: int = 0
    frames: int = 0
    kept: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    wall_s: float = 0.0


def collect(
    work: Sequence[Work], out: Path, config: CollectConfig,
    progress: Callable[[Collected, int], None] | None = None,
) -> Collected:  # fmt: skip
    """Make the shards of all rollouts that have none yet.

    Args:
        work: What to roll out.
        out: Folder of the shards.
        config: How.
        progress: Told after each batch of what is done, and how many rollouts there are.

    Raises:
        InputError: the settings are wrong, whatever the scene.
        SceneError: not one rollout gave a shard, and none was there.
    """
    began = time.perf_counter()
    done = Collected()
    todo = [w for w in work if not w.path(out).exists()]
    done.kept = len(work) - len(todo)
    processes = min(config.processes or os.cpu_count() or 1, max(len(todo) // _BATCH, 1))
    for made in _batches(todo, out, config, processes):
        for frames, reason in made:
            if reason:
                done.skipped[reason] += 1
            else:
                done.rollouts += 1
                done.frames += frames
        done.wall_s = time.perf_counter() - began
        if progress is not None:
            progress(done, len(work))
    if todo and not done.rollouts and not done.kept:
        reason, count = done.skipped.most_common(1)[0]
        raise SceneError(
            f"no rollout gave any data; {count} of {len(todo)}: {reason}", where=str(out),
            remedy="choose other scenes, or a shorter duration",
        )  # fmt: skip
    return done


_Made = list[tuple[int, str]]
"""For each rollout the valid labels of its shard, or why there is none."""


def _batches(todo: list[Work], out: Path, config: CollectConfig, processes: int) -> Iterator[_Made]:
    batches = _timed(_grouped(todo), config.most_s)
    if processes == 1:
        for batch in batches:
            yield make_batch(batch, out, config)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_undisturbed) as pool:
        running: set[Future[_Made]] = set()
        try:
            while True:
                for batch in batches:
                    running.add(pool.submit(make_batch, batch, out, config))
                    if len(running) >= processes + 1:
                        break
                if not running:
                    return
                ready, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ready:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _undisturbed() -> None:
    """Ctrl-C ends the process that collects; the others finish their batch, which is kept."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _grouped(todo: list[Work]) -> list[list[Work]]:
    """Batches of the same settings, in the order in which their first is planned."""
    waiting: dict[tuple[str, ...], list[Work]] = {}
    batches: list[list[Work]] = []
    for item in todo:
        batch = waiting.setdefault(item.settings, [])
        if not batch:
            batches.append(batch)
        batch.append(item)
        if len(batch) == _BATCH:
            del waiting[item.settings]
    return batches


def _timed(batches: list[list[Work]], most_s: float | None) -> Iterator[list[Work]]:
    began = time.perf_counter()
    for batch in batches:
        if most_s is not None and time.perf_counter() - began > most_s:
            return
        yield batch


_setups: dict[tuple[str, ...], Setup] = {}


def make_batch(batch: Sequence[Work], out: Path, config: CollectConfig) -> _Made:
    """Roll out scenes of one source in this process and write their shards."""
    setup = _setup(batch[0].settings, config)
    return asyncio.run(_all(setup, batch, out))


def _setup(settings: tuple[str, ...], config: CollectConfig) -> Setup:
    """Plugins and source, made once per process."""
    from omniloop.configs.compose import compose
    from omniloop.configs.schema import PluginConfig
    from omniloop.orchestrator.compat import check_specs
    from omniloop.runner.assemble import Setup, create_services, open_source

    key = (*settings, repr(config))
    if key not in _setups:
        composed = compose(
            [
                *settings, f"traffic={config.traffic}",
                "renderer=rasterizer", "renderer.chunk=0", f"renderer.fps={1_000_000 // PERIOD_US}",
                f"renderer.width={WIDTH}", f"renderer.height={HEIGHT}",
                f"renderer.cameras=[{FRONT_WIDE},{FRONT_TELE}]",
                f"sync.decision_period_us={PERIOD_US}", f"sync.duration_s={config.duration_s}",
            ]
        )  # fmt: skip
        arguments = {"cameras": [FRONT_WIDE, FRONT_TELE], **config.policy}
        taught = PluginConfig(name="omniloop.training.taught:TaughtPolicy", **arguments)
        whole = composed.model_copy(update={"policy": taught})
        services = create_services(whole)
        setup = Setup(whole, open_source(whole.scenes), services, services, [])
        check_specs(setup.policy_spec, setup.renderer_spec)
        _setups[key] = setup
    return _setups[key]


async def _all(setup: Setup, batch: Sequence[Work], out: Path) -> _Made:
    await setup.services.connect()
    try:
        return [await _one(setup, work, out) for work in batch]
    finally:
        await setup.services.disconnect()


async def _one(setup: Setup, work: Work, out: Path) -> tuple[int, str]:
    """One rollout; a scene that cannot be driven is told, not raised."""
    from omniloop.metrics.online import IncidentWatch
    from omniloop.orchestrator.rollout import run_rollout
    from omniloop.orchestrator.rollout_spec import RolloutSpec
    from omniloop.orchestrator.services import service_seeds

    name = f"{work.scene_id}/{work.seed}"
    try:
        prepared = setup.prepare(work.scene_id)
        spec = RolloutSpec(
            scene=prepared.scene, seed=work.seed, schedule=prepared.schedule,
            cameras=prepared.cameras, seeds=service_seeds(0, work.scene_id, work.seed),
            recorded_actors=prepared.recorded_actors, route=prepared.route,
        )  # fmt: skip
        watch = IncidentWatch(
            prepared.scene, prepared.schedule, recorded_actors=prepared.recorded_actors
        )
        kept = ShardRecorder()
        await run_rollout(
            spec, setup.services, kept, CallFunnel(name), watch.stop_on(("collision",))
        )
    except OmniloopError as error:
        return 0, f"{type(error).__name__}: {error.what}"
    shard = kept.shard()
    if shard is None or not shard.valid.any():
        return 0, "no decision with a label"
    write_shard(work.path(out), shard)
    return int(shard.valid.sum()), ""


class ShardRecorder:
    """A recorder of the loop that keeps what a shard needs, and nothing else."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._first_us: int | None = None

    def observation(self, observation: Observation) -> None:
        """Turn what the policy sees into arrays."""
        now_us, ego = observation.time_us, observation.ego
        if self._first_us is None:
            self._first_us = int(ego.times_us[0])
        route, has_route = inputs.route_of(observation.route)
        wide = observation.frames.get(FRONT_WIDE) or ()
        tele = observation.frames.get(FRONT_TELE) or ()
        self._rows.append(
            {
                "wide": wide[-1] if wide else None, "tele": tele[-1] if tele else None,
                "time_us": now_us, "history": inputs.history_of(ego, now_us),
                "speed": inputs.speed_of(ego), "route": route, "has_route": has_route,
                "pose": ego.local_to_rig[-1],
                "remembers": now_us - self._first_us >= inputs.HISTORY_S * 1e6,
            }
        )  # fmt: skip

    def plan(self, decision: Decision) -> None:
        """Take the expert's plan as the label of the observation before."""
        row = self._rows[-1]
        taught = decision.plan.samples[0]
        pose: Array = row["pose"]
        row["target"], row["reaches"] = inputs.target_of(taught, pose, decision.time_us)

    def shard(self) -> Shard | None:
        """What was kept; None if nothing was."""
        rows = [r for r in self._rows if "target" in r and r["wide"] is not None]
        if not rows:
            return None
        frames: list[CameraFrame] = [r["wide"] for r in rows]
        tele = all(r["tele"] is not None for r in rows)

        def column(name: str, kind: Any) -> Any:
            return np.array([r[name] for r in rows], dtype=kind)

        return Shard(
            wide=tuple(f.image for f in frames),
            tele=tuple(r["tele"].image for r in rows) if tele else None,
            time_us=column("time_us", np.int64),
            frame_capture_us=np.array([f.capture_us for f in frames], dtype=np.int64),
            history=column("history", np.float32), speed=column("speed", np.float32),
            target=column("target", np.float32), route=column("route", np.float32),
            has_route=column("has_route", np.bool_),
            valid=column("reaches", np.bool_) & column("remembers", np.bool_),
        )  # fmt: skip

    def vehicle(self, *told: object) -> None:
        """Not kept."""

    ground = traffic = commit = render_request = frame = lost_frame = notice = end = vehicle
