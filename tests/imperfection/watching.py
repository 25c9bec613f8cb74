"""A policy that keeps what it is told, for whole runs: module:Class."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from omniloop.core.messages import ImageHistory, Observation, Plan, PolicySpec
from tests.plugins import Straight


class Watcher(Straight):
    """Goes straight on; looks at cameras and actors, and keeps every observation."""

    spec = PolicySpec(
        cameras=None, images=ImageHistory(4, 30.0), ego_history_s=0.5, horizon_s=3.0, route=False,
        privileged=frozenset({"actors"}),
    )  # fmt: skip
    told: ClassVar[list[Observation]] = []

    def plan(self, observation: Observation) -> Plan:
        self.told.append(observation)
        return super().plan(observation)


class Driver(Watcher):
    """As `Watcher`, but told everything, as a driver elsewhere is."""

    spec = replace(Watcher.spec, everything=True)
