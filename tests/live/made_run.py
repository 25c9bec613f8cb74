"""A made run: its events, what commands it, and who listens to the broker."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from omniloop.core.metric_value import MetricValue
from omniloop.live.broker import Broker
from omniloop.live.events import (
    Event,
    Progress,
    RolloutEnded,
    RolloutStarted,
    RunStarted,
    ServiceLoad,
)
from omniloop.runlog.results import RolloutResult

CONTACT = {
    "actor_id": "7", "actor_class": "CAR", "kind": "front", "relative_speed_mps": 3.25,
    "ego_speed_mps": 8.0, "start_us": 6_000_000, "end_us": 6_500_000, "at_fault": True,
}  # fmt: skip


def result_of(
    seed: int = 0,
    scene: str = "line",
    outcome: str = "completed",
    what: str = "",
    crash: bool = False,
) -> RolloutResult:
    metrics = {
        "incident": MetricValue("incident", float(crash)),
        "collision": MetricValue(
            "collision", float(crash), details={"contacts": [CONTACT]} if crash else {}
        ),
        "progress_rel": MetricValue("progress_rel", None, "no route"),
    }
    error = {"type": "ServiceError", "what": what, "where": "renderer", "remedy": "restart it"}
    return RolloutResult(
        scene, seed, f"{scene}/{seed}", outcome, error=error if what else None, metrics=metrics,
        handover_us=2_000_000, timings={"wall_s": 1.5},
    )  # fmt: skip


def started(run: str = "demo", planned: int = 10, run_dir: str = "runs/demo") -> RunStarted:
    return RunStarted(run, run_dir, planned, 0, "inline", 1, 2)


def progress(done: int = 0, state: str = "running", planned: int = 10, elapsed_s: float = 1.0) -> Progress:  # fmt: skip
    load = ServiceLoad("policy", "host:50051", 10 * done, 0.5 * elapsed_s, 1.0, 0.25, 2, 4)
    return Progress(
        state, planned, done, {"completed": done}, 2, planned - done, 0, 2, elapsed_s, 9.0, 1.5,
        300.0, (load,),
    )  # fmt: skip


def rollouts(count: int, first: int = 0) -> Iterable[Event]:
    for seed in range(first, first + count):
        yield RolloutStarted("line", seed, 1, "w0")
        yield RolloutEnded(result_of(seed), 1, "w0")


class Spy:
    """A run's control that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def cancel(self) -> None:
        self.told.append("cancel")

    def set_concurrency(self, rollouts: int) -> None:
        self.told.append(rollouts)


class Ear:
    """Hears everything under a prefix, in a thread of its own, across a broker's restarts."""

    def __init__(self, url: str, read_s: float = 0.0) -> None:
        self._broker = Broker.parse(url, "test")
        self._read_s = read_s  # how slowly
        self.heard: list[tuple[str, bytes, bool]] = []
        self._out: list[tuple[str, bytes, bool]] = []
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._go()), daemon=True)
        self._thread.start()
        assert self._ready.wait(120)

    async def _go(self) -> None:
        while not self._stop.is_set():
            try:
                async with self._broker.client(timeout=15.0) as client:
                    await client.subscribe(f"{self._broker.prefix}/#", qos=1)
                    self._ready.set()
                    reading = asyncio.create_task(self._read(client))
                    while not self._stop.is_set() and not reading.done():
                        while self._out:
                            topic, payload, retain = self._out[0]
                            await client.publish(topic, payload, qos=1, retain=retain)
                            self._out.pop(0)
                        await asyncio.sleep(0.02)
                    reading.cancel()
            except Exception:
                await asyncio.sleep(0.1)

    async def _read(self, client: Any) -> None:
        async for message in client.messages:
            # amqtt tells a new client what is retained for the others too
            if message.topic.matches(f"{self._broker.prefix}/#"):
                self.heard.append((message.topic.value, message.payload, message.retain))
            if self._read_s:
                await asyncio.sleep(self._read_s)

    def say(self, topic: str, payload: bytes | str, retain: bool = False) -> None:
        raw = payload.encode() if isinstance(payload, str) else payload
        self._out.append((f"{self._broker.prefix}/{topic}", raw, retain))

    def of(self, level: str) -> list[dict[str, Any]]:
        """Documents of topics with such a level after the run's."""
        start = self._broker.prefix.count("/") + 2
        return [
            json.loads(payload)
            for topic, payload, _ in list(self.heard)
            if payload and topic.split("/")[start : start + 1] == [level]
        ]

    def states(self) -> list[str]:
        return [document["state"] for document in self.of("status")]

    def seeds(self) -> list[int]:
        return [document["seed"] for document in self.of("rollout")]

    def close(self) -> None:
        self._stop.set()
        self._thread.join(60)

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wait_for(true: Callable[[], object], what: str = "", timeout_s: float = 120.0) -> None:
    """Wait for what should be there at once; the limit is for machines that have much to do."""
    until = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until, f"waited in vain for {what or true}"
        time.sleep(0.02)


@contextmanager
def telling_again(tell: Callable[[], object], after_s: float = 0.1) -> Iterator[None]:
    """A run that goes on tells something after a while, and again every 100 ms."""
    over = threading.Event()

    def repeat() -> None:
        wait_s = after_s
        while not over.wait(wait_s):
            tell()
            wait_s = 0.1

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
