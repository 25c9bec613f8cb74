"""A renderer behind the sensorsim protocol: what is asked, what comes back, what is refused."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.contracts import RenderRequest
from omniloop.core.errors import ConfigError, SceneError, ServiceError, TransientError
from omniloop.core.registry import create
from omniloop.services.connection import open_channels
from omniloop.services.protos import sensorsim_pb2 as pb
from omniloop.services.rpc import Caller, Refusal
from omniloop.services.sensorsim_client import NuRec
from omniloop.services.sensorsim_images import image_size
from omniloop.services.sensorsim_requests import RequestWriter
from tests.services.calling import until
from tests.services.sensorsim_stage import (
    END_US,
    JPEG,
    LEFT,
    Scripted,
    camera,
    connected,
    frames,
    rendered,
    scene,
    session_of,
    unimplemented,
)

LOADING = "A load persistent id instruction was encountered, but no persistent_load was specified"


def written(request: RenderRequest, *cameras: Any, shutter_us: int = 0) -> list[Any]:
    one, chosen = scene(), cameras or (camera(),)
    writer = RequestWriter(one, chosen, shutter_us, pb.JPEG, 95.0, (None,) * len(chosen))
    return [pb.RGBRenderRequest.FromString(message) for message in writer.write(request)]


def numbers(pose: Any) -> list[float]:
    """x, y, z, then w, x, y, z, as on the wire."""
    return [pose.vec.x, pose.vec.y, pose.vec.z, pose.quat.w, pose.quat.x, pose.quat.y, pose.quat.z]


# ------------------------------------------------------------------------ what is asked


def test_a_rolling_shutter_has_the_optical_pose_at_its_start_and_at_its_end() -> None:
    (message,) = written(frames(scene(), [(0, 100_000, 130_000)]), camera(shutter_us=30_000))
    assert (message.frame_start_us, message.frame_end_us) == (100_000, 130_000)
    # z of the camera along x of the rig, x of the camera to the right.
    optical = [-0.5, 0.5, -0.5, 0.5]
    pair = message.sensor_pose
    assert numbers(pair.start_pose) == pytest.approx([1.0 + 1.6, 0.0, 1.5, *optical], abs=1e-6)
    assert numbers(pair.end_pose) == pytest.approx([1.3 + 1.6, 0.0, 1.5, *optical], abs=1e-6)
    assert message.camera_intrinsics.shutter_type == pb.ROLLING_TOP_TO_BOTTOM


def test_a_camera_that_looks_left_sends_its_forward_axis_to_the_left() -> None:
    (message,) = written(frames(scene(), [(0, 0, 0)]), LEFT)
    x, y, z, qw, qx, qy, qz = numbers(message.sensor_pose.end_pose)
    assert [x, y, z] == pytest.approx([1.6, 0.0, 1.5])
    forward, down = geometry.rotate(
        np.array([qx, qy, qz, qw]), np.array([[0, 0, 1.0], [0, 1.0, 0]])
    )
    np.testing.assert_allclose(forward, [0.0, 1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(down, [0.0, 0.0, -1.0], atol=1e-6)


def test_a_shutter_that_the_renderer_declares_makes_a_rolling_one() -> None:
    (message,) = written(frames(scene(), [(0, 100_000, 105_000)]), shutter_us=5_000)
    assert message.camera_intrinsics.shutter_type == pb.ROLLING_TOP_TO_BOTTOM
    (message,) = written(frames(scene(), [(0, 100_000, 100_000)]))
    assert message.camera_intrinsics.shutter_type == pb.GLOBAL


@pytest.mark.parametrize(
    ("capture_us", "sent"), [(0, (0, 1)), (300_000, (300_000, 300_001)), (END_US, (END_US - 1, END_US))]
)  # fmt: skip
def test_a_global_shutter_is_sent_as_one_microsecond_inside_the_recording(
    capture_us: int, sent: tuple[int, int]
) -> None:
    (message,) = written(frames(scene(), [(0, capture_us, capture_us)]))
    assert (message.frame_start_us, message.frame_end_us) == sent
    assert message.sensor_pose.start_pose == message.sensor_pose.end_pose
    assert message.sensor_pose.end_pose.vec.x == pytest.approx(capture_us * 1e-5 + 1.6)


def test_size_scene_and_quality_are_those_asked_for() -> None:
    (message,) = written(frames(scene(), [(0, 0, 0)]))
    assert (message.resolution_w, message.resolution_h, message.scene_id) == (160, 96, "line")
    assert (message.camera_intrinsics.resolution_w, message.camera_intrinsics.logical_id) == (
        160,
        "front",
    )
    assert (message.image_format, message.image_quality) == (pb.JPEG, 95.0)
    assert not message.insert_ego_mask


def test_actors_move_over_the_shutter_and_static_ones_are_left_out() -> None:
    (message,) = written(frames(scene(), [(0, 100_000, 140_000)], moved_m=3.0))
    (ahead,) = message.dynamic_objects
    assert ahead.track_id == "ahead"
    pair = ahead.pose_pair
    assert numbers(pair.start_pose) == pytest.approx([23.5, 0.0, 0.75, 1.0, 0.0, 0.0, 0.0])
    assert numbers(pair.end_pose) == pytest.approx([23.7, 0.0, 0.75, 1.0, 0.0, 0.0, 0.0])


def test_actors_are_sent_in_the_scenes_order() -> None:
    (message,) = written(frames(scene(), [(0, 1_500_000, 1_500_000)]))
    assert [o.track_id for o in message.dynamic_objects] == ["ahead", "late"]


def test_an_actor_that_is_there_at_one_end_of_the_shutter_only_is_not_sent() -> None:
    (message,) = written(frames(scene(), [(0, 980_000, 1_000_000)]))
    assert [o.track_id for o in message.dynamic_objects] == ["ahead"]


def test_a_recorded_actor_that_is_gone_is_sent_100_m_below_along_its_own_z() -> None:
    request = frames(scene(), [(0, 1_500_000, 1_500_000)], gone=("ahead", "late"), moved_m=9.0)
    (message,) = written(request)
    ahead, late = message.dynamic_objects
    assert numbers(ahead.pose_pair.end_pose)[:3] == pytest.approx([27.5, 0.0, -99.25])
    # Pitched nose down by 0.2 rad, its z axis is (sin 0.2, 0, cos 0.2).
    below = [30.0 - 100 * np.sin(0.2), -3.0, 0.75 - 100 * np.cos(0.2)]
    assert numbers(late.pose_pair.end_pose)[:3] == pytest.approx(below, abs=1e-4)
    assert late.pose_pair.start_pose == late.pose_pair.end_pose


def test_an_actor_that_was_not_recorded_then_either_is_not_hidden() -> None:
    (message,) = written(frames(scene(), [(0, 500_000, 500_000)], gone=("late",)))
    assert [o.track_id for o in message.dynamic_objects] == ["ahead"]


@given(
    st.sets(st.sampled_from(["ahead", "parked", "late"])),
    st.integers(0, END_US), st.integers(0, 60_000),
)  # fmt: skip
def test_moving_actors_of_world_or_recording_are_sent_once_each(
    gone: set[str], end_us: int, shutter_us: int
) -> None:
    start_us = max(end_us - shutter_us, 0)
    (message,) = written(frames(scene(), [(0, start_us, end_us)], gone=tuple(gone)))
    recorded = ["ahead", "late"] if start_us >= 1_000_000 else ["ahead"]
    assert [o.track_id for o in message.dynamic_objects] == recorded
    low = {o.track_id for o in message.dynamic_objects if o.pose_pair.start_pose.vec.z < -50}
    assert low == gone & set(recorded)
    assert message.frame_start_us < message.frame_end_us


# -------------------------------------------------------------------------- how it is asked


def test_frames_of_one_instant_go_as_one_batch_and_come_back_in_order() -> None:
    class Named(Scripted):
        def image(self, request: Any) -> bytes:
            return JPEG + request.camera_intrinsics.logical_id.encode()

    servicer = Named(cameras=("front", "left"))
    request = frames(
        scene(),
        [(0, 0, 0), (1, 0, 0), (0, 50_000, 50_000), (0, 100_000, 100_000), (1, 100_000, 100_000)],
    )
    (result,) = rendered(servicer, scene(), (camera(), LEFT), request)
    assert [i[len(JPEG) :].decode() for i in result.images] == [
        "front",
        "left",
        "front",
        "front",
        "left",
    ]
    assert (servicer.calls["batch_render_rgb"], servicer.calls["render_rgb"]) == (2, 1)  # fmt: skip


def test_a_batch_never_holds_a_camera_twice() -> None:
    servicer = Scripted()
    request = frames(scene(), [(0, 0, 0), (0, 0, 0), (1, 0, 0)])
    (result,) = rendered(servicer, scene(), (camera(), LEFT), request)
    assert result.images == (JPEG,) * 3
    assert servicer.calls["batch_render_rgb"] == servicer.calls["render_rgb"] == 1


def test_images_of_another_size_than_was_asked_for_are_passed_on() -> None:
    servicer = Scripted()
    (result,) = rendered(servicer, scene(), (camera(),), frames(scene(), [(0, 0, 0)]))
    assert (servicer.seen[0].resolution_w, servicer.seen[0].resolution_h) == (160, 96)
    assert image_size(result.images[0]) == (16, 16)


def test_single_asks_for_each_frame_alone() -> None:
    servicer = Scripted()
    rendered(
        servicer,
        scene(),
        (camera(), LEFT),
        frames(scene(), [(0, 0, 0), (1, 0, 0)]),
        bundle="single",
    )
    assert servicer.calls["render_rgb"] == 2
    assert "batch_render_rgb" not in servicer.calls


def test_aggregated_reads_the_images_in_the_order_asked() -> None:
    class Named(Scripted):
        def image(self, request: Any) -> bytes:
            return JPEG + request.camera_intrinsics.logical_id.encode()

    servicer = Named()
    request = frames(scene(), [(0, 0, 0), (1, 0, 0)])
    (result,) = rendered(servicer, scene(), (camera(), LEFT), request, bundle="aggregated")
    assert [i[len(JPEG) :].decode() for i in result.images] == ["front", "left"]
    assert servicer.calls["render_aggregated"] == 1


def test_the_frames_of_a_request_are_rendered_at_once_not_one_after_another() -> None:
    class Together(Scripted):
        """Answers none before three are there."""

        async def render_rgb(self, request: Any, caller: Caller) -> Any:
            await barrier.wait()
            return await super().render_rgb(request, caller)

    barrier, servicer = asyncio.Barrier(3), Together()
    request = frames(scene(), [(0, t, t) for t in (33_333, 66_666, 100_000)])
    results = rendered(
        servicer, scene(), (camera(),), request, request, timeouts_s={"render_rgb": 60.0}
    )
    assert [r.images for r in results] == [(JPEG,) * 3] * 2
    assert servicer.calls["render_rgb"] == 6


def test_a_server_without_batches_is_asked_singly_from_then_on() -> None:
    servicer = Scripted()
    servicer.failures["batch_render_rgb"] = [unimplemented("batch_render_rgb")]
    request = frames(scene(), [(0, 0, 0), (1, 0, 0)])
    first, second = rendered(servicer, scene(), (camera(), LEFT), request, request)
    assert first.images == second.images == (JPEG, JPEG)
    assert (servicer.calls["batch_render_rgb"], servicer.calls["render_rgb"]) == (1, 4)


def test_ego_masks_are_inserted_where_the_server_lists_one_and_asked_for_once() -> None:
    servicer = Scripted()
    one, cameras = scene(), (camera(), LEFT)

    async def run() -> None:
        async with connected(servicer, ego_mask_rig_config="sedan") as client:
            sessions = await asyncio.gather(
                *(client.open(session_of(one), cameras) for _ in range(3))
            )
            await sessions[0].render(frames(one, [(0, 0, 0), (1, 0, 0)]))
            for session in sessions:
                await session.close()

    asyncio.run(run())
    masks = {
        r.camera_intrinsics.logical_id: (r.insert_ego_mask, r.ego_mask_id.rig_config_id)
        for r in servicer.seen
    }
    assert masks == {"front": (True, "sedan"), "left": (False, "")}
    assert servicer.calls["get_available_cameras"] == servicer.calls["get_available_ego_masks"] == 1  # fmt: skip


def test_masks_of_another_rig_are_left_alone() -> None:
    servicer = Scripted()
    rendered(
        servicer, scene(), (camera(),), frames(scene(), [(0, 0, 0)]), ego_mask_rig_config="truck"
    )
    assert not servicer.seen[0].insert_ego_mask


def test_a_camera_that_the_renderer_does_not_have_is_named_with_those_it_has() -> None:
    request = frames(scene(), [(0, 0, 0)])
    with pytest.raises(ConfigError, match="no camera 'front'") as caught:
        rendered(Scripted(cameras=("front_wide", "rear")), scene(), (camera(),), request)
    assert caught.value.remedy == "its cameras: front_wide, rear"
    (result,) = rendered(Scripted(cameras=()), scene(), (camera(),), request)
    assert result.images == (JPEG,)


def test_an_address_is_free_again_after_an_open_that_failed() -> None:
    async def run() -> None:
        async with connected(Scripted(cameras=("rear",)), sessions=1) as client:
            for _ in range(2):
                with pytest.raises(ConfigError):
                    async with asyncio.timeout(30):
                        await client.open(session_of(scene()), (camera(),))

    asyncio.run(run())


# ------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("code", "details", "failures", "calls", "kind"),
    [
        (StatusCode.UNAVAILABLE, "restarting", 2, 3, None),
        (StatusCode.UNAVAILABLE, "restarting", 3, 3, TransientError),
        (StatusCode.UNKNOWN, LOADING, 2, 3, None),
        (StatusCode.DEADLINE_EXCEEDED, "Stopped waiting for backend after 60 s", 1, 2, None),
        (StatusCode.UNKNOWN, "Exception calling application: CUDA error", 1, 1, ServiceError),
        (StatusCode.DEADLINE_EXCEEDED, "", 1, 1, TransientError),
        (StatusCode.INTERNAL, LOADING, 1, 1, ServiceError),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["render_rgb", "get_available_cameras"])
def test_only_failures_known_to_pass_are_tried_again(
    method: str, code: StatusCode, details: str, failures: int, calls: int, kind: type | None
) -> None:
    servicer = Scripted()
    servicer.failures[method] = [Refusal(code, details) for _ in range(failures)]
    request = frames(scene(), [(0, 0, 0)])
    if kind is None:
        assert rendered(servicer, scene(), (camera(),), request)[0].images == (JPEG,)
    else:
        with pytest.raises(kind) as caught:
            rendered(servicer, scene(), (camera(),), request)
        assert ("(after 3 attempts)" in caught.value.what) == (calls == 3)
    assert servicer.calls[method] == calls


def test_a_server_in_this_process_is_tried_again_by_the_same_rule() -> None:
    servicer = Scripted()
    servicer.failures["render_rgb"] = [Refusal(StatusCode.UNKNOWN, LOADING)] * 2

    async def run() -> None:
        client = NuRec("in-process:0", width=160, height=96, retry_delays_s=(0.0, 0.0))
        client.loop_back(servicer)
        await client.connect()
        session = await client.open(session_of(scene()), (camera(),))
        assert (await session.render(frames(scene(), [(0, 0, 0)]))).images == (JPEG,)

    asyncio.run(run())
    assert servicer.calls["render_rgb"] == 3


def test_the_delays_between_attempts_are_those_of_the_config() -> None:
    servicer = Scripted()
    servicer.failures["render_rgb"] = [Refusal(StatusCode.UNAVAILABLE, "")] * 2
    began = time.perf_counter()
    rendered(
        servicer, scene(), (camera(),), frames(scene(), [(0, 0, 0)]), retry_delays_s=(0.05, 0.15)
    )
    assert time.perf_counter() - began > 0.2  # a busy machine only makes it longer
    rule = create("renderer", "nurec", {"address": "h:1"})._manners.retry
    assert rule.delays_s == (0.5, 2.0)


def test_a_render_that_outlasts_its_deadline_is_not_asked_for_again() -> None:
    info = session_of(scene())

    async def run() -> None:
        async with connected(Scripted(render_s=3600.0), timeouts_s={"render_rgb": 0.05}) as client:
            session = await client.open(info, (camera(),))
            with pytest.raises(TransientError, match=r"did not answer render_rgb within 0\.05 s"):
                await session.render(frames(scene(), [(0, 0, 0)]))

    asyncio.run(run())
    # As the client counts: the deadline may pass before the server hears of the call.
    asked = info.call.stats["renderer.render_rgb"]
    assert (asked.calls, asked.retries) == (1, 0)


def test_renders_may_take_five_minutes_and_the_rest_half_of_one() -> None:
    settings = NuRec("127.0.0.1:1")._settings
    renders = ("render_rgb", "batch_render_rgb", "render_aggregated")
    assert [settings.timeout_s(m) for m in renders] == [300.0] * 3
    assert settings.timeout_s("get_available_cameras") == 30.0


def test_a_failed_frame_ends_the_calls_for_the_others() -> None:
    begun: list[int] = []
    ended: list[int] = []

    class Slow(Scripted):
        async def render_rgb(self, request: Any, caller: Caller) -> Any:
            if request.frame_start_us == 0:
                await until(lambda: len(begun) == 2)
                raise Refusal(StatusCode.INTERNAL, "out of memory")
            begun.append(request.frame_start_us)
            try:
                await asyncio.sleep(3600.0)
            finally:
                ended.append(request.frame_start_us)

    async def run() -> None:
        async with connected(Slow()) as client:
            session = await client.open(session_of(scene()), (camera(),))
            async with asyncio.timeout(60):
                with pytest.raises(ServiceError, match="out of memory"):
                    await session.render(frames(scene(), [(0, t, t) for t in (0, 50_000, 100_000)]))
            await until(lambda: len(ended) == 2)
            assert open_channels() == 1
            await session.close()

    asyncio.run(run())
    assert sorted(ended) == [50_000, 100_000]


def item(name: str, **fields: Any) -> dict[str, Any]:
    return {"camera_name": name, "success": True, "result": {"image_bytes": JPEG}, **fields}


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([item("front")], "left out camera 'left'"),
        ([item("front"), item("left"), item("rear")], "answered for camera 'rear', which was not asked for"),
        ([item("front"), item("front")], "answered twice for camera 'front'"),
        (
            [item("front"), item("left", success=False, error_message="no such track")],
            "could not render camera 'left': no such track",
        ),
        ([item("front"), item("left", result={})], "no image for camera 'left' at 200000 us: it is empty"),
    ],
)  # fmt: skip
def test_a_batch_that_is_not_complete_is_named(items: list[dict[str, Any]], said: str) -> None:
    class Wrong(Scripted):
        async def batch_render_rgb(self, request: Any, caller: Caller) -> Any:
            return pb.BatchRGBRenderReturn(items=items)

    request = frames(scene(), [(0, 200_000, 200_000), (1, 200_000, 200_000)])
    with pytest.raises(ServiceError) as caught:
        rendered(Wrong(), scene(), (camera(), LEFT), request)
    assert said in caught.value.what
    assert "line/0, renderer.batch_render_rgb at 200000 us, 127.0.0.1:" in caught.value.where


def test_an_aggregate_with_too_few_images_is_named() -> None:
    class Wrong(Scripted):
        async def render_aggregated(self, request: Any, caller: Caller) -> Any:
            return pb.AggregatedRenderReturn(rgb_returns=[pb.RGBRenderReturn(image_bytes=JPEG)])

    request = frames(scene(), [(0, 0, 0), (1, 0, 0)])
    with pytest.raises(ServiceError, match="1 images for 2 cameras"):
        rendered(Wrong(), scene(), (camera(), LEFT), request, bundle="aggregated")


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (b"", "it is empty"),
        (b"GIF89a", "neither JPEG nor PNG but begins with 47 49 46"),
        (JPEG[:30], "camera 'front' at 100000 us"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00", "PNG header ends"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(17), "PNG header is damaged"),
    ],
)
def test_bytes_that_are_no_image_name_camera_and_capture_time(image: bytes, said: str) -> None:
    class Wrong(Scripted):
        def image(self, request: Any) -> bytes:
            return image

    with pytest.raises(ServiceError, match="no image for camera 'front' at 100000 us") as caught:
        rendered(Wrong(), scene(), (camera(),), frames(scene(), [(0, 100_000, 100_000)]))
    assert said in caught.value.what


def test_a_scene_that_the_renderer_does_not_have_is_refused_before_the_start() -> None:
    async def run() -> None:
        class Other(Scripted):
            async def get_available_scenes(self, request: Any, caller: Caller) -> Any:
                from omniloop.services.protos.common_pb2 import AvailableScenesReturn

                return AvailableScenesReturn(scene_ids=["clipgt-1"])

        async with connected(Other()) as client:
            client.check_scene(scene())

    with pytest.raises(SceneError, match="does not serve scene 'line'"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("width", 0), ("shutter_us", -1), ("image_format", "gif"), ("image_quality", 0),
        ("bundle", "all"), ("retry_delays_s", (-1.0,)), ("fps", 0),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(setting: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        create("renderer", "nurec", {"address": "127.0.0.1:1", setting: value})
    assert caught.value.where == f"renderer.{setting}"
