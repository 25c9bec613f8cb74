"""The other end of the broker: who watches runs, and who tells them something."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from omniloop.live.broker import Broker, explain
from omniloop.live.commands import fault_of
from omniloop.live.schema import AckMessage, Command, decode, topic

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 10.0


async def follow(
    broker: Broker, take: Callable[[str, bytes], None], notice: Callable[[str], None]
) -> None:
    """Hand on every message under the prefix, for ever; the connection is made again when lost.

    Args:
        take: Given topic and payload.
        notice: Told in a line that the broker is away, and "" once it is there.
    """
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            async with broker.client() as client:
                await client.subscribe(f"{broker.prefix}/#", qos=1)
                # Brokers answer in order: what is retained has come when this is answered.
                await client.unsubscribe(f"{broker.prefix}/+/none")
                notice("")
                wait_s = _FIRST_WAIT_S
                async for message in client.messages:
                    if isinstance(message.payload, bytes):
                        take(message.topic.value, message.payload)
        except Exception as error:
            notice(explain(error, broker)[0])
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


@dataclass(frozen=True)
class Answered:
    """What came back of a command."""

    ok: bool
    what: str


async def command(
    broker: Broker, run: str, order: str, value: int | None = None, timeout_s: float = 10.0,
    instance: str | None = None,
) -> Answered:  # fmt: skip
    """Tell a run something, and wait for its acknowledgement.

    Args:
        order: "pause", "resume", "cancel" or "set_concurrency".
        value: Rollouts at once, of the last.
        instance: Which run, where several have this name.
    """
    try:
        told = Command.model_validate(
            {"id": secrets.token_hex(8), "command": order, "value": value, "instance": instance}
        )
    except ValidationError as error:
        return Answered(False, f"it was not told: {fault_of(error)}")
    try:
        return await asyncio.wait_for(_ask(broker, run, told), timeout_s)
    except TimeoutError:
        return Answered(
            False,
            f"no answer of run '{run}'{'' if instance is None else f', instance {instance},'} "
            f"within {timeout_s:g} s: is it running under {broker.shown}?",
        )  # fmt: skip
    except Exception as error:
        return Answered(False, explain(error, broker)[0])


async def _ask(broker: Broker, run: str, told: Command) -> Answered:
    async with broker.client() as client:
        await client.subscribe(topic(broker.prefix, run, "ack"), qos=1)
        where = topic(broker.prefix, run, "command")
        # Without the keys that are null: a run of before there was 'instance' refuses that key.
        await client.publish(where, told.model_dump_json(exclude_none=True).encode(), qos=1)
        async for message in client.messages:
            try:
                ack = decode(message.payload if isinstance(message.payload, bytes) else b"")
            except ValidationError:
                continue
            if isinstance(ack, AckMessage) and ack.id == told.id:
                return Answered(ack.ok, ack.what)
    raise AssertionError("messages end only by an error")


async def forget(broker: Broker, run: str) -> None:
    """Remove what the broker keeps of a run that ended.

    Raises:
        aiomqtt.MqttError: the broker cannot be reached.
    """
    async with broker.client() as client:
        await client.publish(topic(broker.prefix, run, "status"), b"", qos=1, retain=True)
