"""One instant of a scene seen from above, with what was edited in it marked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.scene import Scene
from omniloop.core.time import US_PER_S, seconds_to_us
from omniloop.report.birdseye import BirdsEye, View, draw_scale_bar
from omniloop.report.map_raster import SHIFT, to_fixed
from omniloop.report.moment import Moment
from omniloop.report.palette import EDITED, LIGHT, Color, mix
from omniloop.report.text import Image, put_text, shorten, text_width_px

_SIZE = (960, 270)
_TITLE_PX = 34
_WIDE_M = 92.0
_EGO_AT = 0.2
_GHOSTS_S = (-2.0, -1.0, 1.0, 2.0)
_FEW_LABELS = 4
_LEAST_M = 1.0
_MOVED_M = 0.1
_BESIDE_PX = 20.0


def draw_moment(scene: Scene, at_s: float, path_png: Path, before: Scene | None = None) -> None:
    """Draw an instant of a scene into a PNG, 960 pixels wide, with ego's heading to the right.

    Args:
        at_s: Seconds after the recording's start; times outside show the nearest instant.
        before: The scene before its edits: its ego is outlined where that differs.

    Raises:
        OSError: the file cannot be written.
    """
    image = moment_image(scene, at_s, before)
    good, encoded = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not good:
        raise OSError(f"{path_png} could not be encoded as PNG")
    path_png.write_bytes(encoded.tobytes())


def moment_image(scene: Scene, at_s: float, before: Scene | None = None) -> Image:
    """The picture ``(304, 960, 3)``; see `draw_moment`."""
    time_us = int(
        np.clip(scene.start_us + seconds_to_us(at_s), scene.start_us, scene.end_us)
    )  # fmt: skip
    ego = scene.ego.sample(np.array([time_us]))[0]
    view = View(size=_SIZE[::-1], height_m=_WIDE_M, heading_up=True, ego_at=(0.5, 1 - _EGO_AT))
    actors = scene.recorded_actors(np.array([time_us]))
    moment = Moment(time_us, ego, 0.0, actors.local_to_aabb[:, 0], actors.valid[:, 0])
    upright = BirdsEye(scene, view, LIGHT, legend=False, caption=False).draw(moment)
    image: Image = np.ascontiguousarray(np.rot90(upright, -1))
    sheet = _Sheet(image, _turned(view.local_to_px(ego), upright.shape[0]))
    edited = [k for k, actor in enumerate(scene.actors) if actor.is_scripted]
    for k in edited:
        _trail(sheet, scene, k, time_us)
    _ego_ghosts(sheet, scene, time_us)
    if before is not None:
        _ego_before(sheet, scene, before, time_us)
    labels = _labels([scene.actors[k].id for k in edited])
    for number, k in enumerate(edited):
        if actors.valid[k, 0]:
            pose, actor = actors.local_to_aabb[k, 0], scene.actors[k]
            down_px = float((sheet.px(pose[None, :2]) - sheet.px(ego[None, :2]))[0, 1])
            below = down_px > _BESIDE_PX or (actor.is_static and down_px > -_BESIDE_PX)
            _mark(sheet, pose, actor.size_m, labels[number], below)
    if before is None or np.linalg.norm(before.ego.sample_clamped([time_us])[0, :2] - ego[:2]) < _MOVED_M:  # fmt: skip
        _label(sheet, "ego", sheet.px(ego[None, :2])[0], LIGHT.ego, 32)
    draw_scale_bar(image, view.px_per_m, (_SIZE[0] - 16, _SIZE[1] - 14), LIGHT)
    return np.vstack([_title(scene, (time_us - scene.start_us) / US_PER_S), image])


@dataclass(frozen=True, eq=False)
class _Sheet:
    image: Image
    local_to_px: Array

    def px(self, xy: Array) -> Array:
        out: Array = xy @ self.local_to_px[:, :2].T + self.local_to_px[:, 2]
        return out


def _turned(local_to_px: Array, height_px: int) -> Array:
    """The map of an upright picture to that picture turned clockwise by 90 degrees."""
    return np.stack([np.array([0.0, 0.0, height_px - 1]) - local_to_px[1], local_to_px[0]])


def _outline(sheet: _Sheet, pose: Array, size_m: Array, color: Color, width: int = 1) -> None:
    corners = geometry.box_corners_xy(pose, np.maximum(size_m, _LEAST_M))
    fixed = to_fixed(sheet.px(corners))
    cv2.polylines(sheet.image, [fixed], True, color, width, cv2.LINE_AA, SHIFT)


def _trail(sheet: _Sheet, scene: Scene, index: int, time_us: int) -> None:
    """Where an edited actor was and will be: a line, and its box 1 and 2 s before and after."""
    track = scene.tracks[index]
    if track.actor.is_static:
        return
    seen = track.local_to_aabb[track.valid]
    near = np.abs(track.times_us[track.valid] - time_us) <= seconds_to_us(4.0)
    if near.sum() >= 2:
        line = to_fixed(sheet.px(seen[near, :2]))
        cv2.polylines(sheet.image, [line], False, mix(EDITED, LIGHT.lane, 0.35), 2, cv2.LINE_AA, SHIFT)  # fmt: skip
    ghosts = np.array([time_us + seconds_to_us(s) for s in _GHOSTS_S], dtype=np.int64)
    poses, there = track.at(ghosts)
    for pose in poses[there]:
        _outline(sheet, pose, track.actor.size_m, mix(EDITED, LIGHT.lane, 0.45))


def _ego_ghosts(sheet: _Sheet, scene: Scene, time_us: int) -> None:
    ghosts = np.array([time_us + seconds_to_us(s) for s in _GHOSTS_S], dtype=np.int64)
    inside = ghosts[(ghosts >= scene.start_us) & (ghosts <= scene.end_us)]
    for pose in geometry.compose(scene.ego.sample(inside), scene.vehicle.rig_to_aabb):
        _outline(sheet, pose, scene.vehicle.size_m, mix(LIGHT.ego, LIGHT.lane, 0.45))


def _ego_before(sheet: _Sheet, scene: Scene, before: Scene, time_us: int) -> None:
    was = before.ego.sample_clamped(np.array([time_us]))[0]
    now = scene.ego.sample_clamped(np.array([time_us]))[0]
    if np.linalg.norm(was[:2] - now[:2]) >= _MOVED_M:
        path = to_fixed(sheet.px(before.ego.poses[:, :2]))
        cv2.polylines(sheet.image, [path], False, LIGHT.text, 1, cv2.LINE_AA, SHIFT)
        box = geometry.compose(was, before.vehicle.rig_to_aabb)
        _outline(sheet, box, before.vehicle.size_m, LIGHT.text, 2)
        was_px, now_px = sheet.px(np.stack([box[:2], now[:2]]))
        above, below = (-22, 34) if was_px[1] <= now_px[1] else (34, -22)
        _label(sheet, "recorded", was_px, LIGHT.text, above)
        _label(sheet, "edited", now_px, LIGHT.ego, below)


def _labels(ids: list[str]) -> list[str]:
    """Labels of edited actors: many of one name and a number get one for all."""
    stems = [re.sub(r"_\d+$", "", name) for name in ids]
    out = []
    for k, stem in enumerate(stems):
        count = stems.count(stem)
        first = stems.index(stem) == k
        out.append(ids[k] if count <= _FEW_LABELS else f"{count} x {stem}" if first else "")
    return out


def _mark(sheet: _Sheet, pose: Array, size_m: Array, label: str, below: bool) -> None:
    _outline(sheet, pose, size_m + 0.5, EDITED, 2)
    if label:
        corners = geometry.box_corners_xy(pose, np.maximum(size_m, _LEAST_M)) - pose[:2]
        reach = float(np.abs(corners @ sheet.local_to_px[:, :2].T)[:, 1].max())
        away = round(reach) + (22 if below else -8 - 2 * round(reach))
        _label(sheet, label, sheet.px(pose[None, :2])[0], EDITED, away)


def _label(sheet: _Sheet, text: str, at_px: Array, color: Color, below_px: int) -> None:
    width = text_width_px(text, 9, True)
    high, wide = sheet.image.shape[:2]
    x = int(np.clip(at_px[0] - width / 2, 4, wide - width - 4))
    y = int(np.clip(at_px[1] + below_px, 14, high - 6))
    if 0 <= at_px[0] < wide and 0 <= at_px[1] < high:
        cv2.rectangle(sheet.image, (x - 4, y - 13), (x + width + 4, y + 4), LIGHT.panel, -1)
        put_text(sheet.image, text, (x, y), color, 9, bold=True)


def _title(scene: Scene, at_s: float) -> Image:
    image = np.empty((_TITLE_PX, _SIZE[0], 3), dtype=np.uint8)
    image[:] = LIGHT.panel
    image[-1] = LIGHT.faint
    head = f"{scene.id}   {at_s:.1f} s"
    width = put_text(image, head, (12, 22), LIGHT.text, 10, bold=True)
    kinds = ", ".join(dict.fromkeys(line.split(":")[0] for line in scene.edits))
    tags = ", ".join(tag for tag in scene.tags if ":" in tag)
    text = "   ".join(part for part in (f"edits: {kinds}" if kinds else "no edits", tags) if part)
    put_text(image, shorten(text, _SIZE[0] - width - 60, 9), (36 + width, 22), EDITED if kinds else LIGHT.text_dim, 9)  # fmt: skip
    return image
