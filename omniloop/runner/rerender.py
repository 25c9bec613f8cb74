"""Draw the frames of a run again with another renderer, on the very states that were driven."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from omniloop.configs.schema import RunConfig, validate
from omniloop.core import registry
from omniloop.core.calls import CallFunnel
from omniloop.core.cameras import Camera
from omniloop.core.contracts import CameraFrame, PolicySpec, Renderer
from omniloop.core.errors import ConfigError, OmniloopError, RunFolderError
from omniloop.core.local import as_service
from omniloop.core.record import Metric, RolloutRecord
from omniloop.core.scene import Scene
from omniloop.core.schedule import Schedule
from omniloop.imperfection.service import imperfect
from omniloop.imperfection.settings import FrameSettings
from omniloop.metrics.scoring import score, undefined_scores
from omniloop.orchestrator.compat import cameras_for, check_specs
from omniloop.orchestrator.fetch import Fetch
from omniloop.orchestrator.frame_call import render_frames
from omniloop.orchestrator.services import open_session, session_info
from omniloop.runlog import messages as topics
from omniloop.runlog.codec import decode
from omniloop.runlog.declared import DECLARED
from omniloop.runlog.folder import LOG_NAME, RunFolder, open_existing, read_run_yaml, rollout_dir
from omniloop.runlog.messages import LogHeader
from omniloop.runlog.reader import LogReader
from omniloop.runlog.record import read_record
from omniloop.runlog.redact import without_secret
from omniloop.runlog.results import RolloutResult, find_results
from omniloop.runlog.writer import LogWriter
from omniloop.runner.assemble import create_metrics
from omniloop.runner.frozen import Frozen, LoggedScenes, fitting, renderer_settings
from omniloop.runner.job import error_document, service_timings
from omniloop.runner.score_meaning import keep_meaning
from omniloop.runner.side_by_side import side_by_side

Progress = Callable[[RolloutResult, int, int], None]
"""Called after each rollout with how many of how many are done."""


@dataclass
class Rerendered:
    """What was drawn.

    Attributes:
        run_dir: The new folder.
        results: One per rollout, those of an earlier attempt among them.
        notes: What a reader should know, such as rollouts that were left out.
    """

    run_dir: Path
    results: list[RolloutResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if every rollout was drawn, else 1."""
        return int(any(r.outcome != "completed" for r in self.results))


def rerender(
    run_dir: Path,
    out: Path,
    settings: Sequence[str] = (),
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> Rerendered:
    """Draw every completed rollout of a run again; nothing else is simulated.

    The new folder is a run's: its logs hold the same messages but for the images, and its
    results the scores of the same states. Frames are those that were asked for, and reach the policy's log
    when they did. What disturbed the renderer's view and images disturbs the new ones too.

    Args:
        settings: ``renderer=NAME`` and ``renderer.KEY=VALUE``; without a name, the run's renderer.
        resume: Go on where an earlier attempt left off.

    Raises:
        InputError: the settings are wrong, or the renderer does not fit the logs; nothing has
            been written.
        RunFolderError: the folder is no run, holds no frames or a log that cannot be read, or
            the new one cannot be written.
    """
    if out.resolve() == run_dir.resolve():
        raise ConfigError(
            "a run cannot be drawn again into itself", where=f"--out {out}",
            remedy="choose another folder",
        )  # fmt: skip
    document = read_run_yaml(open_existing(run_dir))
    before = validate(document["config"])
    # Of a run that was itself drawn again: what its states were driven with.
    driven_with = (document.get("rerendered") or {}).get("renderer", before.renderer.name)
    chosen = renderer_settings(before.renderer, settings)
    config = before.model_copy(update={"renderer": chosen})
    found = find_results(run_dir)
    done = Rerendered(out, notes=list(found.damaged))
    rollouts = []
    for result in found.results:
        if result.outcome == "completed":
            rollouts.append(Frozen.of(result, rollout_dir(run_dir, *result.key) / LOG_NAME))
        else:
            done.notes.append(f"{result.session_id} is left out: it ended as {result.outcome}")
    if not rollouts:
        raise RunFolderError(
            "the run holds no completed rollout", where=str(run_dir), remedy="run it first"
        )
    scenes = LoggedScenes({r.header.scene_id: r.log for r in rollouts})
    renderer = _renderer(config, scenes)
    document = {
        **{key: value for key, value in document.items() if key not in ("environment", "services")},
        "config": config.model_dump(mode="json"),
        "rerendered": {"run": str(run_dir), "renderer": driven_with},
        "command": ["omniloop", "rerender", str(run_dir), *map(without_secret, settings)],
    }
    stale = _note(before.renderer.name, driven_with)
    job = _Job(config, driven_with, stale, renderer, scenes, create_metrics(config.metrics))
    asyncio.run(_draw_all(job, rollouts, document, done, resume, progress))
    return done


@dataclass(frozen=True)
class _Job:
    """What all rollouts are drawn with."""

    config: RunConfig
    driven_with: str
    stale_note: str
    renderer: Renderer
    scenes: LoggedScenes
    metrics: list[Metric]

    def cameras(self, scene: Scene, schedule: Schedule, where: str) -> tuple[Camera, ...]:
        """The log's cameras at the renderer's size, in the order of the schedule's clocks.

        Raises:
            InputError: the renderer does not fit the log's frames, its cameras or its scene.
        """
        spec = fitting(self.renderer.spec, schedule, where)
        cameras = cameras_for(scene, PolicySpec(), spec)
        for name, subject in (("check_cameras", cameras), ("check_scene", scene)):
            check = getattr(self.renderer, name, None)
            if check is not None:
                check(subject)
        return cameras


def _renderer(config: RunConfig, scenes: LoggedScenes) -> Any:
    """The renderer as a service, disturbed as in the run but for losses and delays: these stay."""
    service: Any = as_service(
        "renderer", registry.create("renderer", config.renderer.name, config.renderer.arguments)
    )
    if config.run.wire_precision is not None:
        from omniloop.services.roles import looped_back
        from omniloop.services.shelf import SceneShelf

        service = looped_back("renderer", service, SceneShelf(scenes))
    disturbed = config.imperfection.model_copy(update={"frames": FrameSettings()})
    return imperfect("renderer", service, disturbed, config.run.root_seed)


@asynccontextmanager
async def _connected(renderer: Any) -> AsyncIterator[None]:
    if hasattr(renderer, "connect"):
        await renderer.connect()
    try:
        yield
    finally:
        if hasattr(renderer, "disconnect"):
            await renderer.disconnect()


async def _draw_all(
    job: _Job,
    rollouts: list[Frozen],
    document: dict[str, Any],
    done: Rerendered,
    resume: bool,
    progress: Progress | None,
) -> None:
    """Check every rollout, then draw them, several at once."""
    async with _connected(job.renderer):
        check_specs(PolicySpec(), job.renderer.spec)
        if versions := getattr(job.renderer, "versions", {}):
            document["services"] = {"renderer": versions}
        for rollout in {r.header.scene_id: r for r in rollouts}.values():
            scene = job.scenes.load(rollout.header.scene_id)
            job.cameras(scene, rollout.header.schedule, str(rollout.log))
        with RunFolder.acquire(done.run_dir, resume=resume) as folder:
            folder.write_run_yaml(document)
            contents = {r.result.key: r.result.content_sha256 for r in rollouts}
            there = folder.find().results
            complete = folder.completed(contents, there)
            keep_meaning(folder, job.config.metrics, begun=bool(complete))
            todo = [r for r in rollouts if r.result.key not in complete]
            finished = 0

            async def do(rollout: Frozen) -> None:
                nonlocal finished
                result = await _draw(job, folder, rollout)
                finished += 1
                if progress is not None:
                    progress(result, finished, len(todo))

            await side_by_side(todo, _at_once(job), do)
            found = folder.find([r for r in there if r.key in complete])
            done.results = found.of(contents)
            done.notes += folder.warnings
            folder.write_tables(found.results)


def _at_once(job: _Job) -> int:
    wanted, limit = job.config.run.concurrency, job.renderer.spec.max_sessions
    count = wanted if isinstance(wanted, int) else min(os.cpu_count() or 1, 8)
    return count if limit is None else min(count, limit)


async def _draw(job: _Job, folder: RunFolder, rollout: Frozen) -> RolloutResult:
    """Draw one rollout and leave its folder complete; a renderer that fails is its outcome."""
    result, header = rollout.result, rollout.header
    target = folder.begin_rollout(*result.key) / LOG_NAME
    scene = job.scenes.load(header.scene_id)
    record = read_record(rollout.log, scene=scene)
    call = CallFunnel(result.session_id)
    error: OmniloopError | None = None
    with LogWriter(target) as log:
        log.scene(LogReader(rollout.log).scene_bundle())
        log.header(_header(job, header), scene)
        try:
            await _draw_frames(job, rollout, record, log, call)
        except RunFolderError:
            raise
        except OmniloopError as caught:
            error = caught
    if error is None:
        values = score(record, job.metrics)
    else:
        values = undefined_scores(job.metrics, f"the frames could not be drawn: {error.what}")
    notices = [notice for notice in result.notices if notice != job.stale_note]
    notices += getattr(job.renderer, "notes", ())
    notices.append(_note(job.config.renderer.name, job.driven_with))
    drawn = replace(
        result,
        plugins={**result.plugins, "renderer": job.config.renderer.name},
        facts={**{k: v for k, v in result.facts.items() if k != "renderer"}, **call.facts},
        frames=dict(log.frame_counts),
        timings={"services": service_timings(call)},
        notices=notices,
        metrics={value.name: value for value in values},
        attempts=1,
    )
    if error is not None:
        drawn = replace(drawn, outcome="infrastructure_failed", error=error_document(error))
    folder.finish_rollout(drawn, None if error else record)
    return drawn


def _note(renderer: str, driven_with: str) -> str:
    return f"the frames are drawn by {renderer} on states driven with {driven_with}"


def _header(job: _Job, header: LogHeader) -> LogHeader:
    """The log's header with the new renderer; all that was simulated stays."""
    config = {
        **header.config,
        "renderer": job.config.renderer.model_dump(mode="json"),
        "rerendered_from": job.driven_with,
    }
    told = config.get(DECLARED)
    if isinstance(told, dict):
        config[DECLARED] = {**told, "renderer": asdict(job.renderer.spec)}
    plugins = {**header.plugins, "renderer": job.config.renderer.name}
    return replace(header, plugins=plugins, config=config)


async def _draw_frames(
    job: _Job, rollout: Frozen, record: RolloutRecord, log: LogWriter, call: CallFunnel
) -> None:
    """Copy a log message by message; requests are made again, and images put in their places."""
    schedule, scene = record.schedule, record.scene
    cameras = job.cameras(scene, schedule, str(rollout.log))
    seed = rollout.header.seeds["renderer"]
    session = session_info(record.session_id, scene, schedule, seed)
    reader = LogReader(rollout.log)
    waiting: dict[tuple[str, int], CameraFrame] = {}
    async with open_session("renderer", job.renderer, session, cameras, call) as renderer:
        for message in reader.messages():
            topic, time_us = message.topic, message.time_us
            if topic == topics.RENDER_REQUEST:
                frames = decode(topic, message.data).frames
                rendered = await render_frames(
                    renderer, Fetch(frames, frames.capture_us), time_us, scene=scene, schedule=schedule,
                    ego=record.ego, actors=record.actors, recorder=log, call=call,
                )  # fmt: skip
                waiting.update({(f.camera_id, f.capture_us): f for f in rendered})
            elif topic in (topics.FRAME, topics.LOST_FRAME):
                info = decode(topic, message.data)
                frame = waiting.pop((info.camera_id, info.capture_us), None)
                if frame is None:
                    raise reader.error(
                        f"the frame of {info.camera_id} at {info.capture_us} us was never asked for"
                    )
                if topic == topics.FRAME:
                    log.frame(replace(frame, available_us=info.available_us))
                else:
                    log.copy(topic, time_us, message.data)
            elif topic != topics.HEADER and not topic.startswith(topics.CAMERA_PREFIX):
                log.copy(topic, time_us, message.data)
