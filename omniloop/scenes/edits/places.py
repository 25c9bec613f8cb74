"""Places relative to the recorded ego path, resolved in a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.scene import Scene
from omniloop.scenes.edits.frame import Drive, ego_drive
from omniloop.scenes.edits.lanes_beside import Which, kerb_m, lane_beside
from omniloop.scenes.edits.schema import Place
from omniloop.scenes.edits.tracks import check_time

_KERB_GAP_M = 0.2
LEAST_GAP_M = 2.0
"""Time gaps of a slow or standing ego are at least this long."""


@dataclass(frozen=True)
class Spot:
    """A place on the ego path's frame.

    Attributes:
        s_m: Arc length of the actor's centre.
        d_m: Offset to the left.
        against: The lane there runs against ego's direction.
    """

    s_m: float
    d_m: float
    against: bool


def front_m(scene: Scene) -> float:
    """From ego's rig origin to its front bumper."""
    return scene.vehicle.rear_axle_to_center_m + scene.vehicle.length_m / 2


def gap_m(drive: Drive, at_s: float, gap_s: float) -> float:
    """What ego drives in `gap_s` from `at_s` on, at least 2 m."""
    gap = float(drive.s_at(at_s + gap_s) - drive.s_at(at_s))
    return max(gap, LEAST_GAP_M) if gap_s > 0 else gap


def paced(drive: Drive, times_s: Array, ahead_m: float, at_s: float) -> Array:
    """Arc lengths ``(N,)`` of one who drives as recorded ego does, `ahead_m` before it at `at_s`.

    It is ahead of ego in time, and by at least 2 m of the distance where ego stands: a queue
    keeps its gaps. Behind ego (`ahead_m` below 0) likewise.
    """
    lead_s = lead_time_s(drive, ahead_m, at_s)
    s = drive.s_at(times_s + lead_s)
    return np.asarray(s + ahead_m - float(drive.s_at(at_s + lead_s) - drive.s_at(at_s)))


def lead_time_s(drive: Drive, ahead_m: float, at_s: float) -> float:
    """How long recorded ego takes for a distance from `at_s` on, less 2 m; at most 10 s."""
    apart = np.sign(ahead_m) * max(abs(ahead_m) - LEAST_GAP_M, 0.0)
    t = at_s + np.arange(-10.0, 10.01, 0.05)
    s = np.maximum.accumulate(drive.s_at(t))
    return float(np.clip(np.interp(float(drive.s_at(at_s)) + apart, s, t) - at_s, -10.0, 10.0))


def spot_of(scene: Scene, place: Place, size_m: Array) -> Spot:
    """Resolve a relative place for a box of a size.

    Raises:
        SceneError: the time is outside the recording, or there is no such lane.
    """
    check_time(scene, place.at_s, "at_s")
    drive, ahead = ego_drive(scene), place.ahead_m
    if ahead is None:
        assert place.ahead_s is not None  # the schema asks for one of both
        ahead = gap_m(drive, place.at_s, place.ahead_s)
    s = float(drive.s_at(place.at_s)) + front_m(scene) + ahead + float(size_m[0]) / 2
    if place.lane is None:
        return Spot(s, place.lateral_m, False)
    if place.lane == "kerb_left" or place.lane == "kerb_right":  # noqa: PLR1714 (narrows the type)
        left = place.lane == "kerb_left"
        edge = kerb_m(scene, drive.frame, s, "left" if left else "right")
        inward = float(size_m[1]) / 2 + _KERB_GAP_M
        d = edge - inward if left else edge + inward
        against = left and lane_beside(scene, drive.frame, s, "opposite") is not None
        return Spot(s, d + place.lateral_m, against)
    found = need_lane(scene, s, place.lane)
    return Spot(s, found[0] + place.lateral_m, found[1])


def need_lane(scene: Scene, s_m: float, which: Which) -> tuple[float, bool]:
    """Offset of a lane's centre at an arc length of the ego path, and whether it runs against.

    Where the map has no lane under the path, the lane "same" is the path itself.

    Raises:
        SceneError: the map has no such lane there.
    """
    frame = ego_drive(scene).frame
    found = lane_beside(scene, frame, s_m, which)
    if found is None and which == "same":
        return 0.0, False
    if found is None:
        x, y = frame.at(np.array([s_m]))[0, :2]
        have = [w for w in _EVERY if lane_beside(scene, frame, s_m, w) is not None]
        raise SceneError(
            f"there is no {which} lane beside ego's path at {s_m:.0f} m (x {x:.1f}, y {y:.1f})",
            remedy=f"lanes there: {', '.join(have) or 'none'}; choose one of them, another"
            " at_s, or a place with lateral_m",
        )
    return found.d_m, found.against


_EVERY: tuple[Which, ...] = ("left", "right", "opposite")
