"""Native scene bundles: one zip of JSON and parquet per scene.

The schema is ``omniloop-scene``, version 1; ``docs/scenes.md`` describes every member.
A bundle's bytes depend only on the scene and on the versions of this package and of
pyarrow: members are sorted, stored without a second compression, and dated 1980-01-01.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import zipfile
from pathlib import Path

from omniloop.core.errors import SceneError
from omniloop.core.scene import Scene
from omniloop.scenes.archive import EPOCH, SceneArchive
from omniloop.scenes.build import existing, safe_id, unknown_scene
from omniloop.scenes.unreadable import Unreadable

_MEMBERS = (
    "scene.json", "ego.parquet", "tracks.parquet", "map.json", "map_points.parquet",
    "ground.parquet",
)  # fmt: skip
_MAX_JSON_BYTES = 64 << 20
_MAX_MEMBER_BYTES = 256 << 20
_EXPECTED = "give a native scene bundle, or a folder that holds some as *.zip"


def scene_to_bytes(scene: Scene) -> bytes:
    """Return the scene as a bundle; the same scene always gives the same bytes.

    Raises:
        SceneError: the scene holds something that the schema refuses.
    """
    from omniloop.scenes.native_codec import encode_members

    members = encode_members(scene)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3  # else it differs between Windows and the rest
            info.external_attr = 0o644 << 16
            archive.writestr(info, members[name])
    return out.getvalue()


def scene_from_bytes(data: bytes, where: str) -> Scene:
    """Return the scene in a bundle, every float64 as it was written.

    Members and keys that the schema does not know are ignored.

    Args:
        data: The bundle.
        where: Its name for errors, such as its path.

    Raises:
        SceneError: the zip is damaged, a member is missing or wrong, or its version is newer.
    """
    with SceneArchive(data, where) as archive:
        return _scene_in(archive)


def scene_hash(scene: Scene) -> str:
    """Return the sha256 of `scene_to_bytes` in hexadecimal."""
    return hashlib.sha256(scene_to_bytes(scene)).hexdigest()


def write_bundle(scene: Scene, path: str | Path) -> Path:
    """Write the scene as one ``.zip`` file; readers never see half of it.

    Raises:
        SceneError: the scene cannot be stored, or the file cannot be written.
    """
    target = Path(path)
    data = scene_to_bytes(scene)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise SceneError(
            f"the bundle cannot be written: {error}",
            where=str(target),
            remedy="give the path of a file, such as scenes/my_scene.zip, in a writable folder with space left",
        ) from error
    return target


class NativeScenes:
    """Scenes from native bundles.

    Args:
        path: One bundle, or a folder whose ``*.zip`` files (not those of its subfolders)
            are bundles.

    Raises:
        SceneError: there is no bundle at `path`.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        root = existing(path, _EXPECTED)
        self._files = [root] if root.is_file() else sorted(root.glob("*.zip"))
        self._by_id: dict[str, Path] | None = None
        self._unreadable = Unreadable()
        if not self._files:
            raise SceneError("the folder holds no *.zip", where=path, remedy=_EXPECTED)

    def ids(self) -> list[str]:
        """Scene ids, sorted; only ``scene.json`` of each bundle is read.

        One of several that is damaged is listed by its file's name; loading it says why.

        Raises:
            SceneError: the only bundle is damaged, or two have the same scene id.
        """
        return sorted(self._index())

    def load(self, scene_id: str) -> Scene:
        """Load one scene.

        Raises:
            SceneError: no bundle holds it, or its bundle is damaged.
        """
        index = self._index()
        if scene_id not in index:
            raise unknown_scene(scene_id, index, self._path, _EXPECTED)
        self._unreadable.check(scene_id)
        with SceneArchive(index[scene_id]) as archive:
            return _scene_in(archive)

    def _index(self) -> dict[str, Path]:
        if self._by_id is None:
            by_id: dict[str, Path] = {}
            for path in self._files:
                try:
                    scene_id = _scene_id(path)
                except SceneError as error:
                    if len(self._files) == 1:
                        raise
                    scene_id = self._unreadable.add(path, error, by_id)
                if scene_id in by_id:
                    raise SceneError(
                        f"two bundles hold a scene with the id '{scene_id}'",
                        where=f"{by_id[scene_id]} and {path}",
                        remedy="remove one, or write it again under another id",
                    )
                by_id[scene_id] = path
            self._by_id = by_id
        return self._by_id


def _scene_in(archive: SceneArchive) -> Scene:
    from omniloop.scenes.native_codec import decode_members

    members = {
        name: archive.read(name, _MAX_JSON_BYTES if name.endswith(".json") else _MAX_MEMBER_BYTES)
        for name in archive.names
        if name in _MEMBERS or name.startswith("frames/")
    }
    return decode_members(members, archive.where)


def _scene_id(path: Path) -> str:
    from omniloop.scenes.native_codec import read_scene_doc

    with SceneArchive(path) as archive:
        if "scene.json" not in archive:
            raise SceneError(
                "member 'scene.json' is missing", where=str(path),
                remedy="move it out of the folder if it is no scene bundle, else write it again",
            )  # fmt: skip
        data = archive.read("scene.json", _MAX_JSON_BYTES)
    return safe_id(read_scene_doc(data, str(path)).id, str(path))
