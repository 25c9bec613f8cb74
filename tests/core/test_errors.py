from __future__ import annotations

import pickle

import pytest

from omniloop.core import errors
from omniloop.core.errors import ConfigError, InputError, OmniloopError, nearest
from omniloop.core.schedule import SceneTooShort

KINDS = [
    errors.OmniloopError, errors.InputError, errors.ConfigError, errors.SceneError,
    errors.PluginError, errors.PolicyError, errors.ServiceError, errors.RunFolderError,
    SceneTooShort,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_says_what_where_and_the_remedy(kind):
    error = kind("fps is 0", where="renderer.fps", remedy="give 1 or more")
    assert str(error) == "fps is 0\n  where: renderer.fps\n  remedy: give 1 or more"
    assert str(kind("fps is 0")) == "fps is 0"
    assert str(kind("fps is 0", remedy="r")) == "fps is 0\n  remedy: r"
    assert isinstance(error, OmniloopError)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_between_processes(kind):
    error = kind("a", where="b", remedy="c")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert (back.what, back.where, back.remedy) == ("a", "b", "c")
    assert str(back) == str(error)


def test_what_the_user_can_mend_is_told_apart():
    mendable = [k for k in KINDS if issubclass(k, InputError)]
    assert {k.__name__ for k in mendable} == {
        "InputError", "ConfigError", "SceneError", "PluginError", "SceneTooShort",
    }  # fmt: skip
    assert not issubclass(ConfigError, errors.PolicyError)


def test_the_nearest_known_name_is_suggested_and_a_far_one_is_not():
    known = ["log_replay", "constant_velocity", "route_follower"]
    assert nearest("log_repaly", known) == " Did you mean 'log_replay'?"
    assert nearest("zzz", known) == ""
    assert nearest("x", []) == ""
