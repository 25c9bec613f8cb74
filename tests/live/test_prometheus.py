"""The endpoint of a made run; ``tests/runner/test_time_budget_run.py`` scrapes a real one."""

from __future__ import annotations

import socket
import sys
import urllib.error
import urllib.request

import pytest

from omniloop.core.errors import ConfigError
from omniloop.live.events import RunEnded
from omniloop.live.prometheus import HOST, PrometheusEndpoint, check_port, endpoint_for
from tests.live.brokers import free_port
from tests.live.made_run import progress, rollouts, started

pytest.importorskip("prometheus_client")


def scraped(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=120) as answer:
        lines = answer.read().decode().splitlines()
    return {k: float(v) for k, _, v in (x.rpartition(" ") for x in lines if x and x[0] != "#")}


def test_what_was_told_can_be_scraped_until_the_end() -> None:
    endpoint = PrometheusEndpoint(free_port())  # which nobody takes once it is closed
    try:
        before = scraped(endpoint.url)
        assert "process_resident_memory_bytes" in before
        assert not any(name.startswith("omniloop_run_") for name in before)
        endpoint.tell(started())
        for event in rollouts(3):
            endpoint.tell(event)
        endpoint.tell(progress(3, elapsed_s=4.0))
        found = scraped(endpoint.url)
        assert found['omniloop_run_info{executor="inline",run="demo"}'] == 1
        assert found['omniloop_rollouts_total{status="completed"}'] == 3
        assert found["omniloop_job_queue_depth"] == 7
        assert found['omniloop_service_busy_seconds_total{address="host:50051",service="policy"}'] == 2.0  # fmt: skip
        assert found["omniloop_rollout_duration_seconds_sum"] == 4.5
        assert found['omniloop_run_state{state="running"}'] == 1
        endpoint.tell(RunEnded("failed", "no disk"))
        assert scraped(endpoint.url)['omniloop_run_state{state="failed"}'] == 1
    finally:
        endpoint.close()
    with pytest.raises(urllib.error.URLError):
        scraped(endpoint.url)


def test_a_port_that_is_taken_is_refused_before_the_run_and_a_notice_within_it() -> None:
    port = free_port()
    with socket.create_server((HOST, port)):
        with pytest.raises(ConfigError, match=f"port {port} cannot be used") as refused:
            check_port(port)
        assert refused.value.where == f"run.prometheus={port}"
        said: list[str] = []
        assert endpoint_for(port, said.append) is None
        assert "the run goes on without" in said[0]
    check_port(port)  # free again
    check_port(None)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match="not installed") as refused:
        check_port(0)
    assert refused.value.remedy == "pip install 'omniloop[prometheus]'"
