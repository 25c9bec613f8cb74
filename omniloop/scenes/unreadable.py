"""Files of a folder whose scene ids cannot be read: they are listed by their names."""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path

from omniloop.core.errors import SceneError


class Unreadable:
    """The errors of such files by the ids under which a source lists them.

    So one damaged file of many is a scene that cannot be loaded, and the others can.
    """

    def __init__(self) -> None:
        self._errors: dict[str, SceneError] = {}

    def add(self, path: Path, error: SceneError, taken: Container[str]) -> str:
        """Note a file's error and return its id: the file's name.

        Args:
            taken: Ids of other scenes.

        Raises:
            SceneError: the error itself, if the name is taken or no id can be made of it.
        """
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", path.name).lstrip("._-")
        if not name or name in taken:
            raise error
        self._errors[name] = error
        return name

    def check(self, scene_id: str) -> None:
        """Raise the error of the file that is listed under an id, if there is one.

        Raises:
            SceneError: it is.
        """
        if scene_id in self._errors:
            raise self._errors[scene_id]
