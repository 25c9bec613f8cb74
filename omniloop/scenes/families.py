"""Families of scenes: the embedded kinds of roads and manoeuvres with drawn parameters.

A scene is named ``<family>-<index>``, such as ``curve-0017``. Its parameters are drawn from a
generator seeded by family and index, so that every name is one scene, on every machine.
Indices 0 to 899 are for training, 900 to 999 are held out (`is_held_out`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from omniloop.core.errors import ConfigError, nearest
from omniloop.core.scene import Scene
from omniloop.core.seeds import generator
from omniloop.scenes.build import unknown_scene
from omniloop.scenes.families_draw import Draw
from omniloop.scenes.families_junction import junction
from omniloop.scenes.families_roads import crossing, curve, cut_in, s_bend, stopped_lead, straight

FAMILIES = {
    "crossing": crossing, "curve": curve, "cut_in": cut_in, "junction": junction,
    "s_bend": s_bend, "stopped_lead": stopped_lead, "straight": straight,
}  # fmt: skip
SIZE = 1000
HELD_OUT_FROM = 900
SPLITS = {
    "all": range(SIZE),
    "training": range(HELD_OUT_FROM),
    "heldout": range(HELD_OUT_FROM, SIZE),
}
"""Indices of each split."""

_NAME = re.compile(r"([a-z_]+)-(\d{4})")


def is_held_out(scene_id: str) -> bool:
    """Whether no training may use a scene; False for scenes of no family."""
    found = _NAME.fullmatch(scene_id)
    return bool(found and found[1] in FAMILIES and int(found[2]) in SPLITS["heldout"])


def make(scene_id: str) -> Scene:
    """Make a scene of a family by its name.

    Raises:
        SceneError: there is none of that name.
    """
    found = _NAME.fullmatch(scene_id)
    if found is None or found[1] not in FAMILIES or int(found[2]) >= SIZE:
        known = [f"{family}-0000" for family in FAMILIES]
        raise unknown_scene(scene_id, known, "families", "indices go from 0000 to 0999")
    family, index = found[1], int(found[2])
    return FAMILIES[family](Draw(scene_id, generator(0, "families", family, index)))


class FamilyScenes:
    """Scenes of the families.

    Args:
        path: Must be left out: they are on no disk.
        split: "all", "training" (indices 0 to 899) or "heldout" (900 to 999).
        families: Which of them; None for all.
        count: The first so many indices of the split of each family; None for all.

    Raises:
        ConfigError: an argument is none of these.
    """

    def __init__(
        self,
        path: str | None = None,
        split: str = "all",
        families: Sequence[str] | None = None,
        count: int | None = None,
    ) -> None:
        if path is not None:
            raise ConfigError(
                "the scenes of the families are made by code and have no path",
                where=f"scenes.path={path}", remedy="leave scenes.path out",
            )  # fmt: skip
        if split not in SPLITS:
            raise ConfigError(
                f"there is no split '{split}'.{nearest(split, SPLITS)}",
                where=f"scenes.split={split}", remedy=f"known: {', '.join(SPLITS)}",
            )  # fmt: skip
        chosen = [families] if isinstance(families, str) else families
        for family in chosen or ():
            if family not in FAMILIES:
                raise ConfigError(
                    f"there is no family '{family}'.{nearest(family, FAMILIES)}",
                    where=f"scenes.families={family}", remedy=f"known: {', '.join(FAMILIES)}",
                )  # fmt: skip
        if count is not None and count < 1:
            raise ConfigError(
                f"count is {count}", where=f"scenes.count={count}", remedy="give 1 or more"
            )
        self._ids = [
            f"{family}-{index:04d}"
            for family in sorted(set(chosen) if chosen else FAMILIES)
            for index in SPLITS[split][:count]
        ]

    def ids(self) -> list[str]:
        """Names of the scenes, sorted."""
        return list(self._ids)

    def load(self, scene_id: str) -> Scene:
        """Make one scene.

        Raises:
            SceneError: there is no such scene.
        """
        return make(scene_id)
