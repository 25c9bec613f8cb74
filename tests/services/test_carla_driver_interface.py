"""A third party's driver server and client, as real processes.

carla-driver-interface brings its own copy of the protobuf messages, so it never shares a
process with Omniloop.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omniloop.configs.compose import compose
from omniloop.core import geometry
from omniloop.core.cameras import default_camera
from omniloop.core.contracts import PolicySpec
from omniloop.core.errors import ConfigError
from omniloop.core.record import RolloutRecord
from omniloop.core.route import route_from_recording
from omniloop.runlog.record import read_record
from omniloop.runlog.results import RolloutResult
from omniloop.runner.run import execute
from omniloop.services.driver_server import EgodriverServicer
from omniloop.services.driver_spec import CONTRACT_KEY
from omniloop.services.rpc import Caller
from tests.services.calling import held_port
from tests.services.driver_peers import Watching, listening, served_policy

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(sys.executable).with_name("carla-driver-interface")
OMNILOOP = Path(sys.executable).with_name("omniloop")
START_S = END_S = 120.0
pytestmark = pytest.mark.timeout(600)

if not PROGRAM.exists():
    pytest.skip("carla-driver-interface is not installed", allow_module_level=True)


@contextmanager
def process(*command: str, log: Path) -> Iterator[str]:
    """A server process on a free port; yields its address as it tells it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("wb") as out:
        running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + START_S
        while True:
            assert running.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"not ready: {log.read_text()}"
            told = re.search(r" (127\.0\.0\.1:[1-9]\d*) ", log.read_text())
            if told is not None:
                break
            time.sleep(0.05)
        yield told[1]
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            assert running.wait(END_S) in (0, -signal.SIGTERM)
        finally:
            running.kill()


def process_of(policy: str, mode: str, folder: Path) -> Any:
    """carla-driver-interface's server, as its user starts it."""
    command = (
        str(PROGRAM), "serve", "--policy", policy, "--mode", mode, "--host", "127.0.0.1",
        "--port", "0",
    )  # fmt: skip
    return process(*command, log=folder / "driver.log")


def run(folder: Path, address: str, *settings: str) -> list[tuple[RolloutResult, RolloutRecord]]:
    """Run rollouts with a driver at an address."""
    finished = execute(
        compose([f"run.dir={folder}", "run.name=run", "policy=remote", f"policy.address={address}", *settings])
    )  # fmt: skip
    logs = [
        finished.run_dir / "rollouts" / r.scene / str(r.seed) / "log.mcap" for r in finished.results
    ]
    return [(result, read_record(log)) for result, log in zip(finished.results, logs, strict=True)]


def off_route_m(record: RolloutRecord) -> float:
    """How far the rig came from its route, at most."""
    route = route_from_recording(record.scene.ego, record.scene.map)
    assert route is not None
    places = record.ego.local_to_rig[:, :2]
    s_m = np.array([route.project(float(x), float(y)) for x, y in places])
    return float(np.linalg.norm(route.at(s_m)[:, :2] - places, axis=1).max())


def assert_sane(policy: str, result: RolloutResult, record: RolloutRecord) -> None:
    assert result.outcome == "completed", result.error
    assert result.privileged == []
    speed_mps = record.ego.dynamics[-1, 0]
    handover = int(np.searchsorted(record.ego.times_us, record.schedule.handover_us))
    driven_m = np.linalg.norm(np.diff(record.ego.local_to_rig[handover:, :2], axis=0), axis=1).sum()
    seconds = (record.schedule.end_us - record.schedule.handover_us) / 1e6
    if policy == "route_follower":
        assert speed_mps == pytest.approx(8.0, abs=1.0)
        assert off_route_m(record) < 1.0
        assert result.metrics["progress_rel"].value > 0.6
        assert result.metrics["offroad"].value == 0.0
    else:
        assert speed_mps == pytest.approx(5.0, abs=0.1)
        assert driven_m / seconds == pytest.approx(5.0, abs=1.0)
        assert result.metrics["progress_rel"].value > 0.2


@dataclass(frozen=True)
class Farm:
    """Its drivers in one process, by (policy, mode), and its probes by (mode, axes)."""

    drivers: dict[tuple[str, str], str]
    probes: dict[tuple[str, str], tuple[str, Path]]


MODES = ("carla", "alpasim")
DRIVERS = tuple(product(("constant_speed", "route_follower"), MODES))
CONVENTIONS = (("carla", "auto"), ("carla", "flu"), ("alpasim", "optical"), ("alpasim", "flu"))


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    folder = tmp_path_factory.mktemp("farm")
    seen = {key: folder / f"{'-'.join(key)}.jsonl" for key in CONVENTIONS}
    wanted: list[list[object]] = [[policy, mode, {}] for policy, mode in DRIVERS]
    probe = "tests.services.driver_probe:Probe"
    wanted += [[probe, mode, {"path": str(seen[mode, axes])}] for mode, axes in CONVENTIONS]
    running = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("driver_farm.py")), json.dumps(wanted)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert running.stdout is not None
        addresses = iter([f"127.0.0.1:{port}" for port in json.loads(running.stdout.readline())])
        drivers = {key: next(addresses) for key in DRIVERS}
        yield Farm(drivers, {key: (next(addresses), seen[key]) for key in CONVENTIONS})
        running.send_signal(signal.SIGTERM)
        assert running.wait(END_S) == 0
    finally:
        running.kill()
        running.wait()
        assert running.stdout is not None
        running.stdout.close()


@pytest.mark.parametrize("driver", DRIVERS, ids="-".join)
def test_its_drivers_drive_made_scenes(farm: Farm, driver: tuple[str, str], tmp_path: Path) -> None:
    policy, address = driver[0], farm.drivers[driver]
    scenes = ("scenes.ids=straight_road,curve", "renderer=none", "sync.duration_s=4")
    for result, record in run(tmp_path, address, *scenes):
        assert_sane(policy, result, record)


@pytest.mark.parametrize("driver", DRIVERS[::3], ids="-".join)  # each policy, and each mode
def test_its_drivers_drive_a_recorded_scene(
    farm: Farm, driver: tuple[str, str], tmp_path: Path, shared_data: Path
) -> None:
    policy, address = driver[0], farm.drivers[driver]
    scene = ("scenes=av2", f"scenes.path={shared_data}/av2/sensor", "scenes.limit=1")
    ((result, record),) = run(tmp_path, address, *scene, "renderer=none", "sync.duration_s=6")
    assert_sane(policy, result, record)


@pytest.mark.parametrize("convention", CONVENTIONS, ids="-".join)
def test_it_sees_the_same_cameras_and_frames_in_every_convention(
    farm: Farm, convention: tuple[str, str], tmp_path: Path
) -> None:
    address, seen = farm.probes[convention]
    settings = (
        "scenes.ids=curve", "sync.duration_s=1", "renderer.width=160", "renderer.height=96",
        f"policy.camera_axes={convention[1]}", "policy.send_recording=true", "traffic=log_replay",
    )  # fmt: skip
    ((result, record),) = run(tmp_path, address, *settings)
    assert result.outcome == "completed", result.error
    start, *drives = [json.loads(line) for line in seen.read_text().splitlines()]
    camera = default_camera()
    assert (start["scene_id"], start["seed"]) == ("curve", result.seeds["policy"])
    (told,) = start["cameras"].values()
    np.testing.assert_allclose(told["rig_to_camera"], camera.rig_to_camera, atol=1e-5)
    assert told["size"] == [160, 96]
    decisions = record.schedule.decisions_us.tolist()
    assert [d["now_us"] for d in drives] == [d["ego_us"] for d in drives] == decisions
    for drive in drives:
        assert drive["query_us"] - drive["now_us"] == record.schedule.decision_period_us
        assert drive["shapes"] == [[96, 160, 3]]
        assert max(drive["frames"][camera.id]) == drive["now_us"]
        poses, states = drive["ego_states"]
        assert poses == states == np.searchsorted(record.ego.times_us, drive["now_us"], "right")
        waypoints = np.array(drive["route"])
        assert len(waypoints) == 20
        assert np.isfinite(waypoints).all()
        assert abs(waypoints[0, 0]) < 0.05
        assert drive["recorded"] == len(record.scene.ego)
        assert not drive["has_renderer_data"]
        speed_mps = record.ego.dynamics[poses - 1, :3]
        assert drive["speed_mps"] == pytest.approx(np.linalg.norm(speed_mps), abs=1e-4)
    assert len(drives[-1]["frames"][camera.id]) == 5 + 8 * (len(drives) - 1)


def test_it_holds_several_rollouts_at_once(tmp_path: Path) -> None:
    settings = (
        "scenes.ids=curve", "sync.duration_s=1", "renderer.width=160", "renderer.height=96",
        "run.seeds=4", "run.concurrency=4",
    )  # fmt: skip
    with process_of("route_follower", "alpasim", tmp_path) as address:
        found = run(tmp_path, address, *settings)
    assert [result.outcome for result, _ in found] == ["completed"] * 4
    first = found[0][1].ego.local_to_rig
    assert all(np.array_equal(record.ego.local_to_rig, first) for _, record in found)


def test_nobody_at_the_address_is_found_before_anything_is_written(tmp_path: Path) -> None:
    with held_port() as port, pytest.raises(ConfigError, match="nothing answers at"):
        run(tmp_path, f"127.0.0.1:{port}", "policy.connect_timeout_s=0.3")
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------- its client


async def demo(address: str, steps: int) -> dict[str, float]:
    """What its `demo` prints after driving a server through its own loop."""
    small = ("--camera-width", "64", "--camera-height", "36")
    running = await asyncio.create_subprocess_exec(
        str(PROGRAM), "demo", "--driver", address, "--steps", str(steps), *small,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, errors = await asyncio.wait_for(running.communicate(), 300.0)
    assert running.returncode == 0, errors.decode()
    rows = re.findall(r"^(\w[\w ]*?)\s*: ([-+.\d]+)", out.decode(), re.MULTILINE)
    return {name: float(number) for name, number in rows}


def test_its_demo_drives_a_policy_that_omniloop_serves(tmp_path: Path) -> None:
    command = (str(OMNILOOP), "serve", "policy", "policy=route_follower", "--port", "0")
    with process(*command, log=tmp_path / "serve.log") as address:
        said = asyncio.run(demo(address, steps=100))
    assert said["steps"] == 100
    assert said["max lateral offset"] < 0.05
    # From standing, half of 1 m/s2 in its loop: it takes the first 100 ms of each plan.
    assert said["final speed"] == pytest.approx(5.0, abs=0.5)
    assert said["distance travelled"] == pytest.approx(24.7, abs=3.0)


class Undeclared(EgodriverServicer):
    """A server that tells no contract revision, as carla-driver-interface 1.x."""

    async def get_version(self, request: Any, caller: Caller) -> Any:
        version = await super().get_version(request, caller)
        del caller.reply_metadata[CONTRACT_KEY]
        return version


@pytest.mark.parametrize("declares", [True, False])
def test_its_demos_camera_is_understood_in_both_conventions(declares: bool) -> None:
    policy = Watching(PolicySpec(cameras=None, horizon_s=4.0))
    served = served_policy(policy)
    if not declares:
        served.__class__ = Undeclared

    async def run_demo() -> None:
        async with listening(served) as (address,):
            await demo(address, steps=3)

    asyncio.run(run_demo())
    ((session, (camera,)),) = policy.opened
    assert session.scene.id == "fake:straight_road"
    np.testing.assert_allclose(camera.rig_to_camera[:3], [2.5, 0.0, 1.5], atol=1e-6)
    looks_along, has_right = geometry.rotate(camera.rig_to_camera[3:], np.eye(3)[[2, 0]])
    np.testing.assert_allclose(looks_along, [1.0, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(has_right, [0.0, -1.0, 0.0], atol=1e-6)
    assert [o.time_us for o in policy.seen] == [0, 100_000, 200_000]
    for observation in policy.seen:
        (frame,) = observation.frames[camera.id]
        assert frame.image[:2] == b"\xff\xd8"
        assert frame.capture_us == observation.time_us
        assert observation.route is not None
        assert len(observation.route.waypoints_rig) == 50
