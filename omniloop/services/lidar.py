"""A simple lidar: rays against the ground and the boxes of the actors, nothing else.

It is geometric only: one instant (no motion during the scan), one return per ray, no noise,
no drop-out, no weather; buildings and plants are not in a scene. Equal input gives equal
output. The sensor frame is x forward, y left, z up.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array

Heights = Callable[[Array, Array], Array]
"""Ground heights at positions x, y in `local`; NaN where unknown."""

_MARCH_STEPS = 48
_SLOPE_STEP_M = 0.25


@dataclass(frozen=True)
class LidarModel:
    """Beams on a regular grid, which real tables are only roughly.

    Field of view, range and points per scan of a single return are those of the Nebula
    driver (TIER IV, classes ``Pandar128E4X`` and ``PandarAT128``): 345 600 points are 128
    channels by 2700 columns, 153 600 are 128 by 1200.

    Attributes:
        elevation_deg: Lowest and highest beam.
        azimuth_deg: Where the columns begin and end.
        columns: Columns of a scan.
        range_m: Nearest and farthest return.
        channels: Beams of a column.
    """

    elevation_deg: tuple[float, float]
    azimuth_deg: tuple[float, float]
    columns: int
    range_m: tuple[float, float]
    channels: int = 128

    @functools.cached_property
    def directions(self) -> Array:
        """``(columns * channels, 3)`` unit directions in the sensor frame, column by column."""
        first, last = np.deg2rad(self.azimuth_deg)
        azimuth = first + (np.arange(self.columns) + 0.5) * (last - first) / self.columns
        elevation = np.deg2rad(np.linspace(*self.elevation_deg, self.channels))
        out = np.empty((self.columns, self.channels, 3))
        out[..., 0] = np.cos(azimuth)[:, None] * np.cos(elevation)
        out[..., 1] = np.sin(azimuth)[:, None] * np.cos(elevation)
        out[..., 2] = np.sin(elevation)
        return out.reshape(-1, 3)


PANDAR128 = LidarModel((-24.8, 14.4), (-180.0, 180.0), 2700, (0.1, 230.0))
AT128 = LidarModel((-12.5, 12.9), (-60.0, 60.0), 1200, (1.0, 180.0))


def scan(
    model: LidarModel,
    local_to_sensor: Array,
    heights: Heights,
    local_to_aabb: Array,
    sizes_m: Array,
) -> tuple[Array, Array]:
    """Cast every beam and keep the nearest hit.

    Args:
        local_to_sensor: ``(7,)``.
        heights: The ground.
        local_to_aabb: ``(N, 7)`` box centres.
        sizes_m: ``(N, 3)`` length, width, height.

    Returns:
        ``(points_sensor, intensities)``: ``(P, 3)`` in metres, and ``(P,)`` the cosine of
        the angle of incidence, 0 to 1. Beams without a hit in range are left out.
    """  # fmt: skip
    origin = local_to_sensor[:3]
    rays = geometry.rotate(local_to_sensor[3:], model.directions)
    range_m, cosine = _hit_ground(model, origin, rays, heights)
    for box, size in zip(local_to_aabb, sizes_m, strict=True):
        _hit_box(model, origin, rays, box, size / 2, range_m, cosine)
    hit = (range_m >= model.range_m[0]) & (range_m <= model.range_m[1])
    return model.directions[hit] * range_m[hit, None], cosine[hit]


def _hit_ground(
    model: LidarModel, origin: Array, rays: Array, heights: Heights
) -> tuple[Array, Array]:
    """Ranges ``(R,)``, infinite without a hit, and cosines of incidence ``(R,)``.

    Rays are followed in steps that grow with the range; where one dips below the ground
    the point between the last two steps is interpolated, exactly so on a plane.
    """
    range_m, cosine = np.full(len(rays), np.inf), np.zeros(len(rays))
    above = np.full(len(rays), origin[2] - heights(origin[:1], origin[1:2])[0])
    flying, before_m = np.arange(len(rays)), 0.0
    for reach_m in np.geomspace(*model.range_m, _MARCH_STEPS).tolist():
        at = origin + reach_m * rays[flying]
        gap = at[:, 2] - heights(at[:, 0], at[:, 1])
        through = (above > 0) & (gap <= 0)  # false where a height is unknown
        part = above[through] / (above[through] - gap[through])
        range_m[flying[through]] = before_m + part * (reach_m - before_m)
        flying, above, before_m = flying[~through], gap[~through], reach_m
    hit = np.isfinite(range_m)
    x, y = (origin[:2] + range_m[hit, None] * rays[hit, :2]).T
    d = _SLOPE_STEP_M
    slope_x = np.nan_to_num((heights(x + d, y) - heights(x - d, y)) / (2 * d))
    slope_y = np.nan_to_num((heights(x, y + d) - heights(x, y - d)) / (2 * d))
    normal = np.stack([-slope_x, -slope_y, np.ones(len(x))], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    cosine[hit] = np.abs(np.einsum("ij,ij->i", normal, rays[hit]))
    return range_m, cosine


def _hit_box(
    model: LidarModel,
    origin: Array,
    rays: Array,
    box: Array,
    half_m: Array,
    range_m: Array,
    cosine: Array,
) -> None:
    """Enter a box's hits where they are nearer, by slabs in the box's own frame."""  # fmt: skip
    offset, radius_m = box[:3] - origin, float(np.linalg.norm(half_m))
    distance_m = float(np.linalg.norm(offset))
    if distance_m <= radius_m:
        near = np.arange(len(rays))
    elif distance_m - radius_m > model.range_m[1]:
        return
    else:  # only rays inside the cone around the box's sphere
        near = np.flatnonzero(rays @ offset >= np.sqrt(distance_m**2 - radius_m**2))
    to_box = geometry.conjugate(box[3:])
    start, step = geometry.rotate(to_box, -offset), geometry.rotate(to_box, rays[near])
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = (-half_m - start) / step, (half_m - start) / step
    enters, leaves = np.minimum(one, other), np.maximum(one, other)
    face = enters.argmax(axis=1)
    enter = enters.max(axis=1)
    nearer = (enter <= leaves.min(axis=1)) & (enter >= model.range_m[0]) & (enter < range_m[near])
    range_m[near[nearer]] = enter[nearer]
    cosine[near[nearer]] = np.abs(step[nearer, face[nearer]])
