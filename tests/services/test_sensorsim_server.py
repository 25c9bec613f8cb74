"""The rasteriser served under the sensorsim protocol, and whole rollouts over it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from grpc import StatusCode

from omniloop.configs.compose import compose
from omniloop.core import geometry
from omniloop.core.cameras import Camera, FThetaCamera, default_camera
from omniloop.core.contracts import RendererSpec, RenderRequest, RenderResult, SessionInfo
from omniloop.core.errors import SceneError, ServiceError
from omniloop.core.geometry import IDENTITY, Array
from omniloop.core.local import as_service
from omniloop.core.motion import ActorMotion
from omniloop.core.scene import Scene
from omniloop.renderer_client.rasterizer import Rasterizer
from omniloop.runlog.digest import digest_run
from omniloop.runlog.reader import iter_frames
from omniloop.runner.run import Finished, execute
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.services.camera_codec import CameraAxes, camera_from_wire, spec_to_wire
from omniloop.services.codec import pose_from_wire, pose_to_wire
from omniloop.services.protos import sensorsim_pb2 as pb
from omniloop.services.protos.common_pb2 import Empty
from omniloop.services.rpc import Caller, Refusal
from omniloop.services.sensorsim_client import NuRec
from omniloop.services.sensorsim_server import SensorsimServicer
from omniloop.services.sensorsim_world import render_request
from omniloop.services.serving import Servicer
from omniloop.services.shelf import SceneShelf
from tests.services.calling import hosted, until
from tests.services.driver_peers import listening
from tests.services.sensorsim_stage import (
    JPEG,
    LEFT,
    OneScene,
    camera,
    connected,
    frames,
    rendered,
    scene,
    served,
    session_of,
)

INSTANT = [(0, 1_200_000, 1_200_000)]


def at_float32(poses: Array) -> Array:
    """Poses ``(..., 7)`` as they are after the wire."""
    flat = [pose_from_wire(pose_to_wire(p)) for p in poses.reshape(-1, 7)]
    return np.array(flat).reshape(poses.shape)


def here(
    one: Scene, cameras: tuple[Camera, ...], request: RenderRequest, **size: int
) -> list[bytes]:
    """The images of a rasteriser in this process, at the poses that come over the wire."""
    out = []
    for n in range(len(request)):
        shown = cameras[int(request.camera_index[n])]
        end = [int(request.end_index[n])]
        sensor = geometry.compose(request.local_to_rig[end], shown.rig_to_camera)
        motion = request.actor_motion
        alone = RenderRequest(
            request.times_us[end], at_float32(sensor), request.actors,
            ActorMotion(request.times_us[end], at_float32(motion.local_to_aabb[:, end]), motion.valid[:, end]),
            np.zeros(1, int), np.zeros(1, int), np.zeros(1, int),
        )  # fmt: skip
        model = shown.model.resized(size.get("width", 160), size.get("height", 96))
        session = Rasterizer(chunk=0).open(session_of(one), (Camera(shown.id, model, IDENTITY),))
        out += session.render(alone).images
    return out


def asked(one: Scene, **fields: Any) -> Any:
    """A render_rgb message for the middle of the recording, with fields changed."""
    model = camera().model
    pose = pose_to_wire(geometry.compose(one.ego.sample([1_200_000])[0], camera().rig_to_camera))
    given = {
        "scene_id": one.id, "resolution_w": model.width, "resolution_h": model.height,
        "camera_intrinsics": spec_to_wire(camera()), "frame_start_us": 1_200_000,
        "frame_end_us": 1_200_001, "sensor_pose": pb.PosePair(start_pose=pose, end_pose=pose),
        "image_format": pb.JPEG,
    }  # fmt: skip
    return pb.RGBRenderRequest(**{**given, **fields})


def answered(servicer: Servicer, *requests: Any, method: str = "render_rgb") -> list[Any]:
    """Replies of a servicer, asked at once."""

    async def run() -> list[Any]:
        try:
            return await asyncio.gather(*(servicer.answer(method, r, Caller()) for r in requests))
        finally:
            await servicer.aclose()

    return asyncio.run(run())


def refused(servicer: Servicer, request: Any, method: str = "render_rgb") -> tuple[StatusCode, str]:
    with pytest.raises(Refusal) as caught:
        answered(servicer, request, method=method)
    return caught.value.code, caught.value.details


def moved(one: Scene, name: str, z_m: float = 0.75) -> Any:
    pose = pose_to_wire(np.array([32.0, -3.0, z_m, 0, 0, 0, 1.0]))
    return pb.DynamicObject(track_id=name, pose_pair=pb.PosePair(start_pose=pose, end_pose=pose))


# ----------------------------------------------------------------------------- images


def test_served_images_have_the_bytes_of_those_made_in_this_process() -> None:
    one, cameras = scene(), (camera(), LEFT)
    shots = [(0, 500_000, 500_000), (1, 500_000, 500_000), (0, 1_480_000, 1_500_000)]
    request = frames(one, shots, moved_m=2.5)
    (result,) = rendered(served(one), one, cameras, request)
    assert list(result.images) == here(one, cameras, request)
    assert len(set(result.images)) == 3


def test_an_f_theta_camera_comes_through_as_it_is() -> None:
    base = default_camera()
    wide = replace(base, model=base.model.resized(160, 96))
    assert isinstance(wide.model, FThetaCamera)
    one = scene((base,))
    (result,) = rendered(served(one), one, (wide,), frames(one, INSTANT))
    assert list(result.images) == here(one, (wide,), frames(one, INSTANT))


def test_every_bundle_gives_the_same_images() -> None:
    one, cameras = scene(), (camera(), LEFT)
    request = frames(one, [(0, 0, 0), (1, 0, 0)])
    results = [
        rendered(served(one), one, cameras, request, bundle=bundle)[0].images
        for bundle in ("batch", "single", "aggregated")
    ]
    assert results[0] == results[1] == results[2]


def test_a_png_holds_the_pixels_of_the_plugins_image() -> None:
    one, request = scene(), frames(scene(), INSTANT)
    (png,) = rendered(served(one), one, (camera(),), request, image_format="png")[0].images
    (jpeg,) = rendered(served(one), one, (camera(),), request)[0].images
    assert png.startswith(b"\x89PNG")
    pixels = [cv2.imdecode(np.frombuffer(i, np.uint8), cv2.IMREAD_COLOR) for i in (png, jpeg)]
    np.testing.assert_array_equal(*pixels)


def test_a_plugin_of_pngs_answers_jpegs_where_those_are_asked_for() -> None:
    class Pngs(Fixed):
        image = bytes(cv2.imencode(".png", np.full((8, 8, 3), 90, np.uint8))[1])

    servicer = SensorsimServicer(as_service("renderer", Pngs()), SceneShelf(OneScene(scene())))
    (reply,) = answered(servicer, asked(scene(), image_quality=80.0))
    pixels = cv2.imdecode(np.frombuffer(reply.image_bytes, np.uint8), cv2.IMREAD_COLOR)
    assert reply.image_bytes.startswith(b"\xff\xd8")
    np.testing.assert_allclose(pixels, 90, atol=2)


def test_an_image_has_the_size_asked_for_whatever_the_intrinsics_have() -> None:
    (reply,) = answered(served(scene()), asked(scene(), resolution_w=64, resolution_h=48))
    pixels = cv2.imdecode(np.frombuffer(reply.image_bytes, np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (48, 64, 3)
    request = frames(scene(), INSTANT, gone=("ahead", "late"))
    assert [reply.image_bytes] == here(scene(), (camera(),), request, width=64, height=48)


def test_static_actors_are_drawn_without_being_asked_for() -> None:
    one = scene()
    with_parked = frames(one, INSTANT, gone=("ahead", "late"))
    without = frames(one, INSTANT, gone=("ahead", "late", "parked"))
    (reply,) = answered(served(one), asked(one))
    assert [reply.image_bytes] == here(one, (camera(),), with_parked)
    assert [reply.image_bytes] != here(one, (camera(),), without)


def test_an_actor_hidden_below_the_ground_is_not_drawn() -> None:
    one = scene()
    empty, hidden, shown, low = answered(
        served(one), asked(one), asked(one, dynamic_objects=[moved(one, "late", -99.0)]),
        asked(one, dynamic_objects=[moved(one, "late")]),
        asked(one, dynamic_objects=[moved(one, "late", -2.0)]),
    )  # fmt: skip
    assert hidden.image_bytes == empty.image_bytes != shown.image_bytes
    assert low.image_bytes not in (empty.image_bytes, shown.image_bytes)


def test_who_is_there_is_the_static_ones_and_those_sent_above_ground() -> None:
    one = scene()
    sent = [moved(one, "late", -49.1), moved(one, "ahead", -49.3)]  # recorded at 0.75 m
    motion = render_request(one, asked(one, dynamic_objects=sent)).actor_motion
    assert dict(zip(("ahead", "parked", "late"), motion.valid[:, -1].tolist(), strict=True)) == {
        "ahead": False, "parked": True, "late": True,
    }  # fmt: skip


def test_a_world_without_an_actor_looks_the_same_over_the_wire() -> None:
    one = scene()
    request = frames(one, INSTANT, gone=("ahead",))
    (result,) = rendered(served(one), one, (camera(),), request)
    assert list(result.images) == here(one, (camera(),), request)


def test_a_shutter_without_duration_is_accepted() -> None:
    same, tiny = answered(served(scene()), asked(scene(), frame_end_us=1_200_000), asked(scene()))
    assert same.image_bytes == tiny.image_bytes


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"scene_id": "nowhere"}, StatusCode.NOT_FOUND, "Unknown scene 'nowhere'"),
        ({"image_format": pb.AVC}, StatusCode.INVALID_ARGUMENT, "image_format 5 is neither"),
        ({"frame_end_us": 7}, StatusCode.INVALID_ARGUMENT, "frame_end_us 7 is before"),
        ({"frame_start_us": 2**63}, StatusCode.INVALID_ARGUMENT, "is beyond"),
        ({"sensor_pose": pb.PosePair()}, StatusCode.INVALID_ARGUMENT, "sensor_pose or its times: quaternion"),
        ({"camera_intrinsics": pb.CameraSpec()}, StatusCode.INVALID_ARGUMENT, "resolution 0x0"),
        ({"resolution_w": 0}, StatusCode.INVALID_ARGUMENT, "an image of 0x96"),
        ({"resolution_h": 60_000}, StatusCode.INVALID_ARGUMENT, "an image of 160x60000"),
        ({"dynamic_objects": [moved(scene(), "ghost")]}, StatusCode.INVALID_ARGUMENT, "no track 'ghost'"),
        ({"dynamic_objects": [moved(scene(), "late")] * 2}, StatusCode.INVALID_ARGUMENT, "'late' comes twice"),
        ({"dynamic_objects": [pb.DynamicObject(track_id="late")]}, StatusCode.INVALID_ARGUMENT, "dynamic_objects: quaternion"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_served_is_refused(
    fields: dict[str, Any], code: StatusCode, said: str
) -> None:
    got, details = refused(served(scene()), asked(scene(), **fields))
    assert got is code
    assert said in details


def test_a_scene_unknown_to_the_server_is_a_scene_error_at_the_client() -> None:
    async def run() -> None:
        async with connected(served(scene())) as client:
            client.check_scene(scene())
            session = await client.open(session_of(scene()), (camera(),))
            heads = session._writer._heads
            heads[0] += pb.RGBRenderRequest(scene_id="elsewhere").SerializeToString()
            with pytest.raises(SceneError, match="Unknown scene 'elsewhere'"):
                await session.render(frames(scene(), INSTANT))

    asyncio.run(run())


def test_an_item_of_a_batch_that_fails_leaves_the_others() -> None:
    one = scene()
    batch = pb.BatchRGBRenderRequest(
        items=[
            {"camera_name": "a", "request": asked(one)},
            {"camera_name": "b", "request": asked(one, scene_id="nowhere")},
            {"camera_name": "c", "request": asked(one, image_format=pb.AV1)},
        ]
    )
    (reply,) = answered(served(one), batch, method="batch_render_rgb")
    a, b, c = reply.items
    assert (a.camera_name, a.success, a.error_message) == ("a", True, "")
    assert a.result.image_bytes.startswith(b"\xff\xd8")
    assert (b.success, c.success) == (False, False)
    assert "Unknown scene" in b.error_message
    assert "neither JPEG nor PNG" in c.error_message


def test_a_batch_with_a_camera_twice_is_refused() -> None:
    items = [{"camera_name": "a", "request": asked(scene())}] * 2
    code, details = refused(
        served(scene()), pb.BatchRGBRenderRequest(items=items), "batch_render_rgb"
    )
    assert (code, details) == (StatusCode.INVALID_ARGUMENT, "camera 'a' comes twice in a batch")


# --------------------------------------------------------------------------- the plugin


class Fixed:
    """A plugin that answers one image, and notes what happens to its sessions."""

    spec = RendererSpec(chunk=None)
    image = JPEG

    def __init__(self) -> None:
        self.opened = self.closed = self.clashes = self.drawing = 0
        self.gate = threading.Event()
        self.gate.set()

    def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> FixedSession:
        self.opened += 1
        return FixedSession(self)


class FixedSession:
    def __init__(self, plugin: Fixed) -> None:
        self._plugin = plugin
        self._busy = threading.Lock()

    def render(self, request: RenderRequest) -> RenderResult:
        if not self._busy.acquire(blocking=False):
            self._plugin.clashes += 1
            raise AssertionError("two calls at once")
        try:
            self._plugin.drawing += 1
            self._plugin.gate.wait(60)
        finally:
            self._busy.release()
        return RenderResult((self._plugin.image,))

    def close(self) -> None:
        self._plugin.closed += 1


def serving(plugin: Fixed, **settings: int) -> SensorsimServicer:
    shelf = SceneShelf(OneScene(scene()))
    return SensorsimServicer(as_service("renderer", plugin), shelf, **settings)


def test_eight_calls_at_once_are_answered_and_never_share_a_session() -> None:
    one, plugin = scene(), Fixed()
    answered(serving(plugin), *(asked(one) for _ in range(8)))
    assert plugin.clashes == 0
    images = {r.image_bytes for r in answered(served(one), *(asked(one) for _ in range(8)))}
    assert images == set(here(one, (camera(),), frames(one, INSTANT, gone=("ahead", "late"))))


def test_the_event_loop_is_free_while_images_are_drawn() -> None:
    plugin = Fixed()
    plugin.gate.clear()
    servicer = serving(plugin)

    async def run() -> None:
        drawing = [
            asyncio.create_task(servicer.answer("render_rgb", asked(scene()), Caller()))
            for _ in range(8)
        ]
        async with asyncio.timeout(30):
            await servicer.answer("get_version", Empty(), Caller())
        assert not any(task.done() for task in drawing)
        plugin.gate.set()
        await asyncio.gather(*drawing)
        await servicer.aclose()

    asyncio.run(run())


def test_sessions_of_the_plugin_are_kept_for_the_cameras_used_last() -> None:
    plugin = Fixed()
    servicer = serving(plugin, sessions_held=2)

    async def run() -> None:
        for width in (64, 64, 80, 64, 96, 64, 80):  # 80 went when 96 came
            await servicer.answer("render_rgb", asked(scene(), resolution_w=width), Caller())
        assert (plugin.opened, plugin.closed) == (4, 2)
        await servicer.aclose()
        assert plugin.closed == 4

    asyncio.run(run())


def test_a_call_that_is_given_up_keeps_its_session_until_it_is_drawn() -> None:
    plugin = Fixed()
    plugin.gate.clear()
    servicer = serving(plugin)

    async def run() -> None:
        given_up = asyncio.create_task(servicer.answer("render_rgb", asked(scene()), Caller()))
        await until(lambda: plugin.drawing == 1)
        given_up.cancel()
        other = asyncio.create_task(servicer.answer("render_rgb", asked(scene()), Caller()))
        await until(lambda: plugin.drawing == 2)
        assert (plugin.opened, plugin.closed) == (2, 0)
        plugin.gate.set()
        await other
        await servicer.aclose()
        assert plugin.closed == 2

    asyncio.run(run())
    assert plugin.clashes == 0


def test_a_session_whose_call_failed_is_not_used_again() -> None:
    class Broken(Fixed):
        image = b"no image"

    plugin = Broken()
    code, details = refused(serving(plugin), asked(scene()))
    assert code is StatusCode.UNKNOWN
    assert "the renderer's image cannot be used: it is neither JPEG nor PNG" in details

    class Raising(Fixed):
        def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> Any:
            super().open(session, cameras)
            plugin = self

            class Session:
                def render(self, request: RenderRequest) -> RenderResult:
                    raise RuntimeError("out of memory")

                def close(self) -> None:
                    plugin.closed += 1

            return Session()

    raising = Raising()
    code, details = refused(serving(raising), asked(scene()))
    assert (code, details) == (
        StatusCode.UNKNOWN, "Exception calling application: RuntimeError: out of memory",
    )  # fmt: skip
    assert (raising.opened, raising.closed) == (1, 1)


def test_a_renderer_that_carries_state_is_refused() -> None:
    class Stateful(Fixed):
        spec = RendererSpec(chunk=None, stateful=True)

    code, details = refused(serving(Stateful()), asked(scene()))
    assert code is StatusCode.FAILED_PRECONDITION
    assert "carries state" in details


def test_a_camera_model_that_the_renderer_does_not_know_is_refused() -> None:
    class OnlyFTheta(Fixed):
        spec = RendererSpec(chunk=None, camera_models=("ftheta",))

    code, details = refused(serving(OnlyFTheta()), asked(scene()))
    assert (code, details) == (StatusCode.INVALID_ARGUMENT, "camera 'front' is none of ftheta")


# --------------------------------------------------------------------------- catalogue


def test_cameras_are_listed_at_native_size_with_optical_axes() -> None:
    request = pb.AvailableCamerasRequest(scene_id="line")
    (reply,) = answered(served(scene()), request, method="get_available_cameras")
    listed = [camera_from_wire(c, CameraAxes.OPTICAL) for c in reply.available_cameras]
    assert [c.id for c in listed] == ["front", "left"]
    assert (listed[0].model.width, listed[0].model.height) == (160, 96)
    np.testing.assert_allclose(listed[1].rig_to_camera, LEFT.rig_to_camera, atol=1e-6)
    (reply,) = answered(served(scene(())), request, method="get_available_cameras")
    assert [c.logical_id for c in reply.available_cameras] == [default_camera().id]


def test_the_catalogue_tells_scenes_trajectories_and_what_is_loaded() -> None:
    async def run() -> None:
        async with connected(served(scene())) as client:
            address = next(iter(client.peers))
            assert client.peers[address].scenes == {"line"}
            assert client.peers[address].is_omniloop
            assert await client.loaded_scenes() == {address: {}}
            (recorded,) = await client.recorded_trajectories("line")
            assert recorded.times_us.tolist() == scene().ego.times_us.tolist()
            np.testing.assert_allclose(recorded.poses, scene().ego.poses, atol=1e-6)
            assert await client.loaded_scenes() == {address: {"line": 1}}

    asyncio.run(run())


def test_a_lidar_scan_comes_in_the_sensors_frame() -> None:
    poses = np.tile(np.array([12.0, 0.0, 2.0, 0, 0, 0, 1.0]), (2, 1))

    async def run() -> None:
        async with connected(served(scene())) as client:
            points, intensities = await client.lidar("line", "AT128", (1_200_000, 1_300_000), poses)
            assert len(points) == len(intensities) > 50_000
            # The ground is flat 2 m below; the parked car (4 m by 2 m at 15, 4) stands on it.
            assert points[:, 2].min() == pytest.approx(-2.0, abs=1e-4)
            on_car = points[points[:, 2] > -1.9]
            assert (np.abs(on_car[:, :2] - [3.0, 4.0]) <= [2.001, 1.001]).all()
            assert len(on_car) > 1_000

    asyncio.run(run())


def test_a_lidar_reply_that_contradicts_itself_is_named() -> None:
    class Wrong(SensorsimServicer):
        async def render_lidar(self, request: Any, caller: Caller) -> Any:
            return pb.LidarRenderReturn(num_points=2, point_xyzs=[1, 2, 3], point_intensities=[1])

    async def run() -> None:
        servicer = Wrong(as_service("renderer", Fixed()), SceneShelf(OneScene(scene())))
        async with connected(servicer) as client:
            with pytest.raises(ServiceError, match="3 coordinates and 1 intensities for 2 points"):
                await client.lidar("line", "PANDAR128", (0, 1), np.tile(IDENTITY, (2, 1)))

    asyncio.run(run())


def test_an_aggregate_holds_images_and_scans() -> None:
    one = scene()
    image = asked(one)
    scan = pb.LidarRenderRequest(
        scene_id=one.id, lidar_config={"lidar_type": pb.AT128}, frame_start_us=image.frame_start_us,
        frame_end_us=image.frame_end_us, sensor_pose={
            "start_pose": pose_to_wire(geometry.pose(0, 0, 2.0)),
            "end_pose": pose_to_wire(geometry.pose(0, 0, 2.0)),
        },
    )  # fmt: skip
    request = pb.AggregatedRenderRequest(rgb_requests=[image, image], lidar_requests=[scan])
    (reply,) = answered(served(one), request, method="render_aggregated")
    assert reply.rgb_returns[0].image_bytes == reply.rgb_returns[1].image_bytes != b""
    (points,) = reply.lidar_returns
    assert len(points.point_xyzs_buffer) == 12 * points.num_points > 0
    assert len(points.point_intensities_buffer) == 4 * points.num_points
    assert reply.driver_data == b""


# ------------------------------------------------------------------------------ rollouts


def rasterizer() -> SensorsimServicer:
    plugin = Rasterizer(chunk=0, width=160, height=96)
    return SensorsimServicer(as_service("renderer", plugin), SceneShelf(EmbeddedScenes()))


class LoopedBack(NuRec):
    """The client and the server of a rasteriser in this process, without a socket."""

    def __init__(self, address: str = "in-process:0", **settings: Any) -> None:
        super().__init__(address, **settings)
        self.loop_back(rasterizer())


def run(folder: Any, name: str, *settings: str) -> Finished:
    usual = (
        f"run.dir={folder}", f"run.name={name}", "scenes.ids=curve,straight_road", "run.seeds=2", "run.retries=0",
        "sync.duration_s=1", "policy=route_follower", "renderer.width=160", "renderer.height=96",
    )  # fmt: skip
    return execute(compose([*usual, *settings]))


def test_rollouts_on_a_server_have_the_digests_of_those_in_one_process_and_look_as_there(
    tmp_path: Any,
) -> None:
    with hosted(listening(rasterizer())) as (address,):
        there = run(tmp_path, "there", "renderer=nurec", f"renderer.address={address}")
    here = run(tmp_path, "here", f"renderer={__name__}:LoopedBack")
    assert [r.outcome for r in there.results] == ["completed"] * 4
    assert there.results[0].frames == {default_camera().id: 31}  # R, then 30 a second
    assert digest_run(there.run_dir) == digest_run(here.run_dir)
    calls = there.results[0].timings["services"]
    assert calls["renderer.render_rgb"]["calls"] == 31
    assert calls["renderer.get_available_cameras"]["calls"] in (0, 1)
    plain = run(tmp_path, "plain", "renderer=rasterizer", "renderer.chunk=0", "run.seeds=1")
    logs = sorted(plain.run_dir.glob("rollouts/*/0/log.mcap"))
    assert len(logs) == 2
    for log in logs:
        pairs = zip(
            iter_frames(log),
            iter_frames(there.run_dir / log.relative_to(plain.run_dir)),
            strict=True,
        )
        for one, other in pairs:
            assert (one.capture_us, one.camera_id) == (other.capture_us, other.camera_id)
            a, b = (
                cv2.imdecode(np.frombuffer(f.image, np.uint8), 1).astype(int) for f in (one, other)
            )
            assert np.abs(a - b).mean() < 1.0  # float32 poses move an edge here and there


def test_a_server_that_stops_fails_its_rollouts_as_infrastructure(tmp_path: Any) -> None:
    class Stopping(SensorsimServicer):
        async def render_rgb(self, request: Any, caller: Caller) -> Any:
            if request.frame_end_us > 650_000:  # frames of one decision arrive in any order
                raise Refusal(StatusCode.UNAVAILABLE, "going away")
            return await super().render_rgb(request, caller)

    plugin = Rasterizer(chunk=0, width=160, height=96)
    servicer = Stopping(as_service("renderer", plugin), SceneShelf(EmbeddedScenes()))
    with hosted(listening(servicer)) as (address,):
        failed = run(
            tmp_path, "failed", "renderer=nurec", f"renderer.address={address}",
            "run.seeds=1", "scenes.ids=curve", "renderer.retry_delays_s=[0.0,0.01]",
        )  # fmt: skip
    (result,) = failed.results
    assert result.outcome == "infrastructure_failed"
    assert "renderer cannot be reached: UNAVAILABLE 'going away'" in result.error["what"]
    assert result.error["where"].startswith("curve/0, renderer.render_rgb at 666660 us, 127.0.0.1:")
