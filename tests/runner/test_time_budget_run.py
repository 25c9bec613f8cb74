"""A real run at a slow renderer: its budget, its table, its page, and what can be scraped."""

from __future__ import annotations

import http.client
import socket
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from omniloop.bench.wire import servers
from omniloop.bench.wire_servers import Role, Work, measured_work
from omniloop.cli.main import app
from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError
from omniloop.live import efficiency
from omniloop.live.efficiency import percent
from omniloop.live.events import Event, RolloutEnded
from omniloop.live.prometheus import HOST
from omniloop.report.html import write_report
from omniloop.runlog.budget import Sitting, read_budget
from omniloop.runner.run import Finished, execute
from tests.live.brokers import free_port

pytestmark = pytest.mark.timeout(600)

SERVICE_S = 0.1
"""How long the renderer takes for a frame: never less, and the more the busier the machine is."""
SMALL = ["scenes.ids=straight_road", "sync.duration_s=0.8", "policy=constant_velocity", "run.workers=1"]  # fmt: skip


def scrape(port: int) -> str:
    """What is told at a port; nothing if nobody answers there."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=300) as answer:
            return str(answer.read().decode())
    except (OSError, http.client.HTTPException):
        return ""


@dataclass
class Scraper:
    """Scrapes the run at the end of each of its rollouts."""

    port: int
    found: list[str] = field(default_factory=list)

    def tell(self, event: Event) -> None:
        if isinstance(event, RolloutEnded):
            self.found.append(scrape(self.port))


@dataclass(frozen=True)
class Ran:
    finished: Finished
    work: Work
    scraper: Scraper

    @property
    def sitting(self) -> Sitting:
        found = read_budget(self.finished.run_dir)
        assert found is not None
        return found[-1]


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Four rollouts at once at a renderer that makes one frame at a time, 100 ms each.

    It counts as full from a twentieth of the time on: on a busy machine the rest takes long, too.
    """
    pytest.importorskip("prometheus_client")
    role = Role("sensor", SERVICE_S, at_once=1, size=(64, 32))
    scraper = Scraper(free_port())
    with servers([role]) as ports, pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficiency, "FULL", 0.05)
        address = f"127.0.0.1:{ports[0]}"
        before = measured_work([role], [address])[0]
        finished = execute(
            compose([
                *SMALL, "renderer=nurec", f"renderer.address={address}", "renderer.fps=10",
                "renderer.width=64", "renderer.height=32", "run.seeds=4", "run.concurrency=4",
                f"run.dir={tmp_path_factory.mktemp('slow')}", "run.name=slow",
                f"run.prometheus={scraper.port}",
            ]),
            (scraper,),
        )  # fmt: skip
        after = measured_work([role], [address])[0]
    work = Work(after.calls - before.calls, after.held_s - before.held_s)
    return Ran(finished, work, scraper)


def test_the_slow_renderer_is_named_as_the_bottleneck(slow: Ran) -> None:
    assert [r.outcome for r in slow.finished.results] == ["completed"] * 4
    sitting = slow.sitting
    assert sitting.state == "completed"
    share = percent(sitting.efficiency.terms_s["renderer busy"] / sitting.wall_s)
    assert sitting.efficiency.bottleneck.startswith(f"renderer: busy {share} of the time")
    assert "more addresses would help" in sitting.efficiency.bottleneck


def test_busy_is_at_least_what_the_renderer_itself_measured_and_at_most_the_time(slow: Ran) -> None:
    sitting = slow.sitting
    renderer = next(s for s in sitting.services if s.service == "renderer")
    assert slow.work.calls > 0
    assert slow.work.held_s <= renderer.busy_s + 0.01
    assert renderer.busy_s <= sitting.wall_s
    assert renderer.calls == 4 * (2 + 9)  # to open, to close, and each step's frame
    assert renderer.busy_s < renderer.waiting_s <= 4 * renderer.busy_s + 0.01  # up to 4 at once
    near = sitting.efficiency.at_most
    assert near is not None
    assert slow.work.held_s / sitting.wall_s - 0.01 <= near <= 1.0
    rpc = next(m for m in sitting.methods if m.method == "render_rgb")
    assert rpc.calls == slow.work.calls
    assert sitting.memory_mib > 30
    assert sitting.workers[0].cpu_s > 0


def test_times_of_rollouts_are_in_the_table_and_add_up(slow: Ran) -> None:
    rows = pq.read_table(slow.finished.run_dir / "metrics.parquet").to_pylist()
    for row in rows:
        names = ("policy", "traffic", "controller", "ground", "renderer", "own")
        parts = sum(row[f"time_{name}_s"] for name in names)
        assert parts == pytest.approx(row["time_rollout_s"], abs=1e-4)
        assert 9 * SERVICE_S - 0.01 < row["time_renderer_s"] < row["time_rollout_s"]
        assert row["time_queued_s"] >= 0


def test_it_can_be_scraped_while_it_goes_and_not_after(slow: Ran) -> None:
    assert len(slow.scraper.found) == 4
    last = slow.scraper.found[-1]
    calls = 'omniloop_rpc_duration_seconds_count{method="render",service="renderer"}'
    assert calls in last
    assert 'omniloop_service_calls_total{address="127.0.0.1:' in last
    assert "omniloop_event_loop_lag_seconds{worker_id=" in last
    told = last.split("omniloop_rollout_duration_seconds_count ")[1]
    assert 1 <= float(told.split()[0]) <= 4
    assert scrape(slow.scraper.port) == ""


def test_the_page_and_the_command_say_it(slow: Ran) -> None:
    page = write_report(slow.finished.run_dir).read_text()
    assert "more addresses would help" in page
    assert "Mean rollout, while it is simulated" in page
    shown = CliRunner().invoke(app, ["budget", str(slow.finished.run_dir)])
    assert shown.exit_code == 0
    assert "| renderer | 127.0.0.1:" in shown.output
    assert "more addresses would help" in shown.output


def test_a_run_that_is_taken_up_has_a_second_entry(tmp_path: Path) -> None:
    settings = [*SMALL, "renderer=none", f"run.dir={tmp_path}", "run.name=twice"]
    first = execute(compose([*settings, "run.seeds=2"]))
    (first.run_dir / "rollouts/straight_road/1/result.json").unlink()
    execute(compose([*settings, "run.seeds=2", "run.resume=true"]))
    found = read_budget(first.run_dir)
    assert found is not None
    assert [s.rollouts for s in found] == [2, 1]
    execute(compose([*settings, "run.seeds=2", "run.resume=true"]))  # with nothing left to do
    assert read_budget(first.run_dir) == found


def test_a_port_that_is_taken_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        settings = [*SMALL, f"run.dir={tmp_path}", f"run.prometheus={port}"]
        with pytest.raises(ConfigError, match="cannot be used"):
            execute(compose(settings))
    assert list(tmp_path.iterdir()) == []


def test_workers_tell_their_last_times_before_the_run_ends(tmp_path: Path) -> None:
    settings = ["scenes.ids=straight_road", "sync.duration_s=0.8", "policy=constant_velocity"]
    settings += ["renderer=none", "run.seeds=3", "run.workers=2", "run.concurrency=2"]
    finished = execute(compose([*settings, f"run.dir={tmp_path}", "run.name=two"]))
    sitting = read_budget(finished.run_dir)
    assert sitting is not None
    calls = {s.service: s.calls for s in sitting[0].services}
    for service in ("policy", "traffic", "controller"):
        told = (r.timings["services"] for r in finished.results)
        counted = sum(s["calls"] for t in told for n, s in t.items() if n.startswith(f"{service}."))
        assert calls[service] == counted
    assert sitting[0].worker_memory_mib is not None
    assert [w.worker for w in sitting[0].workers] == ["worker-1", "worker-2"]
