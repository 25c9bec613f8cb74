"""A ground behind AlpaSim's physics protocol (alpasim.md 1.5)."""

from __future__ import annotations

from typing import Any

import numpy as np

from omniloop.core.contracts import GroundRequest, GroundResult, GroundStatus, SessionInfo
from omniloop.core.errors import ServiceError
from omniloop.core.geometry import Array
from omniloop.physics.ground import StatusCounts
from omniloop.services.codec import (
    poses_from_wire,
)
from omniloop.services.pool import Lease
from omniloop.services.protos import physics_pb2 as pb
from omniloop.services.remote import RemoteService
from omniloop.services.step_codec import ground_to_wire

_STATUSES = frozenset(s.value for s in GroundStatus)


class RemoteGround(RemoteService):
    """Any AlpaSim-compatible physics service; the keyword arguments are `RemoteService`'s."""

    kind = "ground"
    service = pb.DESCRIPTOR.services_by_name["PhysicsService"]
    asks_for_scenes = True

    async def open(self, session: SessionInfo) -> RemoteGroundSession:
        """Begin a rollout; the protocol itself has no sessions."""
        return RemoteGroundSession(session, await self.lease(session.address))


class RemoteGroundSession:
    """One rollout's ground."""

    def __init__(self, session: SessionInfo, lease: Lease) -> None:
        self._session = session
        self._lease = lease
        self._counts = StatusCounts()

    async def correct(self, request: GroundRequest) -> GroundResult:
        """Set boxes on the ground; the poses given come back themselves if none moved.

        Raises:
            ServiceError: the service answers for other boxes, or with what is no pose.
        """
        message, asked = ground_to_wire(self._session.scene.id, request)
        reply = await self._lease.connection.call(
            "ground_intersection", message, self._session.call, request.time_us
        )
        return self._result(request, asked, reply)

    def _result(self, request: GroundRequest, asked: list[Any], reply: Any) -> GroundResult:
        if request.is_ego:
            poses, status = [p.pose for p in reply.ego_trajectory_aabb.poses], reply.ego_status
            times = [p.timestamp_us for p in reply.ego_trajectory_aabb.poses]
            if times != request.times_us.tolist():
                raise self._broken(
                    request, f"answered ego at {times} us, not {request.times_us.tolist()} us"
                )
        else:
            poses = [p.pose for p in reply.other_poses]
            status = [p.status for p in reply.other_poses]
        if not len(poses) == len(status) == len(request.local_to_aabb):
            raise self._broken(
                request,
                f"answered {len(poses)} poses and {len(status)} statuses for"
                f" {len(request.local_to_aabb)} boxes",
            )
        unknown = [s for s in status if s not in _STATUSES]
        if unknown:
            raise self._broken(request, f"answered the status {unknown[0]}")
        codes = np.array(status, dtype=np.int64)
        self._counts.add(codes, request.is_ego)
        if poses == asked:
            return GroundResult(request.local_to_aabb, codes)
        try:
            corrected: Array = poses_from_wire(poses)
        except ValueError as error:
            raise self._broken(request, f"answered a pose that is none: {error}") from error
        return GroundResult(corrected, codes)

    def _broken(self, request: GroundRequest, what: str) -> ServiceError:
        connection, method = self._lease.connection, "ground_intersection"
        return ServiceError(
            f"ground {what}",
            where=connection.place(self._session.call, method, request.time_us),
            remedy="a physics service answers for every box, in the order asked",
        )

    def facts(self) -> dict[str, object]:
        """How often poses got each status."""
        return self._counts.facts()

    async def close(self) -> None:
        """Give the address back."""
        self._lease.release()
