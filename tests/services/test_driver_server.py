"""A served policy answers a foreign runtime as carla-driver-interface does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.cameras import default_camera
from omniloop.core.contracts import ImageHistory, Observation, Plan, PolicySpec
from omniloop.core.errors import ConfigError, SceneError
from omniloop.core.motion import Trajectory
from omniloop.core.scene import Scene
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.services.driver_inbox import EgoLog
from omniloop.services.driver_server import EgodriverServicer
from omniloop.services.driver_spec import CONTRACT_KEY, SPEC_KEY, spec_from_json
from omniloop.services.protos import egodriver_pb2 as pb
from omniloop.services.protos.common_pb2 import Empty
from omniloop.services.rpc import VERSION_KEY, Caller
from tests.services.calling import until
from tests.services.driver_peers import (
    UNIT,
    Client,
    Watching,
    client_of,
    served_policy,
    straight,
)

CAMERA = default_camera()
NAN = float("nan")


def talk(servicer: EgodriverServicer, script: Callable[[Client], Awaitable[Any]]) -> Any:
    """Run a script against a server."""

    async def run() -> Any:
        async with client_of(servicer) as client:
            return await script(client)

    return asyncio.run(run())


def refused(
    script: Callable[[Client], Awaitable[Any]], servicer: EgodriverServicer | None = None
) -> tuple[StatusCode, str]:
    """The status with which a script ends."""
    with pytest.raises(AioRpcError) as caught:
        talk(servicer or served_policy(Watching()), script)
    return caught.value.code(), caught.value.details() or ""


# --------------------------------------------------------------------------- sessions


@pytest.mark.parametrize(
    "method",
    [
        "submit_image_observation", "submit_egomotion_observation", "submit_route",
        "submit_recording_ground_truth", "drive",
    ],
)  # fmt: skip
def test_a_session_that_nobody_started_is_unknown(method: str) -> None:
    requests = {
        "submit_image_observation": pb.RolloutCameraImage, "drive": pb.DriveRequest,
        "submit_egomotion_observation": pb.RolloutEgoTrajectory, "submit_route": pb.RouteRequest,
        "submit_recording_ground_truth": pb.GroundTruthRequest,
    }  # fmt: skip

    async def script(client: Client) -> None:
        await client.call(method, requests[method](session_uuid="nobody"))

    assert refused(script) == (StatusCode.NOT_FOUND, "Unknown session nobody")


def test_closing_is_idempotent_and_ends_the_policys_session() -> None:
    policy = Watching()

    async def script(client: Client) -> None:
        await client.close()
        await client.start()
        await client.close()
        assert policy.closed == 1
        await client.close()
        await client.start()

    talk(served_policy(policy), script)
    assert policy.closed == 2  # the last one as the server stopped


def test_the_same_session_cannot_start_twice() -> None:
    async def script(client: Client) -> None:
        await client.start()
        await client.start()

    assert refused(script) == (StatusCode.ALREADY_EXISTS, "Session s exists already")


def test_no_more_sessions_than_the_limit() -> None:
    async def script(client: Client) -> None:
        await client.start()
        await Client(client.channel, "t").start()

    servicer = served_policy(Watching(), limit=1)
    assert refused(script, servicer)[0] is StatusCode.RESOURCE_EXHAUSTED


def test_an_idle_session_is_ended() -> None:
    policy = Watching()
    servicer = served_policy(policy, idle_timeout_s=0.02)

    async def script(client: Client) -> None:
        await client.start()
        await asyncio.sleep(0.05)
        await servicer.sweep()
        assert policy.closed == 1
        await client.drive(0)

    assert refused(script, servicer) == (StatusCode.NOT_FOUND, "Unknown session s")


def test_a_policy_that_cannot_be_closed_is_told_to_who_closes_it_and_to_nobody_else() -> None:
    class Stuck(Watching):
        def close(self) -> None:
            raise RuntimeError("the door is stuck")

    servicer = served_policy(Stuck(), idle_timeout_s=0.01)

    async def script(client: Client) -> None:
        await client.start()
        await asyncio.sleep(0.03)
        await servicer.sweep()
        await client.start()
        await client.close()

    code, details = refused(script, servicer)
    assert (code, "the door is stuck" in details) == (StatusCode.UNKNOWN, True)


def test_get_version_tells_the_contract_and_what_the_policy_declares() -> None:
    spec = PolicySpec(cameras=("front",), rate_hz=2.0)

    async def script(client: Client) -> dict[str, Any]:
        call = client.call("get_version", Empty())
        assert (await call).grpc_api_version.major == 0
        return dict(await call.initial_metadata())

    told = talk(served_policy(Watching(spec)), script)
    assert told[CONTRACT_KEY] == "2"
    assert VERSION_KEY in told
    assert spec_from_json(told[SPEC_KEY]) == spec


# ------------------------------------------------------------------ cameras and revisions


@pytest.mark.parametrize("revision", [None, "1", "2"])
def test_cameras_are_optical_whatever_the_client_speaks(revision: str | None) -> None:
    policy = Watching(PolicySpec(cameras=None))

    async def script(client: Client) -> None:
        await client.start((CAMERA,), revision)

    talk(served_policy(policy), script)
    ((_, cameras),) = policy.opened
    np.testing.assert_allclose(cameras[0].rig_to_camera, CAMERA.rig_to_camera, atol=1e-6)
    assert (cameras[0].id, cameras[0].model.width) == (CAMERA.id, 1280)


@pytest.mark.parametrize(
    ("revision", "said"),
    [("9", "contract revision 9 is not one of (1, 2)"), ("x", f"{CONTRACT_KEY}='x' is not a revision")],
)  # fmt: skip
def test_an_unknown_revision_is_refused(revision: str, said: str) -> None:
    code, details = refused(lambda client: client.start((CAMERA,), revision))
    assert (code, details) == (StatusCode.FAILED_PRECONDITION, said)


def test_a_camera_that_the_policy_looks_at_must_be_declared() -> None:
    servicer = served_policy(Watching(PolicySpec(cameras=("rear",))))
    code, details = refused(lambda client: client.start((CAMERA,)), servicer)
    assert code is StatusCode.FAILED_PRECONDITION
    assert "camera 'rear', which is not declared" in details
    assert CAMERA.id in details


def test_a_camera_that_cannot_be_read_matters_only_to_who_looks_at_it() -> None:
    async def script(client: Client) -> None:
        request = pb.DriveSessionRequest(session_uuid="s")
        request.rollout_spec.vehicle.available_cameras.add(logical_id="odd")
        await client.call("start_session", request)

    talk(served_policy(Watching(PolicySpec(cameras=()))), script)
    code, details = refused(script, served_policy(Watching(PolicySpec(cameras=None))))
    assert (code, "'' has the resolution 0x0" in details) == (StatusCode.INVALID_ARGUMENT, True)


def test_a_frame_of_a_camera_that_was_not_declared_is_refused() -> None:
    async def script(client: Client) -> None:
        await client.start((CAMERA,))
        await client.image("rear", 0)

    assert refused(script) == (
        StatusCode.INVALID_ARGUMENT,
        f"Camera 'rear' was not declared in start_session; known cameras: ['{CAMERA.id}']",
    )


def test_frames_come_in_order_once_and_without_the_empty_ones() -> None:
    policy = Watching(PolicySpec(cameras=None, images=ImageHistory(2, 10.0), everything=True))

    async def script(client: Client) -> None:
        await client.start((CAMERA,))
        await client.ego([0], [1.0])
        for end_us, data in (
            (300, b"c"),
            (0, b"a"),
            (200, b""),
            (100, b"\x89PNG"),
            (300, b"again"),
        ):
            await client.image(CAMERA.id, end_us, data)
        await client.drive(0)
        await client.image(CAMERA.id, 200, b"late")
        await client.image(CAMERA.id, 100, b"again")
        await client.drive(1)

    talk(served_policy(policy), script)
    told = [[(f.capture_us, f.image) for f in o.frames[CAMERA.id]] for o in policy.seen]
    assert told == [[(0, b"a"), (100, b"\x89PNG"), (300, b"c")], [(200, b"late")]]


# --------------------------------------------------------------------------- ego motion


def test_as_many_dynamic_states_as_poses_or_none() -> None:
    async def script(client: Client) -> None:
        await client.start()
        await client.ego([0, 100_000], [1.0])

    code, details = refused(script)
    assert code is StatusCode.INVALID_ARGUMENT
    assert details.startswith("1 dynamic_states for 2 poses")


@pytest.mark.parametrize("pose", [{"vec": {"x": NAN}, "quat": {"w": 1.0}}, {"vec": {"x": 1.0}}])
def test_a_pose_that_is_none_is_refused(pose: dict[str, Any]) -> None:
    async def script(client: Client) -> None:
        await client.start()
        message = pb.RolloutEgoTrajectory(session_uuid="s", trajectory={"poses": [{"pose": pose}]})
        await client.call("submit_egomotion_observation", message)

    code, details = refused(script)
    assert (code, details.startswith("ego motion: ")) == (StatusCode.INVALID_ARGUMENT, True)


@pytest.mark.parametrize("speeds", [None, [0.0, 0.0]])
def test_motion_that_is_not_told_is_derived_from_the_poses(speeds: list[float] | None) -> None:
    policy = Watching()

    async def script(client: Client) -> None:
        await client.start()
        await client.ego([0], speeds and speeds[:1], [0.0])
        await client.drive(0)
        await client.ego([100_000, 200_000], speeds, [0.7, 1.4])
        await client.drive(200_000)

    talk(served_policy(policy), script)
    assert [o.ego.dynamics[-1, 0] for o in policy.seen] == pytest.approx([0.0, 7.0], abs=1e-4)


def test_an_omniloop_client_means_its_zeros() -> None:
    policy = Watching()

    async def script(client: Client) -> None:
        await client.start()
        await client.ego([0, 100_000], [0.0, 0.0], [0.0, 0.7], metadata=((VERSION_KEY, "1"),))
        await client.drive(100_000)

    talk(served_policy(policy), script)
    assert not policy.seen[0].ego.dynamics.any()


def test_states_that_are_known_already_are_skipped() -> None:
    policy = Watching(PolicySpec(ego_history_s=10.0))

    async def script(client: Client) -> None:
        await client.start()
        await client.ego([0, 100_000], [1.0, 2.0], [0.0, 1.0])
        await client.ego([0, 100_000, 50_000, 200_000, 150_000], [9.0] * 5, [9.0] * 5)
        await client.drive(200_000)

    talk(served_policy(policy), script)
    (seen,) = policy.seen
    assert seen.ego.times_us.tolist() == [0, 100_000, 200_000]
    assert seen.ego.local_to_rig[:, 0].tolist() == [0.0, 1.0, 9.0]
    assert seen.ego.dynamics[:, 0].tolist() == [1.0, 2.0, 9.0]


@given(st.lists(st.lists(st.integers(0, 40), max_size=6), max_size=8))
def test_the_log_of_ego_only_grows(batches: list[list[int]]) -> None:
    log, highest, expected = EgoLog(), -1, []
    for batch in batches:
        poses = np.tile(geometry.IDENTITY, (len(batch), 1))
        poses[:, 0] = batch
        log.add(np.array(batch, dtype=np.int64), poses, np.zeros((len(batch), 12)), np.ones(len(batch), dtype=bool))  # fmt: skip
        for time_us in batch:
            if time_us > highest:
                highest = time_us
                expected.append(time_us)
    assert log.motion.times_us.tolist() == expected
    assert log.motion.local_to_rig[:, 0].tolist() == expected


def test_a_decision_before_the_first_pose_has_an_empty_plan() -> None:
    policy = Watching()

    async def script(client: Client) -> Any:
        await client.start()
        return await client.drive(0)

    reply = talk(served_policy(policy), script)
    assert (len(reply.trajectory.poses), reply.terminate_session) == (0, False)
    assert policy.seen == []


@pytest.mark.parametrize("resampled", [None, 10.0])
@pytest.mark.parametrize("now_us", [0, 50_000, 200_000, 900_000])
def test_any_time_may_be_asked_for(now_us: int, resampled: float | None) -> None:
    """carla-driver-interface does not check it either: history ends with what there is."""
    policy = Watching(PolicySpec(ego_history_s=0.3, ego_history_hz=resampled))

    async def script(client: Client) -> Any:
        await client.start()
        await client.ego([100_000, 200_000], [1.0, 2.0])
        return await client.drive(now_us, query_us=0)

    reply = talk(served_policy(policy), script)
    assert reply.trajectory.poses[0].timestamp_us == now_us
    assert policy.seen[0].time_us == now_us
    assert policy.seen[0].ego.times_us[-1] == min(max(now_us, 100_000), 200_000)


def test_times_beyond_64_bits_of_microseconds_are_refused() -> None:
    async def script(client: Client) -> None:
        await client.start()
        await client.drive(2**63)

    code, details = refused(script)
    assert (code, "time_now_us" in details) == (StatusCode.INVALID_ARGUMENT, True)


# -------------------------------------------------------------------------------- route


@pytest.mark.parametrize(
    ("waypoints", "kept"),
    [
        ([(0.5, 0, 0), (4.5, 1, 0), (NAN, NAN, NAN), (NAN, NAN, NAN)], [(0.5, 0, 0), (4.5, 1, 0)]),
        ([(NAN, NAN, NAN)] * 20, None),
        ([(1, 0, 0), (NAN, NAN, NAN)], None),
        ([], None),
    ],
)
def test_the_padding_of_a_route_goes_and_fewer_than_two_points_are_none(
    waypoints: list[tuple[float, float, float]], kept: list[tuple[float, ...]] | None
) -> None:
    policy = Watching()

    async def script(client: Client) -> None:
        await client.start()
        await client.ego([0], [1.0])
        await client.drive(0)
        await client.route([(0, 0, 0), (9, 9, 9)])
        await client.route(waypoints, 70)
        await client.drive(100)

    talk(served_policy(policy), script)
    before, after = (o.route for o in policy.seen)
    assert before is None
    if kept is None:
        assert after is None
    else:
        assert after is not None
        assert (after.time_us, after.waypoints_rig.tolist()) == (70, [list(p) for p in kept])


# ---------------------------------------------------------------------------- decisions


def test_a_policy_that_raises_fails_its_call_and_the_session_goes_on() -> None:
    def answer(observation: Observation) -> Plan:
        if observation.time_us == 1:
            raise SceneError("out of ideas")
        if observation.time_us == 2:
            raise SystemExit("enough")
        return straight(observation)

    async def script(client: Client) -> list[Any]:
        await client.start()
        await client.ego([0], [1.0])
        errors = []
        for now_us in (1, 2):
            with pytest.raises(AioRpcError) as caught:
                await client.drive(now_us)
            errors.append((caught.value.code(), caught.value.details()))
        assert len((await client.drive(3)).trajectory.poses) > 2
        return errors

    assert talk(served_policy(Watching(answer=answer)), script) == [
        (StatusCode.UNKNOWN, "Exception calling application: SceneError: out of ideas"),
        (StatusCode.UNKNOWN, "Exception calling application: SystemExit: enough"),
    ]


def test_what_is_no_plan_is_said() -> None:
    async def script(client: Client) -> None:
        await client.start()
        await client.ego([0], [1.0])
        await client.drive(0)

    code, details = refused(script, served_policy(Watching(answer=lambda _: None)))
    assert code is StatusCode.UNKNOWN
    assert "the policy returned a NoneType, not a Plan" in details


def test_calls_of_one_session_follow_one_another() -> None:
    order: list[str] = []

    class Slow(Watching):
        async def plan(self, observation: Observation) -> Plan:  # type: ignore[override]
            order.append(f"plan {observation.time_us}")
            await gate.wait()
            await asyncio.sleep(0)  # whoever does not wait for its turn has it now
            order.append(f"planned {observation.time_us}")
            return straight(observation)

        def close(self) -> None:
            order.append("close")
            super().close()

    class Noted(EgodriverServicer):
        async def answer(self, method: str, request: Any, caller: Caller) -> Any:
            arrived.append(method)
            return await super().answer(method, request, caller)

    arrived: list[str] = []
    gate = asyncio.Event()
    servicer = served_policy(Slow())
    servicer.__class__ = Noted

    async def script(client: Client) -> list[Any]:
        await client.start()
        await client.ego([0], [1.0])
        waiting = []
        for send in (
            lambda: client.drive(1), lambda: client.drive(2), client.close, lambda: client.drive(3),
        ):  # fmt: skip
            before = len(arrived)
            waiting.append(asyncio.ensure_future(send()))
            await until(lambda before=before: len(arrived) > before)
        gate.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    replies = talk(servicer, script)
    assert [len(r.trajectory.poses) > 0 for r in replies[:2]] == [True, True]
    assert replies[3].code() is StatusCode.NOT_FOUND
    assert order == ["plan 1", "planned 1", "plan 2", "planned 2", "close"]


def test_a_foreign_runtime_gets_samples_but_no_bytes_that_it_would_unpickle() -> None:
    def answer(observation: Observation) -> Plan:
        plan = straight(observation)
        return replace(plan, samples=(plan.local_to_rig,) * 2, reasoning="because", terminate=True)

    async def script(client: Client) -> tuple[Any, Any]:
        await client.start()
        await client.ego([0], [1.0])
        ours = await client.call("drive", pb.DriveRequest(session_uuid="s"), ((VERSION_KEY, "1"),))
        return await client.drive(0), ours

    foreign, ours = talk(served_policy(Watching(answer=answer)), script)
    assert foreign.terminate_session
    assert foreign.debug_info.unstructured_debug_info == b""
    assert len(foreign.debug_info.sampled_trajectories) == 2
    assert json.loads(ours.debug_info.unstructured_debug_info) == {"reasoning_text": "because"}


def test_a_foreign_runtimes_renderer_data_are_left_alone() -> None:
    policy = Watching(PolicySpec(privileged=frozenset({"actors"})))
    data = b"\xff\xff weather, lights and lidar"

    async def script(client: Client, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        await client.start()
        await client.ego([0], [1.0])
        await client.call("drive", pb.DriveRequest(session_uuid="s", renderer_data=data), metadata)

    talk(served_policy(policy), script)
    assert (policy.seen[0].actors, policy.seen[0].actor_motion) == (None, None)
    code, details = refused(lambda c: script(c, ((VERSION_KEY, "1"),)), served_policy(policy))
    assert (code, "privileged inputs" in details) == (StatusCode.INVALID_ARGUMENT, True)


# -------------------------------------------------------------------------------- scenes


def test_the_scene_gives_vehicle_map_and_recording() -> None:
    policy = Watching(PolicySpec(privileged=frozenset({"map", "recording"})))
    source = EmbeddedScenes()

    async def script(client: Client) -> None:
        await client.start(scene="curve")
        await client.ego([0], [1.0])
        await client.drive(0)

    talk(served_policy(policy, source), script)
    scene = source.load("curve")
    (info, _), (seen,) = policy.opened[0], policy.seen
    assert (info.session_id, info.seed, info.scene.id) == ("s", 7, "curve")
    assert (info.start_us, info.handover_us, info.end_us) == (scene.start_us, scene.start_us, scene.end_us)  # fmt: skip
    assert seen.map is info.scene.map
    assert len(info.scene.map.lanes) > 0
    assert isinstance(seen.recording, Trajectory)
    assert seen.recording.times_us.tolist() == scene.ego.times_us.tolist()


def test_an_unknown_scene_is_fine_for_a_policy_that_needs_nothing_of_it() -> None:
    policy = Watching(PolicySpec(privileged=frozenset({"actors"})))

    async def script(client: Client) -> None:
        for uuid, scene in (("a", "elsewhere"), ("b", ""), ("c", None)):
            await Client(client.channel, uuid).start(scene=scene)

    talk(served_policy(policy, EmbeddedScenes()), script)
    assert [info.scene.id for info, _ in policy.opened] == ["elsewhere", "", ""]


@pytest.mark.parametrize(
    ("scene", "code", "said"),
    [
        ("elsewhere", StatusCode.NOT_FOUND, "needs the map of scene 'elsewhere'.*omniloop serve policy scenes="),
        ("", StatusCode.FAILED_PRECONDITION, "names none"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("source", [None, EmbeddedScenes()])
def test_a_scene_that_the_policy_needs_and_the_server_lacks_is_refused(
    source: Any, scene: str, code: StatusCode, said: str
) -> None:
    servicer = served_policy(Watching(PolicySpec(privileged=frozenset({"map"}))), source)
    with pytest.raises(AioRpcError, match=said) as caught:
        talk(servicer, lambda client: client.start(scene=scene))
    assert caught.value.code() is code


def test_a_policy_that_cannot_open_or_refuses_the_scene_says_why() -> None:
    class Refuses(Watching):
        def check_scene(self, scene: Scene) -> None:
            raise ConfigError(f"not on {scene.id}")

    class Unready(Watching):
        def open(self, session: Any, cameras: Any) -> Any:
            raise IndexError("no pose 0")

    for policy, scene, parts in (
        (Refuses(), "curve", ["ConfigError: not on curve"]),
        (Unready(), "elsewhere", ["IndexError: no pose 0", "'elsewhere' is not served here"]),
    ):
        servicer = served_policy(policy, EmbeddedScenes())
        code, details = refused(lambda client, s=scene: client.start(scene=s), servicer)
        assert code is StatusCode.FAILED_PRECONDITION
        assert all(part in details for part in parts)


def test_the_recording_that_a_runtime_sends_is_taken_and_ignored() -> None:
    policy = Watching()

    async def script(client: Client) -> None:
        await client.start()
        await client.ego([0], [1.0])
        truth = pb.GroundTruth(timestamp_us=0)
        truth.trajectory.poses.add(timestamp_us=5, pose=UNIT)
        await client.call(
            "submit_recording_ground_truth",
            pb.GroundTruthRequest(session_uuid="s", ground_truth=truth),
        )
        await client.drive(0)

    talk(served_policy(policy), script)
    assert policy.seen[0].recording is None
