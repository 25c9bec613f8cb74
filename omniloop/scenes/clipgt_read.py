"""ClipGT tables as a map, cameras and motion.

Elements with points that are not finite, or with too few, are passed over, as NVIDIA's
readers do. Unknown line styles are drawn as those readers draw them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from omniloop.core.cameras import Camera
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Times, Trajectory
from omniloop.core.scene import (
    Actor,
    ActorClass,
    Area,
    Lane,
    LaneLine,
    MarkColor,
    MarkStyle,
    Polyline,
    Track,
    TrafficLight,
    TrafficSign,
    VectorMap,
)
from omniloop.scenes.clipgt_rig import read_rig_json
from omniloop.scenes.clipgt_tables import TableReader

T = TypeVar("T")

_CLASSES = {
    ActorClass.CAR: ("automobile", "other_vehicle", "vehicle", "car"),
    ActorClass.PEDESTRIAN: ("pedestrian", "person"),
    ActorClass.CYCLIST: ("bicycle", "cyclist", "motorcycle", "motorcyclist", "rider"),
    ActorClass.TRUCK: (
        "truck",
        "bus",
        "heavy_truck",
        "large_vehicle",
        "train_or_tram_car",
        "trolley_bus",
        "trailer",
    ),
}
_CLASS_OF = {name: kind for kind, names in _CLASSES.items() for name in names}


@dataclass(frozen=True, eq=False)
class ClipGt:
    """What an archive holds.

    Attributes:
        map: Lanes, lane lines, road boundaries, crosswalks, stop lines, signs and lights.
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
    return ClipGt(clip_id, read.map(), read.cameras(), read.ego(), read.tracks())


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
        poses = _poses(table.vectors("location"), table.vectors("orientation", "xyzw"))
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
        poses = _poses(table.vectors("center"), table.vectors("orientation", "xyzw"))
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(ids):
            rows.setdefault(name, []).append(row)
        tracks = []
        for name, found in rows.items():
            index = np.array(found)[np.argsort(stamps[found], kind="stable")]
            kept = index[np.isfinite(poses[index]).all(axis=1)]
            kept = kept[np.concatenate([[True], np.diff(stamps[kept]) > 0])[: len(kept)]]
            if len(kept) and np.isfinite(sizes[kept[0]]).all():
                kind = _CLASS_OF.get(categories[kept[0]].lower(), ActorClass.OTHER)
                actor = Actor(name, kind, categories[kept[0]], sizes[kept[0]])
                tracks.append(_track(actor, stamps[kept], poses[kept]))
        return tuple(tracks)

    def _wrong(self, table: str, error: Exception) -> SceneError:
        return SceneError(
            f"table {table}: {error}", where=self._where, remedy="write the HD map again"
        )

    # ------------------------------------------------------------------- the map

    def map(self) -> VectorMap:
        return VectorMap(
            lanes=self._lanes(),
            lane_lines=self._lane_lines(),
            road_boundaries=tuple(Polyline(i, x) for i, x in self._shapes("road_boundary", 2)),
            crosswalks=tuple(Area(i, x) for i, x in self._shapes("crosswalk", 3)),
            stop_lines=self._stop_lines(),
            signs=self._signs(),
            lights=tuple(
                TrafficLight(name, pose, size)
                for name, pose, size, _ in self._boxes("traffic_light")
            ),
        )

    def _shapes(self, name: str, fewest: int) -> list[tuple[str, Array]]:
        table = self._table(name)
        return _usable(_ids(table), table.polylines("location"), fewest)

    def _lane_lines(self) -> tuple[LaneLine, ...]:
        table = self._table("lane_line")
        field = "line_rail" if table.has("line_rail") or not table.has("path") else "path"
        styles, colors = table.text_lists("styles"), table.text_lists("colors")
        rows = _usable(list(range(len(table))), table.polylines(field), 2)
        names = _ids(table)
        return tuple(
            LaneLine(names[i], points, _style(styles[i]), _color(colors[i])) for i, points in rows
        )

    def _stop_lines(self) -> tuple[Polyline, ...]:
        lines: dict[str, Polyline] = {}
        for name, points in self._shapes("wait_line", 2):
            wait_id, _, lane = name.partition("-")
            before = lines.get(wait_id)
            lanes = (lane,) if lane else ()
            if before is None:
                lines[wait_id] = Polyline(wait_id, points, lanes)
            else:
                lines[wait_id] = replace(before, lanes=before.lanes + lanes)
        return tuple(lines.values())

    def _lanes(self) -> tuple[Lane, ...]:
        table = self._table("lane")
        left, right = table.polylines("left_rail"), table.polylines("right_rail")
        next_to = self._associations()
        lanes = []
        for name, a, b in zip(_ids(table), left, right, strict=True):
            if len(a) != len(b) or len(a) < 2 or not np.isfinite(np.stack([a, b])).all():
                continue
            lanes.append(
                Lane(
                    name, (a + b) / 2, left=a, right=b,
                    successors=next_to.get(("NEXT_LANE", name), ()),
                    predecessors=next_to.get(("PREVIOUS_LANE", name), ()),
                    left_lane=next(iter(next_to.get(("LEFT_LANE", name), ())), None),
                    right_lane=next(iter(next_to.get(("RIGHT_LANE", name), ())), None),
                )
            )  # fmt: skip
        return tuple(lanes)

    def _associations(self) -> dict[tuple[str, str], tuple[str, ...]]:
        table = self._table("association")
        kinds, objects = table.texts("kind", "key"), table.text_lists("objects")
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        for kind, subjects, row in zip(kinds, table.text_lists("subjects"), objects, strict=True):
            for subject in subjects:
                found[kind, subject] = found.get((kind, subject), ()) + tuple(row)
        return found

    def _signs(self) -> tuple[TrafficSign, ...]:
        lanes = self._associations()
        return tuple(
            TrafficSign(name, pose, size, kind, lanes.get(("SIGN_TO_LANE", name), ()))
            for name, pose, size, kind in self._boxes("traffic_sign")
        )

    def _boxes(self, name: str) -> list[tuple[str, Array, Array, str]]:
        table = self._table(name)
        poses = _poses(table.vectors("center"), table.vectors("orientation", "xyzw"))
        sizes, kinds = table.vectors("dimensions"), table.texts("category")
        usable = np.isfinite(poses).all(axis=1) & np.isfinite(sizes).all(axis=1)
        ids = _ids(table)
        return [(ids[i], poses[i], sizes[i], kinds[i]) for i in np.flatnonzero(usable).tolist()]


def _ids(table: TableReader) -> list[str]:
    """Map ids; the row's number where there is none."""
    return [name or str(row) for row, name in enumerate(table.texts("map_id", "key"))]


def _usable(names: list[T], lines: list[Array], fewest: int) -> list[tuple[T, Array]]:
    return [
        (name, points)
        for name, points in zip(names, lines, strict=True)
        if len(points) >= fewest and np.isfinite(points).all()
    ]


def _poses(position: Array, orientation: Array) -> Array:
    """Poses ``(N, 7)`` with unit quaternions; NaN where a quaternion is none."""
    length = np.linalg.norm(orientation, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = np.where(length > 1e-6, orientation / length, np.nan)
    return np.concatenate([position, unit], axis=1)


def _track(actor: Actor, stamps: Times, poses: Array) -> Track:
    still = np.ptp(poses[:, :3], axis=0).max() < 1e-3
    return Track(replace(actor, is_static=bool(still)), stamps, poses, np.ones(len(stamps), bool))


def _style(styles: list[str]) -> MarkStyle:
    name = styles[0].upper() if styles else "SOLID_SINGLE"
    if name in MarkStyle.__members__:
        return MarkStyle[name]
    if name == "VIRTUAL":
        return MarkStyle.NONE
    if "DOT" in name or "SHORT" in name:
        return MarkStyle.SHORT_DASHED_SINGLE
    solid = "SOLID" in name and "DASHED" not in name
    return MarkStyle.SOLID_SINGLE if solid else MarkStyle.LONG_DASHED_SINGLE


def _color(colors: list[str]) -> MarkColor:
    name = colors[0].upper() if colors else "WHITE"
    return MarkColor[name] if name in MarkColor.__members__ else MarkColor.UNKNOWN
