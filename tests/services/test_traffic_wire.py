"""Traffic behind its protocol: the same answers as in this process, AlpaSim's rules for others."""

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
from omniloop.core.contracts import SessionInfo, TrafficRequest
from omniloop.core.errors import ConfigError, SceneError, ServiceError, SessionLost
from omniloop.core.local import as_service
from omniloop.core.motion import ActorMotion, Trajectory, grid_times_us
from omniloop.core.registry import create
from omniloop.core.scene import Actor, ActorClass, Scene, Track, Vehicle
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.services.codec import trajectory_to_wire
from omniloop.services.protos import traffic_pb2 as pb
from omniloop.services.protos.common_pb2 import Empty
from omniloop.services.rpc import Caller
from omniloop.services.serving import Listening, Servicer, start_server
from omniloop.services.shelf import SceneShelf
from omniloop.services.traffic_client import RemoteTraffic
from omniloop.services.traffic_codec import motion_at_times, motion_to_wire, read_updates
from omniloop.services.traffic_server import TrafficServicer
from tests.services.calling import called

SECOND = 1_000_000
STEP = 100_000


def straight(x_m: float, speed_mps: float, times_us: np.ndarray) -> np.ndarray:
    xyz = np.zeros((len(times_us), 3))
    xyz[:, 0] = x_m + speed_mps * times_us / SECOND
    return geometry.poses_from_xyz_yaw(xyz, np.zeros(len(times_us)))


def line_scene() -> Scene:
    """Ego at 10 m/s from 0, car `a` at 8 m/s from 40 m, and `b`, which is seen from 1 s on."""
    times = np.arange(0, 4 * SECOND + 1, STEP, dtype=np.int64)
    tracks = tuple(
        Track(
            Actor(name, ActorClass.CAR, "car", np.array([4.5, 1.9, 1.5])),
            times, straight(x, 8.0, times), times >= born,
        )
        for name, x, born in (("a", 40.0, 0), ("b", 80.0, SECOND))
    )  # fmt: skip
    ego = Trajectory(times, straight(0.0, 10.0, times))
    return Scene("line", "test", ego, tracks=tracks)


class OneScene:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def ids(self) -> list[str]:
        return [self._scene.id]

    def load(self, scene_id: str) -> Scene:
        return self._scene


def session_of(scene: Scene, handover_us: int = SECOND, start_us: int = 0) -> SessionInfo:
    end_us = scene.end_us
    call = CallFunnel(f"{scene.id}/3")
    return SessionInfo(
        f"{scene.id}/3", scene, 77, scene.vehicle, start_us, handover_us, end_us, call=call
    )


def asked(
    scene: Scene, time_us: int, target_us: int, current: ActorMotion | None = None
) -> TrafficRequest:
    times = grid_times_us(time_us, target_us, STEP)
    ego = Trajectory(times, scene.ego.sample(times)).shift_body(scene.vehicle.rig_to_aabb)
    if current is None:
        current = scene.recorded_actors(np.array([time_us]))
    return TrafficRequest(time_us, target_us, ego, current)


class Spy:
    """Answers with the recording and keeps what it was asked."""

    def __init__(self) -> None:
        self.sessions: list[SessionInfo] = []
        self.asked: list[TrafficRequest] = []
        self.closed = 0

    def open(self, session: SessionInfo) -> Spy:
        self.sessions.append(session)
        return self

    def step(self, request: TrafficRequest) -> ActorMotion:
        self.asked.append(request)
        times = grid_times_us(request.time_us, request.target_us, STEP)
        return self.sessions[-1].scene.recorded_actors(times)

    def close(self) -> None:
        self.closed += 1


def served(plugin: object, scenes: Any) -> TrafficServicer:
    return TrafficServicer(
        as_service("traffic", plugin), None if scenes is None else SceneShelf(scenes)
    )


def with_client(
    servicer: Servicer, use: Callable[[RemoteTraffic], Awaitable[Any]], **settings: Any
) -> Any:
    async def run() -> Any:
        server, port = await start_server([servicer], Listening())
        client = RemoteTraffic(f"127.0.0.1:{port}", **settings)
        try:
            await client.connect()
            return await use(client)
        finally:
            await client.disconnect()
            await server.stop(None)
            await servicer.aclose()

    return asyncio.run(run())


# ------------------------------------------------------------------ our own at both ends


@pytest.mark.parametrize("scene_id", ["cut_in", "crossing_pedestrian", "junction"])
@pytest.mark.parametrize("period_us", [STEP, 266_664])
def test_served_traffic_answers_as_it_does_in_this_process(scene_id: str, period_us: int) -> None:
    scene = EmbeddedScenes().load(scene_id)
    session = session_of(scene, start_us=scene.start_us)
    requests = [
        asked(scene, t, t + period_us)
        for t in range(scene.start_us, scene.end_us - period_us, 5 * period_us)
    ]
    here = create("traffic", "log_replay", {}).open(session)
    traffic = served(create("traffic", "log_replay", {}), EmbeddedScenes())

    async def use(client: RemoteTraffic) -> list[ActorMotion]:
        client.check_scene(scene)
        opened = await client.open(session)
        answers = [await opened.step(r) for r in requests]
        await opened.close()
        return answers

    for request, there in zip(requests, with_client(traffic, use), strict=True):
        wanted = here.step(request)
        assert there.times_us.tolist() == wanted.times_us.tolist()
        assert np.array_equal(there.valid, wanted.valid)
        np.testing.assert_allclose(there.local_to_aabb, wanted.local_to_aabb, atol=4e-5)


def test_a_served_plugin_is_asked_as_in_this_process() -> None:
    scene, spy = line_scene(), Spy()
    session = session_of(scene, handover_us=0)
    sent: list[TrafficRequest] = []

    async def use(client: RemoteTraffic) -> None:
        opened = await client.open(session)
        current = scene.recorded_actors(np.array([900_000]))
        for k in range(5):
            t = 900_000 + k * STEP
            request = asked(scene, t, t + STEP, current)
            sent.append(request)
            answer = await opened.step(request)
            current = answer.between(t, t + STEP)
            poses, valid = current.local_to_aabb.copy(), current.valid.copy()
            if k == 1:
                poses[0, 0, 2] += 0.3  # as a ground corrects it
            if k == 2:
                valid[1, 0], poses[1, 0] = False, geometry.IDENTITY
            current = ActorMotion(current.times_us, poses, valid)
        await opened.close()

    with_client(served(spy, OneScene(scene)), use)
    told = spy.sessions[0]
    assert told.scene is scene
    assert (told.session_id, told.seed) == ("line/3", 77)
    assert (told.start_us, told.handover_us, told.end_us) == (0, 0, scene.end_us)
    assert spy.closed == 1
    for got, wanted in zip(spy.asked, sent, strict=True):
        assert (got.time_us, got.target_us) == (wanted.time_us, wanted.target_us)
        assert np.array_equal(got.current.times_us, wanted.current.times_us)
        assert np.array_equal(got.current.valid, wanted.current.valid)
        there = wanted.current.valid
        np.testing.assert_allclose(
            got.current.local_to_aabb[there], wanted.current.local_to_aabb[there], atol=1e-5
        )
        assert got.ego_local_to_aabb.times_us.tolist() == wanted.ego_local_to_aabb.times_us.tolist()
        np.testing.assert_allclose(
            got.ego_local_to_aabb.poses, wanted.ego_local_to_aabb.poses, atol=1e-5
        )
    seen = [r.current.valid[:, 0].tolist() for r in spy.asked]
    assert seen == [[True, False], [True, True], [True, True], [True, False], [True, True]]
    assert spy.asked[2].current.local_to_aabb[0, 0, 2] == pytest.approx(0.3)


def test_only_actors_that_are_elsewhere_than_answered_are_told() -> None:
    scene = line_scene()

    class Listening_(TrafficServicer):
        heard: list[list[str]] = []  # noqa: RUF012

        async def simulate(self, request: Any, caller: Caller) -> Any:
            self.heard.append([u.object_id for u in request.object_trajectory_updates])
            return await super().simulate(request, caller)

    servicer = Listening_(as_service("traffic", Spy()), SceneShelf(OneScene(scene)))

    async def use(client: RemoteTraffic) -> None:
        opened = await client.open(session_of(scene))
        answer = await opened.step(asked(scene, SECOND, SECOND + STEP))
        answer = await opened.step(asked(scene, SECOND + STEP, SECOND + 2 * STEP, answer))
        moved = answer.local_to_aabb.copy()
        moved[1, :, 2] += 0.1
        await opened.step(
            asked(scene, SECOND + 2 * STEP, SECOND + 3 * STEP, replace(answer, local_to_aabb=moved))
        )

    with_client(servicer, use)
    assert servicer.heard == [["EGO", "", "a", "b"], ["EGO", ""], ["EGO", "", "b"]]


def test_a_plugin_goes_on_from_the_very_numbers_that_its_answer_became() -> None:
    class Turning(Spy):
        def step(self, request: TrafficRequest) -> ActorMotion:
            self.asked.append(request)
            poses = np.stack([geometry.pose(100 / 3, 1 / 3, 0.1, 0.7)] * 2)[:, None]
            return ActorMotion(np.array([request.target_us]), poses, np.ones((2, 1), bool))

    spy, scene = Turning(), line_scene()

    async def use(client: RemoteTraffic) -> ActorMotion:
        opened = await client.open(session_of(scene))
        answer = await opened.step(asked(scene, 0, STEP))
        await opened.step(asked(scene, STEP, 2 * STEP, answer))
        return answer

    answer = with_client(served(spy, OneScene(scene)), use)
    current = spy.asked[1].current.local_to_aabb
    np.testing.assert_allclose(current, answer.local_to_aabb, rtol=0, atol=1e-14)
    assert current[0, 0, 0] != 100 / 3


def test_an_answer_without_any_actor_there_keeps_its_times() -> None:
    scene = line_scene()

    class Empty_(Spy):
        def step(self, request: TrafficRequest) -> ActorMotion:
            times = np.array([request.target_us - 60_000, request.target_us])
            return ActorMotion(times, np.tile(geometry.IDENTITY, (2, 2, 1)), np.zeros((2, 2), bool))

    async def use(client: RemoteTraffic) -> ActorMotion:
        return await (await client.open(session_of(scene))).step(asked(scene, 0, STEP))

    answer = with_client(served(Empty_(), OneScene(scene)), use)
    assert answer.times_us.tolist() == [40_000, STEP]
    assert not answer.valid.any()


valid_masks = st.integers(0, 4).flatmap(
    lambda actors: st.lists(
        st.lists(st.booleans(), min_size=3, max_size=3), min_size=actors, max_size=actors
    )
)


@given(valid_masks)
def test_motion_comes_back_from_the_wire_as_it_was(mask: list[list[bool]]) -> None:
    valid = np.array(mask, dtype=bool).reshape(-1, 3)
    ids = [f"actor {row}" for row in range(len(valid))]
    times = np.array([1_100_000, 1_150_000, 1_250_000])
    poses = np.tile(geometry.IDENTITY, (*valid.shape, 1))
    poses[..., 0] = np.arange(valid.size).reshape(valid.shape)
    poses[~valid] = geometry.IDENTITY
    sent = motion_to_wire(ids, ActorMotion(times, poses, valid), absent_too=True)
    rows = list(range(len(ids)))
    back = motion_at_times(read_updates(sent), rows, len(ids), times.tolist(), 1_050_000, 1_250_000)
    assert np.array_equal(back.valid, valid)
    assert np.array_equal(back.local_to_aabb, poses)


# ----------------------------------------------------------------- AlpaSim's as a server


class AlpaSim(TrafficServicer):
    """Answers with `reply` and says nothing of Omniloop."""

    def __init__(self, reply: Any = None, history_us: int = 0) -> None:
        super().__init__(as_service("traffic", Spy()))
        self.returned = reply or pb.TrafficReturn()
        self.history_us = history_us
        self.heard: list[tuple[Any, Caller]] = []

    async def answer(self, method: str, request: Any, caller: Caller) -> Any:
        self.heard.append((request, caller))
        reply = await super().answer(method, request, caller)
        caller.reply_metadata.clear()
        return reply

    async def get_metadata(self, request: Any, caller: Caller) -> Any:
        reply = await super().get_metadata(request, caller)
        reply.minimum_history_length_us = self.history_us
        return reply

    async def simulate(self, request: Any, caller: Caller) -> Any:
        return self.returned


def update(name: str, *states: tuple[int, float]) -> Any:
    """Poses at ``(time_us, x_m)``."""
    times = np.array([t for t, _ in states], dtype=np.int64)
    poses = np.tile(geometry.IDENTITY, (len(states), 1))
    poses[:, 0] = [x for _, x in states]
    return pb.ObjectTrajectoryUpdate(object_id=name, trajectory=trajectory_to_wire(times, poses))


def answered(*updates: Any) -> Any:
    return pb.TrafficReturn(object_trajectory_updates=updates)


def step_of(
    servicer: Servicer,
    time_us: int = SECOND,
    target_us: int = SECOND + 250_000,
    **settings: Any,
) -> ActorMotion:
    scene = line_scene()

    async def use(client: RemoteTraffic) -> ActorMotion:
        opened = await client.open(session_of(scene, handover_us=SECOND))
        return await opened.step(asked(scene, time_us, target_us))

    return with_client(servicer, use, **settings)


def test_a_foreign_service_gets_exactly_what_alpasim_sends() -> None:
    scene, peer = line_scene(), AlpaSim()

    async def use(client: RemoteTraffic) -> None:
        opened = await client.open(session_of(scene, handover_us=SECOND, start_us=250_000))
        await opened.step(asked(scene, SECOND, SECOND + 250_000))
        await opened.close()

    with_client(peer, use, missing_actors="vanish")
    (_, _), (_, _), (start, caller), (query, _), (close, _) = peer.heard
    assert not caller.is_omniloop
    assert [k for k in caller.metadata if "omniloop" in k] == []
    assert (start.scene_id, start.random_seed) == ("line", 77)
    assert start.handover_time_us == SECOND
    logged = start.logged_object_trajectories
    assert [(o.object_id, o.label_class) for o in logged] == [
        ("EGO", ""),
        ("a", "car"),
        ("b", "car"),
    ]
    assert logged[0].aabb.size_x == pytest.approx(scene.vehicle.length_m)
    spans = [
        (o.trajectory.poses[0].timestamp_us, o.trajectory.poses[-1].timestamp_us) for o in logged
    ]
    assert spans == [(250_000, scene.end_us), (250_000, scene.end_us), (SECOND, scene.end_us)]
    box = logged[0].trajectory.poses[0].pose.vec
    assert (box.x, box.z) == pytest.approx((2.5 + 1.3965, 0.7515))
    assert logged[1].trajectory.poses[0].pose.vec.x == pytest.approx(42.0)
    (ego,) = query.object_trajectory_updates
    assert ego.object_id == "EGO"
    assert [p.timestamp_us for p in ego.trajectory.poses] == [query.time_query_us] == [1_250_000]
    assert ego.trajectory.poses[0].pose.vec.x == pytest.approx(12.5 + 1.3965)
    assert query.session_uuid == start.session_uuid == close.session_uuid


def test_a_handover_at_time_0_is_told_as_1_since_it_must_be_more_than_0() -> None:
    peer, scene = AlpaSim(), line_scene()
    with_client(peer, lambda client: client.open(session_of(scene, handover_us=0)))
    assert peer.heard[2][0].handover_time_us == 1


def test_an_actor_that_is_never_seen_in_the_rollout_is_not_logged_to_a_foreign_service() -> None:
    peer = AlpaSim()
    scene = line_scene()

    async def use(client: RemoteTraffic) -> None:
        session = session_of(scene, handover_us=500_000)
        await client.open(replace(session, end_us=900_000))

    with_client(peer, use)
    start = peer.heard[2][0]
    assert [o.object_id for o in start.logged_object_trajectories] == ["EGO", "a"]


def test_a_single_pose_at_the_target_is_reached_from_the_committed_state() -> None:
    motion = step_of(
        AlpaSim(answered(update("a", (1_250_000, 58.0)), update("b", (1_250_000, 88.0))))
    )
    assert motion.times_us.tolist() == [1_100_000, 1_200_000, 1_250_000]
    assert motion.valid.all()
    # a was committed at 48 m: 10 m in 250 ms; b at 88 m stands.
    np.testing.assert_allclose(motion.local_to_aabb[0, :, 0], [52.0, 56.0, 58.0])
    np.testing.assert_allclose(motion.local_to_aabb[1, :, 0], 88.0)


def test_a_longer_forecast_is_cut_and_what_was_committed_stays_as_it_was() -> None:
    forecast = [(900_000, 0.0), (1_000_000, 0.0), (1_200_000, 52.0), (1_300_000, 54.0)]
    motion = step_of(
        AlpaSim(answered(update("a", *forecast, (2_000_000, 0.0)))), missing_actors="vanish"
    )
    np.testing.assert_allclose(motion.local_to_aabb[0, :, 0], [50.0, 52.0, 53.0])


@pytest.mark.parametrize(
    "updates",
    [
        [],
        [update("a")],
        [update("a", (1_100_000, 49.0))],
        [update("a", (1_300_000, 49.0), (1_400_000, 50.0))],
    ],
    ids=["omitted", "empty", "ends too early", "begins too late"],
)
def test_an_object_that_does_not_cover_the_target_fails_the_rollout_or_vanishes_if_asked(
    updates: list[Any],
) -> None:
    peer = AlpaSim(answered(update("b", (1_250_000, 90.0)), *updates))
    with pytest.raises(ServiceError, match="actor 'a' is missing at 1250000 us"):
        step_of(peer)
    motion = step_of(peer, missing_actors="vanish")
    assert motion.valid.tolist() == [[False] * 3, [True] * 3]
    assert np.array_equal(motion.local_to_aabb[0], np.tile(geometry.IDENTITY, (3, 1)))


def test_an_object_that_is_left_out_before_handover_does_no_harm() -> None:
    motion = step_of(AlpaSim(answered()), 600_000, 850_000)
    assert not motion.valid.any()


def test_what_may_become_of_missing_actors_is_one_of_two() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'vanish'"):
        RemoteTraffic("h:1", missing_actors="vanishes")


def test_an_actor_that_was_absent_appears_with_its_first_pose() -> None:
    states = [(750_000, 30.0), (850_000, 32.0)]
    motion = step_of(AlpaSim(answered(update("b", *states))), 600_000, 850_000)
    assert motion.times_us.tolist() == [700_000, 800_000, 850_000]
    assert motion.valid[1].tolist() == [False, True, True]
    np.testing.assert_allclose(motion.local_to_aabb[1, 1:, 0], [31.0, 32.0])


def test_what_a_foreign_service_says_of_ego_is_left_out() -> None:
    motion = step_of(
        AlpaSim(answered(update("EGO", (1_250_000, 0.0)), update("a", (1_250_000, 5.0)))),
        missing_actors="vanish",
    )
    assert motion.valid[:, -1].tolist() == [True, False]


NAN = float("nan")


@pytest.mark.parametrize(
    ("updates", "says"),
    [
        ([update("nobody", (1_250_000, 0.0))], "object 'nobody' is unknown"),
        ([update("a", (1_250_000, 0.0)), update("a", (1_250_000, 1.0))], "object 'a' comes twice"),
        ([update("a", (1_250_000, 0.0), (1_200_000, 1.0))], "times of object 'a' do not grow"),
        ([update("b", (1_250_000, 0.0)), update("a", (1_250_000, NAN))], "object 'a': .*not finite"),
        ([pb.ObjectTrajectoryUpdate(object_id="a", trajectory={"poses": [{"timestamp_us": 1}]})],
         "object 'a': .*is not a unit"),
        ([pb.ObjectTrajectoryUpdate(
            object_id="a", trajectory={"poses": [{"timestamp_us": 2**63, "pose": {"quat": {"w": 1}}}]}
        )], "times of object 'a'"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_named(updates: list[Any], says: str) -> None:
    with pytest.raises(ServiceError, match=says) as caught:
        step_of(AlpaSim(answered(*updates)))
    assert "line/3, traffic.simulate at 1000000 us, 127.0.0.1:" in caught.value.where


def test_a_service_that_needs_more_history_than_the_warm_up_has_is_refused() -> None:
    assert step_of(AlpaSim(history_us=SECOND), missing_actors="vanish").valid.sum() == 0
    with pytest.raises(
        ConfigError, match=r"needs 1\.5 s before handover, the rollout has 1 s"
    ) as e:
        step_of(AlpaSim(history_us=1_500_000))
    assert "sync.warmup_s" in e.value.remedy


def test_a_session_that_cannot_be_opened_gives_its_place_back() -> None:
    peer, scene = AlpaSim(history_us=2 * SECOND), line_scene()

    async def run() -> None:
        server, port = await start_server([peer], Listening())
        client = RemoteTraffic(f"127.0.0.1:{port}", sessions=1)
        try:
            await client.connect()
            with pytest.raises(ConfigError):
                await client.open(session_of(scene))
            peer.history_us = 0
            await client.connect()
            async with asyncio.timeout(30):
                await client.open(session_of(scene))
        finally:
            await client.disconnect()
            await server.stop(None)

    asyncio.run(run())


# -------------------------------------------------------- our own server that is wrong


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda u: u.pop(0), "object 'a' is missing"),
        (lambda u: u.pop(-1), "times of the answer are missing"),
        (lambda u: setattr(u[0], "object_id", "nobody"), "object 'nobody' is unknown"),
        (lambda u: setattr(u[0].trajectory.poses[0].pose.vec, "y", NAN), "not finite"),
        (lambda u: setattr(u[0].trajectory.poses[0], "timestamp_us", 1_050_000),
         "object 'a' has a pose at 1050000 us"),
        (lambda u: setattr(u[-1].trajectory.poses[-1], "timestamp_us", 1_250_005),
         "do not grow from 1000000 to 1250000 us"),
        (lambda u: u[-1].trajectory.poses.pop(0), "states are 200000 us apart"),
        (lambda u: u[-1].trajectory.poses.__delitem__(slice(None)), "do not grow from"),
    ],
)  # fmt: skip
def test_an_omniloop_server_must_answer_for_every_actor_at_the_times_it_tells(
    spoil: Callable[[Any], Any], says: str
) -> None:
    class Wrong(TrafficServicer):
        async def simulate(self, request: Any, caller: Caller) -> Any:
            reply = await super().simulate(request, caller)
            spoil(reply.object_trajectory_updates)
            return reply

    servicer = Wrong(as_service("traffic", Spy()), SceneShelf(OneScene(line_scene())))
    with pytest.raises(ServiceError, match=says):
        step_of(servicer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            lambda m: ActorMotion(m.times_us, m.local_to_aabb[:1], m.valid[:1]),
            r"wanted \(2, 3, 7\)",
        ),
        (lambda m: m.between(0, 1_200_000), "not up to 1250000 us"),
        (lambda m: m.local_to_aabb, "a ndarray, not an ActorMotion"),
    ],
)
def test_a_plugin_that_answers_wrongly_is_an_error_of_the_service(
    answer: Callable[[ActorMotion], Any], says: str
) -> None:
    class Wrong(Spy):
        def step(self, request: TrafficRequest) -> Any:
            return answer(super().step(request))

    with pytest.raises(ServiceError, match=says):
        step_of(served(Wrong(), OneScene(line_scene())))


def test_scenes_that_cannot_be_simulated_are_refused_before_the_start() -> None:
    scene = line_scene()

    async def use(client: RemoteTraffic) -> None:
        client.check_scene(scene)
        with pytest.raises(SceneError, match="does not serve scene 'elsewhere'"):
            client.check_scene(replace(scene, id="elsewhere"))
        ego = replace(scene.tracks[0], actor=replace(scene.actors[0], id="EGO"))
        with pytest.raises(SceneError, match="an actor is called 'EGO'"):
            client.check_scene(replace(scene, tracks=(ego,)))
        with pytest.raises(SceneError, match="Unknown scene 'elsewhere'"):
            await client.open(session_of(replace(scene, id="elsewhere")))

    with_client(served(Spy(), OneScene(scene)), use)


# ------------------------------------------------------------- AlpaSim's as the caller


def logged(name: str, *states: tuple[int, float], label: str = "") -> Any:
    return pb.ObjectTrajectory(
        object_id=name, trajectory=update(name, *states).trajectory, label_class=label,
        aabb={"size_x": 4.0, "size_y": 2.0, "size_z": 1.5},
    )  # fmt: skip


EGO = logged("EGO", (0, 0.0), (4 * SECOND, 40.0))


def start(
    *objects: Any, uuid: str = "u", scene_id: str = "line", handover_us: int = SECOND
) -> tuple[str, Any]:
    return "start_session", pb.TrafficSessionRequest(
        session_uuid=uuid, scene_id=scene_id, random_seed=5, handover_time_us=handover_us,
        logged_object_trajectories=objects,
    )  # fmt: skip


def query(time_us: int, *updates: Any, uuid: str = "u") -> tuple[str, Any]:
    return "simulate", pb.TrafficRequest(
        session_uuid=uuid, time_query_us=time_us,
        object_trajectory_updates=updates or [update("EGO", (time_us, time_us / 1e5))],
    )  # fmt: skip


def close(uuid: str = "u") -> tuple[str, Any]:
    return "close_session", pb.TrafficSessionCloseRequest(session_uuid=uuid)


def test_sessions_are_known_once_and_closed_as_often_as_you_like() -> None:
    spy = Spy()
    replies = called(
        served(spy, None), close(), query(STEP), start(EGO), start(EGO), start(EGO, uuid=""),
        close(), close(), query(STEP),
    )  # fmt: skip
    codes = [r[0] if isinstance(r, tuple) else "OK" for r in replies]
    assert codes == [
        "OK", StatusCode.NOT_FOUND, "OK", StatusCode.ALREADY_EXISTS, StatusCode.INVALID_ARGUMENT,
        "OK", "OK", StatusCode.NOT_FOUND,
    ]  # fmt: skip
    assert spy.closed == 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (start(EGO, handover_us=0, uuid="v"), "handover_time_us is 0"),
        (start(logged("a", (0, 0.0)), uuid="v"), "no trajectory of 'EGO'"),
        (start(EGO, EGO, uuid="v"), "comes twice"),
        (start(EGO, logged("a", (5, 0.0), (5, 1.0)), uuid="v"), "object 'a'.* is not after"),
        (start(EGO, pb.ObjectTrajectory(object_id="a"), uuid="v"), r"object 'a' has the size \[0"),
        (query(STEP), "time_query_us is 100000, not after 200000 us"),
        (query(3 * STEP, update("a", (3 * STEP, 0.0))), "no update of 'EGO'"),
        (query(3 * STEP, update("EGO", (2 * STEP, 0.0))), "'EGO' has no pose after 200000"),
        (query(3 * STEP, update("EGO", (3 * STEP, NAN))), "'EGO': .*not finite"),
    ],
)
def test_what_cannot_be_answered_is_refused(call: tuple[str, Any], says: str) -> None:
    replies = called(served(Spy(), None), start(EGO), query(2 * STEP), call, query(3 * STEP))
    code, details = replies[2]
    assert code is StatusCode.INVALID_ARGUMENT
    assert re.search(says, details), details
    assert isinstance(replies[3], pb.TrafficReturn)


def test_a_foreign_query_asks_from_the_one_before_on_and_from_100_ms_before_at_first() -> None:
    spy = Spy()
    objects = [logged("a", (0, 40.0), (4 * SECOND, 72.0), label="automobile")]
    called(served(spy, None), start(EGO, *objects), query(500_000), query(750_000), query(800_000))
    assert [(r.time_us, r.target_us) for r in spy.asked] == [
        (400_000, 500_000), (500_000, 750_000), (750_000, 800_000)
    ]  # fmt: skip
    assert [r.ego_local_to_aabb.times_us.tolist() for r in spy.asked] == [
        [500_000], [750_000], [800_000]
    ]  # fmt: skip
    early = Spy()
    called(served(early, None), start(EGO, *objects), query(30_000))
    assert early.asked[0].time_us == 0


class Drifting(Spy):
    """Puts every actor 1 m further than it was."""

    def step(self, request: TrafficRequest) -> ActorMotion:
        self.asked.append(request)
        poses = request.current.local_to_aabb.copy()
        poses[..., 0] += 1.0
        return ActorMotion(np.array([request.target_us]), poses, request.current.valid)


def test_a_foreign_caller_gets_the_recording_until_handover_and_the_plugin_after_it() -> None:
    plugin = Drifting()
    replies = called(
        served(plugin, OneScene(line_scene())),
        start(EGO, logged("a", (0, 40.0), (4 * SECOND, 72.0))),
        *(query(t) for t in (900_000, 1_000_000, 1_100_000, 1_200_000)),
    )[1:]
    last = [r.object_trajectory_updates[0].trajectory.poses[-1] for r in replies]
    assert [p.timestamp_us for p in last] == [900_000, 1_000_000, 1_100_000, 1_200_000]
    assert [p.pose.vec.x for p in last] == pytest.approx([47.2, 48.0, 49.0, 50.0])
    before = [r.current.local_to_aabb[0, 0, 0] for r in plugin.asked]
    assert before == pytest.approx([46.4, 47.2, 48.0, 49.0], abs=1e-5)


def test_a_foreign_caller_is_answered_for_its_own_objects_only_and_for_those_that_are_there() -> (
    None
):
    spy, scene = Spy(), line_scene()
    new = logged("new", (0, 5.0), (4 * SECOND, 5.0), label="Heavy_Truck")
    replies = called(served(spy, OneScene(scene)), start(EGO, new, logged("b")), query(500_000))
    assert [u.object_id for u in replies[1].object_trajectory_updates] == ["new"]
    told = spy.sessions[0].scene
    assert [(a.id, a.actor_class) for a in told.actors] == [
        ("new", ActorClass.TRUCK), ("b", ActorClass.CAR)
    ]  # fmt: skip
    assert told.tracks[1] is scene.tracks[1]
    assert told.ego is scene.ego


def test_without_scenes_any_is_served_as_it_was_logged() -> None:
    spy, scene = Spy(), line_scene()
    listed, *_ = called(served(spy, None), ("get_available_scenes", Empty()))
    assert list(listed.scene_ids) == ["*"]

    async def use(client: RemoteTraffic) -> ActorMotion:
        client.check_scene(scene)
        opened = await client.open(session_of(scene))
        return await opened.step(asked(scene, SECOND, SECOND + STEP))

    answer = with_client(served(spy, None), use)
    wanted = scene.recorded_actors(np.array([SECOND + STEP]))
    np.testing.assert_allclose(answer.local_to_aabb, wanted.local_to_aabb, atol=1e-5)
    told = spy.sessions[0].scene
    assert told.vehicle.rear_axle_to_center_m == pytest.approx(Vehicle().rear_axle_to_center_m)
    np.testing.assert_allclose(told.ego.poses, scene.ego.poses, atol=1e-5)


def test_a_scene_that_is_not_on_the_shelf_is_not_found() -> None:
    replies = called(
        served(Spy(), OneScene(line_scene())), start(EGO, scene_id="x"),
        ("get_available_scenes", Empty()),
    )  # fmt: skip
    assert replies[0][0] is StatusCode.NOT_FOUND
    assert list(replies[1].scene_ids) == ["line"]


def test_a_session_that_the_server_ended_is_lost() -> None:
    scene = line_scene()
    servicer = served(Spy(), OneScene(scene))

    async def use(client: RemoteTraffic) -> None:
        opened = await client.open(session_of(scene))
        await servicer.aclose()
        with pytest.raises(SessionLost, match="traffic lost the session"):
            await opened.step(asked(scene, 0, STEP))
        await opened.close()

    with_client(servicer, use)
