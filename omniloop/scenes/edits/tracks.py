"""What all edits of actors share: sizes, time grids, tracks from frames, and their checks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import SceneError, nearest
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask, Times
from omniloop.core.once import once_per_object
from omniloop.core.scene import Actor, ActorClass, Scene, Track
from omniloop.core.time import US_PER_S
from omniloop.scenes.edits.frame import PathFrame, ground_height_m
from omniloop.scenes.surface import drivable_surface
from omniloop.scenes.validate_motion import MIN_DEPTH_M, overlap_m

STEP_US = 100_000
_SHORT_US = STEP_US // 2
"""No step of a grid is shorter than this, but where the recording has one."""

CLASSES: dict[str, tuple[ActorClass, str, tuple[float, float, float]]] = {
    "car": (ActorClass.CAR, "car", (4.6, 1.85, 1.5)),
    "van": (ActorClass.CAR, "van", (5.4, 2.0, 2.1)),
    "truck": (ActorClass.TRUCK, "truck", (9.5, 2.5, 3.4)),
    "bus": (ActorClass.TRUCK, "bus", (12.0, 2.55, 3.1)),
    "pedestrian": (ActorClass.PEDESTRIAN, "pedestrian", (0.6, 0.6, 1.75)),
    "cyclist": (ActorClass.CYCLIST, "cyclist", (1.8, 0.65, 1.7)),
    "cone": (ActorClass.OTHER, "traffic_cone", (0.4, 0.4, 0.75)),
    "debris": (ActorClass.OTHER, "debris", (0.9, 0.9, 0.6)),
}
"""Classes of edit files: class of the wire protocols, label, length, width and height [m]."""

MAX_ACCEL_MPS2, MAX_DECEL_MPS2, MAX_LATERAL_MPS2 = 5.0, 9.5, 7.0
"""What tyres on a dry road can do; cars accelerate by less."""

MAX_SLIP_RAD = np.deg2rad(35.0)
"""Between a vehicle's motion and its lane: slower ones cannot change lanes this quickly."""

_STANDS_MPS = 0.3
_ON_FOOT = (ActorClass.PEDESTRIAN, ActorClass.OTHER)
OFF_MAP_M = 1.0
"""A vehicle's centre may be this far off the drivable surface: parked ones are, by its edge."""
_FOOT_OFF_MAP_M = 15.0


@dataclass(frozen=True, eq=False)
class Motion:
    """Planned motion in a frame: ``(N,)`` times since the scene's start, `s`, and `d`."""

    times_us: Times
    s_m: Array
    d_m: Array


def grid_us(scene: Scene) -> Times:
    """Times at which authored actors have poses: every 100 ms over the scene's range.

    Recorded tracks at 10 Hz lend their own times, so that replay has one grid.
    """
    recorded = [t.times_us for t in scene.tracks if not t.actor.is_scripted]
    start, end = scene.start_us, scene.end_us
    longest = max(recorded, key=len, default=np.zeros(0, dtype=np.int64))
    inside = longest[(longest > start) & (longest < end)]
    if len(inside) < 2 or np.abs(np.diff(inside) - STEP_US).max() > STEP_US // 5:
        inside = np.arange(start + STEP_US, end, STEP_US, dtype=np.int64)
    before = np.arange(inside[0] - STEP_US, start + _SHORT_US, -STEP_US, dtype=np.int64)[::-1]
    after = np.arange(inside[-1] + STEP_US, end - _SHORT_US, STEP_US, dtype=np.int64)
    return np.concatenate([[start], before, inside, after, [end]]).astype(np.int64)


def seconds(scene: Scene, times_us: Times) -> Array:
    """Times since the recording's start in seconds."""
    return np.asarray((times_us - scene.start_us) / US_PER_S)


def check_time(scene: Scene, time_s: float, what: str) -> None:
    """Refuse a time outside the recording.

    Raises:
        SceneError: it is.
    """
    duration_s = (scene.end_us - scene.start_us) / US_PER_S
    if not 0 <= time_s <= duration_s:
        raise SceneError(
            f"{what} {time_s:g} s is outside the recording of {duration_s:.1f} s",
            remedy=f"times are seconds after the recording's start: give 0 to {duration_s:.1f}",
        )


def find_track(scene: Scene, actor_id: str) -> Track:
    """The track of an actor.

    Raises:
        SceneError: there is none; the nearest id is suggested.
    """
    for track in scene.tracks:
        if track.actor.id == actor_id:
            return track
    ids = [actor.id for actor in scene.actors]
    some = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
    raise SceneError(
        f"no actor '{actor_id}'.{nearest(actor_id, ids)}",
        remedy=f"its actors: {some}" if ids else "the scene has no actors: insert one",
    )


def new_id(scene: Scene, wanted: str | None, stem: str) -> str:
    """An id that no actor has: the wanted one, or the stem with a number.

    Raises:
        SceneError: an actor has the wanted id.
    """
    ids = {actor.id for actor in scene.actors}
    if wanted is not None:
        if wanted in ids:
            raise SceneError(
                f"there is an actor '{wanted}' already", remedy="give another id, or leave it out"
            )
        return wanted
    return next(name for k in range(1, len(ids) + 2) if (name := f"{stem}_{k}") not in ids)


def make_actor(
    actor_id: str, class_name: str, size_m: tuple[float, float, float] | None = None,
    label: str | None = None, *, is_static: bool = False,
) -> Actor:  # fmt: skip
    """An authored actor of a class of edit files."""
    actor_class, own_label, size = CLASSES[class_name]
    box = np.array(size if size_m is None else size_m, dtype=np.float64)
    return Actor(actor_id, actor_class, label or own_label, box, is_static, True)


def standing(scene: Scene, actor: Actor, ground_m: Array, yaw_rad: float) -> Track:
    """A track of an actor that stands on a point of the ground ``(3,)`` all the time."""
    times = grid_us(scene)
    point = np.array(ground_m, dtype=np.float64)
    point[2] = ground_height_m(scene.ground, point[None])[0] + actor.size_m[2] / 2
    pose = geometry.poses_from_xyz_yaw(point, geometry.wrap_rad(yaw_rad))
    return Track(
        actor, times, np.tile(pose, (len(times), 1)), np.ones(len(times), dtype=bool)
    )  # fmt: skip


def moving(
    scene: Scene, actor: Actor, frame: PathFrame, motion: Motion, *,
    against: bool = False, own_height: bool = False, heading_rad: float | None = None,
) -> Track:  # fmt: skip
    """A track of an actor that moves in a frame; its heading follows its motion.

    Args:
        frame: Of the ego path, or with `own_height` of the actor's own box centres.
        motion: Where its box's centre is.
        against: Where it has not moved yet, it faces against the frame.
        heading_rad: Where it never moves, it faces there.
    """
    xyz = frame.at(motion.s_m, motion.d_m)
    if not own_height:
        xyz[:, 2] = ground_height_m(scene.ground, xyz) + actor.size_m[2] / 2
    yaw = _headings(frame, motion, seconds(scene, motion.times_us), against, heading_rad)
    poses = geometry.poses_from_xyz_yaw(xyz, geometry.wrap_rad(yaw))
    return Track(actor, motion.times_us, poses, np.ones(len(poses), dtype=bool))


def _headings(
    frame: PathFrame, motion: Motion, times_s: Array, against: bool, heading_rad: float | None
) -> Array:
    along, aside = _velocities(frame, motion, times_s)
    yaw = frame.heading_at(motion.s_m) + np.arctan2(aside, along)
    goes = np.hypot(along, aside) > _STANDS_MPS
    if not goes.any():
        if heading_rad is not None:
            return np.full(len(yaw), heading_rad)
        return frame.heading_at(motion.s_m) + (np.pi if against else 0.0)
    # Who stands keeps the heading with which it came, or with which it will set off.
    index = np.maximum.accumulate(np.where(goes, np.arange(len(yaw)), -1))
    index[index < 0] = int(np.argmax(goes))
    return np.asarray(yaw[index])


def _velocities(frame: PathFrame, motion: Motion, times_s: Array) -> tuple[Array, Array]:
    along = np.gradient(motion.s_m, times_s)
    along = along * (1.0 - frame.curvature_at(motion.s_m) * motion.d_m)
    return along, np.gradient(motion.d_m, times_s)


def check_motion(
    scene: Scene, frame: PathFrame, motion: Motion, between_s: tuple[float, float], name: str
) -> None:
    """Refuse a vehicle's manoeuvre that no vehicle can drive.

    Raises:
        SceneError: too much acceleration, or too slow to move aside that quickly.
    """
    t = seconds(scene, motion.times_us)
    along, aside = _velocities(frame, motion, t)
    speed = np.hypot(along, aside)
    heading = np.unwrap(frame.heading_at(motion.s_m) + np.arctan2(aside, along))
    accel = np.gradient(speed, t)
    lateral = np.abs(np.gradient(heading, t)) * speed
    inside = (t >= between_s[0]) & (t <= between_s[1])
    goes = inside & (speed > _STANDS_MPS)
    slip = np.abs(np.arctan2(aside, np.maximum(np.abs(along), 1e-9)))
    for values, limit, what in (
        (np.where(goes, slip, 0.0), MAX_SLIP_RAD, "moves aside at {:.2f} rad to its lane"),
        (np.where(goes, lateral, 0.0), MAX_LATERAL_MPS2, "has {:.1f} m/s2 across"),
        (np.where(inside, accel, 0.0), MAX_ACCEL_MPS2, "speeds up by {:.1f} m/s2"),
        (np.where(inside, -accel, 0.0), MAX_DECEL_MPS2, "slows down by {:.1f} m/s2"),
    ):
        at = int(np.argmax(values))
        if values[at] > limit:
            raise SceneError(
                f"'{name}' {what.format(values[at])} at {t[at]:.1f} s and {speed[at]:.1f} m/s;"
                f" vehicles can do {limit:.2g}",
                remedy="give it more time, another at_s, or another speed",
            )


def trimmed(scene: Scene, track: Track, between_s: tuple[float, float], allow: bool) -> Track:
    """Keep the part of an actor's motion that is on the map, around a manoeuvre.

    Args:
        between_s: The manoeuvre, which must be on the map.
        allow: Keep everything.

    Raises:
        SceneError: the manoeuvre leaves the drivable surface.
    """
    surface = drivable_surface(scene.map)
    if allow or surface is None:
        return track
    on_foot = track.actor.actor_class in _ON_FOOT
    limit = _FOOT_OFF_MAP_M if on_foot else OFF_MAP_M
    depth = surface.depth_m(track.local_to_aabb[:, :2])
    t = seconds(scene, track.times_us)
    key = np.flatnonzero((t >= between_s[0]) & (t <= between_s[1]) & track.valid)
    if len(key) == 0:
        key = np.array([int(np.argmin(np.abs(t - between_s[0])))])
    worst = key[int(np.argmax(depth[key]))]
    if depth[worst] > limit:
        x, y = track.local_to_aabb[worst, :2]
        raise SceneError(
            f"'{track.actor.id}' would be {depth[worst]:.1f} m off the map's {surface.kind} at"
            f" {t[worst]:.1f} s (x {x:.1f}, y {y:.1f})",
            remedy="choose another place or side, or set allow_off_map: true",
        )
    on = depth <= limit
    first, last = int(key[0]), int(key[-1])
    off_before, off_after = np.flatnonzero(~on[:first]), np.flatnonzero(~on[last:])
    keep: Mask = np.ones(len(on), dtype=bool)
    if len(off_before):
        keep[: off_before[-1] + 1] = False
    if len(off_after):
        keep[last + off_after[0] :] = False
    return replace(track, valid=track.valid & keep) if not keep.all() else track


@once_per_object
def _extent(track: Track) -> Array:
    """``(2, 2)`` lowest and highest x and y of a track; far away if it is never there."""
    xy = track.local_to_aabb[track.valid, :2]
    return np.array([xy.min(axis=0), xy.max(axis=0)]) if len(xy) else np.full((2, 2), np.inf)


def add_or_swap(
    scene: Scene, track: Track, *, make_room: bool, may_touch_ego: bool = False
) -> tuple[Scene, str]:
    """Put an authored track into a scene, in the place of the actor of its id if there is.

    Args:
        make_room: Take out recorded actors that its box would overlap at any time.
        may_touch_ego: It may overlap ego where it appears.

    Returns:
        The scene, and what to say of others: who was taken out, whom it meets and when.

    Raises:
        SceneError: it appears inside ego or another actor, or is never there.
    """
    if not track.valid.any():
        raise SceneError(
            f"'{track.actor.id}' would never be there", remedy="choose another time or place"
        )
    name, size = track.actor.id, track.actor.size_m
    seen = np.flatnonzero(track.valid)
    times, poses = track.times_us[seen], track.local_to_aabb[seen]
    t = seconds(scene, times)
    inside = (times >= scene.start_us) & (times <= scene.end_us)
    ego = geometry.compose(scene.ego.sample_clamped(times), scene.vehicle.rig_to_aabb)
    meets_ego = inside & (overlap_m(ego, scene.vehicle.size_m, poses, size) > MIN_DEPTH_M)
    notes = []
    if meets_ego[0] and not may_touch_ego:
        raise SceneError(
            f"'{name}' would appear inside ego at {t[0]:.1f} s",
            remedy="place it further away, or at another time",
        )
    if meets_ego.any():
        notes.append(f"recorded ego meets it at {t[int(np.argmax(meets_ego))]:.1f} s")
    others = tuple(other for other in scene.tracks if other.actor.id != name)
    gone: list[str] = []
    low, high = poses[:, :2].min(axis=0), poses[:, :2].max(axis=0)
    for other in others:
        reach = (np.hypot(*size[:2]) + np.hypot(*other.actor.size_m[:2])) / 2
        box = _extent(other)
        if (box[0] > high + reach).any() or (box[1] < low - reach).any():
            continue
        theirs, there = other.at(times)
        meets = there & (overlap_m(theirs, other.actor.size_m, poses, size) > MIN_DEPTH_M)
        if not meets.any():
            continue
        first = int(np.argmax(meets))
        if make_room and not other.actor.is_scripted:
            gone.append(other.actor.id)
        elif first == 0 or (other.actor.is_scripted and track.actor.is_static):
            raise SceneError(
                f"'{name}' would appear inside '{other.actor.id}' at {t[first]:.1f} s",
                remedy="place it elsewhere"
                + ("" if other.actor.is_scripted else ", or set make_room: true to take that actor out"),
            )  # fmt: skip
        else:
            notes.append(f"meets {other.actor.id} at {t[first]:.1f} s")
    if gone:
        notes.insert(0, f"removed in its way: {', '.join(gone)}")
    kept = tuple(
        track if other.actor.id == name else other
        for other in scene.tracks
        if other.actor.id not in gone
    )
    if all(other is not track for other in kept):
        kept = (*kept, track)
    return replace(scene, tracks=kept), "; ".join(notes)
