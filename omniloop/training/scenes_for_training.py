"""Which scenes are trained on, and which are kept for the test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from omniloop.core.errors import ConfigError, SceneError
from omniloop.core.seeds import generator
from omniloop.scenes.families import FAMILIES, HELD_OUT_FROM, is_held_out
from omniloop.scenes.opening import open_scenes
from omniloop.training.collect import Work

HELD_OUT_RECORDINGS = frozenset(
    {
        "USA_Lanker-1", "USA_Lanker-2", *(f"USA_US101-{k}" for k in range(10, 30)),
        "0a1e6f0a-1817-4a98-b02e-db8c9327d151", "3b3570b4-7b0b-3268-a571-b0889dbf40b6",
        "7fab2350-7eaf-3b7e-a39d-6937a4c1bede",
        "scene-0061", "scene-0103", "scene-0553", "scene-0655", "scene-0757",
    }
)  # fmt: skip
"""Recordings of NGSIM, Argoverse 2 and nuScenes that no training uses; see `recording_of`."""

REAL_SOURCES = ("commonroad", "av2", "nuscenes")
VALIDATION_FROM = 850
"""Indices of families from here to `HELD_OUT_FROM` give validation losses."""

_VARIED = ("slow_lead", "hard_brake", "cut_in", "offset_start", "fast_start", "jaywalk")
_RECORDING = re.compile(r"(USA_[A-Za-z0-9]+-\d+)_.*")


def recording_of(scene_id: str) -> str:
    """The recording that a scene is cut from, such as USA_US101-10 of USA_US101-10_1_T-1.

    CommonRoad files of one recording show the same vehicles at the same times.
    """
    found = _RECORDING.fullmatch(scene_id)
    return found[1] if found else scene_id


def held_out(scene_id: str) -> bool:
    """Whether a scene, or another of its recording, is kept for the test."""
    return is_held_out(scene_id) or recording_of(scene_id) in HELD_OUT_RECORDINGS


def real_scenes(paths: Sequence[Path]) -> list[tuple[tuple[str, ...], str]]:
    """Source settings and id of each recorded scene that may be trained on.

    Args:
        paths: Folders of CommonRoad, Argoverse 2 or nuScenes (ScenarioNet) scenes.

    Raises:
        ConfigError: a folder holds none of these.
    """
    found: list[tuple[tuple[str, ...], str]] = []
    for path in paths:
        known = 0
        for source in REAL_SOURCES:
            try:
                ids = open_scenes(source, {}, str(path)).ids()
            except SceneError:
                continue
            known += len(ids)
            settings = (f"scenes={source}", f"scenes.path={path}")
            found += [(settings, scene_id) for scene_id in ids if not held_out(scene_id)]
        if not known:
            raise ConfigError(
                "there are no scenes of CommonRoad, Argoverse 2 or nuScenes here",
                where=f"--real {path}", remedy="give the folder of one data set",
            )  # fmt: skip
    return found


def plan_work(
    rollouts: int, scenes: Sequence[str] = (), real: Sequence[Path] = (), seed: int = 0
) -> list[Work]:
    """Rollouts to make data of, mixed so that any first part of them is alike.

    Of twenty, two are of real scenes where there are some, one of an embedded scene, three of
    families with an edit, one of families for validation, the rest of families as they are.
    Each scene is driven twice with different disturbances before the next one is taken.

    Args:
        rollouts: How many.
        scenes: Families to use; all if empty.
        real: See `real_scenes`.
        seed: Chooses indices and edits.

    Raises:
        ConfigError: a family is unknown, or a folder holds no scenes.
    """
    for family in scenes:
        if family not in FAMILIES:
            raise ConfigError(
                f"there is no family '{family}'", where=f"--scenes {family}",
                remedy=f"known: {', '.join(FAMILIES)}",
            )  # fmt: skip
    families = sorted(scenes) or sorted(FAMILIES)
    recorded = real_scenes(real)
    embedded = (
        "crossing_pedestrian",
        "curve",
        "cut_in",
        "junction",
        "stopped_lead",
        "straight_road",
    )
    rng = generator(seed, "scenes for training")
    indices = {f: rng.permutation(VALIDATION_FROM).tolist() for f in families}
    tests = {
        f: (VALIDATION_FROM + rng.permutation(HELD_OUT_FROM - VALIDATION_FROM)).tolist()
        for f in families
    }
    source = ("scenes=families",)
    work: list[Work] = []
    counts = dict.fromkeys(("real", "embedded", "family", "val", "edit"), 0)

    def turn(kind: str) -> int:
        counts[kind] += 1
        return counts[kind] - 1

    while len(work) < rollouts:
        slot = (len(work) // 2) % 20
        if slot in (3, 13) and recorded:
            k = turn("real")
            settings, scene_id = recorded[k % len(recorded)]
            pair = [Work(settings, scene_id, 2 * (k // len(recorded)) + n) for n in (0, 1)]
        elif slot == 8:
            k = turn("embedded")
            name, again = embedded[k % len(embedded)], 2 * (k // len(embedded))
            pair = [Work(("scenes=embedded",), name, again + n) for n in (0, 1)]
        else:
            kind = "val" if slot == 2 else "family"
            k = turn(kind)
            family = families[k % len(families)]
            pool = tests[family] if kind == "val" else indices[family]
            round_, at = divmod(k // len(families), len(pool))
            edits = (_VARIED[turn("edit") % len(_VARIED)],) if slot in (1, 6, 11) else ()
            split = "val" if kind == "val" else "train"
            name = f"{family}-{pool[at]:04d}"
            pair = [Work(source, name, 2 * round_ + n, split, edits) for n in (0, 1)]
        work += pair
    return work[:rollouts]
