"""The funnel: timings, places, retries."""

from __future__ import annotations

import asyncio

import pytest

from omniloop.core.calls import CallFunnel, RetryRule
from omniloop.core.errors import PolicyError, ServiceError, TransientError


async def answer(value: object) -> object:
    if isinstance(value, BaseException):
        raise value
    return value


def call(funnel: CallFunnel, service: str, value: object, wanted: type = object) -> object:
    return asyncio.run(funnel(service, "plan", answer(value), 7, wanted))


def test_an_answer_passes_and_is_timed() -> None:
    funnel = CallFunnel("s/0")
    assert call(funnel, "policy", 3, int) == 3
    assert (funnel.stats["policy.plan"].calls, funnel.stats["policy.plan"].retries) == (1, 0)


def test_an_answer_of_another_type_is_named() -> None:
    with pytest.raises(PolicyError, match="policy returned a str, not an int") as caught:
        call(CallFunnel("s/0"), "policy", "x", int)
    assert caught.value.where == "s/0, policy.plan at 7 us"


def test_an_exception_of_the_plugin_gets_its_place_and_is_timed() -> None:
    funnel = CallFunnel("s/0")
    with pytest.raises(ServiceError, match="traffic raised KeyError: 'x'") as caught:
        call(funnel, "traffic", KeyError("x"))
    assert caught.value.where == "s/0, traffic.plan at 7 us"
    assert funnel.stats["traffic.plan"].calls == 1


def test_an_error_keeps_the_place_that_it_names() -> None:
    with pytest.raises(ServiceError) as caught:
        call(CallFunnel("s/0"), "traffic", ServiceError("no", where="here"))
    assert caught.value.where == "here"
    with pytest.raises(ServiceError) as caught:
        call(CallFunnel("s/0"), "traffic", ServiceError("no"))
    assert caught.value.where == "s/0, traffic.plan at 7 us"


def retried(values: list[object], delays_s: tuple[float, ...]) -> tuple[object, CallFunnel]:
    funnel, queue = CallFunnel("s/0"), iter(values)
    rule = RetryRule(delays_s, lambda error: isinstance(error, TransientError))
    got = asyncio.run(funnel.retried("renderer", "render", lambda: answer(next(queue)), rule))
    return got, funnel


def test_a_passing_cause_is_tried_again_until_it_has_passed() -> None:
    got, funnel = retried([TransientError("a"), TransientError("b"), 5], (0.0, 0.0))
    stats = funnel.stats["renderer.render"]
    assert (got, stats.calls, stats.retries) == (5, 3, 2)


def test_what_does_not_pass_is_raised_at_once() -> None:
    with pytest.raises(ServiceError, match=r"^broken"):
        retried([ServiceError("broken"), 5], (0.0,))


def test_the_last_attempt_says_how_many_there_were() -> None:
    with pytest.raises(TransientError, match=r"down \(after 3 attempts\)"):
        retried([TransientError("down")] * 4, (0.0, 0.0))
