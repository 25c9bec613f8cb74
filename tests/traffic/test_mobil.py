"""MOBIL at both sides of each threshold, and in lanes with cars."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.traffic.laws import idm_accel
from omniloop.traffic.mobil import mobil_decides
from omniloop.traffic.parameters import parameter_set

HIGHWAY = parameter_set("highway_env").mobil
OMNILOOP = parameter_set("omniloop").mobil
some = st.floats(-10.0, 3.0)
E6 = 1e-6


def decides(m, *accels):
    (answer,) = mobil_decides(*(np.array([a]) for a in accels), m)
    return bool(answer)


def test_alone_on_the_road_nobody_changes():
    assert not decides(OMNILOOP, 0.5, 0.5, 0, 0, 0, 0)


@pytest.mark.parametrize(("gain", "changes"), [(0.2 - E6, False), (0.2 + E6, True)])
def test_the_own_gain_must_reach_the_threshold(gain, changes):
    for m in (HIGHWAY, OMNILOOP):
        assert decides(m, -0.5, -0.5 + gain, 0, 0, 0, 0) is changes


def test_equality_is_enough():
    assert decides(replace(HIGHWAY, min_gain_mps2=0.25), 0.0, 0.25, 0, -2.0, 0, 0)


@pytest.mark.parametrize(("after", "changes"), [(-2.0 - E6, False), (-2.0 + E6, True)])
def test_the_new_follower_must_not_brake_harder_than_is_safe(after, changes):
    assert decides(HIGHWAY, -8.0, 1.0, 0.3, after, 0, 0) is changes
    assert decides(OMNILOOP, -8.0, 1.0, 0.3, after, 0, 0) is changes


def test_what_the_old_follower_does_is_not_a_matter_of_safety():
    assert decides(HIGHWAY, 0.0, 1.0, 0, 0, -9.0, -9.0)


def test_a_selfish_driver_ignores_what_others_lose_a_polite_one_does_not():
    # own gain 0.5, the new follower loses 1.6: 0.5 - 0.2 * 1.6 = 0.18 < 0.2
    case = (0.0, 0.5, 0.1, -1.5, 0.0, 0.0)
    assert decides(HIGHWAY, *case)
    assert not decides(OMNILOOP, *case)
    assert decides(OMNILOOP, 0.0, 0.53, *case[2:])


def test_a_polite_driver_makes_way_for_the_one_behind():
    # no gain of one's own, the old follower gains 1.1: 0.2 * 1.1 = 0.22
    case = (0.0, 0.0, 0.0, 0.0, -1.0, 0.1)
    assert decides(OMNILOOP, *case)
    assert not decides(HIGHWAY, *case)


@given(some, some, some, some, some, some)
def test_it_is_the_rule_of_highway_env(now, there, new_now, new_after, old_now, old_after):
    for m in (HIGHWAY, OMNILOOP):
        expected = True
        if new_after < -2.0:
            expected = False
        others = new_after - new_now + old_after - old_now
        if there - now + m.politeness * others < 0.2:
            expected = False
        assert decides(m, now, there, new_now, new_after, old_now, old_after) is expected


@given(st.lists(st.tuples(some, some, some, some, some, some), min_size=1, max_size=20))
def test_drivers_decide_each_for_themselves(cases):
    columns = [np.array(c) for c in zip(*cases, strict=True)]
    together = mobil_decides(*columns, OMNILOOP)
    assert together.dtype == bool
    assert together.tolist() == [decides(OMNILOOP, *case) for case in cases]


def overtakes(name, behind_m, behind_mps):
    """One at 15 m/s, 20 m behind a lead at 8; beside it an empty lane but for one behind it."""
    found = parameter_set(name)

    def accel(speed, gap, lead):
        columns = (np.array([x]) for x in (speed, 20.0, gap, lead))
        return idm_accel(*columns, found.compared)

    nobody = np.zeros(1)
    (answer,) = mobil_decides(
        accel(15.0, 20.0, 8.0),
        accel(15.0, np.inf, 0.0),
        accel(behind_mps, np.inf, 0.0),
        accel(behind_mps, behind_m, 15.0),
        nobody,
        nobody,
        found.mobil,
    )
    return bool(answer)


@pytest.mark.parametrize("name", ["omniloop", "highway_env"])
def test_it_overtakes_where_the_lane_beside_is_free_and_waits_where_one_comes_fast(name):
    assert overtakes(name, 60.0, 15.0)
    assert not overtakes(name, 8.0, 15.0)
    assert not overtakes(name, 25.0, 20.0)
