"""What traffic does behind an ego that brakes hard: hits from behind, counted."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from omniloop.configs.compose import compose
from omniloop.core import geometry
from omniloop.core.record import RolloutRecord
from omniloop.runlog.record import read_record
from omniloop.runlog.results import RolloutResult
from omniloop.runner.run import execute

HEAD = (
    "| traffic | rollouts | with a follower | hit from behind | hits from behind | other contacts |"
)
_RULE = "|---|---:|---:|---:|---:|---:|"

_FOLLOWS_S = 4.0
_BESIDE_M = 1.2
"""A follower at handover: behind ego, its centre this near to the line of ego's heading, and
not further than this in time."""


@dataclass(frozen=True)
class Counts:
    """What happened over all rollouts with one kind of traffic.

    Attributes:
        followed: Rollouts in which someone follows ego at handover.
        hit: Rollouts in which an actor hits ego from behind, by name ``<scene>/<seed>``.
        from_behind: Such contacts.
        others: All other contacts of ego.
    """

    traffic: str
    rollouts: int
    followed: int
    hit: tuple[str, ...]
    from_behind: int
    others: int

    @property
    def row(self) -> str:
        """A row of the table."""
        cells = (
            self.traffic, self.rollouts, self.followed, len(self.hit), self.from_behind, self.others,
        )  # fmt: skip
        return "| " + " | ".join(str(cell) for cell in cells) + " |"


def run(
    settings: Sequence[str], traffic: Sequence[str], decel_mps2: float, after_s: float
) -> dict[str, Any]:
    """Drive scenes with an ego that brakes to a stop, once with each kind of traffic.

    Args:
        settings: ``key=value`` of scenes and anything else of a run.
        traffic: ``NAME`` or ``NAME:PARAMS``, such as "log_replay", "idm" and "idm:nuplan".

    Returns:
        ``table``, in Markdown, and ``hit``: the rollouts with a hit from behind.
    """
    found = [_counted(settings, name, decel_mps2, after_s) for name in traffic]
    return {
        "decel_mps2": decel_mps2,
        "after_s": after_s,
        "table": [HEAD, _RULE, *(counts.row for counts in found)],
        "hit": {counts.traffic: list(counts.hit) for counts in found},
    }


def _counted(settings: Sequence[str], traffic: str, decel_mps2: float, after_s: float) -> Counts:
    name, _, params = traffic.partition(":")
    with tempfile.TemporaryDirectory() as folder:
        config = compose(
            [
                "renderer=none",
                *settings,
                "policy=hard_brake",
                f"policy.decel_mps2={decel_mps2}",
                f"policy.at_s={after_s}",
                f"traffic={name}",
                *([f"traffic.params={params}"] if params else []),
                f"run.dir={folder}",
                "run.name=braking",
            ]
        )
        finished = execute(config)
        done = [r for r in finished.results if r.outcome == "completed"]
        followed, hit, from_behind, others = 0, [], 0, 0
        for result in done:
            log = (
                Path(folder) / "braking" / "rollouts" / result.scene / str(result.seed) / "log.mcap"
            )
            record = read_record(log)
            followed += is_followed(record)
            behind, other = struck(record, result)
            from_behind, others = from_behind + behind, others + other
            if behind:
                hit.append(f"{result.scene}/{result.seed}")
    return Counts(traffic, len(done), followed, tuple(hit), from_behind, others)


def is_followed(record: RolloutRecord) -> bool:
    """Whether an actor drives behind ego at handover, at most 4 s away."""
    handover_us = record.schedule.handover_us
    actors = record.actors.sample(handover_us)
    ego = record.ego.trajectory.sample(handover_us)[0]
    index = int(np.searchsorted(record.ego.times_us, handover_us))
    speed_mps = float(record.ego.dynamics[index, 0])
    place = geometry.transform_points(geometry.inverse(ego), actors.local_to_aabb[:, 0, :3])
    reach_m = _FOLLOWS_S * speed_mps + record.scene.vehicle.length_m
    heading = geometry.wrap_rad(
        geometry.yaw_rad(actors.local_to_aabb[:, 0]) - geometry.yaw_rad(ego)
    )
    close = (place[:, 0] < 0) & (place[:, 0] > -reach_m) & (np.abs(place[:, 1]) < _BESIDE_M)
    return bool((close & (np.abs(heading) < 0.5) & actors.valid[:, 0]).any())


def struck(record: RolloutRecord, result: RolloutResult) -> tuple[int, int]:
    """Contacts by actors whose centre lies behind ego's, and all others."""
    contacts: Any = result.metrics["collision"].details.get("contacts", [])
    rows = {actor.id: row for row, actor in enumerate(record.scene.actors)}
    behind = 0
    for contact in contacts:
        at_us = contact["start_us"]
        box = record.actors.sample(at_us).local_to_aabb[rows[contact["actor_id"]], 0]
        ego = geometry.compose(
            record.ego.trajectory.sample(at_us)[0], record.scene.vehicle.rig_to_aabb
        )
        behind += bool(geometry.compose(geometry.inverse(ego), box)[0] < 0)
    return behind, len(contacts) - behind
