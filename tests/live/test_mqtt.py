"""The publisher against a real broker: what arrives, and that nothing stops a run."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from omniloop.live.broker import Broker
from omniloop.live.events import Event, RolloutEnded, RunEnded, RunStarted, WorkerLost
from omniloop.live.mqtt import MqttPublisher
from omniloop.live.schema import encode, json_schema
from omniloop.live.telling import Telling
from tests.live.brokers import BrokerProcess, Gate, free_port
from tests.live.made_run import Ear, Spy, progress, result_of, rollouts, started, wait_for

StartBroker = Callable[..., BrokerProcess]


class Published:
    """A publisher with what it was told and what it said."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.control = Spy()
        self.said: list[str] = []
        settings = {"backoff_s": (0.1, 0.3), **settings}
        self.publisher = MqttPublisher(url, self.control, self.said.append, **settings)

    def tell(self, *events: Event) -> None:
        for event in events:
            self.publisher.tell(event)


@contextmanager
def publishing(url: str, run: RunStarted | None = None, **settings: Any) -> Iterator[Published]:
    published = Published(url, **settings)
    published.tell(run or started())
    try:
        yield published
    finally:
        published.publisher.close(120.0)


def test_a_run_is_told_from_its_start_to_its_end(broker: BrokerProcess) -> None:
    with Ear(broker.url) as ear:
        with publishing(broker.url) as run:
            run.tell(
                *rollouts(2),
                RolloutEnded(result_of(2, crash=True), 1, "w0"),
                RolloutEnded(result_of(3, outcome="infrastructure_failed", what="gone"), 2, "w1", 4.0),
                WorkerLost("w1", "killed", ("line/5",)),
                progress(3),
            )  # fmt: skip
            wait_for(lambda: ear.of("progress") and ear.of("services") and ear.of("worker"))
            run.tell(progress(4, "completed"), RunEnded("completed"))
        wait_for(lambda: "completed" in ear.states())
        wait_for(lambda: ear.of("incident") and set(ear.seeds()) == {0, 1, 2, 3})
        assert ear.states()[0] == "running"
        of_seed = {d["seed"]: d for d in ear.of("rollout")}
        crash, failed = of_seed[2], of_seed[3]
        assert crash["scores"] == {"incident": 1.0, "collision": 1.0, "progress_rel": None}
        assert failed["error"]["what"] == "gone"
        assert (failed["attempt"], failed["worker"], failed["retry_in_s"]) == (2, "w1", 4.0)
        [incident] = {d["sequence"]: d for d in ear.of("incident")}.values()
        assert (incident["label"], incident["start_us"]) == ("front collision", 6_000_000)
        assert incident["after_handover_s"] == 4.0
        assert ear.of("services")[0]["services"][0]["address"] == "host:50051"
        assert ear.of("worker")[0]["rollouts"] == ["line/5"]
        assert ear.of("status")[-1]["done"] == 4
        messages = {payload for _, payload, _ in ear.heard}  # one may come twice
        assert len({json.loads(payload)["sequence"] for payload in messages}) == len(messages)
        assert not run.said


def test_every_message_keeps_to_the_schema(broker: BrokerProcess) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema()
    for definition in schema["$defs"].values():  # so that a key that is not documented is found
        definition.setdefault("additionalProperties", False)
    checker = jsonschema.Draft202012Validator(schema)
    command = jsonschema.Draft202012Validator({"$ref": "#/$defs/Command", "$defs": schema["$defs"]})
    order = {"id": "1", "command": "pause"}
    command.validate(order)
    with Ear(broker.url) as ear, publishing(broker.url) as run:
        run.tell(
            *rollouts(2), RolloutEnded(result_of(2, crash=True), 1, "w0"),
            RolloutEnded(result_of(3, outcome="policy_failed", what="no plan"), 1, "w0"),
            WorkerLost("w1", "killed", ()), progress(3),
        )  # fmt: skip
        wait_for(ear.states)  # before it no command is heard
        ear.say("demo/command", json.dumps(order))
        wait_for(lambda: ear.of("ack") and ear.of("services") and ear.of("worker"))
        run.tell(RunEnded("failed", "disk full"))
        wait_for(lambda: "failed" in ear.states())

        def messages() -> list[dict[str, Any]]:
            heard = [(topic, payload) for topic, payload, _ in list(ear.heard)]
            return [json.loads(p) for topic, p in heard if not topic.endswith("/command")]

        every = {"status", "progress", "rollout", "incident", "services", "worker", "ack"}
        wait_for(lambda: {message["kind"] for message in messages()} >= every)
        for message in messages():
            checker.validate(message)
        assert {message["kind"] for message in messages()} == every
        with pytest.raises(jsonschema.ValidationError):
            checker.validate({**json.loads(ear.heard[0][1]), "state": "sleeping"})


def test_the_status_is_retained_and_says_lost_when_the_process_is_killed(
    broker: BrokerProcess,
) -> None:
    script = Path(__file__).with_name("publishing.py")
    with Ear(broker.url) as ear:
        process = subprocess.Popen([sys.executable, str(script), broker.url, "killed"])
        try:
            wait_for(lambda: len(set(ear.seeds())) == 3)
            wait_for(lambda: "running" in ear.states())
            with Ear(broker.url) as late:
                wait_for(lambda: any(t.endswith("/status") and kept for t, _, kept in late.heard))
                assert set(late.states()) == {"running"}
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        wait_for(lambda: "lost" in ear.states())
    with Ear(broker.url) as late:
        wait_for(lambda: late.states()[-1:] == ["lost"])
        lost = late.of("status")[-1]
        assert (lost["done"], lost["run"]) == (None, "killed")


def test_after_a_restart_of_the_broker_what_waited_arrives(start_broker: StartBroker) -> None:
    broker = start_broker()
    gate = Gate(broker).open()  # so that the subscriber is back before the publisher is
    with Ear(broker.url) as ear, publishing(gate.url) as run:
        run.tell(*rollouts(3))
        wait_for(lambda: len(ear.seeds()) == 3)
        broker.kill()
        gate.close()
        run.tell(*rollouts(30, first=3))
        wait_for(lambda: run.said)
        assert "cannot be reached" in run.said[0]
        assert "the run goes on" in run.said[0]
        before = len(ear.states())
        time.sleep(0.7)  # several attempts, of which no further line comes
        run.tell(*rollouts(5, first=33))
        assert len(run.said) == 1, "it is said once"
        broker.start()
        ear.say("hello", "there")
        wait_for(lambda: any(topic == "test/hello" for topic, _, _ in ear.heard))
        gate.open()
        wait_for(lambda: set(ear.seeds()) == set(range(38)))
        wait_for(lambda: ear.states()[before:], "its status told to the new broker too")
        assert set(ear.states()[before:]) == {"running"}
        wait_for(lambda: len(run.said) == 2)
        assert "is there" in run.said[1]
    gate.close()


def test_a_lost_connection_is_lost_and_then_running_again(broker: BrokerProcess) -> None:
    gate = Gate(broker).open()
    with Ear(broker.url) as ear, publishing(gate.url) as run:
        wait_for(ear.states)
        for count in range(1, 3):
            gate.close()
            wait_for(lambda: ear.states()[-1] == "lost")
            gate.open()
            wait_for(lambda: ear.states()[-1] == "running")
            run.tell(*rollouts(1, first=count))
            wait_for(lambda: count in ear.seeds())  # noqa: B023
    gate.close()
    assert not any("another run" in line for line in run.said)


def test_a_broker_that_hangs_delays_nothing_and_its_backlog_arrives(
    start_broker: StartBroker,
) -> None:
    broker = start_broker()
    with Ear(broker.url) as ear, publishing(broker.url) as run:
        run.tell(*rollouts(1))
        wait_for(ear.seeds)
        broker.suspend()
        run.tell(*rollouts(60, first=1))  # comes back, or the test hangs with the broker
        run.tell(progress(60))
        wait_for(lambda: not run.publisher._unread)
        time.sleep(0.2)  # so that some are on their way when it goes on
        assert set(ear.seeds()) == {0}
        broker.go_on()
        wait_for(lambda: set(ear.seeds()) == set(range(61)))


def test_a_slow_subscriber_holds_up_nobody(broker: BrokerProcess) -> None:
    with Ear(broker.url) as quick, Ear(broker.url, read_s=600.0) as slow:
        with publishing(broker.url) as run:
            run.tell(*rollouts(100))
            wait_for(lambda: len(set(quick.seeds())) == 100)
            run.tell(RunEnded("completed"))
        wait_for(lambda: quick.states()[-1:] == ["completed"])
        assert len(slow.heard) <= 1


def test_a_broker_that_is_away_from_the_start_is_said_once_and_the_end_is_quick() -> None:
    run = Published(f"mqtt://127.0.0.1:{free_port()}/x")
    run.tell(started(), *rollouts(5))
    wait_for(lambda: run.said)
    run.tell(*rollouts(5, first=5), RunEnded("completed"))
    began = time.monotonic()
    run.publisher.close(150.0)
    assert time.monotonic() - began < 100.0, "it does not wait for as long as it may"
    assert len(run.said) == 2
    assert "cannot be reached" in run.said[0]
    assert "10 live message(s) were not delivered" in run.said[1]
    run.tell(progress())  # nothing comes of it, nothing is raised


def test_of_what_waits_the_oldest_is_given_up_and_counted(start_broker: StartBroker) -> None:
    broker = start_broker()
    broker.kill()
    with publishing(broker.url, keep=10) as run:
        run.tell(*rollouts(25))
        wait_for(lambda: run.said and not run.publisher._unread)
        broker.start()
        with Ear(broker.url) as ear:
            wait_for(lambda: any(s["dropped"] == 15 for s in ear.of("status")))
            run.tell(*rollouts(1, first=99))
            wait_for(lambda: 99 in ear.seeds())
            assert set(ear.seeds()) <= {*range(15, 25), 99}


def test_wrong_credentials_are_said_in_one_line_without_the_password(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = start_broker(user="eva", password="s3cret")
    monkeypatch.setenv("OMNILOOP_MQTT_USER", "eva")
    monkeypatch.setenv("OMNILOOP_MQTT_PASSWORD", "wrong-one")
    with publishing(broker.url) as run:
        run.tell(*rollouts(2))
        wait_for(lambda: run.said)
        time.sleep(0.5)
        assert len(run.said) == 1
        assert "does not let in user 'eva'" in run.said[0]
        assert "OMNILOOP_MQTT_PASSWORD" in run.said[0]
        assert "wrong-one" not in run.said[0]
    monkeypatch.setenv("OMNILOOP_MQTT_PASSWORD", "s3cret")
    with Ear(broker.url) as ear, publishing(broker.url) as run:
        wait_for(ear.states)
        run.tell(*rollouts(1))
        wait_for(ear.seeds)
        assert not run.said
        assert not any(b"s3cret" in payload for _, payload, _ in ear.heard)


def test_tls_is_checked_both_ways(start_broker: StartBroker, tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    leaf = authority.issue_cert("localhost")
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    (tmp_path / "other.pem").write_bytes(stranger.cert_pem.bytes())
    (tmp_path / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    (tmp_path / "key.pem").write_bytes(leaf.private_key_pem.bytes())
    broker = start_broker(tls=(tmp_path / "cert.pem", tmp_path / "key.pem"))
    url = f"mqtts://localhost:{broker.port}/test?ca={tmp_path}"
    with Ear(f"{url}/ca.pem") as ear, publishing(f"{url}/ca.pem") as run:
        run.tell(*rollouts(1))
        wait_for(ear.seeds)
        assert not run.said
    with publishing(f"{url}/other.pem") as run:
        wait_for(lambda: run.said)
        assert "no TLS connection" in run.said[0]
        assert "ca=FILE" in run.said[0]


def test_commands_are_carried_out_and_acknowledged(broker: BrokerProcess) -> None:
    with Ear(broker.url) as ear, publishing(broker.url) as run:
        wait_for(ear.states)
        for order in (
            {"id": "a", "command": "pause"},
            {"id": "b", "command": "resume"},
            {"id": "c", "command": "set_concurrency", "value": 7},
            {"id": "d", "command": "cancel"},
        ):
            ear.say("demo/command", json.dumps(order))
        wait_for(lambda: len(ear.of("ack")) == 4)
        assert run.control.told == ["pause", "resume", 7, "cancel"]
        assert [(ack["id"], ack["ok"]) for ack in ear.of("ack")] == [(i, True) for i in "abcd"]


def test_malformed_commands_are_answered_and_do_nothing(broker: BrokerProcess) -> None:
    with Ear(broker.url) as ear:
        ear.say("demo/command", json.dumps({"id": "old", "command": "cancel"}), retain=True)
        wait_for(lambda: any(topic.endswith("command") for topic, _, _ in ear.heard))
        with publishing(broker.url) as run:
            wait_for(lambda: ear.of("ack"))
            assert "retained" in ear.of("ack")[0]["what"]
            for payload in (b" ", b"\xff\x00", b"[" * 4000, b"x" * 1_000_000, b'{"id":"q"}'):
                ear.say("demo/command", payload)
            wait_for(lambda: sum("retained" not in ack["what"] for ack in ear.of("ack")) == 5)
            assert not any(ack["ok"] for ack in ear.of("ack"))
            ear.say("demo/command", json.dumps({"id": "r", "command": "pause"}))
            wait_for(lambda: run.control.told == ["pause"])
        assert not run.said


def test_names_that_topics_do_not_allow_are_percent_encoded(broker: BrokerProcess) -> None:
    name, scene = "a+b#c%d", "x/y\x01é"
    with Ear(broker.url) as ear, publishing(broker.url, started(name)) as run:
        run.tell(RolloutEnded(result_of(0, scene), 1, "w0"))
        wait_for(ear.seeds)
        wait_for(ear.states)
        topics = {topic for topic, _, _ in ear.heard}
        assert f"{broker.prefix}/a%2Bb%23c%25d/rollout/x%2Fy%01%C3%A9/0" in topics
        assert ear.of("rollout")[0]["scene"] == scene
        assert ear.of("status")[0]["run"] == name


def test_a_run_that_ends_without_a_word_is_lost_not_running(broker: BrokerProcess) -> None:
    with Ear(broker.url) as ear:
        with publishing(broker.url):
            wait_for(ear.states)
        wait_for(lambda: ear.states()[-1] == "lost")


def test_two_runs_of_one_name_are_said_and_steered_apart(broker: BrokerProcess) -> None:
    with Ear(broker.url) as ear, publishing(broker.url) as one:
        wait_for(ear.states)
        with publishing(broker.url, started(run_dir="elsewhere/demo")) as two:
            wait_for(lambda: one.said and two.said)
            assert f"another run 'demo' is told under {broker.url} too" in two.said[0]
            assert os.path.abspath("runs/demo") in two.said[0]
            assert os.path.abspath("elsewhere/demo") in one.said[0]
            assert "run.name=NAME" in one.said[0]
            wait_for(lambda: len({d["instance"] for d in ear.of("status")}) == 2)
            first, second = dict.fromkeys(d["instance"] for d in ear.of("status"))
            ear.say("demo/command", json.dumps({"id": "a", "command": "cancel"}))
            wait_for(lambda: len(ear.of("ack")) == 2)
            assert {ack["instance"] for ack in ear.of("ack")} == {first, second}
            for ack in ear.of("ack"):
                assert not ack["ok"]
                assert first in ack["what"]
                assert second in ack["what"]
            for id_, whom in (("b", second), ("c", first)):
                order = {"id": id_, "command": "pause", "instance": whom}
                ear.say("demo/command", json.dumps(order))
            wait_for(lambda: len(ear.of("ack")) == 4)
            assert [(a["id"], a["ok"], a["instance"]) for a in ear.of("ack")[2:]] in (
                [("b", True, second), ("c", True, first)],
                [("c", True, first), ("b", True, second)],
            )
            assert (one.control.told, two.control.told) == (["pause"], ["pause"])
            two.tell(RunEnded("completed"))
        # What the broker keeps is of the run that goes on, and that run is alone again.
        wait_for(lambda: "completed" in ear.states()[:-1])
        assert ear.of("status")[-1]["instance"] == first
        ear.say("demo/command", json.dumps({"id": "d", "command": "resume"}))
        wait_for(lambda: one.control.told == ["pause", "resume"])
        assert (len(one.said), len(two.said)) == (1, 1), "it is said once"


def test_a_run_that_is_taken_up_takes_over_its_topic_without_a_word(broker: BrokerProcess) -> None:
    with Ear(broker.url) as ear:
        for place in ("runs/demo", "runs/demo", "elsewhere/demo"):  # each after the end of another
            with publishing(broker.url, started(run_dir=place)) as run:
                wait_for(lambda: ear.states()[-1:] == ["running"])
                ear.say("demo/command", json.dumps({"id": "a", "command": "pause"}))
                wait_for(lambda: run.control.told)
            wait_for(lambda: ear.states()[-1] == "lost")
            assert not run.said
        # One whose end the broker has not told yet; a folder has one run at a time.
        telling = Telling()
        telling.take(started())
        ear.say("demo/status", encode(telling.status()), retain=True)
        wait_for(lambda: ear.of("status")[-1]["instance"] == telling.instance)
        with publishing(broker.url) as run:
            wait_for(lambda: ear.of("status")[-1]["instance"] != telling.instance)
            before = len(ear.states())
            ear.say("demo/status", encode(telling.lost()), retain=True)
            wait_for(lambda: "lost" in ear.states()[before:-1])
            assert ear.states()[-1] == "running"
            ear.say("demo/command", json.dumps({"id": "a", "command": "pause"}))
            wait_for(lambda: run.control.told)
        assert not run.said


def test_nothing_that_is_told_can_stop_the_publisher(broker: BrokerProcess) -> None:
    with Ear(broker.url) as ear, publishing(broker.url) as run:
        run.tell(progress(state="asleep"), progress(elapsed_s=float("nan")), *rollouts(1))
        wait_for(ear.seeds)
        wait_for(lambda: run.said)
        assert all("cannot be told" in line for line in run.said)
        run.tell(progress(1), RunEnded("completed"))
        wait_for(lambda: ear.states()[-1:] == ["completed"])


def test_results_do_not_wait_in_memory_for_a_broker() -> None:
    with publishing(f"mqtt://127.0.0.1:{free_port()}/x") as run:
        results = []
        for event in rollouts(50):
            if isinstance(event, RolloutEnded):
                results.append(weakref.ref(event.result))
            run.tell(event)
        del event
        wait_for(lambda: not run.publisher._unread)
        wait_for(lambda: gc.collect() >= 0 and not any(result() for result in results))


def test_a_password_is_not_in_what_a_broker_shows_of_itself() -> None:
    broker = Broker.parse("mqtt://eva:s3cret@host/x")
    assert "s3cret" not in repr(broker) + broker.shown
