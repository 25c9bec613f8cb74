"""Serving a ground plugin under AlpaSim's physics protocol (alpasim.md 1.5)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from grpc import StatusCode

from omniloop.core.contracts import GroundModel, GroundRequest, GroundSession, SessionInfo
from omniloop.core.geometry import Array
from omniloop.services.codec import (
    poses_from_wire,
    poses_to_wire,
    size_from_wire,
    times_from_wire,
    trajectory_to_wire,
)
from omniloop.services.protos import physics_pb2 as pb
from omniloop.services.protos.common_pb2 import AvailableScenesReturn
from omniloop.services.rpc import Caller, Refusal
from omniloop.services.serving import Servicer
from omniloop.services.shelf import SceneShelf

_SESSIONS_HELD = 16
"""Scenes whose ground is held ready, as many as AlpaSim's ``--cache-size``."""


class PhysicsServicer(Servicer):
    """The protocol has no sessions: each call names its scene.

    Args:
        ground: What sets boxes on the ground.
        scenes: The scenes that it knows.
    """

    service = pb.DESCRIPTOR.services_by_name["PhysicsService"]

    def __init__(self, ground: GroundModel, scenes: SceneShelf) -> None:
        self._ground = ground
        self._scenes = scenes
        self._open: OrderedDict[str, GroundSession] = OrderedDict()

    async def get_available_scenes(self, request: Any, caller: Caller) -> Any:
        """Ids of the scenes."""
        return AvailableScenesReturn(scene_ids=self._scenes.ids)

    async def ground_intersection(self, request: Any, caller: Caller) -> Any:
        """Set ego's states and other objects on the ground, each in the order asked."""
        session = await self._session(request.scene_id)
        reply = pb.PhysicsGroundIntersectionReturn()
        span = (request.now_us, request.future_us)
        if request.HasField("ego_data"):
            states = request.ego_data.ego_trajectory_aabb.poses
            times = times_from_wire(s.timestamp_us for s in states)
            asked = [s.pose for s in states]
            size = size_from_wire(request.ego_data.aabb)
            sizes = np.broadcast_to(size, (len(asked), 3))
            poses, status = await _correct(session, asked, sizes, times, span, is_ego=True)
            moved = reply.ego_trajectory_aabb
            if poses is None:
                moved.CopyFrom(request.ego_data.ego_trajectory_aabb)
            else:
                moved.CopyFrom(trajectory_to_wire(times, poses))
            reply.ego_status.extend(status)  # type: ignore[arg-type]
        others = request.other_objects
        if len(others):
            asked = [o.pose_pair.future_pose for o in others]
            sizes = np.array([size_from_wire(o.aabb) for o in others])
            times = times_from_wire([request.future_us] * len(others))
            poses, status = await _correct(session, asked, sizes, times, span, is_ego=False)
            for pose, code in zip(
                asked if poses is None else poses_to_wire(poses), status, strict=True
            ):
                reply.other_poses.append(
                    pb.PhysicsGroundIntersectionReturn.ReturnPose(
                        pose=pose,
                        status=code,  # type: ignore[arg-type]
                    )
                )
        return reply

    async def _session(self, scene_id: str) -> GroundSession:
        found = self._open.get(scene_id)
        if found is None:
            scene = self._scenes.get(scene_id)
            check = getattr(self._ground, "check_scene", None)
            if check is not None:
                check(scene)
            info = SessionInfo(
                scene_id, scene, 0, scene.vehicle, scene.start_us, scene.start_us, scene.end_us
            )
            found = self._open[scene_id] = await self._ground.open(info)
        self._open.move_to_end(scene_id)
        if len(self._open) > _SESSIONS_HELD:
            _, oldest = self._open.popitem(last=False)
            await oldest.close()
        return found

    async def aclose(self) -> None:
        """End what is held ready."""
        while self._open:
            _, session = self._open.popitem()
            await session.close()


async def _correct(
    session: GroundSession,
    asked: Sequence[Any],
    sizes_m: Array,
    times_us: Any,
    span: tuple[int, int],
    is_ego: bool,
) -> tuple[Array | None, list[int]]:
    """Corrected poses, None if the ground leaves all as they are, and their statuses."""
    try:
        boxes = poses_from_wire(asked)
    except ValueError as error:
        raise Refusal(StatusCode.INVALID_ARGUMENT, str(error)) from error
    request = GroundRequest(boxes, sizes_m, times_us, *span, is_ego=is_ego)
    result = await session.correct(request)
    unmoved = result.local_to_aabb is boxes
    return None if unmoved else result.local_to_aabb, np.asarray(result.status).tolist()
