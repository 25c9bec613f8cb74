"""ClipGT tables as cameras and motion, with their map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from omniloop.core.cameras import Camera
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times, Trajectory
from omniloop.core.scene import Actor, Track, VectorMap
from omniloop.scenes.clipgt_map import poses_of, read_map
from omniloop.scenes.clipgt_rig import read_rig_json
from omniloop.scenes.clipgt_tables import TableReader
from omniloop.scenes.labels import class_of


@dataclass(frozen=True, eq=False)
class ClipGt:
    """What an archive holds.

    Attributes:
        map: See `omniloop.scenes.clipgt_map`.
        cameras: F-theta cameras of the rig, at their native size.
        ego: Recorded ``local_to_rig``.
        tracks: Recorded obstacles.
    """

    clip_id: str
    map: VectorMap
    cameras: tuple[Camera, ...]
    ego: Trajectory
    tracks: tuple[Track, ...]


def clip_of(clip_id: str, files: Mapping[str, bytes], where: str) -> ClipGt:
    """Read the tables of a clip.

    Args:
        files: Parquet files by table.

    Raises:
        SceneError: a table is damaged, or says what cannot be.
    """
    read = _Reader(clip_id, files, where)
    vector_map, _ = read_map(clip_id, files, where)
    return ClipGt(clip_id, vector_map, read.cameras(), read.ego(), read.tracks())


class _Reader:
    def __init__(self, clip_id: str, files: Mapping[str, bytes], where: str) -> None:
        self._clip_id = clip_id
        self._files = files
        self._where = where

    def _table(self, name: str) -> TableReader:
        return TableReader(name, self._files.get(name), f"{self._where}, {self._clip_id}.{name}")

    # ------------------------------------------------------------------- the clip

    def cameras(self) -> tuple[Camera, ...]:
        table = self._table("calibration_estimate")
        documents = table.texts("rig_json")
        return read_rig_json(documents[0], self._where) if documents else ()

    def ego(self) -> Trajectory:
        table = self._table("egomotion_estimate")
        poses = poses_of(table.vectors("location"), table.vectors("orientation", "xyzw"))
        stamps = table.times()
        order = np.argsort(stamps, kind="stable")
        try:
            return Trajectory(stamps[order], poses[order])
        except ValueError as error:
            raise self._wrong("egomotion_estimate", error) from error

    def tracks(self) -> tuple[Track, ...]:
        table = self._table("obstacle")
        stamps, ids = table.times(), table.texts("trackline_id")
        sizes, categories = table.vectors("size"), table.texts("category")
        poses = poses_of(table.vectors("center"), table.vectors("orientation", "xyzw"))
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(ids):
            rows.setdefault(name, []).append(row)
        tracks = []
        for name, found in rows.items():
            index = np.array(found)[np.argsort(stamps[found], kind="stable")]
            kept = index[np.isfinite(poses[index]).all(axis=1)]
            kept = kept[np.concatenate([[True], np.diff(stamps[kept]) > 0])[: len(kept)]]
            if len(kept) and np.isfinite(sizes[kept[0]]).all():
                kind = class_of(categories[kept[0]])
                actor = Actor(name, kind, categories[kept[0]], sizes[kept[0]])
                tracks.append(_track(actor, stamps[kept], poses[kept]))
        return tuple(tracks)

    def _wrong(self, table: str, error: Exception) -> SceneError:
        return SceneError(
            f"table {table}: {error}", where=self._where, remedy="write the HD map again"
        )


def _track(actor: Actor, stamps: Times, poses: Array) -> Track:
    still = np.ptp(poses[:, :3], axis=0).max() < 1e-3
    return Track(replace(actor, is_static=bool(still)), stamps, poses, np.ones(len(stamps), bool))
