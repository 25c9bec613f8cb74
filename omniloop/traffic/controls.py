"""Lights and crosswalks on the paths of driven actors: where they would have to wait."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.core.scene import TrafficLight, VectorMap
from omniloop.traffic.lane_index import LaneIndex
from omniloop.traffic.paths import Index, PathTable

_STOPS = ("red", "red_yellow")
_SHORT_M = 1.0
"""Fronts stop so far before the line."""

_HARDEST_MPS2 = 4.0
"""Who would have to brake harder goes through, as at a light that has just changed."""

_ABOUT_S = 2.0
"""A crosswalk is in use by who is on it, or will be within this time."""


@dataclass(frozen=True, eq=False)
class Controls:
    """Places where driven actors may have to wait, C in all.

    Attributes:
        row: ``(C,)`` index into the corridors' rows.
        stop_m: ``(C,)`` where the front must be at the latest.
        light: ``(C,)`` index into the map's lights, -1 for a crosswalk.
        crosswalk: ``(C,)`` index into the map's crosswalks, -1 for a light.
        walkers: Who may use a crosswalk, and per station of all paths the crosswalk it is on.
        disbelieved: Ids of lights that vehicles were recorded to pass on red.
    """

    row: Index
    stop_m: Array
    light: Index
    crosswalk: Index
    lights: tuple[TrafficLight, ...]
    walkers: Index
    station_crosswalk: Index
    disbelieved: tuple[str, ...]


def controls_of(
    vector_map: VectorMap, lanes: LaneIndex, table: PathTable, rows: Index, drives: Mask,
    walks: Mask, lane: Index, half_m: Array, handover_us: int,
) -> Controls:  # fmt: skip
    """Find the places on all paths.

    Args:
        lane: ``(S,)`` lanes under the stations.
        half_m: ``(R,)`` half lengths.
    """
    passed: set[int] = set()
    crossed = _on_crosswalks(vector_map, table.local_to_aabb)
    found = _lights_on(vector_map, lanes, table, rows, drives, lane, half_m, handover_us, passed)
    found += _crosswalks_on(table, rows, drives, crossed)
    found = [f for f in found if f[2] not in passed]
    return _as_columns(
        found, vector_map.lights, np.flatnonzero(walks), _first_of(crossed),
        tuple(vector_map.lights[i].id for i in sorted(passed)),
    )  # fmt: skip


def with_new_path(
    old: Controls, vector_map: VectorMap, lanes: LaneIndex, table: PathTable, rows: Index, row: int,
    lane: Index, half_m: Array, handover_us: int,
) -> Controls:  # fmt: skip
    """The places after the actor of one row has taken another path; see `controls_of`."""
    who = int(rows[row])
    only = np.zeros(len(rows), dtype=bool)
    only[row] = True
    lo, hi = int(table.start[who]), int(table.start[who + 1])
    behind = len(table.s_m) - hi
    crossed = np.zeros((len(vector_map.crosswalks), len(table.s_m)), dtype=bool)
    crossed[:, lo:hi] = _on_crosswalks(vector_map, table.local_to_aabb[lo:hi])
    found = _lights_on(vector_map, lanes, table, rows, only, lane, half_m, handover_us, set())
    found += _crosswalks_on(table, rows, only, crossed)
    found = [f for f in found if f[2] < 0 or old.lights[f[2]].id not in old.disbelieved]
    kept = np.flatnonzero(old.row != row).tolist()
    was = [
        (int(old.row[i]), float(old.stop_m[i]) + _SHORT_M, int(old.light[i]), int(old.crosswalk[i]))
        for i in kept
    ]
    under = old.station_crosswalk
    station = np.concatenate(
        [under[:lo], _first_of(crossed[:, lo:hi]), under[len(under) - behind :]]
    )
    return _as_columns(was + found, old.lights, old.walkers, station, old.disbelieved)


_Place = tuple[int, float, int, int]


def _as_columns(
    found: list[_Place], lights: tuple[TrafficLight, ...], walkers: Index, station: Index,
    disbelieved: tuple[str, ...],
) -> Controls:  # fmt: skip
    row, stop_m, light, crosswalk = np.array(found, dtype=np.float64).reshape(-1, 4).T
    return Controls(
        row.astype(np.int64), stop_m - _SHORT_M, light.astype(np.int64),
        crosswalk.astype(np.int64), lights, walkers, station, disbelieved,
    )  # fmt: skip


def _lights_on(
    vector_map: VectorMap, lanes: LaneIndex, table: PathTable, rows: Index, wanted: Mask,
    lane: Index, half_m: Array, handover_us: int, passed: set[int],
) -> list[_Place]:  # fmt: skip
    """Row, place and light wherever one rules a path; `passed` is given those passed on red."""
    found: list[_Place] = []
    lines = {
        i: [
            line.points[:, :2]
            for line in vector_map.stop_lines
            if set(line.lanes) & set(light.lanes)
        ]
        for i, light in enumerate(vector_map.lights)
    }
    ruled = [[lanes.by_id[n] for n in x.lanes if n in lanes.by_id] for x in vector_map.lights]
    for r in np.flatnonzero(wanted).tolist():
        path = table.paths[int(rows[r])]
        own = slice(int(table.start[rows[r]]), int(table.start[rows[r] + 1]))
        under, xy = lane[own], path.local_to_aabb[:, :2]
        for i, light in enumerate(vector_map.lights):
            on = np.flatnonzero(np.isin(under, ruled[i]))
            if len(on) == 0:
                continue
            crossed = [s for line in lines[i] for s in _crossings(xy, path.s_m, line)]
            at = min(crossed) if crossed else float(path.s_m[on[-1]])
            front = int(np.searchsorted(path.s_m, at - half_m[r]))
            passed_s = path.when_s[min(front, len(path.when_s) - 1)]
            begins = path.when_s[0]
            seen = np.isfinite(passed_s) and passed_s > begins and at < path.recorded_m
            if seen and _state(light, handover_us + round(passed_s * 1e6)) in _STOPS:
                passed.add(i)
            found.append((r, at, i, -1))
    return found


def _crosswalks_on(table: PathTable, rows: Index, wanted: Mask, crossed: Mask) -> list[_Place]:
    """Row, place and crosswalk wherever a path comes to one; `crossed` is ``(C, S)``."""
    found: list[_Place] = []
    for r in np.flatnonzero(wanted).tolist():
        own = slice(int(table.start[rows[r]]), int(table.start[rows[r] + 1]))
        for c in range(len(crossed)):
            inside = np.flatnonzero(crossed[c, own])
            if len(inside):
                found.append((r, float(table.paths[int(rows[r])].s_m[inside[0]]) - 0.5, -1, c))
    return found


def _first_of(crossed: Mask) -> Index:
    """The crosswalk ``(S,)`` on which each station lies, -1 for none."""
    if len(crossed) == 0:
        return np.full(crossed.shape[1], -1)
    return np.where(crossed.any(axis=0), crossed.argmax(axis=0), -1)


def _on_crosswalks(vector_map: VectorMap, local_to_aabb: Array) -> Mask:
    """Which poses ``(S, 7)`` lie on each crosswalk ``(C, S)``."""
    import shapely

    areas = vector_map.crosswalks
    out = np.zeros((len(areas), len(local_to_aabb)), dtype=bool)
    xy = local_to_aabb[:, :2]
    for c, area in enumerate(areas):
        polygon = shapely.Polygon(area.outline[:, :2])
        shapely.prepare(polygon)
        out[c] = shapely.contains_xy(polygon, xy[:, 0], xy[:, 1])
    return out


def _crossings(xy: Array, s_m: Array, line: Array) -> list[float]:
    """Arc lengths at which a path ``(M, 2)`` crosses a line ``(N, 2)``."""
    out = []
    step = np.diff(xy, axis=0)
    for a, b in itertools.pairwise(line):
        d = b - a
        cross = step[:, 0] * d[1] - step[:, 1] * d[0]
        safe = np.where(np.abs(cross) < 1e-9, np.inf, cross)
        rel = a - xy[:-1]
        t = (rel[:, 0] * d[1] - rel[:, 1] * d[0]) / safe
        u = (rel[:, 0] * step[:, 1] - rel[:, 1] * step[:, 0]) / safe
        hit = np.flatnonzero((t >= 0) & (t < 1) & (u >= 0) & (u <= 1) & np.isfinite(safe))
        out += [float(s_m[i] + t[i] * (s_m[i + 1] - s_m[i])) for i in hit]
    return out


def _state(light: TrafficLight, time_us: int) -> str:
    """The state in force at a time; empty if unknown."""
    at = int(np.searchsorted(light.times_us, time_us, side="right")) - 1
    return light.states[at] if at >= 0 else ""


def stops(
    controls: Controls, table: PathTable, time_us: int, own_s_m: Array, v_mps: Array, there: Mask,
    row_m: Array, row_half_m: Array, row_v: Array, heeds: Mask, lights: bool,
) -> Array:  # fmt: skip
    """Gap ``(R,)`` from each front to the nearest place where it has to wait; inf for none.

    Args:
        own_s_m: ``(A,)`` places of all actors, `v_mps` their speeds.
        heeds: ``(R,)`` who heeds controls.
        lights: Whether red lights count.
    """
    gap = np.full(len(row_m), np.inf)
    if len(controls.row) == 0 or not heeds.any():
        return gap
    red = np.array([lights and _state(x, time_us) in _STOPS for x in controls.lights] + [False])
    used = np.zeros(int(controls.crosswalk.max(initial=-1)) + 2, dtype=bool)
    walkers = controls.walkers[there[controls.walkers]]
    if len(walkers) and len(used) > 1:
        for ahead_s in (0.0, _ABOUT_S / 2, _ABOUT_S):
            s = own_s_m.copy()
            s[walkers] += v_mps[walkers] * ahead_s
            on = controls.station_crosswalk[table.station(s)[walkers]]
            used[on[(on >= 0) & (on < len(used) - 1)]] = True
    row = controls.row
    active = np.where(controls.light >= 0, red[controls.light], used[controls.crosswalk])
    room = controls.stop_m - row_m[row] - row_half_m[row]
    active &= heeds[row] & (room > -_SHORT_M)
    active &= row_v[row] ** 2 < 2 * _HARDEST_MPS2 * np.maximum(room + _SHORT_M / 2, 0.01)
    np.minimum.at(gap, row[active], np.maximum(room[active], 0.05))
    return gap
