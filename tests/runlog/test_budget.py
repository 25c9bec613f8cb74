"""``budget.json`` as it is read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from omniloop.core.errors import RunFolderError
from omniloop.runlog.budget import (
    BUDGET_NAME,
    AddressTimes,
    Efficiency,
    MethodTimes,
    Sitting,
    WorkerTimes,
    read_budget,
    write_budget,
)

SITTING = Sitting(
    started="2026-01-01T00:00:00+00:00", state="completed", executor="local", worker_count=2,
    wall_s=10.5, rollouts=4, retries=1, slots=2.0, slots_filled=None, lag_longest_ms=7.0,
    lag_p99_ms=3.0, memory_mib=300.0, run_memory_mib=100.0, worker_memory_mib=110.0,
    efficiency=Efficiency(0.9, "", {"renderer busy": 9.45}, "renderer: \N{NO-BREAK SPACE}"),
    outcomes={"completed": 3}, queueing_s={"renderer+worker": 2.5},
    services=(AddressTimes("renderer", "h:1", 10, 9.45, 12.0, 0.5, 4),),
    methods=(MethodTimes("renderer", "render", 10, 12.0, 0.5),),
    workers=(WorkerTimes("worker-1", 1.0, 2.0, 7.0, 110.0),),
)  # fmt: skip


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_budget(tmp_path, [SITTING, SITTING])
    assert read_budget(tmp_path) == (SITTING, SITTING)


def test_a_run_without_one_has_none(tmp_path: Path) -> None:
    assert read_budget(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"schema": "other"}, "'other' version 1, not 'omniloop-budget' version 1"),
        ({"version": 2}, "version 2"),
        ({"sittings": [{"started": 3}]}, "sittings.0"),
        ({"sittings": 3}, "sittings."),
    ],
)
def test_a_damaged_one_is_named_with_its_fault(
    change: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    path = write_budget(tmp_path, [SITTING])
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RunFolderError) as caught:
        read_budget(tmp_path)
    assert fault in caught.value.what
    assert caught.value.where == str(tmp_path / BUDGET_NAME)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"schema": "omniloop-budget"}', "\udcff"])
def test_what_is_no_document_is_an_error_of_the_folder(text: str, tmp_path: Path) -> None:
    (tmp_path / BUDGET_NAME).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunFolderError):
        read_budget(tmp_path)
