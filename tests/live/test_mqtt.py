"""The publisher against a real broker: what arrives, and that nothing stops a run."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from omniloop.live.broker import Broker
from omniloop.live.events import Event, RolloutEnded, RunEnded, RunStarted, WorkerLost
from omniloop.live.mqtt import MqttPublisher
from omniloop.live.schema import json_schema
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
        published.publisher.close(2.0)


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
            wait_for(lambda: ear.of("progress") and ear.of("worker"))
            run.tell(progress(4, "completed"), RunEnded("completed"))
        wait_for(lambda: "completed" in ear.states())
        assert ear.states()[0] == "running"
        assert sorted(ear.seeds()) == [0, 1, 2, 3]
        crash, failed = ear.of("rollout")[2:]
        assert crash["scores"] == {"incident": 1.0, "collision": 1.0, "progress_rel": None}
        assert failed["error"]["what"] == "gone"
        assert (failed["attempt"], failed["worker"], failed["retry_in_s"]) == (2, "w1", 4.0)
        [incident] = ear.of("incident")
        assert (incident["label"], incident["start_us"]) == ("front collision", 6_000_000)
        assert incident["after_handover_s"] == 4.0
        assert ear.of("services")[0]["services"][0]["address"] == "host:50051"
        assert ear.of("worker")[0]["rollouts"] == ["line/5"]
        assert ear.of("status")[-1]["done"] == 4
        sequences = [json.loads(payload)["sequence"] for _, payload, _ in ear.heard]
        assert len(set(sequences)) == len(sequences)
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
        ear.say("demo/command", json.dumps(order))
        wait_for(lambda: ear.of("ack") and ear.of("services"))
        run.tell(RunEnded("failed", "disk full"))
        wait_for(lambda: "failed" in ear.states())
        kinds = set()
        for topic, payload, _ in ear.heard:
            if not topic.endswith("/command"):
                checker.validate(json.loads(payload))
                kinds.add(json.loads(payload)["kind"])
        every = {"status", "progress", "rollout", "incident", "services", "worker", "ack"}
        assert kinds == every
        with pytest.raises(jsonschema.ValidationError):
            checker.validate({**json.loads(ear.heard[0][1]), "state": "sleeping"})


def test_the_status_is_retained_and_says_lost_when_the_process_is_killed(
    broker: BrokerProcess,
) -> None:
    script = Path(__file__).with_name("publishing.py")
    process = subprocess.Popen([sys.executable, str(script), broker.url, "killed"])
    try:
        with Ear(broker.url) as ear:
            wait_for(lambda: "running" in ear.states() and len(ear.seeds()) == 3, timeout_s=20)
            with Ear(broker.url) as late:
                wait_for(late.states)
                assert set(late.states()) == {"running"}
                assert late.heard[0][2], "a retained message"
            process.send_signal(signal.SIGKILL)
            process.wait()
            wait_for(lambda: "lost" in ear.states())
        with Ear(broker.url) as late:
            wait_for(late.states)
            lost = late.of("status")[-1]
            assert (lost["state"], lost["done"], lost["run"]) == ("lost", None, "killed")
    finally:
        process.kill()
        process.wait()


def test_after_a_restart_of_the_broker_what_waited_arrives(broker: BrokerProcess) -> None:
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
        time.sleep(0.7)  # several attempts
        run.tell(*rollouts(5, first=33))
        assert len(run.said) == 1, "it is said once"
        broker.start()
        ear.say("hello", "there")
        wait_for(lambda: ear.heard[-1][0] == "test/hello")
        gate.open()
        wait_for(lambda: set(ear.seeds()) == set(range(38)))
        assert ear.states()[-1] == "running", "the status is told to the new broker too"
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


def test_a_broker_that_hangs_delays_nothing_and_its_backlog_arrives(broker: BrokerProcess) -> None:
    with Ear(broker.url) as ear, publishing(broker.url) as run:
        run.tell(*rollouts(1))
        wait_for(ear.seeds)
        broker.suspend()
        began = time.monotonic()
        run.tell(*rollouts(200, first=1))
        run.tell(progress(200))
        assert time.monotonic() - began < 0.5
        time.sleep(0.5)
        broker.go_on()
        wait_for(lambda: set(ear.seeds()) == set(range(201)))


def test_a_slow_subscriber_holds_up_nobody(broker: BrokerProcess) -> None:
    with Ear(broker.url) as quick, Ear(broker.url, read_s=0.5) as slow:
        with publishing(broker.url) as run:
            run.tell(*rollouts(400))
            wait_for(lambda: len(set(quick.seeds())) == 400)
            run.tell(RunEnded("completed"))
        wait_for(lambda: quick.states()[-1] == "completed")
        assert len(slow.heard) < 20


def test_a_broker_that_is_away_from_the_start_is_said_once_and_the_end_is_quick() -> None:
    run = Published(f"mqtt://127.0.0.1:{free_port()}/x")
    run.tell(started(), *rollouts(5))
    wait_for(lambda: run.said)
    run.tell(*rollouts(5, first=5), RunEnded("completed"))
    began = time.monotonic()
    run.publisher.close(5.0)
    assert time.monotonic() - began < 2.0
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
            wait_for(lambda: len(set(ear.seeds())) <= 10)
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
        topics = {topic for topic, _, _ in ear.heard}
        assert "test/a%2Bb%23c%25d/rollout/x%2Fy%01%C3%A9/0" in topics
        assert ear.of("rollout")[0]["scene"] == scene
        assert ear.of("status")[0]["run"] == name


def test_a_run_that_ends_without_a_word_is_lost_not_running(broker: BrokerProcess) -> None:
    with Ear(broker.url) as ear:
        with publishing(broker.url):
            wait_for(ear.states)
        wait_for(lambda: ear.states()[-1] == "lost")


def test_nothing_that_is_told_can_stop_the_publisher(broker: BrokerProcess) -> None:
    with Ear(broker.url) as ear, publishing(broker.url) as run:
        run.tell(progress(state="asleep"), progress(elapsed_s=float("nan")), *rollouts(1))
        wait_for(ear.seeds)
        wait_for(lambda: run.said)
        assert all("cannot be told" in line for line in run.said)
        run.tell(progress(1), RunEnded("completed"))
        wait_for(lambda: ear.states()[-1] == "completed")


def test_results_do_not_wait_in_memory_for_a_broker() -> None:
    with publishing(f"mqtt://127.0.0.1:{free_port()}/x") as run:
        run.tell(*rollouts(50))
        time.sleep(0.6)
        gc.collect()
        kept = [o for o in gc.get_objects() if isinstance(o, RolloutEnded)]
        assert len(kept) == 0


def test_a_password_is_not_in_what_a_broker_shows_of_itself() -> None:
    broker = Broker.parse("mqtt://eva:s3cret@host/x")
    assert "s3cret" not in repr(broker) + broker.shown
