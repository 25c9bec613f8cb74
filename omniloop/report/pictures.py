"""Pictures and curves of one rollout for its page, made from its log."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from markupsafe import Markup

from omniloop.core import geometry
from omniloop.core.contracts import CameraFrame
from omniloop.core.geometry import Array
from omniloop.core.record import RolloutRecord
from omniloop.core.time import US_PER_S
from omniloop.report.birdseye import BirdsEye, View, draw_scale_bar
from omniloop.report.incidents import Incident
from omniloop.report.moment import Moment, Playback
from omniloop.report.overlay import PlanOverlay, camera_of
from omniloop.report.palette import DARK, LIGHT
from omniloop.report.player_data import player_data
from omniloop.report.player_film import Film, jpeg_uri, read_camera
from omniloop.report.svg import Series, line_chart
from omniloop.report.text import Image
from omniloop.report.video import decode
from omniloop.runlog.record import read_record

_MAP_VIEW = View(size=(640, 352), height_m=48.0, ego_at=(0.5, 0.62))
_KEY_VIEW = View(size=(400, 300), height_m=44.0, ego_at=(0.5, 0.62))
_CAMERA_WIDTH, _KEY_WIDTH = 640, 400
_CAMERA_QUALITY = 80
_KEY_BEFORE_US = (2_000_000, 1_000_000, 0)
_CURVE_STEP_US = 100_000
_RECORDED_SPEED_OVER_US = 300_000


@dataclass(frozen=True)
class KeyFrame:
    """An instant shortly before an incident, or its start.

    Attributes:
        before_s: How long before the incident's start.
        at_s: From handover.
        birdseye, camera: Data URIs; `camera` is empty if nothing was rendered.
    """

    before_s: float
    at_s: float
    birdseye: str
    camera: str


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is shown of a rollout.

    Attributes:
        moment_s: The instant shown, from handover.
        why: Why this one.
        birdseye, camera: Data URIs; `camera` is empty if nothing was rendered.
        charts: Inline SVG.
        key_frames: Of each incident asked for, the instants that the rollout has.
        player: See `omniloop.report.player_data.player_data`.
        film: Small camera pictures; None if nothing was rendered.
        handover_us: What the times of the film are counted from.
    """

    moment_s: float
    why: str
    birdseye: str
    camera: str
    charts: tuple[Markup, ...]
    key_frames: tuple[tuple[KeyFrame, ...], ...]
    player: dict[str, Any]
    film: Film | None
    handover_us: int


def make_pictures(log_path: Path, incidents: Sequence[Incident], keyed: int = 0) -> Pictures:
    """Make the pictures of a rollout; a log that is cut off gives what it holds.

    Args:
        keyed: So many of the incidents, the first ones, get key frames.

    Raises:
        RunFolderError: the log cannot be read or holds no committed state.
        SceneError: its scene cannot be read.
        ValueError: a camera frame is no picture.
    """
    record = read_record(log_path, allow_cut_off=True)
    playback = Playback(record)
    time_us, why = telling_moment(record, incidents)
    moment = playback.at(time_us)
    first_us = int(record.ego.times_us[0])
    keys = [
        [t for before in _KEY_BEFORE_US if (t := i.start_us - before) >= first_us]
        for i in incidents[:keyed]
    ]
    film: Film | None = None
    frames: dict[int, CameraFrame] = {}
    if record.schedule.clocks:
        instants = [moment.time_us, *(t for times in keys for t in times)]
        film, frames = read_camera(log_path, record.schedule.clocks[0].camera_id, instants)

    def camera(at_us: int, width_px: int) -> str:
        frame = frames.get(at_us)
        return _camera_picture(record, playback, frame, width_px) if frame is not None else ""

    birdseye = BirdsEye(record.scene, _KEY_VIEW, LIGHT, legend=False, caption=False)

    def key_frame(incident: Incident, at_us: int) -> KeyFrame:
        shown = playback.at(at_us)
        return KeyFrame(
            before_s=(incident.start_us - at_us) / US_PER_S,
            at_s=(at_us - record.schedule.handover_us) / US_PER_S,
            birdseye=data_uri(birdseye.draw(shown)), camera=camera(at_us, _KEY_WIDTH),
        )  # fmt: skip

    return Pictures(
        moment_s=moment.since_handover_us / US_PER_S, why=why, birdseye=_map_picture(record, moment),
        camera=camera(moment.time_us, _CAMERA_WIDTH), charts=_charts(record, incidents),
        key_frames=tuple(
            tuple(key_frame(i, t) for t in times)
            for i, times in zip(incidents[:keyed], keys, strict=True)
        ),
        player=player_data(record, incidents), film=film if film and film.jpegs else None,
        handover_us=record.schedule.handover_us,
    )  # fmt: skip


def telling_moment(record: RolloutRecord, incidents: Sequence[Incident]) -> tuple[int, str]:
    """The instant worth a picture: the first incident, else when ego was nearest to a moving actor."""
    if incidents:
        return incidents[0].start_us, incidents[0].label
    if record.frontier_us < record.schedule.end_us:
        return record.frontier_us, "where it ended"
    handover = record.schedule.handover_us
    times = record.ego.times_us[record.ego.times_us >= handover]
    times = times[:: max(len(times) // 200, 1)]
    moving = [k for k, actor in enumerate(record.scene.actors) if not actor.is_static]
    if not moving or not len(times) or not len(record.actors.times_us):
        return record.frontier_us, "the end"
    ends = record.actors.times_us[[0, -1]]
    motion = record.actors.sample(np.clip(times, ends[0], ends[1]))
    ego = record.ego.trajectory.shift_body(record.scene.vehicle.rig_to_aabb).sample(times)
    gap = np.linalg.norm(motion.local_to_aabb[moving, :, :2] - ego[None, :, :2], axis=2)
    gap -= np.hypot(*record.scene.actor_sizes_m[moving, :2].T)[:, None] / 2
    gap[~motion.valid[moving]] = np.inf
    if not np.isfinite(gap).any():
        return record.frontier_us, "the end"
    return int(times[int(gap.min(axis=0).argmin())]), "nearest to a moving actor"


def _map_picture(record: RolloutRecord, moment: Moment) -> str:
    whole = record.ego.local_to_rig[:, :2]
    birdseye = BirdsEye(record.scene, _MAP_VIEW, LIGHT, legend=False, caption=False)
    image = birdseye.draw(replace(moment, trail=whole))
    corner = (_MAP_VIEW.size[0] - 20, _MAP_VIEW.size[1] - 18)
    draw_scale_bar(image, _MAP_VIEW.px_per_m, corner, LIGHT, 13)
    return data_uri(image)


def _camera_picture(
    record: RolloutRecord, playback: Playback, frame: CameraFrame, width_px: int
) -> str:
    picture = decode(frame.image)
    height = round(picture.shape[0] * width_px / picture.shape[1])
    picture = cv2.resize(picture, (width_px, height), interpolation=cv2.INTER_AREA)
    camera = camera_of(record.scene, frame.camera_id)
    if camera is not None:
        width_m = record.scene.vehicle.width_m * 0.8
        overlay = PlanOverlay(camera, (width_px, height), DARK, width_m)
        overlay.draw(picture, playback.at(frame.capture_us))
    return jpeg_uri(simplejpeg.encode_jpeg(picture, quality=_CAMERA_QUALITY))


def data_uri(image: Image) -> str:
    """A picture as a data URI in WebP."""
    good, encoded = cv2.imencode(".webp", image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 80])
    if not good:
        raise ValueError(f"a picture of {image.shape} could not be encoded as WebP")
    return "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode()


def _charts(record: RolloutRecord, incidents: Sequence[Incident]) -> tuple[Markup, ...]:
    schedule, scene = record.schedule, record.scene
    times = np.arange(schedule.context_start_us, record.frontier_us + 1, _CURVE_STEP_US)
    times = times[(times >= record.ego.times_us[0]) & (times <= record.ego.times_us[-1])]
    if not len(times):
        return ()
    time_s = (times - schedule.handover_us) / US_PER_S
    elapsed = (record.ego.times_us - times[0]) / US_PER_S
    driven = np.hypot(record.ego.dynamics[:, 0], record.ego.dynamics[:, 1])
    speed = np.interp((times - times[0]) / US_PER_S, elapsed, driven)
    positions = record.ego.trajectory.sample(times)[:, :2]
    apart = geometry.project_on_polyline(positions, scene.ego.poses[:, :2])[1]
    marks = [(i.start_us - schedule.handover_us) / US_PER_S for i in incidents]
    return (
        line_chart(
            "Speed", "m/s", time_s,
            [Series("driven", "s0", speed), Series("recorded", "s1", _recorded_speed(record, times))],
            warmup_until_s=0.0, marks_s=marks,
        ),
        line_chart(
            "Distance to recorded path", "m", time_s, [Series("distance", "s0", apart)],
            warmup_until_s=0.0, marks_s=marks,
        ),
    )  # fmt: skip


def _recorded_speed(record: RolloutRecord, times: np.ndarray) -> Array:
    """Speed of the recorded ego by central differences; NaN where there is no recording."""
    ego = record.scene.ego
    before = np.clip(times - _RECORDED_SPEED_OVER_US, ego.start_us, ego.end_us)
    after = np.clip(times + _RECORDED_SPEED_OVER_US, ego.start_us, ego.end_us)
    step = ego.sample(after)[:, :2] - ego.sample(before)[:, :2]
    span = (after - before) / US_PER_S
    out = np.hypot(step[:, 0], step[:, 1]) / np.where(span > 0, span, 1.0)
    out[(times < ego.start_us) | (times > ego.end_us) | (span <= 0)] = np.nan
    return np.asarray(out)
