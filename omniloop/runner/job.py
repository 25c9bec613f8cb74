"""One rollout from an empty folder to its result: log, scores, result.json, video."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from omniloop.core.calls import CallFunnel
from omniloop.core.contracts import MetricValue
from omniloop.core.errors import (
    OmniloopError,
    PolicyError,
    RunFolderError,
    ServiceError,
    SessionEvicted,
)
from omniloop.core.record import RolloutRecord
from omniloop.core.time import US_PER_S
from omniloop.imperfection.draws import rollout_seed
from omniloop.imperfection.ego_motion import ego_estimator
from omniloop.imperfection.facts import facts_of
from omniloop.imperfection.latency import extra_latency_us
from omniloop.metrics.online import IncidentWatch
from omniloop.metrics.scoring import score, undefined_scores
from omniloop.orchestrator.compat import throttled
from omniloop.orchestrator.rollout import Watch, run_rollout
from omniloop.orchestrator.rollout_spec import RolloutSpec
from omniloop.orchestrator.services import service_seeds
from omniloop.runlog.declared import DECLARED, declared
from omniloop.runlog.deferred import DeferredRecorder
from omniloop.runlog.folder import RunFolder
from omniloop.runlog.messages import LogHeader
from omniloop.runlog.results import RolloutResult
from omniloop.runlog.writer import LogWriter
from omniloop.runner.assemble import PreparedScene, Setup
from omniloop.runner.step_metrics import write_step_metrics

RESTARTS = 2
"""How often a rollout is simulated again after its renderer's session was evicted."""


@dataclass(frozen=True)
class Job:
    """One planned rollout."""

    scene_id: str
    seed: int

    @property
    def name(self) -> str:
        """``<scene>/<seed>``."""
        return f"{self.scene_id}/{self.seed}"


@dataclass(frozen=True)
class Order:
    """A rollout that is to be run now.

    Attributes:
        attempts: How often it will have been started then, this time included.
        content_sha256: See `omniloop.runner.batch.content`.
        addresses: Where services that are elsewhere shall open their sessions, by name.
        suite: Reference of the suite that it is of, if it is of one.
        queued_s: How long it waited for its turn.
        wire_uuid: What a driver that is elsewhere shall know it by; empty if any name will do.
        keep_steps: Whether its folder shall hold `omniloop.runner.step_metrics`.
    """

    job: Job
    attempts: int = 1
    content_sha256: str = ""
    addresses: Mapping[str, str] = field(default_factory=dict)
    suite: Mapping[str, str] | None = None
    queued_s: float = 0.0
    wire_uuid: str = ""
    keep_steps: bool = False


@dataclass
class Track:
    """Where a rollout stands, for who watches it.

    Attributes:
        call: Its funnel, once it is being simulated.
        simulated: Called when its sessions are closed, before it is scored.
    """

    call: CallFunnel | None = None
    simulated: Callable[[], None] = lambda: None

    @property
    def calls(self) -> int:
        """Calls of services that ended so far."""
        return self.call.calls if self.call else 0


async def run_job(
    setup: Setup, folder: RunFolder, order: Order, track: Track | None = None
) -> RolloutResult:
    """Run a rollout and leave its folder complete.

    A failure of policy or services becomes the result's outcome. Only what concerns the
    run folder itself is raised. A rollout whose renderer gave its session to another client
    is simulated again, at most twice.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    began = time.perf_counter()
    job, track = order.job, track or Track()
    prepared = setup.prepare(job.scene_id)
    rollout_dir = folder.begin_rollout(job.scene_id, job.seed)
    spec = spec_of(setup, prepared, order)
    simulated = await _simulate(setup, prepared, job, spec, rollout_dir, track)
    restarts = 0
    while isinstance(simulated.error, SessionEvicted) and restarts < RESTARTS:
        restarts += 1
        simulated = await _simulate(setup, prepared, job, spec, rollout_dir, track)
    track.simulated()
    record, error = simulated.record, simulated.error
    simulated_s = time.perf_counter() - began
    if record is not None:
        values = score(record, setup.metrics)
    else:
        reason = f"the rollout ended early: {error.what if error else ''}"
        values = undefined_scores(setup.metrics, reason)
    scored_s = time.perf_counter() - began - simulated_s
    if record is not None:
        error = await _write_extras(setup, rollout_dir, job, values)
    simulated = replace(simulated, error=error)
    result = _result(setup, prepared, order, spec, simulated, values)
    if restarts:
        result.notices.append(f"simulated {restarts + 1} times: the renderer's session was evicted")
    result.timings.update(
        queued_s=round(order.queued_s, 6),
        rollout_s=round(simulated_s, 6),
        scoring_s=round(scored_s, 6),
        wall_s=round(time.perf_counter() - began, 6),
    )
    if order.keep_steps:
        await asyncio.to_thread(write_step_metrics, rollout_dir, record, setup.metrics)
    folder.finish_rollout(result, record)
    return result


@dataclass(frozen=True)
class _Simulated:
    """What one attempt at a rollout left besides its log."""

    record: RolloutRecord | None
    error: OmniloopError | None
    call: CallFunnel
    log: LogWriter


async def _simulate(
    setup: Setup,
    prepared: PreparedScene,
    job: Job,
    spec: RolloutSpec,
    rollout_dir: Path,
    track: Track,
) -> _Simulated:
    """Simulate once, into a log that replaces an earlier one."""
    call = track.call = CallFunnel(job.name, loads=setup.loads_at(spec.addresses))
    record: RolloutRecord | None = None
    error: OmniloopError | None = None
    with LogWriter(rollout_dir / "log.mcap") as log:
        log.scene(prepared.bundle)
        log.header(_header(setup, prepared, job, spec), prepared.scene)
        recorder = DeferredRecorder(log)
        try:
            record = await run_rollout(
                spec, setup.services, recorder, call, _watch(setup, prepared, log)
            )
            recorder.flush()
        except RunFolderError:
            raise
        except OmniloopError as caught:
            error = caught
        except Exception as caught:  # an answer may be wrong in ways nobody looks for
            error = ServiceError(
                f"the rollout broke down: {type(caught).__name__}: {caught}", where=job.name,
                remedy="check the shapes and times of what the plugins return",
            )  # fmt: skip
        if error is not None:
            record = None
            recorder.flush()
            log.notice(prepared.schedule.end_us, f"{type(error).__name__}: {error.what}")
    return _Simulated(record, error, call, log)


def spec_of(setup: Setup, prepared: PreparedScene, order: Order) -> RolloutSpec:
    """What a rollout needs to know besides its services."""
    job = order.job
    run, sync, disturbed = setup.config.run, setup.config.sync, setup.config.imperfection
    schedule, seed = prepared.schedule, rollout_seed(run.root_seed, job.name)
    return RolloutSpec(
        scene=prepared.scene, seed=job.seed, schedule=schedule, cameras=prepared.cameras,
        seeds=service_seeds(run.root_seed, job.scene_id, job.seed), recorded_actors=prepared.recorded_actors,
        route=prepared.route, latency_us=sync.decision_latency_us,
        extra_latency_us=extra_latency_us(disturbed.latency, schedule.n_decisions, seed),
        estimator=ego_estimator(
            disturbed.ego_motion, schedule.context_start_us, schedule.end_us, seed
        ),
        skip_services_in_warmup=sync.skip_services_in_warmup, addresses=order.addresses,
        wire_uuid=order.wire_uuid, is_retry=order.attempts > 1,
    )  # fmt: skip


def _header(setup: Setup, prepared: PreparedScene, job: Job, spec: RolloutSpec) -> LogHeader:
    return LogHeader(
        session_id=job.name,
        scene_id=job.scene_id,
        seed=job.seed,
        schedule=prepared.schedule,
        seeds=spec.seeds,
        plugins={k: v for k, v in plugin_names(setup).items() if k != "scenes"},
        privileged=tuple(sorted(setup.policy_spec.privileged)),
        scene_sha256=prepared.sha256,
        config={
            **simulated_config(setup),
            DECLARED: declared(setup.policy_spec, setup.renderer_spec),
        },
    )


def _watch(setup: Setup, prepared: PreparedScene, log: LogWriter) -> Watch | None:
    if not (wanted := tuple(setup.config.run.stop_on)):
        return None
    metrics = setup.config.metrics
    thresholds: dict[str, float] = {}
    if "tolerance_m" in metrics.get("offroad", {}):
        thresholds["offroad_tolerance_m"] = metrics["offroad"]["tolerance_m"]
    if "vertical_tolerance_m" in metrics.get("collision", {}):
        thresholds["vertical_tolerance_m"] = metrics["collision"]["vertical_tolerance_m"]
    watch = IncidentWatch(
        prepared.scene, prepared.schedule, recorded_actors=prepared.recorded_actors, **thresholds
    )
    for kind, reason in watch.blind.items():
        if kind in wanted:
            start_us = prepared.schedule.context_start_us
            log.notice(start_us, f"run.stop_on={kind} cannot be told here: {reason}")
    return watch.stop_on(wanted)


def plugin_names(setup: Setup) -> dict[str, str]:
    """Which plugin plays each part."""
    config = setup.config
    return {
        kind: getattr(config, kind).name
        for kind in ("scenes", "policy", "traffic", "controller", "ground", "renderer")
    }


def simulated_config(setup: Setup) -> dict[str, object]:
    """The part of the config that decides what is simulated: no path, name or concurrency."""
    whole = setup.config.model_dump(mode="json")
    parts = {k: whole[k] for k in ("policy", "traffic", "controller", "ground", "renderer", "sync")}
    if disturbed := setup.config.imperfection.kinds_on:
        parts["imperfection"] = {kind: whole["imperfection"][kind] for kind in disturbed}
    if setup.config.run.stop_on:  # their thresholds say when a rollout ends
        watched = ("collision", "offroad")
        parts["metrics"] = {
            name: whole["metrics"][name] for name in watched if name in whole["metrics"]
        }
    run = {k: whole["run"][k] for k in ("root_seed", "stop_on", "route", "wire_precision")}
    return {**parts, "run": run}


def _result(
    setup: Setup,
    prepared: PreparedScene,
    order: Order,
    spec: RolloutSpec,
    simulated: _Simulated,
    values: list[MetricValue],
) -> RolloutResult:
    job, schedule = order.job, prepared.schedule
    record, error, log = simulated.record, simulated.error, simulated.log
    outcome = "completed"
    if error is not None:
        outcome = "policy_failed" if isinstance(error, PolicyError) else "infrastructure_failed"
    return RolloutResult(
        scene=job.scene_id,
        seed=job.seed,
        session_id=job.name,
        outcome=outcome,
        error=None if error is None else error_document(error),
        metrics={value.name: value for value in values},
        plugins=plugin_names(setup),
        privileged=sorted(setup.policy_spec.privileged),
        throttled=throttled(setup.policy_spec, schedule),
        warmup_s=(schedule.handover_us - schedule.render_start_us) / US_PER_S,
        handover_us=schedule.handover_us,
        end_us=schedule.end_us if record is None else record.frontier_us,
        stopped_by="" if record is None else record.stopped_by,
        decisions=schedule.n_decisions,
        decision_period_us=schedule.decision_period_us,
        seeds=spec.seeds,
        frames=dict(log.frame_counts),
        facts=_facts(setup, spec, simulated),
        notices=[
            *setup.services.notes,
            *(() if prepared.route is None else prepared.route.notes),
            *log.notices,
        ],
        timings={"services": service_timings(simulated.call)},
        attempts=order.attempts,
        suite=None if order.suite is None else dict(order.suite),
        content_sha256=order.content_sha256,
        addresses=dict(order.addresses),
    )


def unfinished(setup: Setup, order: Order, error: OmniloopError) -> RolloutResult:
    """The result of a rollout that could not be run to any end."""
    reason = f"the rollout ended early: {error.what}"
    return RolloutResult(
        scene=order.job.scene_id,
        seed=order.job.seed,
        session_id=order.job.name,
        outcome="infrastructure_failed",
        error=error_document(error),
        metrics={value.name: value for value in undefined_scores(setup.metrics, reason)},
        plugins=plugin_names(setup),
        privileged=sorted(setup.policy_spec.privileged),
        timings={"queued_s": round(order.queued_s, 6)},
        attempts=order.attempts,
        suite=None if order.suite is None else dict(order.suite),
        content_sha256=order.content_sha256,
        addresses=dict(order.addresses),
    )


def error_document(error: OmniloopError) -> dict[str, str]:
    """An error as a result tells it."""
    told = {
        "type": type(error).__name__,
        "what": error.what,
        "where": error.where,
        "remedy": error.remedy,
    }
    return {**told, "address": error.address} if error.address else told


def service_timings(call: CallFunnel) -> dict[str, dict[str, object]]:
    """Wall-clock times by ``service.method``, as a result tells them."""
    return {
        name: {
            "calls": s.calls,
            "total_s": round(s.total_s, 6),
            "longest_s": round(s.longest_s, 6),
            **({"retries": s.retries} if s.retries else {}),
        }
        for name, s in sorted(call.stats.items())
    }


def _facts(setup: Setup, spec: RolloutSpec, simulated: _Simulated) -> dict[str, dict[str, object]]:
    """What the sessions told, and what was injected outside of them."""
    facts = dict(simulated.call.facts)
    record = simulated.record
    if record and (injected := facts_of(record, setup.config.imperfection, spec.latency_us)):
        facts["imperfection"] = injected
    return facts


async def _write_extras(
    setup: Setup, rollout_dir: Path, job: Job, values: list[MetricValue]
) -> OmniloopError | None:
    """Make from the log what is asked for beside it, in a thread, so that other rollouts go on."""
    run, log = setup.config.run, rollout_dir / "log.mcap"
    what = ""
    try:
        if run.video:
            what = "the video"
            from omniloop.report.incidents import incidents_from_metrics
            from omniloop.report.video import video_from_log

            target = rollout_dir / f"{job.scene_id}-{job.seed}.mp4"
            incidents = incidents_from_metrics({value.name: value for value in values})
            await asyncio.to_thread(video_from_log, log, target, incidents=incidents)
        if run.asl:
            what = "AlpaSim's log"
            from omniloop.services.asl_write import ASL_NAME, write_asl

            await asyncio.to_thread(write_asl, log, rollout_dir / ASL_NAME)
    except (RunFolderError, OSError):
        raise
    except Exception as caught:
        return ServiceError(
            f"{what} cannot be made: {type(caught).__name__}: {caught}", where=job.name,
            remedy="go on with run.resume=true, which tries again, or leave run.video and run.asl out",
        )  # fmt: skip
    return None
