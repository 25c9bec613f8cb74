"""Who appears and who leaves: as recorded, unless the place is taken."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.traffic.drive import State
from omniloop.traffic.ego_track import Ego
from omniloop.traffic.paths import Index
from omniloop.traffic.placing import Placing
from omniloop.traffic.stage import Stage

_ROOM_M = 0.5
"""A place is taken when a box that much longer and wider overlaps it."""

_DRIVING_MPS = 1.0
_END_M = 0.05
"""Late actors leave at the end of their path, if they were driving there or their time is over."""


def place_taken(
    box: Array, size_m: Array, others: Array, other_sizes_m: Array, room_m: float = _ROOM_M
) -> bool:
    """Whether a box ``(7,)`` with some room around it overlaps one of N others ``(N, 7)``.

    Rectangles are apart if and only if they are apart along an edge normal of one of them
    (separating axis theorem).
    """
    if len(others) == 0:
        return False
    yaw, other_yaw = geometry.yaw_rad(box), geometry.yaw_rad(others)
    dx, dy = others[:, 0] - box[0], others[:, 1] - box[1]
    c, s = np.abs(np.cos(other_yaw - yaw)), np.abs(np.sin(other_yaw - yaw))
    (half_l, half_w), (other_l, other_w) = (size_m[:2] + room_m) / 2, (other_sizes_m[:, :2] / 2).T
    apart = np.abs(dx * np.cos(yaw) + dy * np.sin(yaw)) > half_l + other_l * c + other_w * s
    apart |= np.abs(dy * np.cos(yaw) - dx * np.sin(yaw)) > half_w + other_w * c + other_l * s
    cos, sin = np.cos(other_yaw), np.sin(other_yaw)
    apart |= np.abs(dx * cos + dy * sin) > other_l + half_l * c + half_w * s
    apart |= np.abs(dy * cos - dx * sin) > other_w + half_w * c + half_l * s
    return bool((~apart).any())


def _taken(
    who: Index, boxes: Array, counts: Mask, poses: Array, sizes_m: Array, ego: Array | None,
    ego_size_m: Array,
) -> Mask:  # fmt: skip
    """Which of N actors find their boxes ``(N, 7)`` taken by those that count, or by ego."""
    others, sizes = [poses[counts]], [sizes_m[counts]]
    if ego is not None:
        others.append(ego[None])
        sizes.append(ego_size_m[None])
    everybody, their_sizes = np.vstack(others), np.vstack(sizes)
    return np.array(
        [
            place_taken(box, sizes_m[i], everybody, their_sizes)
            for i, box in zip(who.tolist(), boxes, strict=True)
        ],
        dtype=bool,
    )


class Doors:
    """Entries and departures of one session.

    Attributes:
        delayed: ``(A,)`` whose place was taken when it should have appeared.
    """

    def __init__(self, n_actors: int, ego_size_m: Array, guided: bool) -> None:
        self.delayed = np.zeros(n_actors, dtype=bool)
        self._ego_size = ego_size_m
        self._guided = guided

    def pass_through(
        self, stage: Stage, state: State, placing: Placing, ego: Ego, time_us: int, poses: Array,
        recorded: Mask,
    ) -> None:  # fmt: skip
        """Let actors leave and appear at a time.

        Whoever is on time comes and goes as recorded. Who is late leaves where the recording
        left it; tracks that last as long as the recording go on. Who finds its place taken waits
        until it is free, and then starts there, late.

        Args:
            state: Everybody's; who is there, and whoever appears late, is written into it.
            poses: ``(A, 7)`` at this time; those of who appears late are written into it.
            recorded: ``(A,)`` who is there in the recording.
        """
        cast, timetable = stage.cast, stage.cast.timetable
        last_us = timetable.times_us[np.maximum(cast.last, 0)]
        over = time_us >= last_us
        late = state.there & ~state.on_time
        drove_out = stage.table.pace_mps[stage.table.start[1:] - 1] > _DRIVING_MPS
        at_end = state.s_m >= stage.table.end_m - _END_M
        goes = state.there & state.on_time & ~recorded
        goes |= late & cast.driven & at_end & (over | drove_out)
        goes |= late & cast.kept & ~cast.goes_on & (state.own_us >= last_us)
        state.there = state.there & ~goes
        state.left = state.left | (goes & over)

        waits = (cast.entry >= 0) & ~state.there & ~state.left & (time_us <= timetable.times_us[-1])
        own_way = self.delayed & (cast.driven | cast.kept)
        who = np.flatnonzero(waits & (recorded | own_way))
        if len(who) == 0:
            return
        again = own_way[who]
        boxes = poses[who].copy()
        boxes[again] = placing.entry(stage, who[again])
        # In the recording nobody on time was in the way of anybody on time.
        others = state.there & ~state.on_time
        taken = _taken(
            who, boxes, others, poses, cast.sizes_m, None if ego.on_time else ego.local_to_aabb,
            self._ego_size,
        )  # fmt: skip
        if again.any():
            taken[again] |= _taken(
                who[again], boxes[again], state.there, poses, cast.sizes_m, ego.local_to_aabb,
                self._ego_size,
            )  # fmt: skip
        self.delayed[who[taken]] = True
        state.there[who[~taken]] = True
        placing.forget(who[~taken])
        state.on_time[who[~taken & ~again]] = True
        starts = who[~taken & again]
        poses[starts] = boxes[~taken & again]
        state.on_time[starts] = False
        state.s_m[starts] = 0.0
        state.own_us[starts] = timetable.times_us[cast.entry[starts]]
        state.v_mps[starts] = timetable.speed_mps[starts, cast.entry[starts]]
        if not self._guided:
            free = who[~taken & ~again & cast.driven[who]]
            state.on_time[free] = False
            placing.rebase(stage, state, free, poses[free])
