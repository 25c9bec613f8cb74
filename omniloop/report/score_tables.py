"""Scores over many rollouts as tables: in full for programs, brief for people."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from pathlib import Path

from omniloop.core.errors import ConfigError, nearest
from omniloop.report.aggregate import (
    Aggregate,
    Score,
    parts_per_km,
    per_km_names,
    score_names,
)
from omniloop.report.intervals import Interval
from omniloop.report.runs import Run, scores_of
from omniloop.report.summary import COLLISION_CLASSES, KEY_COLUMNS, outcome_label
from omniloop.report.tabular import (
    FULL_FORMATS,
    SUFFIXES,
    Table,
    Value,
    number,
    text,
    to_bytes,
)
from omniloop.runlog.files import write_atomic
from omniloop.runlog.results import RolloutResult

SCORES_NAME = "scores"
"""``scores.csv``, ``.md``, ``.tex`` and ``.parquet`` stand beside ``metrics.parquet``."""

_FULL_HEADERS = (
    "group", "score", "value", "low", "high", "unit", "reduction", "interval", "better", "valid",
    "rollouts", "scenes", "count", "basis", "reason", "interval_reason",
)  # fmt: skip

_KEY_NAMES = frozenset(
    {*(c.name for c in KEY_COLUMNS), *(f"collision_{kind}" for kind in COLLISION_CLASSES),
     "incident_in_tube_per_km"}
)  # fmt: skip


def full_table(groups: Sequence[Aggregate], title: str = "") -> Table:
    """One row for each group and score, outcomes first; numbers as they are."""
    rows: list[tuple[Value, ...]] = []
    for group in groups:
        for outcome, count in group.outcomes.items():
            empty = (None,) * 2
            rows.append(
                (group.label, outcome, count, *empty, "rollouts", "count", None, None, group.rollouts,
                 group.rollouts, group.scenes, count, None, None, None)
            )  # fmt: skip
        rows += [_full_row(group.label, score) for score in group.scores]
    return Table(SCORES_NAME, title, _FULL_HEADERS, tuple(rows))


def _full_row(label: str, score: Score) -> tuple[Value, ...]:
    interval = score.interval
    return (
        label, score.name, score.value, interval.low, interval.high, score.unit or None,
        score.reduction, interval.method or None, score.better, score.valid, score.rollouts,
        score.scenes, score.count, score.basis or None, score.reason or None, interval.reason or None,
    )  # fmt: skip


def run_table(group: Aggregate, title: str, notes: Iterable[str] = ()) -> Table:
    """One row for each score of a group: value, 95 % interval, unit, and in how many rollouts."""
    rows: list[tuple[Value, ...]] = []
    for score in group.scores:
        value, interval, unit = shown(score)
        rows.append(
            (score.name, value, interval, unit, f"{score.valid} of {score.rollouts}", score.scenes)
        )
    headers = ("score", "value", "95 % interval", "unit", "rollouts", "scenes")
    return Table(SCORES_NAME, title, headers, tuple(rows), (*outcome_notes([group]), *notes))


def group_table(
    groups: Sequence[Aggregate], by: str, title: str, notes: Iterable[str] = ()
) -> Table:
    """One row for each group, one column for each score: value, interval and count of rollouts."""
    names = list(dict.fromkeys(score.name for group in groups for score in group.scores))
    units = {s.name: shown(s)[2] for g in groups for s in g.scores}
    rows: list[tuple[Value, ...]] = []
    for group in groups:
        found = {score.name: score for score in group.scores}
        completed = f"{group.outcomes['completed']} of {group.rollouts}"
        rows.append((group.label, completed, *(_cell(found.get(name), group) for name in names)))
    headers = (by, "completed", *(f"{n} [{units[n]}]" if units[n] else n for n in names))
    return Table(SCORES_NAME, title, headers, tuple(rows), (*outcome_notes(groups), *notes))


def _cell(score: Score | None, group: Aggregate) -> str:
    if score is None or score.value is None:
        return text(None)
    value, interval, _ = shown(score)
    parts = [value, f"[{interval}]" if score.interval.low is not None else ""]
    parts.append(f"(n {score.valid})" if score.valid < group.rollouts else "")
    return " ".join(part for part in parts if part)


def shown(score: Score) -> tuple[str, str, str]:
    """A score for people: value, interval and unit; a rate in per cent with its count."""
    percent = score.reduction == "rate"
    unit = "%" if percent else "" if score.unit in ("1", "0 or 1") else score.unit
    factor = 100 if percent else 1
    value = text(None) if score.value is None else number(score.value * factor)
    if percent and score.count is not None and score.value is not None:
        value += f" ({score.count} of {score.valid})"
    if score.basis and score.value is not None:
        value += f" ({score.count} in {score.basis})"
    return value, interval_text(score.interval, factor), unit


def interval_text(interval: Interval, factor: float = 1.0) -> str:
    """``low to high``, or a dash."""
    if interval.low is None or interval.high is None:
        return text(None)
    return f"{number(interval.low * factor)} to {number(interval.high * factor)}"


def outcome_notes(groups: Sequence[Aggregate]) -> list[str]:
    """How rollouts ended, a line for each group."""
    lines = []
    for group in groups if len(groups) == 1 else ():
        parts = [f"{n} {outcome_label(outcome)}" for outcome, n in group.outcomes.items()]
        lines.append(
            f"{group.label}: {group.rollouts} rollout(s) of {group.scenes} scene(s): {', '.join(parts)}"
        )
    return lines


def all_scores(results: Sequence[RolloutResult]) -> list[str]:
    """Names of all scores, with those per km that can be made of them behind their flags."""
    names = score_names(results)
    derived = {parts_per_km(name)[0]: name for name in per_km_names(names)}
    pairs = ((name, derived.get(name)) for name in names)
    return [name for pair in pairs for name in pair if name is not None]


def key_scores(present: Sequence[str]) -> list[str]:
    """Scores for tables in which each has a column or each group many rows; all if none is one."""
    return [name for name in present if name in _KEY_NAMES] or list(present)


def chosen_scores(present: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """Scores whose names match any of the patterns wanted (``*`` for any letters), in their order.

    Raises:
        ConfigError: a pattern matches none.
    """
    if not wanted:
        return list(present)
    chosen: list[str] = []
    for pattern in wanted:
        found = [name for name in present if fnmatch.fnmatchcase(name, pattern)]
        if not found:
            raise ConfigError(
                f"no score is called '{pattern}'.{nearest(pattern, present)}", where="--metric",
                remedy=f"scores: {', '.join(present)}",
            )  # fmt: skip
        chosen += found
    return list(dict.fromkeys(chosen))


def tables_of(run: Run, by: str, wanted: Sequence[str] | None = None) -> tuple[Table, Table]:
    """The scores of a run grouped: in full, and for people.

    Args:
        by: "run", "scene", "tag" or "rollout".
        wanted: Patterns of names; None for all in full, and for the key scores where each
            score has a column.

    Raises:
        ConfigError: a pattern matches no score, or the run cannot be grouped so.
    """
    present = all_scores(run.results)
    groups = scores_of(run, by, chosen_scores(present, wanted))
    notes = [*run.problems, *run.damaged]
    if run.missing:
        notes.append(
            f"{len(run.missing)} planned rollout(s) without a result: {listed(run.missing)}"
        )
    title = f"Scores of {run.name}" + (f" by {by}" if by != "run" else "")
    full = full_table(groups, title)
    if by == "run":
        return full, run_table(groups[0], title, notes)
    if wanted is None:
        groups = scores_of(run, by, key_scores(present))
    return full, group_table(groups, by, title, notes)


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names with commas; of very many the first."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def write_score_tables(run: Run) -> list[Path]:
    """Write ``scores.csv``, ``.parquet``, ``.md`` and ``.tex`` into a run's folder.

    Raises:
        RunFolderError: they cannot be written.
    """
    full, brief = tables_of(run, "run")
    paths = []
    for kind, suffix in SUFFIXES.items():
        path = run.path / f"{SCORES_NAME}.{suffix}"
        write_atomic(path, to_bytes(full if kind in FULL_FORMATS else brief, kind))
        paths.append(path)
    return paths
