"""A renderer served as a video model: what is refused, who is drawn when, whole rollouts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from omniloop.core.calls import CallFunnel
from omniloop.core.camera_fit import as_ftheta
from omniloop.core.contracts import RenderRequest, RenderResult
from omniloop.core.errors import ConfigError, ServiceError
from omniloop.core.local import as_service
from omniloop.core.messages import ChunkRule, RendererSpec
from omniloop.core.replay import RecordedActors
from omniloop.core.route import route_from_recording
from omniloop.core.scene import ActorClass
from omniloop.core.schedule import build_schedule
from omniloop.orchestrator.compat import cameras_for
from omniloop.orchestrator.rollout import run_rollout
from omniloop.orchestrator.rollout_spec import RolloutSpec
from omniloop.orchestrator.services import Services, service_seeds
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.services.camera_codec import spec_to_wire
from omniloop.services.protos import video_model_pb2 as pb
from omniloop.services.protos.common_pb2 import Empty
from omniloop.services.roles import looped_back
from omniloop.services.rpc import Caller, Refusal
from omniloop.services.shelf import SceneShelf
from omniloop.services.video_client import OmniDreams
from omniloop.services.video_requests import start_request
from omniloop.services.video_server import WorldModelServicer
from omniloop.services.video_world import ChunkReader
from tests.orchestrator.harness import (  # fmt: skip
    FollowPlan,
    FramePolicy,
    MemoryRecorder,
    NoGround,
    ReplayTraffic,
)
from tests.services.calling import until
from tests.services.video_stage import (
    FRONT,
    HEIGHT,
    LEFT,
    WIDTH,
    Painter,
    Recording,
    chunk,
    client_of,
    picture,
    rasterizer,
    rendered,
    scene,
    serving,
    session_of,
    wire_request,
    with_client,
)

PER_FRAME = RendererSpec(chunk=None, size=(WIDTH, HEIGHT))


def start(**changes: Any) -> Any:
    """A good request for a session of one camera."""
    one = scene()
    options = pb.DebugOptions(**changes)
    return start_request(one, (as_ftheta(FRONT),), (picture(9),), ("", ""), 7, options)


def answers(servicer: WorldModelServicer, *calls: tuple[str, Any]) -> list[Any]:
    """What a server answers to calls in turn; a request may be made of the session's id."""

    async def run() -> list[Any]:
        replies, name = [], ""
        try:
            for method, request in calls:
                message = request(name) if callable(request) else request
                replies.append(await servicer.answer(method, message, Caller()))
                name = getattr(replies[-1], "session_id", name)
            return replies
        finally:
            await servicer.aclose()

    return asyncio.run(run())


def refused(servicer: WorldModelServicer, *calls: tuple[str, Any]) -> tuple[str, str]:
    with pytest.raises(Refusal) as caught:
        answers(servicer, *calls)
    return caught.value.code.name, caught.value.details


# --------------------------------------------------------------------------- the start


def _pinhole(request: Any) -> None:
    request.camera_specs[0].CopyFrom(spec_to_wire(FRONT))


def _no_model(request: Any) -> None:
    request.camera_specs[0].ClearField("ftheta_param")


def _no_cameras(request: Any) -> None:
    del request.camera_specs[:]


def _no_frames(request: Any) -> None:
    del request.initial_frames[:]


def _two_mounts(request: Any) -> None:
    request.rig_to_camera.append(request.rig_to_camera[0])


def _zero_mount(request: Any) -> None:
    request.rig_to_camera[0].quat.w = 0.0
    request.rig_to_camera[0].quat.z = 0.0


def _long(request: Any) -> None:
    request.camera_specs[0].ftheta_param.angle_to_pixeldist_poly.append(1e-9)


def _large(request: Any) -> None:
    request.camera_specs[0].resolution_w = 100_000


def _two_sizes(request: Any) -> None:
    _twice(request)
    request.camera_specs[1].logical_id = "other"
    request.camera_specs[1].resolution_h = 112


def _twice(request: Any) -> None:
    for part in (request.camera_specs, request.initial_frames, request.rig_to_camera):
        part.append(part[0])


def _broken_frame(request: Any) -> None:
    request.initial_frames[0].data = request.initial_frames[0].data[:30]


def _undefined_frame(request: Any) -> None:
    request.initial_frames[0].format = pb.UNDEFINED


def _small_planes(request: Any) -> None:
    request.initial_frames[0].CopyFrom(pb.Image(data=bytes(99), format=pb.RGB_UINT8_PLANAR))


def _no_map(request: Any) -> None:
    request.static_world_map.hdmap_parquets = b""


def _broken_map(request: Any) -> None:
    request.static_world_map.hdmap_parquets = b"no zip"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_pinhole, "camera 'front' has no ftheta_param"),
        (_no_model, "camera 'front' has no ftheta_param"),
        (_no_cameras, "SessionRequest.camera_specs must contain at least one CameraSpec"),
        (_no_frames, "Expected 1 initial_frames (one per camera_spec), got 0"),
        (_two_mounts, "Expected 1 rig_to_camera poses (one per camera_spec), got 2"),
        (_zero_mount, "camera 'front' cannot be used: quaternion"),
        (_long, "a polynomial of 7 coefficients, and not at most 6"),
        (_large, "camera 'front' has the resolution 100000x96"),
        (_two_sizes, "camera 'other' has the resolution 160x112, and camera 'front' 160x96"),
        (_twice, "camera 'front' comes twice"),
        (_broken_frame, "initial_frame of camera 'front'"),
        (_undefined_frame, "its format 0 is none of PNG, JPEG, RGB_UINT8_PLANAR"),
        (_small_planes, "99 bytes are no RGB planes of 160x96"),
        (_no_map, "Expected non-empty HD map parquets"),
        (_broken_map, "the HD map is no readable zip"),
    ],
)
def test_a_start_that_cannot_be_served_is_refused_and_evicts_nobody(
    spoil: Callable[[Any], None], says: str
) -> None:
    bad = start()
    spoil(bad)
    server = WorldModelServicer(rasterizer())

    async def run() -> Refusal:
        name = (await server.answer("start_session", start(), Caller())).session_id
        with pytest.raises(Refusal) as caught:
            await server.answer("start_session", bad, Caller())
        await server.answer("render_video_chunk", wire_request(scene(), 0, name), Caller())
        return caught.value

    refusal = asyncio.run(run())
    assert refusal.code.name == "INVALID_ARGUMENT"
    assert says in refusal.details


def test_a_plugin_gets_what_the_start_says() -> None:
    painter = Painter(PER_FRAME)
    request = start()
    request.text_prompt.positive = "fog"
    planes = np.zeros((3, HEIGHT, WIDTH), dtype=np.uint8)
    planes[0] = 255
    request.initial_frames[0].CopyFrom(pb.Image(data=planes.tobytes(), format=pb.RGB_UINT8_PLANAR))
    answers(WorldModelServicer(as_service("renderer", painter)), ("start_session", request))
    (session,) = painter.sessions
    assert (session.seed, session.scene.prompt) == (7, "fog")
    (frame,) = session.scene.first_frames
    pixels = cv2.imdecode(np.frombuffer(frame.image, np.uint8), cv2.IMREAD_COLOR)
    assert pixels[5, 5].tolist() == [0, 0, 255]  # red, in OpenCV's order
    (camera,) = session.scene.cameras
    np.testing.assert_allclose(camera.rig_to_camera, FRONT.rig_to_camera, atol=1e-6)
    assert [b.id for b in session.scene.map.road_boundaries] == ["edge0", "edge1"]


# --------------------------------------------------------------------------- sessions


def test_a_server_of_more_sessions_refuses_the_one_too_many() -> None:
    begin = ("start_session", start())
    code, details = refused(WorldModelServicer(rasterizer(), limit=2), begin, begin, begin)
    assert code == "RESOURCE_EXHAUSTED"
    assert "2 session(s) are open" in details
    code, _ = refused(WorldModelServicer(rasterizer(), evict=False), begin, begin)
    assert code == "RESOURCE_EXHAUSTED"


def test_an_unknown_session_is_not_found_and_can_be_closed() -> None:
    gone = ("render_video_chunk", wire_request(scene(), 0, "nobody"))
    assert refused(WorldModelServicer(rasterizer()), gone) == (
        "NOT_FOUND",
        "Session not found: nobody",
    )
    close = ("close_session", lambda name: pb.SessionCloseRequest(session_id=name))
    begin = ("start_session", start())
    server = WorldModelServicer(rasterizer())
    assert answers(server, begin, close, close)[1:] == [Empty(), Empty()]
    code, _ = refused(
        server, begin, close, ("render_video_chunk", lambda n: wire_request(scene(), 0, n))
    )
    assert code == "NOT_FOUND"  # fmt: skip


def test_a_session_that_nobody_calls_is_ended() -> None:
    server = WorldModelServicer(rasterizer(), idle_timeout_s=0.01)

    async def run() -> None:
        name = (await server.answer("start_session", start(), Caller())).session_id
        await asyncio.sleep(0.05)
        await server.sweep()
        with pytest.raises(Refusal, match="Session not found"):
            await server.answer("render_video_chunk", wire_request(scene(), 0, name), Caller())

    asyncio.run(run())


def test_drawing_does_not_keep_other_calls_waiting_but_those_of_its_session() -> None:
    gate = threading.Event()

    class Slow(Painter):
        """Draws until the gate is opened."""

        closed = 0

        def render(self, request: RenderRequest) -> RenderResult:
            result = super().render(request)
            gate.wait(120)
            assert not self.closed
            return result

        def close(self) -> None:
            self.closed += 1

    async def act(client: OmniDreams) -> int:
        session = await client.open(session_of(scene()), (FRONT,))
        drawing = asyncio.ensure_future(session.render(chunk(scene(), 0)))
        try:
            await until(lambda: painter.requests)
            await asyncio.wait_for(client.connect(), 60)
            assert not drawing.done()
            closing = asyncio.ensure_future(session.close())
            await until(lambda: "close_session" in server.asked)
            await client.connect()  # whatever the server did at once is done by now
            assert not painter.closed
        finally:
            gate.set()
        first = await drawing
        await closing
        return len(first.images)

    painter = Slow(PER_FRAME)
    server = Recording(as_service("renderer", painter))
    assert with_client(server, act) == 5
    assert painter.closed == 1


# --------------------------------------------------------------------------- chunks


@pytest.mark.parametrize(
    ("number", "poses", "says"),
    [
        (0, 4, "Client must provide rig poses. Expected 5 poses (initial chunk), got 4."),
        (0, 6, "Expected exactly 5 poses (initial chunk), got 6."),
        (1, 7, "Client must provide rig poses. Expected 8 poses (continuation chunk), got 7."),
        (1, 9, "Expected exactly 8 poses (continuation chunk), got 9."),
    ],
)
def test_wrong_counts_are_refused_in_flash_dreams_words(number: int, poses: int, says: str) -> None:
    one = scene()

    def wrong(name: str) -> Any:
        request = wire_request(one, number, name)
        path = request.rig_trajectory.poses
        del path[poses:]
        while len(path) < poses:
            path.append(path[-1])
            path[-1].timestamp_us += 1
        return request

    first = [("render_video_chunk", lambda n: wire_request(one, 0, n))] * number
    calls = [("start_session", start()), *first, ("render_video_chunk", wrong)]
    assert refused(WorldModelServicer(rasterizer()), *calls) == ("INVALID_ARGUMENT", says)


@pytest.mark.parametrize(("own", "asked", "sizes"), [(16, None, (13, 16)), (0, 12, (9, 12)), (0, None, (5, 8))])  # fmt: skip
def test_chunks_are_the_plugins_or_else_as_set(
    own: int, asked: int | None, sizes: tuple[int, int]
) -> None:
    server = WorldModelServicer(rasterizer(own), chunk=asked)
    (result, second) = rendered(server, scene(), chunks=2, frames=sizes[1])
    assert (len(result.images), len(second.images)) == sizes
    with pytest.raises(ConfigError, match="makes chunks of 8 frames, not of 12"):
        WorldModelServicer(rasterizer(8), chunk=12)


def actor(*path: tuple[int, float], kind: int = 1, size: float = 2.0) -> pb.DynamicActor:
    """An actor at x [m] at times [us]."""
    message = pb.DynamicActor(class_id=kind)
    message.bbox_dims.size_x = message.bbox_dims.size_y = message.bbox_dims.size_z = size
    for time_us, x in path:
        pose = message.trajectory.poses.add(timestamp_us=time_us)
        pose.pose.vec.x, pose.pose.quat.w = x, 1.0
    return message


def chunk_of(*actors: pb.DynamicActor) -> Any:
    """A first chunk with frames at 10, 20, 30, 40 and 50 us."""
    request = pb.VideoChunkRequest(dynamic_state=pb.DynamicWorldState(actors=actors))
    for time_us in range(10, 51, 10):
        request.rig_trajectory.poses.add(timestamp_us=time_us).pose.quat.w = 1.0
    return request


def test_actors_are_sampled_within_their_own_range_and_nowhere_else() -> None:
    read = ChunkReader(ChunkRule(8, 30), cameras=1).read(
        chunk_of(
            actor((15, 0.0), (35, 10.0)),  # between its poses
            actor((30, 7.0)),  # a single pose only at its time
            actor((25, 7.0)),  # which no frame has
            actor((10, 1.0), (20, 2.0), (30, 3.0), (40, 4.0), (50, 5.0)),
        )
    )
    motion = read.actor_motion
    assert motion.valid.astype(int).tolist() == [
        [0, 1, 1, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1],
    ]
    np.testing.assert_allclose(motion.local_to_aabb[0, 1:3, 0], [2.5, 7.5])
    assert motion.local_to_aabb[1, 2, 0] == 7.0
    assert motion.local_to_aabb[3, :, 0].tolist() == [1, 2, 3, 4, 5]


def test_classes_of_the_wire_are_those_inside_and_unknown_ones_are_others() -> None:
    kinds = [actor((10, 0.0), kind=k) for k in (0, 1, 2, 3, 4, 5, 99)]
    read = ChunkReader(ChunkRule(8, 30), cameras=1).read(chunk_of(*kinds))
    c = ActorClass
    assert [a.actor_class for a in read.actors] == [
        c.OTHER, c.CAR, c.TRUCK, c.PEDESTRIAN, c.CYCLIST, c.OTHER, c.OTHER,
    ]  # fmt: skip


def test_the_cast_stays_the_same_object_while_it_looks_the_same() -> None:
    reader = ChunkReader(ChunkRule(8, 30), cameras=2)
    first = reader.read(chunk_of(actor((10, 0.0)), actor((10, 5.0))))
    moved = reader.read(chunk_of(actor((10, 1.0)), actor((20, 6.0))))
    other = reader.read(chunk_of(actor((10, 1.0)), actor((20, 6.0), size=3.0)))
    assert moved.actors is first.actors
    assert other.actors is not first.actors
    assert other.actors[1].size_m.tolist() == [3.0, 3.0, 3.0]
    assert first.camera_index.tolist() == [0, 1] * 5
    assert first.end_index.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def _turn(message: Any) -> Any:
    message.trajectory.poses[0].pose.quat.w = 0.0
    return message


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (actor((10, 0.0), size=0.0), r"DynamicActor\[1\] has nonpositive bbox dimensions: \[0.0, 0.0, 0.0\]"),
        (actor((10, 0.0), size=float("nan")), r"DynamicActor\[1\] has nonpositive bbox"),
        (actor(), r"DynamicActor\[1\] has no trajectory poses"),
        (_turn(actor((10, 0.0))), r"DynamicActor\[1\] has an invalid trajectory: quaternion"),
        (actor((10, float("nan"))), r"DynamicActor\[1\] has an invalid trajectory: pose .* not finite"),
        (actor((20, 0.0), (10, 0.0)), r"DynamicActor\[1\] has an invalid trajectory: time 10 us"),
    ],
)  # fmt: skip
def test_an_actor_that_cannot_be_is_refused(bad: pb.DynamicActor, says: str) -> None:
    with pytest.raises(Refusal, match=says):
        ChunkReader(ChunkRule(8, 30), cameras=1).read(chunk_of(actor((10, 0.0)), bad))


def test_poses_of_the_rig_that_are_not_in_order_are_refused() -> None:
    request = chunk_of()
    request.rig_trajectory.poses[3].timestamp_us = 5
    with pytest.raises(Refusal, match="rig_trajectory: time 5 us at index 3"):
        ChunkReader(ChunkRule(8, 30), cameras=1).read(request)


def test_a_refused_chunk_does_not_count() -> None:
    bad = lambda name: pb.VideoChunkRequest(session_id=pb.SessionId(session_id=name))  # noqa: E731
    server = WorldModelServicer(rasterizer())

    async def run() -> int:
        name = (await server.answer("start_session", start(), Caller())).session_id
        with pytest.raises(Refusal):
            await server.answer("render_video_chunk", bad(name), Caller())
        reply = await server.answer("render_video_chunk", wire_request(scene(), 0, name), Caller())
        return len(reply.camera_outputs[0].rgb_frames)

    assert asyncio.run(run()) == 5


def test_a_plugin_that_leaves_a_frame_out_is_named() -> None:
    class Short(Painter):
        def render(self, request: RenderRequest) -> RenderResult:
            return RenderResult(super().render(request).images[1:])

    server = WorldModelServicer(as_service("renderer", Short(PER_FRAME)))
    with pytest.raises(ServiceError, match="for 5 frames"):
        rendered(server, scene())


# ----------------------------------------------------------------------- condition images


def test_a_plugins_own_condition_images_are_answered() -> None:
    painter = Painter(PER_FRAME, conditions=True)
    server = WorldModelServicer(as_service("renderer", painter))
    (result,) = rendered(server, scene(FRONT, LEFT), (FRONT, LEFT), condition_frames=True)
    assert result.images == tuple(picture(10 * i) for i in range(10))
    assert result.condition_images == result.images[::-1]


def test_the_hd_map_is_drawn_for_a_plugin_that_gives_no_condition_images() -> None:
    painter = Painter(PER_FRAME)
    server = WorldModelServicer(as_service("renderer", painter))
    (result,) = rendered(server, scene(), condition_frames=True)
    (drawn,) = rendered(Recording(), scene())
    assert result.images == tuple(picture(10 * i) for i in range(5))
    assert result.condition_images == drawn.images


@pytest.mark.parametrize("conditions", [False, True])
def test_without_video_only_the_hd_map_is_drawn(conditions: bool) -> None:
    painter = Painter(PER_FRAME)
    server = Recording(as_service("renderer", painter))
    (result,) = rendered(server, scene(), skip_video=True, condition_frames=conditions)
    (drawn,) = rendered(Recording(), scene())
    assert result.images == drawn.images
    assert result.condition_images == (drawn.images if conditions else ())
    assert painter.sessions == []
    (also,) = rendered(Recording(), scene(), skip_video=True)
    assert also.images == drawn.images


# ----------------------------------------------------------------------- whole rollouts


async def rollout(renderer: Any, recorder: MemoryRecorder) -> None:
    """Two seconds of an embedded scene, driven by the bytes of the frames."""
    one = EmbeddedScenes().load("junction")
    policy, renderer_spec = FramePolicy(), renderer.spec
    services = Services(
        policy=as_service("policy", policy), traffic=as_service("traffic", ReplayTraffic()),
        controller=as_service("controller", FollowPlan()), ground=as_service("ground", NoGround()),
        renderer=renderer,
    )  # fmt: skip
    cameras = cameras_for(one, policy.spec, renderer_spec)
    schedule = build_schedule(
        one, cameras, renderer_spec, policy.spec, decision_period_us=100_000, warmup_s=0.5, duration_s=2.0
    )  # fmt: skip
    spec = RolloutSpec(
        one, 0, schedule, cameras, service_seeds(0, one.id, 0), RecordedActors(one),
        route_from_recording(one.ego),
    )  # fmt: skip
    await services.connect()
    try:
        await run_rollout(spec, services, recorder, CallFunnel(spec.session_id))
    finally:
        await services.disconnect()


def frames_of(recorder: MemoryRecorder) -> list[tuple[int, bytes]]:
    return [(f.capture_us, f.image) for (f,) in recorder.of("frame")]


def commits_of(recorder: MemoryRecorder) -> list[bytes]:
    return [ego.local_to_rig.tobytes() for _, ego, _, _ in recorder.of("commit")]


def test_a_rollout_over_the_wire_is_the_same_to_the_bit_as_in_one_process() -> None:
    there, here, plain = MemoryRecorder(), MemoryRecorder(), MemoryRecorder()

    async def run() -> None:
        async with serving(Recording()) as address:
            await rollout(client_of(address, first_frame="raster"), there)
        shelf = SceneShelf(EmbeddedScenes())
        await rollout(looped_back("renderer", rasterizer(), shelf), here)
        await rollout(rasterizer(), plain)

    asyncio.run(run())
    assert len(frames_of(there)) == 5 + 7 * 8
    assert frames_of(there) == frames_of(here)
    assert commits_of(there) == commits_of(here)
    assert [t for t, _ in frames_of(plain)] == [t for t, _ in frames_of(there)]


def test_looped_back_sessions_side_by_side_do_not_evict_each_other() -> None:
    shelf = SceneShelf(EmbeddedScenes())
    client = looped_back("renderer", rasterizer(), shelf)
    one = scene()

    async def run() -> list[int]:
        sessions = [await client.open(session_of(one), (FRONT,)) for _ in range(3)]
        results = [await s.render(chunk(one, 0)) for s in sessions]
        for session in sessions:
            await session.close()
        return [len(r.images) for r in results]

    assert asyncio.run(run()) == [5, 5, 5]
