"""The score table on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from omniloop.report.aggregate import outcome_counts
from omniloop.report.injected import injected_lines
from omniloop.report.summary import (
    KEY_COLUMNS,
    UNDEFINED,
    Column,
    cell,
    columns_of,
    mean_of,
    outcome_label,
)
from omniloop.runlog.results import RolloutResult

_HEADINGS = {
    "incident": "incident", "collision": "collision", "offroad": "off-road",
    "progress_rel": "progress", "path_distance_max_m": "path dist.",
}  # fmt: skip
_FIRST_TO_GO = ("path_distance_max_m", "incident", "progress_rel")
"""Columns that a narrow terminal loses, in this order."""

_OUTCOME_STYLES = {
    "completed": "green", "policy_failed": "yellow", "infrastructure_failed": "red",
}  # fmt: skip
_MOST_ROWS = 200


def print_scores(results: Sequence[RolloutResult], console: Console) -> None:
    """Print one row per rollout, the means with intervals and counts, and the outcomes.

    A score that is undefined is a dash; its reason is below the table. Beyond 200
    rollouts only those with an incident or a failure are listed, and the table says so.
    """
    if not results:
        console.print("no rollout has a result")
        return
    columns = [c for c in KEY_COLUMNS if c.name in _HEADINGS and c in columns_of(results)]
    shown, note = list(results), ""
    if len(results) > _MOST_ROWS:
        shown = [r for r in results if _noteworthy(r)][:_MOST_ROWS]
        note = f"{len(shown)} of {len(results)} rollouts shown: those with an incident or a failure first"
    table = _table(shown, results, columns)
    for name in ("", *_FIRST_TO_GO):
        if _width(table, console) <= console.width:
            break
        columns = [c for c in columns if c.name != name]
        table = _table(shown, results, columns, narrow=True)
    console.print(table)
    if note:
        console.print(note, style="dim", markup=False)
    _print_summary(results, columns, console)


def _width(table: Table, console: Console) -> int:
    return console.measure(table, options=console.options.update(max_width=1000)).maximum


def _noteworthy(result: RolloutResult) -> bool:
    incident = result.metrics.get("incident")
    return result.outcome != "completed" or bool(incident and incident.value)


def _table(
    shown: Sequence[RolloutResult],
    results: Sequence[RolloutResult],
    columns: Sequence[Column],
    *,
    narrow: bool = False,
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_footer=True)
    means = [mean_of(results, column.name) for column in columns]
    several = any(mean.interval.low is not None for mean in means)
    footer = "mean\n95 %\nscored" if several else "mean\nscored"
    table.add_column("rollout", footer=footer, overflow="fold")
    table.add_column(
        "outcome", overflow="fold", max_width=len("infrastructure") if narrow else None
    )
    for column, mean in zip(columns, means, strict=True):
        footer = UNDEFINED if mean.value is None else column.mean_text(mean.value)
        if several:
            footer += f"\n{column.interval_text(mean.interval) or UNDEFINED}"
        footer += f"\n{mean.valid} of {mean.total}"
        table.add_column(
            _HEADINGS[column.name], footer=Text(footer), justify="right", overflow="fold"
        )
    for result in shown:
        outcome = Text(outcome_label(result.outcome), _OUTCOME_STYLES[result.outcome])
        row = [Text(_name(result)), outcome]
        for column in columns:
            shown_as = cell(result, column)
            style = "red" if shown_as.bad else "dim" if shown_as.value is None else ""
            row.append(Text(shown_as.text, style))
        table.add_row(*row)
    return table


def _name(result: RolloutResult) -> str:
    return result.session_id + (" *" if result.privileged else "")


def _print_summary(
    results: Sequence[RolloutResult], columns: Sequence[Column], console: Console
) -> None:
    counts = outcome_counts(results)
    parts = [f"{count} {outcome_label(outcome)}" for outcome, count in counts.items()]
    console.print(f"{len(results)} rollout(s): {', '.join(parts)}", markup=False)
    incidents = mean_of(results, "incident")
    if incidents.value is not None:
        count = round(incidents.summed)
        text = f"incident in {count} of {incidents.valid} scored rollout(s)"
        tube = mean_of(results, "distance_in_tube_m")
        if tube.value is not None:
            text += f"; {tube.summed / 1000:.2f} km driven in the tube"
        console.print(text, markup=False)
    privileged = list(
        dict.fromkeys(
            (r.plugins.get("policy", ""), tuple(r.privileged)) for r in results if r.privileged
        )
    )
    for policy, inputs in privileged:
        console.print(
            f"* {policy or 'the policy'} is privileged: it sees {', '.join(inputs)}", markup=False
        )
    for _, label, text in injected_lines(results):
        console.print(f"injected, {label}: {text}", markup=False)
    for reason, count in _reasons(results, columns).items():
        where = f" ({count} rollouts)" if count > 1 else ""
        console.print(f"{UNDEFINED} {reason}{where}", style="dim", markup=False)


def _reasons(results: Sequence[RolloutResult], columns: Sequence[Column]) -> dict[str, int]:
    """Why scores in the table are undefined: ``name: reason`` to how many rollouts."""
    reasons: dict[str, int] = {}
    for result in results:
        found: dict[str, list[str]] = {}
        for column in columns:
            shown_as = cell(result, column)
            if shown_as.value is None:
                found.setdefault(shown_as.reason, []).append(_HEADINGS[column.name])
        for reason, names in found.items():
            key = f"{', '.join(names)}: {reason}"
            reasons[key] = reasons.get(key, 0) + 1
    return dict(sorted(reasons.items(), key=lambda item: -item[1])[:8])
