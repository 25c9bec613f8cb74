from __future__ import annotations

import numpy as np

from omniloop.scenes.embedded_cast import CAR
from omniloop.scenes.embedded_paths import ReferenceLine, straight
from omniloop.scenes.families_motion import Driver, Stop, Stream


def stream(*drivers: Driver, stops: tuple[Stop, ...] = (), lanes=(0.0, 3.5)) -> Stream:
    return Stream(straight(0, 0, 0, 500), lanes, 20.0, list(stops), list(drivers))


def test_who_is_alone_keeps_the_speed_that_it_wants():
    (driven,) = stream(Driver(CAR, 10.0, ((0.0, 12.0),))).simulate()
    np.testing.assert_allclose(driven.speed_mps, 12.0)
    times = np.array([0, 50_000, 1_234_000])
    np.testing.assert_allclose(driven.s_at(times), 10.0 + 12.0 * times / 1e6)


def test_a_follower_never_reaches_who_brakes_ahead():
    lead = Driver(CAR, 40.0, ((2.0, 12.0), (5.0, 0.0)))
    first, second = stream(lead, Driver(CAR, 10.0, ((0.0, 14.0),))).simulate()
    assert first.speed_mps[-1] < 0.5
    assert second.speed_mps[-1] < 0.5
    assert (first.s_m - second.s_m).min() > CAR[2][0]


def test_other_lanes_are_free():
    slow, fast = stream(
        Driver(CAR, 40.0, ((0.0, 2.0),)), Driver(CAR, 10.0, ((0.0, 14.0),), lane=1)
    ).simulate()
    assert fast.s_m[-1] > slow.s_m[-1]


def test_who_moves_over_is_followed_from_then_on():
    cutting = Driver(CAR, 40.0, ((0.0, 6.0),), lane=1, into=0, change_s=5.0, change_for_s=3.0)
    first, second = stream(cutting, Driver(CAR, 0.0, ((0.0, 10.0),))).simulate()
    np.testing.assert_allclose(second.speed_mps[:50], 10.0)
    assert second.speed_mps[-1] < 7.0
    y = first.local_to_rig(np.array([4_000_000, 12_000_000]))[:, 1]
    np.testing.assert_allclose(y, [3.5, 0.0], atol=1e-9)


def test_a_stop_holds_fronts_until_it_opens():
    stop = Stop(150.0, 0.0, 14.0, frozenset({0}))
    held, free = stream(
        Driver(CAR, 10.0, ((0.0, 12.0),)), Driver(CAR, 10.0, ((0.0, 12.0),), lane=1), stops=(stop,)
    ).simulate()
    front = held.s_m + 0.76 * CAR[2][0]
    assert front[:140].max() < 150.0
    assert front[139] > 145.0
    assert held.speed_mps[-1] > 3.0
    np.testing.assert_allclose(free.speed_mps, 12.0)


def test_bends_are_driven_no_faster_than_is_comfortable():
    line = ReferenceLine.from_curvature(
        0, 0, 0, [(0, 0), (60, 0), (80, 1 / 30), (120, 1 / 30), (140, 0), (400, 0)]
    )
    (driven,) = Stream(line, (0.0,), 20.0, [], [Driver(CAR, 0.0, ((0.0, 15.0),))]).simulate()
    lateral = driven.speed_mps**2 * np.abs(line.at(driven.s_m)[2])
    # 1.8 m/s2 at a steady speed; car following gets there a little late.
    assert 1.5 < lateral.max() < 3.0
