"""When two rollouts part: the first committed ego pose that is not the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from omniloop.core.errors import RunFolderError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times
from omniloop.runlog import messages as topics
from omniloop.runlog.proto import log_pb2 as pb
from omniloop.runlog.reader import LogReader
from omniloop.runlog.wire import float64s, int64s


@dataclass(frozen=True)
class Divergence:
    """How long two rollouts go together.

    Attributes:
        time_us: The first time at which they are apart; None if they never are.
        distance_m: How far apart they are then.
        until_us: Up to when both were compared; None if nothing could be.
        problem: Why less was compared than there should be; empty if nothing hindered.
    """

    time_us: int | None
    distance_m: float | None
    until_us: int | None
    problem: str = ""


def divergence(first: Path, second: Path, tolerance_m: float) -> Divergence:
    """Find when ego's committed true positions in two logs are more than `tolerance_m` apart.

    Both logs are read side by side and no further than to that time. Positions are the rig's
    origin in the local frame, in space. Where the logs have other times, those of the first
    count, and the second is interpolated. A log that is cut off is compared as far as it goes.
    """
    one, two = _Ego(first), _Ego(second)
    until_us = None
    try:
        while one.more():
            times, xyz = one.take()
            while two.last_us < times[-1] and two.more():
                two.hold()
            if two.last_us < times[0]:
                break  # the second ended earlier
            inside = (times >= two.first_us) & (times <= two.last_us)
            if not inside.any():
                continue  # the first began earlier
            times, xyz = times[inside], xyz[inside]
            apart_m = np.linalg.norm(two.at(times) - xyz, axis=1)
            over = np.flatnonzero(apart_m > tolerance_m)
            if len(over):
                k = int(over[0])
                return Divergence(int(times[k]), float(apart_m[k]), int(times[k]))
            until_us = int(times[-1])
            two.forget(until_us)
    except RunFolderError as error:
        return Divergence(None, None, until_us, f"{error.what} ({error.where})")
    finished = [log for log in (one, two) if log.ended]
    return Divergence(
        None, None, until_us, "; ".join(log.problem for log in finished if log.problem)
    )


class _Ego:
    """Ego's true states of a log, a commit at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: LogReader | None = None
        self._parts: Iterator[tuple[Times, Array]] = self._read()
        self._next: tuple[Times, Array] | None = None
        self._held: list[tuple[Times, Array]] = []
        self.ended = False

    @property
    def problem(self) -> str:
        """What is wrong with the log, as far as it was read."""
        problem = self._reader.problem if self._reader is not None else ""
        return f"{problem} ({self._path})" if problem else ""

    @property
    def first_us(self) -> int:
        """The first time held."""
        return int(self._held[0][0][0]) if self._held else np.iinfo(np.int64).max

    @property
    def last_us(self) -> int:
        """The last time held."""
        return int(self._held[-1][0][-1]) if self._held else np.iinfo(np.int64).min

    def more(self) -> bool:
        """Whether there is another part."""
        if self._next is None and not self.ended:
            self._next = next(self._parts, None)
            self.ended = self._next is None
        return self._next is not None

    def take(self) -> tuple[Times, Array]:
        """The next part: times ``(N,)`` and poses' positions ``(N, 3)``; `more` must hold."""
        assert self._next is not None
        part, self._next = self._next, None
        return part

    def hold(self) -> None:
        """Keep the next part for `at`; `more` must hold."""
        self._held.append(self.take())

    def forget(self, before_us: int) -> None:
        """Let go of parts that end before a time, but for the last of them."""
        while len(self._held) > 1 and self._held[1][0][0] <= before_us:
            del self._held[0]

    def at(self, times: Times) -> Array:
        """Positions at times that are held, linear between states."""
        held = np.concatenate([t for t, _ in self._held])
        xyz = np.concatenate([p for _, p in self._held])
        return np.stack([np.interp(times, held, xyz[:, k]) for k in range(3)], axis=1)

    def _read(self) -> Iterator[tuple[Times, Array]]:
        self._reader = LogReader(self._path)
        for message in self._reader.messages((topics.COMMIT,)):
            yield _ego_of(message.data, self._reader)


def _ego_of(data: bytes, reader: LogReader) -> tuple[Times, Array]:
    try:
        ego = pb.Commit.FromString(data).ego_true
        times = int64s(ego.times_us)
        return times, float64s(ego.local_to_rig, len(times), 7)[:, :3]
    except (DecodeError, ValueError) as error:
        raise reader.error(f"a committed state cannot be read: {error}") from error
