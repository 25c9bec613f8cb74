"""Families: grids, samples, what is written and what is listed as refused."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core.errors import ConfigError, SceneError
from omniloop.scenes.edits.files import parse_edit_file, read_edit_file
from omniloop.scenes.edits.vary import (
    FAMILY_CSV,
    Axis,
    check_axes,
    grid,
    parse_axis,
    samples,
    write_family,
)
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.scenes.native import NativeScenes

CUT_IN = read_edit_file("recipe:cut_in")
ROWS = [{"gap_s": 0.5}, {"gap_s": 99.0}, {"gap_s": 1.5}]


def test_an_axis_is_a_span_a_list_or_the_parameters_own_range():
    assert parse_axis("gap_s=0.5:2:4", CUT_IN, sampling=False).values == (0.5, 1.0, 1.5, 2.0)
    assert parse_axis("speed_mps=8,10,null", CUT_IN, sampling=False).values == (8, 10, None)
    assert parse_axis("gap_s", CUT_IN, sampling=False).values == (0.2, 2.1, 4.0)
    assert parse_axis("from", CUT_IN, sampling=True).values == ("auto", "left", "right", "opposite")
    span = parse_axis("gap_s=0.5:2", CUT_IN, sampling=True)
    assert (span.values, span.low, span.high) == ((), 0.5, 2.0)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("gap=1:2:3", "Did you mean 'gap_s'"),
        ("gap_s=a:b:c", "are no values"),
        ("gap_s=2:1", "are no values"),
        ("gap_s=1:2:0", "are no values"),
        ("gap_s=1:2:3:4", "are no values"),
        ("gap_s=1,two", "are no values"),
        ("gap_s=", "are no values"),
        ("gap_s=nan:1:3", "are no values"),
        ("gap_s=0:inf:3", "are no values"),
        ("gap_s=1,nan", "are no values"),
        ("gap_s=0:1:1000000000", "1,000,000,000 variants"),
        ("from=above", "none of its choices"),
    ],
)
def test_a_wrong_axis_is_refused(text, what):
    sampling = text == "gap_s=2:1"
    with pytest.raises(ConfigError, match=what) as caught:
        parse_axis(text, CUT_IN, sampling=sampling)
    assert caught.value.remedy


def test_a_family_without_end_is_refused_before_it_is_made():
    values = tuple(range(1000))
    with pytest.raises(ConfigError, match="1,000,000 variants"):
        next(grid([Axis("a", values), Axis("b", values)]))
    with pytest.raises(ConfigError, match="1,000,000,000 variants"):
        samples([Axis("a", (), 0.0, 1.0)], 10**9, 0, "recipe")


def test_a_parameter_has_its_values_from_one_place():
    check_axes([Axis("a", (1,)), Axis("b", (1,))], {"c": 1})
    with pytest.raises(ConfigError, match="by --vary and by another --vary"):
        check_axes([Axis("a", (1,)), Axis("a", (2,))], {})
    with pytest.raises(ConfigError, match=r"by --vary and by scenes\.set"):
        check_axes([Axis("a", (1,))], {"a": 3})


def test_a_family_that_was_interrupted_is_replaced_by_the_next(tmp_path):
    rows = [{"gap_s": 0.5 + 0.1 * k} for k in range(11)]
    begun = write_family(EmbeddedScenes(), ["curve"], CUT_IN, rows, tmp_path)
    next(begun), next(begun)
    with pytest.raises(KeyboardInterrupt):
        begun.throw(KeyboardInterrupt())
    family = list(write_family(EmbeddedScenes(), ["curve"], CUT_IN, rows[:1], tmp_path))
    assert [v.id for v in family] == ["curve-cut_in-0"] == NativeScenes(str(tmp_path)).ids()


def test_a_grid_has_every_combination_once_with_the_last_axis_fastest():
    rows = list(grid([Axis("a", (1, 2)), Axis("b", ("x", "y", "z"))]))
    assert [(r["a"], r["b"]) for r in rows] == [(a, b) for a in (1, 2) for b in "xyz"]


@given(st.integers(1, 30), st.integers(0, 2**31))
def test_samples_meet_each_stratum_once_and_depend_on_the_seed_alone(count, seed):
    axes = [Axis("a", (), 10.0, 20.0), Axis("b", ("x", "y"))]
    rows = samples(axes, count, seed, "recipe")
    strata = sorted(int((r["a"] - 10.0) / 10.0 * count - 1e-4 * (r["a"] == 20.0)) for r in rows)
    assert all(abs(k - s) <= 1 for k, s in enumerate(strata))  # values are rounded to 6 digits
    assert all(10.0 <= r["a"] <= 20.0 for r in rows)
    assert abs(sum(r["b"] == "x" for r in rows) * 2 - count) <= 1
    assert rows == samples(axes, count, seed, "recipe")
    alone = samples(axes[:1], count, seed, "recipe")
    assert [r["a"] for r in alone] == [r["a"] for r in rows]  # one axis more changes no other


def test_a_family_is_bundles_and_a_table_with_those_refused(tmp_path):
    family = list(write_family(EmbeddedScenes(), ["curve", "cut_in"], CUT_IN, ROWS, tmp_path))
    assert [v.id for v in family] == [f"{s}-cut_in-{k}" for s in ("curve", "cut_in") for k in range(3)]  # fmt: skip
    assert [bool(v.skipped) for v in family] == [False, True, False] * 2
    source = NativeScenes(str(tmp_path))
    assert source.ids() == [v.id for v in family if not v.skipped]
    assert "gap 1.5 s" in source.load("curve-cut_in-2").edits[0]
    with (tmp_path / FAMILY_CSV).open() as lines:
        table = list(csv.DictReader(lines))
    assert [row["gap_s"] for row in table] == ["0.5", "99.0", "1.5"] * 2
    assert "99.0 is not usable" in table[1]["skipped"]
    assert table[0] | {"id": "", "skipped": ""} == {
        "id": "", "scene": "curve", "recipe": "recipe:cut_in", "at_s": "3.0", "gap_s": "0.5",
        "duration_s": "2.5", "speed_mps": "", "from": "auto", "skipped": "",
    }  # fmt: skip


def test_a_family_written_again_has_the_same_bytes_and_leaves_nothing_of_an_older_one(tmp_path):
    for folder in ("a", "b"):
        list(write_family(EmbeddedScenes(), ["curve"], CUT_IN, ROWS, tmp_path / folder))
    whole = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    assert whole == {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}
    (tmp_path / "a" / "mine.zip").write_bytes(b"")
    list(write_family(EmbeddedScenes(), ["curve"], CUT_IN, ROWS[:1], tmp_path / "a"))
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == ["curve-cut_in-0.zip", "family.csv", "mine.zip"]


def test_an_edit_file_that_is_wrong_whatever_the_values_is_no_family(tmp_path):
    file = parse_edit_file("edits: [{kind: cut_in, at: 3}]", "mine", "mine.yaml")
    with pytest.raises(SceneError, match="unknown key 'at'"):
        list(write_family(EmbeddedScenes(), ["curve"], file, [{}], tmp_path))
