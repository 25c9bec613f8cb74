"""Where the time of a run went, for its page and for the terminal; see ``docs/time_budget.md``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from omniloop.core.errors import RunFolderError
from omniloop.report.svg import stacked_bar
from omniloop.report.tabular import Table, number
from omniloop.runlog.budget import BUDGET_NAME, AddressTimes, Sitting, read_budget
from omniloop.runlog.results import RolloutResult
from omniloop.runlog.timings import times_of

HEADERS = (
    "Service", "Address", "Calls", "Busy (s)", "Busy (%)", "Waiting (s)", "Queueing (s)",
    "Mean call (ms)", "Longest (ms)",
)  # fmt: skip

_MOST_ROWS = 64
_MOST_SITTINGS = 12
_SPACE = "\N{NO-BREAK SPACE}"

_COLORS = {
    "queued": "#6b7480", "simulating": "#1d6fd1", "scoring": "#b08a1d", "video, result": "#8a3fb0",
    "policy": "#2a8a4a", "renderer": "#d1571d", "traffic": "#8a3fb0", "controller": "#b08a1d",
    "ground": "#3aa0a0", "own": "#1d6fd1",
}  # fmt: skip
_OTHER = "#c05a86"


@dataclass(frozen=True)
class SittingView:
    """A run at work, as it is shown.

    Attributes:
        bottleneck: What held it up.
        facts: Further lines.
        table: One row per service and address.
    """

    title: str
    bottleneck: str
    facts: tuple[str, ...]
    table: Table


@dataclass(frozen=True)
class Bar:
    """Parts of a mean rollout.

    Attributes:
        parts: Label, colour and seconds.
    """

    title: str
    svg: Markup
    parts: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True)
class Budget:
    """The time budget of a run.

    Attributes:
        note: Why there is none, or what is left out; empty if nothing is to be said.
        bars: Of its mean rollout.
    """

    sittings: tuple[SittingView, ...]
    note: str
    bars: tuple[Bar, ...]


def budget_of(run_dir: Path, results: Sequence[RolloutResult]) -> Budget:
    """Read a run's time budget; a file that is missing or not valid is named in the note."""
    note = ""
    try:
        found = read_budget(run_dir)
    except RunFolderError as error:
        found, note = (), f"{error.where} is ignored: {error.what}"
    if found is None:
        note = f"The run has no {BUDGET_NAME}: busy and queueing times are not known."
    sittings = found or ()
    shown = sittings[-_MOST_SITTINGS:]
    if len(shown) < len(sittings):
        note = f"The run was at work {len(sittings)} times; the last {len(shown)} are shown."
    first = len(sittings) - len(shown) + 1
    views = [_view(s, number, len(sittings)) for number, s in enumerate(shown, first)]
    return Budget(tuple(views), note, tuple(mean_rollout(results)))


def _view(sitting: Sitting, place: int, count: int) -> SittingView:
    which = f"Start {place} of {count}, " if count > 1 else ""
    retried = f", {sitting.retries} of them tried again" if sitting.retries else ""
    workers = "in the run's own process"
    if sitting.executor != "inline":
        workers = f"on {sitting.worker_count} workers ({sitting.executor})"
    ended = sitting.state if sitting.state != "running" else "cut off, or going on,"
    title = (
        f"{which}{sitting.started}: {ended} after {_seconds(sitting.wall_s)},"
        f" {sitting.rollouts} rollouts{retried}, {workers}"
    )
    return SittingView(
        title, sitting.efficiency.bottleneck, tuple(_facts(sitting)), _table(sitting)
    )


def _facts(sitting: Sitting) -> list[str]:
    near = sitting.efficiency
    lines = []
    if near.at_most is None:
        lines.append(f"Pipeline efficiency: not known, {near.reason}.")
    else:
        terms = sorted(near.terms_s.items(), key=lambda term: -term[1])
        told = ", ".join(f"{name} {_seconds(value)}" for name, value in terms)
        lines.append(
            f"Pipeline efficiency: at most {near.at_most:.3f}, the largest of {told} over the"
            f" {_seconds(sitting.wall_s)} that it took."
        )
    filled = sitting.slots_filled
    share = "" if filled is None else f", taken {100 * filled:.0f}{_SPACE}% of the time"
    lines.append(f"Places for rollouts: {sitting.slots:.3g}{share}.")
    waits = [(what, s) for what, s in sitting.queueing_s.items() if s >= 0.01]
    if waits:
        told = ", ".join(f"{what} {_seconds(s)}" for what, s in waits)
        lines.append(f"Rollouts were queued and could not begin, by what was full: {told}.")
    worker = sitting.worker_memory_mib
    each = ""
    if worker is not None:
        each = (
            f": the run {sitting.run_memory_mib:.0f}{_SPACE}MiB, a worker {worker:.0f}{_SPACE}MiB"
        )
    lines.append(
        f"Event loops were at most {sitting.lag_longest_ms:.0f}{_SPACE}ms late, in 99 of 100 seconds"
        f" at most {sitting.lag_p99_ms:.0f}{_SPACE}ms. Memory: at most {sitting.memory_mib:.0f}{_SPACE}MiB{each}."
    )
    return lines


def _table(sitting: Sitting) -> Table:
    here = "in this process" if sitting.executor == "inline" else "in the workers"
    found = sorted(sitting.services, key=lambda s: (not s.address, -s.busy_s))
    first = {s.service: s for s in reversed(found)}
    rows = []
    for s in found[:_MOST_ROWS]:
        rows.append((
            s.service, s.address or here, s.calls, s.busy_s,
            100.0 * s.busy_s / sitting.wall_s if sitting.wall_s else None, s.waiting_s,
            _queueing_s(sitting, s) if first[s.service] is s else None,
            1e3 * s.waiting_s / s.calls if s.calls else None, 1e3 * s.longest_s,
        ))  # fmt: skip
    notes: tuple[str, ...] = ()
    if len(found) > len(rows):
        notes = (f"{len(found) - len(rows)} more addresses are in {BUDGET_NAME}",)
    return Table("budget", "", HEADERS, tuple(rows), notes)


def _queueing_s(sitting: Sitting, times: AddressTimes) -> float | None:
    """Time in which a rollout was queued for sessions of a service, at whichever address."""
    if not times.address:
        return None
    waited = sitting.queueing_s.items()
    return float(sum(s for what, s in waited if times.service in what.split("+")))


def mean_rollout(results: Sequence[RolloutResult]) -> list[Bar]:
    """The mean over completed rollouts of their times, from the run's start and while simulated."""
    completed = [times_of(r) for r in results if r.outcome == "completed"]
    timed = [t for t in completed if t.rollout_s is not None]
    if not timed:
        return []

    def mean(values: Sequence[float | None]) -> float:
        return sum(value or 0.0 for value in values) / len(timed)

    whole = {
        "queued": mean([t.queued_s for t in timed]),
        "simulating": mean([t.rollout_s for t in timed]),
        "scoring": mean([t.scoring_s for t in timed]),
        "video, result": mean([t.rest_s for t in timed]),
    }
    names = dict.fromkeys(name for t in timed for name in t.services)
    parts = {name: mean([t.services.get(name) for t in timed]) for name in names}
    parts = dict(sorted(parts.items(), key=lambda part: -part[1]))
    parts["own"] = mean([t.own_s for t in timed])
    return [
        _bar("Mean rollout, from the run's start", whole),
        _bar("Mean rollout, while it is simulated", parts),
    ]


def _bar(title: str, parts: dict[str, float]) -> Bar:
    colored = tuple((name, _COLORS.get(name, _OTHER), value) for name, value in parts.items())
    return Bar(f"{title}: {_seconds(sum(parts.values()))}", stacked_bar(title, colored), colored)


def _seconds(value: float) -> str:
    return f"{number(value)}{_SPACE}s"
