"""How well and how quickly controllers follow plans."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from omniloop.bench.tracking_paths import PATHS, Cut, Path, drive, lane_change, open_session, stop
from omniloop.core.motion import EgoMotion
from omniloop.core.registry import create

PERIODS_US = (100_000, 533_328)
_CUTS: tuple[Cut, ...] = ("progress", "time")
STOP = (10.0, 2.0)
"""Speed [m/s] and deceleration [m/s^2] of the stop."""

_TIMED = 5


@dataclass(frozen=True)
class Entry:
    """A controller with its settings."""

    label: str
    name: str
    settings: dict[str, Any]

    def open(self) -> Any:
        """A new session of it."""
        return open_session(create("controller", self.name, self.settings))


ENTRIES = (
    Entry("perfect", "perfect", {}),
    Entry("bicycle, kinematic", "bicycle", {"vehicle_model": "kinematic"}),
    Entry("bicycle, dynamic", "bicycle", {"vehicle_model": "dynamic"}),
    Entry("lqr, kinematic", "lqr", {"vehicle_model": "kinematic"}),
    Entry("lqr, dynamic", "lqr", {"vehicle_model": "dynamic"}),
    Entry(
        "lqr, kinematic, no feedforward", "lqr",
        {"vehicle_model": "kinematic", "feedforward": False},
    ),
    Entry("mpc, kinematic", "mpc", {"vehicle_model": "kinematic"}),
    Entry("mpc, dynamic", "mpc", {"vehicle_model": "dynamic"}),
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One controller's figures.

    Attributes:
        cross_track_m: Largest distance from each of `PATHS`.
        stop_m: Where it stands after the stop, beyond the plan's stop point: the worst.
        decision_ms: Median time of one decision; None where there is none to time.
        call_ms: Median time of a call of 533 ms.
        failures: Solves without a solution.
    """

    label: str
    cross_track_m: tuple[float, ...]
    stop_m: float
    decision_ms: float | None
    call_ms: float
    failures: int


def run(lateral_mps2: float) -> Iterator[Measured]:
    """Measure all controllers: the worst over new plans every 100 and 533 ms, cut from the path at
    ego's progress and at the schedule's time.

    Args:
        lateral_mps2: Largest lateral acceleration of the paths.
    """
    for entry in ENTRIES:
        failures, errors = 0, []
        for make in PATHS:
            path, worst = make(lateral_mps2), 0.0
            for period_us, cut in product(PERIODS_US, _CUTS):
                session = entry.open()
                worst = max(worst, largest_error_m(path, drive(session, path, period_us, cut)))
                failures += _failures(session)
            errors.append(worst)
        path, stops = stop(*STOP), []
        for period_us, cut in product(PERIODS_US, _CUTS):
            session = entry.open()
            stops.append(stop_error_m(path, drive(session, path, period_us, cut)))
            failures += _failures(session)
        decision_ms, call_ms = _timed(entry, lateral_mps2)
        yield Measured(
            entry.label, tuple(errors), max(stops, key=abs), decision_ms, call_ms, failures
        )


def largest_error_m(path: Path, driven: EgoMotion) -> float:
    """Largest distance from a path, whatever its side."""
    return float(np.abs(path.cross_track_m(driven.local_to_rig[:, :2])[1]).max())


def stop_error_m(path: Path, driven: EgoMotion) -> float:
    """How far beyond the schedule's end ego is at last, on a straight."""
    return float(driven.local_to_rig[-1, 0] - path.driven_m[-1])


def _failures(session: Any) -> int:
    facts = session.facts() if hasattr(session, "facts") else {}
    return int(facts.get("solve_failures", 0))


def _timed(entry: Entry, lateral_mps2: float) -> tuple[float | None, float]:
    """Median milliseconds of a decision and of a call of 533 ms; the best of a few drives."""
    path, deciding, calling = lane_change(lateral_mps2), [], []
    for _ in range(_TIMED):
        session = entry.open()
        call = _Timer(session, "step")
        follower = getattr(session, "follower", None)
        decision = _Timer(follower, "decide") if follower is not None else None
        drive(session, path, PERIODS_US[-1])
        calling.append(call.median_ms())
        if decision is not None:
            deciding.append(decision.median_ms())
    # Pursuit decides nothing for a while: it steers anew at every sub-step.
    decides = bool(deciding) and entry.name != "bicycle"
    return min(deciding) if decides else None, min(calling)


class _Timer:
    """Takes the time of every call of an object's method."""

    def __init__(self, owner: Any, method: str) -> None:
        self._spent_s: list[float] = []
        self._call = getattr(owner, method)
        setattr(owner, method, self)

    def __call__(self, *arguments: Any) -> Any:
        began = time.perf_counter()
        answer = self._call(*arguments)
        self._spent_s.append(time.perf_counter() - began)
        return answer

    def median_ms(self) -> float:
        return 1e3 * statistics.median(self._spent_s)


def table(measured: list[Measured]) -> str:
    """A table in Markdown; distances in metres, times in milliseconds."""
    names = [make(1.0).name for make in PATHS]
    head = [
        "controller, vehicle", *names, "stop", "ms a decision", "ms a 533 ms call", "to perfect",
        "failed solves",
    ]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for row in measured:
        lines.append([
            row.label, *(f"{e:.3f}" if e > 1e-5 else f"{e:.0e}" for e in row.cross_track_m),
            f"{row.stop_m:+.2f}", "" if row.decision_ms is None else f"{row.decision_ms:.2f}",
            f"{row.call_ms:.2f}", f"{row.call_ms / measured[0].call_ms:.0f} x", str(row.failures),
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
