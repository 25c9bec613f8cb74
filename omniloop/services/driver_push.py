"""One rollout's driver: what is new is pushed, all at once, then it is asked to drive."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from google.protobuf.message import Message

from omniloop.core import geometry
from omniloop.core.contracts import Observation, Plan, SessionInfo
from omniloop.core.errors import PolicyError
from omniloop.core.messages import CameraFrame, Route
from omniloop.core.motion import EgoMotion
from omniloop.services.codec import trajectory_to_wire
from omniloop.services.connection import Metadata, Started, together
from omniloop.services.driver_reply import plan_from_reply
from omniloop.services.driver_spec import AVAILABLE_KEY
from omniloop.services.pool import Lease
from omniloop.services.privileged import PrivilegedSender
from omniloop.services.protos import egodriver_pb2 as pb
from omniloop.services.session_facts import closed
from omniloop.services.step_codec import ego_to_wire, image_to_wire, route_to_wire


class RemotePolicySession:
    """One rollout's driver.

    Args:
        uuid: The session's name on the wire.
        knows_us: The driver is Omniloop's own server.
        send_recording: Send the recorded ego motion with every decision.
    """

    def __init__(
        self, session: SessionInfo, lease: Lease, uuid: str, knows_us: bool, send_recording: bool
    ) -> None:
        self._session = session
        self._lease = lease
        self._facts: Mapping[str, object] = {}
        self._uuid = uuid
        self._knows_us = knows_us
        self._send_recording = send_recording
        self._privileged = PrivilegedSender()
        self._sent_until_us = -1
        self._route_us: int | None = None
        self._started: list[Started] = []

    def anticipate(self, time_us: int, ego: EgoMotion, route: Route | None) -> None:
        """Send ego and route of the next decision already, while its frames are rendered."""
        self._started += [self._call(*new, time_us) for new in self._state(ego, route)]

    async def plan(self, observation: Observation) -> Plan:
        """Send what is new, all at once; when all of it has arrived, ask for a plan.

        Raises:
            PolicyError: the driver fails, or its plan cannot be used.
            ServiceError: it cannot be reached, or lost the session.
        """
        now_us = observation.time_us
        started, self._started = self._started, []
        await together(started + [self._call(*new, now_us) for new in self._news(observation)])
        request = pb.DriveRequest(
            session_uuid=self._uuid, time_now_us=now_us, time_query_us=observation.next_decision_us,
            renderer_data=self._privileged.new(observation) if self._knows_us else b"",
        )  # fmt: skip
        reply = await self._call("drive", request, (), now_us)
        try:
            return plan_from_reply(reply, observation)
        except ValueError as error:
            raise PolicyError(
                f"the driver's plan cannot be used: {error}",
                where=self._lease.connection.place(self._session.call, "drive", now_us),
                remedy="a plan holds poses local_to_rig at growing times, the first ego's own at time_now_us",
            ) from error

    def _call(self, method: str, message: Message, metadata: Metadata, time_us: int) -> Started:
        connection = self._lease.connection
        return connection.call(method, message, self._session.call, time_us, metadata=metadata)

    def _news(self, observation: Observation) -> list[tuple[str, Message, Metadata]]:
        """What was not sent yet: methods, their messages and metadata."""
        news = self._state(observation.ego, observation.route)
        if self._send_recording:
            news.append(("submit_recording_ground_truth", self._recording(observation), ()))
        for frames in observation.frames.values():
            news += [("submit_image_observation", *self._image(frame)) for frame in frames]
        return news

    def _state(self, ego: EgoMotion, route: Route | None) -> list[tuple[str, Message, Metadata]]:
        """Ego states and a route, as far as they were not sent yet."""
        news: list[tuple[str, Message, Metadata]] = []
        states = self._ego(ego)
        if states is not None:
            news.append(("submit_egomotion_observation", states, ()))
        if route is not None and route.time_us != self._route_us:
            self._route_us = route.time_us
            news.append(("submit_route", route_to_wire(self._uuid, route), ()))
        return news

    def _image(self, frame: CameraFrame) -> tuple[Message, Metadata]:
        metadata: Metadata = ()
        if self._knows_us and frame.available_us != frame.capture_us:
            metadata = ((AVAILABLE_KEY, str(frame.available_us)),)
        return image_to_wire(self._uuid, frame), metadata

    def _ego(self, ego: EgoMotion) -> pb.RolloutEgoTrajectory | None:
        """The states newer than the last one sent, if any; at first all that there are."""
        new = int(np.searchsorted(ego.times_us, self._sent_until_us, side="right"))
        if new == len(ego):
            return None
        self._sent_until_us = int(ego.times_us[-1])
        states = EgoMotion(ego.times_us[new:], ego.local_to_rig[new:], ego.dynamics[new:])
        return ego_to_wire(self._uuid, states)

    def _recording(self, observation: Observation) -> pb.GroundTruthRequest:
        """The whole recorded motion in ego's own frame, as AlpaSim sends it."""
        recorded = self._session.scene.ego
        rig_to_local = geometry.inverse(observation.ego.local_to_rig[-1])
        in_rig = recorded.transform(rig_to_local)
        truth = pb.GroundTruth(
            timestamp_us=observation.time_us,
            trajectory=trajectory_to_wire(in_rig.times_us, in_rig.poses),
        )
        return pb.GroundTruthRequest(session_uuid=self._uuid, ground_truth=truth)

    async def close(self) -> None:
        """End the session and give the address back, whatever happens."""
        for call in self._started:
            call.cancel()
        try:
            request = pb.DriveSessionCloseRequest(session_uuid=self._uuid)
            self._facts = await closed(
                self._lease.connection.call("close_session", request, self._session.call)
            )
        finally:
            self._lease.release()

    def facts(self) -> Mapping[str, object]:
        """What the session told of itself, once it is closed."""
        return self._facts
