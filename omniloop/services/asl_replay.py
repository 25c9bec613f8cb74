"""The entries of an ASL log told to a log of ours, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from google.protobuf.message import Message

from omniloop.core import geometry
from omniloop.core.contracts import (
    CameraFrame,
    GroundResult,
    Observation,
    Plan,
    RenderRequest,
    Route,
    VehicleRequest,
)
from omniloop.core.motion import EMPTY_TRAJECTORY, ActorMotion, EgoMotion, Times
from omniloop.core.record import Decision
from omniloop.core.replay import RecordedActors, recorded_motion_at
from omniloop.runlog.messages import LogHeader
from omniloop.runlog.writer import LogWriter
from omniloop.services.asl_gather import Gathered, as_times
from omniloop.services.asl_reasoning import reasoning_from_debug
from omniloop.services.asl_scene import AslWorld
from omniloop.services.asl_states import estimates_of, states_of, told_of
from omniloop.services.codec import (
    dynamics_from_wire,
    pose_from_wire,
    poses_from_wire,
    times_from_wire,
    trajectory_from_wire,
)
from omniloop.services.protos.logging_pb2 import LogEntry
from omniloop.services.traffic_codec import EGO_ID, interpolated_motion, read_updates, rows_of

_RENDERS = frozenset(
    {
        "render_request", "batch_render_request", "aggregated_render_request",
        "video_model_chunk_request",
    }
)  # fmt: skip


class Replay:
    """Writes what an ASL log says into a log of ours, in its order.

    Args:
        log: A log whose scene and header are written.
        world: What the ASL log was driven in.
        found: Everything gathered of it.
    """

    def __init__(self, log: LogWriter, header: LogHeader, world: AslWorld, found: Gathered) -> None:
        self._log, self._header, self._world, self._found = log, header, world, found
        self._schedule, self._scene = world.schedule, world.scene
        self._ego = states_of(world, found)
        self._estimate = estimates_of(self._ego, found)
        self._rows = {a.id: row for row, a in enumerate(world.scene.actors)}
        self._cameras = {c.camera_id: i for i, c in enumerate(self._schedule.clocks)}
        self._captures = {name: {end for _, end in f} for name, f in found.frames_us.items()}
        self._now_us = self._schedule.context_start_us
        self._available_us = self._now_us
        self._began = False
        self._committed = 0
        self._decided = False
        self._frames: dict[str, list[CameraFrame]] = {}
        self._route: Route | None = None
        self._asked: Message | None = None
        self._shots: list[tuple[str, int, int]] = []
        self._left_out: dict[str, int] = {}
        self._of: dict[str, Callable[[Any], None]] = {
            "actor_poses": self._actor_poses, "driver_camera_image": self._image,
            "route_request": self._route_request, "driver_request": self._driver_request,
            "driver_return": self._driver_return, "controller_request": self._keep,
            "controller_return": self._controller_return, "physics_request": self._keep,
            "physics_return": self._physics_return, "traffic_request": self._keep,
            "traffic_return": self._traffic_return, "render_request": self._render,
            "batch_render_request": self._batch, "aggregated_render_request": self._aggregated,
            "video_model_chunk_request": self._chunk,
        }  # fmt: skip

    def take(self, entry: LogEntry) -> None:
        """Write one entry; one that cannot be used is left out and counted."""
        kind = entry.WhichOneof("log_entry") or ""
        tell = self._of.get(kind)
        if tell is None:
            return
        if kind not in _RENDERS:
            self._ask_for_frames()
        try:
            tell(getattr(entry, kind))
        except ValueError as error:
            self._leave_out(f"entries '{kind}' that cannot be used ({error})")

    def finish(self) -> None:
        """Write the end, and what was left out."""
        frontier_us = int(self._world.times_us[-1])
        self._ask_for_frames()
        self._commit_until(len(self._world.times_us))
        for what, count in sorted(self._left_out.items()):
            self._log.notice(frontier_us, f"left out: {count} x {what}")
        self._log.end(frontier_us, self._world.stopped_by)

    @property
    def notes(self) -> list[str]:
        """What was left out."""
        return [f"left out: {count} x {what}" for what, count in sorted(self._left_out.items())]

    def _leave_out(self, what: str) -> None:
        known = next(
            (k for k in self._left_out if k.partition("(")[0] == what.partition("(")[0]), what
        )
        self._left_out[known] = self._left_out.get(known, 0) + 1

    def _keep(self, message: Message) -> None:
        self._asked = message

    def _question(self, kind: str) -> Any:
        """The request that a reply belongs to: the entry before it."""
        asked, self._asked = self._asked, None
        if asked is None or asked.DESCRIPTOR.name != kind:
            raise ValueError("it follows no request")
        return asked

    # ---------------------------------------------------------------------- states

    def _actor_poses(self, message: Any) -> None:
        """Commit an interval when its last state is here."""
        first_us = self._schedule.first_decision_us
        if not self._began:
            self._commit_context()
        times = self._world.times_us
        at = int(times.searchsorted(message.timestamp_us))
        if at < self._committed:
            return
        nxt = times[at + 1] if at + 1 < len(times) else None
        period_us = self._schedule.decision_period_us
        step = -(-(int(times[at]) - first_us) // period_us)
        if nxt is None or -(-(int(nxt) - first_us) // period_us) > step:
            self._commit_until(at + 1)

    def _commit_until(self, stop: int) -> None:
        """Commit the states ``[committed, stop)``, an interval at a time."""
        if not self._began:
            self._commit_context()
        schedule, times = self._schedule, self._world.times_us
        while self._committed < stop:
            start = self._committed
            step = -(
                -(int(times[start]) - schedule.first_decision_us) // schedule.decision_period_us
            )
            until_us = schedule.first_decision_us + step * schedule.decision_period_us
            end = min(int(times.searchsorted(until_us, side="right")), stop)
            rows = slice(start, end)
            actors = ActorMotion(
                times[rows], self._world.local_to_aabb[:, rows], self._world.valid[:, rows]
            )
            self._now_us = until_us - schedule.decision_period_us
            self._log.commit(
                self._now_us, _rows(self._ego, rows), _rows(self._estimate, rows), actors
            )
            self._committed = end

    def _commit_context(self) -> None:
        """Commit what the recording did up to the first decision, as AlpaSim seeds its worlds.

        An ASL log has states at context start and at the first decision only.
        """
        schedule, world = self._schedule, self._world
        start_us, until_us = schedule.context_start_us, schedule.first_decision_us
        count = int(world.times_us.searchsorted(until_us, side="right"))
        held = slice(0, count)
        path = self._scene.ego
        inner = path.times_us[(path.times_us > start_us) & (path.times_us < until_us)]
        times = np.unique(
            np.concatenate([inner, world.times_us[held], as_times([start_us, until_us])])
        )
        ego = recorded_motion_at(path, np.clip(times, path.start_us, path.end_us))
        ego = EgoMotion(times, ego.local_to_rig.copy(), ego.dynamics)
        at = times.searchsorted(world.times_us[held])
        if self._estimate is self._ego:  # what the driver was told is the truth
            ego = told_of(ego, self._found)
        ego.local_to_rig[at] = world.local_to_rig[held]
        recorded = RecordedActors(self._scene)
        table = recorded.between(start_us, until_us).times_us if until_us > start_us else times
        table = np.unique(np.concatenate([as_times([start_us]), table, world.times_us[held]]))
        actors = recorded.at(table)
        poses, valid = actors.local_to_aabb.copy(), actors.valid.copy()
        column = table.searchsorted(world.times_us[held])
        poses[:, column], valid[:, column] = world.local_to_aabb[:, held], world.valid[:, held]
        estimate = ego if self._estimate is self._ego else told_of(ego, self._found)
        self._log.commit(start_us, ego, estimate, ActorMotion(table, poses, valid))
        self._began, self._committed = True, count

    # ---------------------------------------------------------------------- policy

    def _image(self, message: Any) -> None:
        image = message.camera_image
        if not image.image_bytes:
            self._leave_out("frames without an image")
            return
        self._available_us = max(self._available_us, self._arrival_us(image.frame_end_us))
        frame = CameraFrame(
            image.logical_id, image.image_bytes, image.frame_start_us, image.frame_end_us,
            self._available_us,
        )  # fmt: skip
        self._log.frame(frame)
        seen = CameraFrame(
            frame.camera_id, b"", frame.start_us, frame.capture_us, frame.available_us
        )
        self._frames.setdefault(frame.camera_id, []).append(seen)

    def _arrival_us(self, capture_us: int) -> int:
        """When a frame reached the driver: with its chunk, or as it was captured.

        One that was captured before a decision, and comes after it, came late.
        """
        schedule = self._schedule
        if schedule.postfetch:
            span_us = schedule.decisions_per_chunk * schedule.decision_period_us
            chunks = max(-(-(capture_us - schedule.first_decision_us) // span_us), 0)
            return schedule.first_decision_us + chunks * span_us
        return max(capture_us, self._now_us + 1) if self._decided else capture_us

    def _route_request(self, message: Any) -> None:
        """A route; AlpaSim pads it with NaN."""
        points = np.array([(w.x, w.y, w.z) for w in message.route.waypoints], dtype=np.float64)
        points = points.reshape(-1, 3)
        points = points[np.isfinite(points).all(axis=1)]
        self._route = Route(message.route.timestamp_us, points) if len(points) > 1 else None

    def _driver_request(self, message: Any) -> None:
        self._now_us, self._decided = message.time_now_us, True
        sees = self._header.privileged
        until = int(self._estimate.times_us.searchsorted(self._now_us, side="right"))
        motion = ActorMotion(
            self._world.times_us[:1], self._world.local_to_aabb[:, :1], self._world.valid[:, :1]
        )
        observation = Observation(
            session_id=self._header.session_id, scene_id=self._scene.id,
            seed=self._header.seeds.get("policy", 0), time_us=self._now_us,
            next_decision_us=message.time_query_us, ego=_rows(self._estimate, slice(0, until)),
            frames={name: tuple(frames) for name, frames in self._frames.items()},
            route=self._route, vehicle=self._scene.vehicle,
            actors=self._scene.actors if "actors" in sees else None,
            actor_motion=motion if "actors" in sees else None,
            map=self._scene.map if "map" in sees else None,
            recording=self._scene.ego if "recording" in sees else None,
        )  # fmt: skip
        self._log.observation(observation)
        self._frames = {}
        self._asked = message

    def _driver_return(self, message: Any) -> None:
        self._question("DriveRequest")
        plan, samples = EMPTY_TRAJECTORY, []
        try:
            plan = trajectory_from_wire(message.trajectory)
            samples = [trajectory_from_wire(s) for s in message.debug_info.sampled_trajectories]
        except ValueError as error:
            self._leave_out(f"plans, or samples of them, that cannot be used ({error})")
        reasoning = reasoning_from_debug(message.debug_info.unstructured_debug_info)
        answer = Plan(plan, tuple(samples), reasoning, message.terminate_session)
        dropped = self._schedule.is_warmup(self._now_us)
        self._log.plan(Decision(self._now_us, self._now_us, answer, dropped, self._route))
        self._route = None

    # --------------------------------------------------- vehicle, ground and traffic

    def _controller_return(self, message: Any) -> None:
        asked = self._question("RunControllerAndVehicleModelRequest")
        now_us = asked.state.timestamp_us
        self._now_us = max(self._now_us, now_us)
        plan = trajectory_from_wire(asked.planned_trajectory_in_rig)
        if len(plan):
            path = self._ego.trajectory
            plan = plan.transform(path.sample_clamped([plan.start_us])[0])
        request = VehicleRequest(
            now_us, asked.future_time_us, pose_from_wire(asked.state.pose),
            dynamics_from_wire([asked.state.state])[0], plan, asked.coerce_dynamic_state,
        )  # fmt: skip
        states = list(message.states)
        times = times_from_wire(s.timestamp_us for s in states)
        poses = [s.pose_local_to_rig for s in states]
        moving = [s.dynamic_state for s in states]
        if not states:  # what services filled before there were states
            times = times_from_wire([message.pose_local_to_rig.timestamp_us])
            poses, moving = [message.pose_local_to_rig.pose], [message.dynamic_state]
        answer = EgoMotion(times, poses_from_wire(poses), dynamics_from_wire(moving))
        self._log.vehicle(request, answer)

    def _physics_return(self, message: Any) -> None:
        asked = self._question("PhysicsGroundIntersectionRequest")
        if len(asked.other_objects):  # AlpaSim adds ego to it, and passes over what comes back
            subject, poses = "actors", [p.pose for p in message.other_poses]
            status = [p.status for p in message.other_poses]
        else:
            subject, poses = "ego", [p.pose for p in message.ego_trajectory_aabb.poses]
            status = list(message.ego_status)
        if not poses or len(status) != len(poses):
            raise ValueError(f"{len(poses)} poses and {len(status)} statuses")
        codes = np.array(status, dtype=np.int64)
        self._log.ground(self._now_us, subject, GroundResult(poses_from_wire(poses), codes))

    def _traffic_return(self, message: Any) -> None:
        """The answer up to the time that was asked for; forecasts beyond it are left out."""
        asked = self._question("TrafficRequest")
        target_us, now_us = asked.time_query_us, self._now_us
        updates = read_updates(
            [u for u in message.object_trajectory_updates if u.object_id != EGO_ID]
        )
        known = [u for u in updates.ids if u in self._rows]
        if len(known) < len(updates.ids):
            raise ValueError("it holds actors of unknown size")
        given = [t for own in updates.times_us for t in own if now_us < t <= target_us]
        times: Times = np.unique(as_times([*given, target_us]))
        before = int(self._world.times_us.searchsorted(now_us, side="right")) - 1
        current = ActorMotion(
            as_times([now_us]), self._world.local_to_aabb[:, before : before + 1],
            self._world.valid[:, before : before + 1],
        )  # fmt: skip
        rows = rows_of(updates.ids, self._rows)
        self._log.traffic(now_us, interpolated_motion(updates, rows, current, times))

    # ---------------------------------------------------------------------- frames

    def _render(self, message: Any) -> None:
        name = message.camera_intrinsics.logical_id
        self._shoot([(name, message.frame_start_us, message.frame_end_us)])

    def _batch(self, message: Any) -> None:
        asked = [(i.camera_name, i.request) for i in message.items]
        self._shoot([(name, r.frame_start_us, r.frame_end_us) for name, r in asked])

    def _aggregated(self, message: Any) -> None:
        for request in message.rgb_requests:
            self._render(request)

    def _chunk(self, message: Any) -> None:
        times = [p.timestamp_us for p in message.rig_trajectory.poses]
        self._shoot([(name, t, t) for t in times for name in self._cameras])

    def _shoot(self, shots: list[tuple[str, int, int]]) -> None:
        self._shots += [self._instants(*shot) for shot in shots if shot[0] in self._cameras]

    def _ask_for_frames(self) -> None:
        """One request for all frames that were asked for in a row."""
        if not self._shots:
            return
        cameras, starts, ends = (list(column) for column in zip(*self._shots, strict=True))
        self._shots = []
        times = np.unique(as_times([*starts, *ends]))
        nobody = ActorMotion(
            times, np.zeros((0, len(times), 7)), np.zeros((0, len(times)), dtype=bool)
        )
        request = RenderRequest(
            times_us=times, local_to_rig=np.tile(geometry.IDENTITY, (len(times), 1)), actors=(),
            actor_motion=nobody,
            camera_index=as_times([self._cameras[c] for c in cameras]),
            start_index=times.searchsorted(as_times(starts)), end_index=times.searchsorted(as_times(ends)),
        )  # fmt: skip
        self._log.render_request(self._now_us, request)

    def _instants(self, camera: str, start_us: int, end_us: int) -> tuple[str, int, int]:
        """A shutter as it was: the wire has a global one last a microsecond."""
        if end_us - start_us == 1:
            for instant_us in (start_us, end_us):
                if instant_us in self._captures.get(camera, ()):
                    return camera, instant_us, instant_us
        return camera, start_us, end_us


def _rows(motion: EgoMotion, rows: slice) -> EgoMotion:
    return EgoMotion(motion.times_us[rows], motion.local_to_rig[rows], motion.dynamics[rows])
