"""A service that answers from logs and checks what it is asked, to be served under its protocol.

What it expects are the requests that the orchestrator makes when it runs on the log, as they
come out of the protocol's own server: rounded by the wire, and as little as the wire carries.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from grpc import StatusCode

from omniloop.core.calls import CallFunnel
from omniloop.core.cameras import Camera
from omniloop.core.contracts import Observation, RenderRequest, SessionInfo
from omniloop.core.errors import OmniloopError
from omniloop.imperfection.service import imperfect
from omniloop.imperfection.settings import FrameSettings, ImageSettings
from omniloop.orchestrator.rollout import run_rollout
from omniloop.runlog.leaves import first_unlike
from omniloop.runner.job import Job, Order, spec_of
from omniloop.runner.replaying.recorded import recorded_session
from omniloop.runner.replaying.recording import Recording
from omniloop.runner.replaying.setup import KINDS, config_of, replay_setup
from omniloop.services.roles import looped_back
from omniloop.services.rpc import Refusal
from omniloop.services.shelf import SceneShelf

log = logging.getLogger("omniloop.serve")

ROUNDED = 1e-4
"""How far apart numbers may be where the service was asked over its wire when it was recorded: a
quaternion that was made unit does not always round back to what was sent."""

UNROUNDED = 1e-3
"""How far apart they may be where it was not: the wire's rounding feeds back into what is asked next."""

_TOLD = ("time_us", "next_decision_us", "frames", "ego", "route", "actor_motion")
_REMOTE = ("remote", "omnidreams", "nurec")


def wire_tolerance(kind: str, recording: Recording) -> float:
    """`ROUNDED` for a service that was asked over its wire when it was recorded, else `UNROUNDED`."""
    config = config_of(recording)
    rounded = config.run.wire_precision is not None or getattr(config, kind).name in _REMOTE
    return ROUNDED if rounded else UNROUNDED


@dataclass
class Summary:
    """What a replay server did.

    Attributes:
        first: The first request that was not as recorded.
    """

    sessions: int = 0
    answered: int = 0
    mismatches: int = 0
    first: str = ""

    def __str__(self) -> str:
        told = f"{self.answered} request(s) answered in {self.sessions} session(s)"
        if not self.mismatches:
            return f"{told}, all as recorded"
        return f"{told}, {self.mismatches} not as recorded; first {self.first}"


class ReplayedService:
    """A service whose sessions answer from logs, and are asked what they were asked then.

    Args:
        kind: "policy", "traffic", "controller", "ground" or "renderer".
        recordings: By session id.
        tolerance: Numbers that are no further apart are the same; None for `wire_tolerance`.
        lenient: Answer what is not as recorded, too.

    Attributes:
        spec: What policy or renderer declared.
        summary: What was answered so far.
    """

    def __init__(
        self,
        kind: str,
        recordings: Mapping[str, Recording],
        tolerance: float | None = None,
        lenient: bool = False,
    ) -> None:
        self.kind = kind
        self.lenient = lenient
        self.summary = Summary()
        self._recordings = recordings
        self._opened: dict[str, int] = {}
        self._tapes: dict[tuple[str, bool], asyncio.Future[dict[Any, Any]]] = {}
        first = next(iter(recordings.values()))
        self.tolerance = wire_tolerance(kind, first) if tolerance is None else tolerance
        if kind == "policy":
            self.spec: Any = first.policy_spec()
        elif kind == "renderer":
            self.spec = first.renderer_spec()

    async def open(self, session: SessionInfo, cameras: tuple[Camera, ...] = ()) -> Any:
        """Begin a rollout: that of its name, or else of its scene and seed, or else the next of its scene.

        Raises:
            Refusal: there is no log of it (NOT_FOUND), or it has another seed (FAILED_PRECONDITION).
        """
        self.summary.sessions += 1
        scene_id = session.scene.id
        if session.session_id == scene_id:  # physics and sensorsim name a scene and nothing else
            found = [r for r in self._recordings.values() if r.header.scene_id == scene_id]
        else:
            found = [self._of(session)]
        if not found:
            raise _no_log(scene_id, self._recordings)
        alone = session.session_id == scene_id
        return _Checked(self, found, cameras, by_frame=alone and self.kind == "renderer")

    def _of(self, session: SessionInfo) -> Recording:
        scene_id = session.scene.id
        recording = self._recordings.get(session.session_id)
        if recording is not None:
            seed = recording.header.seeds.get(self.kind, 0)
            if session.seed not in (0, seed or 1):
                self.differs(f"{session.session_id}: seed is {session.seed}, recorded {seed}")
            return recording
        alike = [r for r in self._recordings.values() if r.header.scene_id == scene_id]
        if not alike:
            raise _no_log(scene_id, self._recordings)
        for one in alike:
            if one.header.seeds.get(self.kind) == session.seed:
                return one
        turn = self._opened.get(scene_id, 0)
        self._opened[scene_id] = turn + 1
        return alike[turn % len(alike)]

    async def expected(self, recording: Recording, by_frame: bool) -> dict[Any, Any]:
        """The requests of a rollout by `request_key`, in order; worked out once."""
        key = (recording.session_id, by_frame)
        if key not in self._tapes:
            self._tapes[key] = asyncio.ensure_future(taped(self.kind, recording, by_frame))
        return await asyncio.shield(self._tapes[key])

    def forget(self, recording: Recording, by_frame: bool) -> None:
        """Let go of what a session that is over needed."""
        self._tapes.pop((recording.session_id, by_frame), None)

    def differs(self, what: str) -> None:
        """Note a request that is not as recorded.

        Raises:
            Refusal: unless the service is lenient (FAILED_PRECONDITION).
        """
        self.summary.mismatches += 1
        self.summary.first = self.summary.first or what
        log.warning("%s", what)
        if not self.lenient:
            raise Refusal(StatusCode.FAILED_PRECONDITION, what)


class _Checked:
    """One rollout's session, or all rollouts of a scene where the protocol has no sessions.

    Args:
        by_frame: It is asked for single frames of one camera.
    """

    def __init__(
        self,
        service: ReplayedService,
        recordings: list[Recording],
        cameras: tuple[Camera, ...],
        by_frame: bool,
    ) -> None:
        self._service = service
        self._recordings = recordings
        self._cameras = cameras
        self._by_frame = by_frame
        self._in_order = service.kind != "ground" and not by_frame
        self._asked = 0
        self._answering: dict[str, Any] = {}

    async def _ask(self, request: Any) -> Any:
        service, kind = self._service, self._service.kind
        key = request_key(kind, request, self._cameras, self._by_frame)
        chosen, unlike = self._recordings[0], ""
        for recording in self._recordings:
            tape = await service.expected(recording, self._by_frame)
            told = self._difference(recording, tape, key, request)
            if not told:
                chosen, unlike = recording, ""
                break
            unlike = unlike or told
        self._asked += 1
        if unlike:
            service.differs(unlike)
        try:
            answer = await getattr(self._answers(chosen), _METHODS[kind])(request)
        except OmniloopError as error:
            raise Refusal(StatusCode.FAILED_PRECONDITION, error.what) from error
        service.summary.answered += 1
        return answer

    def _difference(
        self, recording: Recording, tape: dict[Any, Any], key: Any, request: Any
    ) -> str:
        """What of a request is not as recorded; empty if all is."""
        where, kind = f"{recording.session_id}: {self._service.kind}", self._service.kind
        if self._in_order:
            keys = list(tape)
            if self._asked >= len(keys):
                return f"{where} is asked at {_when(key)}, after its last recorded request"
            if key != keys[self._asked]:
                return f"{where} is asked at {_when(key)}, recorded {_when(keys[self._asked])}"
        if key not in tape:
            return f"{where} is asked at {_when(key)}, which it was not when it was recorded"
        unlike = first_unlike(_told(request, self._by_frame), _told(tape[key], self._by_frame),
                              self._service.tolerance)  # fmt: skip
        if unlike is None:
            return ""
        return (
            f"{recording.session_id}: at {_when(key)} the {kind} is asked something else:"
            f" {unlike.field} is {unlike.found}, recorded {unlike.recorded}"
        )

    def _answers(self, recording: Recording) -> Any:
        name = recording.session_id
        if name not in self._answering:
            self._answering[name] = recorded_session(self._service.kind, recording, self._cameras)
        return self._answering[name]

    plan = step = correct = render = _ask

    async def close(self) -> None:
        """Let go of what the rollout needed."""
        if self._in_order:
            self._service.forget(self._recordings[0], self._by_frame)
        for session in self._answering.values():
            await session.close()


_METHODS = {
    "policy": "plan", "traffic": "step", "controller": "step", "ground": "correct", "renderer": "render",
}  # fmt: skip


def request_key(kind: str, request: Any, cameras: tuple[Camera, ...], by_frame: bool) -> Any:
    """What tells the requests of a session apart: their times first of all."""
    if kind == "renderer":
        last_us = int(request.times_us[-1])
        return (last_us, cameras[0].id) if by_frame else int(request.times_us[0])
    if kind == "ground":
        return (
            request.time_us,
            f"{'ego' if request.is_ego else 'actors'} up to {request.target_us} us",
        )
    return request.time_us


def _when(key: Any) -> str:
    return f"{key[0]} us ({key[1]})" if isinstance(key, tuple) else f"{key} us"


def _told(request: Any, by_frame: bool) -> dict[str, Any]:
    """What of a request is compared."""
    names = [part.name for part in fields(request)]
    if isinstance(request, Observation):
        names = [name for name in names if name in _TOLD]
    elif isinstance(request, RenderRequest) and by_frame:
        names.remove("actors")
    return {name: getattr(request, name) for name in names}


def _no_log(scene_id: str, recordings: Mapping[str, Recording]) -> Refusal:
    have = ", ".join(sorted({r.header.scene_id for r in recordings.values()}))
    return Refusal(StatusCode.NOT_FOUND, f"there is no log of scene '{scene_id}', but of {have}")


# ---------------------------------------------------------------------------- the tape


async def taped(kind: str, recording: Recording, by_frame: bool = False) -> dict[Any, Any]:
    """What a service is asked in a rollout, as it comes out of its wire: by `request_key`.

    The orchestrator runs on the log's answers as far as they go.

    Args:
        by_frame: The renderer is asked for single frames.

    Raises:
        InputError: the wire cannot carry what was recorded.
    """
    config = config_of(recording)
    setup = replay_setup(config, {recording.session_id: recording}, KINDS)
    spec: Any = getattr(getattr(setup.services, kind), "spec", None)
    if by_frame:
        spec = replace(spec, chunk=None, stateful=False)
    taping = _Taping(kind, recording, by_frame, spec)
    wire = looped_back(kind, taping, SceneShelf(setup.source))
    # Pictures and their delays are answers; only what is asked matters.
    asked = config.imperfection.model_copy(
        update={"frames": FrameSettings(), "image": ImageSettings()}
    )
    disturbed = imperfect(kind, wire, asked, config.run.root_seed)
    await disturbed.connect()
    setup.services = replace(setup.services, **{kind: disturbed})
    header = recording.header
    rollout = spec_of(
        setup, setup.prepare(header.scene_id), Order(Job(header.scene_id, header.seed))
    )
    nobody: Any = _Nobody()
    try:
        await run_rollout(rollout, setup.services, nobody, CallFunnel(recording.session_id))
    except OmniloopError as error:
        log.info("%s is taped up to its end: %s", recording.session_id, error.what)
    return taping.requests


@dataclass
class _Taping:
    """A service that answers from a log and keeps what it is asked."""

    kind: str
    recording: Recording
    by_frame: bool
    spec: Any
    requests: dict[Any, Any] = field(default_factory=dict)

    async def open(self, session: SessionInfo, cameras: tuple[Camera, ...] = ()) -> Any:
        return _TapingSession(self, cameras, recorded_session(self.kind, self.recording, cameras))


class _TapingSession:
    def __init__(self, tape: _Taping, cameras: tuple[Camera, ...], answers: Any) -> None:
        self._tape = tape
        self._cameras = cameras
        self._answers = answers

    async def _ask(self, request: Any) -> Any:
        tape = self._tape
        tape.requests[request_key(tape.kind, request, self._cameras, tape.by_frame)] = request
        return await getattr(self._answers, _METHODS[tape.kind])(request)

    plan = step = correct = render = _ask

    async def close(self) -> None:
        await self._answers.close()


class _Nobody:
    """A recorder that keeps nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *message: None
