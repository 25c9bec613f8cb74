"""What tasks hold from their start to their end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from omniloop.core.errors import ConfigError
from omniloop.runner.batch.fairness import Request
from omniloop.runner.batch.places import Assignment, Place, Worker
from omniloop.runner.batch.scene_queues import Task


@dataclass(eq=False)
class _Held:
    places: tuple[Place, ...]
    trials: tuple[Place, ...]
    request: Request
    worker: Worker
    simulating: bool = True


class Begun:
    """Tasks that began and are not over.

    Attributes:
        in_flight: Those that hold services.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._held: dict[int, _Held] = {}
        self._started = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, assignment: Assignment) -> bool:
        return assignment.number in self._held

    def begin(
        self,
        task: Task,
        attempt: int,
        request: Request,
        worker: Worker,
        chosen: Mapping[str, Place],
        now_s: float,
    ) -> Assignment:
        """Take a place of a worker and a session at each address chosen; all have room."""
        assignment = Assignment(
            self._started, task, worker.place.name, {k: p.name for k, p in chosen.items()},
            attempt, now_s,
        )  # fmt: skip
        self._started += 1
        places = (*chosen.values(), worker.place)
        for place in places:
            place.used += 1
        trials = tuple(place for place in chosen.values() if place.breaker.begin())
        self._held[assignment.number] = _Held(places, trials, request, worker)
        worker.held[assignment.number] = assignment
        request.in_flight += 1
        request.held += 1
        self.in_flight += 1
        return assignment

    def release(self, assignment: Assignment) -> None:
        """Give back what simulating needs, if that was not done.

        Raises:
            ConfigError: the task is over, or was never begun.
        """
        held = self._get(assignment)
        if held.simulating:
            held.simulating = False
            for place in held.places:
                place.used -= 1
            for place in held.trials:
                place.breaker.trial_over()
            held.request.in_flight -= 1
            self.in_flight -= 1

    def end(self, assignment: Assignment) -> tuple[Request, Worker]:
        """Give back everything; return whose task it was.

        Raises:
            ConfigError: the task is over, or was never begun.
        """
        self.release(assignment)
        held = self._held.pop(assignment.number)
        held.request.held -= 1
        del held.worker.held[assignment.number]
        return held.request, held.worker

    def _get(self, assignment: Assignment) -> _Held:
        held = self._held.get(assignment.number)
        if held is None:
            raise ConfigError(
                f"start {assignment.number} is over or unknown", where=assignment.task.name
            )
        return held
