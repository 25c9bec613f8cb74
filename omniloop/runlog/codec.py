"""Core messages to protobuf and back, bit for bit; no input or output.

Every ``encode_x`` returns the bytes of one message of `omniloop.log.v1`; ``decode`` turns
the bytes of a topic into core types.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from omniloop.core.contracts import (
    CameraFrame,
    ChunkRule,
    GroundResult,
    Observation,
    Plan,
    RenderRequest,
    Route,
    VehicleRequest,
)
from omniloop.core.motion import ActorMotion, EgoMotion, Times
from omniloop.core.record import Decision
from omniloop.core.schedule import CameraClock, FrameTimes, Schedule
from omniloop.runlog import messages as topics
from omniloop.runlog.messages import (
    LOG_VERSION,
    Committed,
    End,
    FrameInfo,
    FramesAsked,
    LogHeader,
    Notice,
    Observed,
)
from omniloop.runlog.motion_codec import (
    decode_actors,
    decode_ego,
    decode_route,
    decode_trajectory,
    encode_actors,
    encode_ego,
    encode_route,
    encode_trajectory,
    same_bits,
    to_bytes,
)
from omniloop.runlog.proto import log_pb2 as pb
from omniloop.runlog.wire import doubles, embedded, float64s, int64s, sfixed64s


def _text(value: str) -> str:
    """Text that UTF-8 can hold: lone surrogates are written as escapes."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


# ---------------------------------------------------------------------------- header


def encode_header(header: LogHeader, config_json: str) -> bytes:
    """Encode `Header`."""
    message = pb.Header(
        version=LOG_VERSION,
        session_id=header.session_id,
        scene_id=header.scene_id,
        seed=header.seed,
        schedule=_schedule_message(header.schedule),
        seeds=[pb.NamedSeed(name=n, seed=s) for n, s in sorted(header.seeds.items())],
        plugins=[pb.NamedPlugin(kind=k, name=n) for k, n in sorted(header.plugins.items())],
        privileged=header.privileged,
        scene_sha256=header.scene_sha256,
        config_json=config_json,
    )
    return to_bytes(message)


def _header(message: Any) -> LogHeader:
    if message.version > LOG_VERSION:
        raise ValueError(
            f"log version {message.version} is newer than {LOG_VERSION}, the newest known"
        )
    return LogHeader(
        session_id=message.session_id,
        scene_id=message.scene_id,
        seed=message.seed,
        schedule=_schedule(message.schedule),
        seeds={s.name: s.seed for s in message.seeds},
        plugins={p.kind: p.name for p in message.plugins},
        privileged=tuple(message.privileged),
        scene_sha256=message.scene_sha256,
        config=json.loads(message.config_json) if message.config_json else {},
    )


def _schedule_message(s: Schedule) -> Any:
    message = pb.Schedule(
        context_start_us=s.context_start_us, render_start_us=s.render_start_us,
        first_decision_us=s.first_decision_us, decision_period_us=s.decision_period_us,
        n_decisions=s.n_decisions, n_warmup=s.n_warmup,
        decisions_per_chunk=s.decisions_per_chunk, postfetch=s.postfetch,
        clocks=[
            pb.CameraClock(
                camera_id=c.camera_id, first_end_us=c.first_end_us,
                interval_us=c.interval_us, shutter_us=c.shutter_us,
            )
            for c in s.clocks
        ],
    )  # fmt: skip
    if s.chunk is not None:
        message.chunk.frames, message.chunk.fps = s.chunk.frames, s.chunk.fps
    return message


def _schedule(m: Any) -> Schedule:
    return Schedule(
        context_start_us=m.context_start_us, render_start_us=m.render_start_us,
        first_decision_us=m.first_decision_us, decision_period_us=m.decision_period_us,
        n_decisions=m.n_decisions, n_warmup=m.n_warmup,
        chunk=ChunkRule(m.chunk.frames, m.chunk.fps) if m.HasField("chunk") else None,
        clocks=tuple(CameraClock(c.camera_id, c.first_end_us, c.interval_us, c.shutter_us) for c in m.clocks),
        decisions_per_chunk=m.decisions_per_chunk, postfetch=m.postfetch,
    )  # fmt: skip


def without_config(header: bytes) -> bytes:
    """A header's bytes without settings and plugin names: what of it was simulated."""
    message = pb.Header.FromString(header)
    message.ClearField("config_json")
    message.ClearField("plugins")
    return to_bytes(message)


# ---------------------------------------------------------------------------- policy


def encode_observation(observation: Observation, told_until_us: int | None) -> bytes:
    """Encode `Observation` with the ego states after `told_until_us`; None for all."""
    o = observation
    held = {
        "actors": o.actor_motion is not None,
        "map": o.map is not None,
        "recording": o.recording is not None,
    }
    message = pb.Observation(
        time_us=o.time_us,
        next_decision_us=o.next_decision_us,
        frames=[
            pb.FramesSeen(
                camera_id=camera,
                capture_us=[f.capture_us for f in frames],
                available_us=[f.available_us for f in frames],
            )
            for camera, frames in o.frames.items()
        ],
        privileged=[name for name, is_held in held.items() if is_held],
    )
    ego = o.ego
    if told_until_us is not None:
        new = int(np.searchsorted(ego.times_us, told_until_us, side="right"))
        ego = EgoMotion(ego.times_us[new:], ego.local_to_rig[new:], ego.dynamics[new:])
    data = to_bytes(message) + embedded(4, encode_ego(ego))
    return data + (b"" if o.route is None else embedded(5, encode_route(o.route)))


def _observation(m: Any) -> Observed:
    return Observed(
        time_us=m.time_us,
        next_decision_us=m.next_decision_us,
        frames={
            f.camera_id: tuple(zip(f.capture_us, f.available_us, strict=True)) for f in m.frames
        },
        ego=decode_ego(m.ego),
        route=decode_route(m.route) if m.HasField("route") else None,
        privileged=tuple(m.privileged),
    )


def encode_plan(decision: Decision, observed: Route | None) -> bytes:
    """Encode `Plan`; a route that is `observed` itself is not written again."""
    plan = decision.plan
    as_observed = decision.route is not None and decision.route is observed
    message = pb.Plan(
        time_us=decision.time_us,
        available_us=decision.available_us,
        dropped=decision.dropped,
        reasoning=_text(plan.reasoning),
        terminate=plan.terminate,
        route_as_observed=as_observed,
    )
    parts = [to_bytes(message), embedded(4, encode_trajectory(plan.local_to_rig))]
    parts += [embedded(5, encode_trajectory(sample)) for sample in plan.samples]
    if decision.route is not None and not as_observed:
        parts.append(embedded(9, encode_route(decision.route)))
    return b"".join(parts)


def decode_plan(data: bytes, observed: Route | None) -> Decision:
    """Decode `Plan`; `observed` is the route of the observation before it."""
    m = pb.Plan.FromString(data)
    route = observed if m.route_as_observed else None
    if m.HasField("route"):
        route = decode_route(m.route)
    plan = Plan(
        decode_trajectory(m.local_to_rig),
        tuple(decode_trajectory(s) for s in m.samples),
        m.reasoning,
        m.terminate,
    )
    return Decision(m.time_us, m.available_us, plan, m.dropped, route)


# ------------------------------------------------- vehicle, ground, traffic and commit


def encode_vehicle(request: VehicleRequest, answer: EgoMotion) -> bytes:
    """Encode `Vehicle`."""
    head = pb.Vehicle(time_us=request.time_us, target_us=request.target_us, coerce=request.coerce)
    return b"".join(
        [
            to_bytes(head),
            doubles(3, request.local_to_rig),
            doubles(4, request.dynamics),
            embedded(5, encode_trajectory(request.plan_local_to_rig)),
            embedded(7, encode_ego(answer)),
        ]
    )


def _vehicle(m: Any) -> tuple[VehicleRequest, EgoMotion]:
    request = VehicleRequest(
        time_us=m.time_us,
        target_us=m.target_us,
        local_to_rig=float64s(m.local_to_rig, 7),
        dynamics=float64s(m.dynamics, 12),
        plan_local_to_rig=decode_trajectory(m.plan_local_to_rig),
        coerce=m.coerce,
    )
    return request, decode_ego(m.answer)


def encode_ground(time_us: int, subject: str, result: GroundResult) -> bytes:
    """Encode `Ground`."""
    status = np.asarray(result.status).reshape(-1).tolist()
    head = pb.Ground(time_us=time_us, subject=subject, status=status)
    return to_bytes(head) + doubles(3, result.local_to_aabb)


def _ground(m: Any) -> tuple[int, str, GroundResult]:
    return m.time_us, m.subject, GroundResult(float64s(m.local_to_aabb, -1, 7), int64s(m.status))


def encode_traffic(time_us: int, answer: ActorMotion) -> bytes:
    """Encode `Traffic`."""
    return to_bytes(pb.Traffic(time_us=time_us)) + embedded(2, encode_actors(answer))


def _traffic(m: Any) -> tuple[int, ActorMotion]:
    return m.time_us, decode_actors(m.answer)


def encode_commit(
    time_us: int, ego_true: EgoMotion, ego_estimated: EgoMotion, actors: ActorMotion
) -> bytes:
    """Encode `Commit`."""
    same = ego_estimated is ego_true or all(
        same_bits(getattr(ego_true, name), getattr(ego_estimated, name))
        for name in ("times_us", "local_to_rig", "dynamics")
    )
    parts = [to_bytes(pb.Commit(time_us=time_us)), embedded(2, encode_ego(ego_true))]
    if not same:
        parts.append(embedded(3, encode_ego(ego_estimated)))
    parts.append(embedded(4, encode_actors(actors)))
    return b"".join(parts)


def _commit(m: Any) -> Committed:
    true = decode_ego(m.ego_true)
    estimated = decode_ego(m.ego_estimated) if m.HasField("ego_estimated") else true
    return Committed(m.time_us, true, estimated, decode_actors(m.actors))


# ------------------------------------------------------------------ frames and the rest


def encode_render_request(time_us: int, request: RenderRequest) -> bytes:
    """Encode `RenderRequest`: times and frames; states follow from the commits."""
    head = pb.RenderRequest(
        time_us=time_us,
        camera_index=request.camera_index.tolist(),
        start_index=request.start_index.tolist(),
        end_index=request.end_index.tolist(),
    )
    return to_bytes(head) + sfixed64s(2, request.times_us)


def _render_request(m: Any) -> FramesAsked:
    times: Times = int64s(m.times_us)
    start, end = times[int64s(m.start_index)], times[int64s(m.end_index)]
    return FramesAsked(m.time_us, times, FrameTimes(int64s(m.camera_index), start, end))


def encode_frame(frame: CameraFrame) -> bytes:
    """Encode `Frame`: a frame's times."""
    message = pb.Frame(
        camera_id=frame.camera_id, start_us=frame.start_us,
        capture_us=frame.capture_us, available_us=frame.available_us,
    )  # fmt: skip
    return to_bytes(message)


def _frame(m: Any) -> FrameInfo:
    return FrameInfo(m.camera_id, m.start_us, m.capture_us, m.available_us)


def encode_notice(time_us: int, text: str) -> bytes:
    """Encode `Notice`."""
    return to_bytes(pb.Notice(time_us=time_us, text=_text(text)))


def encode_end(frontier_us: int, stopped_by: str) -> bytes:
    """Encode `End`."""
    return to_bytes(pb.End(frontier_us=frontier_us, stopped_by=_text(stopped_by)))


MESSAGES: dict[str, Any] = {
    topics.HEADER: pb.Header, topics.OBSERVATION: pb.Observation, topics.PLAN: pb.Plan,
    topics.VEHICLE: pb.Vehicle, topics.GROUND: pb.Ground, topics.TRAFFIC: pb.Traffic,
    topics.COMMIT: pb.Commit, topics.RENDER_REQUEST: pb.RenderRequest, topics.FRAME: pb.Frame,
    topics.NOTICE: pb.Notice, topics.END: pb.End, topics.LOST_FRAME: pb.Frame,
}  # fmt: skip
"""Topic to message class, for every topic below ``/omniloop/``."""

_DECODERS: dict[str, Callable[[Any], Any]] = {
    topics.HEADER: _header, topics.OBSERVATION: _observation, topics.VEHICLE: _vehicle,
    topics.GROUND: _ground, topics.TRAFFIC: _traffic, topics.COMMIT: _commit,
    topics.RENDER_REQUEST: _render_request, topics.FRAME: _frame,
    topics.LOST_FRAME: _frame,
    topics.NOTICE: lambda m: Notice(m.time_us, m.text),
    topics.END: lambda m: End(m.frontier_us, m.stopped_by),
}  # fmt: skip


def decode(topic: str, data: bytes) -> Any:
    """Decode a message of a topic; plans need their route: see `decode_plan`.

    Returns:
        header `LogHeader`, observation `Observed`, vehicle ``(VehicleRequest, EgoMotion)``,
        ground ``(time_us, subject, GroundResult)``, traffic ``(time_us, ActorMotion)``,
        commit `Committed`, render_request `FramesAsked`, frame and lost_frame
        `FrameInfo`, notice `Notice`, end `End`.

    Raises:
        ValueError: the bytes do not fit the topic, or are of a newer log version.
        google.protobuf.message.DecodeError: they are no protobuf message.
    """
    return _DECODERS[topic](MESSAGES[topic].FromString(data))
