"""What is in the ASL logs of our rollouts, read by a decoder that shares nothing with the writer.

The rules are those by which AlpaSim's runtime writes and its evaluation reads (alpasim.md 2.8,
4.1, 6.5).
"""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.record import RolloutRecord
from omniloop.runlog.reader import iter_frames
from omniloop.runlog.record import read_record
from omniloop.services.asl_write import write_asl
from tests.services.asl_stage import WIRE, Independent, run

GROUND = ("ground=flat", "ground.height_m=0.25")
FRAMES = (
    "scenes.ids=cut_in", "renderer.chunk=0", "renderer.fps=10", "sync.duration_s=2",
    "sync.warmup_s=0.5", "policy=tests.services.asl_stage:Telling", *GROUND,
)  # fmt: skip
CHUNKS = ("scenes.ids=curve", "renderer.chunk=8", "sync.duration_s=2", *GROUND)


@dataclass
class Logged:
    """A rollout's two logs."""

    record: RolloutRecord
    log: Path
    asl: Path
    entries: list[tuple[str, Any]]

    def all(self, kind: str) -> list[Any]:
        return [value for name, value in self.entries if name == kind]


@pytest.fixture(scope="module", params=["frames", "chunks"])
def logged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    if not WIRE.is_file():
        pytest.skip("the wire table ../shared/wire is not here")
    folder = tmp_path_factory.mktemp(request.param)
    log = run(folder, "run", *(FRAMES if request.param == "frames" else CHUNKS))
    asl = log.with_name("rollout.asl")
    assert write_asl(log, asl) == ()
    return Logged(read_record(log), log, asl, list(Independent().entries(asl)))


def pose(message: Any) -> Array:
    v, q = message.vec, message.quat
    return np.array([v.x, v.y, v.z, q.x, q.y, q.z, q.w])


def poses(trajectory: Any) -> tuple[list[int], Array]:
    times = [p.timestamp_us for p in trajectory.poses]
    return times, np.array([pose(p.pose) for p in trajectory.poses]).reshape(-1, 7)


def assert_near(a: Array, b: Array, metres: float = 1e-4) -> None:
    np.testing.assert_allclose(a[..., :3], b[..., :3], atol=metres)
    dots = np.abs(np.sum(a[..., 3:] * b[..., 3:], axis=-1))
    np.testing.assert_allclose(dots, 1.0, atol=1e-6)


def test_the_metadata_is_first_and_only_once(logged: Logged) -> None:
    assert logged.entries[0][0] == "rollout_metadata"
    assert len(logged.all("rollout_metadata")) == 1
    session, schedule = logged.entries[0][1].session_metadata, logged.record.schedule
    assert session.scene_id == logged.record.scene.id
    assert session.batch_size == 1
    assert session.n_sim_steps == schedule.n_decisions
    assert session.start_timestamp_us == schedule.context_start_us
    assert session.render_start_timestamp_us == schedule.render_start_us
    assert session.control_timestep_us == schedule.decision_period_us


def test_alpasims_rule_of_handover_gives_ours(logged: Logged) -> None:
    metadata, schedule = logged.entries[0][1], logged.record.schedule
    closed_loop_us = schedule.render_start_us + metadata.force_gt_duration
    for time_us in schedule.decisions_us.tolist():
        forced = time_us + schedule.decision_period_us <= closed_loop_us
        assert forced == schedule.is_warmup(time_us)


def test_one_uuid_names_the_session_everywhere(logged: Logged) -> None:
    names = Counter(
        value.session_uuid for _, value in logged.entries
        if "session_uuid" in value.DESCRIPTOR.fields_by_name
    )  # fmt: skip
    assert list(names) == [logged.entries[0][1].session_metadata.session_uuid]
    assert sum(names.values()) > 50


def test_everybody_with_a_pose_is_defined_and_ego_comes_first_there_and_last_here(
    logged: Logged,
) -> None:
    metadata = logged.entries[0][1]
    defined = [a.actor_id for a in metadata.actor_definitions.actor_aabb]
    assert defined == ["EGO", *(a.id for a in logged.record.scene.actors)]
    for message in logged.all("actor_poses"):
        ids = [p.actor_id for p in message.actor_poses]
        assert ids[-1] == "EGO"
        assert len(set(ids)) == len(ids)
        assert set(ids) <= set(defined)


def test_states_are_at_growing_times_two_before_the_loop_and_then_all_of_egos(
    logged: Logged,
) -> None:
    times = [m.timestamp_us for m in logged.all("actor_poses")]
    assert all(a < b for a, b in pairwise(times))
    ego_us, schedule = logged.record.ego.times_us, logged.record.schedule
    start = {schedule.context_start_us, schedule.first_decision_us}
    driven = ego_us[ego_us > schedule.first_decision_us].tolist()
    assert times == [*sorted(start), *driven]


def test_poses_of_boxes_are_those_of_the_record(logged: Logged) -> None:
    record, metadata = logged.record, logged.entries[0][1]
    rig_to_aabb = pose(metadata.transform_ego_coords_rig_to_aabb)
    ids = [a.id for a in record.scene.actors]
    for message in logged.all("actor_poses"):
        at = np.array([message.timestamp_us])
        given = {p.actor_id: pose(p.actor_pose) for p in message.actor_poses}
        rig = record.ego.trajectory.sample(at)[0]
        assert_near(given.pop("EGO"), geometry.compose(rig, rig_to_aabb))
        actors = record.actors.sample(at)
        there = {n: actors.local_to_aabb[i, 0] for i, n in enumerate(ids) if actors.valid[i, 0]}
        assert given.keys() == there.keys()
        for name, expected in there.items():
            assert_near(given[name], expected)


def test_the_recorded_ego_is_of_the_rig(logged: Logged) -> None:
    recorded = logged.entries[0][1].ego_rig_recorded_ground_truth_trajectory
    times, given = poses(recorded)
    assert times == logged.record.scene.ego.times_us.tolist()
    assert_near(given, logged.record.scene.ego.poses)


def test_each_plan_answers_the_request_before_it(logged: Logged) -> None:
    kinds = [name for name, _ in logged.entries]
    for question, answer in (
        ("driver_request", "driver_return"), ("controller_request", "controller_return"),
        ("traffic_request", "traffic_return"), ("physics_request", "physics_return"),
    ):  # fmt: skip
        asked = [i for i, kind in enumerate(kinds) if kind == question]
        assert [i + 1 for i in asked] == [i for i, kind in enumerate(kinds) if kind == answer]
    decisions = logged.record.decisions
    requests, returns = logged.all("driver_request"), logged.all("driver_return")
    period_us = logged.record.schedule.decision_period_us
    assert [r.time_now_us for r in requests] == [d.time_us for d in decisions]
    assert [r.time_query_us for r in requests] == [d.time_us + period_us for d in decisions]
    for decision, answer in zip(decisions, returns, strict=True):
        times, given = poses(answer.trajectory)
        assert times == decision.plan.local_to_rig.times_us.tolist()
        assert_near(given, decision.plan.local_to_rig.poses)
        samples = answer.debug_info.sampled_trajectories
        assert len(samples) == len(decision.plan.samples)


def test_reasoning_is_where_alpasims_videos_look_for_it(logged: Logged) -> None:
    for decision, answer in zip(logged.record.decisions, logged.all("driver_return"), strict=True):
        debug = answer.debug_info.unstructured_debug_info
        if decision.plan.reasoning:
            assert pickle.loads(debug) == {"reasoning_text": decision.plan.reasoning}
        else:
            assert debug == b""


def test_entries_of_a_step_are_in_alpasims_order(logged: Logged) -> None:
    kinds = [name for name, _ in logged.entries]
    starts = [i for i, kind in enumerate(kinds) if kind == "driver_request"]
    chunked = logged.record.schedule.chunk is not None
    chunk = ["video_model_chunk_request", "video_model_chunk_return"]
    renders = chunk if chunked else ["render_request"]
    assert len(starts) > 5
    for start, end in pairwise(starts):
        # From one decision to the next: images and ego of the next one are at the end.
        step = [k for n, k in enumerate(kinds[start:end]) if n == 0 or k != kinds[start + n - 1]]
        grounded = ["physics_request", "physics_return"]
        assert step == [
            "driver_request", "driver_return", "controller_request", "controller_return", *grounded,
            "traffic_request", "traffic_return", *grounded, "actor_poses", *renders,
            "driver_camera_image", "driver_ego_trajectory", "route_request",
        ]  # fmt: skip


def test_sessions_are_opened_before_the_first_states(logged: Logged) -> None:
    kinds = [name for name, _ in logged.entries]
    chunked = logged.record.schedule.chunk is not None
    renderer = (
        ["video_model_session_request", "video_model_session_id"]
        if chunked
        else ["available_cameras_request", "available_cameras_return"]
    )
    opening = ["rollout_metadata", *renderer, "driver_session_request", "traffic_session_request"]
    assert kinds[: len(opening)] == opening
    before = kinds[len(opening) : kinds.index("actor_poses")]
    # Without a chunk the first decision is at render start, from which on the ground has a share.
    assert before == (["physics_request", "physics_return"] * 2 if chunked else [])


def test_images_are_those_delivered_with_their_shutters(logged: Logged) -> None:
    frames = list(iter_frames(logged.log))
    images = [m.camera_image for m in logged.all("driver_camera_image")]
    assert [(f.camera_id, f.start_us, f.capture_us, f.image) for f in frames] == [
        (i.logical_id, i.frame_start_us, i.frame_end_us, i.image_bytes) for i in images
    ]
    (session,) = logged.all("driver_session_request")
    known = [c.logical_id for c in session.rollout_spec.vehicle.available_cameras]
    assert {i.logical_id for i in images} == set(known)


def test_each_frame_was_asked_for(logged: Logged) -> None:
    captured = {f.capture_us for f in iter_frames(logged.log)}
    if logged.record.schedule.chunk is None:
        asked = {
            t for m in logged.all("render_request") for t in (m.frame_start_us, m.frame_end_us)
        }
    else:
        chunks = logged.all("video_model_chunk_request")
        assert [len(m.rig_trajectory.poses) for m in chunks] == [5, *[8] * (len(chunks) - 1)]
        asked = {p.timestamp_us for m in chunks for p in m.rig_trajectory.poses}
        outputs = [m.camera_outputs for m in logged.all("video_model_chunk_return")]
        assert [len(o) for o in outputs] == [1] * len(chunks)
        answered = [image.data for o in outputs for image in o[0].rgb_frames]
        assert answered == [f.image for f in iter_frames(logged.log)]
    assert captured <= asked


def test_ego_is_told_in_full_at_first_and_then_what_is_new(logged: Logged) -> None:
    told = [poses(m.trajectory)[0] for m in logged.all("driver_ego_trajectory")]
    times = [t for part in told for t in part]
    last_us = logged.record.decisions[-1].time_us
    assert times == [t for t in logged.record.ego.times_us.tolist() if t <= last_us]
    assert told[0][0] == logged.record.schedule.context_start_us
    for message in logged.all("driver_ego_trajectory"):
        assert len(message.dynamic_states) == len(message.trajectory.poses)


def test_the_controller_is_asked_in_the_rig_at_the_plans_first_time(logged: Logged) -> None:
    ego = logged.record.ego.trajectory
    warmup = logged.record.schedule.is_warmup
    for request in logged.all("controller_request"):
        now_us = request.state.timestamp_us
        assert_near(pose(request.state.pose), ego.sample([now_us])[0])
        assert request.coerce_dynamic_state == warmup(now_us)
        times, in_rig = poses(request.planned_trajectory_in_rig)
        assert times[0] <= now_us
        assert_near(in_rig[0], geometry.IDENTITY, 0.3)


def test_the_ground_was_asked_for_what_it_answered(logged: Logged) -> None:
    """Every box that was asked for is set on a plane 0.25 m up, at its own place."""
    pairs = list(zip(logged.all("physics_request"), logged.all("physics_return"), strict=True))
    assert len(pairs) > 10
    for request, answer in pairs:
        if len(request.other_objects):
            asked = np.array([pose(o.pose_pair.future_pose) for o in request.other_objects])
            given = np.array([pose(p.pose) for p in answer.other_poses])
            height_m = np.array([o.aabb.size_z for o in request.other_objects])
        else:
            times, asked = poses(request.ego_data.ego_trajectory_aabb)
            answered, given = poses(answer.ego_trajectory_aabb)
            assert answered == times
            assert len(answer.ego_status) == len(times)
            height_m = np.full(len(times), request.ego_data.aabb.size_z)
        np.testing.assert_allclose(given[:, :2], asked[:, :2], atol=1e-4)
        np.testing.assert_allclose(given[:, 2], 0.25 + height_m / 2, atol=1e-4)


def test_the_same_log_gives_the_same_bytes(logged: Logged, tmp_path: Path) -> None:
    write_asl(logged.log, tmp_path / "again.asl")
    assert (tmp_path / "again.asl").read_bytes() == logged.asl.read_bytes()
