"""What the batch bench measures: a short soak in which nothing may grow, and its parts' answers."""

from __future__ import annotations

import pytest

from omniloop.bench import batch
from omniloop.bench.batch import run
from omniloop.bench.batch_soak import soak
from omniloop.core.errors import ConfigError


def test_nothing_grows_over_a_short_soak() -> None:
    found = soak(100)
    assert found["rollouts"] == 100
    assert found["outcomes"] == ["completed"]
    # Between the two medians lie 50 rollouts. Of each kind those under way have some, and pools of
    # threads grow as they are asked; what every other rollout leaves behind is more.
    for name in ("threads", "files", "tasks"):
        assert found[name]["last quarter"] < found[name]["second quarter"] + 25, (name, found[name])
    for name in ("parent_mib", "workers_mib"):
        assert found[name]["last quarter"] < found[name]["second quarter"] + 64, (name, found[name])


def test_scheduling_is_timed_alone_and_with_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_PAIRS", 1)
    monkeypatch.setattr(batch, "_QUEUED", 500)
    found = run(["scheduling"], moments=1, rollouts=8)["scheduling"]
    assert found["scheduler_ms"] > 0
    assert found["scheduler_and_batch_ms"] > 0


def test_an_unknown_part_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown part 'wokers'") as refused:
        run(["wokers"], moments=1, rollouts=8)
    assert "workers, scheduling, pipeline, live, kill, soak" in refused.value.remedy
