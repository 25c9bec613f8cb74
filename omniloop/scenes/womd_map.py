"""Map features of the Waymo Open Motion Dataset as a vector map."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.scene import Area, Lane, LaneLine, Polyline, TrafficSign, VectorMap
from omniloop.scenes.build import between_boundaries, damaged, to_local, without_repeats
from omniloop.scenes.commonroad_map import SIGN_HEIGHT_M
from omniloop.scenes.womd_lights import lights_and_stop_lines
from omniloop.scenes.womd_recording import LaneFeature, MapFeatures, Recording, Stretch
from omniloop.scenes.womd_sides import LaneSides, lane_sides, normals

JOINED_M = 0.6
"""Where lanes name no others: one follows where another ends. Points lie 0.5 m apart."""

JOINED_RAD = np.deg2rad(30.0)
SIGN_SIZE_M = (0.05, 0.75, 0.75)
"""Depth, width and height of a stop sign: 30 inches, MUTCD 2009, table 2B-1."""


def vector_map(recording: Recording, origin_m: Array) -> VectorMap:
    """The map in `local`.

    * Lanes have sides where `lane_sides` knows them, else None.
    * Links and neighbours that are not in the map are dropped; what one lane says of another
      holds for both. Lanes without links are linked where they touch.
    * A lane that the dataset calls interpolating, between two others, lies in an intersection.
    * Elements of fewer than two points (areas: three) are left out, as are speed bumps and
      driveways, which a vector map has no place for.

    Raises:
        SceneError: two features of a kind have one id.
    """
    features = recording.map
    _refuse_twins(features, recording.where)
    own = tuple(
        replace(lane, points=points)
        for lane in features.lanes
        if len(points := without_repeats(to_local(lane.points, origin_m))) >= 2
    )
    lines = tuple(
        replace(line, points=points)
        for line in features.lines
        if len(points := without_repeats(to_local(line.points, origin_m))) >= 2
    )
    edges = tuple(
        Polyline(edge.id, points)
        for edge in features.edges
        if len(points := without_repeats(to_local(edge.points, origin_m))) >= 2
    )
    crosswalks = tuple(
        Area(area.id, outline)
        for area in features.crosswalks
        if len(outline := without_repeats(to_local(area.outline, origin_m), closed=True)) >= 3
    )
    sides = lane_sides(own, {x.id: x.points for x in lines} | {x.id: x.points for x in edges})
    lanes = _lanes(own, sides, lines)
    lights, stop_lines = lights_and_stop_lines(recording, lanes, origin_m)
    return VectorMap(
        lanes=lanes,
        lane_lines=lines,
        road_boundaries=edges,
        crosswalks=crosswalks,
        stop_lines=stop_lines,
        signs=_signs(features, lanes, origin_m),
        lights=lights,
    )


def _refuse_twins(features: MapFeatures, where: str) -> None:
    ids = [lane.id for lane in features.lanes] + [line.id for line in features.lines]
    ids += [edge.id for edge in features.edges]
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise damaged(f"{len(twice)} ids of map features occur more than once: {twice[0]}", where)


def _lanes(
    own: tuple[LaneFeature, ...], sides: dict[str, LaneSides], lines: tuple[LaneLine, ...]
) -> tuple[Lane, ...]:
    known = {lane.id for lane in own}
    painted = {line.id for line in lines}
    after: dict[str, dict[str, None]] = {lane.id: {} for lane in own}
    before: dict[str, dict[str, None]] = {lane.id: {} for lane in own}
    for source, target in _links(own):
        if source in known and target in known and source != target:
            after[source][target] = None
            before[target][source] = None
    out = []
    for lane in own:
        points = lane.points
        beside = sides.get(lane.id)
        left = right = polygon = None
        line_ids: list[str | None] = [None, None]
        if beside is not None:
            offset = np.column_stack([normals(points[:, :2]), np.zeros(len(points))])
            left = without_repeats(points + offset * beside.half_widths_m[0][:, None])
            right = without_repeats(points - offset * beside.half_widths_m[1][:, None])
            polygon = between_boundaries(left, right)
            line_ids = [name if name in painted else None for name in beside.lines]
        out.append(
            Lane(
                id=lane.id,
                centerline=points,
                left=left,
                right=right,
                polygon=polygon,
                kind="bike" if lane.is_bike_lane else "vehicle",
                in_intersection=lane.interpolating,
                speed_limit_mps=lane.speed_limit_mps,
                successors=tuple(after[lane.id]),
                predecessors=tuple(before[lane.id]),
                left_lane=_longest(lane.left_neighbors, known),
                right_lane=_longest(lane.right_neighbors, known),
                left_line=line_ids[0],
                right_line=line_ids[1],
            )
        )
    return tuple(out)


def _links(own: tuple[LaneFeature, ...]) -> list[tuple[str, str]]:
    if any(lane.entries is not None or lane.exits is not None for lane in own):
        links = [(other, lane.id) for lane in own for other in lane.entries or ()]
        return links + [(lane.id, other) for lane in own for other in lane.exits or ()]
    if not own:
        return []
    from scipy.spatial import cKDTree

    starts = cKDTree([lane.points[0, :2] for lane in own])
    near = starts.query_ball_point([lane.points[-1, :2] for lane in own], JOINED_M)
    first = [_heading(lane.points[:2]) for lane in own]
    last = [_heading(lane.points[-2:]) for lane in own]
    return [
        (own[i].id, own[j].id)
        for i, others in enumerate(near)
        for j in sorted(others)
        if abs(float(geometry.wrap_rad(first[j] - last[i]))) < JOINED_RAD
    ]


def _heading(points: Array) -> float:
    step = points[-1] - points[0]
    return float(np.arctan2(step[1], step[0]))


def _longest(neighbors: tuple[Stretch, ...], known: set[str]) -> str | None:
    """The neighbour along the longest part of the lane; lanes have one on a side."""
    kept = [n for n in neighbors if n.feature in known]
    return max(kept, key=lambda n: n.end - n.start).feature if kept else None


def _signs(
    features: MapFeatures, lanes: tuple[Lane, ...], origin_m: Array
) -> tuple[TrafficSign, ...]:
    """Stop signs, facing the traffic of the first lane that they rule."""
    by_id = {lane.id: lane for lane in lanes}
    out = []
    for sign in features.stop_signs:
        ruled = tuple(name for name in sign.lanes if name in by_id)
        at = to_local(sign.position, origin_m)
        yaw = 0.0
        if ruled:
            points = by_id[ruled[0]].centerline
            nearest = int(np.argmin(np.linalg.norm(points[:, :2] - at[:2], axis=1)))
            lo = min(nearest, len(points) - 2)
            yaw = _heading(points[lo : lo + 2]) + np.pi
        pose = geometry.poses_from_xyz_yaw(at + [0.0, 0.0, SIGN_HEIGHT_M], yaw)
        out.append(TrafficSign(sign.id, pose, np.array(SIGN_SIZE_M), "stop", ruled))
    return tuple(out)
