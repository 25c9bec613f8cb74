"""Argoverse 2: sensor logs and motion-forecasting scenarios."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

from omniloop.core.errors import SceneError
from omniloop.core.scene import Scene
from omniloop.scenes.build import damaged, existing, safe_id, unknown_scene

_EXPECTED = (
    "give a folder of Argoverse 2 logs, or one log: a sensor log holds city_SE3_egovehicle.feather"
    " and map/, a motion-forecasting scenario scenario_*.parquet and log_map_archive_*.json"
)
_DEPTH = 2


class Av2Scenes:
    """Scenes of Argoverse 2; a scene's id is its log's, the name of its folder.

    `path` is one log or a folder that holds logs, sensor and motion forecasting mixed, up
    to two levels down.

    Args:
        path: The folder.

    Raises:
        SceneError: it does not exist.
    """

    def __init__(self, path: str) -> None:
        self._path = existing(path, _EXPECTED)

    def ids(self) -> list[str]:
        """Log ids, sorted.

        Raises:
            SceneError: there is no log, or there are two of one name.
        """
        return sorted(self._folders)

    def load(self, scene_id: str) -> Scene:
        """Load one log.

        Raises:
            SceneError: it is unknown (the nearest is suggested), incomplete or damaged.
        """
        folder = self._folders.get(scene_id)
        if folder is None:
            raise unknown_scene(scene_id, self._folders, self._path, _EXPECTED)
        if _is_sensor_log(folder):
            from omniloop.scenes.av2_sensor import load_sensor_log

            return load_sensor_log(folder, scene_id)
        from omniloop.scenes.av2_motion import load_scenario

        return load_scenario(folder, scene_id)

    @functools.cached_property
    def _folders(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder in _logs(self._path, _DEPTH):
            name = safe_id(folder.resolve().name, str(folder))
            if name in found:
                raise SceneError(
                    f"two logs are called '{name}'", where=f"{found[name]} and {folder}",
                    remedy="give a folder that holds one of them",
                )  # fmt: skip
            found[name] = folder
        if not found:
            raise SceneError(
                "there is no Argoverse 2 log here", where=str(self._path), remedy=_EXPECTED
            )
        return found


def _is_sensor_log(folder: Path) -> bool:
    return os.path.lexists(folder / "city_SE3_egovehicle.feather")


def _logs(folder: Path, depth: int) -> Iterator[Path]:
    """Log folders at `folder` or below, in order; nothing is looked for inside a log."""
    if not os.path.isdir(folder):
        return
    try:
        children = sorted(folder.iterdir())
    except OSError as error:
        raise damaged(f"cannot be read: {error}", str(folder)) from error
    if _is_sensor_log(folder) or any(child.match("scenario_*.parquet") for child in children):
        yield folder
    elif depth:
        for child in children:
            yield from _logs(child, depth - 1)
