"""Pools of addresses: who gets which, and when."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core.errors import ConfigError
from omniloop.services.connection import Connection, Settings
from omniloop.services.pool import Pool, parse_addresses, parse_capacity
from omniloop.services.protos import physics_pb2

SERVICE = physics_pb2.DESCRIPTOR.services_by_name["PhysicsService"]


def pool_of(*capacity: int | None) -> Pool:
    return Pool(
        [Connection("ground", SERVICE, f"h:{k}", Settings()) for k in range(len(capacity))],
        capacity,
    )


def test_the_emptiest_address_comes_first() -> None:
    async def run() -> list[str]:
        pool = pool_of(1, 2)
        return [(await pool.lease()).connection.address for _ in range(3)]

    assert asyncio.run(run()) == ["h:1", "h:0", "h:1"]


def test_addresses_without_a_limit_share_the_rollouts_evenly() -> None:
    async def run() -> list[str]:
        pool = pool_of(None, None)
        return [(await pool.lease()).connection.address for _ in range(4)]

    assert asyncio.run(run()) == ["h:0", "h:1", "h:0", "h:1"]


def test_who_waits_is_served_in_order_and_nobody_overtakes() -> None:
    async def run() -> list[int]:
        pool, order = pool_of(1), []
        first = await pool.lease()

        async def want(number: int) -> None:
            lease = await pool.lease()
            order.append(number)
            lease.release()

        tasks = [asyncio.create_task(want(n)) for n in range(3)]
        await asyncio.sleep(0)
        first.release()
        tasks.append(asyncio.create_task(want(3)))
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(run()) == [0, 1, 2, 3]


def test_a_lease_is_given_back_once() -> None:
    async def run() -> None:
        pool = pool_of(1)
        lease = await pool.lease()
        lease.release()
        lease.release()
        await pool.lease()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.lease(), 0.01)

    asyncio.run(run())


def test_who_stops_waiting_takes_no_place() -> None:
    async def run() -> None:
        pool = pool_of(1)
        lease = await pool.lease()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.lease(), 0.01)
        lease.release()
        await asyncio.wait_for(pool.lease(), 30)

    asyncio.run(run())


def test_who_is_cancelled_while_given_a_place_gives_it_on() -> None:
    async def run() -> None:
        pool = pool_of(1)
        lease = await pool.lease()
        waiting = asyncio.create_task(pool.lease())
        await asyncio.sleep(0)
        lease.release()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.wait_for(pool.lease(), 30)

    asyncio.run(run())


def test_an_address_that_did_not_answer_is_passed_over_while_another_does() -> None:
    async def run() -> list[str]:
        pool = pool_of(None, None)
        dead = await pool.lease()
        dead.connection.failed()
        dead.release()
        return [(await pool.lease()).connection.address for _ in range(4)]

    assert asyncio.run(run()) == ["h:1"] * 4


def test_who_would_get_a_dead_address_waits_for_one_that_answers() -> None:
    async def run() -> list[str]:
        pool = pool_of(1, 1)
        dead, good = await pool.lease(), await pool.lease()
        waiting = [asyncio.create_task(pool.lease()) for _ in range(2)]
        await asyncio.sleep(0)
        dead.connection.failed()
        dead.release()
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        good.release()
        first = await waiting[0]
        first.release()
        return [first.connection.address, (await waiting[1]).connection.address]

    assert asyncio.run(run()) == ["h:1", "h:1"]


def test_where_no_address_answers_all_are_tried() -> None:
    async def run() -> list[str]:
        pool = pool_of(1, 1)
        for connection in pool.connections:
            connection.failed()
        leases = [await pool.lease() for _ in range(2)]
        waiting = asyncio.create_task(pool.lease())
        await asyncio.sleep(0)
        leases[1].release()
        last = await asyncio.wait_for(waiting, 30)
        return [lease.connection.address for lease in (*leases, last)]

    assert asyncio.run(run()) == ["h:0", "h:1", "h:1"]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(1, 20), st.integers(0, 7))
def test_no_address_ever_holds_more_than_its_capacity(
    capacity: list[int], rollouts: int, seed: int
) -> None:
    async def run() -> None:
        pool, held = pool_of(*capacity), dict.fromkeys(range(len(capacity)), 0)

        async def rollout(number: int) -> None:
            lease = await pool.lease()
            at = int(lease.connection.address[2:])
            held[at] += 1
            assert held[at] <= capacity[at]
            for _ in range((number * seed) % 5):
                await asyncio.sleep(0)
            held[at] -= 1
            lease.release()

        await asyncio.wait_for(asyncio.gather(*(rollout(n) for n in range(rollouts))), 30)

    asyncio.run(run())


def test_the_capacity_of_a_pool_is_that_of_its_addresses() -> None:
    assert pool_of(1, 4).capacity == 5
    assert pool_of(1, None).capacity is None


def test_addresses_are_split_at_commas() -> None:
    assert parse_addresses(" a:1, [::1]:2 ,unix:///x", "k") == ["a:1", "[::1]:2", "unix:///x"]


@pytest.mark.parametrize(
    ("given_text", "said"),
    [
        ("", "no address"),
        ("host", "no address"),
        ("h:x", "'h:x' is no address"),
        ("h:1,h:1", "twice"),
        ("http://h:1", "'http://h:1' is no address"),
        ("h:65536", "'h:65536' is no address"),
        (":1", "':1' is no address"),
        (None, "no address is given"),
    ],
)
def test_a_wrong_address_is_named(given_text: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_addresses(given_text, "policy.address")
    assert caught.value.where == "policy.address"


def test_capacities_are_one_number_or_one_each() -> None:
    assert parse_capacity(None, 2, "k") == [None, None]
    assert parse_capacity(3, 2, "k") == [3, 3]
    assert parse_capacity([1, 2], 2, "k") == [1, 2]
    with pytest.raises(ConfigError, match="3 capacities are given for 2 addresses"):
        parse_capacity([1, 2, 3], 2, "k")
    with pytest.raises(ConfigError, match="a capacity is 0"):
        parse_capacity(0, 1, "k")
    with pytest.raises(ConfigError, match="k is 'many'"):
        parse_capacity("many", 4, "k")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a capacity is 'x'"):
        parse_capacity(["x"], 1, "k")  # type: ignore[list-item]
