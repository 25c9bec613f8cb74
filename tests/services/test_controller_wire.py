"""Controllers behind their protocol, and whole rollouts with every motion service elsewhere."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.calls import CallFunnel
from omniloop.core.contracts import SessionInfo, VehicleRequest
from omniloop.core.errors import ConfigError, PolicyError, ServiceError
from omniloop.core.local import as_service
from omniloop.core.motion import EgoMotion, Trajectory, grid_times_us
from omniloop.core.record import RolloutRecord
from omniloop.core.registry import create
from omniloop.core.replay import RecordedActors, recorded_motion_at
from omniloop.core.route import route_from_recording
from omniloop.core.scene import Scene, Vehicle
from omniloop.core.schedule import build_schedule
from omniloop.orchestrator.rollout import run_rollout
from omniloop.orchestrator.rollout_spec import RolloutSpec
from omniloop.orchestrator.services import Services, service_seeds
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.services.codec import dynamics_to_wire, pose_to_wire, trajectory_to_wire
from omniloop.services.controller_client import RemoteController
from omniloop.services.controller_motion import filled
from omniloop.services.controller_server import ControllerServicer
from omniloop.services.ground_client import RemoteGround
from omniloop.services.protos import controller_pb2 as pb
from omniloop.services.roles import looped_back, servicers
from omniloop.services.rpc import Caller
from omniloop.services.serving import Listening, Servicer, start_server
from omniloop.services.shelf import SceneShelf
from omniloop.services.traffic_client import RemoteTraffic
from tests.orchestrator.harness import FramePolicy, MemoryRecorder
from tests.services.calling import called

SECOND = 1_000_000
STEP = 100_000
NOW = 5 * SECOND


def session_of(scene: Scene) -> SessionInfo:
    name = f"{scene.id}/4"
    return SessionInfo(
        name, scene, 99, scene.vehicle, scene.start_us, SECOND, scene.end_us, call=CallFunnel(name)
    )


def plain_scene(scene_id: str = "plain") -> Scene:
    times = np.array([0, 10 * SECOND])
    vehicle = Vehicle(4.0, 1.8, 1.4, 1.2, 2.5)
    return Scene(scene_id, "test", Trajectory(times, np.stack([geometry.pose()] * 2)), vehicle)


def straight_plan(
    pose: np.ndarray, start_us: int, speed_mps: float = 10.0, seconds: float = 3.0
) -> Trajectory:
    times = start_us + np.arange(0, int(seconds * SECOND) + 1, STEP, dtype=np.int64)
    ahead = np.tile(geometry.IDENTITY, (len(times), 1))
    ahead[:, 0] = speed_mps * (times - start_us) / SECOND
    return Trajectory(times, geometry.compose(pose, ahead))


def at_rest() -> np.ndarray:
    return np.zeros(12)


def asked(
    time_us: int = NOW,
    target_us: int = NOW + 250_000,
    pose: np.ndarray | None = None,
    plan: Trajectory | None = None,
    **changes: Any,
) -> VehicleRequest:
    pose = geometry.pose(100.0, 50.0, 1.0, 0.5) if pose is None else pose
    plan = straight_plan(pose, time_us) if plan is None else plan
    return VehicleRequest(time_us, target_us, pose, at_rest(), plan, **changes)


class Spy:
    """Follows the plan and keeps what it was asked."""

    def __init__(self, step_us: int = STEP) -> None:
        self.step_us = step_us
        self.sessions: list[SessionInfo] = []
        self.asked: list[VehicleRequest] = []
        self.closed = 0

    def open(self, session: SessionInfo) -> Spy:
        self.sessions.append(session)
        return self

    def step(self, request: VehicleRequest) -> EgoMotion:
        self.asked.append(request)
        times = grid_times_us(request.time_us, request.target_us, self.step_us)
        return recorded_motion_at(request.plan_local_to_rig, times)

    def close(self) -> None:
        self.closed += 1


def served(plugin: object, scenes: Any = None) -> ControllerServicer:
    shelf = None if scenes is None else SceneShelf(scenes)
    return ControllerServicer(as_service("controller", plugin), shelf)


def with_client(
    servicer: Servicer, use: Callable[[RemoteController], Awaitable[Any]], **settings: Any
) -> Any:
    async def run() -> Any:
        server, port = await start_server([servicer], Listening())
        client = RemoteController(f"127.0.0.1:{port}", **settings)
        try:
            await client.connect()
            return await use(client)
        finally:
            await client.disconnect()
            await server.stop(None)
            await servicer.aclose()

    return asyncio.run(run())


def steps_of(servicer: Servicer, *requests: VehicleRequest, **settings: Any) -> list[EgoMotion]:
    async def use(client: RemoteController) -> list[EgoMotion]:
        session = await client.open(session_of(plain_scene()))
        try:
            return [await session.step(r) for r in requests]
        finally:
            await session.close()

    return with_client(servicer, use, **settings)


# ------------------------------------------------------------------ our own at both ends


@pytest.mark.parametrize("name", ["perfect", "bicycle"])
@pytest.mark.parametrize(("scene_id", "period_us"), [("curve", STEP), ("cut_in", 266_664)])
def test_a_served_controller_drives_as_it_does_in_this_process(
    name: str, scene_id: str, period_us: int
) -> None:
    """In closed loop over a recording; plans are up to three periods old, the ground is bumpy."""
    scene = EmbeddedScenes().load(scene_id)
    session = session_of(scene)

    async def drive(step: Callable[[VehicleRequest], Any]) -> list[EgoMotion]:
        states, plan, out = recorded_motion_at(scene.ego, np.array([SECOND])), None, []
        for k in range(20):
            t = SECOND + k * period_us
            pose = states.local_to_rig[-1].copy()
            pose[2] += 0.05 * (k % 3)  # as a ground corrects it
            if k % 4 == 0:
                plan = scene.ego.clip(t, t + 4 * SECOND)
            request = VehicleRequest(
                t, t + period_us, pose, states.dynamics[-1], plan, coerce=k < 2
            )
            answer = step(request)
            states = await answer if asyncio.iscoroutine(answer) else answer
            out.append(states)
        return out

    async def remote(client: RemoteController) -> list[EgoMotion]:
        opened = await client.open(session)
        return await drive(opened.step)

    here = asyncio.run(drive(create("controller", name, {}).open(session).step))
    there = with_client(served(create("controller", name, {}), EmbeddedScenes()), remote)
    for wanted, got in zip(here, there, strict=True):
        assert got.times_us.tolist() == wanted.times_us.tolist()
        np.testing.assert_allclose(got.local_to_rig, wanted.local_to_rig, atol=2e-3)
        np.testing.assert_allclose(got.dynamics, wanted.dynamics, atol=2e-2)


def test_a_served_plugin_is_asked_as_in_this_process() -> None:
    spy, scene = Spy(step_us=40_000), EmbeddedScenes().load("curve")
    session = replace(session_of(scene), vehicle=Vehicle(4.0, 1.8, 1.4, 1.2, 2.5))
    pose = geometry.pose(100.0, 50.0, 1.0, 0.5)
    beside = geometry.compose(pose, geometry.pose(0.3, -0.2))
    dynamics = np.arange(12) / 8
    first = VehicleRequest(
        NOW, NOW + 250_000, pose, dynamics, straight_plan(beside, NOW), coerce=True
    )
    later = geometry.pose(102.0, 52.0, 1.0, 0.5)
    second = VehicleRequest(
        NOW + 250_000, NOW + 500_000, later, dynamics, straight_plan(beside, NOW)
    )

    async def use(client: RemoteController) -> list[EgoMotion]:
        opened = await client.open(session)
        answers = [await opened.step(first), await opened.step(second)]
        await opened.close()
        return answers

    answers = with_client(served(spy, EmbeddedScenes()), use)
    told = spy.sessions[0]
    assert (told.session_id, told.seed, told.vehicle) == ("curve/4", 99, session.vehicle)
    assert (told.start_us, told.handover_us, told.end_us) == (0, SECOND, scene.end_us)
    assert told.scene.id == "curve"
    assert len(told.scene.tracks) == len(scene.tracks)
    assert spy.closed == 1
    for got, wanted in zip(spy.asked, (first, second), strict=True):
        assert (got.time_us, got.target_us) == (wanted.time_us, wanted.target_us)
        assert got.coerce == wanted.coerce
        np.testing.assert_allclose(got.local_to_rig, wanted.local_to_rig, atol=1e-5)
        np.testing.assert_allclose(got.dynamics, wanted.dynamics, atol=1e-6)
        plan = wanted.plan_local_to_rig
        assert np.array_equal(got.plan_local_to_rig.times_us, plan.times_us)
        np.testing.assert_allclose(got.plan_local_to_rig.poses, plan.poses, atol=2e-5)
    # All states that the plugin gave come back, not every 100 ms alone.
    assert answers[0].times_us.tolist() == grid_times_us(NOW, NOW + 250_000, 40_000).tolist()


def test_a_scene_that_is_not_served_still_tells_its_vehicle() -> None:
    spy = Spy()
    steps_of(served(spy, EmbeddedScenes()), asked())
    told = spy.sessions[0]
    assert (told.scene.id, len(told.scene.ego)) == ("plain", 0)
    assert told.vehicle == told.scene.vehicle == plain_scene().vehicle


def test_a_plan_older_than_the_session_is_cut_where_the_session_begins() -> None:
    spy = Spy()
    pose = geometry.pose(20.0, 3.0)
    plan = straight_plan(geometry.pose(15.0, 3.0), NOW - 500_000)
    steps_of(served(spy), asked(pose=pose, plan=plan))
    got = spy.asked[0].plan_local_to_rig
    assert got.start_us == NOW
    np.testing.assert_allclose(got.poses[0], pose, atol=1e-5)
    np.testing.assert_allclose(got.sample(NOW + SECOND)[0], plan.sample(NOW + SECOND)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (Trajectory(np.zeros(0, np.int64), np.zeros((0, 7))), "is empty"),
        (straight_plan(geometry.pose(), NOW + 1), "covers 5000001 to"),
        (straight_plan(geometry.pose(), NOW, seconds=0.2), "to 5200000 us; ego moves"),
    ],
)
def test_a_plan_that_does_not_cover_the_step_is_the_policys_error(
    plan: Trajectory, says: str
) -> None:
    with pytest.raises(PolicyError, match=says) as caught:
        steps_of(served(Spy()), asked(plan=plan))
    assert "plain/4, controller.run_controller_and_vehicle at 5000000 us" in caught.value.where


# ----------------------------------------------------------------- AlpaSim's as a server


class AlpaSim(ControllerServicer):
    """Answers with `reply` and says nothing of Omniloop."""

    def __init__(self, reply: Any = None) -> None:
        super().__init__(as_service("controller", Spy()))
        self.returned = reply
        self.heard: list[tuple[Any, Caller]] = []

    async def answer(self, method: str, request: Any, caller: Caller) -> Any:
        self.heard.append((request, caller))
        reply = await super().answer(method, request, caller)
        caller.reply_metadata.clear()
        return reply

    async def run_controller_and_vehicle(self, request: Any, caller: Caller) -> Any:
        if self.returned is None:
            return await super().run_controller_and_vehicle(request, caller)
        return self.returned


def state(time_us: int, x_m: float, speed_mps: float | None = 10.0) -> Any:
    out = pb.RunControllerAndVehicleModelResponse.PropagatedState(
        timestamp_us=time_us, pose_local_to_rig=pose_to_wire(geometry.pose(x_m)),
        pose_local_to_rig_estimated=pose_to_wire(geometry.pose(-1.0)),
    )  # fmt: skip
    if speed_mps is not None:
        out.dynamic_state.linear_velocity.x = speed_mps
    return out


def answered(*states: Any) -> Any:
    return pb.RunControllerAndVehicleModelResponse(states=states)


def from_origin(target_us: int = NOW + 250_000) -> VehicleRequest:
    return asked(target_us=target_us, pose=geometry.pose())


def test_a_foreign_service_gets_exactly_what_alpasim_sends() -> None:
    peer = AlpaSim()
    pose, later = geometry.pose(100.0, 50.0, 1.0, 0.5), geometry.pose(102.0, 53.0, 1.2, 0.6)
    plan = straight_plan(pose, NOW)
    steps_of(
        peer,
        asked(pose=pose, plan=plan, coerce=True),
        asked(NOW + 250_000, NOW + 500_000, later, plan),
        pose_reporting_interval_us=50_000,
    )
    (_, _), (start, caller), (first, _), (second, _), (close, _) = peer.heard
    assert [k for k in caller.metadata if "omniloop" in k] == []
    assert not start.HasField("vehicle_and_controller_params")
    assert start.session_uuid == first.session_uuid == close.session_uuid
    assert (first.state.timestamp_us, first.future_time_us) == (NOW, NOW + 250_000)
    assert (first.coerce_dynamic_state, second.coerce_dynamic_state) == (True, False)
    assert first.pose_reporting_interval_us == 50_000
    assert second.state.pose == pose_to_wire(later)
    for request in (first, second):  # in the frame of ego's pose at the plan's first timestamp
        states = request.planned_trajectory_in_rig.poses
        assert [p.timestamp_us for p in states] == plan.times_us.tolist()
        assert [p.pose.vec.x for p in states] == pytest.approx(np.arange(31.0).tolist(), abs=1e-4)
        assert [p.pose.vec.y for p in states] == pytest.approx([0.0] * 31, abs=1e-4)


def test_a_plan_made_between_two_states_is_anchored_between_them() -> None:
    peer = AlpaSim(
        answered(state(NOW + 100_000, 3.0), state(NOW + 200_000, 4.0), state(NOW + 250_000, 5.0))
    )
    plan = straight_plan(geometry.pose(4.5), NOW + 150_000)
    with pytest.raises(ServiceError, match="do not grow"):  # it answers the second call alike
        steps_of(peer, from_origin(), asked(NOW + 250_000, NOW + 300_000, geometry.pose(5.0), plan))
    states = peer.heard[3][0].planned_trajectory_in_rig.poses
    assert states[0].pose.vec.x == pytest.approx(4.5 - 3.5)


def test_states_come_back_as_they_are_where_they_are_close_enough() -> None:
    (motion,) = steps_of(
        AlpaSim(answered(state(NOW + 80_000, 1.0), state(NOW + 180_000, 2.0, 11.0))),
        from_origin(NOW + 180_000),
    )
    assert motion.times_us.tolist() == [NOW + 80_000, NOW + 180_000]
    assert motion.local_to_rig[:, 0].tolist() == [1.0, 2.0]
    assert motion.dynamics[:, 0].tolist() == [10.0, 11.0]


OLD = pb.RunControllerAndVehicleModelResponse(
    pose_local_to_rig={"timestamp_us": NOW + 250_000, "pose": pose_to_wire(geometry.pose(5.0))},
    dynamic_state={"linear_velocity": {"x": 10.0}},
)


@pytest.mark.parametrize("reply", [answered(state(NOW + 250_000, 5.0)), OLD], ids=["state", "old"])
def test_a_single_state_is_reached_from_the_one_before_every_100_ms(reply: Any) -> None:
    (motion,) = steps_of(AlpaSim(reply), from_origin())
    assert (motion.times_us - NOW).tolist() == [100_000, 200_000, 250_000]
    np.testing.assert_allclose(motion.local_to_rig[:, 0], [2.0, 4.0, 5.0])
    np.testing.assert_allclose(motion.dynamics[:, 0], [4.0, 8.0, 10.0])


def test_gaps_between_states_are_filled_alike() -> None:
    states = [state(NOW + 50_000, 1.0, 0.0), state(NOW + 250_000, 5.0, 8.0)]
    (motion,) = steps_of(AlpaSim(answered(*states)), from_origin())
    assert (motion.times_us - NOW).tolist() == [50_000, 150_000, 250_000]
    np.testing.assert_allclose(motion.local_to_rig[:, 0], [1.0, 3.0, 5.0])
    np.testing.assert_allclose(motion.dynamics[:, 0], [0.0, 4.0, 8.0])


@given(st.lists(st.integers(1, 400_000), min_size=1, max_size=6))
def test_filled_motion_keeps_all_states_and_leaves_no_gap(steps: list[int]) -> None:
    times = np.cumsum([NOW, *steps])
    poses = np.tile(geometry.IDENTITY, (len(times), 1))
    poses[:, 0] = np.arange(len(times))
    motion = filled(EgoMotion(times, poses, np.zeros((len(times), 12))))
    assert set(times[1:].tolist()) <= set(motion.times_us.tolist())
    gaps = np.diff(motion.times_us, prepend=NOW)
    assert gaps.min() > 0
    assert gaps.max() <= STEP
    kept = np.isin(motion.times_us, times)
    assert motion.local_to_rig[kept, 0].tolist() == list(range(1, len(times)))


def test_motion_that_a_service_does_not_tell_is_derived_from_its_poses() -> None:
    states = [state(NOW + t, 8.0 * t / SECOND, None) for t in (100_000, 200_000, 300_000)]
    (motion,) = steps_of(AlpaSim(answered(*states)), from_origin(NOW + 300_000))
    np.testing.assert_allclose(motion.dynamics[:, 0], 8.0, atol=1e-5)


BAD_POSE = state(NOW + 250_000, 5.0)
BAD_POSE.pose_local_to_rig.quat.w = 0.0
BAD_MOTION = state(NOW + 250_000, 5.0, float("inf"))


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (answered(), "it holds no state"),
        (answered(state(NOW + 200_000, 4.0)), "do not grow from 5000000 to 5250000 us"),
        (answered(state(NOW + 250_000, 4.0), state(NOW + 300_000, 4.0)), "do not grow from"),
        (answered(state(NOW, 0.0), state(NOW + 250_000, 4.0)), "do not grow from"),
        (answered(state(NOW + 250_000, 4.0), state(NOW + 250_000, 4.0)), "do not grow from"),
        (answered(state(NOW + 250_000, float("nan"))), "is not finite"),
        (answered(BAD_POSE), "is not a unit"),
        (answered(BAD_MOTION), "dynamic state is not finite"),
        (answered(state(2**64 - 1, 0.0)), "is beyond"),
        (pb.RunControllerAndVehicleModelResponse(pose_local_to_rig={"timestamp_us": 5}), "do not grow"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_named(reply: Any, says: str) -> None:
    with pytest.raises(ServiceError, match=says) as caught:
        steps_of(AlpaSim(reply), from_origin())
    where = "plain/4, controller.run_controller_and_vehicle at 5000000 us, 127.0.0.1:"
    assert where in caught.value.where


@pytest.mark.parametrize("interval", [0, 100_001, 0.1, True, "fast"])
def test_an_interval_of_states_is_between_1_us_and_100_ms(interval: Any) -> None:
    with pytest.raises(ConfigError, match="pose_reporting_interval_us is"):
        RemoteController("127.0.0.1:1", pose_reporting_interval_us=interval)


# ------------------------------------------------------------- AlpaSim's as the caller


def start(uuid: str = "u") -> tuple[str, Any]:
    return "start_session", pb.VDCSessionRequest(session_uuid=uuid)


def close(uuid: str = "u") -> tuple[str, Any]:
    return "close_session", pb.VDCSessionCloseRequest(session_uuid=uuid)


def run(
    now_us: int, until_us: int, x_m: float = 0.0, *, plan_us: int | None = None,
    interval_us: int = STEP, **changes: Any,
) -> tuple[str, Any]:  # fmt: skip
    plan = straight_plan(geometry.pose(), now_us if plan_us is None else plan_us)
    fields: dict[str, Any] = {
        "session_uuid": "u",
        "state": {
            "timestamp_us": now_us, "pose": pose_to_wire(geometry.pose(x_m)),
            "state": dynamics_to_wire(at_rest()),
        },
        "planned_trajectory_in_rig": trajectory_to_wire(plan.times_us, plan.poses),
        "future_time_us": until_us, "pose_reporting_interval_us": interval_us,
    }  # fmt: skip
    request = pb.RunControllerAndVehicleModelRequest(**{**fields, **changes})
    return "run_controller_and_vehicle", request


def xs(reply: Any) -> list[tuple[int, float]]:
    return [(s.timestamp_us, round(s.pose_local_to_rig.vec.x, 4)) for s in reply.states]


def test_sessions_are_known_once_and_closed_as_often_as_you_like() -> None:
    spy = Spy()
    step = run(NOW, NOW + STEP)
    replies = called(
        served(spy), close(), step, start(), start(), start(""), step, close(), close(), step
    )
    codes = [r[0] if isinstance(r, tuple) else "OK" for r in replies]
    assert codes == [
        "OK", StatusCode.NOT_FOUND, "OK", StatusCode.ALREADY_EXISTS, StatusCode.INVALID_ARGUMENT,
        "OK", "OK", "OK", StatusCode.NOT_FOUND,
    ]  # fmt: skip
    assert spy.closed == 1
    assert spy.sessions[0].vehicle == Vehicle()


@pytest.mark.parametrize(
    ("interval_us", "times"),
    [(STEP, [100, 200, 250]), (250_000, [250]), (0, [250]), (60_000, [60, 120, 180, 240, 250])],
)
def test_states_are_reported_at_the_interval_and_exactly_at_the_end(
    interval_us: int, times: list[int]
) -> None:
    replies = called(
        served(Spy(step_us=STEP)), start(), run(NOW, NOW + 250_000, 7.0, interval_us=interval_us)
    )
    reply = replies[1]
    assert xs(reply) == [(NOW + t * 1000, round(7.0 + t / 100, 4)) for t in times]
    assert all(s.pose_local_to_rig == s.pose_local_to_rig_estimated for s in reply.states)
    assert all(s.dynamic_state == s.dynamic_state_estimated for s in reply.states)
    assert reply.states[-1].dynamic_state.linear_velocity.x == pytest.approx(10.0, abs=1e-4)
    assert not reply.HasField("pose_local_to_rig")


def test_a_plan_is_relative_to_egos_own_pose_at_its_first_timestamp() -> None:
    replies = called(
        served(Spy()), start(),
        run(NOW, NOW + STEP, 20.0),  # drives to 21 m
        run(NOW + STEP, NOW + 2 * STEP, 25.0, plan_us=NOW),  # ego was set to 25 m
        run(NOW + 2 * STEP, NOW + 3 * STEP, 30.0, plan_us=NOW + 50_000),
        run(NOW + 3 * STEP, NOW + 4 * STEP, 30.0, plan_us=NOW + 250_000),
    )  # fmt: skip
    assert [xs(r)[-1][1] for r in replies[1:]] == [
        21.0,
        22.0,  # 2 m from the 20 m at its first timestamp
        25.0,  # 2.5 m from half-way between the 20 m and the 25 m that were true
        31.5,  # 1.5 m from the 30 m that were true twice
    ]


def test_a_plan_made_between_two_reports_is_anchored_at_the_motion_answered() -> None:
    replies = called(
        served(Spy()), start(),
        run(NOW, NOW + 250_000, 20.0),  # by 21 m and 22 m to 22.5 m
        run(NOW + 250_000, NOW + 300_000, 40.0, plan_us=NOW + 150_000),
    )  # fmt: skip
    assert xs(replies[2])[-1][1] == 21.5 + 1.5


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (run(NOW, NOW), "future_time_us is 5000000, not after the state at 5000000 us"),
        (run(NOW, -5), "future_time_us is -5"),
        (run(NOW, NOW + STEP, interval_us=-1), "pose_reporting_interval_us is -1"),
        (run(NOW, NOW + STEP, planned_trajectory_in_rig=None), "planned_trajectory_in_rig is empty"),
        (run(NOW, NOW + STEP, plan_us=NOW - 1), "starts at 4999999 us, outside the poses held"),
        (run(NOW, NOW + STEP, plan_us=NOW + 1), "starts at 5000001 us, outside the poses held"),
        (run(NOW, NOW + STEP, float("nan")), "state: pose .* is not finite"),
        (run(NOW, NOW + STEP, state=None), "state: quaternion"),
        (run(NOW, NOW + STEP, planned_trajectory_in_rig={"poses": [{"timestamp_us": NOW}]}),
         "planned_trajectory_in_rig: quaternion"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused(call: tuple[str, Any], says: str) -> None:
    replies = called(served(Spy()), start(), call, run(NOW, NOW + STEP))
    code, details = replies[1]
    assert code is StatusCode.INVALID_ARGUMENT
    assert re.search(says, details), details
    assert len(replies[2].states) == 1


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda m: EgoMotion(m.times_us[:-1], m.local_to_rig[:-1], m.dynamics[:-1]), "not from"),
        (lambda m: EgoMotion(m.times_us[::-1], m.local_to_rig, m.dynamics), "not from"),
        (lambda m: m.trajectory, "a Trajectory, not an EgoMotion"),
    ],
)
def test_a_plugin_that_answers_wrongly_is_an_error_of_the_service(
    answer: Callable[[EgoMotion], Any], says: str
) -> None:
    class Wrong(Spy):
        def step(self, request: VehicleRequest) -> Any:
            return answer(super().step(request))

    with pytest.raises(ServiceError, match=says):
        steps_of(served(Wrong()), asked())


# ------------------------------------------------------------------------ whole rollouts


PLUGINS = {"traffic": "log_replay", "controller": "bicycle", "ground": "flat"}
CLIENTS = {"traffic": RemoteTraffic, "controller": RemoteController, "ground": RemoteGround}


async def simulated(scene: Scene, services: Services) -> RolloutRecord:
    policy = services.policy
    schedule = build_schedule(
        scene, (), None, policy.spec, decision_period_us=STEP, warmup_s=1.0, duration_s=4.0
    )
    spec = RolloutSpec(
        scene=scene, seed=0, schedule=schedule, cameras=(), seeds=service_seeds(0, scene.id, 0),
        recorded_actors=RecordedActors(scene), route=route_from_recording(scene.ego),
    )  # fmt: skip
    return await run_rollout(spec, services, MemoryRecorder(), CallFunnel(spec.session_id))


def services_of(kind: Callable[[str, Any], Any]) -> Services:
    plugins = {k: as_service(k, create(k, name, {})) for k, name in PLUGINS.items()}
    policy = as_service("policy", FramePolicy())
    return Services(policy=policy, **{k: kind(k, plugin) for k, plugin in plugins.items()})


def rollout_in_process(scene: Scene, at_wire_precision: bool) -> RolloutRecord:
    shelf = SceneShelf(EmbeddedScenes())

    async def run() -> RolloutRecord:
        services = services_of(
            lambda k, plugin: looped_back(k, plugin, shelf) if at_wire_precision else plugin
        )
        await services.connect()
        return await simulated(scene, services)

    return asyncio.run(run())


def rollout_over_the_wire(scene: Scene) -> RolloutRecord:
    async def run() -> RolloutRecord:
        shelf, servers, ports = SceneShelf(EmbeddedScenes()), [], {}
        for kind, name in PLUGINS.items():
            plugin = as_service(kind, create(kind, name, {}))
            server, ports[kind] = await start_server(servicers(kind, plugin, shelf), Listening())
            servers.append(server)
        services = services_of(lambda k, _: CLIENTS[k](f"127.0.0.1:{ports[k]}"))
        try:
            await services.connect()
            return await simulated(scene, services)
        finally:
            await services.disconnect()
            for server in servers:
                await server.stop(None)

    return asyncio.run(run())


@pytest.mark.parametrize("scene_id", ["cut_in", "crossing_pedestrian"])
def test_a_rollout_has_the_same_states_embedded_and_with_every_motion_service_elsewhere(
    scene_id: str,
) -> None:
    scene = EmbeddedScenes().load(scene_id)
    there = rollout_over_the_wire(scene)
    here = rollout_in_process(scene, at_wire_precision=True)
    for a, b in ((there.ego, here.ego), (there.ego_estimated, here.ego_estimated)):
        assert a.times_us.tobytes() == b.times_us.tobytes()
        assert a.local_to_rig.tobytes() == b.local_to_rig.tobytes()
        assert a.dynamics.tobytes() == b.dynamics.tobytes()
    assert there.actors.local_to_aabb.tobytes() == here.actors.local_to_aabb.tobytes()
    assert there.actors.valid.tobytes() == here.actors.valid.tobytes()
    exact = rollout_in_process(scene, at_wire_precision=False)
    np.testing.assert_allclose(there.ego.local_to_rig, exact.ego.local_to_rig, atol=0.05)
    np.testing.assert_allclose(there.actors.local_to_aabb, exact.actors.local_to_aabb, atol=1e-4)
    assert not np.array_equal(there.actors.local_to_aabb, exact.actors.local_to_aabb)
