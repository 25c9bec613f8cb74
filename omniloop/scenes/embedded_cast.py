"""Who moves in the embedded scenes, and how a scene is put together from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import default_camera
from omniloop.core.geometry import Array
from omniloop.core.motion import Times, Trajectory
from omniloop.core.scene import Actor, ActorClass, Scene, Track
from omniloop.scenes.embedded_paths import Drive, ReferenceLine, speed_profile
from omniloop.scenes.embedded_roads import MapBuilder

ACTOR_STEP_US = 100_000
EGO_STEP_US = 20_000

CAR = (ActorClass.CAR, "car", (4.6, 1.85, 1.5))
VAN = (ActorClass.CAR, "van", (5.4, 2.0, 2.1))
TRUCK = (ActorClass.TRUCK, "truck", (9.5, 2.5, 3.4))
BUS = (ActorClass.TRUCK, "bus", (12.0, 2.55, 3.1))
CYCLIST = (ActorClass.CYCLIST, "cyclist", (1.8, 0.65, 1.7))
PERSON = (ActorClass.PEDESTRIAN, "pedestrian", (0.6, 0.6, 1.75))

Kind = tuple[ActorClass, str, tuple[float, float, float]]


@dataclass
class Cast:
    """Collects the actors of a scene of some duration.

    Attributes:
        duration_us: From 0 to the last recorded state.
        tracks: In the order in which they were added.
    """

    duration_us: int
    tracks: list[Track] = field(default_factory=list)

    @property
    def times_us(self) -> Times:
        """``(N,)`` actor states, every 100 ms."""
        return np.arange(0, self.duration_us + 1, ACTOR_STEP_US, dtype=np.int64)

    def drive(
        self, name: str, kind: Kind, drive: Drive, seen_us: tuple[int, int] | None = None
    ) -> None:
        """Add a vehicle; with `seen_us` it is recorded in that interval only."""
        times = self.times_us
        if seen_us is not None:
            times = times[(times >= seen_us[0]) & (times <= seen_us[1])]
        self._add(name, kind, times, drive.local_to_aabb(times, np.array(kind[2])), still=False)

    def park(self, name: str, kind: Kind, local_to_ground: Array) -> None:
        """Add a vehicle that stands; `local_to_ground` ``(7,)`` is under its centre."""
        box = geometry.compose(local_to_ground, geometry.pose(z=kind[2][2] / 2))
        self._add(name, kind, self.times_us, np.tile(box, (len(self.times_us), 1)), still=True)

    def walk(
        self,
        name: str,
        path_xy: Sequence[tuple[float, float]],
        speeds: Sequence[tuple[float, float]],
    ) -> None:
        """Add a pedestrian along a path, facing ahead, with speeds of `speed_profile`."""
        points = np.array(path_xy, dtype=np.float64)
        s = geometry.arc_length_m(points)
        distance, _ = speed_profile(speeds, self.times_us / 1e6)
        start, _ = speed_profile(speeds, np.zeros(1))
        gone = np.clip(distance - start, 0.0, s[-1])
        xy = geometry.resample_polyline(points, gone)
        leg = np.clip(np.searchsorted(s, gone, side="right") - 1, 0, len(points) - 2)
        step = np.diff(points, axis=0)[leg]
        xyz = np.concatenate([xy, np.full((len(xy), 1), PERSON[2][2] / 2)], axis=1)
        poses = geometry.poses_from_xyz_yaw(xyz, np.arctan2(step[:, 1], step[:, 0]))
        self._add(name, PERSON, self.times_us, poses, still=False)

    def _add(self, name: str, kind: Kind, times: Times, poses: Array, *, still: bool) -> None:
        actor_class, label, size = kind
        actor = Actor(name, actor_class, label, np.array(size), is_static=still)
        self.tracks.append(Track(actor, times, poses, np.ones(len(times), dtype=bool)))


def beside(line: ReferenceLine, s_m: float, offset_m: float, *, ahead: bool = True) -> Array:
    """Pose ``(7,)`` on the ground beside a line, heading along it or against it."""
    at = np.array([s_m])
    heading = float(line.at(at)[1][0]) + (0.0 if ahead else np.pi)
    return geometry.poses_from_xyz_yaw(line.points(at, offset_m)[0], geometry.wrap_rad(heading))


def make_scene(
    scene_id: str, roads: MapBuilder, cast: Cast, ego: Drive, text: tuple[str, tuple[str, ...]]
) -> Scene:
    """Put a scene together; `text` is its prompt and its tags.

    Its first ego pose must lie within half a metre of the origin, as in any scene.
    """
    times = np.arange(0, cast.duration_us + 1, EGO_STEP_US, dtype=np.int64)
    prompt, tags = text
    return Scene(
        id=scene_id, source="embedded", ego=Trajectory(times, ego.local_to_rig(times)),
        tracks=tuple(cast.tracks), map=roads.done(), cameras=(default_camera(),),
        prompt=prompt, tags=tags,
    )  # fmt: skip
