from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from omniloop.cli.main import app
from omniloop.cli.plan import duration
from omniloop.core.errors import ConfigError, RunFolderError

WORDS = (
    "renderer=118ms,addresses=2,sessions=4",
    "policy=80ms,batch=4",
    "steps=20",
    "rollouts=1000",
)


def omniloop(*arguments: str):
    return CliRunner().invoke(app, ["plan", *arguments])


def test_it_prints_the_time_the_bound_with_its_terms_and_how_many_it_takes():
    out = omniloop(*WORDS).stdout
    assert "1000 rollouts of 20 steps, 8 at once (limited by renderer.sessions)" in out
    assert "bottleneck renderer" in out
    assert "GPU hours on 3 GPU(s)" in out
    assert "1000 x 21 calls x 118 ms" in " ".join(out.split())
    assert "rollouts of one session" in out
    assert "With fewer or more addresses of renderer" in out
    assert "from 8 on, something else than renderer holds the batch up" in out


def test_a_part_that_stands_for_the_whole_is_said_to():
    assert "every call was simulated" in omniloop(*WORDS).stdout
    many = (*WORDS[:3], "rollouts=100000")
    assert (
        "their pace, which still changed by 0.0%, stands for the others" in omniloop(*many).stdout
    )


def test_json_holds_every_number():
    document = json.loads(omniloop(*WORDS, "--json", "--vary", "policy").stdout)
    assert document["exact"]
    assert document["wall_s"] == pytest.approx(1000 * 21 * 0.118 / 2, rel=0.01)
    assert document["gpu_hours"] == pytest.approx(3 * document["wall_s"] / 3600)
    assert document["bound"][0]["name"] == "renderer busy"
    assert document["varied"] == "policy"
    assert document["with"]["1"]["bottleneck"] == "renderer"
    assert document["batch"]["services"][1]["batch"] == 4


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        (["nowhere"], RunFolderError, "does not exist"),
        (["nowhere", "elsewhere"], ConfigError, "a second folder"),
        ([*WORDS, "workers=-1"], ConfigError, "workers is '-1'"),
        ([*WORDS, "polices=3"], ConfigError, "Did you mean"),
        ([*WORDS, "--vary", "traffic"], ConfigError, "no 'traffic' elsewhere"),
        ([], ConfigError, "rollouts is not given"),
    ],
)
def test_wrong_input_says_what_is_wrong(arguments, kind, says):
    error = omniloop(*arguments).exception
    assert isinstance(error, kind)
    assert says in str(error)


def test_help_tells_every_key():
    out = " ".join(omniloop("--help").stdout.split())
    for word in ("rollouts", "concurrency", "sessions", "at_once", "batch", "gpus", "scoring"):
        assert word in out


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.191, "4.19 s"), (600.0, "10 min"), (44880.0, "12 h 28 min")]
)
def test_durations_are_readable(seconds, text):
    assert duration(seconds) == text
