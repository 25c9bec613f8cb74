"""NAVSIM's parts by position and time, of what was driven: NC, DAC, DDC, TLC, TTC and LK.

NAVSIM scores a plan that is simulated for 4 s. Here the same rules are put on the whole driven
rollout, from handover to the last score sample. Every function takes a record with score
samples and gives a value, or the reason why there is none.

Source: navsim, `planning/simulation/planner/pdm_planner/scoring/pdm_scorer.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from omniloop.core import geometry
from omniloop.core.motion import Mask
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.time import SCORE_STEP_US, US_PER_S
from omniloop.metrics.boxes import TOUCH_M, Rectangles, footprints, penetration_m, vertical_gap_m
from omniloop.metrics.contacts import VERTICAL_TOLERANCE_M
from omniloop.metrics.crossings import LightLine, light_lines
from omniloop.metrics.excursions import NEVER_ON, NO_SURFACE
from omniloop.metrics.lanes_under import CENTRE, CORNERS, NO_LANES, RIG, lane_shapes, lanes_under
from omniloop.metrics.navsim_formulas import longest_off_centre
from omniloop.metrics.nuplan_driving_direction import compliance, window_sums
from omniloop.metrics.nuplan_faults import (
    BEHIND_RAD,
    OBJECT,
    collisions,
    off_heading_rad,
    overlapping_since_handover,
)
from omniloop.metrics.nuplan_route import expert_route, route_offsets, runs_along
from omniloop.metrics.nuplan_ttc import AHEAD_RAD, STANDING_MPS, relevant
from omniloop.metrics.red_light import NO_LIGHTS
from omniloop.metrics.samples import ScoreSamples, ignored_since_handover, score_samples
from omniloop.metrics.values import NOTHING_DRIVEN
from omniloop.scenes.surface import drivable_surface

Part = float | str
"""A value, or the reason why there is none."""

STEP_S = SCORE_STEP_US / US_PER_S

OBJECT_HIT = 0.5
"""NC after a contact at fault with a static object."""

HORIZON_SAMPLES = 10
"""Driving direction: steps before the present one that make a second."""

OFFSETS = (0, 3, 6, 9)
"""Samples ahead at which a collision is looked for: 0, 0.3, 0.6 and 0.9 s."""

OFF_CENTRE_M = 0.5
OFF_CENTRE_SAMPLES = 20
"""Lane keeping: so far from the centre line for so many samples, 2.0 s, is too much."""

NO_ROUTE = "no route: no lane is under the recording"
FAULT_UNKNOWN = "whose fault a contact is cannot be told: the map has no lanes"


@dataclass(frozen=True, eq=False)
class EgoAreas:
    """Where ego's footprint is, ``(K,)`` each.

    Attributes:
        several_lanes: Corners are in more than one lane, and no lane holds all four.
        off_drivable: A corner is neither on the drivable surface nor in a lane.
    """

    several_lanes: Mask
    off_drivable: Mask


def _samples(record: RolloutRecord) -> ScoreSamples:
    samples = score_samples(record)
    if samples is None:
        raise ValueError(f"{record.session_id}: {NOTHING_DRIVEN}")
    return samples


@once_per_object
def ego_areas(record: RolloutRecord) -> EgoAreas:
    """Find where ego's footprint is."""
    under = lanes_under(record)
    corners = under.inside[:, CORNERS]
    held = corners.sum(axis=1)
    drivable = np.asarray(corners.any(axis=2))
    if under.on_surface is not None:
        drivable = drivable | under.on_surface[:, CORNERS]
    several = (np.count_nonzero(held, axis=1) > 1) & ~np.any(held == 4, axis=1)
    return EgoAreas(np.asarray(several), np.asarray(~drivable.all(axis=1)))


def _beside(record: RolloutRecord) -> Mask | None:
    if not lane_shapes(record.scene.map).lanes:
        return None
    areas = ego_areas(record)
    return areas.several_lanes | areas.off_drivable


def no_collision(record: RolloutRecord) -> Part:
    """NC: 0 after a contact at fault with an agent, else 0.5 after one with an object, else 1."""
    _samples(record)
    beside = _beside(record)
    score, possible = 1.0, 1.0
    for one in collisions(record):
        fault = one.at_fault(beside)
        if fault is not False:
            hit = OBJECT_HIT if one.group == OBJECT else 0.0
            possible = min(possible, hit)
            score = min(score, hit) if fault else score
    return score if score == possible else FAULT_UNKNOWN


def drivable_area(record: RolloutRecord) -> Part:
    """DAC: 0 if a corner is off the drivable surface, by however little, else 1."""
    _samples(record)
    if drivable_surface(record.scene.map) is None:
        return NO_SURFACE
    off = ego_areas(record).off_drivable
    ignored = ignored_since_handover(off[None], np.ones((1, len(off)), dtype=bool), off[:1])[0]
    return NEVER_ON if ignored.all() else float(not np.any(off & ~ignored))


def driving_direction(record: RolloutRecord) -> Part:
    """DDC: by the way driven off the route and off intersections within a second."""
    if not lane_shapes(record.scene.map).lanes:
        return NO_LANES
    route = route_offsets(record)
    if route is None:
        return NO_ROUTE
    under = lanes_under(record)
    step_m = np.hypot(*np.diff(under.points_xy[:, CENTRE], axis=0, prepend=np.nan).T)
    oncoming = ~route.on_route & ~under.centre_in_intersection
    oncoming[0] = False
    return compliance(float(window_sums(np.where(oncoming, step_m, 0.0), HORIZON_SAMPLES).max()))


def traffic_light(record: RolloutRecord) -> Part:
    """TLC: 0 if ego's footprint comes onto a lane that a red light closes, else 1.

    Only lanes that run along the expert's route count. A light closes its lanes in an
    intersection, and what follows on its others.
    """
    samples = _samples(record)
    lines, route = light_lines(record.scene.map), expert_route(record.scene)
    if not lines:
        return NO_LIGHTS
    if route is None:
        return NO_ROUTE
    boxes = np.asarray(shapely.polygons(samples.ego.corners_xy))
    shapes = lane_shapes(record.scene.map)
    row_of = {lane.id: row for row, lane in enumerate(shapes.lanes)}
    under = {int(row) for row in shapes.tree.query(boxes, predicate="intersects")[1]}
    for line in lines:
        for row in (row_of[name] for name in _closed(line) if name in row_of):
            if row not in under or not runs_along(route, shapes.lanes[row]):
                continue
            on = np.asarray(shapely.intersects(shapes.polygons[row], boxes))
            comes = np.flatnonzero(on[1:] & ~on[:-1]) + 1
            if any(line.is_red(int(samples.times_us[k])) for k in comes):
                return 0.0
    return 1.0


def _closed(line: LightLine) -> list[str]:
    names: list[str] = []
    for lane in line.lanes:
        names += [lane.id] if lane.in_intersection else lane.successors
    return list(dict.fromkeys(names))


def time_to_collision(record: RolloutRecord) -> Part:
    """TTC: 0 if ego, going on as it is, is where an actor will be at one of `OFFSETS`, else 1."""
    samples = _samples(record)
    ego, actors = samples.ego, samples.actors
    count = len(samples.times_us) - OFFSETS[-1]
    if count < 1:
        return f"too short: fewer than {OFFSETS[-1] + 1} samples"
    yaw, half = geometry.yaw_rad(ego.local_to_rig)[:count], record.scene.vehicle.size_m[:2] / 2
    step = (ego.speed_mps[:count] * STEP_S)[:, None] * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    counts = actors.valid & ~overlapping_since_handover(record)
    sizes = record.scene.actor_sizes_m
    reach_m = np.hypot(*half) + np.hypot(*sizes[:, :2].T)[:, None] / 2
    moving = ego.speed_mps[:count] >= STANDING_MPS
    hits = []
    for offset in OFFSETS:
        ahead = slice(offset, offset + count)
        centre = ego.local_to_aabb[:count, :2] + offset * step
        away = actors.local_to_aabb[:, ahead, :2] - centre
        close = counts[:, ahead] & moving & (np.hypot(away[..., 0], away[..., 1]) < reach_m)
        row, at = np.nonzero(close)
        poses = actors.local_to_aabb[row, at + offset]
        box = Rectangles(centre[at], yaw[at], np.broadcast_to(half, (len(at), 2)))
        met = penetration_m(box, footprints(poses, sizes[row])) > TOUCH_M
        ego_sizes = np.broadcast_to(record.scene.vehicle.size_m, (len(at), 3))
        gap_m = vertical_gap_m(ego.local_to_aabb[at], ego_sizes, poses, sizes[row])
        met &= gap_m <= VERTICAL_TOLERANCE_M
        hits.append(np.stack([row[met], at[met], np.full(np.count_nonzero(met), offset)]))
    row, at, offset_of = np.concatenate(hits, axis=1)
    if not len(row):
        return 1.0
    beside = _beside(record)
    if beside is None:
        return FAULT_UNKNOWN
    # An actor whose first hit does not count is left out from then on.
    order = np.lexsort((offset_of, at, row))
    _, first = np.unique(row[order], return_index=True)
    row, at, offset_of = row[order][first], at[order][first], offset_of[order][first]
    xy = actors.local_to_aabb[row, at + offset_of, :2]
    angle = off_heading_rad(ego.local_to_rig[at, :2], yaw[at], xy)
    under = lanes_under(record)
    crossing = np.any(under.inside[at, RIG] & under.in_intersection, axis=1)
    counted = relevant(angle < AHEAD_RAD, angle > BEHIND_RAD, beside[at], crossing)
    return float(not counted.any())


def lane_keeping(record: RolloutRecord) -> Part:
    """LK: 0 if the box's centre is over 0.5 m from the route for 2 s on end, else 1."""
    if not lane_shapes(record.scene.map).lanes:
        return NO_LANES
    route = route_offsets(record)
    if route is None:
        return NO_ROUTE
    in_intersection = lanes_under(record).centre_in_intersection
    longest = longest_off_centre(route.distance_m, in_intersection, OFF_CENTRE_M)
    return float(longest < OFF_CENTRE_SAMPLES)
