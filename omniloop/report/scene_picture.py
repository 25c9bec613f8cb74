"""A scene as one picture: map, recorded ego path, everyone's tracks, cameras, title."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.geometry import Array
from omniloop.core.motion import Times
from omniloop.core.scene import ActorClass, Scene, Track
from omniloop.core.time import US_PER_S
from omniloop.report.birdseye import View, draw_discs, draw_legend, draw_scale_bar
from omniloop.report.map_raster import GRID_M, SHIFT, MapRaster, offset_polyline, to_fixed
from omniloop.report.palette import EDITED, LIGHT, Color, mix
from omniloop.report.text import Image, put_text, shorten, text_width_px

_WIDTH_PX = 1600
_HEIGHT_PX = (560, 1100)
_TITLE_PX = 84
_MARGIN_M = 25.0
_LEAST_EXTENT_M = 90.0
_NEAR_PATH_M = 70.0
_MOST_PX_PER_M = 12.0
_SHARPNESS = 2.0
_BOX_EVERY_US = 2 * US_PER_S
_TICK_EVERY_US = 5 * US_PER_S
_FAN_M = 28.0


def draw_scene(scene: Scene, path_png: Path) -> None:
    """Draw a scene into a PNG, 1600 pixels wide.

    Raises:
        OSError: the file cannot be written.
    """
    good, encoded = cv2.imencode(".png", scene_image(scene)[..., ::-1])
    if not good:
        raise OSError(f"{path_png} could not be encoded as PNG")
    path_png.write_bytes(encoded.tobytes())


def scene_image(scene: Scene) -> Image:
    """The picture ``(H, 1600, 3)``, H by the shape of the scene; north (local +y) is up."""
    low, high = _extent(scene)
    wide_m, high_m = (high - low).tolist()
    height = int(np.clip(_WIDTH_PX * high_m / wide_m, *_HEIGHT_PX))
    px_per_m = min(_WIDTH_PX / wide_m, height / high_m, _MOST_PX_PER_M)
    view = View(
        size=(_WIDTH_PX, height), height_m=height / px_per_m, heading_up=False, ego_at=(0.5, 0.5)
    )
    centre = geometry.pose(*((low + high) / 2))
    local_to_px = view.local_to_px(centre)
    canvas = _map(scene, view, centre, local_to_px)
    for camera in scene.cameras:
        _fan(canvas, camera, scene.ego.poses[0], local_to_px)
    for track in sorted(scene.tracks, key=lambda t: t.actor.is_scripted):
        _track(canvas, track, scene, local_to_px)
    _ego(canvas, scene, local_to_px)
    draw_scale_bar(canvas, px_per_m, (_WIDTH_PX - 24, height - 24), LIGHT)
    _legend(canvas, scene)
    return np.vstack([_title(scene), canvas])


def _extent(scene: Scene) -> tuple[Array, Array]:
    """Corners ``(2,)`` of what is shown: the ego path and the tracks near it, with a margin."""
    path = scene.ego.poses[:, :2]
    thinned = path[:: max(len(path) // 200, 1)]
    points = [path]
    for track in scene.tracks:
        seen = track.local_to_aabb[track.valid, :2]
        if len(seen):
            gap = geometry.project_on_polyline(seen, thinned)[1]
            points.append(seen[gap < _NEAR_PATH_M])
    every = np.vstack(points)
    low, high = every.min(axis=0) - _MARGIN_M, every.max(axis=0) + _MARGIN_M
    short = np.maximum(_LEAST_EXTENT_M - (high - low), 0.0) / 2
    return low - short, high + short


def _map(scene: Scene, view: View, centre: Array, local_to_px: Array) -> Image:
    raster = MapRaster(scene.map, LIGHT, view.px_per_m * _SHARPNESS, view.reach_m + GRID_M)
    patch, local_to_patch = raster.patch_at(centre[:2])
    a = local_to_patch[:, :2] @ np.linalg.inv(local_to_px[:, :2])
    px_to_patch = np.hstack([a, (local_to_patch[:, 2] - a @ local_to_px[:, 2])[:, None]])
    image: Image = cv2.warpAffine(
        patch, px_to_patch, view.size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT, borderValue=LIGHT.background,
    )  # fmt: skip
    return image


def _apply(local_to_px: Array, xy: Array) -> Array:
    out: Array = xy @ local_to_px[:, :2].T + local_to_px[:, 2]
    return out


def _fan(image: Image, camera: Camera, local_to_rig: Array, local_to_px: Array) -> None:
    """Where a camera looks from the first ego pose: a translucent fan of its field of view."""
    model = camera.model
    row = (model.height - 1) / 2
    columns = np.linspace(0, model.width - 1, 25)
    rays = model.unproject(np.stack([columns, np.full(25, row)], axis=1))
    local_to_camera = geometry.compose(local_to_rig, camera.rig_to_camera)
    flat = geometry.rotate(local_to_camera[3:], rays)[:, :2]
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    if (length < 0.05).any():  # it looks straight up or down: there is no direction to draw
        return
    rim = np.vstack([local_to_camera[None, :2], local_to_camera[:2] + _FAN_M * flat / length])
    fixed = to_fixed(_apply(local_to_px, rim))
    overlay = image.copy()
    cv2.fillPoly(overlay, [fixed], LIGHT.plan_far, cv2.LINE_AA, SHIFT)
    cv2.addWeighted(overlay, 0.13, image, 0.87, 0, dst=image)
    cv2.polylines(image, [fixed], True, mix(LIGHT.plan_far, LIGHT.lane, 0.4), 1, cv2.LINE_AA, SHIFT)


def _ribbon(image: Image, xy: Array, width_px: float, color: Color, local_to_px: Array) -> None:
    """A wide line without the swellings of a wide polyline at its points."""
    pixels = _apply(local_to_px, xy)
    keep = np.concatenate([[True], np.linalg.norm(np.diff(pixels, axis=0), axis=1) > 1e-3])
    line = pixels[keep]
    if len(line) < 2:
        return
    left = to_fixed(offset_polyline(line, width_px / 2))
    right = to_fixed(offset_polyline(line, -width_px / 2))
    for k in range(len(line) - 1):
        quad = np.array([left[k], left[k + 1], right[k + 1], right[k]])
        cv2.fillConvexPoly(image, quad, color, cv2.LINE_AA, SHIFT)


def _every(start_us: int, end_us: int, step_us: int) -> Times:
    return np.arange(start_us, end_us + 1, step_us, dtype=np.int64)


def _track(image: Image, track: Track, scene: Scene, local_to_px: Array) -> None:
    """A track's path, and its box every 2 s, stronger as time goes on."""
    color = LIGHT.actor(track.actor.actor_class)
    rim = EDITED if track.actor.is_scripted else mix(color, LIGHT.text, 0.15)
    size = np.maximum(track.actor.size_m, 0.9)
    if track.actor.is_static:
        times = track.times_us[track.valid][:1]
    else:
        times = _every(scene.start_us, scene.end_us, _BOX_EVERY_US)
        edges = np.flatnonzero(np.diff(track.valid.astype(np.int8))) + 1
        for run in np.split(np.arange(len(track.valid)), edges):
            if track.valid[run[0]] and len(run) >= 2:
                line = to_fixed(_apply(local_to_px, track.local_to_aabb[run, :2]))
                shade = rim if track.actor.is_scripted else mix(color, LIGHT.lane, 0.35)
                cv2.polylines(image, [line], False, shade, 1, cv2.LINE_AA, SHIFT)
    poses, valid = track.at(times)
    boxes = to_fixed(_apply(local_to_px, geometry.box_corners_xy(poses, size)))
    span = max(scene.end_us - scene.start_us, 1)
    for k in np.flatnonzero(valid):
        age = (int(times[k]) - scene.start_us) / span
        fade = 0.45 if track.actor.is_static else 0.75 * (1 - age)
        cv2.fillConvexPoly(image, boxes[k], mix(color, LIGHT.lane, fade), cv2.LINE_AA, SHIFT)
        width = 2 if track.actor.is_scripted else 1
        cv2.polylines(image, [boxes[k]], True, rim, width, cv2.LINE_AA, SHIFT)


def _ego(image: Image, scene: Scene, local_to_px: Array) -> None:
    path = scene.ego.poses[:, :2]
    length = geometry.arc_length_m(path)[-1]
    spots = np.linspace(0.0, length, max(int(length / 0.7), 1) + 1)
    _ribbon(image, geometry.resample_polyline(path, spots), 5.0, LIGHT.ego, local_to_px)
    ticks = _every(scene.start_us, scene.end_us, _TICK_EVERY_US)
    at = scene.ego.sample(ticks)
    marks = _apply(local_to_px, at[:, :2])
    yaw = geometry.yaw_rad(at)
    sides = np.stack([np.sin(yaw), np.cos(yaw)], axis=1)  # to the right of ego, in pixels
    free_from = marks[0]
    for k in range(1, len(ticks)):
        draw_discs(image, marks[k : k + 1], 5.0, LIGHT.outline)
        draw_discs(image, marks[k : k + 1], 3.5, LIGHT.ego)
        if np.linalg.norm(marks[k] - free_from) > 34:
            _tag(
                image,
                f"{(int(ticks[k]) - scene.start_us) / US_PER_S:g} s",
                marks[k] + sides[k] * 26,
            )
            free_from = marks[k]
    for pose, filled in ((scene.ego.poses[0], True), (scene.ego.poses[-1], False)):
        box = geometry.compose(pose, scene.vehicle.rig_to_aabb)
        corners = to_fixed(_apply(local_to_px, geometry.box_corners_xy(box, scene.vehicle.size_m)))
        cv2.fillConvexPoly(image, corners, LIGHT.ego if filled else LIGHT.lane, cv2.LINE_AA, SHIFT)
        cv2.polylines(image, [corners], True, LIGHT.ego, 2, cv2.LINE_AA, SHIFT)
    ends = _apply(local_to_px, scene.ego.poses[[0, -1], :2])
    away = np.array([0.0, -30.0])
    _tag(image, "start", ends[0] + away, bold=True)
    if np.linalg.norm(ends[1] - ends[0]) > 90:
        _tag(image, "end", ends[1] + away, bold=True)


def _tag(image: Image, text: str, centre: Array, *, bold: bool = False) -> None:
    """A small label on a plate of its own."""
    width = text_width_px(text, 9, bold) + 12
    x, y = int(centre[0]) - width // 2, int(centre[1]) - 9
    cv2.rectangle(image, (x, y), (x + width, y + 18), LIGHT.panel, -1)
    cv2.rectangle(image, (x, y), (x + width, y + 18), LIGHT.faint, 1)
    put_text(
        image,
        text,
        (x + width // 2, y + 14),
        LIGHT.ego if bold else LIGHT.text_dim,
        9,
        bold=bold,
        align="center",
    )


def _legend(image: Image, scene: Scene) -> None:
    legend = draw_legend(scene, LIGHT, 900, plans=False)
    h, w = legend.shape[:2]
    image[-h - 16 : -16, 16 : 16 + w] = legend


def _title(scene: Scene) -> Image:
    image = np.empty((_TITLE_PX, _WIDTH_PX, 3), dtype=np.uint8)
    image[:] = LIGHT.panel
    image[-1] = LIGHT.faint
    put_text(image, shorten(scene.id, 900, 15, bold=True), (24, 38), LIGHT.text, 15, bold=True)
    kinds = Counter(actor.actor_class for actor in scene.actors)
    moving = sum(not actor.is_static for actor in scene.actors)
    facts = [
        scene.source,
        f"{(scene.end_us - scene.start_us) / US_PER_S:.1f} s",
        f"ego drives {geometry.arc_length_m(scene.ego.poses[:, :2])[-1]:.0f} m",
        f"{len(scene.actors)} actors, {moving} moving",
    ]
    if any(actor.is_scripted for actor in scene.actors):
        facts.append(f"{sum(a.is_scripted for a in scene.actors)} edited (pink)")
    facts += [f"{kinds[kind]} {_word(kind, kinds[kind])}" for kind in ActorClass if kinds[kind]]
    put_text(
        image, shorten("   |   ".join(facts), _WIDTH_PX - 48, 10), (24, 66), LIGHT.text_dim, 10
    )
    cameras = ", ".join(camera.id for camera in scene.cameras) or "no cameras"
    if len(scene.cameras) > 1:
        cameras = f"{len(scene.cameras)} cameras: {cameras}"
    right = (_WIDTH_PX - 24, 38)
    put_text(image, shorten(cameras, 560, 9), right, LIGHT.text_dim, 9, align="right")
    return image


def _word(kind: ActorClass, count: int) -> str:
    word = kind.name.lower()
    return word if count == 1 or kind is ActorClass.OTHER else word + "s"
