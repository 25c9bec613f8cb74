"""Several addresses of one service, each with a capacity; a rollout leases one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from omniloop.core.errors import ConfigError
from omniloop.services.connection import Connection

_SCHEMES = ("unix:", "unix-abstract:", "dns:", "ipv4:", "ipv6:")
"""Addresses that gRPC understands besides HOST:PORT."""


@dataclass
class _Slot:
    connection: Connection
    capacity: int | None
    used: int = 0

    @property
    def free(self) -> float:
        return float("inf") if self.capacity is None else self.capacity - self.used

    @property
    def rank(self) -> tuple[bool, float, int]:
        """The greatest is leased next: one that answers, then the emptiest."""
        return not self.connection.avoided, self.free, -self.used


class Lease:
    """The right to one session at `connection`, until it is released."""

    def __init__(self, pool: Pool, slot: _Slot) -> None:
        self._pool = pool
        self._slot: _Slot | None = slot
        self.connection = slot.connection

    def release(self) -> None:
        """Give it back; a second call does nothing."""
        slot, self._slot = self._slot, None
        if slot is not None:
            self._pool._give_back(slot)


class Pool:
    """Hands out sessions, the emptiest address first; who waits is served in order.

    An address that lately did not answer is leased only where all are such: a dead one fails
    its rollouts at once, and being the emptiest would draw all others to it.

    Args:
        connections: One per address.
        capacity: Sessions at once, one number per address; None for any number.
    """

    def __init__(self, connections: Sequence[Connection], capacity: Sequence[int | None]) -> None:
        self._slots = [_Slot(c, n) for c, n in zip(connections, capacity, strict=True)]
        self._waiting: list[tuple[asyncio.Future[_Slot], str]] = []

    @property
    def connections(self) -> tuple[Connection, ...]:
        """All of them, in the order given."""
        return tuple(slot.connection for slot in self._slots)

    @property
    def capacity(self) -> int | None:
        """Sessions at once over all addresses; None for any number."""
        each = [slot.capacity for slot in self._slots if slot.capacity is not None]
        return sum(each) if len(each) == len(self._slots) else None

    @property
    def limits(self) -> dict[str, int | None]:
        """Sessions at once by address; None for any number."""
        return {slot.connection.address: slot.capacity for slot in self._slots}

    async def lease(self, address: str = "") -> Lease:
        """Wait for a free session, at an address if one is given; who waits is served in order."""
        if not self._waited_for(address) and (slot := self._next(address)) is not None:
            slot.used += 1
            return Lease(self, slot)
        waiter: asyncio.Future[_Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append((waiter, address))
        try:
            return Lease(self, await waiter)
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._give_back(waiter.result())
            raise

    def _waited_for(self, address: str) -> bool:
        return any(not address or wanted in ("", address) for _, wanted in self._waiting)

    def _next(self, address: str) -> _Slot | None:
        fitting = [s for s in self._slots if not address or s.connection.address == address]
        slot = max(fitting or self._slots, key=lambda s: s.rank)
        return slot if slot.free > 0 else None

    def _give_back(self, slot: _Slot) -> None:
        slot.used -= 1
        waiting, self._waiting = self._waiting, []
        for waiter, address in waiting:
            if waiter.done():
                continue
            free = self._next(address)
            if free is None:
                self._waiting.append((waiter, address))
            else:
                free.used += 1
                waiter.set_result(free)


def parse_addresses(given: str | None, key: str) -> list[str]:
    """Addresses from a text with commas between.

    Raises:
        ConfigError: there is none, one has no port, or one comes twice.
    """
    given = "" if given is None else str(given)
    addresses = [a for a in (part.strip() for part in given.split(",")) if a]
    for address in addresses:
        host, _, port = address.rpartition(":")
        is_tcp = bool(host) and "/" not in host and port.isdecimal() and int(port) < 65536
        if not is_tcp and not address.startswith(_SCHEMES):
            raise ConfigError(
                f"'{address}' is no address", where=key, remedy="write HOST:PORT, such as 127.0.0.1:50051"
            )  # fmt: skip
        if addresses.count(address) > 1:
            raise ConfigError(f"the address {address} comes twice", where=key)
    if not addresses:
        raise ConfigError("no address is given", where=key, remedy=f"add {key}=HOST:PORT")
    return addresses


def parse_capacity(given: int | Sequence[int] | None, count: int, key: str) -> list[int | None]:
    """Sessions at once of each address, from one number for all or one for each.

    Raises:
        ConfigError: a number is below 1, or there are not as many as addresses.
    """
    if given is not None and not isinstance(given, int | list | tuple):
        raise ConfigError(
            f"{key} is {given!r}", where=key, remedy="give a number, or a list with one each"
        )
    if given is None or isinstance(given, int):
        numbers: list[int | None] = [given] * count
    else:
        numbers = list(given)
    if len(numbers) != count:
        raise ConfigError(
            f"{len(numbers)} capacities are given for {count} addresses", where=key,
            remedy="give one number for all, or one for each address",
        )  # fmt: skip
    for number in numbers:
        if number is not None and (
            isinstance(number, bool) or not isinstance(number, int) or number < 1
        ):
            raise ConfigError(f"a capacity is {number!r}", where=key, remedy="give 1 or more")
    return numbers
