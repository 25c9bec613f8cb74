"""Services played by logs behind their own protocols: what they answer, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from omniloop.configs.compose import compose
from omniloop.core.geometry import IDENTITY
from omniloop.runlog.difference import first_difference
from omniloop.runlog.digest import digest
from omniloop.runner.replaying.replay import find_recordings, replay
from omniloop.runner.replaying.setup import RecordedScenes
from omniloop.runner.run import execute
from omniloop.services.ground_server import PhysicsServicer
from omniloop.services.protos import physics_pb2 as physics
from omniloop.services.protos import sensorsim_pb2 as sensorsim
from omniloop.services.roles import servicers
from omniloop.services.shelf import SceneShelf
from tests.runner.replaying.replay_peers import drive_against, played
from tests.services.calling import called

BASE = [
    "scenes.ids=curve", "sync.duration_s=0.8", "renderer.width=96", "renderer.height=64", "ground=flat",
    "traffic=idm", "run.wire_precision=float32",
]  # fmt: skip
BY_FRAME = ["renderer.chunk=0", "renderer.fps=10"]
KINDS = ("policy", "traffic", "controller", "ground", "renderer")


def log_of(run_dir: Path, seed: int = 0) -> Path:
    return run_dir / "rollouts" / "curve" / str(seed) / "log.mcap"


def drive(folder: Path, name: str, words: list[str]) -> Path:
    execute(compose([f"run.dir={folder}", f"run.name={name}", *words]))
    return folder / name


@pytest.fixture(scope="module")
def chunked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drive(tmp_path_factory.mktemp("driven"), "chunked", [*BASE, "run.seeds=2"])


@pytest.fixture(scope="module")
def by_frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drive(tmp_path_factory.mktemp("driven"), "by_frame", [*BASE, *BY_FRAME])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", [[], BY_FRAME], ids=["chunked", "by_frame"])
def test_the_same_rollout_is_answered_as_it_was(chunked, by_frame, tmp_path, kind, words):
    source = by_frame if words else chunked
    service = played(kind, source, tolerance=1e-6)
    done = drive_against(service, source, tmp_path / "run", [*BASE, *words])
    assert [r.error for r in done] == [None]
    assert service.summary.mismatches == 0
    assert service.summary.answered >= 3
    # A quaternion made unit again may round back to its neighbour.
    assert first_difference(log_of(tmp_path / "run"), log_of(source), tolerance=1e-6) is None
    if kind in ("controller", "renderer"):
        assert digest(log_of(tmp_path / "run")) == digest(log_of(source))


@pytest.mark.parametrize("kind", KINDS)
def test_another_rollout_is_refused_with_the_field_that_differs(chunked, tmp_path, kind):
    service = played(kind, chunked)
    other = "traffic=log_replay" if kind == "policy" else "policy.target_speed_mps=2"
    done = drive_against(service, chunked, tmp_path / "run", [*BASE, other])
    assert done[0].error is not None, service.summary
    assert "FAILED_PRECONDITION" in done[0].error["what"]
    assert service.summary.mismatches == 1
    assert " is asked " in service.summary.first
    assert service.summary.first in done[0].error["what"]


def test_a_lenient_one_answers_all_the_same_and_counts(chunked, tmp_path):
    service = played("controller", chunked, lenient=True)
    words = [*BASE, "policy.target_speed_mps=2"]
    done = drive_against(service, chunked, tmp_path / "run", words)
    assert done[0].outcome == "completed"
    assert service.summary.mismatches > 1
    assert "plan_local_to_rig" in str(service.summary)
    assert f"{service.summary.mismatches} not as recorded; first curve/0: at" in str(
        service.summary
    )


def test_rollouts_are_told_apart_by_their_seeds(chunked, tmp_path):
    service = played("policy", chunked)
    done = drive_against(service, chunked, tmp_path / "run", BASE, seeds=2)
    assert [r.outcome for r in done] == ["completed", "completed"]
    assert service.summary.sessions == 2
    assert service.summary.mismatches == 0


def test_what_was_disturbed_is_expected_disturbed(tmp_path):
    words = [*BASE, "sync.duration_s=1", "imperfection.actor_dropout.spells_per_s=2", "imperfection.frames.loss=0.3",
             "imperfection.latency.extra_us=100000"]  # fmt: skip
    source = drive(tmp_path, "driven", words)
    service = played("policy", source)
    done = drive_against(service, source, tmp_path / "run", words)
    assert [r.error for r in done] == [None]
    assert service.summary.mismatches == 0
    undisturbed = [w for w in words if "dropout" not in w]
    done = drive_against(played("policy", source), source, tmp_path / "other", undisturbed)
    assert "actor_motion." in done[0].error["what"]


def test_a_run_without_a_wire_is_answered_within_its_rounding(tmp_path):
    words = [w for w in BASE if "wire" not in w]
    source = drive(tmp_path, "driven", words)
    service = played("policy", source)
    assert service.tolerance == 1e-3
    done = drive_against(service, source, tmp_path / "run", words)
    assert done[0].outcome == "completed"
    assert service.summary.mismatches == 0
    assert replay(source)[0].difference is None


# ------------------------------------------------------------ clients of another project


def shelf_of(source: Path) -> SceneShelf:
    return SceneShelf(RecordedScenes({r.session_id: r for r in find_recordings(source)}))


def test_a_foreign_client_of_physics_is_told_which_field_differs(chunked):
    service = played("ground", chunked)
    tape = next(iter_tape(service, chunked))
    box = physics.PhysicsGroundIntersectionRequest.OtherObject()
    request = physics.PhysicsGroundIntersectionRequest(
        scene_id="curve", now_us=tape.time_us, future_us=tape.target_us
    )
    box.pose_pair.future_pose.quat.w = IDENTITY[6]
    box.aabb.size_x = box.aabb.size_y = box.aabb.size_z = 1.0
    request.other_objects.append(box)
    servicer = PhysicsServicer(service, shelf_of(chunked))
    unknown = physics.PhysicsGroundIntersectionRequest(scene_id="moon", now_us=0, future_us=1)
    refused, missing = called(
        servicer, ("ground_intersection", request), ("ground_intersection", unknown)
    )
    assert refused[0].name == "FAILED_PRECONDITION"
    assert "curve/0: at " in refused[1]
    assert missing[0].name == "NOT_FOUND"


def iter_tape(service, source):
    import asyncio

    recording = find_recordings(source)[0]

    async def tape() -> dict:
        return await service.expected(recording, False)

    found = asyncio.run(tape())
    service.forget(recording, False)
    yield from (request for request in found.values() if not request.is_ego)


def test_a_frame_that_was_never_asked_for_is_refused(by_frame):
    service = played("renderer", by_frame)
    protocols = servicers("renderer", service, shelf_of(by_frame))
    servicer = next(p for p in protocols if "Sensorsim" in p.service.name)
    (cameras,) = called(
        servicer, ("get_available_cameras", sensorsim.AvailableCamerasRequest(scene_id="curve"))
    )
    camera = cameras.available_cameras[0]
    request = sensorsim.RGBRenderRequest(
        scene_id="curve", resolution_w=96, resolution_h=64, camera_intrinsics=camera.intrinsics,
        frame_start_us=12_345, frame_end_us=12_346, image_format=sensorsim.JPEG,
    )  # fmt: skip
    for pose in (request.sensor_pose.start_pose, request.sensor_pose.end_pose):
        pose.quat.w = 1.0
    (refused,) = called(servicer, ("render_rgb", request))
    assert refused[0].name == "FAILED_PRECONDITION"
    assert "12346 us" in refused[1]
    assert service.summary.mismatches == 1
