from __future__ import annotations

import pytest

from omniloop.configs.compose import compose
from omniloop.configs.suite import parse_suite, read_suite, suite_names
from omniloop.core.errors import ConfigError, InputError, SceneError

PLAIN = "scenes:\n  - source: embedded\n    ids: [curve]\n"


def written(folder, text, name="mine.yaml"):
    path = folder / name
    path.write_text(text)
    return path


def refusal(text, folder=None):
    with pytest.raises(InputError) as caught:
        parse_suite(text, "mine", "mine.yaml", folder)
    return str(caught.value)


def test_every_shipped_suite_is_read_and_composes():
    assert {"smoke", "embedded-full"} <= set(suite_names())
    for name in suite_names():
        config = compose([f"suite={name}"])
        assert config.suite is not None
        assert config.suite.name == name
        assert config.suite.description
        assert config.scenes.name == "joined"


def test_a_suite_brings_scenes_seeds_metrics_and_settings(tmp_path):
    path = written(
        tmp_path,
        PLAIN + "seeds: [3, 5]\nmetrics: {offroad: {tolerance_m: 0.5}, progress: }\n"
        "settings: {sync: postfetch, sync.duration_s: 4, run.route: lanes}\n",
    )
    config = compose([f"suite={path}", "policy=constant_velocity", "run.name=x"])
    assert config.run.seeds == [3, 5]
    assert config.metrics == {"offroad": {"tolerance_m": 0.5}, "progress": {}}
    assert (config.sync.strategy, config.sync.duration_s) == ("postfetch", 4.0)
    assert config.run.route == "lanes"
    assert config.policy.name == "constant_velocity"
    assert config.scenes.arguments["entries"][0]["ids"] == ["curve"]


def test_metrics_are_a_family_by_name_and_seeds_a_count(tmp_path):
    config = compose(
        [f"suite={written(tmp_path, PLAIN + 'metrics: nuplan' + chr(10) + 'seeds: 3')}"]
    )
    assert config.metrics == compose(["metrics=nuplan"]).metrics
    assert config.run.seeds == [0, 1, 2]


def test_a_pinned_plugin_keeps_its_settings(tmp_path):
    text = PLAIN + "settings: {renderer: rasterizer, renderer.chunk: 0, renderer.fps: 10}\n"
    config = compose([f"suite={written(tmp_path, text)}"])
    assert config.renderer.name == "rasterizer"
    assert (config.renderer.arguments["chunk"], config.renderer.arguments["fps"]) == (0, 10)


@pytest.mark.parametrize(
    ("override", "pinned"),
    [
        ("scenes=av2", "scenes"), ("scenes.ids=curve", "scenes"), ("scenes.limit=1", "scenes"),
        ("run.seeds=2", "run.seeds"), ("metrics=nuplan", "metrics"),
        ("metrics.offroad.tolerance_m=1", "metrics"), ("renderer=none", "renderer"),
        ("renderer.fps=10", "renderer"), ("sync.duration_s=2", "sync.duration_s"),
        ("imperfection.latency.jitter_us=5", "imperfection.latency.jitter_us"),
        ("imperfection.latency={extra_us: 5}", "imperfection.latency.jitter_us"),
    ],
)  # fmt: skip
def test_what_a_suite_pins_cannot_be_set_beside_it(tmp_path, override, pinned):
    text = PLAIN + (
        "settings:\n  renderer: rasterizer\n  sync.duration_s: 4\n"
        "  imperfection.latency.jitter_us: 10\n"
    )
    with pytest.raises(ConfigError, match=f"the suite 'mine' pins '{pinned}'") as caught:
        compose([f"suite={written(tmp_path, text)}", override])
    assert override in caught.value.where


def test_what_lies_beside_a_pinned_setting_stays_free(tmp_path):
    path = written(tmp_path, PLAIN + "settings: {sync.duration_s: 4}\n")
    config = compose([f"suite={path}", "sync=postfetch", "sync.warmup_s=1", "run.root_seed=3"])
    assert (config.sync.strategy, config.sync.duration_s) == ("postfetch", 4.0)
    assert (config.sync.warmup_s, config.run.root_seed) == (1.0, 3)


def test_an_unknown_suite_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown suite 'smok'\. Did you mean 'smoke'\?"):
        compose(["suite=smok"])
    with pytest.raises(ConfigError, match="No such file"):
        compose(["suite=nowhere/smoke.yaml"])
    with pytest.raises(ConfigError, match="Did you mean 'suite'"):
        compose(["siute=smoke"])


def test_two_suites_are_refused():
    with pytest.raises(ConfigError, match="a run is of one suite"):
        compose(["suite=smoke", "suite=embedded-full"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PLAIN + "sedes: 3\n", ["unknown key 'sedes'", "'seeds'", "line 4"]),
        (PLAIN + "    edits: [recipe:cut_in]\n", ["unknown key 'edits'", "'edit'", "line 4"]),
        ("scenes:\n  - ids: [curve]\n", ["'source' is missing", "line 2"]),
        ("scenes:\n  - source: embeded\n", ["Did you mean 'embedded'?", "line 2"]),
        ("scenes:\n  - source: embedded\n    ids: []\n", ["at least one id", "line 3"]),
        ("scenes: []\n", ["at least 1 item", "line 1"]),
        ("seeds: 2\n", ["'scenes' is missing"]),
        ("- curve\n", ["a suite is a mapping"]),
        ("", ["a suite is a mapping"]),
        ("scenes: [\n", ["is not YAML", "mine.yaml"]),
        (PLAIN + "version: 0\n", ["0 is not usable", "line 4"]),
        (PLAIN + "metrics: {collison: {}}\n", ["Did you mean 'collision'?", "line 4"]),
        (PLAIN + "metrics: {}\n", ["measures nothing", "line 4"]),
        (PLAIN + "settings:\n  scenes.ids: curve\n", ["own 'scenes:'", "line 5"]),
        (PLAIN + "settings:\n  run.seeds: 2\n", ["own 'seeds:'", "line 5"]),
        (PLAIN + "settings:\n  run.rout: lanes\n", ["Did you mean 'run.route'?", "line 5"]),
        (PLAIN + "settings:\n  run.concurrency: 2\n", ["cannot be pinned", "line 5"]),
        (PLAIN + "settings:\n  polcy: idm\n", ["Did you mean 'policy'?", "line 5"]),
        (PLAIN + "settings:\n  traffic.x: 1\n", ["add traffic: NAME", "line 5"]),
        (PLAIN + "settings:\n  traffic: null\n", ["names no traffic", "line 5"]),
    ],
)
def test_a_wrong_suite_is_refused_with_its_line(text, said):
    message = refusal(text)
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("settings:\n  sync.duraton_s: 4\n", "Did you mean 'duration_s'?"),
        ("settings:\n  sync.duration_s: -4\n", "greater than 0"),
        ("seeds: [1, 1]\n", "distinct"),
    ],
)
def test_a_value_that_the_settings_refuse_is_blamed_on_the_suite(tmp_path, text, said):
    path = written(tmp_path, PLAIN + text)
    with pytest.raises(ConfigError) as caught:
        compose([f"suite={path}"])
    assert said in caught.value.what
    assert f"{path}, line {5 if 'settings' in text else 4}" in caught.value.where


def test_paths_are_relative_to_the_suite_and_take_variables(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "edit.yaml").write_text("edits: []\n")
    monkeypatch.setenv("MY_SCENES", "data")
    text = "scenes:\n  - {source: av2, path: '${MY_SCENES}', edit: [edit.yaml, recipe:cut_in]}\n"
    entry = read_suite(str(written(tmp_path, text))).entries[0]
    assert entry.path == str(tmp_path / "data")
    assert entry.edit == [str(tmp_path / "edit.yaml"), "recipe:cut_in"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("path: not_there", "there is nothing at 'not_there'"),
        ("path: $NOT_SET_ANYWHERE/x", "'NOT_SET_ANYWHERE' of '$NOT_SET_ANYWHERE/x' is not set"),
        ("edit: [no.yaml]", "there is nothing at 'no.yaml'"),
    ],
)
def test_a_path_that_is_not_there_is_refused_with_its_line(tmp_path, line, said):
    message = refusal(f"scenes:\n  - source: av2\n    {line}\n", tmp_path)
    assert said in message
    assert "mine.yaml, line 3" in message


def test_a_suite_of_the_package_needs_no_folder():
    with pytest.raises(SceneError, match="there is nothing"):
        parse_suite("scenes: [{source: av2, path: nowhere}]", "x", "x.yaml", None)
