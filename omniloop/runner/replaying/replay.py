"""Rollouts simulated again from their logs, and the first thing in which they differ."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omniloop.configs.compose import compose
from omniloop.configs.schema import RunConfig
from omniloop.core.errors import ConfigError, RunFolderError, nearest
from omniloop.orchestrator.compat import check_specs
from omniloop.runlog.difference import Difference, first_difference
from omniloop.runlog.environment import describe_environment, environment_changes
from omniloop.runlog.folder import (
    LOG_NAME,
    RUN_YAML,
    RunFolder,
    open_existing,
    read_run_yaml,
    rollout_dir,
)
from omniloop.runlog.redact import without_secret
from omniloop.runner.assemble import create_metrics
from omniloop.runner.job import Job, Order, run_job
from omniloop.runner.replaying.recording import Recording
from omniloop.runner.replaying.setup import KINDS, ReplaySetup, config_of, live_kinds, replay_setup
from omniloop.runner.score_meaning import keep_meaning
from omniloop.runner.side_by_side import side_by_side


@dataclass(frozen=True)
class Replayed:
    """What came of one rollout.

    Attributes:
        session_id: ``<scene>/<seed>``.
        difference: The first one; None if there is none.
        note: What a reader should know: how far the log goes, or why it was not replayed.
    """

    session_id: str
    difference: Difference | None = None
    note: str = ""


Progress = Callable[[Replayed, int, int], None]
"""Called after each rollout with how many of how many are done."""


def find_recordings(source: Path, scenes: Sequence[str] = ()) -> list[Recording]:
    """The logs of a run folder, or one log.

    Args:
        scenes: Only these; all if empty.

    Raises:
        RunFolderError: there is none, or one cannot be read.
        ConfigError: there is none of a scene.
    """
    if source.is_file():
        if source.suffix == ".asl":
            raise RunFolderError(
                "an ASL log does not tell the settings of the services", where=str(source),
                remedy="give the log.mcap that the run wrote; `omniloop convert` makes runs of ASL"
                " logs for score, report and export",
            )  # fmt: skip
        paths = [source]
    elif (source / LOG_NAME).is_file():
        paths = [source / LOG_NAME]
    else:
        paths = sorted(open_existing(source).glob(f"rollouts/*/*/{LOG_NAME}"))
    if not paths:
        raise RunFolderError(
            "the run holds no log", where=str(source), remedy="give a run's folder, or a log.mcap"
        )
    found = [Recording(path) for path in paths]
    have = sorted({r.header.scene_id for r in found})
    for scene in scenes:
        if scene not in have:
            raise ConfigError(
                f"there is no log of scene '{scene}'.{nearest(scene, have)}", where="--scenes",
                remedy=f"scenes: {', '.join(have)}",
            )  # fmt: skip
    kept = [r for r in found if not scenes or r.header.scene_id in scenes]
    return sorted(kept, key=lambda r: (r.header.scene_id, r.header.seed))


def recorded_kinds(wanted: Collection[str] | None, settings: Sequence[str]) -> set[str]:
    """The services that answer from the log: those wanted, or all that no setting is of.

    Raises:
        ConfigError: one is no service, or is to be recorded and live at once.
    """
    live = live_kinds(settings)
    if wanted is None:
        return set(KINDS) - live
    for kind in wanted:
        if kind not in KINDS:
            raise ConfigError(
                f"there is no service '{kind}'.{nearest(kind, KINDS)}", where="--service",
                remedy=f"services: {', '.join(KINDS)}",
            )  # fmt: skip
    both = sorted(live & set(wanted))
    if both:
        raise ConfigError(
            f"the {both[0]} cannot answer from the log and be set up anew", where="--service",
            remedy=f"leave {both[0]} out of --service, or its settings out",
        )  # fmt: skip
    return set(wanted)


def replay(
    source: Path,
    settings: Sequence[str] = (),
    *,
    recorded: Collection[str] | None = None,
    scenes: Sequence[str] = (),
    tolerance: float = 0.0,
    out: Path | None = None,
    progress: Progress | None = None,
) -> list[Replayed]:
    """Run the orchestrator again for each rollout of a run, and compare its log with the recorded one.

    Schedule, scene, seeds and settings are the log's own. A recorded service answers as it did then,
    whatever it is asked, so that a live one is asked what it was asked then.

    Args:
        source: A run's folder, or a log.
        settings: Of live services, over those recorded: ``policy=my:Policy``, ``policy.key=1``.
        recorded: Kinds of services that answer from the log; None for all but those with settings.
        scenes: Replay only these.
        tolerance: Numbers that are no further apart are the same.
        out: Folder of a new run that keeps the replayed rollouts.

    Returns:
        One for each rollout, by scene and seed.

    Raises:
        InputError: something given is wrong, or a live service does not fit the log.
        RunFolderError: a log cannot be read, or `out` cannot be written.
    """
    if not 0 <= tolerance < float("inf"):
        raise ConfigError(
            f"a tolerance of {tolerance}", where="--tolerance", remedy="give a number, 0 or more"
        )
    kinds = recorded_kinds(recorded, settings)
    recordings = find_recordings(source, scenes)
    setups = []
    for _, group in itertools.groupby(recordings, key=_settings_of):
        alike = {r.session_id: r for r in group}
        config = config_of(next(iter(alike.values())), settings)
        setups.append(replay_setup(config, alike, kinds))
    with ExitStack() as stack:
        if out is None:
            kept = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omniloop-replay-")))
            folder = stack.enter_context(RunFolder.acquire(kept / "run"))
        else:
            _check_out(source, out)
            for setup in setups:
                _score(setup)
            folder = stack.enter_context(RunFolder.acquire(out))
            folder.write_run_yaml(_document(source, settings, setups, kinds))
            keep_meaning(folder, setups[0].config.metrics, begun=False)
        batch = _Batch(folder, tolerance, out is not None, progress, len(recordings))
        asyncio.run(batch.run(setups))
        if out is not None:
            folder.write_tables(folder.find().results)
        return sorted(
            batch.done, key=lambda r: [r2.session_id for r2 in recordings].index(r.session_id)
        )


def made_elsewhere(source: Path) -> list[str]:
    """How this machine differs from the one that made a run, if the run tells: a line each."""
    if not (source / RUN_YAML).is_file():
        return []
    before = read_run_yaml(source).get("environment")
    return environment_changes(before, describe_environment()) if isinstance(before, dict) else []


@dataclass
class _Batch:
    """Rollouts that are replayed side by side."""

    folder: RunFolder
    tolerance: float
    keeps: bool
    progress: Progress | None
    count: int

    def __post_init__(self) -> None:
        self.done: list[Replayed] = []

    async def run(self, setups: Sequence[ReplaySetup]) -> None:
        """Replay all; what is wrong with the input is found before the first."""
        for setup in setups:
            await setup.services.connect()
        try:
            for setup in setups:
                check_specs(setup.policy_spec, setup.renderer_spec)
                for scene_id in setup.ids:
                    setup.prepare(scene_id)
            jobs = [(setup, r) for setup in setups for r in setup.recordings.values()]
            await side_by_side(jobs, min(os.cpu_count() or 1, 8), self._replay)
        finally:
            for setup in setups:
                await setup.services.disconnect()

    async def _replay(self, job: tuple[ReplaySetup, Recording]) -> None:
        setup, recording = job
        done = await self._replayed(setup, recording)
        self.done.append(done)
        if self.progress is not None:
            self.progress(done, len(self.done), self.count)

    async def _replayed(self, setup: ReplaySetup, recording: Recording) -> Replayed:
        header, course = recording.header, recording.course()
        failure = course.failure
        if not course.commits_us:
            why = "the log ends" if failure is None else f"it failed ({failure.what})"
            return Replayed(recording.session_id, note=f"not replayed: {why} before anything moved")
        await run_job(setup, self.folder, Order(Job(header.scene_id, header.seed)))
        where = rollout_dir(self.folder.path, header.scene_id, header.seed)
        # A policy that declares something else is told something else.
        alike = setup.tells_alike(recording)
        found = first_difference(
            where / LOG_NAME, recording.path, tolerance=self.tolerance, observations=alike
        )
        if not self.keeps:
            shutil.rmtree(where)
        note = "" if alike else "the policy declares other inputs; they are not compared"
        if failure is not None:
            note = f"it failed when it was recorded: {type(failure).__name__}: {failure.what}"
        elif not course.is_whole:
            note = (
                f"the log ends after the commit at {course.commits_us[-1]} us; replayed up to there"
            )
        return Replayed(recording.session_id, found, note)


def _settings_of(recording: Recording) -> str:
    return json.dumps(recording.header.config, sort_keys=True)


def _check_out(source: Path, out: Path) -> None:
    if out.resolve() in (source.resolve(), *source.resolve().parents):
        raise ConfigError(
            "a replay cannot be kept in the run that it replays", where=f"--out {out}",
            remedy="choose another folder",
        )  # fmt: skip
    if out.exists():
        raise RunFolderError(
            "it is there already", where=f"--out {out}", remedy="choose another folder"
        )


def _score(setup: ReplaySetup) -> None:
    """Have what is kept scored, with the usual metrics and what the log tells of theirs."""
    metrics = {**compose([]).metrics, **setup.config.metrics}
    setup.config = setup.config.model_copy(update={"metrics": metrics})
    setup.metrics = create_metrics(metrics)


def _document(
    source: Path, settings: Sequence[str], setups: Sequence[ReplaySetup], kinds: Collection[str]
) -> dict[str, Any]:
    """The content of run.yaml but for what the machine adds."""
    config: RunConfig = setups[0].config
    return {
        "config": config.model_dump(mode="json"),
        "root_seed": config.run.root_seed,
        "scenes": {
            r.header.scene_id: r.header.scene_sha256 for s in setups for r in s.recordings.values()
        },
        "services": setups[0].services.versions,
        "exclusions": [],
        "replayed": {"from": str(source), "recorded": sorted(kinds)},
        "command": ["omniloop", "replay", str(source), *map(without_secret, settings)],
    }
