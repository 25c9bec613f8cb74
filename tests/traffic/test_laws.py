"""Car following against closed forms, and against scalar copies of what others publish."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.traffic.laws import advance, equilibrium_gap, idm_accel, string_stability_margin
from omniloop.traffic.parameters import PARAMETER_SETS

SETS = sorted(PARAMETER_SETS)
OMNILOOP = PARAMETER_SETS["omniloop"].idm
NUPLAN = PARAMETER_SETS["nuplan"].idm
WAYMAX = PARAMETER_SETS["waymax"].idm
HIGHWAY = PARAMETER_SETS["highway_env"].idm

speeds = st.floats(0.0, 40.0)
desired = st.floats(3.0, 40.0)
gaps = st.one_of(st.floats(-3.0, 120.0), st.just(math.inf))


def accel(p, speed, wanted, gap, lead):
    """The law for one actor."""
    return float(idm_accel(*(np.array([float(x)]) for x in (speed, wanted, gap, lead)), p)[0])


def step(p, speed, accel_mps2, dt=None):
    moved, after = advance(np.array([speed]), np.array([accel_mps2]), dt or p.step_s, p)
    return float(moved[0]), float(after[0])


def follow(p, speed, wanted, gap, lead_accels, lead=None):
    """Gaps behind a lead that accelerates as given each step, and the accelerations."""
    lead = speed if lead is None else lead
    exact = replace(p, integration="ballistic")
    found, used = [gap], []
    for lead_accel in lead_accels:
        used.append(accel(p, speed, wanted, gap, lead))
        moved, speed = step(p, speed, used[-1])
        lead_moved, lead = step(exact, lead, lead_accel, p.step_s)
        gap += lead_moved - moved
        found.append(gap)
    return np.array(found), np.array(used)


def braking(p, seconds, mps2=6.0):
    return [-mps2] * math.ceil(seconds / p.step_s)


def same(a, b):
    assert a == pytest.approx(b, rel=1e-12, abs=1e-12)


# ------------------------------------------------------------------ what others publish


@given(speeds, desired, gaps, speeds)
def test_nuplan_steps_as_its_code_does(v, v0, gap, lead):
    s0, headway, a_max, b = 1.0, 1.5, 1.0, 2.0
    wished = s0 + v * headway + (v * (v - lead)) / (2 * math.sqrt(a_max * b))
    distance = max(gap - v * headway, 0.0)  # between shapes, its own stretched by v T
    s = max(distance, s0)
    raw = a_max * (1 - (v / v0) ** 4 - (wished / s) ** 2)
    clipped = min(max(-b, raw), a_max)
    same(accel(NUPLAN, v, v0, gap, lead), clipped)
    same(step(NUPLAN, v, clipped), (0.1 * v, max(v + 0.1 * clipped, 0)))


@given(speeds, st.one_of(st.integers(0, 10), st.none()), speeds)
def test_waymax_steps_as_its_code_does(v, metres, lead):
    wished = 2.0 + max(0, v * 2.0 + v * (v - lead) / (2 * math.sqrt(2.0 * 4.0)))
    if metres is None:  # no lead
        wished, metres = 0.0, -1.0
    s = 0.1 if metres == 0 else metres
    raw = 2.0 * (1 - (v / 30.0) ** 4.0 - (wished / s) ** 2)
    gap = math.inf if metres < 0 else metres
    same(accel(WAYMAX, v, 30.0, gap, 0.0 if math.isinf(gap) else lead), raw)
    after = v + 0.1 * raw
    after = 0 if after < 0 else after
    same(step(WAYMAX, v, raw), ((after + v) / 2 * 0.1, after))


@given(speeds, desired, gaps, speeds)
def test_highway_env_steps_as_its_code_does(v, v0, gap, lead):
    raw = 3.0 * (1 - (max(v, 0) / abs(v0)) ** 4.0)
    if math.isfinite(gap):
        between_centres = gap + 5.0
        d_star = (5.0 + 5.0) + v * 1.5 + v * (v - lead) / (2 * math.sqrt(3.0 * 5.0))
        raw -= 3.0 * (d_star / between_centres) ** 2
    clipped = min(max(raw, -6.0), 6.0)
    same(accel(HIGHWAY, v, v0, gap, lead if math.isfinite(gap) else 0.0), clipped)
    # There it may roll backward; here it stands.
    same(step(HIGHWAY, v, clipped), (v / 15, max(v + clipped / 15, 0)))


def test_the_textbook_formula_by_hand():
    # v = 10, v0 = 20, lead at 8, gap 25: s* = 1 + 15 + 10 * 2 / (2 sqrt 2) = 23.0711
    expected = 1 - 0.5**4 - ((16 + 10 / math.sqrt(2)) / 25) ** 2
    assert accel(OMNILOOP, 10, 20, 25, 8) == pytest.approx(expected, abs=1e-12)
    assert expected == pytest.approx(0.0858, abs=1e-4)


def test_another_exponent_is_a_power():
    softer = replace(OMNILOOP, exponent=2.0)
    assert accel(softer, 10, 20, math.inf, 0) == pytest.approx(1 - 0.5**2)
    near_four = replace(OMNILOOP, exponent=4.0 + 1e-9)
    assert accel(near_four, 10, 20, 30, 9) == pytest.approx(accel(OMNILOOP, 10, 20, 30, 9))


# ------------------------------------------------------------------------- equilibrium


@pytest.mark.parametrize("name", SETS)
def test_a_follower_settles_at_the_equilibrium_gap(name):
    p = PARAMETER_SETS[name].idm
    lead = np.array([3.0, 6.0, 9.0, 12.0])
    wanted = np.full(4, 16.0)
    gap, speed = np.array([60.0, 25.0, 80.0, 50.0]), lead * 0.8
    for _ in range(round(400 / p.step_s)):
        moved, speed = advance(speed, idm_accel(speed, wanted, gap, lead, p), p.step_s, p)
        gap = gap + lead * p.step_s - moved
    np.testing.assert_allclose(speed, lead, atol=1e-6)
    np.testing.assert_allclose(gap, equilibrium_gap(lead, wanted, p), atol=1e-4)


def test_equilibrium_gaps_by_hand():
    # 15 m/s, v0 = 20: sqrt(1 - (3/4)^4) = 0.82680
    at, v0 = np.array([15.0]), np.array([20.0])
    plain = 23.5 / math.sqrt(1 - 0.75**4)
    assert equilibrium_gap(at, v0, OMNILOOP)[0] == pytest.approx(plain)
    assert equilibrium_gap(at, v0, NUPLAN)[0] == pytest.approx(plain + 22.5)
    assert equilibrium_gap(at, v0, WAYMAX)[0] == pytest.approx(32 / math.sqrt(1 - 0.75**4))
    assert equilibrium_gap(at, v0, HIGHWAY)[0] == pytest.approx(32.5 / math.sqrt(1 - 0.75**4) - 5)


@pytest.mark.parametrize("name", SETS)
def test_nobody_is_followed_at_the_desired_speed(name):
    gap = equilibrium_gap(np.array([10.0, 11.0]), np.array([10.0]), PARAMETER_SETS[name].idm)
    assert np.isposinf(gap).all()


# --------------------------------------------------------------------- string stability


def slopes(p, speed, wanted, h=1e-5):
    """Numerical derivatives of the acceleration in equilibrium by gap, speed and lead's speed."""
    p = replace(p, hardest_brake_mps2=math.inf)
    gap = float(equilibrium_gap(np.array([speed]), np.array([wanted]), p)[0])

    def slope(ds, dv, dl):
        up = accel(p, speed + dv, wanted, gap + ds, speed + dl)
        return (up - accel(p, speed - dv, wanted, gap - ds, speed - dl)) / (2 * h)

    return slope(h, 0, 0), slope(0, h, 0), slope(0, 0, h)


def gain_in_theory(p, speed, wanted, omega, cars=12):
    f_s, f_v, f_l = slopes(p, speed, wanted)
    w2 = np.asarray(omega) ** 2
    return ((f_s**2 + f_l**2 * w2) / ((f_s - w2) ** 2 + f_v**2 * w2)) ** ((cars - 1) / 2)


def gain_of_platoon(p, speed, wanted, omega, cars=12):
    """Amplitude of the last car's speed over the first's, one platoon per frequency."""
    p = replace(p, integration="ballistic", hardest_brake_mps2=math.inf)
    omega = np.asarray(omega)[:, None]
    small = 1e-4
    v = np.full((len(omega), cars), float(speed))
    gap = np.broadcast_to(equilibrium_gap(v, np.array([wanted]), p), v.shape).copy()
    dt, count = 0.02, 25_000
    keep = np.empty((count, len(omega), 2))
    for k in range(count):
        lead = speed + small * np.sin(omega * (k * dt))
        ahead = np.concatenate([lead, v[:, :-1]], axis=1)
        moved, after = advance(v, idm_accel(v, np.array(wanted), gap, ahead, p), dt, p)
        lead_moved = (lead[:, 0] + speed + small * np.sin(omega[:, 0] * ((k + 1) * dt))) * dt / 2
        gap = gap + np.concatenate([lead_moved[:, None], moved[:, :-1]], axis=1) - moved
        v = after
        keep[k] = v[:, [0, -1]]
    out = []
    for i, w in enumerate(omega[:, 0]):
        periods = math.floor(w * dt * count * 0.4 / (2 * math.pi))  # whole ones at the end
        n = round(2 * math.pi * max(periods, 1) / w / dt)
        turn = np.exp(-1j * w * dt * np.arange(n))
        first, last = np.abs(((keep[-n:, i] - speed) * turn[:, None]).mean(axis=0))
        out.append(last / first)
    return np.array(out)


@pytest.mark.parametrize(
    ("name", "speed"),
    [("omniloop", 5.0), ("omniloop", 9.0), ("highway_env", 4.0)],
)
def test_where_the_margin_is_negative_slow_waves_grow_and_quick_ones_fade(name, speed):
    """A wave grows if and only if its frequency is below the root of minus the margin."""
    p = PARAMETER_SETS[name].idm
    margin = string_stability_margin(np.array([speed]), np.array([20.0]), p)[0]
    assert margin < 0
    root = math.sqrt(-margin)
    omega = [0.7 * root, 1.4 * root]
    slow, quick = gain_of_platoon(p, speed, 20.0, omega)
    assert slow > 1.02
    assert quick < 0.98
    theory = gain_in_theory(p, speed, 20.0, omega)
    np.testing.assert_allclose([slow, quick], theory, rtol=0.08)


@pytest.mark.parametrize(
    ("name", "speed"),
    [("omniloop", 15.0), ("nuplan", 5.0), ("waymax", 8.0), ("highway_env", 15.0)],
)
def test_where_the_margin_is_positive_every_wave_fades(name, speed):
    p = PARAMETER_SETS[name].idm
    assert string_stability_margin(np.array([speed]), np.array([20.0]), p)[0] > 0
    omega = [0.05, 0.1, 0.2, 0.5]
    gain = gain_of_platoon(p, speed, 20.0, omega)
    assert (gain < 0.999).all()
    np.testing.assert_allclose(gain, gain_in_theory(p, speed, 20.0, omega), rtol=0.05)


@given(st.sampled_from(SETS), st.floats(1.0, 14.0))
def test_the_margin_is_that_of_numerical_derivatives(name, v):
    p = PARAMETER_SETS[name].idm
    f_s, f_v, f_l = slopes(p, v, 15.0)
    margin = string_stability_margin(np.array([v]), np.array([15.0]), p)[0]
    assert margin == pytest.approx(f_v**2 - f_l**2 - 2 * f_s, rel=1e-5, abs=1e-7)


# --------------------------------------------------------------------- a lead that brakes


def test_nuplan_hits_a_braking_lead_from_the_gap_of_its_constants():
    """With 2 m/s^2 it needs 56.25 m to stop from 15 m/s; the lead leaves 28.42 + 18.75 m."""
    gap = float(equilibrium_gap(np.array([15.0]), np.array([20.0]), OMNILOOP)[0])
    assert gap == pytest.approx(28.42, abs=0.01)
    gaps, used = follow(NUPLAN, 15.0, 20.0, gap, braking(NUPLAN, 15))
    assert used.min() == -2.0
    assert gaps.min() < -9.0


def test_nuplan_hits_a_braking_lead_at_20_mps_also_from_its_own_equilibrium():
    """Its stretched shape doubles the headway, which is enough at 15 m/s and not at 20."""
    far = equilibrium_gap(np.array([15.0, 20.0]), np.array([20.0, 25.0]), NUPLAN)
    at_15, _ = follow(NUPLAN, 15.0, 20.0, float(far[0]), braking(NUPLAN, 40))
    at_20, _ = follow(NUPLAN, 20.0, 25.0, float(far[1]), braking(NUPLAN, 40))
    assert at_15.min() > 0.9
    assert at_20.min() < -5.0


@pytest.mark.parametrize("name", ["omniloop", "waymax", "highway_env"])
@pytest.mark.parametrize(("speed", "wanted"), [(9.0, 10.0), (15.0, 20.0), (25.0, 35.0)])
def test_the_others_stop_behind_a_braking_lead_from_equilibrium(name, speed, wanted):
    p = PARAMETER_SETS[name].idm
    gap = float(equilibrium_gap(np.array([speed]), np.array([wanted]), p)[0])
    gaps, used = follow(p, speed, wanted, gap, braking(p, 60))
    assert gaps.min() > 0.9
    assert used.min() > -8.0


def test_omniloop_stops_where_nuplan_hits():
    gap = float(equilibrium_gap(np.array([15.0]), np.array([20.0]), OMNILOOP)[0])
    gaps, used = follow(OMNILOOP, 15.0, 20.0, gap, braking(OMNILOOP, 60))
    assert gaps.min() == pytest.approx(OMNILOOP.min_gap_m, abs=0.01)
    assert -6.0 < used.min() < -4.0


def test_waymax_brakes_beyond_any_tyre_for_what_it_sees_at_10_m():
    # s* = 2 + 30 + 225 / (2 sqrt 8) = 71.775
    by_hand = 2 * (1 - 0.5**4 - ((32 + 225 / (2 * math.sqrt(8))) / 10) ** 2)
    assert by_hand == pytest.approx(-101.16, abs=0.01)
    assert accel(WAYMAX, 15, 30, 10, 0) == pytest.approx(by_hand)


def test_highway_env_stands_short_of_its_5_m_gap():
    """Its last step takes it too far, and it does not roll back here."""
    gap = float(equilibrium_gap(np.array([15.0]), np.array([20.0]), HIGHWAY)[0])
    gaps, _ = follow(HIGHWAY, 15.0, 20.0, gap, braking(HIGHWAY, 60))
    assert 4.0 < gaps[-1] < 5.0


def test_a_lead_that_gets_away_makes_only_the_bare_formula_brake():
    """A lead 20 m ahead is 10 m/s faster: s* = 16 - 100 / (2 sqrt 2) = -19.36."""
    assert accel(NUPLAN, 10, 20, 20, 20) == -2.0  # sees 5 m, and (19.36 / 5)^2
    assert accel(OMNILOOP, 10, 20, 20, 20) == pytest.approx(1 - 0.5**4 - (1 / 20) ** 2)


def test_only_omniloop_slows_gently_for_a_lower_speed_limit():
    assert accel(OMNILOOP, 20, 10, math.inf, 0) == -2.0  # bare: 1 - 2^4
    assert accel(WAYMAX, 20, 10, math.inf, 0) == pytest.approx(2 * (1 - 2**4))
    assert accel(HIGHWAY, 20, 10, math.inf, 0) == -6.0
    # and brakes for a lead on top of it
    assert accel(OMNILOOP, 20, 10, 40, 20) == pytest.approx(-2.0 - (31 / 40) ** 2)


# --------------------------------------------------------------------------- properties


@given(st.sampled_from(SETS), speeds, desired, gaps, speeds)
def test_accelerations_stay_within_their_limits(name, v, v0, gap, lead):
    p = PARAMETER_SETS[name].idm
    assert -p.hardest_brake_mps2 <= accel(p, v, v0, gap, lead) <= p.max_accel_mps2


@given(st.sampled_from(SETS), speeds, desired, gaps, st.floats(0.0, 50.0), speeds)
def test_more_room_is_never_a_reason_to_accelerate_less(name, v, v0, gap, more, lead):
    p = PARAMETER_SETS[name].idm
    assert accel(p, v, v0, gap + more, lead) >= accel(p, v, v0, gap, lead)


@given(st.sampled_from(["omniloop", "waymax"]), speeds, desired, gaps, speeds, speeds)
def test_a_quicker_lead_is_no_reason_to_accelerate_less(name, v, v0, gap, lead, more):
    p = PARAMETER_SETS[name].idm
    assert accel(p, v, v0, gap, lead + more) >= accel(p, v, v0, gap, lead)


@given(st.sampled_from(SETS), speeds, st.floats(-200.0, 3.0), st.floats(0.01, 1.0))
def test_nobody_goes_backward(name, v, a, dt):
    moved, after = step(PARAMETER_SETS[name].idm, v, a, dt)
    assert moved >= 0.0
    assert after >= 0.0
    assert moved <= v * dt + max(a, 0.0) * dt * dt / 2 + 1e-12


def test_a_stop_within_a_step_by_hand():
    # 1 m/s and -4 m/s^2: it stands after 0.25 s and 0.125 m.
    assert step(OMNILOOP, 1.0, -4.0, 0.5) == (0.125, 0.0)
    assert step(WAYMAX, 1.0, -4.0, 0.5) == (0.25, 0.0)
    assert step(NUPLAN, 1.0, -4.0, 0.5) == (0.5, 0.0)
    assert step(OMNILOOP, 0.0, -4.0, 0.5) == (0.0, 0.0)


@given(speeds, st.floats(-8.0, 1.0), st.floats(0.01, 0.5))
def test_ballistic_steps_of_half_the_length_come_to_the_same(v, a, dt):
    half, between = step(OMNILOOP, v, a, dt / 2)
    rest, after = step(OMNILOOP, between, a, dt / 2)
    whole = step(OMNILOOP, v, a, dt)
    assert whole == pytest.approx((half + rest, after), abs=1e-9)


def stopping_room(speed, lead):
    """Gap from which braking at 8 m/s^2 is just enough behind a lead that does the same."""
    return max((speed**2 - lead**2) / 16.0, 0.0)


@given(
    speeds,
    speeds,
    st.one_of(st.just(0.0), st.floats(0.0, 0.1), st.floats(0.0, 40.0)),
    desired,
    st.lists(st.floats(-8.0, 3.0), max_size=30),
)
def test_omniloop_never_hits_where_braking_at_its_limit_would_not(v, lead, spare, v0, accels):
    gap = stopping_room(v, lead) + spare
    gaps, _ = follow(OMNILOOP, v, v0, gap, accels + braking(OMNILOOP, 12, 8.0), lead)
    assert gaps.min() > -1e-9


def test_nuplan_hits_where_braking_at_2_would_not():
    """The same property at its own limit fails: 75 m are enough to stop from 20 m/s behind a lead
    that does from 10 m/s, both at 2 m/s^2."""
    limit = NUPLAN.hardest_brake_mps2
    needed = (20.0**2 - 10.0**2) / (2 * limit)
    gaps, _ = follow(NUPLAN, 20.0, 40.0, needed, braking(NUPLAN, 30, limit), 10.0)
    assert gaps.min() < -0.5


@given(st.integers(1, 20), st.integers(0, 2**32 - 1), st.sampled_from(SETS))
def test_actors_do_not_influence_each_other(count, seed, name):
    p = PARAMETER_SETS[name].idm
    rng = np.random.default_rng(seed)
    v, v0, lead = rng.uniform(0, 30, (3, count))
    v0 += 1.0
    gap = np.where(rng.random(count) < 0.3, np.inf, rng.uniform(-1, 80, count))
    before = [x.copy() for x in (v, v0, gap, lead)]
    together = idm_accel(v, v0, gap, lead, p)
    moved, after = advance(v, together, 0.1, p)
    for i in range(count):
        assert together[i] == accel(p, v[i], v0[i], gap[i], lead[i])
        assert (moved[i], after[i]) == step(p, v[i], together[i], 0.1)
    for given_, kept in zip((v, v0, gap, lead), before, strict=True):
        np.testing.assert_array_equal(given_, kept)
