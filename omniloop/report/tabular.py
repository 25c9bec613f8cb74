"""Tables as CSV, Markdown, LaTeX and Parquet, every text escaped."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Value = str | int | float | None


@dataclass(frozen=True)
class Table:
    """A table of texts and numbers.

    Attributes:
        name: A word for a file.
        title: Its caption.
        rows: As many values each as there are headers; None where there is none.
        notes: What a reader should know.
    """

    name: str
    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = ()


def to_csv(table: Table) -> str:
    """RFC 4180 but for line ends, which are ``\\n``; numbers in full, None empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.headers)
    writer.writerows(["" if v is None else v for v in row] for row in table.rows)
    return out.getvalue()


def to_markdown(table: Table) -> str:
    """A table of GitHub's Markdown below its title, and its notes as a list."""
    lines = [f"**{_markdown(table.title)}**", ""] if table.title else []
    lines += [_row(table.headers, _markdown)]
    lines += ["|" + "|".join("--:" if right else "---" for right in _numeric(table)) + "|"]
    lines += [_row(row, _markdown) for row in table.rows]
    if table.notes:
        lines += ["", *(f"- {_markdown(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def to_latex(table: Table) -> str:
    """A ``table`` environment; needs ``\\usepackage{booktabs}``. Notes stand below it, small."""
    columns = "".join("r" if right else "l" for right in _numeric(table))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.title)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(_latex, table.headers)) + r" \\",
        r"\midrule",
        *(" & ".join(_latex(text(v)) for v in row) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip{{\footnotesize {_latex(note)}}}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_parquet(table: Table) -> bytes:
    """One column per header: int64 or float64 if all values are numbers, else strings."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {}
    for k, header in enumerate(table.headers):
        values = [row[k] for row in table.rows]
        kinds = {type(v) for v in values if v is not None}
        if kinds <= {int}:
            kind = pa.int64() if kinds else pa.string()
        else:
            kind = pa.float64() if kinds <= {int, float} else pa.string()
        if kind == pa.string():
            values = [None if v is None else str(v) for v in values]
        columns[header] = pa.array(values, type=kind)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


TEXT_FORMATS: dict[str, Callable[[Table], str]] = {
    "md": to_markdown, "csv": to_csv, "latex": to_latex,
}  # fmt: skip

SUFFIXES = {"md": "md", "csv": "csv", "latex": "tex", "parquet": "parquet"}
"""Format to a file's suffix."""

FULL_FORMATS = ("csv", "parquet")
"""Formats that programs read: of tables with every number in full."""


def to_bytes(table: Table, kind: str) -> bytes:
    """A table in one of `SUFFIXES`, as a file holds it."""
    if kind == "parquet":
        return to_parquet(table)
    return TEXT_FORMATS[kind](table).encode("utf-8", "backslashreplace")


def text(value: Value) -> str:
    """A value as it is shown: a number with three digits that say something, None as a dash."""
    if value is None:
        return "\N{EN DASH}"
    return number(value) if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """Three significant digits, no exponent unless it is very small; below 1e-9 it is 0."""
    if abs(value) < 1e-9:
        return "0"
    if 1e-4 <= abs(value) < 1:
        return f"{value:.3g}"
    if abs(value) < 1:
        return f"{value:.1e}"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def _numeric(table: Table) -> list[bool]:
    """Whether a column is numbers, or texts that begin like one."""
    return [
        bool(table.rows)
        and all(re.match(r"[-+]?\d|\N{EN DASH}$", text(row[k])) for row in table.rows)
        for k in range(len(table.headers))
    ]


def _row(values: Sequence[Value], escape: Callable[[str], str]) -> str:
    return "| " + " | ".join(escape(text(v)) for v in values) + " |"


def _markdown(raw: str) -> str:
    escaped = re.sub(r"([\\`*_\[\]<>|])", r"\\\1", raw.replace("&", "&amp;"))
    return " ".join(escaped.split())


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "\N{EN DASH}": "--", "[": "{[}", "]": "{]}", **{c: f"\\{c}" for c in "&%$#_{}"},
}  # fmt: skip


def _latex(raw: str) -> str:
    return "".join(_LATEX.get(c, c) for c in " ".join(raw.split()))
