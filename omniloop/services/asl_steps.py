"""The events of a rollout as entries of an ASL log, in AlpaSim's order (alpasim.md 2.8, 6.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.contracts import (
    CameraFrame,
    GroundRequest,
    GroundResult,
    RenderRequest,
    VehicleRequest,
)
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, EgoMotion, Times
from omniloop.core.record import Decision
from omniloop.core.replay import RecordedActors, RecordedEgo
from omniloop.core.time import MAX_STATE_STEP_US
from omniloop.orchestrator.grounding import ground_share
from omniloop.runlog import messages as topics
from omniloop.runlog.messages import Committed, FramesAsked, Observed
from omniloop.runlog.reader import LogEvent
from omniloop.services.asl_opening import Entry, Told, rendered_cameras
from omniloop.services.asl_reasoning import reasoning_to_debug
from omniloop.services.codec import poses_to_wire, trajectory_to_wire
from omniloop.services.protos import egodriver_pb2, physics_pb2, sensorsim_pb2, traffic_pb2
from omniloop.services.protos.logging_pb2 import ActorPoses
from omniloop.services.sensorsim_images import format_of, image_size
from omniloop.services.sensorsim_requests import RequestWriter
from omniloop.services.step_codec import (
    ego_to_wire,
    ground_to_wire,
    image_to_wire,
    plan_to_wire,
    route_to_wire,
    states_to_wire,
    vehicle_to_wire,
)
from omniloop.services.traffic_codec import EGO_ID, motion_to_wire
from omniloop.services.video_requests import ChunkWriter

_QUALITY = 95.0
"""AlpaSim's `image_quality`; a log does not say with which its images were encoded."""


class Steps:
    """Turns one event after the other into entries.

    Args:
        told: What all entries have in common.
        samples: An image of each camera, by its id: what its frames were asked for as.
    """

    def __init__(self, told: Told, samples: dict[str, bytes]) -> None:
        self._told = told
        self._uuid = told.uuid
        record = told.record
        self._scene, self._ego, self._actors = record.scene, record.ego, record.actors
        self._estimate = record.ego_estimated
        self._ids = [actor.id for actor in self._scene.actors]
        self._rig_to_aabb = self._scene.vehicle.rig_to_aabb
        self._told_until_us: int | None = None
        self._moved: EgoMotion | None = None
        self._answered: ActorMotion | None = None
        self._began = False
        self._samples = samples
        self._of: dict[str, Callable[[int, Any], Iterator[Entry]]] = {
            topics.OBSERVATION: self._observation, topics.PLAN: self._plan,
            topics.VEHICLE: self._vehicle, topics.GROUND: self._ground,
            topics.TRAFFIC: self._traffic, topics.COMMIT: self._commit,
            topics.RENDER_REQUEST: self._render,
        }  # fmt: skip

    def entries(self, event: LogEvent) -> Iterator[Entry]:
        """Entries of an event that is no frame."""
        make = self._of.get(event.topic)
        return iter(()) if make is None else make(event.time_us, event.value)

    def image(self, frame: CameraFrame) -> Entry:
        """The entry of a delivered frame."""
        return "driver_camera_image", image_to_wire(self._uuid, frame)

    # ---------------------------------------------------------------------- policy

    def _observation(self, time_us: int, observed: Observed) -> Iterator[Entry]:
        """All of ego's estimated motion that is new: at first the whole context."""
        times = self._estimate.times_us
        first = 0
        if self._told_until_us is not None:
            first = int(times.searchsorted(self._told_until_us, side="right"))
        new = slice(first, int(times.searchsorted(time_us, side="right")))
        if new.start < new.stop:
            e = self._estimate
            states = EgoMotion(e.times_us[new], e.local_to_rig[new], e.dynamics[new])
            yield "driver_ego_trajectory", ego_to_wire(self._uuid, states)
        self._told_until_us = time_us
        if observed.route is not None:
            yield "route_request", route_to_wire(self._uuid, observed.route)
        yield (
            "driver_request",
            egodriver_pb2.DriveRequest(
                session_uuid=self._uuid, time_now_us=time_us, time_query_us=observed.next_decision_us
            ),
        )  # fmt: skip

    def _plan(self, time_us: int, decision: Decision) -> Iterator[Entry]:
        debug = reasoning_to_debug(decision.plan.reasoning)
        yield "driver_return", plan_to_wire(decision.plan, debug)

    # ------------------------------------------------------------ vehicle and ground

    def _vehicle(self, time_us: int, value: tuple[VehicleRequest, EgoMotion]) -> Iterator[Entry]:
        request, answer = value
        self._moved = answer
        plan = request.plan_local_to_rig
        if len(plan):
            plan = plan.clip(max(plan.start_us, int(self._ego.times_us[0])), plan.end_us)
            plan = plan.transform(geometry.inverse(self._ego_at(plan.start_us)))
        asked = vehicle_to_wire(self._uuid, request, plan, MAX_STATE_STEP_US)
        yield "controller_request", asked
        yield "controller_return", states_to_wire(answer)

    def _ground(self, time_us: int, value: tuple[int, str, GroundResult]) -> Iterator[Entry]:
        """What a ground was asked: the log holds its answer, the rest follows."""
        _, subject, result = value
        request = self._ground_request(time_us, subject == "ego")
        if len(request.local_to_aabb) != len(result.local_to_aabb):
            self._told.notes.append(
                f"the ground's answer for {subject} at {time_us} us is left out: it is for"
                f" {len(result.local_to_aabb)} boxes, and {len(request.local_to_aabb)} were asked for"
            )
            return
        message, _ = ground_to_wire(self._scene.id, request)
        yield "physics_request", message
        status: list[Any] = np.asarray(result.status).tolist()
        reply = physics_pb2.PhysicsGroundIntersectionReturn()
        if request.is_ego:
            moved = trajectory_to_wire(request.times_us, result.local_to_aabb)
            reply.ego_trajectory_aabb.CopyFrom(moved)
            reply.ego_status.extend(status)
        else:
            for pose, code in zip(poses_to_wire(result.local_to_aabb), status, strict=True):
                reply.other_poses.add(pose=pose, status=code)
        yield "physics_return", reply

    def _ground_request(self, time_us: int, is_ego: bool) -> GroundRequest:
        schedule = self._told.schedule
        if not self._began:
            target_us = schedule.first_decision_us
        else:
            target_us = time_us + schedule.decision_period_us
        if is_ego:
            ego = self._ego_before_ground(time_us, target_us)
            boxes, times = geometry.compose(ego.local_to_rig, self._rig_to_aabb), ego.times_us
            sizes = self._scene.vehicle.size_m[None].repeat(len(boxes), axis=0)
        else:
            actors = self._actors_before_ground(time_us, target_us)
            rows, columns = actors.valid.nonzero()
            boxes, times = actors.local_to_aabb[rows, columns], actors.times_us[columns]
            sizes = self._scene.actor_sizes_m[rows]
        share = ground_share(schedule, times, time_us)
        if share is not None:
            asked = share > 0
            boxes, times, sizes = boxes[asked], times[asked], sizes[asked]
        return GroundRequest(boxes, sizes, times, time_us, target_us, is_ego)

    def _ego_before_ground(self, time_us: int, target_us: int) -> EgoMotion:
        if not self._began:
            return self._recorded_ego.span(time_us, target_us)
        if self._told.schedule.is_warmup(time_us) or self._moved is None:
            return self._recorded_ego.between(time_us, target_us)
        return self._moved

    def _actors_before_ground(self, time_us: int, target_us: int) -> ActorMotion:
        if not self._began:
            times: Times = np.array([time_us], dtype=np.int64)
            if target_us > time_us:
                tail = self._recorded_actors.between(time_us, target_us)
                times = np.append(times, tail.times_us)
            return self._recorded_actors.at(times)
        if self._told.schedule.is_warmup(time_us) or self._answered is None:
            return self._recorded_actors.between(time_us, target_us)
        return self._answered

    @cached_property
    def _recorded_ego(self) -> RecordedEgo:
        return RecordedEgo(self._scene)

    @cached_property
    def _recorded_actors(self) -> RecordedActors:
        return RecordedActors(self._scene)

    # --------------------------------------------------------------------- traffic

    def _traffic(self, time_us: int, value: tuple[int, ActorMotion]) -> Iterator[Entry]:
        _, answer = value
        self._answered = answer
        target_us = int(answer.times_us[-1])
        at = np.array([target_us], dtype=np.int64)
        box = geometry.compose(self._ego_at(target_us)[None], self._rig_to_aabb)
        ego = traffic_pb2.ObjectTrajectoryUpdate(
            object_id=EGO_ID, trajectory=trajectory_to_wire(at, box)
        )
        asked = traffic_pb2.TrafficRequest(
            session_uuid=self._uuid, time_query_us=target_us, object_trajectory_updates=[ego]
        )
        yield "traffic_request", asked
        updates = motion_to_wire(self._ids, answer, absent_too=False)
        yield "traffic_return", traffic_pb2.TrafficReturn(object_trajectory_updates=updates)

    # ---------------------------------------------------------------------- states

    def _commit(self, time_us: int, committed: Committed) -> Iterator[Entry]:
        """Actors at each of ego's times; at first at context start and the first decision."""
        times = committed.ego_true.times_us
        if not self._began:
            self._began = True
            times = times[[0, -1]] if len(times) > 1 else times
        boxes = geometry.compose(self._ego.trajectory.sample(times), self._rig_to_aabb)
        actors = self._actors.sample(times)
        for column, (now_us, ego) in enumerate(
            zip(times.tolist(), poses_to_wire(boxes), strict=True)
        ):
            rows = actors.valid[:, column].nonzero()[0]
            poses = poses_to_wire(actors.local_to_aabb[rows, column])
            message = ActorPoses(timestamp_us=now_us)
            for row, pose in zip(rows.tolist(), poses, strict=True):
                message.actor_poses.add(actor_id=self._ids[row], actor_pose=pose)
            message.actor_poses.add(actor_id=EGO_ID, actor_pose=ego)
            yield "actor_poses", message

    def _ego_at(self, time_us: int) -> Array:
        """Ego's true pose at a time; of a rollout that broke off, the last one there is."""
        return np.asarray(self._ego.trajectory.sample_clamped([time_us])[0])

    # ---------------------------------------------------------------------- frames

    def _render(self, time_us: int, asked: FramesAsked) -> Iterator[Entry]:
        times = asked.times_us
        request = RenderRequest(
            times_us=times, local_to_rig=self._ego.trajectory.sample(times),
            actors=self._scene.actors, actor_motion=self._actors.sample(times),
            camera_index=asked.frames.camera_index,
            start_index=times.searchsorted(asked.frames.start_us),
            end_index=times.searchsorted(asked.frames.capture_us),
        )  # fmt: skip
        if self._told.is_chunked:
            yield "video_model_chunk_request", self._chunks.write(request)
            return
        messages = self._frames.write(request)
        cameras, captures = asked.frames.camera_index.tolist(), asked.frames.capture_us.tolist()
        start = 0
        for end in range(1, len(messages) + 1):
            if end < len(messages) and captures[end] == captures[start]:
                continue
            if end - start == 1:
                yield "render_request", messages[start]
            else:
                batch = sensorsim_pb2.BatchRGBRenderRequest()
                for n in range(start, end):
                    item = batch.items.add(camera_name=self._cameras[cameras[n]].id)
                    item.request.MergeFromString(messages[n])
                yield "batch_render_request", batch
            start = end

    @cached_property
    def _cameras(self) -> tuple[Camera, ...]:
        sizes = {name: image_size(image) for name, image in self._samples.items()}
        return rendered_cameras(self._told.cameras, sizes)

    @cached_property
    def _frames(self) -> RequestWriter:
        images = list(self._samples.values())
        kind = format_of(images[0]) if images else sensorsim_pb2.JPEG
        clocks = self._told.schedule.clocks
        return RequestWriter(
            self._scene, self._cameras, max((c.shutter_us for c in clocks), default=0), kind,
            _QUALITY, (None,) * len(self._cameras),
        )  # fmt: skip

    @cached_property
    def _chunks(self) -> ChunkWriter:
        return ChunkWriter(self._uuid, static_actors=True)
