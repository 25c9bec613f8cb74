"""Tables on a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from omniloop.report.tabular import Table, text

_MOST_ROWS = 40
_LONG = 24
"""Columns with longer texts are folded into lines of at least so many letters."""

_WHOLE = ("score", "rollout", "95 % interval")
_FIRST_TO_GO = ("scenes",)
"""Columns that a narrow terminal does without."""


def print_table(table: Table, console: Console) -> None:
    """Print the first rows of a table and its notes; numbers are never folded.

    On a narrow terminal columns are left out, and said to be, and then that of the scores or else
    the first one is folded.
    """
    rows = [[text(value) for value in row] for row in table.rows[:_MOST_ROWS]]
    shown = list(range(len(table.headers)))
    gone: list[str] = []
    widths = [_width(table.headers[k], [row[k] for row in rows]) for k in shown]
    for name in _FIRST_TO_GO:
        if name in table.headers and _needed(widths, shown) > console.width:
            shown.remove(table.headers.index(name))
            gone.append(name)
    grid = Grid(
        title=Text(table.title), box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left",
        title_style="bold", padding=(0, 1), collapse_padding=True,
    )  # fmt: skip
    names = table.headers.index("score") if "score" in table.headers else 0
    narrow = _needed(widths, shown) > console.width
    for k in shown:
        folds = _folds(table.headers[k], [row[k] for row in rows]) or (k == names and narrow)
        grid.add_column(
            Text(_broken(table.headers[k], widths[k])),
            justify="right" if k and not folds else "left",
            overflow="fold",
            no_wrap=not folds,
        )
    for row in rows:
        grid.add_row(*(Text(row[k]) for k in shown))
    console.print(grid)
    if gone:
        console.print(f"left out for want of width: {', '.join(gone)}")
    if len(table.rows) > _MOST_ROWS:
        console.print(f"and {len(table.rows) - _MOST_ROWS} more rows: see them with --out FOLDER")
    for note in table.notes:
        console.print(note, markup=False)
    console.print()


def _folds(header: str, cells: Sequence[str]) -> bool:
    return header not in _WHOLE and max(map(len, cells), default=0) > _LONG


def _width(header: str, cells: Sequence[str]) -> int:
    """The least width of a column: that of its longest cell, or word of its header."""
    if _folds(header, cells):
        return _LONG
    return max(map(len, [*cells, *re.split(r"(?<=[/ ])", header)]), default=0)


def _needed(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[k] + 1 for k in shown) + 1


def _broken(header: str, width: int) -> str:
    """A header in lines no longer than its column, where it can be broken."""
    lines = [""]
    for word in re.split(r"(?<=[/ ])", header):
        if lines[-1] and len(lines[-1] + word.rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines)
