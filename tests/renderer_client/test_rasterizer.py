"""The rasteriser as a plugin: settings, chunks, and the same bytes every time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg

from omniloop.core.cameras import Camera, default_camera, select_cameras
from omniloop.core.contracts import RenderRequest, SessionInfo
from omniloop.core.errors import ConfigError
from omniloop.core.local import as_service
from omniloop.core.scene import Scene
from omniloop.renderer_client import rasterizer as module
from omniloop.renderer_client.rasterizer import Rasterizer
from omniloop.scenes.av2 import Av2Scenes
from omniloop.scenes.embedded import EmbeddedScenes

AV2 = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "av2" / "sensor"
SENSOR_LOG = "7fab2350-7eaf-3b7e-a39d-6937a4c1bede"
OTHER_LOG = "3b3570b4-7b0b-3268-a571-b0889dbf40b6"
needs_av2 = pytest.mark.skipif(not AV2.is_dir(), reason=f"no Argoverse 2 logs at {AV2}")


@pytest.fixture(scope="module")
def scene() -> Scene:
    return EmbeddedScenes().load("straight_road")


def session_info(scene: Scene) -> SessionInfo:
    return SessionInfo("s/0", scene, 0, scene.vehicle, scene.start_us, scene.start_us, scene.end_us)


def request_at(scene: Scene, times_us: np.ndarray, cameras: int = 1) -> RenderRequest:
    """Frames of every camera at each instant; the shutter opens at the first instant."""
    index = np.repeat(np.arange(len(times_us)), cameras)
    return RenderRequest(
        times_us, scene.ego.sample(times_us), scene.actors, scene.recorded_actors(times_us),
        np.tile(np.arange(cameras), len(times_us)), np.zeros_like(index), index,
    )  # fmt: skip


def two_cameras(scene: Scene) -> tuple[Camera, ...]:
    front = select_cameras(scene.cameras, None, scene.id)[0]
    small = replace(default_camera(), id="small", model=default_camera().model.resized(320, 176))
    return replace(front, model=front.model.resized(640, 352)), small


def decoded(image: bytes) -> np.ndarray:
    return np.asarray(simplejpeg.decode_jpeg(image))


@pytest.mark.parametrize(("chunk", "first"), [(8, 5), (12, 9), (16, 13)])
def test_chunks_have_the_frames_of_the_video_model(chunk: int, first: int) -> None:
    spec = Rasterizer(chunk=chunk, fps=30).spec
    assert spec.chunk is not None
    assert (spec.chunk.first_frames, spec.chunk.frames) == (first, chunk)
    assert spec.chunk.frame_interval_us == 33_333


def test_chunk_zero_renders_frame_by_frame() -> None:
    spec = Rasterizer(
        chunk=0, fps=20, width=640, height=480, cameras=["a", "b"], shutter_us=5_000
    ).spec
    assert spec.chunk is None
    assert (spec.fps, spec.size, spec.cameras, spec.shutter_us) == (
        20,
        (640, 480),
        ("a", "b"),
        5_000,
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"chunk": 10}, ("10", "8, 12 or 16")),
        ({"chunk": -8}, ("-8", "8, 12 or 16")),
        ({"width": 1281}, ("width is 1281", "even")),
        ({"height": 703}, ("height is 703", "even")),
        ({"height": 0}, ("height is 0", "even")),
        ({"fps": 0}, ("fps is 0", "1000")),
        ({"jpeg_quality": 0}, ("jpeg_quality is 0", "1 to 100")),
        ({"jpeg_quality": 101}, ("jpeg_quality is 101", "1 to 100")),
        ({"shutter_us": -1}, ("shutter_us is -1", "0 or more")),
        ({"depth_max_m": 0.0}, ("depth_max_m is 0.0", "positive")),
        ({"depth_max_m": float("nan")}, ("depth_max_m is nan", "positive")),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], says: tuple[str, str]) -> None:
    with pytest.raises(ConfigError) as error:
        Rasterizer(**settings)
    assert all(part in str(error.value) for part in says)


def test_images_come_in_order_and_at_the_cameras_sizes(scene: Scene) -> None:
    cameras = two_cameras(scene)
    session = Rasterizer().open(session_info(scene), cameras)
    images = session.render(request_at(scene, scene.start_us + np.array([0, 500_000]), 2)).images
    assert [decoded(i).shape for i in images] == [(352, 640, 3), (176, 320, 3)] * 2
    assert all(decoded(i).max() > 200 for i in images)
    assert images[0] != images[2]


def test_a_request_without_frames_gives_no_images(scene: Scene) -> None:
    session = Rasterizer().open(session_info(scene), two_cameras(scene))
    assert (
        session.render(request_at(scene, np.zeros(0, dtype=np.int64) + scene.start_us)).images == ()
    )


def test_a_frame_shows_the_world_at_the_end_of_its_shutter(scene: Scene) -> None:
    cameras = two_cameras(scene)[:1]
    session = Rasterizer(chunk=0).open(session_info(scene), cameras)
    times = scene.start_us + np.array([0, 400_000])
    both = request_at(scene, times)
    late = replace(
        both, camera_index=np.array([0]), start_index=np.array([0]), end_index=np.array([1])
    )
    assert session.render(late).images[0] == session.render(both).images[1]
    assert session.render(late).images[0] != session.render(both).images[0]


def scenes() -> list[Any]:
    return [
        pytest.param("straight_road", None, id="embedded"),
        pytest.param(SENSOR_LOG, "ring_front_center", id="av2-pinhole", marks=needs_av2),
        pytest.param(OTHER_LOG, None, id="av2-ftheta", marks=needs_av2),
    ]


@pytest.mark.parametrize(("name", "camera"), scenes())
def test_frames_do_not_depend_on_what_they_are_rendered_with(name: str, camera: str | None) -> None:
    source = Av2Scenes(str(AV2)) if name in (SENSOR_LOG, OTHER_LOG) else EmbeddedScenes()
    loaded = source.load(name)
    wanted = None if camera is None else (camera,)
    chosen = select_cameras(loaded.cameras, wanted, loaded.id)[0]
    cameras = (replace(chosen, model=chosen.model.resized(640, 352)),)
    times = loaded.start_us + 700_000 + 33_333 * np.arange(16)
    one_by_one = Rasterizer(chunk=0).open(session_info(loaded), cameras)
    singles = [one_by_one.render(request_at(loaded, times[k : k + 1])).images[0] for k in range(16)]
    for chunk in (8, 12, 16):
        session = Rasterizer(chunk=chunk).open(session_info(loaded), cameras)
        for k in range(0, 17 - chunk, 4):
            images = session.render(request_at(loaded, times[k : k + chunk])).images
            assert list(images) == singles[k : k + chunk]


def test_the_same_request_gives_the_same_bytes_in_any_thread(scene: Scene) -> None:
    cameras = two_cameras(scene)
    session = Rasterizer().open(session_info(scene), cameras)
    request = request_at(scene, scene.start_us + 33_333 * np.arange(8), 2)
    expected = session.render(request)
    assert session.render(request).images == expected.images
    other = Rasterizer().open(session_info(scene), cameras)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(s.render, request) for s in (session, other, session, other)]
        assert all(job.result().images == expected.images for job in jobs)


def test_the_number_of_threads_of_opencv_changes_nothing(scene: Scene) -> None:
    session = Rasterizer().open(session_info(scene), two_cameras(scene))
    assert cv2.getNumThreads() == 1
    request = request_at(scene, scene.start_us + 33_333 * np.arange(3), 2)
    expected = session.render(request).images
    cv2.setNumThreads(4)
    try:
        assert session.render(request).images == expected
    finally:
        cv2.setNumThreads(1)


def test_sessions_of_a_scene_share_its_geometry(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[object] = []
    original = module.build_geometry

    def counted(vector_map: Any) -> Any:
        built.append(vector_map)
        return original(vector_map)

    monkeypatch.setattr(module, "build_geometry", counted)
    renderer = Rasterizer()
    for _ in range(3):
        renderer.open(session_info(scene), two_cameras(scene))
    renderer.open(session_info(EmbeddedScenes().load("curve")), two_cameras(scene))
    assert len(built) == 2


def test_it_serves_as_a_plugin(scene: Scene) -> None:
    async def frames() -> tuple[bytes, ...]:
        service = as_service("renderer", Rasterizer())
        session = await service.open(session_info(scene), two_cameras(scene))
        result = await session.render(request_at(scene, scene.start_us + 33_333 * np.arange(5)))
        await session.close()
        return tuple(result.images)

    assert len(asyncio.run(frames())) == 5


def test_quality_sets_the_size_of_the_files(scene: Scene) -> None:
    request = request_at(scene, np.array([scene.start_us]))
    sizes = [
        len(
            Rasterizer(jpeg_quality=q)
            .open(session_info(scene), two_cameras(scene))
            .render(request)
            .images[0]
        )
        for q in (40, 90)
    ]
    assert sizes[0] < sizes[1]


@needs_av2
@pytest.mark.parametrize(
    ("log", "camera"),
    [(SENSOR_LOG, "ring_front_center"), (SENSOR_LOG, "ring_rear_left"), (OTHER_LOG, None)],
)
def test_real_logs_have_the_road_below_the_horizon(log: str, camera: str | None) -> None:
    loaded = Av2Scenes(str(AV2)).load(log)
    chosen = select_cameras(loaded.cameras, None if camera is None else (camera,), log)[0]
    mounted = replace(chosen, model=chosen.model.resized(1280, 704))
    session = Rasterizer().open(session_info(loaded), (mounted,))
    times = np.linspace(loaded.start_us, loaded.end_us, 8).astype(np.int64)
    ahead = mounted.model.project(np.array([0.0, 0.0, 1.0]))[0]
    for image in session.render(request_at(loaded, times)).images:
        # Saturated map colours; JPEG keeps them apart from the boxes' blues and reds.
        pixels = decoded(image).astype(int)
        magenta = (pixels[..., 0] > 200) & (pixels[..., 1] < 80) & (pixels[..., 2] > 180)
        assert magenta.sum() > 300
        # Hills aside: nothing of the road is far above the optical axis.
        assert np.nonzero(magenta)[0].min() > ahead[1] - 120
