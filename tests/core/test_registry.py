from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from omniloop.core import registry
from omniloop.core.errors import ConfigError, PluginError


class Tunable:
    """A plugin with two settings."""

    def __init__(self, speed_mps: float, gain: float = 1.0) -> None:
        if speed_mps < 0:
            raise ValueError(f"speed_mps is {speed_mps}")
        if gain < 0:
            raise ConfigError(f"gain is {gain}", remedy="raise it")
        self.speed_mps = speed_mps
        self.gain = gain


class Handing(Tunable):
    def __init__(self, own: int = 1, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]


class TakesAnything:
    """A plugin that checks its settings by itself."""

    def __init__(self, **settings: object) -> None:
        self.settings = settings


class NoSettings:
    """A plugin without settings."""


def a_function() -> None:
    """No class."""


HERE = __name__


@pytest.fixture
def points(monkeypatch):
    """Entry points of the test's own, one list for every kind."""
    declared: list[EntryPoint] = []
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [p for p in declared if p.group == group]
    )
    registry._entry_points.cache_clear()
    yield lambda name, value, group="omniloop.policies": declared.append(
        EntryPoint(name, value, group)
    )
    registry._entry_points.cache_clear()


@pytest.mark.parametrize("kind", registry.GROUPS)
def test_built_in_plugins_are_found_by_their_entry_points(kind):
    found = registry.available(kind)
    assert found
    assert list(found) == sorted(found)
    for name, target in found.items():
        module, _, attribute = target.partition(":")
        assert module.startswith("omniloop.")
        assert registry.load_class(kind, name).__qualname__ == attribute


def test_every_kind_of_plugin_has_the_group_that_is_documented():
    assert set(registry.GROUPS.values()) == {
        f"omniloop.{g}"
        for g in (
            "policies", "renderers", "traffic", "controllers", "grounds", "metrics", "scenes",
            "image_metrics",
        )
    }  # fmt: skip


def test_a_class_of_ones_own_is_named_by_its_module(points):
    assert registry.load_class("policy", f"{HERE}:Tunable") is Tunable
    made = registry.create("policy", f"{HERE}:Tunable", {"speed_mps": 3.0})
    assert (made.speed_mps, made.gain) == (3.0, 1.0)


def test_a_file_beside_the_users_work_can_hold_a_plugin(tmp_path, monkeypatch):
    (tmp_path / "my_own_policy.py").write_text(
        "class Mine:\n    def __init__(self, k=2):\n        self.k = k\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    assert registry.create("policy", "my_own_policy:Mine", {"k": 5}).k == 5


def test_an_external_plugin_is_found_like_a_built_in_one(points):
    points("mine", f"{HERE}:Tunable")
    assert registry.available("policy") == {"mine": f"{HERE}:Tunable"}
    assert registry.create("policy", "mine", {"speed_mps": 1.0}).speed_mps == 1.0


def test_an_unknown_plugin_suggests_the_nearest_and_lists_all(points):
    points("log_replay", f"{HERE}:Tunable")
    points("other", f"{HERE}:NoSettings")
    with pytest.raises(PluginError) as caught:
        registry.load_class("policy", "log_repaly")
    text = str(caught.value)
    assert "unknown policy plugin 'log_repaly'. Did you mean 'log_replay'?" in text
    assert "policy=log_repaly" in text
    assert "known: log_replay, other" in text


def test_an_unknown_plugin_of_a_kind_without_any_says_so(points):
    with pytest.raises(PluginError, match="known: none"):
        registry.load_class("traffic", "x")


def test_an_unknown_setting_suggests_the_nearest_and_lists_all(points):
    with pytest.raises(PluginError) as caught:
        registry.create("policy", f"{HERE}:Tunable", {"speed": 3.0})
    text = str(caught.value)
    assert "has no setting 'speed'. Did you mean 'speed_mps'?" in text
    assert "policy.speed=3.0" in text
    assert "its settings: speed_mps, gain" in text
    with pytest.raises(PluginError, match="its settings: none"):
        registry.create("policy", f"{HERE}:NoSettings", {"x": 1})


def test_a_plugin_may_take_any_setting(points):
    made = registry.create("policy", f"{HERE}:TakesAnything", {"x": 1})
    assert made.settings == {"x": 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"speed_mps": -1.0}, ["speed_mps is -1.0", "policy.speed_mps=-1.0"]),
    ],
)
def test_a_refused_setting_is_named(points, arguments, words):
    with pytest.raises(PluginError) as caught:
        registry.create("policy", f"{HERE}:Tunable", arguments)
    text = str(caught.value)
    assert "refuses its settings" in text
    assert all(word in text for word in words)
    assert (
        "gain: float = 1.0" in caught.value.remedy or "gain: 'float' = 1.0" in caught.value.remedy
    )


def test_an_error_that_says_enough_itself_is_passed_on(points):
    with pytest.raises(ConfigError, match=r"gain is -1\.0"):
        registry.create("policy", f"{HERE}:Tunable", {"speed_mps": 1.0, "gain": -1.0})


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("import a_package_that_nobody_has\n", ImportError),
        ("class Other:\n    pass\n", AttributeError),
        ("class Plugin(:\n", SyntaxError),
        ("raise RuntimeError('no licence')\n", RuntimeError),
    ],
)
def test_a_plugin_that_cannot_be_imported_says_why(points, tmp_path, monkeypatch, content, cause):
    module = f"broken_{cause.__name__.lower()}"
    (tmp_path / f"{module}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    points("broken", f"{module}:Plugin")
    for name in ("broken", f"{module}:Plugin"):
        with pytest.raises(PluginError) as caught:
            registry.load_class("policy", name)
        assert isinstance(caught.value.__cause__, cause)
        assert f"'{name}' cannot be imported" in caught.value.what
        assert str(caught.value.__cause__) in caught.value.what
        assert caught.value.where == f"{module}:Plugin"


@pytest.mark.parametrize("name", ["no_such_module:X", ":X", "json:"])
def test_a_mistaken_path_is_refused(points, name):
    with pytest.raises(PluginError, match="cannot be imported"):
        registry.load_class("policy", name)


def test_what_is_not_a_class_is_refused(points):
    with pytest.raises(PluginError, match="is not a class but a function"):
        registry.load_class("policy", f"{HERE}:a_function")


def test_two_plugins_of_one_name_are_refused_and_told_how_to_be_named(points):
    points("mine", f"{HERE}:Tunable")
    points("mine", f"{HERE}:NoSettings")
    with pytest.raises(PluginError) as caught:
        registry.available("policy")
    assert "two policy plugins are called 'mine'" in caught.value.what
    assert f"{HERE}:NoSettings and {HERE}:Tunable" in caught.value.where
    assert "policy=" in caught.value.remedy


def test_the_same_plugin_listed_twice_is_one(points):
    points("mine", f"{HERE}:Tunable")
    points("mine", f"{HERE}:Tunable")
    assert registry.load_class("policy", "mine") is Tunable


def test_parameters_are_the_settings_with_their_defaults(points):
    known = registry.parameters("policy", f"{HERE}:Tunable")
    assert list(known) == ["speed_mps", "gain"]
    assert known["gain"].default == 1.0
    assert registry.parameters("policy", f"{HERE}:NoSettings") == {}


def test_a_setting_that_is_needed_is_named(points):
    with pytest.raises(PluginError, match="needs the setting 'speed_mps'"):
        registry.create("policy", f"{HERE}:Tunable", {})


def test_settings_that_a_constructor_hands_on_are_those_of_its_base():
    assert list(registry.parameters("policy", f"{HERE}:Handing")) == ["own", "speed_mps", "gain"]
