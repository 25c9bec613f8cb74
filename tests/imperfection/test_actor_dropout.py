from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.motion import ActorMotion
from omniloop.core.scene import Actor, ActorClass
from omniloop.imperfection.actor_dropout import Dropout, Spells, draw_spells
from omniloop.imperfection.settings import ActorDropoutSettings

SETTINGS = ActorDropoutSettings(spells_per_s=0.5, mean_s=0.4)


def make_actors(count: int) -> list[Actor]:
    return [Actor(f"a{k}", ActorClass.CAR, "car", np.ones(3)) for k in range(count)]


def there(times_us: object, count: int) -> ActorMotion:
    times = np.asarray(times_us, dtype=np.int64)
    poses = np.zeros((count, len(times), 7))
    poses[..., 0] = times / 1e6
    poses[..., 6] = 1
    return ActorMotion(times, poses, np.ones((count, len(times)), dtype=bool))


def spells(*rows: tuple[int, int, int]) -> Spells:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Spells(*columns)


def test_an_actor_is_gone_at_exactly_the_times_of_its_spell():
    dropout = Dropout(spells((1, 1_000, 2_000)))
    motion = there([0, 999, 1_000, 1_500, 1_999, 2_000, 3_000], 2)
    sensed = dropout.sensed(motion)
    assert sensed.valid[0].all()
    assert sensed.valid[1].tolist() == [True, True, False, False, False, True, True]
    assert np.array_equal(sensed.local_to_aabb[1, 2:5], np.tile(geometry.IDENTITY, (3, 1)))
    assert np.array_equal(sensed.local_to_aabb[sensed.valid], motion.local_to_aabb[sensed.valid])
    assert motion.valid.all(), "the truth stays as it is"


def test_without_a_spell_the_motion_itself_comes_back():
    motion = there([10, 20], 2)
    assert Dropout(spells((0, 30, 40))).sensed(motion) is motion


def test_an_actor_that_is_absent_is_no_dropout():
    motion = there([0, 100, 200, 300], 1)
    motion.valid[0, :3] = False
    dropout = Dropout(spells((0, 50, 250)))
    assert dropout.sensed(motion) is motion
    assert dropout.facts() == {"spells": 0, "actors": 0, "actor_s": 0.0}


@given(
    st.lists(st.integers(1, 200_000), min_size=3, max_size=60),
    st.lists(st.integers(1, 60), max_size=5),
    st.integers(0, 50),
)
def test_the_sensed_motion_and_the_facts_do_not_depend_on_how_it_is_asked_for(gaps, cuts, seed):
    times = np.cumsum(gaps)
    drawn = draw_spells(SETTINGS, make_actors(4), 0, 10_000_000, seed)
    at_once, in_parts, growing = Dropout(drawn), Dropout(drawn), Dropout(drawn)
    whole = at_once.sensed(there(times, 4))
    ends = [*sorted({c for c in cuts if c < len(times)}), len(times)]
    parts, begin = [], 0
    for end in ends:
        parts.append(in_parts.sensed(there(times[begin:end], 4)).valid)
        history = growing.sensed(there(times[:end], 4))
        assert np.array_equal(history.valid, whole.valid[:, :end])
        begin = end
    assert np.array_equal(np.concatenate(parts, axis=1), whole.valid)
    assert at_once.facts() == in_parts.facts() == growing.facts()


def test_facts_by_hand():
    dropout = Dropout(spells((0, 150, 350), (0, 600, 650), (2, 0, 250)))
    dropout.sensed(there([100, 200, 300], 3))
    dropout.sensed(there([100, 200, 300, 400, 500], 3))
    # Actor 0 at 200 and 300, actor 2 at 100 (nothing before it) and 200.
    assert dropout.facts() == {"spells": 2, "actors": 2, "actor_s": 300e-6}


def test_spells_are_drawn_by_actor_and_do_not_depend_on_the_others_or_the_end():
    actors = make_actors(5)
    many = draw_spells(SETTINGS, actors, 1_000, 60_000_000, 3)
    alone = draw_spells(SETTINGS, actors[3:4], 1_000, 60_000_000, 3)
    mine = many.actor == 3
    assert len(alone.start_us) > 5
    assert np.array_equal(alone.start_us, many.start_us[mine])
    assert np.array_equal(alone.end_us, many.end_us[mine])
    short = draw_spells(SETTINGS, actors[3:4], 1_000, 20_000_000, 3)
    assert np.array_equal(short.start_us, alone.start_us[: len(short.start_us)])
    assert (alone.start_us[1:] > alone.end_us[:-1]).all()
    assert (alone.start_us > 1_000).all()


def test_rate_and_length_are_as_asked_for():
    drawn = draw_spells(SETTINGS, make_actors(200), 0, 100_000_000, 8)
    lengths = (drawn.end_us - drawn.start_us) / 1e6
    # Of each actor a spell begins every 1 / rate + mean = 2.4 s.
    assert len(lengths) == pytest.approx(200 * 100 / 2.4, rel=0.03)
    assert lengths.mean() == pytest.approx(0.4, rel=0.04)
    share = drawn.hidden(200, np.arange(5_000_000, 100_000_000, 50_000)).mean()
    assert share == pytest.approx(0.4 / 2.4, rel=0.05)
