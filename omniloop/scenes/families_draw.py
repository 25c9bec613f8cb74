"""What all families share: draws, the standard rig, a road with streams both ways, a scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Trajectory
from omniloop.core.scene import ActorClass, Scene, Vehicle
from omniloop.core.time import seconds_to_us
from omniloop.scenes.embedded_cast import (
    BUS,
    CAR,
    EGO_STEP_US,
    TRUCK,
    VAN,
    Cast,
    Kind,
    beside,
)
from omniloop.scenes.embedded_paths import ReferenceLine
from omniloop.scenes.embedded_roads import MapBuilder
from omniloop.scenes.families_motion import Driven, Driver, Stream
from omniloop.scenes.rig import STANDARD_RIG
from omniloop.scenes.validate_motion import MIN_DEPTH_M, overlap_m, sample_times_us

DURATION_S = 18.0
BEHIND_M = 90.0
"""Where ego starts along its line."""
EGO: Kind = (ActorClass.CAR, "ego", tuple(Vehicle().size_m.tolist()))

_PARKED_CLEAR_M = 0.35
_Item = TypeVar("_Item")


@dataclass
class Draw:
    """The draws that make one scene, in order."""

    scene_id: str
    rng: np.random.Generator

    def between(self, low: float, high: float) -> float:
        """A number of a range, rounded to 1 mm or 1 mm/s."""
        return round(float(self.rng.uniform(low, high)), 3)

    def whole(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        """Whether something happens that does so in this share of scenes."""
        return bool(self.rng.uniform() < share)

    def one_of(self, items: Sequence[_Item]) -> _Item:
        """One of several."""
        return items[int(self.rng.integers(len(items)))]

    def sign(self) -> int:
        """1 or -1."""
        return 1 if self.chance(0.5) else -1

    def vehicle(self) -> Kind:
        """Mostly a car."""
        return self.one_of((CAR, CAR, CAR, CAR, VAN, VAN, TRUCK, BUS))


def placed(draw: Draw, knots: Sequence[tuple[float, float]], ego_offset_m: float) -> ReferenceLine:
    """A line of some curvature on which ego's start is the origin, in a drawn direction."""
    heading = draw.between(-np.pi, np.pi)
    first = ReferenceLine.from_curvature(0.0, 0.0, heading, knots)
    x, y, _ = first.points(np.array([BEHIND_M]), ego_offset_m)[0]
    return ReferenceLine.from_curvature(-float(x), -float(y), heading, knots)


@dataclass
class Stage:
    """A scene in the making.

    Attributes:
        ahead: Ego's stream; ego is its first driver.
        others: Further streams.
    """

    draw: Draw
    ahead: Stream
    others: list[Stream] = field(default_factory=list)
    roads: MapBuilder = field(default_factory=MapBuilder)
    cast: Cast = field(default_factory=lambda: Cast(seconds_to_us(DURATION_S)))

    def fill(
        self, stream: Stream, cruise_mps: float, spacing_m: tuple[float, float],
        keep_clear: Sequence[tuple[int, float, float]] = (),
    ) -> None:  # fmt: skip
        """Put traffic on every lane of a stream, in drawn distances.

        Args:
            stream: It gets the drivers.
            cruise_mps: About their speed.
            spacing_m: From and to of the distance from one to the next.
            keep_clear: Parts ``(lane, from_m, to_m)`` where nobody starts.
        """
        for lane in range(len(stream.lanes_m)):
            pace = cruise_mps * self.draw.between(0.8, 1.05)
            s = self.draw.between(0.0, 30.0)
            while s < stream.line.length_m - 60.0:
                kind = self.draw.vehicle()
                taken = any(
                    of == lane and low - kind[2][0] < s < high for of, low, high in keep_clear
                )
                cruise = ((0.0, round(pace * self.draw.between(0.9, 1.1), 3)),)
                if not taken:
                    stream.drivers.append(Driver(kind, s, cruise, lane))
                least = kind[2][0] + 6.0 + 0.8 * pace
                s += max(self.draw.between(*spacing_m), least)

    def park(
        self, line: ReferenceLine, edge_m: float, share: float, side: int, from_m: float = 0.0
    ) -> None:
        """Park vehicles along one side, their flank `_PARKED_CLEAR_M` outside `edge_m`."""
        s = from_m + self.draw.between(0.0, 20.0)
        while s < line.length_m - 20.0:
            if self.draw.chance(share):
                kind = VAN if self.draw.chance(0.2) else CAR
                offset = side * (edge_m + _PARKED_CLEAR_M + kind[2][1] / 2)
                name = f"parked_{len(self.cast.tracks)}"
                self.cast.park(name, kind, beside(line, s, offset, ahead=side < 0))
            s += self.draw.between(6.8, 9.0)

    def walkers(self, line: ReferenceLine, edge_m: float, count: int) -> None:
        """Pedestrians that walk along the road, outside of its surface."""
        for k in range(count):
            side, s = self.draw.sign(), self.draw.between(40.0, max(line.length_m - 60.0, 60.0))
            way = line.points(np.array([s, s + self.draw.sign() * 32.0]), side * (edge_m + 1.2))
            points = [(float(p[0]), float(p[1])) for p in way]
            self.cast.walk(f"walker_{k}", points, ((0.0, self.draw.between(0.8, 1.7)),))

    def done(self, prompt: str, tags: tuple[str, ...]) -> Scene:
        """Simulate everybody and put the scene together."""
        ego, *rest = self.ahead.simulate()
        self._add("ahead", self.ahead, rest, first=1)
        for number, stream in enumerate(self.others):
            if stream.drivers:
                self._add(f"stream_{number}", stream, stream.simulate(), first=0)
        times = np.arange(0, self.cast.duration_us + 1, EGO_STEP_US, dtype=np.int64)
        return _without_contacts(
            Scene(
                id=self.draw.scene_id, source="families",
                ego=Trajectory(times, ego.local_to_rig(times)), tracks=tuple(self.cast.tracks),
                map=self.roads.done(), cameras=STANDARD_RIG, prompt=prompt, tags=tags,
            )
        )  # fmt: skip

    def _add(self, name: str, stream: Stream, drives: Sequence[Driven], first: int) -> None:
        for number, (driver, drive) in enumerate(
            zip(stream.drivers[first:], drives, strict=True), start=first
        ):
            on_map = drive.s_at(self.cast.times_us) < stream.line.length_m - 5.0
            last_us = int(self.cast.times_us[on_map][-1]) if on_map.any() else 0
            if last_us > 1_000_000:
                actor_id = f"{name}_{number}"
                self.cast.drive(actor_id, driver.kind, drive, seen_us=(0, last_us))  # type: ignore[arg-type]


def _without_contacts(scene: Scene) -> Scene:
    """The scene without actors that meet recorded ego, or another one at the start.

    Car following rules out most of it; a lane change may end beside somebody.
    """
    if not scene.tracks:
        return scene
    times = sample_times_us(scene)
    ego = geometry.compose(scene.ego.sample(times), scene.vehicle.rig_to_aabb)
    actors, sizes = scene.recorded_actors(times), scene.actor_sizes_m
    depth = overlap_m(
        ego[None], scene.vehicle.size_m, actors.local_to_aabb, sizes[:, None]
    )  # (A, T)
    bad: Mask = np.any((depth > MIN_DEPTH_M) & actors.valid, axis=1)
    start: Array = actors.local_to_aabb[:, 0]
    first, second = np.triu_indices(len(start), 1)
    pair = overlap_m(start[first], sizes[first], start[second], sizes[second]) > MIN_DEPTH_M
    pair &= actors.valid[first, 0] & actors.valid[second, 0]
    bad[second[pair]] = True
    if not bad.any():
        return scene
    kept = tuple(t for t, gone in zip(scene.tracks, bad.tolist(), strict=True) if not gone)
    return replace(scene, tracks=kept)
