from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from omniloop.core.errors import ConfigError
from omniloop.core.seeds import generator
from omniloop.report.compare.ranking import kendall_of_rankings, kendall_tau_b
from omniloop.report.compare.ranking_tables import (
    by_incident_type,
    full_ranking_table,
    ranking_table,
)
from omniloop.report.compare.ranks import rank_runs
from omniloop.report.intervals import TOO_FEW
from tests.report.compare.runs_by_hand import make_run


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=9))
def test_tau_agrees_with_scipy_ties_included(values):
    x, y = np.array(values, dtype=float).T
    assert float(kendall_tau_b(x, y)) == pytest.approx(kendalltau(x, y).statistic, nan_ok=True)


def table(*means, scenes=40, noise=0.0, name="noise"):
    return np.array(means)[:, None] + noise * generator(0, name).normal(size=(len(means), scenes))


def test_the_same_ranking_is_one_and_the_reverse_minus_one():
    first = table(0.1, 0.2, 0.3, 0.4)
    assert kendall_of_rankings(first, first * 3 + 1).tau == 1.0
    assert kendall_of_rankings(first, -first).tau == -1.0


def test_one_swap_of_four_policies():
    found = kendall_of_rankings(table(0.1, 0.2, 0.3, 0.4), table(0.2, 0.1, 0.3, 0.4))
    assert found.tau == pytest.approx((5 - 1) / 6)
    assert found.kept == 0.0


def test_clear_rankings_are_certain_and_close_ones_are_not():
    clear = kendall_of_rankings(table(1, 2, 3, noise=0.1), table(1, 2, 3, noise=0.1, name="b"))
    assert (clear.interval.low, clear.interval.high, clear.kept) == (1.0, 1.0, 1.0)
    close = kendall_of_rankings(table(1, 1, 1, noise=1), table(1, 1, 1, noise=1, name="b"))
    assert close.interval.low < 0.5
    assert close.kept < 0.9


def test_scenes_that_a_policy_lacks_are_left_out_for_all():
    first = table(1.0, 2.0, scenes=3)
    first[0, 1] = np.nan
    found = kendall_of_rankings(first, table(1.0, 2.0, scenes=3))
    assert (found.tau, found.scenes) == (1.0, 2)


def test_what_cannot_be_ranked_says_why():
    assert kendall_of_rankings(table(1.0), table(1.0)).reason == "fewer than two policies"
    assert kendall_of_rankings(table(1.0, 1.0), table(1.0, 2.0)).reason == "all policies are tied"
    nothing = np.full((2, 3), np.nan)
    assert "no scene" in kendall_of_rankings(nothing, nothing).reason
    one = kendall_of_rankings(table(1.0, 2.0, scenes=1), table(1.0, 2.0, scenes=1))
    assert (one.tau, one.interval.reason) == (1.0, TOO_FEW)
    with pytest.raises(ValueError, match="differ in shape"):
        kendall_of_rankings(table(1.0), table(1.0, 2.0))


RATES = {("p", "x"): 0.0, ("q", "x"): 1.0, ("p", "y"): 0.0, ("q", "y"): 1.0}


def four_runs(tmp_path, rates=RATES):
    return [
        make_run(
            tmp_path / f"{policy}-{renderer}", {(s, 0): {"incident": rate} for s in "abc"},
            config={"policy": {"name": policy}, "renderer": {"name": renderer, "chunk": 8}},
        )
        for (policy, renderer), rate in rates.items()
    ]  # fmt: skip


def test_runs_are_grouped_by_a_setting_and_policies_ranked(tmp_path):
    found = rank_runs(four_runs(tmp_path), "renderer", ["incident"])
    assert len(found) == 1
    assert found[0].groups == ("x", "y")
    assert found[0].policies == ("p", "q")
    assert found[0].agreement.tau == 1.0
    assert found[0].agreement.first == (0.0, 1.0)


def test_one_policy_with_two_settings_is_two_policies(tmp_path):
    runs = [
        make_run(
            tmp_path / f"{speed}-{renderer}", {("a", 0): {"x": speed}},
            config={"policy": {"name": "p", "speed": speed}, "renderer": {"name": renderer}},
        )
        for speed in (1.0, 2.0) for renderer in "xy"
    ]  # fmt: skip
    assert rank_runs(runs, "renderer", ["x"])[0].policies == ("p speed=1.0", "p speed=2.0")


@pytest.mark.parametrize(
    ("rates", "key", "message"),
    [
        (RATES, "renderer.chunk", "two runs have policy p and the same renderer.chunk"),
        (RATES, "renderes", "no setting 'renderes'. Did you mean 'renderer'"),
        (dict(list(RATES.items())[:2]), "renderer", "all runs have the same renderer: x"),
        (dict(list(RATES.items())[:3]), "renderer", "fewer than two policies were run under each"),
    ],
)
def test_runs_that_cannot_be_ranked_are_refused(tmp_path, rates, key, message):
    with pytest.raises(ConfigError, match=message):
        rank_runs(four_runs(tmp_path, rates), key, ["incident"])


def ranked(tmp_path, scores):
    """A table of the rankings of two policies under two renderers, by scores ``(p, q)``."""
    runs = [
        make_run(
            tmp_path / f"{policy}-{renderer}",
            {(s, 0): {name: values[k] for name, values in scores.items()} for s in "abc"},
            config={"policy": {"name": policy}, "renderer": {"name": renderer}},
        )
        for k, (policy, renderer) in enumerate((("p", "x"), ("q", "x"), ("p", "y"), ("q", "y")))
    ]  # fmt: skip
    return rank_runs(runs, "renderer", by_incident_type(list(scores)))


SCORES = {
    "progress_m": (1.0, 2.0, 3.0, 4.0), "odd": (1.0, 1.0, 2.0, 3.0), "offroad": (0.0, 0.0, 0.0, 0.0),
    "collision_front": (0.0, 1.0, 1.0, 1.0), "incident": (0.0, 1.0, 0.0, 1.0),
}  # fmt: skip


def test_types_of_incident_come_first_each_with_its_tau_or_the_reason(tmp_path):
    table = ranking_table(ranked(tmp_path, SCORES), "renderer")
    assert [row[0] for row in table.rows] == [
        "incident",
        "collision_front",
        "offroad",
        "progress_m",
    ]
    found = {row[0]: dict(zip(table.headers, row, strict=True)) for row in table.rows}
    assert (found["incident"]["tau"], found["incident"]["same ranking"]) == ("1.00", "100 %")
    assert found["collision_front"]["tau"] is None
    assert found["collision_front"]["why not"] == "all policies are tied under y"
    assert found["offroad"]["why not"] == "no run has such an incident"
    assert "no tau, all policies are tied under x: odd" in table.notes


def test_the_full_table_has_the_reason_too(tmp_path):
    table = full_ranking_table(ranked(tmp_path, SCORES), "renderer")
    reasons = {row[1]: row[-1] for row in table.rows}
    assert reasons["offroad"] == "no run has such an incident"
    assert reasons["odd"] == "all policies are tied under x"


def test_without_an_undefined_tau_there_is_no_column_for_it(tmp_path):
    table = ranking_table(ranked(tmp_path, {"incident": (0.0, 1.0, 0.0, 1.0)}), "renderer")
    assert "why not" not in table.headers
