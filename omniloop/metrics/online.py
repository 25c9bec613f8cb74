"""Incidents as they happen, found by what the metrics themselves use."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from omniloop.core.motion import ActorMotion, EgoMotion, Mask, Times
from omniloop.core.replay import RecordedActors, recorded_motion_at
from omniloop.core.scene import Scene
from omniloop.core.schedule import Schedule
from omniloop.core.time import SCORE_STEP_US
from omniloop.metrics.contacts import PER_STEP, VERTICAL_TOLERANCE_M, find_overlaps
from omniloop.metrics.excursions import NO_SURFACE, TOLERANCE_M, depth_m
from omniloop.metrics.samples import ignored_since_handover
from omniloop.scenes.surface import drivable_surface


class IncidentWatch:
    """Watches a rollout for its first collision and its first excursion off the road.

    Give it all states as they are committed. A grid step is looked at as soon as it is
    committed as a whole, so that an incident is found in the same sample as by
    `CollisionMetric` and `OffroadMetric` with the same thresholds.

    Attributes:
        first_us: When each kind of incident that has happened began.
        blind: Kinds of incident that cannot be seen in this scene, with the reason.

    Args:
        recorded_actors: The scene's recorded traffic, if it is at hand.
        offroad_tolerance_m: As `OffroadMetric`.
        vertical_tolerance_m: As `CollisionMetric`.
    """

    def __init__(
        self,
        scene: Scene,
        schedule: Schedule,
        *,
        recorded_actors: RecordedActors | None = None,
        offroad_tolerance_m: float = TOLERANCE_M,
        vertical_tolerance_m: float = VERTICAL_TOLERANCE_M,
    ) -> None:
        self.first_us: dict[str, int] = {}
        self._scene = scene
        self._recorded_actors = recorded_actors
        self._surface = drivable_surface(scene.map)
        self.blind = {} if self._surface is not None else {"offroad": NO_SURFACE}
        self._offroad_tolerance_m = offroad_tolerance_m
        self._vertical_tolerance_m = vertical_tolerance_m
        self._done_us = schedule.handover_us
        self._ego: EgoMotion | None = None
        self._actors: ActorMotion | None = None
        self._ignored: dict[str, Mask] = {}

    def advance(self, ego: EgoMotion, actors: ActorMotion) -> tuple[str, ...]:
        """Take the states of an interval.

        Args:
            ego: True states after those given before.
            actors: Likewise, up to the same time.

        Returns:
            Which of "collision" and "offroad" happened for the first time, by time. If the
            first states given lie after handover, those at handover are the recording's.
        """
        if self._ego is None or self._actors is None:
            ego, actors = self._with_handover(ego, actors)
        else:
            ego, actors = _join_ego(self._ego, ego), _join_actors(self._actors, actors)
        grid_us = np.arange(self._done_us, int(ego.times_us[-1]) + 1, SCORE_STEP_US, dtype=np.int64)
        happened: list[tuple[int, str]] = []
        if len(grid_us) > 1:
            overlaps = find_overlaps(
                ego, actors, self._scene.vehicle, self._scene.actor_sizes_m, grid_us,
                vertical_tolerance_m=self._vertical_tolerance_m,
            )  # fmt: skip
            happened += self._new(
                "collision", overlaps.times_us, overlaps.overlapping, overlaps.seen
            )
            if self._surface is not None:
                corners = overlaps.ego.corners_xy[::PER_STEP]
                off = depth_m(corners, self._surface) > self._offroad_tolerance_m
                happened += self._new(
                    "offroad", grid_us, off[None], np.ones((1, len(off)), dtype=bool)
                )
            self._done_us = int(grid_us[-1])
        # What comes next needs the states around the last sample looked at, and no more.
        self._ego, self._actors = _ego_from(ego, self._done_us), _actors_from(actors, self._done_us)
        return tuple(kind for _, kind in sorted(happened))

    def stop_on(self, kinds: Collection[str]) -> Callable[[EgoMotion, ActorMotion], str]:
        """A function of newly committed states: the first of `kinds` that happened, or ""."""

        def look(ego: EgoMotion, actors: ActorMotion) -> str:
            return next((kind for kind in self.advance(ego, actors) if kind in kinds), "")

        return look

    def _new(self, kind: str, times_us: Times, event: Mask, seen: Mask) -> list[tuple[int, str]]:
        """Note the first time ``(K,)`` at which an event ``(N, K)`` counts."""
        before = self._ignored.get(kind, event[:, 0])
        ignored = ignored_since_handover(event, seen, before)
        self._ignored[kind] = ignored[:, -1]
        at = np.flatnonzero((event & ~ignored).any(axis=0))
        if kind in self.first_us or not len(at):
            return []
        self.first_us[kind] = int(times_us[at[0]])
        return [(self.first_us[kind], kind)]

    def _with_handover(self, ego: EgoMotion, actors: ActorMotion) -> tuple[EgoMotion, ActorMotion]:
        """Put the recorded states at handover before states that begin after it."""
        handover = np.array([self._done_us], dtype=np.int64)
        if ego.times_us[0] > self._done_us:
            ego = _join_ego(recorded_motion_at(self._scene.ego, handover), ego)
        if actors.times_us[0] > self._done_us:
            recorded = self._recorded_actors or RecordedActors(self._scene)
            actors = _join_actors(recorded.at(handover), actors)
        return ego, actors


def _join_ego(first: EgoMotion, then: EgoMotion) -> EgoMotion:
    return EgoMotion(
        np.concatenate([first.times_us, then.times_us]),
        np.concatenate([first.local_to_rig, then.local_to_rig]),
        np.concatenate([first.dynamics, then.dynamics]),
    )


def _join_actors(first: ActorMotion, then: ActorMotion) -> ActorMotion:
    return ActorMotion(
        np.concatenate([first.times_us, then.times_us]),
        np.concatenate([first.local_to_aabb, then.local_to_aabb], axis=1),
        np.concatenate([first.valid, then.valid], axis=1),
    )


def _start(times_us: Times, from_us: int) -> int:
    return max(int(np.searchsorted(times_us, from_us, side="right")) - 1, 0)


def _ego_from(ego: EgoMotion, from_us: int) -> EgoMotion:
    at = _start(ego.times_us, from_us)
    return EgoMotion(ego.times_us[at:], ego.local_to_rig[at:], ego.dynamics[at:])


def _actors_from(actors: ActorMotion, from_us: int) -> ActorMotion:
    at = _start(actors.times_us, from_us)
    return ActorMotion(actors.times_us[at:], actors.local_to_aabb[:, at:], actors.valid[:, at:])
