"""HD-map archives of a video model: a zip of parquet tables in the ClipGT layout.

The members are ``{clip_id}.{table}.parquet`` (contracts.md 2.6). An archive's bytes depend
only on the scene and on the versions of this package, pyarrow and zlib.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping

from omniloop.core.errors import SceneError
from omniloop.core.scene import Scene, VectorMap
from omniloop.scenes.clipgt_map import MISSING_LANES, read_map
from omniloop.scenes.clipgt_read import ClipGt, clip_of
from omniloop.scenes.clipgt_write import tables_of

__all__ = ["ClipGt", "clip_id_of", "read_clipgt", "read_map_tables", "write_clipgt"]

_EPOCH = (1980, 1, 1, 0, 0, 0)
_PREFIX = "clipgt-"
_SUFFIX = ".parquet"
_REQUIRED = ("calibration_estimate", "egomotion_estimate")
"""Without these OmniDreams' server finds "no suitable loader"."""

_MAX_BYTES = 512 << 20
_MAX_MEMBERS = 1000
"""Archives beyond these are not unpacked; NVIDIA's sample has 12 tables of 168 KiB."""

_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
_MEND = "send a zip of ClipGT tables named CLIP.TABLE.parquet"


def clip_id_of(scene_id: str) -> str:
    """The scene's id without ``clipgt-``, as a part of file names that holds no dot."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", scene_id.removeprefix(_PREFIX)) or "_"


def write_clipgt(scene: Scene) -> bytes:
    """Return a scene's map, recorded motion and cameras as an archive.

    Raises:
        SceneError: something of the scene cannot be written in the ClipGT layout.
    """
    clip_id = clip_id_of(scene.id)
    tables = tables_of(scene, clip_id)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(tables):
            info = zipfile.ZipInfo(f"{clip_id}.{name}{_SUFFIX}", _EPOCH)
            info.create_system = 3  # else it differs between Windows and the rest
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, tables[name])
    return out.getvalue()


def read_clipgt(data: bytes, where: str = "the HD map") -> ClipGt:
    """Read an archive.

    Args:
        where: Its name, for errors.

    Raises:
        SceneError: it is no zip, or much too large; a member's path leads out of it; a
            required table is missing; a table is damaged or lacks a column.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            _check_members(infos, where)
            members = {i.filename: archive.read(i) for i in infos if i.filename.endswith(_SUFFIX)}
    except _BROKEN_ZIP as error:
        raise SceneError(
            f"the HD map is no readable zip: {error}", where=where, remedy=_MEND
        ) from error
    clip_id = _clip_id(members, where)
    files = {
        name.removeprefix(f"{clip_id}.").removesuffix(_SUFFIX): content
        for name, content in members.items()
        if name.startswith(f"{clip_id}.")
    }
    return clip_of(clip_id, files, where)


def read_map_tables(
    members: Mapping[str, bytes], where: str = "the map"
) -> tuple[VectorMap, tuple[str, ...]]:
    """Read a folder of map tables, with or without a calibration and an ego motion.

    Args:
        members: Parquet files by name: ``{table}.parquet`` or ``{clip}.{table}.parquet``,
            with or without folders before it. Other files are passed over. Of several clips
            the first by name that has lanes counts.
        where: The folder's name, for errors.

    Returns:
        The map, and one line about each thing that was left out.

    Raises:
        SceneError: there are no lanes: neither ``lane`` nor ``dw_lane`` with ``lane_chunk``;
            or a table is damaged.
    """
    clips: dict[str, dict[str, bytes]] = {}
    for name in sorted(members):
        if name.endswith(_SUFFIX):
            stem = name.replace("\\", "/").rpartition("/")[2].removesuffix(_SUFFIX)
            clip_id, _, table = stem.rpartition(".")
            clips.setdefault(clip_id, {}).setdefault(table, members[name])
    for clip_id, files in clips.items():
        if "lane" in files or {"dw_lane", "lane_chunk"} <= files.keys():
            return read_map(clip_id, files, where)
    there = sorted(table for files in clips.values() for table in files)
    raise SceneError(
        f"{MISSING_LANES}; there are the tables {', '.join(there) or 'none'}",
        where=where, remedy="give lane.parquet, or dw_lane.parquet with lane_chunk.parquet",
    )  # fmt: skip


def _check_members(infos: Iterable[zipfile.ZipInfo], where: str) -> None:
    total = 0
    for number, info in enumerate(infos, start=1):
        name = info.filename.replace("\\", "/")
        if name.startswith("/") or ".." in name.split("/") or re.match(r"[A-Za-z]:", name):
            raise SceneError(
                f"HD map archive contains a path that escapes extraction: {info.filename!r}",
                where=where, remedy=_MEND,
            )  # fmt: skip
        total += info.file_size
        if total > _MAX_BYTES or number > _MAX_MEMBERS:
            raise SceneError(
                f"the HD map unpacks to more than {_MAX_BYTES >> 20} MiB or {_MAX_MEMBERS} members",
                where=where, remedy="send the map around the drive only",
            )  # fmt: skip


def _clip_id(members: Iterable[str], where: str) -> str:
    """The first clip, by name, whose required tables are all there."""
    having = {
        table: [name.removesuffix(ending) for name in sorted(members) if name.endswith(ending)]
        for table, ending in ((t, f".{t}{_SUFFIX}") for t in _REQUIRED)
    }
    for clip_id in having[_REQUIRED[0]]:
        if all(clip_id in clips for clips in having.values()):
            return clip_id
    missing = [table for table, clips in having.items() if not clips] or list(_REQUIRED)
    raise SceneError(
        f"No suitable loader found for the HD map: it lacks the table {' and '.join(missing)}",
        where=where, remedy=_MEND,
    )  # fmt: skip
