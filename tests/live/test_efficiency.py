"""The bound and the bottleneck, worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.live.efficiency import PLACES, Observed, Paths, efficiency_of
from omniloop.runlog.budget import AddressTimes


def paths(*rollouts: tuple[int, float, float]) -> Paths:
    """Rollouts of so many decisions, with so long a call in each and so much of their own."""
    found = Paths()
    for decisions, call_s, own_s in rollouts:
        calls = {"renderer.render": (decisions, decisions * call_s), "renderer.open": (0, 0.0)}
        found.add(decisions, calls, decisions * own_s)
    return found


def renderer(busy_s: float, waiting_s: float, port: int = 1, limit: int | None = None) -> AddressTimes:  # fmt: skip
    return AddressTimes("renderer", f"h:{port}", 40, busy_s, waiting_s, 0.5, limit)


def seen(addresses: Sequence[AddressTimes] = (), **changes: object) -> Observed:
    whole = Observed(
        wall_s=10.0, addresses=addresses, loops_s=[1.0], cpu_s=2.0, cores=2, slots=4.0,
        filled_s=38.0, paths=paths((10, 0.1, 0.05), (10, 0.1, 0.05)),
    )  # fmt: skip
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_rollouts_of_one_length_follow_one_another_in_whole_rounds() -> None:
    found = paths((10, 0.1, 0.02), (10, 0.3, 0.05), (10, 0.2, 0.01))
    assert found.one_s == pytest.approx(10 * 0.1 + 10 * 0.01)  # the shortest of each
    assert found.bound_s(1) == pytest.approx(3 * 1.1)
    assert found.bound_s(2) == pytest.approx(2 * 1.1)
    assert found.bound_s(3) == found.bound_s(8) == pytest.approx(1.1)


def test_of_several_lengths_the_longest_counts() -> None:
    found = paths((10, 0.1, 0.0), (30, 0.1, 0.0))
    assert found.bound_s(1) == pytest.approx(4.0)
    assert found.bound_s(2) == found.bound_s(9) == pytest.approx(3.0)


@given(
    st.lists(st.tuples(st.integers(1, 20), st.floats(0.01, 1.0), st.floats(0.0, 0.5)), min_size=1, max_size=9),
    st.integers(1, 5),
)  # fmt: skip
def test_no_schedule_takes_less_than_the_bound(
    rollouts: list[tuple[int, float, float]], slots: int
) -> None:
    ends = [0.0] * slots
    for decisions, call_s, own_s in rollouts:
        ends[ends.index(min(ends))] += decisions * (call_s + own_s)
    assert paths(*rollouts).bound_s(slots) <= max(ends) + 1e-9


def test_the_bound_is_the_largest_term_and_an_address_counts_its_share() -> None:
    found = efficiency_of(seen([renderer(9.8, 20.0, 1), renderer(9.4, 20.0, 2)]))
    assert found.terms_s == {
        "renderer busy": 9.6, "event loops busy": 1.0, "cores busy": 1.0, PLACES: 1.5,
    }  # fmt: skip
    assert found.at_most == 0.96
    assert not found.reason


def test_a_renderer_that_never_rests_is_the_bottleneck() -> None:
    told = efficiency_of(seen([renderer(9.8, 29.4, 1), renderer(9.4, 28.2, 2)])).bottleneck
    assert told.replace("\N{NO-BREAK SPACE}", " ") == (
        "renderer: busy 96 % of the time at both addresses (94 % to 98 %), with 3.0 calls on their"
        " way then; more addresses would help"
    )


def test_sessions_are_the_bottleneck_where_all_are_taken_and_addresses_rest() -> None:
    addresses = [renderer(6.0, 6.0, 1, limit=1), renderer(6.0, 6.0, 2, limit=1)]
    found = efficiency_of(seen(addresses, slots=2.0, filled_s=19.6))
    assert found.bottleneck.replace("\N{NO-BREAK SPACE}", " ") == (
        "sessions of renderer: all 2 taken 98 % of the time while renderer is busy 60 %;"
        " more sessions or addresses of it would help"
    )


def test_a_low_concurrency_is_the_bottleneck_where_nothing_else_is_full() -> None:
    addresses = [renderer(6.0, 6.0, 1, limit=8)]
    told = efficiency_of(seen(addresses, slots=4.0, filled_s=39.0)).bottleneck
    assert told.startswith("places for rollouts: all 4 taken 98")
    assert told.endswith("a higher run.concurrency would help")


def test_the_machine_is_the_bottleneck_where_its_workers_compute_all_the_time() -> None:
    here = AddressTimes("renderer", "", 40, 9.9, 30.0, 0.5, None)
    found = efficiency_of(seen([here], loops_s=[2.0], cpu_s=18.0))
    assert found.at_most == 0.9
    assert "renderer busy" not in found.terms_s  # it computes on the cores of the workers
    assert found.bottleneck.replace("\N{NO-BREAK SPACE}", " ") == (
        "the cores that the workers share: busy 90 % of the time, 79 % of the rollouts' time in"
        " renderer; more cores, or more machines, would help"
    )
    loops = efficiency_of(seen([here], loops_s=[9.0, 9.5], cores=None))
    assert loops.bottleneck.startswith("the event loops: busy 92")


def test_a_run_that_is_only_starting_is_held_up_by_nothing() -> None:
    found = efficiency_of(seen([renderer(2.0, 2.0)], filled_s=8.0))
    assert found.bottleneck.startswith("nothing was full: places for rollouts were taken 20")


def test_what_is_not_known_has_a_reason_and_is_no_number() -> None:
    none = efficiency_of(seen([renderer(9.0, 9.0)], paths=Paths()))
    assert (none.at_most, none.reason) == (None, "no rollout completed")
    early = efficiency_of(seen(wall_s=0.0))
    assert early.at_most is None
    assert early.reason == "the run ended before anything was measured"
    assert early.bottleneck.startswith("not known")
