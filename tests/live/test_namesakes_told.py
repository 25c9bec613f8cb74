"""Runs of one name tell of each other, and `omniloop watch --once` waits for those it is told of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest
from typer.testing import CliRunner

from omniloop.cli import watch as watch_command
from omniloop.cli.main import app
from omniloop.live.board import Board
from omniloop.live.events import RunEnded
from omniloop.live.mqtt import MqttPublisher
from omniloop.live.namesakes import Namesakes
from omniloop.live.schema import encode
from omniloop.live.telling import Telling
from tests.live.brokers import BrokerProcess
from tests.live.made_run import Ear, Spy, progress, started, telling_again, wait_for


def telling(run_dir: str = "runs/demo") -> Telling:
    made = Telling()
    made.take(started(run_dir=run_dir))
    made.take(progress(3))
    return made


def take(board: Board, source: Telling, level: str = "status") -> None:
    message = source.status() if level == "status" else source.progress()
    assert message is not None
    board.take(f"p/demo/{level}", encode(message), 0.0)


def test_a_board_awaits_a_run_that_another_tells_of_until_it_hears_of_it() -> None:
    board, one, other = Board("p"), telling(), telling("elsewhere/demo")
    assert not board.awaits()
    take(board, one)
    assert not board.awaits()
    one.namesakes = (other.instance,)
    take(board, one)
    assert board.awaits()
    take(board, other, "progress")
    assert not board.awaits()
    assert {row.instance for row in board.rows(0.0)} == {one.instance, other.instance}


def test_what_a_run_that_ended_tells_of_others_is_old() -> None:
    board, one = Board("p"), telling()
    one.namesakes = ("gone",)
    one.take(RunEnded("completed"))
    take(board, one)
    assert not board.awaits()


def test_a_run_tells_of_those_that_are_present_in_order() -> None:
    names, others = Namesakes("me", ("here", "/runs/demo")), [telling(f"/x/{n}") for n in range(3)]
    others[2].instance = "x" * 65  # no run of ours
    for other in others:
        names.take(encode(other.status()), retained=False, now_s=0.0)
    assert names.instances(1.0) == tuple(sorted(other.instance for other in others[:2]))
    assert names.instances(46.0) == ()


@contextmanager
def going_on(run_dir: str, url: str, done: int) -> Iterator[MqttPublisher]:
    publisher = MqttPublisher(url, Spy(), [].append)
    publisher.tell(started("demo", run_dir=run_dir))
    publisher.tell(progress(done))
    try:
        yield publisher
    finally:
        publisher.close(30.0)


def test_a_look_at_two_runs_of_one_name_shows_both(
    broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker retains the status of one; the other says its next word late."""
    for limit in ("_FIRST_WORD_S", "_NAMESAKE_S"):  # for machines that have much to do
        monkeypatch.setattr(watch_command, limit, 60.0)
    with ExitStack() as stack:
        ear = stack.enter_context(Ear(broker.url))
        runs = [
            stack.enter_context(going_on(f"{place}/demo", broker.url, done))
            for place, done in (("here", 3), ("elsewhere", 5))
        ]
        wait_for(lambda: len({s["instance"] for s in ear.of("status") if s["namesakes"]}) == 2)
        instances = {s["instance"] for s in ear.of("status")}
        last = ear.of("status")[-1]  # what is retained
        assert {last["instance"], *last["namesakes"]} == instances
        for run, done, late_s in zip(runs, (3, 5), (0.7, 1.4), strict=True):
            stack.enter_context(telling_again(partial(run.tell, progress(done)), late_s))
        shown = CliRunner().invoke(app, ["watch", broker.url, "--once", "--json"])
        rows = json.loads(shown.stdout)
        assert {row["done"] for row in rows} == {3, 5}
        assert {row["instance"] for row in rows} == instances
        assert all(row["shared"] for row in rows)
