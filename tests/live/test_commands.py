"""Commands: strict, once, always answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core.errors import ConfigError
from omniloop.live.commands import LARGEST_BYTES, Answer, Commands
from tests.live.made_run import Spy


def order(**keys: object) -> bytes:
    return json.dumps(keys).encode()


def answered(commands: Commands, payload: bytes, **how: Any) -> Answer:
    answer = commands.handle(payload, **how)
    assert answer is not None
    return answer


@pytest.mark.parametrize(
    ("payload", "id_", "fault"),
    [
        (b"", None, "not JSON"),
        (b"pause", None, "not JSON"),
        (b"\xff\xfe", None, "not JSON"),
        (b"[1]", None, "not an object"),
        (b"null", None, "not an object"),
        (b"[" * 4000, None, "not JSON"),
        (b" " * (LARGEST_BYTES + 1), None, f"at most {LARGEST_BYTES}"),
        (order(command="pause"), None, "'id' is missing"),
        (order(id=3, command="pause"), None, "id:"),
        (order(id="", command="pause"), None, "id:"),
        (order(id="x" * 65, command="pause"), None, "id:"),
        (order(id="1"), "1", "'command' is missing"),
        (order(id="1", command="stop"), "1", "command:"),
        (order(id="1", command="Pause"), "1", "command:"),
        (order(id="1", command="pause", value=1), "1", "takes no 'value'"),
        (order(id="1", command="pause", valeu=1), "1", "unknown key 'valeu'"),
        (order(id="1", command="pause", instance=""), "1", "instance:"),
        (order(id="1", command="pause", instance=7), "1", "instance:"),
        (order(id="1", command="set_concurrency"), "1", "needs 'value'"),
        (order(id="1", command="set_concurrency", value=0), "1", "value:"),
        (order(id="1", command="set_concurrency", value="4"), "1", "value:"),
        (order(id="1", command="set_concurrency", value=True), "1", "value:"),
        (order(id="1", command="set_concurrency", value=2.5), "1", "value:"),
        (order(id="1", command="set_concurrency", value=10**9), "1", "value:"),
        (b'{"id": "1", "command": "set_concurrency", "value": NaN}', "1", ""),
    ],
)
def test_what_is_wrong_is_answered_and_does_nothing(
    payload: bytes, id_: str | None, fault: str
) -> None:
    spy = Spy()
    answer = answered(Commands(spy, "me"), payload)
    assert (answer.ok, answer.id) == (False, id_)
    assert fault in answer.what
    assert answer.what
    assert spy.told == []


def test_an_id_counts_once() -> None:
    spy = Spy()
    commands = Commands(spy, "me")
    assert answered(commands, order(id="1", command="pause")).ok
    again = answered(commands, order(id="1", command="pause"))
    assert not again.ok
    assert "handled before" in again.what
    assert answered(commands, order(id="2", command="set_concurrency", value=3)).ok
    assert spy.told == ["pause", 3]


def test_a_retained_command_and_one_after_the_end_do_nothing() -> None:
    spy = Spy()
    commands = Commands(spy, "me")
    assert "retained" in answered(commands, order(id="1", command="cancel"), retained=True).what
    assert "ended" in answered(commands, order(id="2", command="cancel"), ended=True).what
    assert spy.told == []


def test_where_several_runs_have_the_name_a_command_says_which_is_meant() -> None:
    spy = Spy()
    commands = Commands(spy, "me")
    answer = answered(commands, order(id="1", command="cancel"), shared="me is h:/a, you is g:/b")
    assert not answer.ok
    assert "me is h:/a, you is g:/b" in answer.what
    theirs = order(id="1", command="cancel", instance="you")
    assert commands.handle(theirs, shared="...") is None
    assert commands.handle(theirs) is None
    assert commands.handle(theirs, retained=True, ended=True) is None
    assert commands.handle(order(id="1", command="cancel"), ended=True, shared="...") is None
    assert spy.told == []
    mine = order(id="1", command="pause", instance="me")
    assert answered(commands, mine, shared="...").ok, "an id that was refused for this may be used"
    assert answered(commands, order(id="2", command="resume", instance="me")).ok
    assert spy.told == ["pause", "resume"]


def test_what_the_run_refuses_or_fails_at_is_answered() -> None:
    class Broken(Spy):
        def set_concurrency(self, rollouts: int) -> None:
            raise ConfigError(f"{rollouts} is more than services hold", remedy="give less")

        def pause(self) -> None:
            raise KeyError("x")

    commands = Commands(Broken(), "me")
    answer = answered(commands, order(id="1", command="set_concurrency", value=3))
    assert (answer.ok, answer.what) == (False, "3 is more than services hold give less")
    answer = answered(commands, order(id="2", command="pause"))
    assert not answer.ok
    assert "KeyError" in answer.what


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_make_it_raise_or_act(payload: bytes) -> None:
    spy = Spy()
    assert not answered(Commands(spy, "me"), payload).ok
    assert spy.told == []
