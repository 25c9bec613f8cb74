from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from omniloop.core.contracts import MetricValue
from omniloop.report.table import print_scores
from omniloop.runlog.results import RolloutResult
from tests.report.builders import make_record, make_result


def printed(results: list[RolloutResult], width: int = 120) -> str:
    out = io.StringIO()
    print_scores(results, Console(file=out, width=width, highlight=False))
    return out.getvalue()


def failed(scene: str, outcome: str, **changes: object) -> RolloutResult:
    error = {"type": "PolicyError", "what": "boom", "where": "", "remedy": ""}
    return RolloutResult(scene, 0, f"{scene}/0", outcome, error=error, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def crash() -> RolloutResult:
    return make_result(make_record())


def test_a_row_holds_the_key_scores(crash: RolloutResult) -> None:
    row = next(line for line in printed([crash]).splitlines() if line.startswith("authored/0"))
    assert row.split()[1:5] == ["completed", "yes", "front", "no"]
    assert row.split()[5:7] == ["100", "%"]


def test_means_state_over_how_many_rollouts_they_are(crash: RolloutResult) -> None:
    text = printed([crash, failed("b", "policy_failed")])
    means = next(line for line in text.splitlines() if line.startswith("mean"))
    counts = next(line for line in text.splitlines() if line.startswith("scored"))
    assert means.split()[1:5] == ["100", "%", "100", "%"]
    assert counts.split()[1:4] == ["1", "of", "2"]


def test_outcomes_are_counted_apart(crash: RolloutResult) -> None:
    text = printed([crash, failed("b", "policy_failed"), failed("c", "infrastructure_failed")])
    assert "3 rollout(s): 1 completed, 1 policy failed, 1 infrastructure failed" in text
    assert "incident in 1 of 1 scored rollout(s)" in text


def test_an_undefined_score_is_a_dash_and_its_reason_is_below(crash: RolloutResult) -> None:
    reason = "no drivable surface"
    metrics = {**crash.metrics, "offroad": MetricValue("offroad", None, reason)}
    text = printed([make_result(make_record(), metrics=metrics)])
    assert re.search(r"front\s+\N{EN DASH}\s+100 %", text)
    assert f"\N{EN DASH} off-road: {reason}" in text


def test_a_failed_rollout_says_why_its_scores_are_undefined(crash: RolloutResult) -> None:
    assert "the rollout ended early: boom" in printed([crash, failed("b", "policy_failed")])


def test_privileged_policies_are_marked() -> None:
    result = make_result(make_record(), privileged=["actors"])
    text = printed([result])
    assert "authored/0 *" in text
    assert "* straight_on is privileged: it sees actors" in text


@pytest.mark.parametrize("width", [30, 50, 80, 100])
def test_a_narrow_terminal_loses_columns_but_no_rollout(crash: RolloutResult, width: int) -> None:
    text = printed([crash, failed("b", "infrastructure_failed")], width)
    assert max(len(line) for line in text.splitlines()) <= width
    if width >= 50:
        assert "authored/0" in text
        assert "front" in text
    if width >= 100:
        assert "progress" in text


def test_markup_in_names_is_shown_as_it_is(crash: RolloutResult) -> None:
    text = printed([failed("[red]x[/red]", "policy_failed"), crash])
    assert "[red]x[/red]/0" in text


def test_of_very_many_rollouts_those_with_trouble_are_shown(crash: RolloutResult) -> None:
    calm = {"incident": MetricValue("incident", 0.0)}
    many = [RolloutResult("s", k, f"s/{k}", "completed", metrics=calm) for k in range(300)]
    text = printed([*many, crash])
    assert "1 of 301 rollouts shown" in text
    assert "authored/0" in text
    assert "s/17" not in text
    assert "301 of 301" in text  # the means are over all of them


def test_no_result_at_all_is_said() -> None:
    assert printed([]) == "no rollout has a result\n"


def test_output_that_is_no_terminal_is_plain_text(crash: RolloutResult) -> None:
    assert "\x1b" not in printed([crash])
