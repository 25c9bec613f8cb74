"""A run's timings for a Prometheus server that scrapes them: ``run.prometheus=PORT``.

Names follow AlpaSim's where it has such a metric, with ``omniloop_`` for ``alpasim_``.
"""

from __future__ import annotations

import importlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from omniloop.core.errors import ConfigError
from omniloop.live.events import STATES, Event, Progress, RolloutEnded
from omniloop.live.totals import Totals
from omniloop.runlog.budget import Sitting
from omniloop.runlog.timings import seconds

HOST = "127.0.0.1"
_MIB = 1 << 20
_BUCKETS_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600)


def check_port(port: int | None) -> None:
    """Refuse a port that cannot be had, before anything starts.

    Raises:
        ConfigError: see `PrometheusEndpoint`.
    """
    if port is None:
        return
    _client()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise _unusable(port, error) from error


class PrometheusEndpoint:
    """Answers ``GET /metrics`` on this machine's loopback, in threads of its own.

    Args:
        port: 0 takes a free one; see `port`.

    Raises:
        ConfigError: the port is taken or not allowed, or the extra is not installed.
    """

    def __init__(self, port: int) -> None:
        client = _client()
        self._totals = Totals()
        registry = client.CollectorRegistry(auto_describe=False)
        registry.register(_Collector(self._totals))
        client.ProcessCollector(registry=registry)
        client.GCCollector(registry=registry)
        self._durations = client.Histogram(
            "omniloop_rollout_duration_seconds", "Wall time of a rollout, scoring included.",
            buckets=_BUCKETS_S, registry=registry,
        )  # fmt: skip
        try:
            server, thread = client.start_http_server(port, addr=HOST, registry=registry)
        except OSError as error:
            raise _unusable(port, error) from error
        self._server: Any = server
        self._thread: threading.Thread = thread

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    @property
    def url(self) -> str:
        """What to scrape."""
        return f"http://{HOST}:{self.port}/metrics"

    def tell(self, event: Event) -> None:
        """Take note of an event; returns at once and raises nothing."""
        self._totals.take(event)
        if isinstance(event, RolloutEnded):
            wall_s = seconds(event.result.timings.get("wall_s"))
            if wall_s is not None:
                self._durations.observe(wall_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Answer no more and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout_s)


def endpoint_for(port: int | None, notice: Callable[[str], None]) -> PrometheusEndpoint | None:
    """The endpoint that a run's settings ask for; one that cannot be had costs a notice."""
    if port is None:
        return None
    try:
        endpoint = PrometheusEndpoint(port)
    except ConfigError as error:
        notice(f"{error.where}: {error.what}; the run goes on without")
        return None
    notice(f"timings at {endpoint.url}")
    return endpoint


class _Collector:
    """Puts what is known into metrics when somebody asks; telling costs a run nothing more."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Any]:
        sitting, progress = self._totals.sitting(), self._totals.progress
        if sitting is None or self._totals.began is None:
            return
        began = self._totals.began
        info = {"run": began.run, "executor": began.executor}
        yield _family("Gauge", "run_info", "Which run this is.", [(info, 1.0)])
        yield _family(
            "Gauge", "run_state", "1 for what the run is doing, else 0.",
            [({"state": s}, float(s == _state(sitting, progress))) for s in STATES],
        )  # fmt: skip
        yield from _of_rollouts(sitting)
        yield from _of_services(sitting, progress)
        yield from _of_workers(progress)
        if progress is not None:
            yield from _of_progress(progress)


def _state(sitting: Sitting, progress: Progress | None) -> str:
    return sitting.state if sitting.state != "running" or progress is None else progress.state


def _of_rollouts(sitting: Sitting) -> Iterator[Any]:
    yield _family(
        "Counter", "rollouts", "Rollouts that ended, by outcome.",
        [({"status": outcome}, float(n)) for outcome, n in sitting.outcomes.items()],
    )  # fmt: skip
    yield _family(
        "Counter", "rollout_retries", "Attempts that failed and are made again.",
        [({}, float(sitting.retries))],
    )  # fmt: skip
    rpc = _metrics().SummaryMetricFamily(
        "omniloop_rpc_duration_seconds", "Calls of services by the rollouts that ended.",
        labels=("service", "method"),
    )  # fmt: skip
    for m in sitting.methods:
        rpc.add_metric((m.service, m.method), count_value=m.calls, sum_value=m.total_s)
    yield rpc
    yield _family(
        "Gauge", "rpc_duration_longest_seconds", "The longest call.",
        [({"service": m.service, "method": m.method}, m.longest_s) for m in sitting.methods],
    )  # fmt: skip


def _of_services(sitting: Sitting, progress: Progress | None) -> Iterator[Any]:
    def per_address(name: str, text: str, value: Callable[[Any], float]) -> Any:
        labels = [{"service": s.service, "address": s.address} for s in sitting.services]
        values = [value(s) for s in sitting.services]
        return _family("Counter", name, text, list(zip(labels, values, strict=True)))

    yield per_address("service_calls", "Calls that ended.", lambda s: float(s.calls))
    yield per_address(
        "service_busy_seconds", "Time with a call on its way.", lambda s: float(s.busy_s)
    )
    yield per_address(
        "service_waiting_seconds", "Time that rollouts waited for answers.",
        lambda s: float(s.waiting_s),
    )  # fmt: skip
    yield _family(
        "Counter", "queueing_seconds", "Time in which nothing could begin, by what was full.",
        [({"resource": what}, s) for what, s in sitting.queueing_s.items()],
    )  # fmt: skip
    now = progress.services if progress is not None else ()
    places = [({"service": s.service, "address": s.address}, s) for s in now]
    yield _family(
        "Gauge", "service_sessions", "Sessions at present.",
        [(labels, float(s.sessions)) for labels, s in places],
    )  # fmt: skip
    yield _family(
        "Gauge", "service_avoided", "1 where an address lately failed and gets no rollouts.",
        [(labels, float(s.avoided)) for labels, s in places],
    )  # fmt: skip


def _of_workers(progress: Progress | None) -> Iterator[Any]:
    workers = [({"worker_id": w.worker}, w) for w in (progress.workers if progress else ())]
    yield _family(
        "Gauge", "event_loop_lag_seconds", "The longest that the event loop lately was late.",
        [(labels, w.lag_ms / 1e3) for labels, w in workers],
    )  # fmt: skip
    yield _family(
        "Counter", "event_loop_work_seconds", "CPU time of the event loop's thread.",
        [(labels, w.loop_s) for labels, w in workers],
    )  # fmt: skip
    yield _family(
        "Counter", "worker_cpu_seconds", "CPU time of all threads.",
        [(labels, w.cpu_s) for labels, w in workers],
    )  # fmt: skip
    yield _family(
        "Gauge", "worker_memory_bytes", "Resident memory.",
        [(labels, w.memory_mib * _MIB) for labels, w in workers],
    )  # fmt: skip


def _of_progress(progress: Progress) -> Iterator[Any]:
    for name, text, value in (
        ("simulation_elapsed_seconds", "Since the run's start.", progress.elapsed_s),
        ("rollouts_planned", "Rollouts in all.", progress.planned),
        ("rollouts_done", "Rollouts with a result, of earlier starts too.", progress.done),
        ("rollouts_in_flight", "Rollouts that are simulated now.", progress.in_flight),
        ("job_queue_depth", "Rollouts that have not begun.", progress.queued),
        ("concurrency", "Rollouts at once, as set.", progress.concurrency),
        ("slots", "Rollouts at once that workers and sessions allow, too.", progress.slots),
        ("memory_bytes", "Resident memory of run and workers.", progress.memory_mib * _MIB),
    ):
        yield _family("Gauge", name, text, [({}, float(value))])


def _family(kind: str, name: str, text: str, samples: list[tuple[dict[str, str], float]]) -> Any:
    names = tuple(samples[0][0]) if samples else ()
    make = getattr(_metrics(), f"{kind}MetricFamily")
    family = make(f"omniloop_{name}", text, labels=names)
    for labels, value in samples:
        family.add_metric(tuple(labels[n] for n in names), value)
    return family


def _metrics() -> Any:
    return importlib.import_module("prometheus_client.metrics_core")


def _unusable(port: int, error: OSError) -> ConfigError:
    return ConfigError(
        f"port {port} cannot be used: {error.strerror or error}",
        where=f"run.prometheus={port}", remedy="choose another; 0 takes a free one",
    )  # fmt: skip


def _client() -> Any:
    """The package, which is an extra.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("prometheus_client")
    except ImportError as error:
        raise ConfigError(
            f"prometheus_client is not installed: {error}", where="run.prometheus",
            remedy="pip install 'omniloop[prometheus]'",
        ) from error  # fmt: skip
