from __future__ import annotations

from omniloop.bench.report import run


def test_the_page_of_many_rollouts_is_built_and_measured() -> None:
    found = run(rollouts=50, actors=3, seconds=2.0)
    assert found["with_pictures"] == 24 + 2  # of the five with a contact, three are among the first
    assert found["players_beside"] == 0
    assert found["cpu_s"] > 0
    assert 0 < found["page_mb"] < 15
    assert found["peak_mib"] > 50
