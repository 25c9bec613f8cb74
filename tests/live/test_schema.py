"""Topics and documents, and that docs/live.md names all of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from omniloop.live import schema
from omniloop.live.events import RolloutEnded
from omniloop.live.schema import decode, encode, from_level, json_schema, to_level, topic
from omniloop.live.telling import Telling
from tests.live.made_run import result_of, started

DOCS = Path(__file__).resolve().parents[2] / "docs" / "live.md"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_name_is_one_level_and_comes_back(name: str) -> None:
    level = to_level(name)
    assert not set(level) & set("+#/\0")
    assert level.isascii()
    assert level.isprintable() or level == ""
    assert from_level(level) == name


def test_ordinary_names_stay_as_they_are() -> None:
    assert topic("team/x", "demo run-1", "rollout", "a_b.c", "0") == (
        "team/x/demo run-1/rollout/a_b.c/0"
    )
    assert to_level("a/b") == "a%2Fb"
    assert to_level("\ud800") == "%ED%A0%80"  # what no encoding has is no error


def a_message() -> object:
    telling = Telling()
    telling.take(started())
    return telling.take(RolloutEnded(result_of(0), 1, "w0"))[0]


def test_a_message_is_read_back_as_it_was() -> None:
    message = a_message()
    assert decode(encode(message)) == message  # type: ignore[arg-type]


def test_keys_of_later_are_ignored_and_other_versions_refused() -> None:
    document = json.loads(encode(a_message()))  # type: ignore[arg-type]
    assert decode(json.dumps({**document, "later": 1}).encode()) == a_message_of(document)
    for change in ({"version": 2}, {"schema": "other"}, {"kind": "song"}, {"seed": "x"}):
        with pytest.raises(ValidationError):
            decode(json.dumps({**document, **change}).encode())


def a_message_of(document: dict[str, object]) -> object:
    return decode(json.dumps(document).encode())


def test_a_text_that_is_no_unicode_is_still_a_message() -> None:
    telling = Telling()
    telling.take(started("bad\udc80name"))
    assert json.loads(encode(telling.status()))["run"] == "bad?name"


def test_long_texts_are_cut() -> None:
    telling = Telling()
    telling.take(started())
    failed = result_of(0, outcome="infrastructure_failed", what="x" * 100_000)
    [message] = telling.take(RolloutEnded(failed, 1, "w0"))
    assert len(encode(message)) < 5_000


def test_the_docs_name_every_topic_and_key() -> None:
    text = DOCS.read_text(encoding="utf-8")
    named = set(re.findall(r"`([^`\s]+)`", text))
    missing = [
        f"{name}.{key}"
        for name, definition in json_schema()["$defs"].items()
        for key in definition.get("properties", {})
        if key not in named
    ]
    assert not missing
    for level in ("status", "progress", "rollout/<scene>/<seed>", "incident", "services", "worker"):
        assert f"`{level}`" in text
    for state in schema.State.__args__:  # type: ignore[attr-defined]
        assert f"`{state}`" in text
