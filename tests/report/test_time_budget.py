"""Where the time went, on the page and on the terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from omniloop.report.html import write_report
from omniloop.report.time_budget import budget_of, mean_rollout
from omniloop.runlog.budget import BUDGET_NAME, AddressTimes, Efficiency, write_budget
from tests.report.test_html import Page, bare
from tests.runlog.test_budget import SITTING
from tests.runlog.test_timings import TIMES, result

HOSTILE = replace(SITTING.services[0], address='<img src=x onerror="alert(1)">')


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_a_start_has_a_row_per_address_and_queueing_once_per_service(tmp_path: Path) -> None:
    services = (
        AddressTimes("policy", "", 20, 1.0, 2.0, 0.25, None),
        AddressTimes("renderer", "h:1", 10, 2.1, 4.0, 0.5, 4),
        AddressTimes("renderer", "h:2", 10, 8.4, 12.0, 0.5, 4),
        AddressTimes("renderer", "h:3", 0, 0.0, 0.0, 0.0, 4),
    )
    write_budget(tmp_path, [replace(SITTING, services=services)])
    found = budget_of(tmp_path, [])
    assert found.note == ""
    assert found.sittings[0].table.rows == (
        ("renderer", "h:2", 10, 8.4, pytest.approx(80.0), 12.0, 2.5, 1200.0, 500.0),
        ("renderer", "h:1", 10, 2.1, pytest.approx(20.0), 4.0, None, 400.0, 500.0),
        ("renderer", "h:3", 0, 0.0, 0.0, 0.0, None, None, 0.0),
        ("policy", "in the workers", 20, 1.0, pytest.approx(9.5238, abs=1e-3), 2.0, None, 100.0, 250.0),
    )  # fmt: skip
    facts = plain(" ".join(found.sittings[0].facts))
    assert "at most 0.900, the largest of renderer busy 9.45 s over the 10.50 s" in facts
    assert "by what was full: renderer+worker 2.50 s" in facts
    assert "at most 7 ms late, in 99 of 100 seconds at most 3 ms" in facts
    assert "at most 300 MiB: the run 100 MiB, a worker 110 MiB" in facts


def test_an_efficiency_that_is_not_known_has_its_reason(tmp_path: Path) -> None:
    unknown = Efficiency(None, "no rollout completed", {}, "not known: no rollout completed")
    write_budget(tmp_path, [replace(SITTING, efficiency=unknown, state="running")])
    view = budget_of(tmp_path, []).sittings[0]
    assert view.facts[0] == "Pipeline efficiency: not known, no rollout completed."
    assert "cut off, or going on, after" in view.title


def test_a_run_that_was_taken_up_often_shows_its_last_starts(tmp_path: Path) -> None:
    write_budget(tmp_path, [replace(SITTING, rollouts=k) for k in range(20)])
    found = budget_of(tmp_path, [])
    assert len(found.sittings) == 12
    assert found.note == "The run was at work 20 times; the last 12 are shown."
    assert found.sittings[-1].title.startswith("Start 20 of 20")


def test_the_mean_rollout_is_of_completed_ones_and_adds_up() -> None:
    half = {**TIMES, "rollout_s": 4.0, "wall_s": 4.75}
    failed = replace(result(half), outcome="infrastructure_failed")
    whole, simulated = mean_rollout([result(TIMES), result(half), failed])
    assert {name: value for name, _, value in whole.parts} == {
        "queued": 3.0, "simulating": 3.0, "scoring": 0.25, "video, result": 0.5,
    }  # fmt: skip
    assert [name for name, _, _ in simulated.parts] == ["renderer", "policy", "own"]
    assert sum(value for _, _, value in simulated.parts) == pytest.approx(3.0)
    assert mean_rollout([failed, result({})]) == []


def test_an_old_run_says_on_its_page_that_it_has_none(tmp_path: Path) -> None:
    bare(tmp_path, "a", 0)
    page = Page(write_report(tmp_path))
    assert f"The run has no {BUDGET_NAME}: busy and queueing times are not known." in page.text


def test_a_damaged_file_costs_the_page_nothing_else(tmp_path: Path) -> None:
    bare(tmp_path, "a", 0)
    (tmp_path / BUDGET_NAME).write_text("{}")
    page = Page(write_report(tmp_path))
    assert f"{BUDGET_NAME} is ignored: {BUDGET_NAME} is not valid" in page.text


def test_addresses_cannot_become_markup(tmp_path: Path) -> None:
    bare(tmp_path, "a", 0)
    write_budget(tmp_path, [replace(SITTING, services=(HOSTILE,))])
    page = Page(write_report(tmp_path))
    assert HOSTILE.address in page.text
    assert "<img src=x" not in page.source
