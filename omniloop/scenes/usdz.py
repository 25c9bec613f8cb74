"""Scenes from AlpaSim's USDZ archives, reconstructed ones and those without a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from omniloop.core.errors import ConfigError, SceneError
from omniloop.core.scene import Scene, Vehicle
from omniloop.scenes.archive import SceneArchive
from omniloop.scenes.build import existing, unknown_scene
from omniloop.scenes.unreadable import Unreadable
from omniloop.scenes.usdz_layers import LAYERS, read_exact
from omniloop.scenes.usdz_read import METADATA, PublicLayers, read_metadata, scene_id_of
from omniloop.scenes.usdz_rig import vehicle_of

__all__ = ["UsdzScenes", "read_usdz"]

_EXPECTED = "give a .usdz file, or a folder that holds some, also in its subfolders"


def read_usdz(path: str | Path, *, vehicle: Vehicle | None = None, exact: bool = True) -> Scene:
    """Read one archive.

    Layers are taken to the bit from the private members of `write_usdz` where AlpaSim's are
    as they were written, else from AlpaSim's members; the scene's `edits` then name them.

    Args:
        vehicle: Ego's vehicle whatever the archive says; None takes it from there.
        exact: False reads AlpaSim's members alone.

    Raises:
        SceneError: it is damaged or hostile, a member is missing, or a key is wrong.
    """
    with SceneArchive(Path(path)) as archive:
        scene_id = scene_id_of(read_metadata(archive), archive.place(METADATA))
        public = PublicLayers(archive, vehicle)
        held = read_exact(archive) if exact else None
        if held is None:
            return public.scene(scene_id)
        fields: dict[str, Any] = {"id": scene_id}
        changed = [name for name in LAYERS if name not in held.unchanged]
        for name in changed:
            fields |= public.layer(name)
        if vehicle is not None:
            fields["vehicle"] = vehicle
        if changed:
            note = f"usdz: {', '.join(changed)} changed after the archive was written"
            fields["edits"] = (*held.scene.edits, note)
        return replace(held.scene, **fields)


class UsdzScenes:
    """Scenes from USDZ archives.

    Args:
        path: One archive, or a folder whose ``*.usdz`` files, also those of its subfolders,
            are archives.
        vehicle: Ego's box and wheelbase whatever the archives say: keys of `Vehicle`, those
            left out as its defaults; null takes it from each archive.
        exact: False reads AlpaSim's members alone, not what only Omniloop writes.

    Raises:
        SceneError: there is no archive at `path`.
        ConfigError: `vehicle` or `exact` cannot be used.
    """

    def __init__(
        self, path: str, vehicle: dict[str, float] | None = None, exact: bool = True
    ) -> None:
        if not isinstance(exact, bool):
            raise ConfigError(
                f"exact is {exact!r}", where="scenes.exact", remedy="give true or false"
            )
        self._path = path
        self._vehicle = vehicle_of(vehicle)
        self._exact = exact
        root = existing(path, _EXPECTED)
        self._files = [root] if root.is_file() else sorted(root.rglob("*.usdz"))
        self._by_id: dict[str, Path] | None = None
        self._unreadable = Unreadable()
        if not self._files:
            raise SceneError("the folder holds no *.usdz", where=path, remedy=_EXPECTED)

    def ids(self) -> list[str]:
        """Scene ids, sorted; only ``metadata.yaml`` of each archive is read.

        One of several that is damaged is listed by its file's name; loading it says why.

        Raises:
            SceneError: the only archive is damaged, or two have the same scene id.
        """
        return sorted(self._index())

    def file_of(self, scene_id: str) -> Path:
        """The archive of a scene.

        Raises:
            SceneError: no archive holds it, or what it names is damaged.
        """
        index = self._index()
        if scene_id not in index:
            raise unknown_scene(scene_id, index, self._path, _EXPECTED)
        self._unreadable.check(scene_id)
        return index[scene_id]

    def load(self, scene_id: str) -> Scene:
        """Load one scene, see `read_usdz`.

        Raises:
            SceneError: no archive holds it, or its archive is damaged.
        """
        return read_usdz(self.file_of(scene_id), vehicle=self._vehicle, exact=self._exact)

    def metadata(self, scene_id: str) -> dict[str, Any]:
        """What ``metadata.yaml`` of a scene's archive says.

        Raises:
            SceneError: no archive holds it, or it is damaged.
        """
        with SceneArchive(self.file_of(scene_id)) as archive:
            return read_metadata(archive)

    def _index(self) -> dict[str, Path]:
        if self._by_id is None:
            by_id: dict[str, Path] = {}
            for path in self._files:
                try:
                    with SceneArchive(path) as archive:
                        scene_id = scene_id_of(read_metadata(archive), archive.place(METADATA))
                except SceneError as error:
                    if len(self._files) == 1:
                        raise
                    scene_id = self._unreadable.add(path, error, by_id)
                if scene_id in by_id:
                    raise SceneError(
                        f"two archives hold a scene with the id '{scene_id}'",
                        where=f"{by_id[scene_id]} and {path}",
                        remedy="remove one, or give one another scene_id in its metadata.yaml",
                    )
                by_id[scene_id] = path
            self._by_id = by_id
        return self._by_id
