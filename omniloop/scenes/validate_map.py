"""Checks of a scene's map: geometry, topology, and whether ego drives on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.scene import Scene, VectorMap
from omniloop.scenes.findings import Finding, some
from omniloop.scenes.surface import CENTERLINE_HALF_WIDTH_M, drivable_surface
from omniloop.scenes.validate_motion import sample_times_us

TOLERANCE_M = 0.3
"""Ego's corners may be this far off the surface: nuPlan's drivable area compliance."""

NEAR_M = 30.0


def check_map_geometry(vector_map: VectorMap) -> Iterator[Finding]:
    """Points that are not finite, and parts with too few of them."""
    for where, points, fewest in _parts(vector_map):
        if not np.isfinite(points).all():
            yield Finding(
                "error",
                f"map, {where}",
                "has a point that is not finite",
                "mend or drop the element",
            )
        elif len(points) < fewest:
            yield Finding(
                "error", f"map, {where}", f"has {len(points)} points of at least {fewest}",
                "mend or drop the element",
            )  # fmt: skip
    for light in vector_map.lights:
        times = np.asarray(light.times_us)
        if len(times) != len(light.states) or (np.diff(times) <= 0).any():
            yield Finding(
                "error", f"map, light {light.id}",
                f"{len(times)} times and {len(light.states)} states do not pair up in rising order",
                "give one state per time, sorted by time",
            )  # fmt: skip


def check_map_ids(vector_map: VectorMap) -> Iterator[Finding]:
    """Ids that occur twice, and references to elements that are not there."""
    kinds = (
        "lanes",
        "lane_lines",
        "road_boundaries",
        "drivable_areas",
        "crosswalks",
        "stop_lines",
        "signs",
        "lights",
        "features",
    )
    for kind in kinds:
        counts = Counter(
            f"{e.kind} {e.id}" if kind == "features" else e.id for e in getattr(vector_map, kind)
        )
        twice = [name for name, n in counts.items() if n > 1]
        if twice:
            yield Finding(
                "error" if kind == "lanes" else "warning", f"map, {kind}",
                f"{len(twice)} ids occur more than once: {some(twice)}", "give every element its own id",
            )  # fmt: skip
    lanes, lines = vector_map.lane_by_id, {line.id for line in vector_map.lane_lines}
    missing: dict[str, list[str]] = {}
    for lane in vector_map.lanes:
        one = {
            "left_lane": (lane.left_lane,), "right_lane": (lane.right_lane,),
            "successors": lane.successors, "predecessors": lane.predecessors,
        }  # fmt: skip
        for name, refs in one.items():
            missing.setdefault(name, []).extend(
                f"{lane.id} -> {ref}" for ref in refs if ref is not None and ref not in lanes
            )
        missing.setdefault("lane lines", []).extend(
            f"{lane.id} -> {ref}"
            for ref in (lane.left_line, lane.right_line)
            if ref is not None and ref not in lines
        )
    for kind in ("road_boundaries", "stop_lines", "signs", "lights"):
        missing[f"lanes of {kind}"] = [
            f"{e.id} -> {ref}"
            for e in getattr(vector_map, kind)
            for ref in e.lanes
            if ref not in lanes
        ]
    for name, dangling in missing.items():
        if dangling:
            yield Finding(
                "info", "map, lanes", f"{len(dangling)} {name} are not in the map: {some(dangling)}",
                "none, if the map was cut out of a larger one; routes end there",
            )  # fmt: skip


def check_surface(scene: Scene) -> Iterator[Finding]:
    """Whether there is a map at ego's path, and ego stays on its drivable surface."""
    vector_map = scene.map
    times = sample_times_us(scene)
    path = scene.ego.sample(times)
    everything = [points for _, points, _ in _parts(vector_map) if len(points)]
    if not everything:
        yield Finding(
            "warning", "map", "is empty", "give a map: routes, off-road and the drawn view need one"
        )
        return
    if not _any_near(np.concatenate(everything)[:, :2], path[:, :2]):
        yield Finding(
            "warning", "map", f"nothing of it is within {NEAR_M:.0f} m of ego's path",
            "check that map and poses are in the same frame",
        )  # fmt: skip
        return
    ego = geometry.compose(path, scene.vehicle.rig_to_aabb)
    corners = geometry.box_corners_xy(ego, scene.vehicle.size_m)
    if not all(np.isfinite(points).all() for _, points, _ in _parts(vector_map)):
        return  # an error of its own
    surface = drivable_surface(vector_map)
    if surface is None:
        yield Finding(
            "warning", "map", "has neither drivable areas nor lanes with an outline",
            "none, if off-road need not be scored: it will be marked as not valid",
        )  # fmt: skip
        return
    if surface.from_centerlines:
        yield Finding(
            "info", "map, lanes",
            f"{surface.from_centerlines} of {len(vector_map.lanes)} have no known sides: strips of"
            f" {2 * CENTERLINE_HALF_WIDTH_M:.1f} m stand in for them",
            "none, if that will do",
        )  # fmt: skip
    depth = surface.depth_m(corners).max(axis=1)
    off = depth > TOLERANCE_M
    if off.any():
        first = int(np.argmax(off))
        yield Finding(
            "warning", "ego",
            f"recorded ego leaves the drivable surface at {(times[first] - times[0]) / 1e6:.1f} s by {depth[first]:.2f} m"
            f" ({off.mean():.0%} of the recording, up to {depth.max():.2f} m)",
            "expect off-road incidents that no policy caused; mend the map, or raise metrics.offroad.tolerance_m",
        )  # fmt: skip


def _parts(vector_map: VectorMap) -> Iterator[tuple[str, Array, int]]:
    """Every point array of the map with its name and the fewest points that make sense."""
    for lane in vector_map.lanes:
        yield f"lane {lane.id}", lane.centerline, 2
        for side in (lane.left, lane.right):
            if side is not None:
                yield f"lane {lane.id}", side, 2
        if lane.polygon is not None:
            yield f"lane {lane.id}", lane.polygon, 3
    for line in vector_map.lane_lines:
        yield f"lane line {line.id}", line.points, 2
    for edge in (*vector_map.road_boundaries, *vector_map.stop_lines):
        yield f"line {edge.id}", edge.points, 2
    for area in (*vector_map.drivable_areas, *vector_map.crosswalks):
        yield f"area {area.id}", area.outline, 3
        for hole in area.holes:
            yield f"area {area.id}", hole, 3
    for feature in vector_map.features:
        yield f"{feature.kind} {feature.id}", feature.points, 1 if feature.kind == "pole" else 2


def _any_near(points_xy: Array, path_xy: Array) -> bool:
    from scipy.spatial import cKDTree

    finite = points_xy[np.isfinite(points_xy).all(axis=1)]
    if len(finite) == 0:
        return False
    distance, _ = cKDTree(finite).query(path_xy, distance_upper_bound=NEAR_M)
    return bool(np.isfinite(distance).any())
