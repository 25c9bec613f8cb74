"""What a driver is sent, and what is made of its answers."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.struct_pb2 import Struct
from grpc import StatusCode

from omniloop.core import geometry
from omniloop.core.calls import CallFunnel
from omniloop.core.cameras import Camera, default_camera
from omniloop.core.contracts import CameraFrame, Observation, Plan, Route, SessionInfo
from omniloop.core.errors import OmniloopError, PolicyError, TransientError
from omniloop.core.motion import EgoMotion
from omniloop.core.scene import Scene, Vehicle
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.services.camera_codec import CameraAxes, camera_from_wire
from omniloop.services.codec import poses_from_wire
from omniloop.services.driver_client import RemotePolicy
from omniloop.services.driver_reply import START_TOLERANCE_M, plan_from_reply, reasoning_of
from omniloop.services.driver_spec import AVAILABLE_KEY, CONTRACT_KEY
from omniloop.services.rpc import VERSION_KEY, Caller, Refusal
from omniloop.services.serving import Listening, Servicer, start_server
from omniloop.services.session_times import TIMES_KEY
from tests.services.calling import until
from tests.services.driver_peers import ScriptedDriver, reply_from, reply_of

SCENE = EmbeddedScenes().load("straight_road")
NOW_US = 2_000_000


def session_of(scene: Scene = SCENE, name: str = "straight_road/3") -> SessionInfo:
    return SessionInfo(
        name, scene, 2**63 - 1, scene.vehicle, scene.start_us, 1_500_000, scene.end_us,
        CallFunnel(name),
    )  # fmt: skip


def observed(
    time_us: int = NOW_US,
    since_us: int = 0,
    frames: dict[str, tuple[CameraFrame, ...]] | None = None,
    route: Route | None = None,
) -> Observation:
    """Ego at 10 m/s along x, through 0 at time 0, with a state every 100 ms."""
    times = np.arange(since_us, time_us + 1, 100_000, dtype=np.int64)
    poses = np.tile(geometry.IDENTITY, (len(times), 1))
    poses[:, 0] = times / 1e5
    dynamics = np.zeros((len(times), 12))
    dynamics[:] = np.arange(1, 13)
    dynamics[:, :2] = [10.0, 0.0]
    return Observation(
        "straight_road/3", SCENE.id, 5, time_us, time_us + 100_000, EgoMotion(times, poses, dynamics),
        frames or {}, route, Vehicle(),
    )  # fmt: skip


def talk(
    driver: Servicer,
    *observations: Observation,
    rendered: tuple[Camera, ...] = (),
    **settings: Any,
) -> list[Plan]:
    """One session with a driver: start, plan on each observation, close."""

    async def run() -> list[Plan]:
        server, port = await start_server([driver], Listening())
        client = RemotePolicy(f"127.0.0.1:{port}", **settings)
        try:
            await client.connect()
            session = await client.open(session_of(), rendered)
            plans = [await session.plan(o) for o in observations]
            await session.close()
            return plans
        finally:
            await client.disconnect()
            await server.stop(None)

    return asyncio.run(run())


def frame(camera: str, capture_us: int, late_us: int = 0) -> CameraFrame:
    image = f"{camera}{capture_us}".encode()
    return CameraFrame(camera, image, capture_us - 500, capture_us, capture_us + late_us)


# ------------------------------------------------------------------------- what is sent


def test_a_session_starts_with_seed_scene_and_cameras_at_their_delivered_size() -> None:
    driver = ScriptedDriver()
    camera = default_camera()
    small = replace(camera, model=camera.model.resized(320, 176))
    talk(driver, rendered=(small, replace(small, id="unseen")), cameras=[small.id])
    (start,) = driver.of("start_session")
    assert start.random_seed == 2**63 - 1
    assert start.debug_info.scene_id == "straight_road"
    (listed,) = start.rollout_spec.vehicle.available_cameras
    assert (listed.intrinsics.resolution_w, listed.intrinsics.resolution_h) == (320, 176)
    assert listed.logical_id == listed.intrinsics.logical_id == camera.id
    (close,) = driver.of("close_session")
    assert close.session_uuid == start.session_uuid
    talk(driver)
    assert driver.of("start_session")[1].session_uuid != start.session_uuid


@pytest.mark.parametrize(
    ("told", "setting", "sent"),
    [
        ({}, "auto", CameraAxes.OPTICAL),
        ({CONTRACT_KEY: "1"}, "auto", CameraAxes.FLU),
        ({CONTRACT_KEY: "2"}, "auto", CameraAxes.OPTICAL),
        ({CONTRACT_KEY: "1"}, "optical", CameraAxes.OPTICAL),
        ({CONTRACT_KEY: "9"}, "flu", CameraAxes.FLU),
    ],
)
def test_camera_poses_have_the_axes_of_the_revision_that_goes_with_them(
    told: dict[str, str], setting: str, sent: CameraAxes
) -> None:
    driver = ScriptedDriver(metadata=told)
    camera = default_camera()
    talk(driver, rendered=(camera,), camera_axes=setting)
    assert driver.callers["start_session"].metadata[CONTRACT_KEY] == sent.value
    (listed,) = driver.of("start_session")[0].rollout_spec.vehicle.available_cameras
    np.testing.assert_allclose(
        camera_from_wire(listed, sent).rig_to_camera, camera.rig_to_camera, atol=1e-6
    )
    looks_along = geometry.rotate(
        poses_from_wire([listed.rig_to_camera])[0, 3:],
        np.eye(3)[0 if sent is CameraAxes.FLU else 2],
    )
    assert looks_along[0] > 0.99


def test_only_an_omniloop_server_is_told_what_the_public_interface_does_not_hold() -> None:
    late = observed(frames={"front": (frame("front", NOW_US - 100, late_us=100),)})
    foreign, ours = ScriptedDriver(), ScriptedDriver(metadata={VERSION_KEY: "0.1.0"})
    for driver in (foreign, ours):
        talk(driver, late)
    assert (
        ours.callers["start_session"].metadata[TIMES_KEY]
        == f"{SCENE.start_us},1500000,{SCENE.end_us}"
    )
    assert ours.callers["submit_image_observation"].metadata[AVAILABLE_KEY] == str(NOW_US)
    assert TIMES_KEY not in foreign.callers["start_session"].metadata
    assert AVAILABLE_KEY not in foreign.callers["submit_image_observation"].metadata
    assert ours.callers["start_session"].session_name == "straight_road/3"
    for caller in foreign.callers.values():
        assert not [key for key in caller.metadata if key.startswith("omniloop") and key != VERSION_KEY]  # fmt: skip
    assert VERSION_KEY not in foreign.callers["drive"].metadata


def test_a_foreign_driver_never_gets_privileged_inputs() -> None:
    from omniloop.core.replay import RecordedActors

    actors = RecordedActors(SCENE).at(np.array([0, NOW_US]))
    seen = replace(observed(), actors=SCENE.actors, actor_motion=actors)
    foreign, ours = ScriptedDriver(), ScriptedDriver(metadata={VERSION_KEY: "0.1.0"})
    for driver in (foreign, ours):
        talk(driver, seen)
    assert foreign.of("drive")[0].renderer_data == b""
    assert SCENE.actors[0].id.encode() in ours.of("drive")[0].renderer_data


def test_everything_is_sent_at_once_and_has_arrived_before_the_driver_is_asked() -> None:
    pushed = 2 + 1 + 1 + 1

    class Waits(ScriptedDriver):
        """Answers no observation before all of a decision's are there."""

        def __init__(self) -> None:
            super().__init__()
            self.barrier = asyncio.Barrier(pushed)

        async def answer(self, method: str, request: Any, caller: Caller) -> Any:
            if method.startswith("submit_"):
                await self.barrier.wait()
            return await super().answer(method, request, caller)

    driver = Waits()
    frames = {"a": (frame("a", NOW_US - 50_000), frame("a", NOW_US))}
    route = Route(NOW_US, np.array([[0.1, 0.2, 0.0], [4.0, 0.0, 0.0]]))
    talk(driver, observed(frames=frames, route=route), send_recording=True)
    order = [method for method, _ in driver.got]
    assert order[:2] == ["get_version", "start_session"]
    assert sorted(order[2:-2]) == [
        "submit_egomotion_observation", "submit_image_observation", "submit_image_observation",
        "submit_recording_ground_truth", "submit_route",
    ]  # fmt: skip
    assert order[-2:] == ["drive", "close_session"]
    drive = driver.of("drive")[0]
    assert (drive.time_now_us, drive.time_query_us) == (NOW_US, NOW_US + 100_000)
    images = {
        i.camera_image.frame_end_us: i.camera_image for i in driver.of("submit_image_observation")
    }
    assert images[NOW_US].image_bytes == b"a2000000"
    assert images[NOW_US].frame_start_us == NOW_US - 500
    assert images[NOW_US - 50_000].logical_id == "a"


def test_ego_motion_is_sent_whole_at_first_then_only_what_is_new() -> None:
    driver = ScriptedDriver()
    next_us = NOW_US + 200_000
    talk(
        driver, observed(), observed(next_us, since_us=NOW_US),
        observed(next_us, since_us=next_us),
    )  # fmt: skip
    first, second = driver.of("submit_egomotion_observation")
    assert [p.timestamp_us for p in first.trajectory.poses] == list(range(0, NOW_US + 1, 100_000))
    assert [p.timestamp_us for p in second.trajectory.poses] == [NOW_US + 100_000, next_us]
    for message in (first, second):
        assert len(message.dynamic_states) == len(message.trajectory.poses)
    state = first.dynamic_states[-1]
    assert (state.linear_velocity.x, state.angular_velocity.y) == (10.0, 5.0)
    assert (state.linear_acceleration.z, state.angular_acceleration.x) == (9.0, 10.0)


def test_ego_and_route_that_were_sent_ahead_are_not_sent_again() -> None:
    driver = ScriptedDriver()
    route = Route(NOW_US, np.array([[0.25, -0.5, 0.125], [4.0, 0.0, 0.0]]))
    observation = observed(frames={"a": (frame("a", NOW_US),)}, route=route)

    async def run() -> None:
        server, port = await start_server([driver], Listening())
        client = RemotePolicy(f"127.0.0.1:{port}")
        try:
            await client.connect()
            session = await client.open(session_of(), ())
            session.anticipate(NOW_US, observation.ego, route)
            # They are on their way without a plan being asked.
            await until(
                lambda: driver.of("submit_route") and driver.of("submit_egomotion_observation")
            )
            await session.plan(observation)
            await session.close()
        finally:
            await client.disconnect()
            await server.stop(None)

    asyncio.run(run())
    order = [method for method, _ in driver.got][2:]
    assert sorted(order[:2]) == ["submit_egomotion_observation", "submit_route"]
    assert order[2:] == ["submit_image_observation", "drive", "close_session"]


def test_what_was_sent_ahead_is_given_up_when_no_plan_follows() -> None:
    driver = ScriptedDriver()
    observation = observed()

    async def run() -> None:
        server, port = await start_server([driver], Listening())
        client = RemotePolicy(f"127.0.0.1:{port}")
        try:
            await client.connect()
            session = await client.open(session_of(), ())
            session.anticipate(NOW_US, observation.ego, None)
            await session.close()
        finally:
            await client.disconnect()
            await server.stop(None)

    gc.collect()  # what other tests left
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asyncio.run(run())
        gc.collect()
    assert not [w for w in told if "never awaited" in str(w.message)]
    assert driver.of("close_session")


def test_a_route_is_sent_as_it_is_and_none_is_not_sent() -> None:
    driver = ScriptedDriver()
    route = Route(NOW_US, np.array([[0.25, -0.5, 0.125], [4.0, 0.0, 0.0]]))
    talk(driver, observed(route=route), observed())
    (sent,) = driver.of("submit_route")
    assert sent.route.timestamp_us == NOW_US
    assert [(w.x, w.y, w.z) for w in sent.route.waypoints] == [(0.25, -0.5, 0.125), (4.0, 0.0, 0.0)]


def test_the_recording_is_sent_in_the_frame_of_ego() -> None:
    driver = ScriptedDriver()
    talk(driver, observed(), send_recording=True)
    (sent,) = driver.of("submit_recording_ground_truth")
    truth = sent.ground_truth
    assert truth.timestamp_us == NOW_US
    assert [p.timestamp_us for p in truth.trajectory.poses] == SCENE.ego.times_us.tolist()
    at_now = geometry.compose(
        observed().ego.local_to_rig[-1], poses_from_wire([truth.trajectory.poses[7].pose])[0]
    )
    np.testing.assert_allclose(at_now, SCENE.ego.poses[7], atol=1e-5)


# ------------------------------------------------------------------- what comes back


def read(reply: Any, observation: Observation | None = None) -> Plan:
    return plan_from_reply(reply, observation or observed())


def with_pose(reply: Any, index: int, **numbers: float) -> Any:
    for name, value in numbers.items():
        part = reply.trajectory.poses[index].pose
        setattr(part.vec if name in "xyz" else part.quat, name.removeprefix("q"), value)
    return reply


def no_time(reply: Any, index: int, time_us: int) -> Any:
    reply.trajectory.poses[index].timestamp_us = time_us
    return reply


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (no_time(reply_from(NOW_US), 1, NOW_US), "is not after"),
        (no_time(reply_from(NOW_US), 1, 2**63), "is beyond"),
        (with_pose(reply_from(NOW_US), 1, z=float("nan")), "is not finite"),
        (with_pose(reply_from(NOW_US), 1, qx=float("inf")), "is not finite"),
        (with_pose(reply_from(NOW_US), 0, qw=0.0), "is not a unit"),
        (with_pose(reply_from(NOW_US), 0, qw=1.1), "is not a unit"),
        (reply_of([NOW_US + 100_001], [21.0]), "after the next decision at 2100000 us"),
        (reply_of([NOW_US - 2, NOW_US - 1], [20.0, 20.0]), "before the decision at 2000000 us"),
        (reply_of([NOW_US, NOW_US + 1], [0.0, 0.0]), "starts elsewhere: 20.00 m from ego"),
        (with_pose(reply_from(NOW_US), 0, y=-2.1), "starts elsewhere: 2.10 m from ego"),
        (reply_of([0, NOW_US * 2], [25.0, 25.0]), "starts elsewhere: 5.00 m from ego"),
        (reply_of([NOW_US + 100_000], [24.0]), "4.00 m from ego.*3.05 m is allowed"),
    ],
)
def test_a_plan_that_cannot_be_driven_is_refused_with_its_reason(reply: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(reply)


@pytest.mark.parametrize(
    ("times_us", "x_m"),
    [
        ([NOW_US, NOW_US + 1], [20.0 + START_TOLERANCE_M, 30.0]),
        ([NOW_US - 500_000, NOW_US + 500_000], [15.0, 25.0]),
        ([NOW_US + 100_000, NOW_US + 200_000], [21.0, 22.0]),
        ([NOW_US], [20.0]),
    ],
)
def test_plans_may_start_a_little_off_and_earlier_or_later_than_now(
    times_us: list[int], x_m: list[float]
) -> None:
    plan = read(reply_of(times_us, x_m)).local_to_rig
    assert plan.times_us.tolist() == times_us
    assert plan.poses[:, 0].tolist() == x_m


def test_quaternions_are_normalised_and_heights_of_flat_drivers_accepted() -> None:
    reply = with_pose(reply_from(NOW_US), 0, qw=1.004, z=-40.0)
    assert read(reply).local_to_rig.poses[0, 6] == 1.0


def test_an_empty_plan_is_no_plan_yet() -> None:
    reply = reply_of([], [])
    reply.terminate_session = True
    plan = read(reply)
    assert len(plan.local_to_rig) == 0
    assert plan.terminate


def test_a_sample_that_cannot_be_read_is_left_out_and_that_is_said() -> None:
    reply = reply_from(NOW_US)
    reply.debug_info.unstructured_debug_info = b'{"reasoning_text": "yield"}'
    for other in (
        reply_from(NOW_US),
        with_pose(reply_from(NOW_US), 1, x=float("nan")),
        reply_of([], []),
    ):
        reply.debug_info.sampled_trajectories.append(other.trajectory)
    plan = read(reply)
    assert len(plan.samples) == 1
    first, second, third = plan.reasoning.split("\n")
    assert first == "yield"
    assert second.startswith("[sampled trajectory 1 left out: pose")
    assert third == "[sampled trajectory 2 left out: it is empty]"


def struct(**fields: Any) -> bytes:
    message = Struct()
    message.update(fields)
    data: bytes = message.SerializeToString()
    return data


class Attack:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    ("debug", "text"),
    [
        (b'{"reasoning_text": "gap \xc3\xa4", "other": [1]}', "gap ä"),
        (struct(reasoning_text="wait", scalars={"a": 1.0}), "wait"),
        (b"", ""),
        (b'{"reasoning_text": 3}', ""),
        (struct(reasoning_text=3), ""),
        (struct(other="x"), ""),
        (b'["reasoning_text"]', ""),
        (b'{"reasoning_text": ', ""),
        (b'{"a":' * 100_000, ""),
        (b"\xff\x00", ""),
        (pickle.dumps({"reasoning_text": "no"}), ""),
        (b'{"reasoning_text": "' + b"x" * (1 << 20) + b'"}', ""),
    ],
    ids=range(12),
)
def test_debug_bytes_are_read_as_json_or_struct_and_else_ignored(debug: bytes, text: str) -> None:
    assert reasoning_of(debug) == text


def test_nothing_of_a_peer_is_ever_unpickled(tmp_path: Path) -> None:
    marks = [tmp_path / "proof", tmp_path / "mark"]
    pickle.loads(pickle.dumps(Attack(marks[0])))
    assert marks[0].exists()

    def answer(request: Any) -> Any:
        reply = reply_from(request.time_now_us)
        reply.debug_info.unstructured_debug_info = pickle.dumps(Attack(marks[1]))
        return reply

    (plan,) = talk(ScriptedDriver(answer), observed())
    assert len(plan.local_to_rig) == 2
    assert plan.reasoning == ""
    assert not marks[1].exists()


# --------------------------------------------------------------------------- failures


def test_an_unusable_plan_names_the_driver_the_rollout_and_the_time() -> None:
    driver = ScriptedDriver(lambda request: reply_of([request.time_now_us], [500.0]))
    with pytest.raises(
        PolicyError, match="driver's plan cannot be used: it starts elsewhere"
    ) as caught:
        talk(driver, observed())
    assert "straight_road/3, policy.drive at 2000000 us, 127.0.0.1:" in caught.value.where
    assert caught.value.remedy


class Fails(ScriptedDriver):
    """Fails in one method, once `others` calls hang in others."""

    def __init__(
        self, method: str, code: StatusCode, hangs: tuple[str, ...] = (), others: int = 0
    ) -> None:
        super().__init__()
        self.fails, self.code, self.hangs, self.others = method, code, hangs, others
        self.hanging = self.cancelled = 0

    async def answer(self, method: str, request: Any, caller: Caller) -> Any:
        if method in self.hangs:
            self.hanging += 1
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if method == self.fails:
            await until(lambda: self.hanging == self.others)
            raise Refusal(self.code, "out of order")
        return await super().answer(method, request, caller)


@pytest.mark.parametrize(
    ("method", "code", "kind"),
    [
        ("start_session", StatusCode.FAILED_PRECONDITION, PolicyError),
        ("submit_egomotion_observation", StatusCode.INVALID_ARGUMENT, PolicyError),
        ("drive", StatusCode.UNKNOWN, PolicyError),
        ("drive", StatusCode.UNAVAILABLE, TransientError),
        ("close_session", StatusCode.UNKNOWN, PolicyError),
    ],
)
def test_the_address_is_free_again_whatever_fails(
    method: str, code: StatusCode, kind: type[OmniloopError]
) -> None:
    async def run() -> None:
        server, port = await start_server([Fails(method, code)], Listening())
        client = RemotePolicy(f"127.0.0.1:{port}", sessions=1)
        try:
            for _ in range(2):
                with pytest.raises(kind, match="out of order") as caught:
                    await asyncio.wait_for(one(client), 60)
                assert f"policy.{method}" in caught.value.where
        finally:
            await client.disconnect()
            await server.stop(None)

    async def one(client: RemotePolicy) -> None:
        session = await client.open(session_of(), ())
        try:
            await session.plan(observed())
        finally:
            await session.close()

    asyncio.run(run())


def test_when_one_observation_fails_no_other_call_is_left_behind() -> None:
    driver = Fails(
        "submit_egomotion_observation", StatusCode.INVALID_ARGUMENT,
        hangs=("submit_image_observation",), others=2,
    )  # fmt: skip
    frames = {"a": (frame("a", NOW_US - 50_000), frame("a", NOW_US))}

    async def run() -> None:
        server, port = await start_server([driver], Listening())
        client = RemotePolicy(f"127.0.0.1:{port}")
        try:
            session = await client.open(session_of(), (default_camera(),))
            with pytest.raises(PolicyError, match="out of order"):
                await asyncio.wait_for(session.plan(observed(frames=frames)), 60)
            await until(lambda: driver.cancelled == 2)
            assert driver.of("drive") == []
        finally:
            await client.disconnect()
            await server.stop(None)

    asyncio.run(run())


def test_a_driver_that_hangs_is_given_up_at_its_deadline() -> None:
    driver = Fails("", StatusCode.OK, hangs=("drive",))
    with pytest.raises(TransientError, match=r"did not answer drive within 0\.2 s"):
        talk(driver, observed(), timeouts_s={"drive": 0.2})
