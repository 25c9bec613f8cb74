"""A config as words composes to the same config."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from omniloop.configs.compose import compose
from omniloop.configs.overrides import _in_grammar, overrides_of
from omniloop.configs.schema import RunConfig, validate

NEUTRAL = {"name": None, "concurrency": "auto", "video": False, "resume": False}


def deciding(config: RunConfig) -> dict[str, object]:
    whole = config.model_dump(mode="json")
    whole["run"] |= NEUTRAL
    return whole


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], []),
        (["run.name=x", "run.video=true", "run.resume=true", "run.concurrency=3"], []),
        (["policy=route_follower", "sync.decision_period_us=100000", "metrics=default"], []),
        (["run.seeds=4", "run.root_seed=7"], ["run.seeds=4", "run.root_seed=7"]),
        (["run.seeds=[4,0]"], ["run.seeds=[4,0]"]),
        (["metrics=alpasim", "metrics.alpasim.compat=strict"], ["metrics=alpasim", "metrics.alpasim.compat=strict"]),
        (["metrics=all"], ["metrics=all"]),
        (["metrics.comfort=false", "metrics.offroad.tolerance_m=0.5", "metrics.navsim_driven={}"],
         ["metrics.comfort=false", "metrics.offroad.tolerance_m=0.5", "metrics.navsim_driven={}"]),
        (["policy=remote", "policy.address=h:1,h:2", "policy.timeouts_s.drive=5"],
         ["policy=remote", "policy.address=h:1,h:2", "policy.timeouts_s.drive=5"]),
        (["policy=remote", "policy.address=h:1", "policy.tls.ca=\"/a (1)/b'c\""],
         ["policy=remote", "policy.address=h:1", "policy.tls.ca=\"/a (1)/b'c\""]),
        (["policy=tests.plugins:Straight"], None),
        (["scenes=av2", "scenes.path=/a (1)/1e5", "scenes.ids=1e5,b c", "scenes.limit=2"],
         ["scenes=av2", "scenes.path=/a (1)/1e5", "scenes.ids=1e5,b c", "scenes.limit=2"]),
        (["scenes.edit=recipe:cut_in,a b.yaml", "scenes.set.gap_s=0.5", "scenes.set.who=\"a, b\""],
         ["scenes.edit=recipe:cut_in,a b.yaml", "scenes.set.gap_s=0.5", "scenes.set.who=\"a, b\""]),
        (["renderer=none"], ["renderer=none"]),
        (["renderer.chunk=0", "renderer.fps=10", "renderer.cameras=[front,rear]"],
         ["renderer.chunk=0", "renderer.fps=10", "renderer.cameras=[front,rear]"]),
        (["sync=postfetch", "sync.decisions_per_chunk=2", "sync.warmup_s=1.5"],
         ["sync=postfetch", "sync.decisions_per_chunk=2", "sync.warmup_s=1.5"]),
        (["imperfection=all"], ["imperfection=all"]),
        (["imperfection=all", "imperfection.frames.burst_frames=null"],
         ["imperfection=all", "imperfection.frames.burst_frames=null"]),
        (["imperfection.image.gain=[0.5,1.5]"], ["imperfection.image.gain=[0.5,1.5]"]),
        (["run.stop_on=[offroad]", "run.route=lanes", "run.wire_precision=float32", "run.dir=/x y"],
         ["run.dir=/x y", "run.stop_on=[offroad]", "run.route=lanes", "run.wire_precision=float32"]),
        (["suite=smoke", "policy=constant_velocity", "sync.decision_latency_us=100000"],
         ["suite=smoke", "policy=constant_velocity", "sync.decision_latency_us=100000"]),
    ],
)  # fmt: skip
def test_words_say_what_differs_and_give_the_same_config(
    given: list[str], words: list[str] | None
) -> None:
    if words is None:
        words = given
    config = compose(given)
    found = overrides_of(config)
    assert found is not None
    assert sorted(found) == sorted(words)
    assert deciding(compose(shlex.split(shlex.join(found)))) == deciding(config)


def test_a_suite_of_ones_own_is_named_by_its_file(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.yaml"
    file.write_text(
        "scenes: [{source: embedded, ids: [curve]}]\nseeds: [2, 5]\nmetrics: {progress: {}}\n"
        "settings: {traffic: idm, run.stop_on: [collision]}\n"
    )
    config = compose(["suite=mine.yaml", "policy=constant_velocity", "run.root_seed=3"])
    assert overrides_of(config) == [
        "suite=mine.yaml",
        "policy=constant_velocity",
        "run.root_seed=3",
    ]
    assert deciding(compose(overrides_of(config) or [])) == deciding(config)


def test_what_no_command_line_can_say_is_told() -> None:
    raw = compose([]).model_dump(mode="json")
    del raw["renderer"]["chunk"]
    assert overrides_of(validate(raw)) is None
    raw = compose([]).model_dump(mode="json")
    raw["metrics"]["my_file:Metric"] = {}
    assert overrides_of(validate(raw)) is None


def test_secrets_are_masked() -> None:
    raw = compose([]).model_dump(mode="json")
    raw["traffic"] |= {"api_key": "hush", "url": "https://me:hush@host/x"}
    found = overrides_of(validate(raw))
    assert found is not None
    assert not any("hush" in word for word in found)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
        | st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=8),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    )
)  # fmt: skip
def test_a_value_survives_the_grammar(value: object) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if "${" in repr(value):
        return
    parsed = OverridesParser.create().parse_override(f"++a.b={_in_grammar(value)}")
    config = OmegaConf.create({})
    OmegaConf.update(config, "a.b", parsed.value(), merge=True, force_add=True)
    assert OmegaConf.to_container(config, resolve=True)["a"]["b"] == value  # type: ignore[index,call-overload]
