"""Actors that are not sensed for a while, in the same spells by every service of a rollout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.motion import ActorMotion, Mask, Times, as_times
from omniloop.core.scene import Actor
from omniloop.core.seeds import generator
from omniloop.core.time import US_PER_S
from omniloop.imperfection.settings import ActorDropoutSettings


@dataclass(frozen=True, eq=False)
class Spells:
    """When actors are not sensed: ``[start_us, end_us)``, disjoint for one actor.

    Attributes:
        actor: ``(S,)`` indices of actors, ascending.
        start_us: ``(S,)``.
        end_us: ``(S,)``.
    """

    actor: NDArray[np.int64]
    start_us: Times
    end_us: Times

    def hidden(self, n_actors: int, times_us: Times) -> Mask:
        """``(n_actors, T)`` who is not sensed at times ``(T,)``, ascending."""
        out = np.zeros((n_actors, len(times_us)), dtype=np.bool_)
        begin, stop = np.searchsorted(times_us, [self.start_us, self.end_us])
        for k in np.flatnonzero(begin < stop).tolist():
            out[self.actor[k], begin[k] : stop[k]] = True
        return out


def draw_spells(
    settings: ActorDropoutSettings, actors: Sequence[Actor], start_us: int, end_us: int, seed: int
) -> Spells:
    """Draw every actor's spells by its id: a Poisson process while it is sensed.

    Times between spells are exponential with mean ``1 / spells_per_s``, spells with mean
    `mean_s`; all actors are sensed at `start_us`.
    """
    found: list[tuple[int, int, int]] = []
    for index, actor in enumerate(actors):
        draws = generator(seed, "actor_dropout", actor.id)
        now_us = start_us
        while True:
            begin_us = now_us + 1 + int(US_PER_S * draws.exponential(1.0 / settings.spells_per_s))
            if begin_us > end_us:
                break
            now_us = begin_us + 1 + int(US_PER_S * draws.exponential(settings.mean_s))
            found.append((index, begin_us, now_us))
    columns = np.array(found, dtype=np.int64).reshape(-1, 3).T
    return Spells(columns[0], as_times(columns[1]), as_times(columns[2]))


class Dropout:
    """What one service senses of a rollout's actors, and how much was kept from it."""

    def __init__(self, spells: Spells) -> None:
        self._spells = spells
        self._last_us: int | None = None
        self._met = np.zeros(len(spells.actor), dtype=np.bool_)
        self._hidden_us = 0

    def sensed(self, motion: ActorMotion) -> ActorMotion:
        """The motion without the actors that are not sensed at each of its times."""
        hidden = self._spells.hidden(len(motion.valid), motion.times_us) & motion.valid
        if not len(motion.times_us):
            return motion
        self._count(motion.times_us, hidden)
        if not hidden.any():
            return motion
        poses = np.array(motion.local_to_aabb)
        poses[hidden] = geometry.IDENTITY
        return ActorMotion(motion.times_us, poses, motion.valid & ~hidden)

    def _count(self, times_us: Times, hidden: Mask) -> None:
        """Count what is new, of which a motion told before may be a part."""
        last_us = int(times_us[0]) if self._last_us is None else self._last_us
        first = int(np.searchsorted(times_us, last_us, side="right"))
        if self._last_us is None:
            first = 0
        new = times_us[first:]
        if not len(new):
            return
        self._last_us = int(new[-1])
        rows, columns = np.nonzero(hidden[:, first:])
        if not len(rows):
            return
        self._hidden_us += int(np.diff(new, prepend=last_us)[columns].sum())
        spells = self._spells
        for row in np.unique(rows).tolist():
            of_actor = np.flatnonzero(spells.actor == row)
            at = new[columns[rows == row]]
            self._met[of_actor[np.searchsorted(spells.end_us[of_actor], at, side="right")]] = True

    def facts(self) -> dict[str, object]:
        """Spells in which an actor that was there was not sensed, and for how long in all.

        A state counts for the time since the one before it.
        """
        return {
            "spells": int(np.count_nonzero(self._met)),
            "actors": len(np.unique(self._spells.actor[self._met])),
            "actor_s": self._hidden_us / US_PER_S,
        }
