"""What sessions of one scene share: a batch simulates it with many seeds."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from omniloop.core.contracts import SessionInfo
from omniloop.core.geometry import Array
from omniloop.core.replay import RecordedActors
from omniloop.core.scene import Scene, Vehicle
from omniloop.traffic.parameters import ParameterSet
from omniloop.traffic.stage import Stage, stage_of

_PER_SCENE = 4
"""Handovers, ends and vehicles of one scene that are remembered."""

_Key = tuple[int, int, Vehicle]


@dataclass(frozen=True, eq=False)
class Setting:
    """A scene made ready; nobody writes to it.

    Attributes:
        stage: At the session's start.
        recorded: The recording.
        grid_poses: ``(A, T, 7)`` recorded poses at the timetable's times.
    """

    stage: Stage
    recorded: RecordedActors
    grid_poses: Array


class Settings:
    """Settings of one parameter set, kept as long as their scenes are; safe between threads."""

    def __init__(self, params: ParameterSet, guided: bool) -> None:
        self._params, self._guided = params, guided
        self._held: WeakKeyDictionary[Scene, OrderedDict[_Key, Setting]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def of(self, session: SessionInfo) -> Setting:
        """The setting for a session, worked out for the first of its kind."""
        scene = session.scene
        key = (session.handover_us, session.end_us, session.vehicle)
        with self._lock:
            held = self._held.setdefault(scene, OrderedDict())
            found = held.get(key)
            if found is None:
                stage = stage_of(session, self._params, self._guided)
                grid = scene.recorded_actors(stage.cast.timetable.times_us)
                found = held[key] = Setting(stage, RecordedActors(scene), grid.local_to_aabb)
            held.move_to_end(key)
            if len(held) > _PER_SCENE:
                held.popitem(last=False)
            return found
