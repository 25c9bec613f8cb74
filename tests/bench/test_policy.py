import pytest

from omniloop.bench.policy import run


def test_decisions_are_timed_alone_and_in_company():
    told = run(["policy=route_follower", "sync.duration_s=1", "renderer=none"], batch=3, rounds=1)
    assert told["decisions"] == 10
    for how in ("single", "batched"):
        assert 0 < told[how]["p50_ms"] <= told[how]["p95_ms"]
        assert told[how]["plans_per_s"] > 0
    ratio = told["batched"]["plans_per_s"] / told["single"]["plans_per_s"]
    assert told["throughput_ratio"] == pytest.approx(ratio, abs=0.01)
    assert told["rss_mib"]["before"] <= told["rss_mib"]["peak"]
