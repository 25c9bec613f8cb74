"""A video model behind its protocol: what is asked, what comes back, what is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from grpc import StatusCode

from omniloop.core.camera_fit import as_ftheta
from omniloop.core.cameras import FThetaCamera, PinholeCamera
from omniloop.core.contracts import RenderRequest
from omniloop.core.errors import (
    ConfigError,
    PluginError,
    SceneError,
    ServiceError,
    SessionEvicted,
)
from omniloop.core.motion import ActorMotion
from omniloop.core.registry import create
from omniloop.core.scene import FirstFrame, LaneLine, Scene, VectorMap
from omniloop.renderer_client.rasterizer import Rasterizer
from omniloop.scenes.clipgt import read_clipgt
from omniloop.services.camera_codec import CameraAxes, rig_to_camera_from_wire
from omniloop.services.codec import poses_from_wire, poses_to_wire
from omniloop.services.rpc import Caller, Refusal
from omniloop.services.video_client import OmniDreams
from omniloop.services.video_requests import ChunkWriter
from tests.services.calling import until
from tests.services.video_stage import (
    FRAME_US,
    FRONT,
    HEIGHT,
    LEFT,
    WIDTH,
    Recording,
    chunk,
    client_of,
    decoded,
    image,
    picture,
    rasterizer,
    rendered,
    scene,
    session_of,
    with_client,
)

# --------------------------------------------------------------------------- the start


def test_cameras_are_sent_as_f_theta_ones_with_body_axes() -> None:
    server = Recording()
    rendered(server, scene(FRONT, LEFT), (FRONT, LEFT))
    front, left = server.start.rig_to_camera
    # The body of a camera that looks along the rig's x has the rig's axes; the left one is
    # turned by 90 degrees about z.
    half = np.sqrt(0.5)
    for pose, quat in ((front, (1, 0, 0, 0)), (left, (half, 0, 0, half))):
        sign = np.sign(pose.quat.w)
        got = [sign * v for v in (pose.quat.w, pose.quat.x, pose.quat.y, pose.quat.z)]
        np.testing.assert_allclose(got, quat, atol=1e-6)
        np.testing.assert_allclose((pose.vec.x, pose.vec.y, pose.vec.z), (1.6, 0.0, 1.5))
    for spec, name in zip(server.start.camera_specs, ("front", "left"), strict=True):
        assert (spec.logical_id, spec.resolution_w, spec.resolution_h) == (name, WIDTH, HEIGHT)
        assert spec.WhichOneof("camera_param") == "ftheta_param"
        assert len(spec.ftheta_param.angle_to_pixeldist_poly) == 6
        assert len(spec.ftheta_param.pixeldist_to_angle_poly) == 6


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ("a rainy street", "")),
        ({"prompt": "snow"}, ("snow", "")),
        ({"prompt": "", "negative_prompt": "people"}, ("", "people")),
    ],
)
def test_the_prompt_is_the_scenes_unless_it_is_set(
    settings: dict[str, str], said: tuple[str, str]
) -> None:
    server = Recording()
    rendered(server, scene(prompt="a rainy street"), **settings)
    assert (server.start.text_prompt.positive, server.start.text_prompt.negative) == said


@pytest.mark.parametrize(("seed", "sent"), [(2**63 - 1, 2**63 - 1), (0, 1)])
def test_the_seed_arrives_and_is_never_the_0_that_leaves_it_to_the_server(
    seed: int, sent: int
) -> None:
    server, one = Recording(), scene()
    with_client(server, lambda client: client.open(session_of(one, seed), (FRONT,)))
    assert server.start.random_seed == sent


def test_the_map_arrives_and_is_written_once_for_a_scene() -> None:
    server, one = Recording(limit=2), scene()

    async def act(client: OmniDreams) -> None:
        client.check_scene(one)
        await client.open(session_of(one), (FRONT,))
        await client.open(session_of(one), (FRONT,))

    with_client(server, act, sessions=2)
    first, second = (r.static_world_map.hdmap_parquets for r in server.asked["start_session"])
    assert first == second
    assert [b.id for b in read_clipgt(first).map.road_boundaries] == ["edge0", "edge1"]
    # The server draws both from one map.
    plugin = server._renderer.plugin
    assert len(plugin._worlds) == 1


def test_a_map_that_cannot_be_written_is_found_before_the_start() -> None:
    bad = LaneLine("bad", np.array([[0.0, 0.0, 0.0], [np.inf, 0.0, 0.0]]))
    with pytest.raises(SceneError, match="lane line bad"):
        client_of("127.0.0.1:1").check_scene(scene(map=VectorMap(lane_lines=(bad,))))


def test_a_camera_that_cannot_be_fitted_is_found_before_the_start() -> None:
    wide = replace(FRONT, model=PinholeCamera(WIDTH, HEIGHT, 20.0, 20.0, 79.5, 47.5))
    client = client_of("127.0.0.1:1")
    client.check_cameras((FRONT, LEFT))
    with pytest.raises(ConfigError, match="camera 'front' cannot be turned into an f-theta"):
        client.check_cameras((LEFT, wide))


# --------------------------------------------------------------------- the first frame


def test_it_starts_from_the_recorded_image_nearest_to_render_start() -> None:
    server = Recording()
    late = replace(FRONT, first_frame_end_us=100_000, frame_interval_us=FRAME_US)
    taken = {60_000: ".jpg", 90_000: ".png", 150_000: ".jpg"}
    frames = tuple(FirstFrame("front", t, picture(5, kind)) for t, kind in taken.items())
    one = scene(late, first_frames=(*frames, FirstFrame("left", 100_000, b"")))
    with_client(server, lambda client: client.open(session_of(one), (late,)))
    (sent,) = server.start.initial_frames
    assert sent.data == frames[1].image
    assert sent.format == 1  # PNG


def test_an_image_of_another_size_is_scaled_and_cut_as_its_camera_is() -> None:
    # 320 x 320, cut to 5:3: of its four bands of 80 rows, 64 are left out above and below.
    bands = np.repeat(np.array([0, 60, 120, 180], dtype=np.uint8), 80)
    tall = np.broadcast_to(bands[:, None, None], (320, 320, 3))
    data = bytes(cv2.imencode(".png", np.ascontiguousarray(tall))[1])
    server = Recording()
    rendered(server, scene(first_frames=(FirstFrame("front", 0, data),)))
    got = decoded(server.start.initial_frames[0].data)
    assert got.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(got[[0, 7, 9, 46, 49, 86, 89], 80, 0], [0, 0, 60, 60, 120, 120, 180])  # fmt: skip


def test_a_missing_first_frame_names_the_remedy() -> None:
    with pytest.raises(ConfigError, match="starts from an image of camera 'front'") as caught:
        rendered(Recording(), scene(first_frames=()))
    assert "renderer.first_frame=raster" in caught.value.remedy
    assert client_of("127.0.0.1:1").spec.needs_first_frame


def test_a_damaged_first_frame_names_its_camera() -> None:
    with pytest.raises(SceneError, match="first frame of camera 'front' cannot be used"):
        rendered(Recording(), scene(first_frames=(FirstFrame("front", 0, b"GIF89a"),)))


def test_without_a_recorded_image_it_starts_from_a_drawing_of_render_start_and_says_so() -> None:
    server = Recording()
    late = replace(FRONT, first_frame_end_us=1_000_000, frame_interval_us=FRAME_US)
    one = scene(late, first_frames=())
    notes = with_client(server, lambda c: _opened(c, one, late), first_frame="raster")
    assert notes == ("the video model started from a rasterised first frame",)
    at = np.array([1_000_000], dtype=np.int64)
    zero = np.zeros(1, dtype=np.int64)
    drawing = Rasterizer(chunk=0, width=WIDTH, height=HEIGHT, jpeg_quality=95)
    wanted = drawing.open(session_of(one), (as_ftheta(late),)).render(
        RenderRequest(at, one.ego.sample(at), one.actors, one.recorded_actors(at), zero, zero, zero)
    )
    assert server.start.initial_frames[0].data == wanted.images[0]
    assert decoded(wanted.images[0]).max() > 100  # the world is there
    assert client_of("127.0.0.1:1").notes == ()


async def _opened(client: OmniDreams, one: Scene, camera: Any) -> tuple[str, ...]:
    await client.open(session_of(one), (camera,))
    assert not client.spec.needs_first_frame
    return client.notes


# --------------------------------------------------------------------------- the chunks


@pytest.mark.parametrize("frames", [8, 12, 16])
def test_chunks_ask_for_exactly_their_frames_with_the_requests_times_and_poses(frames: int) -> None:
    server, one = Recording(rasterizer(frames)), scene()
    results = rendered(server, one, chunks=3, frames=frames)
    assert [len(r.images) for r in results] == [frames - 3, frames, frames]
    for number, asked in enumerate(server.chunks):
        request = chunk(one, number, frames)
        stamps = [p.timestamp_us for p in asked.rig_trajectory.poses]
        assert stamps == request.times_us.tolist()
        xs = [p.pose.vec.x for p in asked.rig_trajectory.poses]
        np.testing.assert_allclose(xs, 10 * request.times_us / 1e6, rtol=1e-6)
    every = [p.timestamp_us for asked in server.chunks for p in asked.rig_trajectory.poses]
    assert np.diff(every).tolist() == [FRAME_US] * (len(every) - 1)  # no overlap, no gap


def test_all_actors_are_sent_in_the_scenes_order_and_parked_ones_too() -> None:
    one = scene()  # "ahead", "parked" and "late", which is there from 1 s on
    request = chunk(one, 0)
    sent = ChunkWriter("x", static_actors=True).write(request).dynamic_state.actors
    assert [round(a.trajectory.poses[0].pose.vec.x) for a in sent] == [20, 15]
    for actor in sent:
        assert actor.class_id == 1
        box = actor.bbox_dims
        assert (box.size_x, box.size_y, box.size_z) == (4.0, 2.0, 1.5)
        assert [p.timestamp_us for p in actor.trajectory.poses] == request.times_us.tolist()
    np.testing.assert_allclose(sent[0].trajectory.poses[2].pose.vec.x, 20 + 5 * 3 * 0.033333)


def test_compat_leaves_out_actors_that_never_move_as_alpasim_does() -> None:
    server = Recording()
    rendered(server, scene(), compat=True)
    (only,) = server.chunks[0].dynamic_state.actors
    assert round(only.trajectory.poses[0].pose.vec.x) == 20


def test_an_actor_is_sent_only_where_it_is_and_as_two_around_an_absence() -> None:
    one = scene()
    request = chunk(one, 0)
    valid = np.array([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 1, 1, 1]], dtype=bool)
    motion = request.actor_motion
    moved = replace(request, actor_motion=ActorMotion(motion.times_us, motion.local_to_aabb, valid))
    sent = ChunkWriter("x", static_actors=True).write(moved).dynamic_state.actors
    index = {t: i for i, t in enumerate(request.times_us.tolist())}
    assert [[index[p.timestamp_us] for p in a.trajectory.poses] for a in sent] == [[0, 1], [3], [2, 3, 4]]  # fmt: skip


def rounded(request: RenderRequest) -> RenderRequest:
    """A request as it is after the wire: float32, quaternions made units again."""

    def sent(poses: np.ndarray) -> np.ndarray:
        return poses_from_wire(poses_to_wire(poses.reshape(-1, 7))).reshape(poses.shape)

    motion = request.actor_motion
    return replace(
        request, local_to_rig=sent(request.local_to_rig),
        actor_motion=ActorMotion(motion.times_us, sent(motion.local_to_aabb), motion.valid),
    )  # fmt: skip


def test_a_served_rasteriser_draws_what_it_draws_in_this_process() -> None:
    server, one = Recording(), scene(FRONT, LEFT)
    results = rendered(server, one, (FRONT, LEFT), chunks=2)
    read = read_clipgt(server.start.static_world_map.hdmap_parquets)
    fitted = tuple(as_ftheta(c) for c in (FRONT, LEFT))
    mounts = [rig_to_camera_from_wire(m, CameraAxes.FLU) for m in server.start.rig_to_camera]
    as_sent = tuple(replace(c, rig_to_camera=m) for c, m in zip(fitted, mounts, strict=True))
    plugin = Rasterizer(width=WIDTH, height=HEIGHT)
    like = plugin.open(session_of(replace(one, map=read.map)), as_sent)
    here = plugin.open(session_of(one), fitted)
    for number, result in enumerate(results):
        request = chunk(one, number, cameras=2)
        assert result.images == like.render(rounded(request)).images  # the same to the bit
        for got, exact in zip(result.images, here.render(request).images, strict=True):
            assert np.abs(decoded(got) - decoded(exact)).mean() < 0.05
    front, left = (decoded(results[0].images[i]) for i in (0, 1))
    assert np.abs(front - left).mean() > 1.0


def test_what_is_not_in_the_request_is_not_drawn() -> None:
    """The recording of the HD map has the actors; a request without any shows an empty road."""
    one = scene()
    empty = replace(one, tracks=())
    images = {}
    for name, shown in (("with", one), ("without", empty)):
        server = Recording()

        async def act(client: OmniDreams, shown: Scene = shown) -> bytes:
            session = await client.open(session_of(one), (FRONT,))
            return (await session.render(chunk(shown, 0))).images[0]

        images[name] = with_client(server, act)
        assert len(read_clipgt(server.start.static_world_map.hdmap_parquets).tracks) == 3
    assert np.abs(decoded(images["with"]) - decoded(images["without"])).mean() > 0.5


@pytest.mark.parametrize("frames", [4, 6, 8])
def test_another_count_than_the_models_is_not_even_asked(frames: int) -> None:
    server, one = Recording(), scene()

    async def act(client: OmniDreams) -> None:
        session = await client.open(session_of(one), (FRONT,))
        request = chunk(one, 1)
        part = np.arange(frames)
        motion = request.actor_motion
        await session.render(
            RenderRequest(
                request.times_us[:frames], request.local_to_rig[:frames], request.actors,
                ActorMotion(motion.times_us[:frames], motion.local_to_aabb[:, :frames], motion.valid[:, :frames]),
                0 * part, part, part,
            )
        )  # fmt: skip

    with pytest.raises(ServiceError, match="makes 5 frames of 1 camera"):
        with_client(server, act)
    assert "render_video_chunk" not in server.asked


# --------------------------------------------------------------------------- the replies


def _drop_frame(reply: Any) -> None:
    del reply.camera_outputs[0].rgb_frames[-1]


def _add_frame(reply: Any) -> None:
    reply.camera_outputs[0].rgb_frames.append(image(reply))


def _rename(reply: Any) -> None:
    reply.camera_outputs[0].camera_logical_id = "rear"


def _double(reply: Any) -> None:
    reply.camera_outputs.append(reply.camera_outputs[0])


def _drop_camera(reply: Any) -> None:
    del reply.camera_outputs[:]


def _shrink(reply: Any) -> None:
    image(reply).data = picture(1, ".png", (80, 48))


def _scramble(reply: Any) -> None:
    image(reply).data = b"\xff\xd8\xff"


def _planar(reply: Any) -> None:
    image(reply).data = bytes(3 * WIDTH * HEIGHT)


def _no_conditions(reply: Any) -> None:
    del reply.camera_outputs[0].hdmap_condition_frames[:]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_drop_frame, "answered 4 rgb_frames for camera 'front', and not 5"),
        (_add_frame, "answered 6 rgb_frames for camera 'front', and not 5"),
        (_rename, "answered unasked for camera 'rear'"),
        (_double, "answered twice for camera 'front'"),
        (_drop_camera, "left out camera 'front'"),
        (_shrink, "an image of 80x48 for camera 'front', and not of 160x96"),
        (_scramble, "answered no image for camera 'front'"),
        (_planar, "answered no image for camera 'front'"),
        (_no_conditions, "answered 0 hdmap_condition_frames for camera 'front', and not 5"),
    ],
)
def test_a_reply_that_is_not_what_was_asked_is_named(
    spoil: Callable[[Any], None], says: str
) -> None:
    server = Recording()
    server.spoil = lambda method, reply: spoil(reply) if "render" in method else None
    with pytest.raises(ServiceError, match=says) as caught:
        rendered(server, scene(), condition_frames=True)
    place = r"line/0, renderer.render_video_chunk at \d+ us, 127.0.0.1:\d+"
    assert re.fullmatch(place, caught.value.where)
    assert "close_session" in server.asked


def test_a_start_without_a_session_id_is_refused_and_gives_the_address_back() -> None:
    server, one = Recording(), scene()
    server.spoil = lambda m, r: setattr(r, "session_id", "") if m == "start_session" else None

    async def act(client: OmniDreams) -> None:
        for _ in range(2):  # the second would wait for ever if the lease were kept
            with pytest.raises(ServiceError, match="without a session id"):
                await asyncio.wait_for(client.open(session_of(one), (FRONT,)), 30)

    with_client(server, act)


# ----------------------------------------------------------------------- condition images


def test_condition_images_come_with_the_frames_if_they_are_asked_for() -> None:
    (result,) = rendered(Recording(), scene(), condition_frames=True)
    assert result.condition_images == result.images  # the rasteriser's drawing is both
    (plain,) = rendered(Recording(), scene())
    assert plain.condition_images == ()


# --------------------------------------------------------------------------- eviction


def test_a_second_client_evicts_the_first_whose_close_leaves_the_second_alone() -> None:
    server, one = Recording(), scene()

    async def act(first: OmniDreams) -> list[str]:
        address = next(iter(first.peers))
        old = await first.open(session_of(one), (FRONT,))
        await old.render(chunk(one, 0))
        second = client_of(address)
        new = await second.open(session_of(one), (FRONT,))
        with pytest.raises(SessionEvicted, match="Session not found"):
            await old.render(chunk(one, 1))
        await old.close()
        assert len((await new.render(chunk(one, 0))).images) == 5
        # The place is free again for the first client.
        await asyncio.wait_for(first.lease(), 30)
        await new.close()
        return [r.session_id for r in server.asked["close_session"]]

    assert len(with_client(server, act)) == 1  # the evicted one had nothing to close


def test_flash_dreams_words_for_an_unknown_session_are_understood() -> None:
    class Forgetful(Recording):
        async def render_video_chunk(self, request: Any, caller: Caller) -> Any:
            text = f"Exception calling application: 'Session not found: {request.session_id.session_id}'"
            raise Refusal(StatusCode.UNKNOWN, text)

    with pytest.raises(SessionEvicted):
        rendered(Forgetful(), scene())


def test_one_session_at_a_time_is_held_at_an_address() -> None:
    server, one = Recording(), scene()

    async def act(client: OmniDreams) -> None:
        assert client.capacity == 1
        first = await client.open(session_of(one), (FRONT,))
        waiting = asyncio.ensure_future(client.open(session_of(one), (FRONT,)))
        await until(lambda: client._pool._waiting)
        assert len(server.asked["start_session"]) == 1
        await first.close()
        await (await asyncio.wait_for(waiting, 30)).close()

    with_client(server, act)


def test_the_address_is_given_back_even_when_closing_fails() -> None:
    class Stubborn(Recording):
        async def close_session(self, request: Any, caller: Caller) -> Any:
            raise Refusal(StatusCode.UNKNOWN, "Exception calling application: no")

    server, one = Stubborn(), scene()

    async def act(client: OmniDreams) -> None:
        session = await client.open(session_of(one), (FRONT,))
        with pytest.raises(ServiceError, match="failed in close_session"):
            await session.close()
        await asyncio.wait_for(client.lease(), 30)

    with_client(server, act)


# --------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"chunk": 10}, "chunk is 10"),
        ({"first_frame": "rasta"}, "Did you mean 'raster'"),
        ({"fps": 0}, "fps is 0"),
        ({"timeouts_s": {"render": 1.0}}, "Did you mean 'render_video_chunk'"),
    ],
)
def test_a_setting_that_is_out_of_range_is_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        create("renderer", "omnidreams", {"address": "127.0.0.1:1", **settings})


def test_an_unknown_setting_is_named_with_the_nearest() -> None:
    with pytest.raises(PluginError, match="Did you mean 'first_frame'"):
        create("renderer", "omnidreams", {"address": "127.0.0.1:1", "first_frames": "scene"})


def test_the_declaration_is_that_of_an_omnidreams_server() -> None:
    client = create("renderer", "omnidreams", {"address": "a:1,b:2", "cameras": "front"})
    spec = client.spec
    assert (spec.chunk.frames, spec.chunk.fps, spec.size) == (8, 30, (1280, 704))
    assert (spec.cameras, spec.stateful, spec.size_multiple) == (("front",), True, 16)
    assert client.capacity == 2
    settings = client._settings
    assert [settings.timeout_s(m) for m in ("start_session", "render_video_chunk", "close_session")] == [180, 600, 60]  # fmt: skip
    assert settings.max_message_mib == 100


def test_ftheta_cameras_go_as_they_are() -> None:
    server = Recording()
    model = FThetaCamera.equidistant(WIDTH, HEIGHT, np.deg2rad(100))
    given = replace(FRONT, model=model)
    rendered(server, scene(given), (given,))
    sent = server.start.camera_specs[0].ftheta_param
    assert tuple(sent.angle_to_pixeldist_poly) == model.angle_to_pixeldist
    assert tuple(sent.pixeldist_to_angle_poly) == model.pixeldist_to_angle
