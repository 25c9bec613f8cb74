"""Construct a source of scenes by its name, its scenes edited if that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omniloop.core import registry
from omniloop.core.contracts import SceneSource
from omniloop.core.errors import SceneError, nearest
from omniloop.scenes.edits.files import load_edits
from omniloop.scenes.edits.source import EditedScenes


def open_scenes(
    name: str, arguments: Mapping[str, Any], path: str | None, *, key: str = "scenes.path"
) -> SceneSource:
    """Construct a source.

    Args:
        name: A registered name or ``module:Class``.
        arguments: Of its constructor, but for the path.
        path: Folder or file of the recordings.
        key: The setting that holds the path, for errors.

    Raises:
        InputError: it is unknown, needs a path, or refuses its settings.
    """
    taken = dict(arguments)
    parameter = registry.parameters("scenes", name).get("path")
    if path is not None:
        taken["path"] = path
    elif parameter is not None and parameter.default is parameter.empty:
        raise SceneError(
            f"scenes={name} needs a path", where=key,
            remedy=f"give {key} the folder with the recordings",
        )  # fmt: skip
    source: SceneSource = registry.create("scenes", name, taken)
    return source


def with_edits(
    source: SceneSource, edit: Sequence[str] | None, values: Mapping[str, Any]
) -> SceneSource:
    """The source with its scenes edited, or the source itself if no edit is asked for.

    Raises:
        InputError: an edit file or a parameter is unknown or unusable.
    """
    if not edit and not values:
        return source
    return EditedScenes(source, load_edits(edit or (), values))


def check_ids(wanted: Sequence[str], have: Sequence[str], where: str) -> None:
    """Refuse ids that a source does not have, and a source that has none.

    Raises:
        SceneError: a wanted id is unknown (the nearest is suggested), or there is no scene.
    """
    if not have:
        raise SceneError("no scene found", where=where, remedy="check the path")
    for scene_id in wanted:
        if scene_id not in have:
            raise SceneError(
                f"unknown scene '{scene_id}'.{nearest(scene_id, have)}", where=where,
                remedy="`omniloop scenes list` prints the ids",
            )  # fmt: skip
