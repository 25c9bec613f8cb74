"""A map with its points moved, whatever element they belong to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from omniloop.core.geometry import Array
from omniloop.core.scene import Area, VectorMap


def with_points(vector_map: VectorMap, put: Callable[[Array], Array]) -> VectorMap:
    """Return a map whose points ``(N, 3)``, N > 0, are moved by `put`; poses stay."""

    def line(points: Array) -> Array:
        return put(points) if len(points) else points

    def some(points: Array | None) -> Array | None:
        return None if points is None else line(points)

    def area(x: Area) -> Area:
        return replace(x, outline=line(x.outline), holes=tuple(line(hole) for hole in x.holes))

    return replace(
        vector_map,
        lanes=tuple(
            replace(
                x, centerline=line(x.centerline), left=some(x.left), right=some(x.right),
                polygon=some(x.polygon),
            )
            for x in vector_map.lanes
        ),
        lane_lines=tuple(replace(x, points=line(x.points)) for x in vector_map.lane_lines),
        road_boundaries=tuple(replace(x, points=line(x.points)) for x in vector_map.road_boundaries),
        drivable_areas=tuple(area(x) for x in vector_map.drivable_areas),
        crosswalks=tuple(area(x) for x in vector_map.crosswalks),
        stop_lines=tuple(replace(x, points=line(x.points)) for x in vector_map.stop_lines),
        features=tuple(replace(x, points=line(x.points)) for x in vector_map.features),
    )  # fmt: skip
