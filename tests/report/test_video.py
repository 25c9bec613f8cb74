from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from omniloop.core.contracts import CameraFrame
from omniloop.core.errors import ConfigError, RunFolderError
from omniloop.core.record import RolloutRecord
from omniloop.report.incidents import Incident
from omniloop.report.palette import DARK
from omniloop.report.stage import HEADER_PX, TIMELINE_PX, Stage, layout
from omniloop.report.text import text_width_px, wrapped
from omniloop.report.video import decode, frame_rate, video_from_log, write_video
from tests.report.builders import START_US, make_frames, make_record, make_scene, write_log


@dataclass(frozen=True)
class Decoded:
    """What a player gets out of a file."""

    images: list[np.ndarray]
    pts_s: list[float]
    size: tuple[int, int]
    codec: str
    pixels: str


def read(path: Path) -> Decoded:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        return Decoded(
            [f.to_ndarray(format="rgb24") for f in frames],
            [float(f.pts * f.time_base) for f in frames],
            (stream.width, stream.height),
            stream.codec_context.name,
            stream.pix_fmt,
        )


@pytest.fixture(scope="module")
def record() -> RolloutRecord:
    return make_record(make_scene(seconds=3.0))


def close_to(pixel: np.ndarray, color: tuple[int, int, int], within: int = 24) -> bool:
    return bool(np.abs(pixel.astype(int) - color).max() <= within)


def test_a_video_shows_camera_map_plan_and_incident_at_their_times(
    tmp_path: Path, record: RolloutRecord
) -> None:
    """One encoded video, looked at from all sides."""
    hit = Incident(
        START_US + 2_000_000, START_US + 2_400_000, "collision", "front collision", "", True
    )
    frames = make_frames(record)
    count = write_video(tmp_path / "v.mp4", record, frames, incidents=[hit])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v.mp4"]
    decoded = read(tmp_path / "v.mp4")
    assert count == len(frames)
    every_frame_is_in_the_file_at_its_time(decoded, frames)
    the_index_is_at_the_front_of_the_file((tmp_path / "v.mp4").read_bytes())
    camera_picture_and_map_stand_beside_each_other(decoded.images)
    the_header_says_warm_up_then_closed_loop(decoded.images)
    an_incident_raises_its_flag_at_its_time(decoded.images)
    bare = replace(record, decisions=())
    write_video(tmp_path / "bare.mp4", bare, frames[:21])
    the_plan_is_drawn_into_the_camera_picture(decoded, read(tmp_path / "bare.mp4"))


def every_frame_is_in_the_file_at_its_time(decoded: Decoded, frames: list[CameraFrame]) -> None:
    assert len(decoded.images) == len(frames) == 31
    assert decoded.size == (1280, HEADER_PX + 440 + TIMELINE_PX)
    assert (decoded.codec, decoded.pixels) == ("h264", "yuv420p")
    expected = [(f.capture_us - START_US) / 1e6 for f in frames]
    np.testing.assert_allclose(decoded.pts_s, expected, atol=1e-4)


def the_index_is_at_the_front_of_the_file(data: bytes) -> None:
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def camera_picture_and_map_stand_beside_each_other(images: list[np.ndarray]) -> None:
    for k in (2, 30):
        shade = 40 + 2 * k
        assert close_to(images[k][HEADER_PX + 60, 400], (shade, shade, shade), 10)
    ego = (800 + 240, HEADER_PX + round(0.66 * 440))
    assert close_to(images[30][ego[1], ego[0]], DARK.ego, 40)


def the_plan_is_drawn_into_the_camera_picture(planned: Decoded, bare: Decoded) -> None:
    with_plan, without = (video.images[18] for video in (planned, bare))
    camera = (slice(HEADER_PX, HEADER_PX + 440), slice(0, 800))
    change = np.abs(with_plan[camera].astype(int) - without[camera].astype(int)).max(axis=2)
    assert change[320:, 350:450].min() > 20  # on the ground ahead
    assert change[:180].max() < 12  # not in the sky


def the_header_says_warm_up_then_closed_loop(images: list[np.ndarray]) -> None:
    corner = (20, 1280 - 16 - 117)
    assert close_to(images[9][corner], DARK.warmup)
    assert close_to(images[10][corner], DARK.closed_loop)


def an_incident_raises_its_flag_at_its_time(images: list[np.ndarray]) -> None:
    def red(image: np.ndarray) -> int:
        header = image[:HEADER_PX].astype(int)
        return int((np.abs(header - DARK.contact).max(axis=2) < 40).sum())

    assert red(images[19]) == 0
    assert red(images[20]) > 1000


def test_without_frames_the_map_alone_is_shown_at_10_hz(tmp_path: Path) -> None:
    record = make_record(make_scene(seconds=1.6), camera=False)
    count = write_video(tmp_path / "v.mp4", record)
    decoded = read(tmp_path / "v.mp4")
    assert count == len(decoded.images) == 17
    np.testing.assert_allclose(np.diff(decoded.pts_s), 0.1, atol=1e-4)
    assert decoded.size == (1280, HEADER_PX + 640 + TIMELINE_PX)
    ego = (640, HEADER_PX + round(0.66 * 640))
    assert close_to(decoded.images[12][ego[1], ego[0]], DARK.ego, 40)


def test_a_frame_that_was_never_delivered_leaves_a_gap_in_time(
    tmp_path: Path, record: RolloutRecord
) -> None:
    frames = make_frames(record)[:18]
    write_video(tmp_path / "v.mp4", record, [*frames[:10], *frames[13:]])
    pts = read(tmp_path / "v.mp4").pts_s
    assert len(pts) == 15
    np.testing.assert_allclose(pts[8:12], [0.8, 0.9, 1.3, 1.4], atol=1e-4)


def test_frames_are_read_one_by_one_as_they_are_encoded(
    tmp_path: Path, record: RolloutRecord
) -> None:
    writing = []

    def stream() -> object:
        for frame in make_frames(record):
            writing.append((tmp_path / "v.mp4.part").exists())
            yield frame

    write_video(tmp_path / "v.mp4", record, stream())  # type: ignore[arg-type]
    assert not writing[0]
    assert all(writing[10:])  # the encoder holds back a few


def test_the_same_rollout_gives_the_same_bytes(tmp_path: Path, record: RolloutRecord) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, record, make_frames(record)[:12])
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_chunked_frames_play_at_30_per_second(record: RolloutRecord) -> None:
    clock = replace(record.schedule.clocks[0], interval_us=33_333)
    schedule = replace(record.schedule, clocks=(clock,))
    assert frame_rate(replace(record, schedule=schedule), clock.camera_id) == 30
    assert frame_rate(record, clock.camera_id) == 10


def test_another_width_and_rate_are_obeyed(tmp_path: Path, record: RolloutRecord) -> None:
    write_video(tmp_path / "v.mp4", record, make_frames(record)[:5], width=1001, fps=5)
    decoded = read(tmp_path / "v.mp4")
    assert decoded.size == (1000, HEADER_PX + 344 + TIMELINE_PX)
    np.testing.assert_allclose(np.diff(decoded.pts_s), 0.2, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "camera"), [((1280, 704), 800), ((1550, 2048), 334), ((1600, 400), 800)]
)
def test_camera_pictures_keep_their_shape(size: tuple[int, int], camera: int) -> None:
    plan = layout(1280, size)
    assert plan.camera == camera
    assert all(v % 2 == 0 for v in (plan.width, plan.body, plan.camera, plan.height))
    stage = Stage(make_record(), 1280, size, None, "", ())
    shown = stage.picture_size
    assert shown[0] <= plan.camera
    assert shown[1] <= plan.body
    assert shown[0] / shown[1] == pytest.approx(size[0] / size[1], rel=0.01)


def test_a_png_is_decoded_as_well_as_a_jpeg(tmp_path: Path, record: RolloutRecord) -> None:
    picture = np.zeros((88, 160, 3), dtype=np.uint8)
    picture[..., 0] = 200
    _, encoded = cv2.imencode(".png", picture[..., ::-1])
    np.testing.assert_array_equal(decode(encoded.tobytes()), picture)
    frame = CameraFrame("camera_front_wide_120fov", encoded.tobytes(), START_US, START_US, START_US)
    assert write_video(tmp_path / "v.mp4", record, [frame]) == 1
    assert close_to(read(tmp_path / "v.mp4").images[0][HEADER_PX + 30, 30], (200, 0, 0))


def test_a_jpeg_is_never_decoded_below_the_size_asked_for(record: RolloutRecord) -> None:
    image = make_frames(record, (1280, 704))[0].image
    assert decode(image).shape == (704, 1280, 3)
    assert decode(image, (800, 440)).shape == (704, 1280, 3)
    assert decode(image, (640, 352)).shape == (352, 640, 3)


def test_bytes_that_are_no_picture_leave_no_file(tmp_path: Path, record: RolloutRecord) -> None:
    frames = make_frames(record)
    frames[3] = replace(frames[3], image=b"\x89PNG but not really")
    with pytest.raises(ValueError, match="neither JPEG nor PNG"):
        write_video(tmp_path / "v.mp4", record, frames)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, record: RolloutRecord) -> None:
    with pytest.raises(RunFolderError) as caught:
        write_video(tmp_path / "none" / "v.mp4", record, make_frames(record))
    assert caught.value.where == str(tmp_path / "none" / "v.mp4")
    assert "folder exists" in caught.value.remedy


def test_without_pyav_the_error_says_what_to_install(
    tmp_path: Path, record: RolloutRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError) as caught:
        write_video(tmp_path / "v.mp4", record)
    assert caught.value.remedy == "pip install 'omniloop[video]'"
    with pytest.raises(ConfigError, match=r"omniloop\[video\]"):
        video_from_log(tmp_path / "log.mcap", tmp_path / "v.mp4")


@pytest.mark.parametrize("fps", [0, -3.0, float("nan")])
def test_a_frame_rate_must_be_positive(tmp_path: Path, record: RolloutRecord, fps: float) -> None:
    with pytest.raises(ConfigError, match="fps is"):
        write_video(tmp_path / "v.mp4", record, fps=fps)


# --------------------------------------------------------------------- from the log


def test_a_log_alone_gives_the_same_video(tmp_path: Path, record: RolloutRecord) -> None:
    frames = make_frames(record)[:15]
    write_log(tmp_path / "log.mcap", record, frames)
    assert video_from_log(tmp_path / "log.mcap", tmp_path / "log.mp4") == 15
    write_video(tmp_path / "memory.mp4", record, frames, policy="straight_on")
    assert (tmp_path / "log.mp4").read_bytes() == (tmp_path / "memory.mp4").read_bytes()


def test_a_log_that_is_cut_off_gives_what_it_holds(tmp_path: Path, record: RolloutRecord) -> None:
    log = tmp_path / "log.mcap"
    write_log(log, record, [*make_frames(record, (1280, 704)) * 3])
    data = log.read_bytes()
    log.write_bytes(data[: int(len(data) * 0.6)])
    count = video_from_log(log, tmp_path / "v.mp4")
    assert 0 < count < 3 * 31
    assert len(read(tmp_path / "v.mp4").images) == count


def test_a_camera_that_was_not_rendered_is_an_error_with_a_suggestion(
    tmp_path: Path, record: RolloutRecord
) -> None:
    write_log(tmp_path / "log.mcap", record, make_frames(record)[:2])
    with pytest.raises(ConfigError, match="Did you mean 'camera_front_wide_120fov'"):
        video_from_log(tmp_path / "log.mcap", tmp_path / "v.mp4", "camera_front_wide")


def test_a_log_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="log cannot be read"):
        video_from_log(tmp_path / "log.mcap", tmp_path / "v.mp4")


def test_a_plan_in_words_is_written_at_the_foot_of_the_picture() -> None:
    record = make_record()
    words = replace(
        record,
        decisions=[
            replace(d, plan=replace(d.plan, reasoning="I slow down for " + "the long queue " * 40))
            for d in record.decisions
        ],
    )
    now = record.schedule.handover_us + 500_000
    silent, told = (Stage(r, 1280, None, None, "", ()).draw(now, None) for r in (record, words))
    rows = np.flatnonzero((silent != told).any(axis=(1, 2)))
    foot = HEADER_PX + Stage(record, 1280, None, None, "", ()).layout.body
    assert foot - 70 < rows[0]
    assert rows[-1] < foot


def test_words_are_wrapped_between_and_cut_after_the_last_line() -> None:
    assert wrapped("", 100, 2) == []
    lines = wrapped("one two three four five six seven eight nine ten", 80, 2)
    assert len(lines) == 2
    assert lines[-1].endswith("...")
    assert all(text_width_px(line, 9) <= 80 for line in lines)
