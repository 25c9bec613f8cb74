"""Who else is told under a run's name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.live.events import RunEnded
from omniloop.live.namesakes import Namesakes
from omniloop.live.schema import encode
from omniloop.live.telling import Telling
from tests.live.made_run import progress, started

PLACE = ("here", "/runs/demo")


def another(run_dir: str = "/elsewhere/demo") -> Telling:
    telling = Telling()
    telling.take(started(run_dir=run_dir))
    return telling


def test_another_counts_until_it_ends_or_is_silent() -> None:
    names, other = Namesakes("me", PLACE), another()
    assert names.shown(0.0) == ""
    heard = names.take(encode(other.status()), retained=True, now_s=0.0)
    assert heard is not None
    assert heard.instance == other.instance
    assert names.shown(0.0) == f"me is here:/runs/demo, {other.instance} is {':'.join(other.place)}"
    assert names.present(44.0)
    assert not names.present(46.0)
    other.take(progress(state="paused"))
    names.take(encode(other.status()), retained=False, now_s=50.0)
    assert names.present(50.0)
    other.take(RunEnded("cancelled"))
    assert names.take(encode(other.status()), retained=False, now_s=51.0) is not None
    assert not names.present(51.0)


def test_what_is_kept_of_an_earlier_start_of_the_same_folder_does_not_count() -> None:
    other = another()
    names = Namesakes("me", other.place)
    assert names.take(encode(other.status()), retained=True, now_s=0.0) is None
    assert not names.present(0.0)
    # One that is heard now goes on, whatever its folder is called: machines may share a name.
    names.take(encode(other.status()), retained=False, now_s=0.0)
    assert names.present(0.0)


def test_its_own_words_and_those_of_others_of_the_topic_do_not_count() -> None:
    me = another()
    names = Namesakes(me.instance, PLACE)
    mine = encode(me.status())
    for payload in (mine, encode(me.lost()), b"", b"21", mine + b" " * 70_000, b"[" * 9_000):
        assert names.take(payload, retained=False, now_s=0.0) is None
    assert not names.present(0.0)


def test_however_many_there_are_few_are_kept_and_none_writes_to_a_terminal() -> None:
    names = Namesakes("me", PLACE)
    for number in range(50):
        names.take(encode(another(f"/x\x1b[2J/{number}").status()), retained=False, now_s=0.0)
    assert len(names.present(0.0)) == 8
    assert "49" in names.shown(0.0)
    assert names.shown(0.0).isprintable()


@pytest.mark.parametrize("retained", [True, False])
@given(payload=st.binary(max_size=40))
def test_no_bytes_make_it_raise(payload: bytes, retained: bool) -> None:
    assert Namesakes("me", PLACE).take(payload, retained=retained, now_s=0.0) is None
