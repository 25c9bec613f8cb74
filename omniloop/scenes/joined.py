"""Scenes of several sources as one: a suite's entries, each with its own choice and edits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field, ValidationError, field_validator

from omniloop.core.contracts import SceneSource
from omniloop.core.errors import InputError, SceneError
from omniloop.core.scene import Scene
from omniloop.scenes.build import safe_id, unknown_scene
from omniloop.scenes.edits.schema import Strict
from omniloop.scenes.edits.source import EditedScenes
from omniloop.scenes.opening import check_ids, open_scenes, with_edits

PLACEHOLDER = "{scene}"


class SceneEntry(Strict):
    """Scenes of one source, all with the same edits."""

    source: str
    """A registered source or ``module:Class``."""
    path: str | None = None
    """Folder or file of the recordings."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the source's constructor."""
    ids: list[str] | None = None
    """Scenes in this order; all of the source if null."""
    edit: list[str] = Field(default_factory=list)
    """Edit files, or recipe:NAME, in order."""
    set: dict[str, float | int | str | bool | None] = Field(default_factory=dict)
    """Parameters of the edit files."""
    rename: str | None = None
    """Their ids in the suite, such as "{scene}-cut_in"; as in the source if null."""

    @field_validator("ids")
    @classmethod
    def _some(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and not value:
            raise ValueError("give at least one id, or leave the key out for all")
        return value

    @field_validator("arguments")
    @classmethod
    def _no_path(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "path" in value:
            raise ValueError("path is a key of its own, beside arguments")
        return value

    def renamed(self, scene_id: str) -> str:
        """The id in the suite of a scene of the source."""
        return scene_id if self.rename is None else self.rename.replace(PLACEHOLDER, scene_id)


@dataclass(frozen=True, eq=False)
class _Part:
    entry: SceneEntry
    place: str
    source: SceneSource


class JoinedScenes:
    """The scenes of several entries, in their order, each under an id of its own.

    Entries of the same source share one reader.

    Args:
        entries: One or more; see `SceneEntry`.
        places: Where each was written, for errors; by number if None.

    Raises:
        InputError: an entry is not right, or its source or edits cannot be opened.
    """

    def __init__(self, entries: list[Any], places: list[str] | None = None) -> None:
        if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
            raise SceneError(
                f"entries={entries!r}: at least one is needed", where="scenes.entries",
                remedy="give a list such as [{source: embedded, ids: [curve]}]",
            )  # fmt: skip
        names = places or [f"scenes.entries[{k}]" for k in range(len(entries))]
        checked = [_entry(raw, place) for raw, place in zip(entries, names, strict=True)]
        readers: dict[str, SceneSource] = {}
        self._parts = [_opened(e, p, readers) for e, p in zip(checked, names, strict=True)]
        self._index: dict[str, tuple[_Part, str]] | None = None

    @property
    def unedited(self) -> JoinedScenes:
        """The same scenes under the same ids as they are before their edits."""
        plain = object.__new__(JoinedScenes)
        plain._parts = [replace(part, source=_unedited(part.source)) for part in self._parts]
        plain._index = None
        return plain

    def ids(self) -> list[str]:
        """Scene ids, in the order of the entries.

        Raises:
            SceneError: an entry asks for a scene that its source does not have, or two
                scenes have the same id.
        """
        return list(self._scenes())

    def load(self, scene_id: str) -> Scene:
        """Load one scene, edited and renamed as its entry says.

        Raises:
            SceneError: there is none, or it is damaged.
            EditRefused: an edit does not fit it.
        """
        index = self._scenes()
        if scene_id not in index:
            raise unknown_scene(scene_id, index, "scenes=joined", "`omniloop scenes list`")
        part, original = index[scene_id]
        scene = part.source.load(original)
        return scene if scene.id == scene_id else replace(scene, id=scene_id)

    def _scenes(self) -> dict[str, tuple[_Part, str]]:
        if self._index is None:
            self._index = _indexed(self._parts)
        return self._index


def _entry(raw: Any, place: str) -> SceneEntry:
    try:
        return SceneEntry.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise SceneError(
            f"{first['msg']}, not {first['input']!r:.80}", where=f"{place}.{key}".rstrip("."),
            remedy=f"known here: {', '.join(SceneEntry.model_fields)}",
        ) from None  # fmt: skip


def _opened(entry: SceneEntry, place: str, readers: dict[str, SceneSource]) -> _Part:
    try:
        same = json.dumps([entry.source, entry.path, entry.arguments], sort_keys=True, default=str)
        if same not in readers:
            readers[same] = open_scenes(entry.source, entry.arguments, entry.path, key="path")
        return _Part(entry, place, with_edits(readers[same], entry.edit, entry.set))
    except InputError as error:
        where = f"{place}: {error.where}" if error.where else place
        raise type(error)(error.what, where=where, remedy=error.remedy) from error


def _unedited(source: SceneSource) -> SceneSource:
    return source.unedited if isinstance(source, EditedScenes) else source


def _indexed(parts: Sequence[_Part]) -> dict[str, tuple[_Part, str]]:
    index: dict[str, tuple[_Part, str]] = {}
    for part in parts:
        have = part.source.ids()
        check_ids(part.entry.ids or (), have, part.place)
        for original in part.entry.ids or have:
            scene_id = safe_id(part.entry.renamed(original), part.place)
            if scene_id in index:
                raise SceneError(
                    f"two scenes have the id '{scene_id}'",
                    where=" and ".join(dict.fromkeys([index[scene_id][0].place, part.place])),
                    remedy='name it once, or give one entry a name such as rename: "{scene}-edited"',
                )  # fmt: skip
            index[scene_id] = part, original
    return index
