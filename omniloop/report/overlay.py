"""The plan drawn into a camera picture, as a ribbon on the ground."""

from __future__ import annotations

import cv2
import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera, default_camera
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.core.scene import Scene
from omniloop.report.map_raster import SHIFT, offset_polyline, to_fixed
from omniloop.report.moment import Moment
from omniloop.report.palette import Palette, gradient
from omniloop.report.text import Image

_OPACITY = 0.5
_SPACING_M = 1.0
_FIRST_M = 0.5
_MOST_PIECES = 60


def camera_of(scene: Scene, camera_id: str) -> Camera | None:
    """The scene's camera, or the default one if it has that name; None if unknown."""
    for camera in (*scene.cameras, default_camera()):
        if camera.id == camera_id:
            return camera
    return None


class PlanOverlay:
    """Projects plans into pictures of one camera.

    Args:
        camera: Its intrinsics at native resolution.
        size: ``(width, height)`` of the pictures drawn into.
        width_m: Width of the ribbon.
    """

    def __init__(
        self, camera: Camera, size: tuple[int, int], palette: Palette, width_m: float
    ) -> None:
        self._model = camera.model.resized(*size)
        self._rig_to_camera = camera.rig_to_camera
        self._palette = palette
        self._half_m = width_m / 2

    def ribbon(self, moment: Moment) -> tuple[Array, Array, Mask]:
        """Pixels ``(N, 2)`` of the ribbon's left and right edges, and where both are covered.

        The ribbon starts ahead of ego's rear axle, follows the plan's positions, and lies
        in the ground plane of each planned pose.
        """
        poses = moment.plan.poses
        none = np.zeros((0, 2))
        length = float(geometry.arc_length_m(poses[:, :2])[-1]) if len(poses) >= 2 else 0.0
        if length < _FIRST_M:
            return none, none, np.zeros(0, dtype=bool)
        count = min(int(length / _SPACING_M) + 2, _MOST_PIECES)
        spots = (
            np.linspace(_FIRST_M, length, count)
            if length > 2 * _FIRST_M
            else np.array([0.0, length])
        )
        line = geometry.resample_polyline(poses[:, :3], spots)
        camera_to_local = geometry.inverse(
            geometry.compose(moment.local_to_rig, self._rig_to_camera)
        )
        edges = []
        covered = np.ones(len(line), dtype=bool)
        for side_m in (self._half_m, -self._half_m):
            edge = np.column_stack([offset_polyline(line[:, :2], side_m), line[:, 2]])
            pixels, seen = self._model.project(geometry.transform_points(camera_to_local, edge))
            covered &= seen
            edges.append(pixels)
        return edges[0], edges[1], covered

    def _draw_samples(self, image: Image, moment: Moment) -> None:
        """Other trajectories that the policy sampled, as thin lines."""
        if not moment.samples:
            return
        camera_to_local = geometry.inverse(
            geometry.compose(moment.local_to_rig, self._rig_to_camera)
        )
        color = self._palette.plan_dropped if moment.plan_dropped else self._palette.plan_far
        for sample in moment.samples:
            pixels, seen = self._model.project(
                geometry.transform_points(camera_to_local, sample.poses[:, :3])
            )
            # Lines between points that are both in view.
            edges = np.flatnonzero(np.diff(seen.astype(np.int8))) + 1
            runs = [r for r in np.split(np.arange(len(seen)), edges) if seen[r[0]] and len(r) > 1]
            lines = [to_fixed(pixels[run]) for run in runs]
            cv2.polylines(image, lines, False, color, 1, cv2.LINE_AA, SHIFT)

    def draw(self, image: Image, moment: Moment) -> None:
        """Blend samples and plan into a picture ``(H, W, 3)`` in place."""
        self._draw_samples(image, moment)
        left, right, covered = self.ribbon(moment)
        pairs = np.flatnonzero(covered[1:] & covered[:-1])
        if not len(pairs):
            return
        height, width = image.shape[:2]
        ends = np.vstack([left[pairs], left[pairs + 1], right[pairs], right[pairs + 1]])
        low = np.clip(np.floor(ends.min(axis=0)).astype(int) - 1, 0, [width, height])
        high = np.clip(np.ceil(ends.max(axis=0)).astype(int) + 2, 0, [width, height])
        if (high <= low).any():
            return
        window = image[low[1] : high[1], low[0] : high[0]]
        painted = window.copy()
        palette = self._palette
        near = palette.plan_dropped if moment.plan_dropped else palette.plan_near
        far = palette.plan_dropped if moment.plan_dropped else palette.plan_far
        lefts, rights = np.where(covered[:, None], [left, right], 0.0) - low
        quads = to_fixed(np.stack([lefts[:-1], lefts[1:], rights[1:], rights[:-1]], axis=1))
        colors = gradient(near, far, len(quads))
        for k in pairs[::-1].tolist():
            cv2.fillConvexPoly(painted, quads[k], colors[k], cv2.LINE_AA, SHIFT)
        cv2.addWeighted(painted, _OPACITY, window, 1 - _OPACITY, 0, dst=painted)
        window[:] = painted
