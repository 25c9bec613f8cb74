"""Pictures and curves of one rollout for its page, made from its log."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
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
from omniloop.report.svg import Series, line_chart
from omniloop.report.text import Image
from omniloop.report.video import decode
from omniloop.runlog.reader import iter_frames
from omniloop.runlog.record import read_record

_MAP_VIEW = View(size=(640, 352), height_m=48.0, ego_at=(0.5, 0.62))
_CAMERA_WIDTH = 640
_CURVE_STEP_US = 100_000
_RECORDED_SPEED_OVER_US = 300_000


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is shown of a rollout.

    Attributes:
        moment_s: The instant shown, from handover.
        why: Why this one.
        birdseye, camera: Data URIs; `camera` is empty if nothing was rendered.
        charts: Inline SVG.
    """

    moment_s: float
    why: str
    birdseye: str
    camera: str
    charts: tuple[Markup, ...]


def make_pictures(log_path: Path, incidents: Sequence[Incident]) -> Pictures:
    """Make the pictures of a rollout; a log that is cut off gives what it holds.

    Raises:
        RunFolderError: the log cannot be read or holds no committed state.
        SceneError: its scene cannot be read.
    """
    record = read_record(log_path, allow_cut_off=True)
    time_us, why = telling_moment(record, incidents)
    moment = Playback(record).at(time_us)
    clocks = record.schedule.clocks
    camera = ""
    if clocks:
        frame = _frame_at(log_path, clocks[0].camera_id, moment.time_us)
        camera = _camera_picture(record, frame) if frame is not None else ""
    return Pictures(
        moment_s=moment.since_handover_us / US_PER_S, why=why, birdseye=_map_picture(record, moment),
        camera=camera, charts=_charts(record, incidents),
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


def _frame_at(log_path: Path, camera_id: str, time_us: int) -> CameraFrame | None:
    """The newest frame captured at or before `time_us`, or the first of all."""
    best: CameraFrame | None = None
    for frame in iter_frames(log_path, camera_id):
        if best is not None and frame.capture_us > time_us:
            break
        best = frame
    return best


def _camera_picture(record: RolloutRecord, frame: CameraFrame) -> str:
    picture = decode(frame.image)
    height = round(picture.shape[0] * _CAMERA_WIDTH / picture.shape[1])
    picture = cv2.resize(picture, (_CAMERA_WIDTH, height), interpolation=cv2.INTER_AREA)
    camera = camera_of(record.scene, frame.camera_id)
    if camera is not None:
        width_m = record.scene.vehicle.width_m * 0.8
        overlay = PlanOverlay(camera, (_CAMERA_WIDTH, height), DARK, width_m)
        overlay.draw(picture, Playback(record).at(frame.capture_us))
    return data_uri(picture)


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
