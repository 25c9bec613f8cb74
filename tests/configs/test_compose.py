from __future__ import annotations

import pytest

from omniloop.configs.compose import compose, options
from omniloop.configs.schema import GROUP_NAMES
from omniloop.core.errors import ConfigError, InputError, PluginError


def test_the_defaults_are_the_embedded_scenes_with_route_follower_and_rasterizer():
    config = compose([])
    assert config.scenes.name == "embedded"
    assert config.policy.name == "route_follower"
    assert config.renderer.name == "rasterizer"
    assert config.renderer.arguments == {"chunk": 8, "fps": 30}
    assert config.sync.strategy == "prefetch"
    assert config.run.seeds == [0]


@pytest.mark.timeout(600)  # a composition each
def test_every_file_of_every_group_composes():
    for group in GROUP_NAMES:
        for name in options(group):
            if name != "external":
                compose([f"{group}={name}"])


@pytest.mark.parametrize(
    "path", ["/a(1)/x", "1e5", "a=b", "x,y", "{z}", "true", "~/q[0]", "with blank", "ünï"]
)
def test_paths_and_names_are_taken_verbatim(path):
    assert compose(["scenes=av2", f"scenes.path={path}"]).scenes.path == path


def test_the_address_of_a_broker_is_taken_verbatim():
    url = "mqtts://me:p=a,s(s)${w}@host:8883/team?ca=ca.pem&cert=a.pem&key=a.key"
    assert compose([f"run.mqtt={url}"]).run.mqtt == url
    assert compose(["run.mqtt=null"]).run.mqtt is None


def test_settings_that_cannot_be_read_are_told_without_their_secrets():
    with pytest.raises(ConfigError) as caught:
        compose(["run.mqtt=mqtt://me:hunter2@host/team", "run.seeds=["])
    assert "hunter2" not in str(caught.value)
    assert "mqtt://***@host/team" in caught.value.where


def test_ids_are_verbatim_and_split_at_commas():
    assert compose(["scenes.ids=1e5,b(2)"]).scenes.ids == ["1e5", "b(2)"]
    assert compose(["scenes.ids=[a, b]"]).scenes.ids == ["a", "b"]
    assert compose(["scenes.ids=null"]).scenes.ids is None


def test_seeds_are_a_count_or_a_list():
    assert compose(["run.seeds=3"]).run.seeds == [0, 1, 2]
    assert compose(["run.seeds=[4,7]"]).run.seeds == [4, 7]


def test_constructor_arguments_of_a_plugin_are_its_settings():
    assert compose(["renderer.jpeg_quality=80"]).renderer.arguments["jpeg_quality"] == 80


def test_a_plugin_by_its_class_needs_no_file():
    config = compose(["policy=omniloop.policies.constant_velocity:ConstantVelocityPolicy"])
    assert config.policy.name == "omniloop.policies.constant_velocity:ConstantVelocityPolicy"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.sedes=2", "Did you mean 'seeds'?"),
        ("sync.warmup=1", "Did you mean 'warmup_s'?"),
        ("polcy=route_follower", "Did you mean 'policy'?"),
        ("policy=route_folower", "Did you mean 'route_follower'?"),
        ("renderer=rasteriser", "Did you mean 'rasterizer'?"),
        ("sync=post", "unknown sync 'post'"),
        ("run.seeds=0", "at least 1"),
        ("run.seeds=[1,1]", "distinct"),
        ("run.stop_on=[crash]", "run.stop_on"),
        ("run.concurrency=0", "at least 1"),
        ("run.name=a/b", "one folder's name"),
        ("sync.decision_period_us=soon", "sync.decision_period_us='soon'"),
        ("justaword", "'justaword' is not a setting"),
        ("run.seeds=[1,", "cannot be read"),
        ("policy=no_module:Thing", "cannot be imported"),
    ],
)
def test_wrong_settings_are_named_with_a_remedy(override, message):
    with pytest.raises(InputError) as caught:
        compose([override])
    assert message in str(caught.value)


def test_errors_have_the_right_kind():
    with pytest.raises(PluginError):
        compose(["policy=nothing_like_it"])
    with pytest.raises(ConfigError):
        compose(["run.what=1"])


def test_metrics_can_be_added_changed_and_left_out():
    config = compose(["metrics.offroad.tolerance_m=0.5", "metrics.progress=false"])
    assert config.metrics["offroad"] == {"tolerance_m": 0.5}
    assert "progress" not in config.metrics
