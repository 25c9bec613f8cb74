"""Where ego passes the stop lines of traffic lights, and what the lights show then.

A light rules the lanes it names. Its lines are the map's stop lines that share a lane with it;
for a ruled lane without one, the lane's end, from boundary to boundary (1.85 m to both sides
of the centre line where there are none).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Times
from omniloop.core.once import once_per_object
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Lane, TrafficLight, VectorMap
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NOTHING_DRIVEN
from omniloop.scenes.surface import CENTERLINE_HALF_WIDTH_M

RED = ("red", "red_yellow")
"""States in which a line must not be passed."""


@dataclass(frozen=True, eq=False)
class LightLine:
    """A line at which vehicles wait for lights.

    Attributes:
        id: Of the stop line, or "end of <lane>".
        points_xy: ``(N, 2)``.
        lanes: The ruled lanes that it belongs to.
        lights: Those with known states that rule one of them.
    """

    id: str
    points_xy: Array
    lanes: tuple[Lane, ...]
    lights: tuple[TrafficLight, ...]

    def is_red(self, time_us: int) -> bool:
        """Whether a light is red and none is green: arrows of one lane may differ."""
        states = [state_at(light, time_us) for light in self.lights]
        return any(state in RED for state in states) and "green" not in states


@dataclass(frozen=True)
class Crossing:
    """Ego's front passes a line forwards.

    Attributes:
        line_id: The line.
        front_us: When the middle of the front edge is above it, rounded to 1 us.
        front_red: Whether the line is red then.
        rig_us: When the rig origin follows; None if it does not.
        rig_red: Whether the line is red then.
        speed_mps: Ego's speed at `front_us`.
    """

    line_id: str
    front_us: int
    front_red: bool
    rig_us: int | None
    rig_red: bool
    speed_mps: float


def state_at(light: TrafficLight, time_us: int) -> str:
    """The state in force at a time; empty before the first."""
    at = int(np.searchsorted(light.times_us, time_us, side="right")) - 1
    return light.states[at] if at >= 0 else ""


@once_per_object
def light_lines(vector_map: VectorMap) -> tuple[LightLine, ...]:
    """All lines of lights whose states are known, in the order of the map."""
    lights = [light for light in vector_map.lights if len(light.times_us)]
    ruled = {name for light in lights for name in light.lanes if name in vector_map.lane_by_id}
    found, covered = [], set()
    for line in vector_map.stop_lines:
        names = [name for name in dict.fromkeys(line.lanes) if name in ruled]
        if names and len(line.points) > 1:
            covered.update(names)
            found.append((line.id, line.points[:, :2], names))
    for lane in vector_map.lanes:
        if lane.id in ruled and lane.id not in covered and len(lane.centerline) > 1:
            found.append((f"end of {lane.id}", _end_of(lane), [lane.id]))
    return tuple(
        LightLine(
            name,
            points,
            tuple(vector_map.lane_by_id[n] for n in names),
            tuple(light for light in lights if not set(names).isdisjoint(light.lanes)),
        )
        for name, points, names in found
    )


def _end_of(lane: Lane) -> Array:
    if lane.left is not None and lane.right is not None:
        return np.stack([lane.left[-1, :2], lane.right[-1, :2]])
    end, before = lane.centerline[-1, :2], lane.centerline[-2, :2]
    step = (end - before) / max(float(np.linalg.norm(end - before)), 1e-9)
    left = CENTERLINE_HALF_WIDTH_M * np.array([-step[1], step[0]])
    return np.stack([end + left, end - left])


@once_per_object
def crossings(record: RolloutRecord) -> tuple[Crossing, ...]:
    """Find where ego passes lines of lights after handover, by time.

    Raises:
        ValueError: the record has no score samples.
    """
    samples = score_samples(record)
    if samples is None:
        raise ValueError(f"{record.session_id}: {NOTHING_DRIVEN}")
    corners = samples.ego.corners_xy
    front = (corners[:, 0] + corners[:, 3]) / 2
    rig = samples.ego.local_to_rig[:, :2]
    low, high = front.min(axis=0), front.max(axis=0)
    found = []
    for line in light_lines(record.scene.map):
        ends = line.points_xy
        if (ends.max(axis=0) < low).any() or (ends.min(axis=0) > high).any():
            continue
        followed = _passes_us(rig, samples.times_us, line)
        for front_us in _passes_us(front, samples.times_us, line):
            rig_us = next((t for t in followed if t >= front_us), None)
            since = front_us - samples.times_us[0]
            speed = np.interp(since, samples.times_us - samples.times_us[0], samples.ego.speed_mps)
            found.append(
                Crossing(
                    line.id, front_us, line.is_red(front_us), rig_us,
                    rig_us is not None and line.is_red(rig_us), float(speed),
                )
            )  # fmt: skip
    return tuple(sorted(found, key=lambda crossing: (crossing.front_us, crossing.line_id)))


def _passes_us(path_xy: Array, times_us: Times, line: LightLine) -> list[int]:
    """When a path ``(K, 2)`` passes a line in the direction of one of its lanes."""
    step = np.diff(path_xy, axis=0)
    out = set()
    for a, b in zip(line.points_xy[:-1], line.points_xy[1:], strict=True):
        d = b - a
        # Which side of the line's segment the path is on, and where along it a step passes.
        side = d[0] * (path_xy[:, 1] - a[1]) - d[1] * (path_xy[:, 0] - a[0])
        changes = np.flatnonzero((side[:-1] < 0) != (side[1:] < 0))
        part = side[changes] / (side[changes] - side[changes + 1])
        at = path_xy[changes] + part[:, None] * step[changes]
        along = (at - a) @ d / max(float(d @ d), 1e-12)
        for i in np.flatnonzero((along >= 0) & (along <= 1)):
            k = changes[i]
            if _is_forwards(at[i], step[k], line):
                step_us = int(times_us[k + 1] - times_us[k])
                out.add(int(times_us[k]) + round(float(part[i]) * step_us))
    return sorted(out)


def _is_forwards(at: Array, step: Array, line: LightLine) -> bool:
    for lane in line.lanes:
        points = lane.centerline[:, :2]
        s_m, _ = geometry.project_on_polyline(at, points)
        steps = np.diff(points, axis=0)
        k = int(np.searchsorted(geometry.arc_length_m(points), s_m[0], side="right")) - 1
        if len(steps) and float(steps[min(max(k, 0), len(steps) - 1)] @ step) > 0:
            return True
    return False
