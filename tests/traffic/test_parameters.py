import math
from dataclasses import FrozenInstanceError, astuple, replace

import pytest

from omniloop.core.errors import ConfigError
from omniloop.traffic.parameters import PARAMETER_SETS, parameter_set

INF = math.inf


@pytest.mark.parametrize(
    ("name", "v0", "s0", "headway", "a", "b", "delta", "hardest", "step"),
    [
        ("nuplan", 10, 1, 1.5, 1, 2, 4, 2, 0.1),
        ("waymax", 30, 2, 2, 2, 4, 4, INF, 0.1),
        ("highway_env", 20, 10, 1.5, 3, 5, 4, 6, 1 / 15),
        ("omniloop", 10, 1, 1.5, 1, 2, 4, 8, 0.1),
    ],
)
def test_the_constants_are_those_published(name, v0, s0, headway, a, b, delta, hardest, step):
    p = parameter_set(name).idm
    assert (p.desired_speed_mps, p.min_gap_m, p.headway_s) == (v0, s0, headway)
    assert (p.max_accel_mps2, p.comfortable_brake_mps2, p.exponent) == (a, b, delta)
    assert (p.hardest_brake_mps2, p.step_s) == (hardest, step)


def test_lane_changes_are_those_published():
    assert astuple(parameter_set("highway_env").mobil) == (0.0, 0.2, 2.0, 1.0, 1.5, 1.0, False)
    assert parameter_set("nuplan").mobil is None
    assert parameter_set("waymax").mobil is None


def test_omniloop_departs_from_highway_env_in_what_it_says():
    own, theirs = parameter_set("omniloop").mobil, parameter_set("highway_env").mobil
    assert 0.2 <= own.politeness <= 0.5
    named = {"politeness": own.politeness, "duration_s": own.duration_s, "clipped": True}
    assert own == replace(theirs, **named)


def test_omniloops_limit_leaves_room_for_the_comfortable_brake():
    """IDM is free of collisions that braking at the limit avoids if the limit is 4 b or more."""
    p = parameter_set("omniloop").idm
    assert p.hardest_brake_mps2 >= 4 * p.comfortable_brake_mps2


def test_every_set_names_itself_and_its_source():
    assert list(PARAMETER_SETS) == ["omniloop", "nuplan", "waymax", "highway_env"]
    for name, found in PARAMETER_SETS.items():
        assert found.name == name
        assert found.source
        assert found is parameter_set(name)


def test_accelerations_are_compared_as_published():
    highway = parameter_set("highway_env")
    assert highway.compared == replace(highway.idm, hardest_brake_mps2=INF)
    for name in ("omniloop", "nuplan", "waymax"):
        assert parameter_set(name).compared is parameter_set(name).idm


def test_a_set_cannot_be_changed_by_accident():
    with pytest.raises(FrozenInstanceError):
        parameter_set("nuplan").idm.min_gap_m = 3.0


@pytest.mark.parametrize(
    ("name", "meant"),
    [("nuPlan", "nuplan"), ("highway-env", "highway_env"), ("waymx", "waymax"), ("sumo", None)],
)
def test_an_unknown_set_is_refused_with_the_nearest_name(name, meant):
    with pytest.raises(ConfigError) as caught:
        parameter_set(name)
    error = caught.value
    assert f"'{name}'" in error.what
    assert error.where == f"traffic.params={name}"
    assert "omniloop, nuplan, waymax, highway_env" in error.remedy
    assert ("Did you mean" in error.what) == (meant is not None)
    if meant:
        assert f"Did you mean '{meant}'?" in error.what
