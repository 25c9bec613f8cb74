"""Publishes a run over MQTT and takes commands; the run neither waits for it nor fails by it.

All of it happens in a thread of its own: `MqttPublisher.tell` only appends. Of progress and
timings only the newest is sent; rollouts, incidents and lost workers wait for the broker, up to
a limit, and are delivered at least once (QoS 1).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

from omniloop.live.broker import Broker, explain
from omniloop.live.commands import Commands
from omniloop.live.events import Control, Event, Progress, RunStarted
from omniloop.live.namesakes import Namesakes, place_text
from omniloop.live.schema import ENDS, encode, topic
from omniloop.live.tasks import DaemonThreads, first_of
from omniloop.live.telling import Telling

if TYPE_CHECKING:
    import aiomqtt

_TICK_S = 0.25
_STATUS_AGAIN_S = 15.0
"""A retained status that someone else overwrote or removed is back after so long."""
_MOST_UNREAD = 2_000
_AT_ONCE = 20
"""Messages on their way at once; paho holds back more than so many."""
_REFUSED_AGAIN_S = 60.0


def say(line: str) -> None:
    """Print a line on stderr."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class _Letter:
    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class MqttPublisher:
    """Tells a broker of a run, and the run of commands.

    Attributes:
        broker: Where the broker is.
        cpu_s: CPU time of the publisher's thread so far.
        delivered: Messages that the broker has confirmed, and those that need no confirmation.
    """

    def __init__(
        self,
        url: str,
        control: Control,
        notice: Callable[[str], None] = say,
        *,
        keep: int = 10_000,
        backoff_s: tuple[float, float] = (0.5, 30.0),
    ) -> None:
        """Read the address; nothing is connected before the run's start is told.

        Args:
            url: See `omniloop.live.broker`.
            notice: Told in a line that the broker is away, refuses, or is back.
            keep: Messages that wait for a broker which is away; the oldest are given up first.
            backoff_s: First and longest wait before another attempt to connect.

        Raises:
            ConfigError: the address cannot be used, or aiomqtt is missing.
        """
        self.broker = Broker.parse(url)
        self.cpu_s = 0.0
        self.delivered = 0
        self._notice = notice
        self._keep = keep
        self._backoff_s = backoff_s
        self._telling = Telling()
        self._commands = Commands(control, self._telling.instance)
        self._namesakes: Namesakes | None = None  # known with the start
        self._unread: deque[Event] = deque()
        self._unheard = 0  # events that came faster than they were read
        self._outbox: deque[_Letter] = deque()
        self._due: set[str] = set()  # which of status, progress, services are to be sent
        self._closing = False
        self._all_read = False  # nothing more is told, and all of it is in messages
        self._dead = False
        self._outage = ""  # of which kind the present one is
        self._said: set[str] = set()
        self._thread: threading.Thread | None = None
        self._cancel: Callable[[], object] = bool
        self._wake = asyncio.Event()

    def tell(self, event: Event) -> None:
        """Take note of an event; returns at once and raises nothing."""
        if self._dead or self._closing:
            return
        if len(self._unread) >= _MOST_UNREAD:
            self._unheard += 1
            return
        self._unread.append(event)
        if self._thread is None and isinstance(event, RunStarted):
            self._thread = threading.Thread(target=self._work, name="omniloop-mqtt", daemon=True)
            self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver what waits, as far as it can be done in so long, and let go of the broker."""
        self._closing = True
        thread = self._thread
        if thread is None:
            return
        thread.join(timeout_s)
        if thread.is_alive():
            self._cancel()
            thread.join(0.5)

    def _work(self) -> None:
        try:
            asyncio.run(self._run())
        except asyncio.CancelledError:
            pass  # `close` waited long enough
        except Exception as error:  # the run goes on whatever happens here
            self._notice(
                f"live status over MQTT ends by an error of its own, the run goes on: "
                f"{type(error).__name__}: {error}"
            )
        finally:
            self._dead = True
            self._unread.clear()
            self.cpu_s = time.thread_time()
            left = len(self._outbox)
            if left:
                self._notice(f"{left} live message(s) were not delivered to {self.broker.shown}")

    async def _run(self) -> None:
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        assert main is not None

        def cancel() -> None:
            with contextlib.suppress(RuntimeError):  # the loop closed meanwhile: it is done
                loop.call_soon_threadsafe(main.cancel)

        self._cancel = cancel
        loop.set_default_executor(DaemonThreads())
        await first_of(self._read_events(), self._stay_connected())

    async def _read_events(self) -> None:
        """Turn events into messages, connected or not, so that no result is kept in memory."""
        status_at = time.monotonic()
        while not self._all_read:
            closing = self._closing  # before what is unread is read
            before = self._standing()
            while self._unread:
                self._read(self._unread.popleft())
            self._telling.dropped, self._unheard = self._telling.dropped + self._unheard, 0
            if self._namesakes is not None:
                self._telling.namesakes = self._namesakes.instances(time.monotonic())
            if closing:
                self._telling.end("the process that ran it ended without a word")
                self._all_read = True
            old = time.monotonic() - status_at > _STATUS_AGAIN_S
            if closing or old or before != self._standing():
                status_at = time.monotonic()
                self._due.add("status")
            if self._due or self._outbox:
                self._wake.set()
            self.cpu_s = self._telling.cpu_s = time.thread_time()
            await asyncio.sleep(_TICK_S)
        await asyncio.Event().wait()  # the connection's task ends both

    def _read(self, event: Event) -> None:
        telling = self._telling
        try:
            messages = telling.take(event)
        except ValueError as error:  # a message that its schema refuses
            self._say_once(f"a {type(event).__name__} cannot be told: {error}")
            return
        for message in messages:
            if len(self._outbox) >= self._keep:
                self._outbox.popleft()
                telling.dropped += 1
            self._outbox.append(self._letter(message))
        if isinstance(event, Progress):
            self._due |= {"progress", "services"}

    def _standing(self) -> tuple[object, ...]:
        """What has a new status sent when it changes."""
        telling = self._telling
        if telling.started is None:
            return ()
        # Not which namesakes: of more than are remembered they change with each that is heard,
        # and every run of the name would answer every other's status with its own.
        return (telling.state, telling.concurrency, telling.dropped, len(telling.namesakes))

    async def _stay_connected(self) -> None:
        while self._telling.started is None:
            await asyncio.sleep(0.01)
        self._namesakes = Namesakes(self._telling.instance, self._telling.place)
        shortest_s, longest_s = self._backoff_s
        wait_s = shortest_s
        while True:
            began = time.monotonic()
            try:
                await self._connect_and_serve()
                return
            except Exception as error:
                soon = self._say_why(error)
            if self._all_read:
                return
            if time.monotonic() - began > longest_s:
                wait_s = shortest_s
            await self._pause(wait_s if soon else max(wait_s, _REFUSED_AGAIN_S))
            wait_s = min(wait_s * 2, longest_s)

    async def _pause(self, wait_s: float) -> None:
        """Wait, but not once the run ends: then there is one more attempt."""
        until = time.monotonic() + wait_s
        while not self._all_read and time.monotonic() < until:
            await asyncio.sleep(min(0.1, wait_s))

    def _say_once(self, line: str) -> None:
        if line not in self._said and len(self._said) < 20:
            self._said.add(line)
            self._notice(f"live status: {line}")

    def _say_why(self, error: Exception) -> bool:
        what, soon = explain(error, self.broker)
        kind = "lost" if soon else "refused"
        if kind != self._outage:
            self._outage = kind
            self._notice(f"live status: {what}; the run goes on, it is tried again")
        return soon

    async def _connect_and_serve(self) -> None:
        import aiomqtt

        telling = self._telling
        will = self._letter(telling.lost(), retain=True)
        client = self.broker.client(
            # One id for all connections: a broker that still has the one before tells its will
            # when this one comes, and not after the status that this one sends.
            identifier=f"omniloop-{telling.instance}", timeout=10.0,
            will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=True),
            max_inflight_messages=_AT_ONCE, max_queued_incoming_messages=1_000,
        )  # fmt: skip
        client.pending_calls_threshold = 2 * _AT_ONCE
        async with contextlib.AsyncExitStack() as connection:
            try:
                await connection.enter_async_context(client)
            except BaseException:
                client._client.disconnect()  # else a broker that never answers keeps its socket
                raise
            self._due.add("status")
            if self._outage:
                self._outage = ""
                self._notice(
                    f"live status: the broker {self.broker.shown} is there, "
                    f"{len(self._outbox)} message(s) wait for it"
                )
            await self._listen_to(client)
            await first_of(self._send(client), self._answer(client))

    async def _listen_to(self, client: aiomqtt.Client) -> None:
        # The status first: whoever goes on under this name is known before a command comes.
        for level, lack in (
            ("status", "another run of this name goes unnoticed"), ("command", "no command is heard"),
        ):  # fmt: skip
            where = self._topic(level)
            granted = await client.subscribe(where, qos=1)
            if any(getattr(code, "is_failure", code == 128) for code in granted):
                self._say_once(f"the broker lets nothing be read from {where}: {lack}")

    async def _send(self, client: aiomqtt.Client) -> None:
        """Send what is due until the run ends and all is sent."""
        await self._send_newest(client)
        while True:
            self._wake.clear()
            await self._send_waiting(client)
            await self._send_newest(client)
            if self._outbox or self._due:
                continue
            if self._all_read:
                return
            await self._wake.wait()

    async def _send_waiting(self, client: aiomqtt.Client) -> None:
        batch = [self._outbox.popleft() for _ in range(min(_AT_ONCE, len(self._outbox)))]
        if not batch:
            return
        done: list[BaseException | None] = [asyncio.CancelledError()] * len(batch)
        try:
            done = await asyncio.gather(
                *(self._publish(client, letter) for letter in batch), return_exceptions=True
            )
        finally:
            again = [letter for letter, fault in zip(batch, done, strict=True) if fault is not None]
            self._outbox.extendleft(reversed(again))
        for fault in done:
            if fault is not None:
                raise fault

    async def _send_newest(self, client: aiomqtt.Client) -> None:
        telling = self._telling
        for name in ("status", "progress", "services"):  # in this order
            if name not in self._due:
                continue
            self._due.discard(name)
            try:
                message = getattr(telling, name)()
            except ValueError as error:  # a message that its schema refuses
                self._say_once(f"its {name} cannot be told: {error}")
                continue
            if message is None:
                continue
            status = name == "status"
            await self._publish(client, self._letter(message, qos=int(status), retain=status))

    async def _publish(self, client: aiomqtt.Client, letter: _Letter) -> None:
        await client.publish(letter.topic, letter.payload, qos=letter.qos, retain=letter.retain)
        self.delivered += 1

    async def _answer(self, client: aiomqtt.Client) -> None:
        assert self._namesakes is not None
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            if message.topic.value == self._topic("status"):
                self._hear(self._namesakes, payload, retained=message.retain)
            if message.topic.value != self._topic("command"):
                continue  # amqtt also tells a new client what is retained for the others
            answer = self._commands.handle(
                payload, retained=message.retain, ended=self._telling.ended or self._closing,
                shared=self._namesakes.shown(time.monotonic()),
            )  # fmt: skip
            if answer is not None:
                ack = self._telling.ack(answer.id, answer.ok, answer.what)
                await self._publish(client, self._letter(ack))

    def _hear(self, namesakes: Namesakes, payload: bytes, *, retained: bool) -> None:
        """Take note of a status on this run's topic."""
        other = namesakes.take(payload, retained=retained, now_s=time.monotonic())
        if other is None or self._telling.ended:
            return
        if other.state not in ENDS:
            self._say_once(
                f"another run '{self._run_name}' is told under {self.broker.shown} too, that of "
                f"{place_text(other.host, other.run_dir)}; give one of them another name "
                f"(run.name=NAME): until then a command must name the instance that it means"
            )
        elif not retained:  # the broker keeps that one's end in the place of what this one does
            self._due.add("status")
            self._wake.set()

    def _letter(self, message: BaseModel, qos: int = 1, retain: bool = False) -> _Letter:
        kind = message.kind  # type: ignore[attr-defined]
        levels = (
            (kind, message.scene, str(message.seed)) if kind == "rollout" else (kind,)  # type: ignore[attr-defined]
        )
        return _Letter(self._topic(*levels), encode(message), qos, retain)

    def _topic(self, *levels: str) -> str:
        return topic(self.broker.prefix, self._run_name, *levels)

    @property
    def _run_name(self) -> str:
        assert self._telling.started is not None, "nothing is sent before the start is told"
        return self._telling.started.run
