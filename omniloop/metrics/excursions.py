"""Excursions of ego off the drivable surface.

The depth of a sample is the distance outside the surface of that corner of ego's
footprint which lies farthest out. Ego is off the road while it exceeds a tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Scene
from omniloop.core.time import SCORE_STEP_US
from omniloop.metrics.samples import episodes, ignored_since_handover, score_samples
from omniloop.metrics.values import NOTHING_DRIVEN
from omniloop.scenes.surface import DrivableSurface, drivable_surface

TOLERANCE_M = 0.3
"""A corner may lie this far outside (nuPlan, `drivable_area_compliance`)."""

NO_SURFACE = "no drivable surface: the map has no drivable areas and no lane polygons"
NEVER_ON = "ego is off the drivable surface at handover and never comes onto it"


@dataclass(frozen=True)
class Excursion:
    """Off the surface from one score sample to another, `depth_m` at its deepest."""

    start_us: int
    end_us: int
    depth_m: float


@dataclass(frozen=True)
class Excursions:
    """All excursions after handover.

    Attributes:
        reason: Why nothing can be said; empty if something can.
        surface: Kind of the surface; empty without one.
        excursions: By time.
        depth_m: Greatest depth of all samples that count, tolerated ones too.
        ignored_until_us: Off the surface at handover already: back on it at this time.
    """

    reason: str = ""
    surface: str = ""
    excursions: tuple[Excursion, ...] = ()
    depth_m: float = 0.0
    ignored_until_us: int | None = None


def depth_m(corners_xy: Array, surface: DrivableSurface) -> Array:
    """Depth ``(K,)`` of the outermost of four corners ``(K, 4, 2)``; 0 where all are inside."""
    return np.asarray(surface.depth_m(corners_xy).max(axis=1))


@once_per_object
def recording_depth_m(scene: Scene) -> float | None:
    """How far the recorded ego itself gets off the surface, every 100 ms; None without one.

    More than the tolerance tells of a map that does not show all that is drivable.
    """
    surface = drivable_surface(scene.map)
    if surface is None:
        return None
    times_us = np.arange(scene.start_us, scene.end_us + 1, SCORE_STEP_US, dtype=np.int64)
    boxes = geometry.compose(scene.ego.sample(times_us), scene.vehicle.rig_to_aabb)
    return float(depth_m(geometry.box_corners_xy(boxes, scene.vehicle.size_m), surface).max())


@once_per_object
def _depths(record: RolloutRecord) -> tuple[str, Array] | None:
    """Kind of surface and depths on the score grid; None without a surface."""
    surface, samples = drivable_surface(record.scene.map), score_samples(record)
    if surface is None or samples is None:
        return None
    return surface.kind, depth_m(samples.ego.corners_xy, surface)


def excursions(record: RolloutRecord, tolerance_m: float) -> Excursions:
    """Find where ego is off the road."""
    samples = score_samples(record)
    if samples is None:
        return Excursions(NOTHING_DRIVEN)
    found = _depths(record)
    if found is None:
        return Excursions(NO_SURFACE)
    surface, depths_m = found
    times_us = samples.times_us
    off = depths_m > tolerance_m
    ignored = ignored_since_handover(off[None], np.ones((1, len(off)), dtype=bool), off[:1])[0]
    if ignored.all():
        return Excursions(NEVER_ON, surface)
    return Excursions(
        surface=surface,
        excursions=tuple(
            Excursion(int(times_us[a]), int(times_us[b]), float(depths_m[a : b + 1].max()))
            for a, b in episodes(off & ~ignored)
        ),
        depth_m=float(depths_m[~ignored].max()),
        ignored_until_us=int(times_us[np.argmin(ignored)]) if ignored[0] else None,
    )
