"""One rollout: the event loop that closes policy, vehicle, traffic and renderer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np

from omniloop.core.calls import CallFunnel
from omniloop.core.contracts import (
    CameraFrame,
    Observation,
    Plan,
    PolicySpec,
    Route,
    TrafficRequest,
    VehicleRequest,
)
from omniloop.core.errors import PolicyError, ServiceError
from omniloop.core.motion import ActorMotion, EgoMotion, Trajectory
from omniloop.core.record import Decision, RolloutRecord, lost_frames
from omniloop.core.replay import RecordedEgo
from omniloop.core.route import route_at
from omniloop.orchestrator.events import Event, EventQueue, Phase
from omniloop.orchestrator.fetch import Fetch, fetch_strategy
from omniloop.orchestrator.frame_call import render_frames
from omniloop.orchestrator.grounding import Grounding
from omniloop.orchestrator.interval import Interval
from omniloop.orchestrator.observe import FrameBuffer, ego_history
from omniloop.orchestrator.plans import Plans
from omniloop.orchestrator.recorder import Recorder
from omniloop.orchestrator.rollout_spec import RolloutSpec
from omniloop.orchestrator.services import Services, Sessions, open_sessions, session_info
from omniloop.orchestrator.world import World

_YIELD_EVERY = 4
_YIELD_S = 0.02
"""Services in this process never wait: after so many decisions, or so long, others and Ctrl-C get in."""

Watch = Callable[[EgoMotion, ActorMotion], str]
"""Looks at newly committed states; a non-empty answer ends the rollout."""


async def run_rollout(
    spec: RolloutSpec,
    services: Services,
    recorder: Recorder,
    call: CallFunnel,
    watch: Watch | None = None,
) -> RolloutRecord:
    """Simulate one rollout from context start to its end.

    Raises:
        PolicyError: the policy broke its contract.
        ServiceError: another service did.
        OmniloopError: a service refused the scene or its settings.
    """
    session = session_info(
        spec.session_id, spec.scene, spec.schedule, wire_uuid=spec.wire_uuid, is_retry=spec.is_retry
    )
    opening = open_sessions(
        services, session, spec.seeds, spec.cameras, call, addresses=spec.addresses
    )
    async with opening as sessions:
        loop = _Loop(spec, services.policy.spec, sessions, recorder, call, watch)
        return await loop.run()


class _Loop:
    """The state of one rollout and a handler for each phase."""

    def __init__(
        self,
        spec: RolloutSpec,
        policy: PolicySpec,
        sessions: Sessions,
        recorder: Recorder,
        call: CallFunnel,
        watch: Watch | None,
    ) -> None:
        self._spec = spec
        self._policy_spec = policy
        self._sessions = sessions
        self._record = recorder
        self._call = call
        self._watch = watch
        self._schedule = spec.schedule
        self._scene = spec.scene
        self._world = World(len(spec.scene.tracks))
        self._queue = EventQueue()
        self._fetch = fetch_strategy(spec.schedule)
        self._frames = FrameBuffer(policy, tuple(c.id for c in spec.cameras))
        self._recorded_ego = RecordedEgo(spec.scene)
        self._interval = Interval(-1, 0, 0, True)
        self._plans = Plans(spec.scene, spec.schedule, spec.longest_latency_us, spec.session_id)
        self._grounding = Grounding(spec.scene, spec.schedule, sessions.ground, call, recorder)
        self._estimate = None if spec.estimator is None else spec.estimator()
        self._route_s_m: float | None = None
        self._told_until_us: int | None = None
        self._ahead: tuple[int, EgoMotion, Route | None] | None = None
        self._anticipate = getattr(sessions.policy, "anticipate", None)
        self._stopped_by = ""
        self._resumed_s = time.perf_counter()
        self._lost: list[CameraFrame] = []
        self._handlers = {
            Phase.FRAME: self._deliver,
            Phase.POLICY: self._decide,
            Phase.VEHICLE: self._drive,
            Phase.EGO_GROUND: self._ground_ego,
            Phase.TRAFFIC: self._move_traffic,
            Phase.ACTOR_GROUND: self._ground_actors,
            Phase.COMMIT: self._commit,
            Phase.RENDER: self._render,
        }

    async def run(self) -> RolloutRecord:
        """Seed the world, render the initial frames, then pop events until the end."""
        schedule = self._schedule
        ego = self._recorded_ego.span(schedule.context_start_us, schedule.first_decision_us)
        times = np.array([schedule.context_start_us], dtype=np.int64)
        if schedule.first_decision_us > schedule.context_start_us:
            tail = self._spec.recorded_actors.between(
                schedule.context_start_us, schedule.first_decision_us
            )
            times = np.append(times, tail.times_us)
        span_us = schedule.context_start_us, schedule.first_decision_us
        ego, _ = await self._grounding.ego(ego, *span_us)
        actors = await self._grounding.actors(self._spec.recorded_actors.at(times), *span_us)
        self._commit_states(ego, actors, schedule.first_decision_us)
        await self._fetch_frames(self._fetch.initial(), schedule.context_start_us)
        self._queue.push(schedule.first_decision_us, Phase.POLICY, 0)
        self._queue.push(schedule.end_us, Phase.END)
        while True:
            event = self._queue.pop()
            if event.phase is Phase.END or self._stopped_by:
                break
            await self._handlers[event.phase](event)
        self._record.end(self._world.frontier_us, self._stopped_by)
        return RolloutRecord(
            session_id=self._spec.session_id, scene=self._scene, schedule=schedule,
            ego=self._world.ego_true, ego_estimated=self._world.ego_estimated, actors=self._world.actors,
            decisions=tuple(self._plans.decisions), privileged=tuple(sorted(self._policy_spec.privileged)),
            stopped_by=self._stopped_by, lost_frames=lost_frames(self._lost),
        )  # fmt: skip

    async def _deliver(self, event: Event) -> None:
        frame = event.payload
        assert isinstance(frame, CameraFrame)
        if frame.is_lost:
            self._lost.append(frame)
            self._record.lost_frame(frame)
            return
        self._frames.add(frame)
        self._record.frame(frame)

    async def _render(self, event: Event) -> None:
        fetch = self._fetch.after_commit(self._interval.index)
        if fetch is not None:
            await self._fetch_frames(fetch, event.time_us)

    async def _fetch_frames(self, fetch: Fetch, time_us: int) -> None:
        """Ask for frames at committed states and turn each into an event of its own time."""
        if self._sessions.renderer is None or not len(fetch.frames):
            return
        rendered = await render_frames(
            self._sessions.renderer, fetch, time_us, scene=self._scene, schedule=self._schedule,
            ego=self._world.ego_true, actors=self._world.actors, recorder=self._record, call=self._call,
        )  # fmt: skip
        for frame in rendered:
            self._queue.push(frame.available_us, Phase.FRAME, frame)

    async def _decide(self, event: Event) -> None:
        index, time_us = int(event.payload), event.time_us  # type: ignore[call-overload]
        target_us = time_us + self._schedule.decision_period_us
        warmup = self._schedule.is_warmup(time_us)
        self._interval = Interval(index, time_us, target_us, warmup)
        if not (warmup and self._spec.skip_services_in_warmup):
            observation = self._observe(time_us, target_us)
            self._record.observation(observation)
            self._told_until_us = time_us
            plan = await self._call(
                "policy", "plan", self._sessions.policy.plan(observation), time_us, Plan
            )
            decision = Decision(
                time_us=time_us, available_us=time_us + self._spec.latency_of(index),
                plan=plan, dropped=warmup, route=observation.route,
            )  # fmt: skip
            self._plans.add(decision)
            self._record.plan(decision)
            if plan.terminate and not warmup:
                self._stopped_by = "policy"
                return
            if not len(plan.local_to_rig) and not warmup:
                raise PolicyError(
                    "the policy has no plan after handover: its answer was empty",
                    where=f"{self._spec.session_id}, policy.plan at {time_us} us",
                    remedy="lengthen sync.warmup_s until the policy is ready, or mend the policy",
                )
        for phase in (
            Phase.VEHICLE,
            Phase.EGO_GROUND,
            Phase.TRAFFIC,
            Phase.ACTOR_GROUND,
            Phase.COMMIT,
            Phase.RENDER,
        ):
            self._queue.push(time_us, phase)
        if index + 1 < self._schedule.n_decisions:
            self._queue.push(target_us, Phase.POLICY, index + 1)

    def _look_ahead(self, time_us: int) -> None:
        """Tell a policy what the next observation will hold but for the frames."""
        if self._interval.target_us == time_us and self._anticipate is not None:
            self._anticipate(time_us, *self._state_at(time_us))

    def _state_at(self, time_us: int) -> tuple[EgoMotion, Route | None]:
        """Ego history and route of the decision at the frontier, worked out once."""
        if self._ahead is None or self._ahead[0] != time_us:
            spec, estimated, route = self._policy_spec, self._world.ego_estimated, None
            ego = ego_history(estimated, spec, time_us, self._told_until_us)
            if spec.route and self._spec.route is not None:
                route, self._route_s_m = route_at(
                    self._spec.route, estimated.local_to_rig[-1], time_us, near_s_m=self._route_s_m
                )
            self._ahead = (time_us, ego, route)
        return self._ahead[1:]

    def _observe(self, time_us: int, target_us: int) -> Observation:
        spec = self._policy_spec
        ego, route = self._state_at(time_us)
        sees_actors = "actors" in spec.privileged
        return Observation(
            session_id=self._spec.session_id,
            scene_id=self._scene.id,
            seed=self._spec.seeds["policy"],
            time_us=time_us,
            next_decision_us=target_us,
            ego=ego,
            frames=self._frames.history(time_us),
            route=route,
            vehicle=self._scene.vehicle,
            actors=self._scene.actors if sees_actors else None,
            actor_motion=self._world.actors if sees_actors else None,
            map=self._scene.map if "map" in spec.privileged else None,
            recording=self._scene.ego if "recording" in spec.privileged else None,
        )

    async def _drive(self, event: Event) -> None:
        step = self._interval
        recorded = self._recorded_ego.between(step.time_us, step.target_us) if step.warmup else None
        if recorded is not None and self._spec.skip_services_in_warmup:
            step.ego = recorded
            return
        now = self._world.ego_true
        request = VehicleRequest(
            time_us=step.time_us,
            target_us=step.target_us,
            local_to_rig=now.local_to_rig[-1],
            dynamics=now.dynamics[-1],
            plan_local_to_rig=self._plans.in_force(self._world, step.time_us, step.target_us),
            coerce=step.warmup,
        )
        answer = await self._call(
            "controller", "step", self._sessions.controller.step(request), event.time_us, EgoMotion
        )
        self._record.vehicle(request, answer)
        step.ego = answer if recorded is None else recorded

    async def _ground_ego(self, event: Event) -> None:
        step = self._interval
        assert step.ego is not None
        step.ego, step.ego_local_to_aabb = await self._grounding.ego(
            step.ego, step.time_us, step.target_us
        )

    async def _move_traffic(self, event: Event) -> None:
        step = self._interval
        recorded = (
            self._spec.recorded_actors.between(step.time_us, step.target_us)
            if step.warmup
            else None
        )
        if recorded is not None and self._spec.skip_services_in_warmup:
            step.actors = recorded
            return
        assert step.ego is not None and step.ego_local_to_aabb is not None  # noqa: PT018
        actors = self._world.actors
        request = TrafficRequest(
            time_us=step.time_us,
            target_us=step.target_us,
            ego_local_to_aabb=Trajectory.unchecked(step.ego.times_us, step.ego_local_to_aabb),
            current=ActorMotion(
                actors.times_us[-1:], actors.local_to_aabb[:, -1:], actors.valid[:, -1:]
            ),
        )
        answer = await self._call(
            "traffic", "step", self._sessions.traffic.step(request), event.time_us, ActorMotion
        )
        wanted = (len(self._scene.tracks), len(answer.times_us), 7)
        if answer.local_to_aabb.shape != wanted or answer.valid.shape != wanted[:2]:
            raise ServiceError(
                f"traffic answered with poses {answer.local_to_aabb.shape}, valid {answer.valid.shape}; wanted {wanted}",
                where=f"{self._spec.session_id} at {event.time_us} us",
                remedy="answer for every actor of the scene, in its order",
            )
        self._record.traffic(event.time_us, answer)
        step.actors = answer if recorded is None else recorded

    async def _ground_actors(self, event: Event) -> None:
        step = self._interval
        assert step.actors is not None
        step.actors = await self._grounding.actors(step.actors, step.time_us, step.target_us)

    async def _commit(self, event: Event) -> None:
        step = self._interval
        assert step.ego is not None and step.actors is not None  # noqa: PT018
        try:
            self._commit_states(step.ego, step.actors, step.target_us)
        except ValueError as error:
            raise ServiceError(
                f"motion cannot be committed: {error}",
                where=f"{self._spec.session_id} at {event.time_us} us",
            ) from error
        if step.index % _YIELD_EVERY == 0 or time.perf_counter() - self._resumed_s > _YIELD_S:
            await asyncio.sleep(0)
            self._resumed_s = time.perf_counter()
        if self._watch is not None and not step.warmup:
            self._stopped_by = self._watch(step.ego, step.actors)
        if self._anticipate is None or self._stopped_by:
            return
        last = step.index + 1 == self._schedule.n_decisions
        skipped = self._spec.skip_services_in_warmup and self._schedule.is_warmup(step.target_us)
        if not last and not skipped:
            # Two turns of the loop from here a renderer that is elsewhere is at work.
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: loop.call_soon(self._look_ahead, step.target_us))

    def _commit_states(self, ego: EgoMotion, actors: ActorMotion, until_us: int) -> None:
        estimated = ego if self._estimate is None else self._estimate(ego)
        self._world.commit(ego, estimated, actors, until_us)
        from_us = self._interval.time_us if self._interval.index >= 0 else int(ego.times_us[0])
        self._record.commit(from_us, ego, estimated, actors)
