"""Setting ego and actors on the ground; up to handover the recording fades into it."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.calls import CallFunnel
from omniloop.core.contracts import GroundRequest, GroundResult, GroundSession
from omniloop.core.errors import ServiceError
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, EgoMotion, Mask, Times
from omniloop.core.scene import Scene
from omniloop.core.schedule import Schedule
from omniloop.orchestrator.recorder import Recorder


def ground_share(schedule: Schedule, times_us: Times, after_us: int) -> Array | None:
    """How much of the ground's correction holds at times ``(N,)`` of the interval that begins
    at `after_us`: 0 to 1; None for all of it. The ground is asked where it is above 0."""
    from_us, handover_us = schedule.render_start_us, schedule.handover_us
    if after_us >= handover_us:
        return None
    if handover_us == from_us:
        return (times_us >= from_us).astype(np.float64)
    return np.asarray(np.clip((times_us - from_us) / (handover_us - from_us), 0.0, 1.0))


class Grounding:
    """One rollout's ground, asked for ego and for actors.

    From render start to handover, recorded poses are blended into the grounded ones with a
    share that grows from 0 to 1 (AlpaSim's warm-up, `reference/alpasim.md` 2.6), so that
    height does not jump at handover. Without a warm-up, states from render start on are
    grounded. What the ground leaves as it is stays bit for bit.
    """

    def __init__(
        self,
        scene: Scene,
        schedule: Schedule,
        session: GroundSession,
        call: CallFunnel,
        recorder: Recorder,
    ) -> None:
        self._ego_size_m = scene.vehicle.size_m[None]
        self._rig_to_center_m = scene.vehicle.rig_to_aabb[:3]
        self._actor_sizes_m = scene.actor_sizes_m
        self._schedule = schedule
        self._session = session
        self._call = call
        self._record = recorder

    async def ego(self, motion: EgoMotion, time_us: int, target_us: int) -> tuple[EgoMotion, Array]:
        """Ground ego's states in ``(time_us, target_us]``.

        Returns:
            The states, and the box centres ``(N, 7)`` at them.
        """
        boxes = geometry.shift_body(motion.local_to_rig, self._rig_to_center_m)
        boxes.setflags(write=False)  # a ground that corrected in place would go unnoticed
        share = ground_share(self._schedule, motion.times_us, time_us)
        sizes = self._ego_size_m.repeat(len(boxes), axis=0)
        out = await self._set(boxes, sizes, motion.times_us, share, time_us, target_us, "ego")
        if out is boxes:
            return motion, boxes
        rig = geometry.shift_body(out, -self._rig_to_center_m)
        same = (out == boxes).all(axis=1)
        if same.any():
            rig[same] = motion.local_to_rig[same]
        return EgoMotion(motion.times_us, rig, motion.dynamics), out

    async def actors(self, motion: ActorMotion, time_us: int, target_us: int) -> ActorMotion:
        """Ground the actors that are there in ``(time_us, target_us]``."""
        valid = motion.valid
        rows, columns = valid.nonzero()
        if not len(rows):
            return motion
        boxes = motion.local_to_aabb[rows, columns]
        boxes.setflags(write=False)
        times_us = motion.times_us[columns]
        share = ground_share(self._schedule, times_us, time_us)
        sizes = self._actor_sizes_m[rows]
        out = await self._set(boxes, sizes, times_us, share, time_us, target_us, "actors")
        if out is boxes:
            return motion
        poses = motion.local_to_aabb.copy()
        poses[valid] = out
        return ActorMotion(motion.times_us, poses, valid)

    async def _set(
        self,
        boxes: Array,
        sizes_m: Array,
        times_us: Times,
        share: Array | None,
        time_us: int,
        target_us: int,
        subject: str,
    ) -> Array:
        """Boxes ``(N, 7)`` with their share of the correction; `boxes` itself where there is none."""
        wanted = boxes
        if share is not None:
            asked: Mask = share > 0
            if not asked.any():
                return boxes
            wanted, sizes_m, times_us = boxes[asked], sizes_m[asked], times_us[asked]
            wanted.setflags(write=False)
        request = GroundRequest(
            wanted, sizes_m, times_us, time_us, target_us, is_ego=subject == "ego"
        )
        result = await self._call(
            "ground", "correct", self._session.correct(request), time_us, GroundResult
        )
        if result.local_to_aabb is wanted:
            return boxes
        if result.local_to_aabb.shape != wanted.shape or len(result.status) != len(wanted):
            raise ServiceError(
                f"the ground answered with poses {result.local_to_aabb.shape} and"
                f" {len(result.status)} statuses for boxes {wanted.shape}",
                where=f"{self._call.where}, {subject} at {time_us} us",
                remedy="answer for every box asked for, in order",
            )
        self._record.ground(time_us, subject, result)
        if share is None:
            return result.local_to_aabb
        out = boxes.copy()
        out[asked] = geometry.interpolate_poses(wanted, result.local_to_aabb, share[asked])
        return out
