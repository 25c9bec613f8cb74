"""The sums of nuPlan and NAVSIM worked out again, term by term, for any values of their terms."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omniloop.metrics import navsim_formulas as navsim
from omniloop.metrics.nuplan_cls import closed_loop_score
from omniloop.metrics.nuplan_collisions import score_of
from omniloop.metrics.nuplan_faults import OBJECT, VEHICLE, VRU

share = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0.0, 1.0))
maybe = st.one_of(st.none(), share)

FACTORS = ("no_ego_at_fault_collisions", "drivable_area_compliance", "ego_is_making_progress",
           "driving_direction_compliance")  # fmt: skip
TERMS = (
    ("ego_progress_along_expert_route", 5), ("time_to_collision_within_bound", 5),
    ("speed_limit_compliance", 4), ("ego_is_comfortable", 2),
)  # fmt: skip


def near(found: float, expected: float) -> bool:
    return abs(found - expected) <= 1e-12


@given(factors=st.tuples(share, share, share, share), terms=st.tuples(share, share, share, share))
def test_cls_is_c_da_mp_dd_times_the_sixteenths(
    factors: tuple[float, ...], terms: tuple[float, ...]
) -> None:
    c, da, mp, dd = factors
    p, ttc, sl, cf = terms
    given_ = {f"nuplan_{name}": value for name, value in zip(FACTORS, factors, strict=True)}
    given_ |= {f"nuplan_{name}": v for (name, _), v in zip(TERMS, terms, strict=True)}
    found = closed_loop_score(given_)
    assert found is not None
    assert near(found, c * da * mp * dd * (5 * p + 5 * ttc + 4 * sl + 2 * cf) / 16)
    assert 0.0 <= found <= 1.0 + 1e-12


@given(factors=st.tuples(maybe, maybe, maybe, maybe), terms=st.tuples(maybe, maybe, maybe, maybe))
def test_cls_leaves_out_what_is_none_with_its_weight(
    factors: tuple[float | None, ...], terms: tuple[float | None, ...]
) -> None:
    product, total, weights = 1.0, 0.0, 0
    for factor in factors:
        if factor is not None:
            product = product * factor
    for (_, weight), term in zip(TERMS, terms, strict=True):
        if term is not None:
            total = total + weight * term
            weights = weights + weight
    given_ = {f"nuplan_{name}": value for name, value in zip(FACTORS, factors, strict=True)}
    given_ |= {f"nuplan_{name}": v for (name, _), v in zip(TERMS, terms, strict=True)}
    found = closed_loop_score(given_)
    if weights == 0:
        assert found is None
    else:
        assert found is not None
        assert near(found, product * total / weights)


@given(
    factors=st.tuples(share, share, share, share),
    terms=st.tuples(share, share, share, share),
    which=st.integers(0, 7),
    more=st.floats(0.0, 1.0),
)
def test_a_better_term_never_makes_the_score_worse(
    factors: tuple[float, ...], terms: tuple[float, ...], which: int, more: float
) -> None:
    names = [*FACTORS, *(name for name, _ in TERMS)]
    values = dict(zip(names, [*factors, *terms], strict=True))
    better = values | {names[which]: min(1.0, values[names[which]] + more)}
    before, after = (
        closed_loop_score({f"nuplan_{name}": v for name, v in one.items()})
        for one in (values, better)
    )
    assert before is not None
    assert after is not None
    assert after >= before - 1e-12


@given(vrus=st.integers(0, 3), vehicles=st.integers(0, 3), objects=st.integers(0, 4))
def test_the_collision_score_is_a_product_over_classes(
    vrus: int, vehicles: int, objects: int
) -> None:
    expected = 1.0
    for hits, allowed in ((vrus, 0), (vehicles, 0), (objects, 1)):
        expected = expected * max(0.0, 1.0 - hits / (allowed + 1))
    found = score_of([VRU] * vrus + [VEHICLE] * vehicles + [OBJECT] * objects)
    assert found == expected
    assert found == (0.0 if vrus or vehicles or objects > 1 else (0.5 if objects else 1.0))


@given(st.fixed_dictionaries(dict.fromkeys(("nc", "dac", "ep", "ttc", "c"), share)))
def test_pdms_is_its_twelfths(parts: dict[str, float]) -> None:
    total = 0.0
    for name, weight in (("ep", 5), ("ttc", 5), ("c", 2)):
        total = total + weight * parts[name]
    assert near(navsim.pdms(parts), parts["nc"] * parts["dac"] * total / 12)


@given(
    st.fixed_dictionaries(
        dict.fromkeys(("nc", "dac", "ddc", "tlc", "ep", "ttc", "lk", "hc", "ec"), share)
    )
)
def test_epdms_is_its_sixteenths(parts: dict[str, float]) -> None:
    total, product = 0.0, 1.0
    for name, weight in (("ep", 5), ("ttc", 5), ("lk", 2), ("hc", 2), ("ec", 2)):
        total = total + weight * parts[name]
    for name in ("nc", "dac", "ddc", "tlc"):
        product = product * parts[name]
    assert near(navsim.epdms(parts), product * total / 16)
    for name in ("nc", "dac", "ddc", "tlc"):
        assert navsim.epdms(parts | {name: 0.0}) == 0.0


proposal = st.tuples(st.floats(-20.0, 120.0), st.sampled_from([0.0, 0.5, 1.0]))
"""Progress [m] and the product of the multipliers."""


@given(st.lists(proposal, min_size=1, max_size=6))
def test_ego_progress_is_a_share_of_the_most(proposals: list[tuple[float, float]]) -> None:
    most = 0.0
    for made_m, factor in proposals:
        most = max(most, max(0.0, made_m) * factor)
    found = navsim.ego_progress(*(np.array(column) for column in zip(*proposals, strict=True)))
    for (made_m, _), one in zip(proposals, found.tolist(), strict=True):
        if most <= 5.0:
            assert one == 1.0
        else:
            assert near(one, min(1.0, max(0.0, made_m) / most))


def test_a_progress_of_exactly_5_m_is_full_for_all() -> None:
    for most, expected in ((5.0, [1.0, 1.0]), (5.000001, [1.0, 1.0 / 5.000001])):
        found = navsim.ego_progress(np.array([most, 1.0]), np.ones(2))
        assert found.tolist() == expected


@given(driven=share, human=st.one_of(st.none(), share))
def test_the_human_filter_takes_only_a_human_0_for_an_excuse(
    driven: float, human: float | None
) -> None:
    assert navsim.human_filtered(driven, human) == (1.0 if human == 0 else driven)
