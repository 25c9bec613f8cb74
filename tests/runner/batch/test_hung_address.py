"""A rollout that hangs in a call of a service elsewhere counts against that address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from omniloop.configs.compose import compose
from omniloop.core.calls import CallFunnel
from omniloop.core.errors import RolloutHung
from omniloop.live.events import Event, Progress
from omniloop.policies.constant_velocity import ConstantVelocityPolicy
from omniloop.runlog.results import RolloutResult
from omniloop.runner.batch.rollouts import hung_error
from omniloop.runner.job import Job, Order
from omniloop.runner.run import execute
from omniloop.services.serving import Listening, start_server
from tests.services.calling import hosted
from tests.services.driver_peers import served_policy

ORDER = Order(Job("curve", 3), addresses={"policy": "a:1", "renderer": "b:2"})


def where(*under_way: tuple[str, str]) -> tuple[str, str]:
    error = hung_error(ORDER, 9.0, under_way)
    return error.where, error.address


def test_a_call_of_a_service_elsewhere_is_what_a_rollout_hung_in() -> None:
    assert where() == ("curve/3", "")
    within = ("renderer", "render"), ("renderer", "render_rgb")
    assert where(*within) == ("curve/3, renderer.render_rgb, b:2", "b:2")
    assert where(("ground", "correct"), *within) == ("curve/3, renderer.render_rgb, b:2", "b:2")


@pytest.mark.parametrize("call", [("traffic", "step"), ("traffic", "simulate"), ("policy", "open")])
def test_a_plugin_here_and_waiting_for_a_session_are_no_address_s_fault(
    call: tuple[str, str],
) -> None:
    assert where(call) == (f"curve/3, {'.'.join(call)}", "")


def test_the_funnel_knows_what_is_awaited_now() -> None:
    funnel = CallFunnel("s/0")
    seen: list[list[tuple[str, str]]] = []

    async def inner(fails: bool) -> None:
        seen.append(list(funnel.under_way))
        if fails:
            raise ValueError

    async def outer() -> None:
        await funnel("renderer", "render_rgb", inner(False))
        await funnel("renderer", "render_rgb", inner(True))

    async def main() -> None:
        await asyncio.gather(funnel("renderer", "render", outer()), return_exceptions=True)
        never = asyncio.create_task(funnel("policy", "plan", asyncio.Event().wait()))
        await asyncio.sleep(0)
        assert funnel.under_way == [("policy", "plan")]
        never.cancel()
        await asyncio.gather(never, return_exceptions=True)

    asyncio.run(main())
    assert seen == [[("renderer", "render"), ("renderer", "render_rgb")]] * 2
    assert funnel.under_way == []


class _Waits:
    """Sessions of a policy that never answers."""

    def __init__(self) -> None:
        self.spec = ConstantVelocityPolicy().spec

    async def open(self, session: Any, cameras: Any) -> _Waits:
        return self

    async def plan(self, observation: Any) -> Any:
        await asyncio.Event().wait()

    async def close(self) -> None:
        return None


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """The address of a driver that takes sessions and never plans."""
    server, port = await start_server([servicer := served_policy(_Waits())], Listening())
    yield f"127.0.0.1:{port}"
    await server.stop(None)
    await servicer.aclose()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_address_in_which_three_rollouts_hung_is_avoided(tmp_path: Path, workers: int) -> None:
    told: list[Event] = []

    class Listens:
        def tell(self, event: Event) -> None:
            told.append(event)

    with hosted(silent()) as address:
        finished = execute(
            compose([
                "renderer=none", "scenes.ids=curve", "sync.duration_s=1.0", "policy=remote",
                f"policy.address={address}", "policy.sessions=3", "run.seeds=3", "run.hang_s=5",
                "run.concurrency=3", f"run.workers={workers}", f"run.dir={tmp_path}", "run.name=run",
            ]),
            (Listens(),),
        )  # fmt: skip
    assert [blamed(r) for r in finished.results] == [(RolloutHung.__name__, address)] * 3
    [policy] = [s for s in last_progress(told).services if s.address == address]
    assert policy.avoided


def blamed(result: RolloutResult) -> tuple[str, str]:
    assert result.error is not None
    return result.error["type"], result.error["address"]


def last_progress(told: list[Event]) -> Progress:
    return [event for event in told if isinstance(event, Progress)][-1]
