"""Waymo Open Motion Dataset: Scenario protobufs, and the JSON that GPUDrive and Nocturne use."""

from __future__ import annotations

from typing import get_args

from omniloop.core.errors import ConfigError, SceneError
from omniloop.core.scene import Scene
from omniloop.scenes import womd_index
from omniloop.scenes.build import existing, unknown_scene
from omniloop.scenes.unreadable import Unreadable
from omniloop.scenes.womd_index import Place
from omniloop.scenes.womd_json import HeadingUnit

_EXPECTED = (
    "give a file of the Waymo Open Motion Dataset's folder scenario/ (*.tfrecord-00000-of-01000), one"
    " serialized Scenario (.pb), a scenario as JSON (.json), or a folder that holds some"
)


class WomdScenes:
    """Scenarios of the Waymo Open Motion Dataset; a scene's id is its scenario's.

    `path` is a file or a folder that is searched with its subfolders. Ids of TFRecord and
    ``.pb`` files are read from them, without parsing the rest; a JSON file's is in its name.

    Args:
        path: The file or folder.
        ego: Id of the object that becomes ego; by default the vehicle that recorded.
        heading_unit: Of JSON files: "degrees", "radians", or "auto" to tell from the motion.

    Raises:
        SceneError: it does not exist, or holds no such file.
        ConfigError: `heading_unit` is another word.
    """

    def __init__(
        self, path: str, ego: str | None = None, heading_unit: HeadingUnit = "auto"
    ) -> None:
        if heading_unit not in get_args(HeadingUnit):
            raise ConfigError(
                f"heading_unit is {heading_unit!r}", where="scenes.heading_unit",
                remedy=f"use one of {', '.join(get_args(HeadingUnit))}",
            )  # fmt: skip
        self._path = existing(path, _EXPECTED)
        self._ego = None if ego is None else str(ego)
        self._heading_unit = heading_unit
        below = (file for file in self._path.rglob("*") if file.is_file())
        files = sorted(below, reverse=True) if self._path.is_dir() else [self._path]
        self._unlisted = [(file, form) for file in files if (form := womd_index.form_of(file))]
        if not self._unlisted:
            raise SceneError("holds no scenario file", where=path, remedy=_EXPECTED)
        self._is_one_file = len(self._unlisted) == 1
        self._places: dict[str, Place] = {}
        self._unreadable = Unreadable()

    def ids(self) -> list[str]:
        """Scenario ids, sorted.

        A file of several that is damaged or holds something else is listed by its name in
        place of its scenarios; loading it says why.

        Raises:
            SceneError: the only file is damaged, or two scenarios have one id.
        """
        while self._unlisted:
            self._list_next_file()
        return sorted(self._places)

    def load(self, scene_id: str) -> Scene:
        """Load one scenario; files are listed only as far as to find it.

        Raises:
            SceneError: it is unknown (the nearest is suggested) or damaged; it names the file,
                the record, and the track, step or key.
        """
        while scene_id not in self._places and self._unlisted:
            self._list_next_file()
        if scene_id not in self._places:
            raise unknown_scene(scene_id, self._places, self._path, _EXPECTED)
        self._unreadable.check(scene_id)
        place = self._places[scene_id]
        from omniloop.scenes.womd_scene import scene_of

        if place.form == "json":
            from omniloop.scenes.womd_json import read_json_scenario

            recording = read_json_scenario(place.record.path, self._heading_unit)
        else:
            from omniloop.scenes.womd_proto import read_scenario

            recording = read_scenario(womd_index.read(place), place.where)
        return scene_of(recording, scene_id, self._ego)

    def _list_next_file(self) -> None:
        file, form = self._unlisted[-1]
        found: dict[str, Place] = {}
        try:
            listed = list(womd_index.scenarios(file, form))
        except SceneError as error:
            if self._is_one_file:
                raise
            name = self._unreadable.add(file, error, self._places)
            listed = [(name, womd_index.whole(file, form))]
        for name, place in listed:
            twin = self._places.get(name) or found.get(name)
            if twin is not None:
                raise SceneError(
                    f"two scenarios are called '{name}'",
                    where=f"{twin.where} and {place.where}",
                    remedy="give a file or folder that holds one of them",
                )
            found[name] = place
        self._places |= found
        self._unlisted.pop()
