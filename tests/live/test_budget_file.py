"""``budget.json``: one entry for each start of a run, and no burden to it."""

from __future__ import annotations

import os
from pathlib import Path

from omniloop.live.budget_file import BudgetFile
from omniloop.live.events import RunEnded
from omniloop.runlog.budget import BUDGET_NAME, Sitting, read_budget
from tests.live.made_run import progress, rollouts, started, wait_for


def tell_run(folder: Path, said: list[str], state: str = "completed", count: int = 2) -> None:
    file = BudgetFile(said.append)
    file.tell(started(run_dir=str(folder)))
    for event in rollouts(count):
        file.tell(event)
    file.tell(progress(count))
    file.tell(RunEnded(state))
    file.close(120.0)


def sittings(folder: Path) -> tuple[Sitting, ...]:
    found = read_budget(folder)
    assert found is not None
    return found


def test_a_run_that_is_taken_up_adds_an_entry(tmp_path: Path) -> None:
    said: list[str] = []
    tell_run(tmp_path, said, "cancelled", 2)
    first = sittings(tmp_path)
    tell_run(tmp_path, said, "completed", 5)
    both = sittings(tmp_path)
    assert not said
    assert both[:1] == first
    assert [(s.state, s.rollouts) for s in both] == [("cancelled", 2), ("completed", 5)]
    assert os.listdir(tmp_path) == [BUDGET_NAME]


def test_it_is_renewed_while_the_run_goes_so_that_one_that_is_killed_leaves_it(
    tmp_path: Path,
) -> None:
    file = BudgetFile([].append, period_s=0.02)
    file.tell(started(run_dir=str(tmp_path)))
    wait_for((tmp_path / BUDGET_NAME).exists)
    for event in rollouts(3):
        file.tell(event)
    wait_for(lambda: sittings(tmp_path)[0].rollouts == 3)
    assert sittings(tmp_path)[0].state == "running"
    file.close(120.0)


def test_a_file_that_is_no_budget_is_said_and_begun_anew(tmp_path: Path) -> None:
    (tmp_path / BUDGET_NAME).write_text("[1, 2")
    said: list[str] = []
    tell_run(tmp_path, said)
    assert len(said) == 1
    assert "is begun anew" in said[0]
    assert len(sittings(tmp_path)) == 1


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    file = BudgetFile(said.append, period_s=0.02)
    file.tell(started(run_dir=str(tmp_path / "gone")))
    wait_for(lambda: said)
    file.close(120.0)
    assert len(said) == 1
    assert "cannot be written, the run goes on" in said[0]
