from __future__ import annotations

import asyncio
import threading

import pytest

from omniloop.core.contracts import PolicySpec, RendererSpec
from omniloop.core.errors import PluginError
from omniloop.core.local import LocalService, as_service


class Plain:
    """A policy with `plan` only."""

    spec = PolicySpec()

    def __init__(self):
        self.closed = 0

    def plan(self, observation):
        return ("plan", observation)

    def close(self):
        self.closed += 1


class Memory:
    """A session that counts what it is asked."""

    def __init__(self, *opened_with):
        self.opened_with = opened_with
        self.seen = []
        self.closed = False

    def answer(self, request):
        self.seen.append(request)
        return len(self.seen)

    plan = step = correct = render = answer

    def close(self):
        self.closed = True


class Stateful:
    """A plugin with a session for each rollout."""

    spec = PolicySpec()

    def __init__(self):
        self.sessions = []

    def open(self, *arguments):
        self.sessions.append(Memory(*arguments))
        return self.sessions[-1]


async def ask(session, method, *requests):
    return [await getattr(session, method)(r) for r in requests]


def test_a_policy_needs_no_more_than_plan():
    async def use():
        session = await as_service("policy", Plain()).open("info", ())
        return await ask(session, "plan", 1, 2)

    assert asyncio.run(use()) == [("plan", 1), ("plan", 2)]


def test_the_end_of_a_rollout_does_not_close_an_object_that_serves_all():
    policy = Plain()

    async def use():
        service = as_service("policy", policy)
        first, second = await service.open("a", ()), await service.open("b", ())
        await first.close()
        return await ask(second, "plan", 1)

    assert asyncio.run(use()) == [("plan", 1)]
    assert policy.closed == 0


@pytest.mark.parametrize(
    ("kind", "method", "arguments"),
    [
        ("policy", "plan", ("info", "cameras")),
        ("renderer", "render", ("info", "cameras")),
        ("traffic", "step", ("info",)),
        ("controller", "step", ("info",)),
        ("ground", "correct", ("info",)),
    ],
)
def test_a_stateful_plugin_has_a_session_for_each_rollout(kind, method, arguments):
    plugin = Stateful()

    async def use():
        service = as_service(kind, plugin)
        first, second = await service.open(*arguments), await service.open(*arguments)
        answers = [*await ask(first, method, "x", "y"), *await ask(second, method, "z")]
        await first.close()
        return answers

    assert asyncio.run(use()) == [1, 2, 1]
    assert [s.opened_with for s in plugin.sessions] == [arguments] * 2
    assert [s.closed for s in plugin.sessions] == [True, False]


def test_the_spec_of_the_author_is_the_spec_of_the_service():
    plugin = Plain()
    assert as_service("policy", plugin).spec is plugin.spec


def test_a_service_is_used_as_it_is():
    class Service:
        spec = PolicySpec()

        async def open(self, session, cameras):
            return Memory()

    service = Service()
    assert as_service("policy", service) is service
    assert isinstance(as_service("policy", Plain()), LocalService)


def test_a_method_that_is_a_coroutine_is_awaited():
    class Slow:
        spec = PolicySpec()

        async def plan(self, observation):
            await asyncio.sleep(0)
            return observation + 1

    class SlowRenderer:
        spec = RendererSpec(None)

        def open(self, session, cameras):
            outer = self

            class Session:
                async def render(self, request):
                    await asyncio.sleep(0)
                    return request + 1

                async def close(self):
                    outer.closed = True

            return Session()

    renderer = SlowRenderer()

    async def use():
        policy = await as_service("policy", Slow()).open("info", ())
        rendering = await as_service("renderer", renderer).open("info", ())
        answers = [*await ask(policy, "plan", 1), *await ask(rendering, "render", 2)]
        await rendering.close()
        return answers

    assert asyncio.run(use()) == [2, 3]
    assert renderer.closed


def test_rendering_leaves_the_loop_free_and_other_calls_stay_in_it():
    class Renderer:
        spec = RendererSpec(None)

        def open(self, session, cameras):
            return self

        def render(self, request):
            return threading.current_thread()

        plan = render

    async def use():
        rendering = await as_service("renderer", Renderer()).open("info", ())
        planning = await as_service("policy", Renderer()).open("info", ())
        return await rendering.render(0), await planning.plan(0)

    in_render, in_plan = asyncio.run(use())
    assert in_render is not threading.main_thread()
    assert in_plan is threading.main_thread()


@pytest.mark.parametrize("kind", ["policy", "renderer"])
def test_a_missing_spec_is_named_with_its_remedy(kind):
    class Bare:
        def plan(self, observation):
            return observation

        render = plan

    with pytest.raises(PluginError, match=f"{kind} .*Bare declares no spec") as caught:
        as_service(kind, Bare())
    assert f"spec = {kind.capitalize()}Spec(...)" in caught.value.remedy


@pytest.mark.parametrize(
    ("kind", "method"),
    [("policy", "plan"), ("renderer", "render"), ("traffic", "step"), ("ground", "correct")],
)
def test_a_missing_method_is_named_with_its_remedy(kind, method):
    class Empty:
        spec = PolicySpec()

    with pytest.raises(PluginError, match=f"neither a method '{method}' nor 'open'") as caught:
        as_service(kind, Empty())
    assert method in caught.value.remedy


def test_a_session_without_its_method_is_refused_when_it_is_opened():
    class Forgetful:
        spec = PolicySpec()

        def open(self, session, cameras):
            return None

    with pytest.raises(
        PluginError, match=r"Forgetful\.open returned a NoneType without a method 'plan'"
    ):
        asyncio.run(as_service("policy", Forgetful()).open("info", ()))


def test_an_authors_error_is_passed_on():
    class Broken:
        spec = PolicySpec()

        def plan(self, observation):
            raise ZeroDivisionError("oops")

    async def use():
        session = await as_service("policy", Broken()).open("info", ())
        await session.plan(0)

    with pytest.raises(ZeroDivisionError, match="oops"):
        asyncio.run(use())
