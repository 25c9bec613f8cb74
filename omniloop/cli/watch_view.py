"""Rows of a board as a terminal shows them, and as lines where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from omniloop.live.board import Load, Note, Row

_STATE_STYLES = {
    "running": "green", "paused": "yellow", "cancelling": "yellow", "completed": "bold green",
    "cancelled": "yellow", "failed": "bold red", "lost": "bold red",
}  # fmt: skip
_NOTE_STYLES = {"incident": "yellow", "failure": "red", "worker": "red"}
_OUTCOMES = (
    ("completed", "green", "ok"), ("policy_failed", "yellow", "policy"),
    ("infrastructure_failed", "red", "infra"),
)  # fmt: skip
_NOTES_SHOWN = 8
_LINE_EVERY_S = 10.0


def draw(rows: Sequence[Row], footer: str, width: int = 120) -> RenderableType:
    """The board: a line a run, the services of runs that go on, what was notable lately."""
    parts: list[RenderableType] = [_runs(rows, width), *_remarks(rows)]
    busy = [(row, load) for row in rows if not row.ended for load in row.services]
    if busy:
        parts.append(_services(busy))
    parts += _notes(rows)
    if footer:
        parts.append(Text(footer, style="dim"))
    return Group(*parts)


def summary(row: Row) -> str:
    """A run in a line."""
    parts = [f"{row.label}: {row.state}", f"{_number(row.done)}/{_number(row.planned)}"]
    parts += [f"{row.outcomes[name]} {name}" for name, _, _ in _OUTCOMES if row.outcomes.get(name)]
    if row.in_flight:
        parts.append(f"{row.in_flight} in flight")
    if row.left_s is not None and not row.ended:
        parts.append(f"{duration(row.left_s)} left")
    if row.silent_s is not None:
        parts.append(f"not heard of for {duration(row.silent_s)}")
    if row.dropped:
        parts.append(f"{row.dropped} messages given up")
    if row.what:
        parts.append(row.what)
    if row.shared and row.where:
        parts.append(row.where)
    return ", ".join(parts)


class Changes:
    """Lines for what changed since the last time; of mere progress, one in ten seconds a run."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[Row, float]] = {}
        self._noted: dict[str, int] = {}

    def lines(self, rows: Iterable[Row], now_s: float) -> list[str]:
        """Lines to print now."""
        out = []
        noted = dict(self._noted)  # before this time: rows of one name number their notes together
        for row in rows:
            key = (row.name, row.instance)
            last, at_s = self._last.get(key, (None, 0.0))
            for note in row.notes:
                if note.sequence > noted.get(row.name, 0):
                    out.append(f"{row.label}: {note.kind}: {note.text}")
                    self._noted[row.name] = max(note.sequence, self._noted.get(row.name, 0))
            changed = last is None or (
                (row.label, row.state, row.what) != (last.label, last.state, last.what)
            )
            moved = last is not None and (row.done, row.silent_s is None) != (
                last.done,
                last.silent_s is None,
            )
            if changed or (moved and now_s - at_s >= _LINE_EVERY_S):
                out.append(summary(row))
                self._last[key] = (row, now_s)
        return out


def duration(seconds: float) -> str:
    """``42 s``, ``3:05 min`` or ``2:03 h``."""
    whole = round(max(seconds, 0.0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def _runs(rows: Sequence[Row], width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    wide = width >= 100
    table.add_column("run", overflow="fold", min_width=8)
    table.add_column("state")
    if wide:
        table.add_column("", width=16)
    for heading in ("done", "ok/policy/infra", "in flight", "left"):
        table.add_column(heading, justify="right", no_wrap=True)
    if wide:
        table.add_column("lag", justify="right", no_wrap=True)
        table.add_column("memory", justify="right", no_wrap=True)
    for row in rows:
        state = Text(row.state, style=_STATE_STYLES.get(row.state, ""))
        outcomes = Text("/").join(
            Text(str(row.outcomes.get(name, 0)), style=style if row.outcomes.get(name) else "dim")
            for name, style, _ in _OUTCOMES
        )
        flight = _number(row.in_flight)
        if row.concurrency is not None and not row.ended:
            flight += f" of {row.concurrency}"
        cells: list[RenderableType] = [Text(row.label), state]
        if wide:
            cells.append(ProgressBar(total=row.planned or 1, completed=row.done or 0, width=16))
        left = "" if row.left_s is None else duration(row.left_s)
        cells += [
            Text(f"{_number(row.done)}/{_number(row.planned)}"), outcomes, Text(flight), Text(left),
        ]  # fmt: skip
        if wide:
            cells.append(Text("" if row.lag_ms is None else f"{row.lag_ms:.0f} ms"))
            cells.append(Text("" if row.memory_mib is None else f"{row.memory_mib:.0f} MiB"))
        table.add_row(*cells)
    if not rows:
        table.add_row(Text("no run so far", style="dim"))
    return table


def _remarks(rows: Sequence[Row]) -> list[RenderableType]:
    """Why a run ended as it did, which are not heard of, and whose name is another's too."""
    lines: list[RenderableType] = []
    for row in rows:
        if row.shared:
            advice = "" if row.ended else "; another run has this name, give each its own run.name"
            lines.append(Text(f"{row.label}: {row.where}{advice}", style="yellow"))
        if row.what:
            lines.append(Text(f"{row.label}: {row.what}", style="dim"))
        if row.silent_s is not None:
            silent = f"{row.label}: not heard of for {duration(row.silent_s)}"
            lines.append(Text(silent, style="red"))
    return lines


def _services(loads: Sequence[tuple[Row, Load]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("run", "service", "address"):
        table.add_column(heading, overflow="fold")
    for heading in ("calls", "busy", "a call", "queueing", "sessions"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row, load in loads:
        table.add_row(
            Text(row.label), Text(load.service),
            Text((load.address or "in the workers") + (" (avoided)" if load.avoided else "")),
            str(load.calls), "" if load.busy is None else f"{100 * load.busy:.0f} %",
            "" if load.call_ms is None else f"{load.call_ms:.1f} ms",
            duration(load.queueing_s),
            f"{load.sessions} of {'any' if load.limit is None else load.limit}",
        )  # fmt: skip
    return table


def _notes(rows: Sequence[Row]) -> list[RenderableType]:
    """The latest of each run, shared out between those that have any."""
    having = [row for row in rows if row.notes]
    each = max(_NOTES_SHOWN // max(len(having), 1), 1)
    found: list[tuple[Row, Note]] = [(row, note) for row in having for note in row.notes[-each:]]
    several = len(rows) > 1
    return [
        Text(f"{row.label}: {note.text}" if several else note.text, style=_NOTE_STYLES[note.kind])
        for row, note in found[:_NOTES_SHOWN]
    ]


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)
