"""Apply edits to a scene: pure, in order, the same result every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from omniloop.core.errors import SceneError
from omniloop.core.scene import Scene
from omniloop.scenes.edits import actors, closure, crossing, ego, rig, scripts, text
from omniloop.scenes.edits.schema import Strict

_APPLY: dict[str, Callable[[Scene, Any], tuple[Scene, str]]] = {
    "prompt": text.prompt, "weather": text.weather, "time_of_day": text.time_of_day,
    "insert": actors.insert, "remove": actors.remove, "replace": actors.replace_actor,
    "retime": actors.retime, "offset": actors.offset,
    "cut_in": scripts.cut_in, "hard_brake": scripts.hard_brake, "swerve": scripts.swerve,
    "jaywalk": crossing.jaywalk, "wrong_way": crossing.wrong_way,
    "ego_start": ego.ego_start, "close_lane": closure.close_lane,
    "standard_rig": rig.standard_rig,
}  # fmt: skip


class EditRefused(SceneError):
    """An edit does not fit a scene; it may fit others."""


def apply_edits(scene: Scene, edits: Sequence[Strict], *, where: str = "edits") -> Scene:
    """Return a scene with edits applied in order; the scene itself stays as it is.

    Parts that no edit touches are the same objects in both. Each edit adds a line to
    `Scene.edits`; the scene keeps its id.

    Args:
        edits: Checked edits, such as `omniloop.scenes.edits.files.load_edits` gives.
        where: Where they come from, for errors.

    Raises:
        EditRefused: an edit does not fit the scene; it names the edit, its values, the
            scene and a remedy.
    """
    lines = []
    for number, edit in enumerate(edits):
        kind: str = edit.kind  # type: ignore[attr-defined]
        try:
            scene, line = _APPLY[kind](scene, edit)
        except SceneError as error:
            place = f"{where}, edit {number + 1} ({kind}), scene {scene.id}"
            raise EditRefused(error.what, where=place, remedy=error.remedy) from error
        lines.append(f"{kind}: {line}")
    return replace(scene, edits=(*scene.edits, *lines)) if lines else scene
