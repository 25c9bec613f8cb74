"""Services that misbehave: the rollout ends with the right outcome, the others go on.

The servers are those of `misbehaving.py`; one that dies is a process of its own. One run holds
many rollouts, each with a fault of its own, and a healthy one, which must give the same bytes as
without faults.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from omniloop.configs.compose import compose
from omniloop.runlog.digest import digest
from omniloop.runlog.results import RolloutResult
from omniloop.runner.run import execute
from tests.services.calling import held_port, hosted
from tests.services.misbehaving import misbehaving

SERVER = Path(__file__).with_name("misbehaving.py")
AFTER = 20
"""Calls that go well first: within the warm-up nothing but a broken reply would matter."""


@dataclass(frozen=True)
class Fault:
    name: str
    outcome: str
    says: str
    error: str = ""
    after: int = AFTER


def served(
    kind: str, faults: dict[str, list[object]], *settings: str
) -> AbstractContextManager[str]:
    """Yields the address of such a server, in a thread of its own."""
    return hosted(misbehaving(kind, faults, *settings))


@contextmanager
def dying(*servers: tuple[str, str, int]) -> Iterator[list[str]]:
    """Yields the addresses of servers of (kind, fault, after) that are processes of their own."""
    with ExitStack() as held:
        wanted = [
            (kind, {"*": [fault, after]}, held.enter_context(held_port()))
            for kind, fault, after in servers
        ]
        parent = subprocess.Popen(
            [sys.executable, str(SERVER), json.dumps(wanted)],
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            assert parent.stdout is not None
            up = {int(parent.stdout.readline()) for _ in wanted}
            assert up == {port for _, _, port in wanted}
            yield [f"127.0.0.1:{port}" for _, _, port in wanted]
        finally:
            os.killpg(parent.pid, signal.SIGKILL)
            parent.wait()
            assert parent.stdout is not None
            parent.stdout.close()


def run(folder: Path, *settings: str) -> dict[str, RolloutResult]:
    """Results by ``<scene>/<seed>``."""
    config = compose(
        ["run.concurrency=8", "run.retries=0", f"run.dir={folder}", "run.name=run", *settings]
    )
    return {r.session_id: r for r in execute(config).results}


def log_of(folder: Path, name: str) -> Path:
    return folder / "run" / "rollouts" / name / "log.mcap"


def check(result: RolloutResult, fault: Fault, kind: str, method: str) -> None:
    assert result.outcome == fault.outcome, (fault, result.error)
    if fault.outcome == "completed":
        return
    assert result.error is not None
    text = f"{result.error['what']} | {result.error['where']}"
    assert fault.says in text, (fault, text)
    assert fault.error in ("", result.error["type"])
    for part in (kind, method, result.session_id, " us"):
        assert part in result.error["where"], (fault, text)


def by_seed(faults: tuple[Fault, ...]) -> dict[str, list[object]]:
    """Seed 0 is healthy."""
    return {str(k): [f.name, f.after] for k, f in enumerate(faults, start=1)}


def with_healthy(faults: dict[str, Fault]) -> str:
    """The scenes that have a fault, and one that has none."""
    return f"scenes.ids=[{','.join([*faults, SCENE])}]"


SCENE = "straight_road"

POLICY = (
    Fault("slow", "completed", "", after=38),
    Fault("raise", "policy_failed", "boom", "PolicyError"),
    Fault("nan_plan", "policy_failed", "is not finite", "PolicyError"),
    Fault("unsorted_plan", "policy_failed", "is not after", "PolicyError"),
    Fault("plan_elsewhere", "policy_failed", " m from ego", "PolicyError"),
    Fault("no_plan", "policy_failed", "no plan", "PolicyError"),
    Fault("short_plan", "policy_failed", "before the next decision", "PolicyError"),
    Fault("huge_plan", "infrastructure_failed", "too large", "ServiceError"),
    Fault("garbage", "infrastructure_failed", "cannot read each other's drive", "ServiceError"),
    Fault("terminate", "completed", ""),
)


def test_a_policy_that_misbehaves_ends_its_own_rollout_and_leaves_the_bytes_of_others(
    tmp_path: Path,
) -> None:
    brief = ["renderer=none", f"scenes.ids={SCENE}", "sync.duration_s=4"]
    with served("policy", by_seed(POLICY)) as address:
        results = run(
            tmp_path, "policy=remote", f"policy.address={address}", "run.wire_precision=float32",
            f"run.seeds={len(POLICY) + 1}", *brief,
        )  # fmt: skip
    for seed, fault in enumerate(POLICY, start=1):
        result = results[f"{SCENE}/{seed}"]
        at_the_plan = fault.name in ("no_plan", "short_plan")  # found by the orchestrator itself
        check(result, fault, "" if at_the_plan else "policy", "" if at_the_plan else "drive")
        if fault.name == "terminate":
            assert result.stopped_by == "policy"
    assert results[f"{SCENE}/0"].outcome == "completed"
    run(tmp_path / "here", "run.wire_precision=float32", *brief)
    assert digest(log_of(tmp_path, f"{SCENE}/0")) == digest(log_of(tmp_path / "here", f"{SCENE}/0"))


TRAFFIC = (
    Fault("raise", "infrastructure_failed", "boom"),
    Fault("unknown_actor", "infrastructure_failed", "nobody"),
    Fault("missing_actor", "infrastructure_failed", "missing"),
    Fault("nan_actor", "infrastructure_failed", "not finite"),
    Fault("garbage", "infrastructure_failed", "cannot read each other's simulate"),
)

CONTROLLER = (
    Fault("nan_state", "infrastructure_failed", "not finite"),
    Fault("no_state", "infrastructure_failed", "state"),
    Fault("late_state", "infrastructure_failed", "us"),
    Fault("garbage", "infrastructure_failed", "cannot read each other's"),
)


@pytest.mark.parametrize(("kind", "faults"), [("traffic", TRAFFIC), ("controller", CONTROLLER)])
def test_traffic_and_controllers_that_misbehave_end_their_own_rollout(
    tmp_path: Path, kind: str, faults: tuple[Fault, ...]
) -> None:
    with served(kind, by_seed(faults)) as address:
        results = run(
            tmp_path, f"{kind}=remote", f"{kind}.address={address}",
            "renderer=none", "scenes.ids=cut_in",
            f"run.seeds={len(faults) + 1}", "sync.duration_s=4",
        )  # fmt: skip
    assert results["cut_in/0"].outcome == "completed"
    for seed, fault in enumerate(faults, start=1):
        check(results[f"cut_in/{seed}"], fault, kind, MAIN_METHOD[kind])


MAIN_METHOD = {
    "traffic": "simulate",
    "controller": "run_controller_and_vehicle",
    "ground": "ground_intersection",
}

GROUND = {
    "cut_in": Fault("one_box_less", "infrastructure_failed", "ground answered", after=3),
    "junction": Fault("garbage", "infrastructure_failed", "cannot read", after=3),
}


def test_a_ground_that_misbehaves_ends_the_rollouts_of_its_scenes(tmp_path: Path) -> None:
    faults: dict[str, list[object]] = {k: [f.name, f.after] for k, f in GROUND.items()}
    with served("ground", faults) as address:
        results = run(
            tmp_path, "ground=remote", f"ground.address={address}",
            "renderer=none", with_healthy(GROUND), "sync.duration_s=2",
        )  # fmt: skip
    assert {result.scene for result in results.values()} == {*GROUND, SCENE}
    for name, result in results.items():
        fault = GROUND.get(result.scene, Fault("", "completed", ""))
        check(result, fault, "ground", "ground_intersection")
        assert name.endswith("/0")


VIDEO = (
    Fault("one_frame_less", "infrastructure_failed", "frames", after=3),
    Fault("other_camera", "infrastructure_failed", "camera", after=3),
    Fault("small_frame", "infrastructure_failed", "16x16", after=3),
    Fault("broken_frame", "infrastructure_failed", "image", after=3),
    Fault("huge_frame", "infrastructure_failed", "too large", after=3),
)
SMALL = ["renderer.width=160", "renderer.height=96"]


def test_a_video_model_that_misbehaves_ends_its_own_rollout(tmp_path: Path) -> None:
    with served("omnidreams", by_seed(VIDEO)) as address:
        results = run(
            tmp_path, "renderer=omnidreams", f"renderer.address={address}", "renderer.sessions=8",
            "renderer.first_frame=raster", *SMALL,
            f"scenes.ids={SCENE}", f"run.seeds={len(VIDEO) + 1}", "sync.duration_s=2",
        )  # fmt: skip
    assert results[f"{SCENE}/0"].outcome == "completed"
    for seed, fault in enumerate(VIDEO, start=1):
        check(results[f"{SCENE}/{seed}"], fault, "renderer", "render_video_chunk")


FRAMES = {
    "cut_in": Fault("broken_image", "infrastructure_failed", "image", after=3),
    "junction": Fault("empty_image", "infrastructure_failed", "image", after=3),
    "stopped_lead": Fault("huge_image", "infrastructure_failed", "too large", after=3),
}


def test_a_sensor_renderer_that_misbehaves_ends_the_rollouts_of_its_scenes(tmp_path: Path) -> None:
    faults: dict[str, list[object]] = {k: [f.name, f.after] for k, f in FRAMES.items()}
    with served("nurec", faults, "renderer.chunk=0") as address:
        results = run(
            tmp_path, "renderer=nurec", f"renderer.address={address}", "renderer.fps=10", *SMALL,
            with_healthy(FRAMES), "sync.duration_s=2",
        )  # fmt: skip
    assert {result.scene for result in results.values()} == {*FRAMES, SCENE}
    for result in results.values():
        fault = FRAMES.get(result.scene, Fault("", "completed", ""))
        check(result, fault, "renderer", "render_rgb")


HUNG_S = 15.0
"""The deadline of each call; the rollouts beside those that hang keep it on a busy machine."""

HANGS = {
    "policy": ("1", "drive", 8),
    "traffic": ("2", "simulate", 8),
    "controller": ("3", "run_controller_and_vehicle", 8),
    "omnidreams": ("4", "render_video_chunk", 3),
    "ground": ("curve", "ground_intersection", 3),
}
"""The seed, or the scene, for which each hangs, its method, and after how many calls."""


@pytest.mark.timeout(600)
def test_services_that_hang_meet_their_deadlines_and_the_other_rollouts_go_on(
    tmp_path: Path,
) -> None:
    settings = ["renderer.first_frame=raster", "renderer.sessions=16", "run.concurrency=16", *SMALL]
    with ExitStack() as running:
        for kind, (whose, method, after) in HANGS.items():
            address = running.enter_context(served(kind, {whose: ["hang", after]}))
            role = "renderer" if kind == "omnidreams" else kind
            settings += [
                f"{role}={kind if role == 'renderer' else 'remote'}", f"{role}.address={address}",
                f"{role}.timeouts_s.{method}={HUNG_S}",
            ]  # fmt: skip
        results = run(
            tmp_path, *settings, f"scenes.ids={SCENE},curve", "run.seeds=5", "sync.duration_s=4"
        )
    for kind, (whose, method, _) in HANGS.items():
        says = f"did not answer {method} within {HUNG_S:g} s"
        fault = Fault("hang", "infrastructure_failed", says, "TransientError")
        names = [f"curve/{k}" for k in range(5)] if kind == "ground" else [f"{SCENE}/{whose}"]
        for name in names:
            role = "renderer" if kind == "omnidreams" else kind
            check(results[name], fault, role, method)
    assert results[f"{SCENE}/0"].outcome == "completed"


def test_a_sensor_renderer_that_hangs_meets_its_deadline(tmp_path: Path) -> None:
    with served("nurec", {"*": ["hang", 3]}, "renderer.chunk=0") as address:
        ((_, result),) = run(
            tmp_path, "renderer=nurec", f"renderer.address={address}", "renderer.fps=10", *SMALL,
            "renderer.timeouts_s.render_rgb=1.0", f"scenes.ids={SCENE}", "sync.duration_s=2",
        ).items()  # fmt: skip
    says = "did not answer render_rgb within 1 s"
    fault = Fault("hang", "infrastructure_failed", says, "TransientError")
    check(result, fault, "renderer", "render_rgb")


def test_a_service_that_dies_or_starts_anew_ends_only_the_rollouts_that_it_served(
    tmp_path: Path,
) -> None:
    says = {"kill": "cannot be reached", "restart": "cannot be reached", "forget": "lost the session"}  # fmt: skip
    with (
        dying(("policy", "kill", AFTER), ("policy", "restart", AFTER), ("omnidreams", "kill", 3)) as (
            killed, restarted, killed_video,
        ),
        served("policy", {"*": ["forget", AFTER]}) as forgetful,
        served("policy", {}) as healthy,
        served("omnidreams", {}) as healthy_video,
    ):  # fmt: skip
        driven = run(
            tmp_path / "driven", "policy=remote", f"policy.address={killed},{restarted},{forgetful},{healthy}",
            "policy.sessions=1", "run.seeds=4", "renderer=none", f"scenes.ids={SCENE}", "sync.duration_s=4",
        )  # fmt: skip
        seen = run(
            tmp_path / "seen", "renderer=omnidreams", f"renderer.address={killed_video},{healthy_video}",
            "renderer.first_frame=raster", "run.seeds=2", *SMALL, f"scenes.ids={SCENE}", "sync.duration_s=2",
        )  # fmt: skip
    at = dict(zip((killed, restarted, forgetful), ("kill", "restart", "forget"), strict=True))
    for results, faults, kind in (
        (driven, at, "policy"),
        (seen, {killed_video: "kill"}, "renderer"),
    ):
        ended = [r for r in results.values() if r.error is not None]
        assert [r.outcome for r in results.values() if r not in ended] == ["completed"]
        named = {address: r for r in ended for address in faults if address in r.error["where"]}
        assert len(named) == len(ended) == len(faults), ended
        for address, fault in faults.items():
            expected = Fault(fault, "infrastructure_failed", says[fault])
            check(named[address], expected, kind, "")
