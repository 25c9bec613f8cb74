"""Rollouts to score: a flowing road, a crowded one, or scenes of a user's choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omniloop.configs.compose import compose
from omniloop.core.errors import ServiceError
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Scene
from omniloop.runlog.folder import LOG_NAME, rollout_dir
from omniloop.runlog.record import read_record
from omniloop.runlog.results import RolloutResult
from omniloop.runner.run import execute
from omniloop.scenes.embedded import synthetic_scene
from omniloop.scenes.embedded_cast import CAR, CYCLIST, TRUCK, VAN, Cast, make_scene
from omniloop.scenes.embedded_paths import Drive, straight
from omniloop.scenes.embedded_roads import LANE_M, MapBuilder, one_way
from omniloop.scenes.native import write_bundle

SEEDS = 3
"""Rollouts of a scene; they are equal, so that the quickest can count."""

_LANES, _EGO_LANE = 5, 2
_PITCH_M = 12.0
_SPEEDS_MPS = (4.6, 5.2, 5.0, 4.8, 5.4)
_WEAVE_M, _WAVE_M = 1.9, 45.0
_KINDS = (CAR, CAR, VAN, CAR, TRUCK, CAR, CYCLIST)


def crowded_scene(n_actors: int, duration_s: float) -> Scene:
    """Slow traffic bumper to bumper on five lanes; beside ego it weaves into ego's lane.

    Lanes differ in speed, so that ego meets many; those beside it brush against it.
    """
    rows = -(-n_actors // _LANES) // 2 + 1
    start_m = rows * _PITCH_M + 30.0
    length_m = float(np.ceil((2 * start_m + max(_SPEEDS_MPS) * duration_s) / 100.0) * 100.0)
    line = straight(-start_m, -(_EGO_LANE + 0.5) * LANE_M, 0.0, length_m)
    roads, cast = MapBuilder(), Cast(round(duration_s * 1e6))
    cuts = np.arange(0.0, length_m + 1.0, 100.0).tolist()
    roads.road("road", line, one_way(_LANES, (3.0, 1.0), 30 / 3.6), cuts)
    slots = [
        (row, lane)
        for distance in range(rows + 1)
        for row in sorted({distance, -distance}, reverse=True)
        for lane in range(_LANES)
        if (row, lane) != (0, _EGO_LANE)
    ]
    knots = np.arange(0.0, length_m, _WAVE_M / 2)
    for k, (row, lane) in enumerate(slots[:n_actors]):
        middle_m = (lane + 0.5) * LANE_M
        towards_m = np.sign(_EGO_LANE - lane) * _WEAVE_M if abs(_EGO_LANE - lane) == 1 else 0.0
        swing = middle_m + towards_m * (np.arange(len(knots)) % 2)
        weave = tuple(zip(knots.tolist(), swing.tolist(), strict=True))
        at_m = start_m + row * _PITCH_M + 2.0 * (lane - _EGO_LANE)
        drive = Drive(line, at_m, ((0.0, _SPEEDS_MPS[lane]),), weave)
        cast.drive(f"actor_{k}", _KINDS[k % len(_KINDS)], drive)
    ego = Drive(
        line, start_m, ((0.0, _SPEEDS_MPS[_EGO_LANE]),), ((0.0, (_EGO_LANE + 0.5) * LANE_M),)
    )
    name = f"crowded_{n_actors}_actors"
    return make_scene(name, roads, cast, ego, ("Slow traffic on a wide road.", ("synthetic",)))


@dataclass(frozen=True, eq=False)
class Rolled:
    """The equal rollouts of one scene: what the run left of them.

    Attributes:
        results: One for each, with the scores made as it ended.
        log: Of the first.
        record: Read from it.
    """

    results: list[RolloutResult]
    log: Path
    record: RolloutRecord


def roll(folder: Path, settings: Sequence[str], actors: int, seconds: float) -> dict[str, Rolled]:
    """Simulate with `route_follower` at 10 Hz, no camera, all families of metrics.

    Args:
        settings: Which scenes, as for `omniloop run`; the two made here if none.
        actors, seconds: Of those two.

    Returns:
        By scene.

    Raises:
        InputError: a setting or scene is wrong.
        ServiceError: a rollout did not end well.
    """
    if not settings:
        for scene in (synthetic_scene(actors, seconds), crowded_scene(actors, seconds)):
            write_bundle(scene, folder / "scenes" / f"{scene.id}.zip")
        settings = ["scenes=native", f"scenes.path={folder}/scenes"]
    always = [
        "renderer=none", "policy=route_follower", "metrics=all", "run.concurrency=1",
        "sync.decision_period_us=100000", f"run.dir={folder}/runs", "run.name=scored",
        f"run.seeds={SEEDS}",
    ]  # fmt: skip
    finished = execute(compose([*settings, *always]))
    by_scene: dict[str, list[RolloutResult]] = {}
    for result in finished.results:
        if result.error is not None:
            raise ServiceError(
                result.error["what"], where=result.session_id, remedy="run this scene by itself"
            )
        by_scene.setdefault(result.scene, []).append(result)
    out = {}
    for scene_id, results in by_scene.items():
        log = rollout_dir(finished.run_dir, scene_id, results[0].seed) / LOG_NAME
        out[scene_id] = Rolled(results, log, read_record(log))
    return out
