"""The bird's-eye view: the map, everyone on it, the plan and the route, in one picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.core.scene import ActorClass, Scene
from omniloop.core.time import US_PER_S
from omniloop.report.map_features import drawn_features
from omniloop.report.map_raster import GRID_M, SHIFT, MapRaster, offset_polyline, to_fixed
from omniloop.report.moment import Moment
from omniloop.report.palette import DARK, Color, Palette, gradient, mix
from omniloop.report.text import Image, put_text, text_width_px

_PATCH_SHARPNESS = 1.5
_PLAN_PIECES = 24
_ROUTE_DOT_M = 3.0
_SMALLEST_BOX_M = 1.1
_SHORTEST_PLAN_M = 0.3
_CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], axis=1)
_LIGHTS: dict[str, Color] = {
    "red": (255, 64, 64), "yellow": (255, 200, 60), "green": (70, 214, 110),
    "red_yellow": (255, 140, 60), "off": (120, 126, 132),
}  # fmt: skip


@dataclass(frozen=True)
class View:
    """How a bird's-eye view looks at the world.

    Attributes:
        size: ``(width, height)`` in pixels.
        height_m: Metres from the lower to the upper edge.
        heading_up: Turn with ego; else north (local +y) is up.
        ego_at: Where ego stands, as shares of width and height from the top left.
    """

    size: tuple[int, int] = (640, 704)
    height_m: float = 80.0
    heading_up: bool = True
    ego_at: tuple[float, float] = (0.5, 0.66)

    @property
    def px_per_m(self) -> float:
        """Scale."""
        return self.size[1] / self.height_m

    @property
    def reach_m(self) -> float:
        """Distance from ego to the farthest corner."""
        x = max(self.ego_at[0], 1 - self.ego_at[0]) * self.size[0]
        y = max(self.ego_at[1], 1 - self.ego_at[1]) * self.size[1]
        return float(np.hypot(x, y)) / self.px_per_m

    def local_to_px(self, local_to_rig: Array) -> Array:
        """``(2, 3)``: the affine map of local ``[x, y, 1]`` to pixels ``[column, row]``."""
        turn = float(geometry.yaw_rad(local_to_rig)) if self.heading_up else np.pi / 2
        k = self.px_per_m
        # Ego's heading points up, its left points left.
        rows = k * np.array([[np.sin(turn), -np.cos(turn)], [-np.cos(turn), -np.sin(turn)]])
        at = np.array([self.ego_at[0] * self.size[0], self.ego_at[1] * self.size[1]]) - 0.5
        return np.hstack([rows, (at - rows @ local_to_rig[:2])[:, None]])


def boxes_meet(box: Array, boxes: Array) -> Mask:
    """Whether rectangles ``(N, 4, 2)`` overlap a rectangle ``(4, 2)``.

    By the separating axis theorem (Gottschalk, Lin, Manocha, OBBTree, 1996): two convex
    shapes are apart if and only if a normal of one of their sides tells them apart.
    """
    if not len(boxes):
        return np.zeros(0, dtype=bool)
    one = np.broadcast_to(box, boxes.shape)
    apart = np.zeros(len(boxes), dtype=bool)
    for shape in (one, boxes):
        for side in (0, 1):
            axis = shape[:, side + 1] - shape[:, side]
            a = np.einsum("nij,nj->ni", one, axis)
            b = np.einsum("nij,nj->ni", boxes, axis)
            apart |= (a.max(axis=1) < b.min(axis=1)) | (b.max(axis=1) < a.min(axis=1))
    return ~apart


class BirdsEye:
    """Draws moments of rollouts of one scene.

    Args:
        scene: Its map, actors and recorded path.
        view: Size, scale and orientation.
        palette: Colours.
        legend: Whether to add legend and scale bar.
        caption: Whether to add time and speed.
    """

    def __init__(
        self,
        scene: Scene,
        view: View | None = None,
        palette: Palette = DARK,
        *,
        legend: bool = True,
        caption: bool = True,
    ) -> None:
        self.view = view or View()
        self._scene = scene
        self._palette = palette
        self._map = MapRaster(
            scene.map,
            palette,
            self.view.px_per_m * _PATCH_SHARPNESS,
            self.view.reach_m + GRID_M * 0.75,
        )
        path = scene.ego.poses[:, :2]
        length = geometry.arc_length_m(path)[-1]
        spots = np.linspace(0.0, length, max(int(np.ceil(length / 0.5)), 1) + 1)
        self._recorded = geometry.resample_polyline(path, spots)
        self._sizes_m = np.maximum(scene.actor_sizes_m, _SMALLEST_BOX_M)
        self._colors = [
            mix(palette.actor(a.actor_class), palette.drivable, 0.5 if a.is_static else 0.0)
            for a in scene.actors
        ]
        room_px = max(self.view.size[0] - 150, 120)
        self._legend = draw_legend(scene, palette, room_px) if legend else None
        self._caption = caption

    # ------------------------------------------------------------------ one picture

    def draw(self, moment: Moment) -> Image:
        """Draw a moment; returns a new ``(H, W, 3)`` RGB picture."""
        local_to_px = self.view.local_to_px(moment.local_to_rig)
        image = self._ground(moment, local_to_px)
        self._draw_paths(image, moment, local_to_px)
        self._draw_lights(image, moment, local_to_px)
        self._draw_boxes(image, moment, local_to_px)
        if self._caption:
            self._draw_caption(image, moment)
        if self._legend is not None:
            height, width = image.shape[:2]
            h, w = self._legend.shape[:2]
            if w + 20 <= width and h + 20 <= height:
                image[height - h - 10 : height - 10, 10 : 10 + w] = self._legend
            draw_scale_bar(image, self.view.px_per_m, (width - 14, height - 18), self._palette)
        return image

    def _ground(self, moment: Moment, local_to_px: Array) -> Image:
        patch, local_to_patch = self._map.patch_at(moment.local_to_rig[:2])
        px_to_local = np.linalg.inv(local_to_px[:, :2])
        a = local_to_patch[:, :2] @ px_to_local
        px_to_patch = np.hstack([a, (local_to_patch[:, 2] - a @ local_to_px[:, 2])[:, None]])
        image: Image = cv2.warpAffine(
            patch, px_to_patch, self.view.size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT, borderValue=self._palette.background,
        )  # fmt: skip
        return image

    def _near(self, xy: Array, moment: Moment) -> Mask:
        gap = xy - moment.local_to_rig[:2]
        near: Mask = np.einsum("ij,ij->i", gap, gap) < (self.view.reach_m + 10) ** 2
        return near

    def _draw_paths(self, image: Image, moment: Moment, local_to_px: Array) -> None:
        palette = self._palette
        self._polyline(image, self._recorded, moment, local_to_px, palette.recorded)
        if moment.route is not None and len(moment.route) >= 2:
            length = geometry.arc_length_m(moment.route[:, :2])[-1]
            dots = geometry.resample_polyline(
                moment.route[:, :2], np.arange(0.0, length, _ROUTE_DOT_M)
            )
            dots = dots[self._near(dots, moment)]
            radius = max(0.28 * self.view.px_per_m, 1.5)
            draw_discs(image, _apply(local_to_px, dots), radius, palette.route)
        if moment.trail is not None:
            # Two hairlines side by side: a wide polyline swells at each of its points.
            color, apart_m = mix(palette.ego, palette.lane, 0.45), 0.5 / self.view.px_per_m
            for side_m in (apart_m, -apart_m) if len(moment.trail) >= 2 else ():
                trail = offset_polyline(moment.trail, side_m)
                self._polyline(image, trail, moment, local_to_px, color)
        for sample in moment.samples:
            tint = mix(
                palette.plan_dropped if moment.plan_dropped else palette.plan_far,
                palette.lane,
                0.45,
            )
            self._polyline(image, sample.poses[:, :2], moment, local_to_px, tint)
        if len(moment.plan) >= 2:
            near = palette.plan_dropped if moment.plan_dropped else palette.plan_near
            far = palette.plan_dropped if moment.plan_dropped else palette.plan_far
            self._draw_plan(image, moment.plan.poses[:, :2], local_to_px, near, far)

    def _draw_plan(
        self, image: Image, xy: Array, local_to_px: Array, near: Color, far: Color
    ) -> None:
        length = geometry.arc_length_m(xy)[-1]
        if length < _SHORTEST_PLAN_M:
            return
        line = geometry.resample_polyline(xy, np.linspace(0.0, length, _PLAN_PIECES + 1))
        half_m = max(0.3, 1.2 / self.view.px_per_m)
        left = to_fixed(_apply(local_to_px, offset_polyline(line, half_m)))
        right = to_fixed(_apply(local_to_px, offset_polyline(line, -half_m)))
        pieces = np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)
        colors = gradient(near, far, _PLAN_PIECES)
        for k in range(_PLAN_PIECES - 1, -1, -1):
            cv2.fillConvexPoly(image, pieces[k], colors[k], cv2.LINE_AA, SHIFT)
        draw_discs(image, _apply(local_to_px, line[-1:]), 2 * half_m * self.view.px_per_m, far)

    def _polyline(
        self, image: Image, xy: Array, moment: Moment, local_to_px: Array, color: Color
    ) -> None:
        near = self._near(xy, moment)
        if not near.any():
            return
        # Runs of near points are lines of their own: a path may leave the view and come back.
        edges = np.flatnonzero(np.diff(near.astype(np.int8))) + 1
        runs = [r for r in np.split(np.arange(len(xy)), edges) if near[r[0]] and len(r) >= 2]
        fixed = [to_fixed(_apply(local_to_px, xy[r])) for r in runs]
        cv2.polylines(image, fixed, False, color, 1, cv2.LINE_AA, SHIFT)

    def _draw_lights(self, image: Image, moment: Moment, local_to_px: Array) -> None:
        lights = [x for x in self._scene.map.lights if len(x.times_us)]
        for light in lights:
            at = int(np.searchsorted(light.times_us, moment.time_us, side="right")) - 1
            if at < 0:
                continue
            centre = _apply(local_to_px, light.local_to_light[None, :2])
            draw_discs(image, centre, 5.5, self._palette.outline)
            draw_discs(image, centre, 4.0, _LIGHTS.get(light.states[at], _LIGHTS["off"]))

    def _draw_boxes(self, image: Image, moment: Moment, local_to_px: Array) -> None:
        palette, vehicle = self._palette, self._scene.vehicle
        ego_aabb = geometry.compose(moment.local_to_rig, vehicle.rig_to_aabb)
        ego = geometry.box_corners_xy(ego_aabb, vehicle.size_m)
        shown = np.flatnonzero(moment.actors_valid)
        shown = shown[self._near(moment.actors_local_to_aabb[shown, :2], moment)]
        poses = moment.actors_local_to_aabb[shown]
        true_boxes = geometry.box_corners_xy(poses, self._scene.actor_sizes_m[shown])
        meets = boxes_meet(ego, true_boxes)
        boxes = to_fixed(_apply(local_to_px, geometry.box_corners_xy(poses, self._sizes_m[shown])))
        noses = to_fixed(_apply(local_to_px, _noses(poses, self._sizes_m[shown])))
        for k, actor in enumerate(shown):
            color = palette.contact if meets[k] else self._colors[actor]
            cv2.fillConvexPoly(image, boxes[k], color, cv2.LINE_AA, SHIFT)
            cv2.fillConvexPoly(
                image, noses[k], mix(color, palette.outline, 0.55), cv2.LINE_AA, SHIFT
            )
        if len(shown):
            cv2.polylines(image, list(boxes), True, palette.outline, 1, cv2.LINE_AA, SHIFT)
        corners = to_fixed(_apply(local_to_px, ego))
        cv2.fillConvexPoly(image, corners, palette.ego, cv2.LINE_AA, SHIFT)
        nose = to_fixed(_apply(local_to_px, _noses(ego_aabb[None], vehicle.size_m[None])[0]))
        cv2.fillConvexPoly(image, nose, mix(palette.ego, palette.outline, 0.7), cv2.LINE_AA, SHIFT)
        if meets.any():
            hit = [corners, *boxes[meets]]
            cv2.polylines(image, hit, True, palette.contact, 2, cv2.LINE_AA, SHIFT)
            centre = to_fixed(_apply(local_to_px, ego_aabb[None, :2]))[0].tolist()
            radius = int(4.2 * self.view.px_per_m) << SHIFT
            cv2.circle(image, centre, radius, palette.contact, 2, cv2.LINE_AA, SHIFT)
        else:
            cv2.polylines(image, [corners], True, palette.text, 1, cv2.LINE_AA, SHIFT)

    # --------------------------------------------------------------------- captions

    def _draw_caption(self, image: Image, moment: Moment) -> None:
        palette = self._palette
        since = moment.since_handover_us / US_PER_S
        put_text(image, f"{since:+.1f} s", (14, 26), palette.text, 11, bold=True)
        put_text(image, f"{moment.speed_mps:.1f} m/s", (14, 46), palette.text_dim, 9)
        if moment.warmup:
            right = (image.shape[1] - 14, 26)
            put_text(image, "WARM-UP", right, palette.warmup, 9, bold=True, align="right")


_NAMES = {
    ActorClass.CAR: "car", ActorClass.TRUCK: "truck", ActorClass.PEDESTRIAN: "pedestrian",
    ActorClass.CYCLIST: "cyclist", ActorClass.OTHER: "other",
}  # fmt: skip


def draw_legend(scene: Scene, palette: Palette, room_px: int, *, plans: bool = True) -> Image:
    """A plate that says which colour is what.

    Args:
        scene: Names the classes and the map's features that occur in it.
        palette: Colours.
        room_px: Width before entries go on in another row.
        plans: Whether to name plan, route and recorded path.
    """
    present = sorted({a.actor_class for a in scene.actors}, key=lambda c: c.value)
    entries: list[tuple[str, Color, str]] = [("ego", palette.ego, "box")]
    entries += [(_NAMES[c], palette.actor(c), "box") for c in present]
    if plans:
        entries.append(("plan", palette.plan_far, "line"))
        entries.append(("route", palette.route, "dots"))
        entries.append(("recorded", palette.recorded, "thin"))
    looks = [drawn.look for drawn in drawn_features(scene.map.features)]
    entries += [(look.label, getattr(palette, look.color), look.mark) for look in looks]
    columns = [22 + text_width_px(name, 8) + 12 for name, _, _ in entries]
    rows: list[list[int]] = [[]]
    for k, width in enumerate(columns):
        if rows[-1] and sum(columns[i] for i in rows[-1]) + width > room_px:
            rows.append([])
        rows[-1].append(k)
    widest = max(sum(columns[i] for i in row) for row in rows)
    image = np.empty((8 + 17 * len(rows), 8 + widest, 3), dtype=np.uint8)
    image[:] = palette.panel
    for line, row in enumerate(rows):
        x, y = 10, 13 + 17 * line
        for k in row:
            name, color, mark = entries[k]
            _draw_mark(image, x, y, color, mark)
            put_text(image, name, (x + 19, y + 4), palette.text_dim, 8)
            x += columns[k]
    return image


def _apply(local_to_px: Array, xy: Array) -> Array:
    out: Array = xy @ local_to_px[:, :2].T + local_to_px[:, 2]
    return out


def _noses(poses: Array, sizes_m: Array) -> Array:
    """Triangles ``(N, 3, 2)`` that point where boxes head, inside their front third."""
    yaw = geometry.yaw_rad(poses)
    forward = np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
    left = np.stack([-forward[:, 1], forward[:, 0]], axis=-1)
    half_l, half_w = sizes_m[:, 0:1] / 2, sizes_m[:, 1:2] / 2
    tip = poses[:, :2] + forward * half_l * 0.86
    base = poses[:, :2] + forward * (half_l - np.minimum(half_l * 0.7, half_w * 1.3))
    return np.stack([tip, base + left * half_w * 0.66, base - left * half_w * 0.66], axis=1)


def draw_discs(image: Image, centres: Array, radius_px: float, color: Color) -> None:
    """Fill discs around ``(N, 2)``; OpenCV's own circle turns into a diamond at small radii."""
    for outline in to_fixed(centres[:, None, :] + radius_px * _CIRCLE):
        cv2.fillConvexPoly(image, outline, color, cv2.LINE_AA, SHIFT)


def _draw_mark(image: Image, x: int, y: int, color: Color, mark: str) -> None:
    if mark == "box":
        cv2.rectangle(image, (x, y - 4), (x + 12, y + 3), color, -1)
    elif mark == "dots":
        draw_discs(image, np.array([[x + 1.0 + 5 * k, y] for k in range(3)]), 1.8, color)
    elif mark == "disc":
        draw_discs(image, np.array([[x + 6.0, y]]), 3.0, color)
    elif mark == "hatch":
        for k in range(3):
            cv2.line(image, (x + 4 * k, y + 3), (x + 4 * k + 5, y - 4), color, 1, cv2.LINE_AA)
    else:
        half = 1 if mark == "line" else 0
        cv2.rectangle(image, (x, y - half), (x + 12, y + half), color, -1)


def draw_scale_bar(
    image: Image, px_per_m: float, right_xy: tuple[int, int], palette: Palette, cap_px: int = 8
) -> None:
    """Draw a bar of 1, 2 or 5 times a power of ten metres, its right end at `right_xy`."""
    wished = 90 / px_per_m
    power = 10.0 ** np.floor(np.log10(wished))
    metres = max(m * power for m in (1.0, 2.0, 5.0) if m * power <= wished)
    x1, y = right_xy
    x0 = round(x1 - metres * px_per_m)
    plate = (slice(max(y - cap_px - 16, 0), y + 8), slice(max(x0 - 8, 0), x1 + 9))
    image[plate] = palette.panel
    cv2.line(image, (x0, y), (x1, y), palette.text_dim, 2)
    for x in (x0, x1):
        cv2.line(image, (x, y - 4), (x, y), palette.text_dim, 2)
    put_text(
        image, f"{metres:g} m", ((x0 + x1) // 2, y - 9), palette.text_dim, cap_px, align="center"
    )
