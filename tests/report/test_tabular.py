from __future__ import annotations

import csv
import io

import pyarrow.parquet as pq
import pytest

from omniloop.report.tabular import Table, number, to_csv, to_latex, to_markdown, to_parquet

NASTY = 'a|b_c & 50 % $x$ #1 {y} ~ ^ \\ <script> "q", [z]\nnext'


def table(*rows):
    return Table("t", "A_title", ("name", "value"), rows, ("a note_1",))


def test_csv_comes_back_as_it_was():
    rows = list(csv.reader(io.StringIO(to_csv(table((NASTY, 0.1 + 0.2), ("b", None))))))
    assert rows == [["name", "value"], [NASTY, "0.30000000000000004"], ["b", ""]]


def test_markdown_cells_cannot_break_the_table():
    text = to_markdown(table((NASTY, 1.0)))
    row = next(line for line in text.splitlines() if line.startswith("| a"))
    assert row.replace(r"\|", "").count("|") == 3
    assert "<script>" not in text.replace(r"\<script\>", "")
    assert "- a note\\_1" in text


def test_latex_escapes_every_special_character():
    text = to_latex(table((NASTY, None)))
    row = next(line for line in text.splitlines() if line.startswith("a"))
    assert row == (
        r"a\textbar{}b\_c \& 50 \% \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} "
        r'\textbackslash{} \textless{}script\textgreater{} "q", {[}z{]} next & -- \\'
    )
    assert r"\caption{A\_title}" in text


def test_columns_of_numbers_are_to_the_right():
    assert "|---|--:|" in to_markdown(table(("a", 1.0), ("b", None), ("c", "3 (1 of 2)")))
    assert r"\begin{tabular}{lr}" in to_latex(table(("a", 1)))


def test_parquet_keeps_numbers_and_nulls(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(to_parquet(table(("a", 1.5), ("b", None))))
    assert pq.read_table(path).to_pydict() == {"name": ["a", "b"], "value": [1.5, None]}
    path.write_bytes(to_parquet(table((1, "x"), (2, 3.0))))
    assert pq.read_table(path).to_pydict() == {"name": [1, 2], "value": ["x", "3.0"]}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (1e-17, "0"), (1.5e-7, "1.5e-07"), (0.12345, "0.123"), (-1.234, "-1.23"),
     (99.994, "99.99"), (1234.5, "1234")],
)  # fmt: skip
def test_numbers_have_the_digits_that_say_something(value, shown):
    assert number(value) == shown
