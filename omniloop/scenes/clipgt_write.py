"""A scene as ClipGT tables (contracts.md 2.6, alpasim.md 6.3).

What the layout cannot say is left out: holes of crosswalks, states of traffic lights,
drivable areas (their outlines are road boundaries where a map has no others), lane lines
that are not painted, outlines of lanes other than their sides, which lane line lies at a
lane's side, and whether a lane crosses an intersection. ClipGT's ids hold no "-", which parts a wait line from its lane.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import default_camera
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.scene import Lane, MarkStyle, Polyline, Scene, VectorMap
from omniloop.scenes.clipgt_rig import rig_json
from omniloop.scenes.clipgt_tables import (
    FEATURE_TABLES,
    MPH_MPS,
    flags,
    numbers,
    polylines,
    text_lists,
    texts,
    times,
    vectors,
    write_table,
)
from omniloop.scenes.labels import CATEGORY

HALF_LANE_M = 1.75
"""Where a lane's sides are unknown, its rails run this far from its centre line: half of
the 3.5 m of a European main road (RAA, RAL)."""

_NO_LANE = "none"


def tables_of(scene: Scene, clip_id: str) -> dict[str, bytes]:
    """Every table by name; those that AlpaSim opens unasked are there even if empty.

    Raises:
        SceneError: the scene's map, motion or cameras cannot be written so.
    """
    write = _Writer(scene, clip_id)
    kinds = dict.fromkeys(feature.kind for feature in scene.map.features)
    return {
        **{kind: write.features(kind) for kind in kinds},
        "calibration_estimate": write.calibration(),
        "egomotion_estimate": write.egomotion(),
        "clip": write.clip(),
        "lane": write.lanes(),
        "association": write.associations(),
        "lane_line": write.lane_lines(),
        "road_boundary": write.road_boundaries(),
        "crosswalk": write.crosswalks(),
        "wait_line": write.wait_lines(),
        "traffic_light": write.lights(),
        "traffic_sign": write.signs(),
        "obstacle": write.obstacles(),
    }


class _Writer:
    def __init__(self, scene: Scene, clip_id: str) -> None:
        self._scene = scene
        self._map = scene.map
        self._clip_id = clip_id
        self._lanes = [x for x in self._map.lanes if len(x.centerline) > 1]
        self._lane_ids = _plain_ids([x.id for x in self._lanes])

    def _points(self, name: str, points: Array) -> Array:
        if not np.isfinite(points).all():
            raise SceneError(
                f"{name} has a point that is not finite", where=f"scene {self._scene.id}",
                remedy="mend the map: `omniloop scenes validate` lists what is wrong with it",
            )  # fmt: skip
        return points

    def _map_key(self, table: str, ids: Sequence[str], classes: Sequence[str] = ()) -> Any:
        return {
            "clip_id": texts([self._clip_id] * len(ids)),
            "label_class_id": texts(classes or [f"omniloop:{table}"] * len(ids)),
            "map_id": texts(ids),
            "map_id_version": texts(["1"] * len(ids)),
        }

    def _time_key(self, table: str, stamps: Any) -> dict[str, Any]:
        return {
            "clip_id": texts([self._clip_id] * len(stamps)),
            "timestamp_micros": times(stamps),
            "label_class_id": texts([f"omniloop:{table}"] * len(stamps)),
        }

    # ------------------------------------------------------------------- the clip

    def calibration(self) -> bytes:
        cameras = self._scene.cameras or (default_camera(),)
        return write_table(
            "calibration_estimate", self._time_key("calibration_estimate", np.array([-1])),
            {"name": texts(["omniloop"]), "rig_json": texts([rig_json(cameras)])},
        )  # fmt: skip

    def egomotion(self) -> bytes:
        ego = self._scene.ego
        return write_table(
            "egomotion_estimate", self._time_key("egomotion_estimate", ego.times_us),
            {
                "name": texts(["omniloop"] * len(ego)),
                "location": vectors(ego.poses[:, :3]),
                "orientation": vectors(ego.poses[:, 3:], "xyzw"),
            },
        )  # fmt: skip

    def clip(self) -> bytes:
        name = {"clip_id": texts([self._clip_id])}
        return write_table("clip", name, {"name": texts([self._clip_id])})

    def obstacles(self) -> bytes:
        stamps, poses, counts = [np.zeros(0, np.int64)], [np.zeros((0, 7))], []
        for track in self._scene.tracks:
            seen = track.valid
            stamps.append(track.times_us[seen])
            poses.append(self._points(f"track {track.actor.id}", track.local_to_aabb[seen]))
            counts.append(int(seen.sum()))
        actors = self._scene.actors
        all_poses, index = np.concatenate(poses), np.repeat(np.arange(len(actors)), counts)
        ids = [actors[i].id for i in index]
        return write_table(
            "obstacle",
            {**self._time_key("obstacle", np.concatenate(stamps)), "label_id": texts(ids)},
            {
                "trackline_id": texts(ids),
                "center": vectors(all_poses[:, :3]),
                "size": vectors(self._scene.actor_sizes_m[index]),
                "orientation": vectors(all_poses[:, 3:], "xyzw"),
                "category": texts([CATEGORY[actors[i].actor_class] for i in index]),
            },
        )

    # ------------------------------------------------------------------- the map

    def lanes(self) -> bytes:
        rails = [lane_rails(lane) for lane in self._lanes]
        styles = {line.id: line.style.value for line in self._map.lane_lines}

        def edge(line: str | None, points: Array) -> list[str]:
            return [styles.get(line or "", "VIRTUAL")] * len(points)

        pairs = list(zip(self._lanes, rails, strict=True))
        return write_table(
            "lane", self._map_key("lane", list(self._lane_ids.values())),
            {
                "left_rail": polylines([self._points(f"lane {x.id}", r[0]) for x, r in pairs]),
                "right_rail": polylines([self._points(f"lane {x.id}", r[1]) for x, r in pairs]),
                "left_edge_styles": text_lists([edge(x.left_line, r[0]) for x, r in pairs]),
                "right_edge_styles": text_lists([edge(x.right_line, r[1]) for x, r in pairs]),
                "speed_limit": numbers([(x.speed_limit_mps or 0.0) / MPH_MPS for x in self._lanes]),
                "vehicle_types": text_lists(
                    [["CAR" if x.kind == "vehicle" else x.kind.upper()] for x in self._lanes]
                ),
            },
        )  # fmt: skip

    def associations(self) -> bytes:
        """Each lane has its NEXT_LANE row even where nothing follows, as NVIDIA's have."""
        rows: list[tuple[str, str, list[str]]] = []
        for lane in self._lanes:
            name = self._lane_ids[lane.id]
            rows.append(("NEXT_LANE", name, self._known(lane.successors)))
            others = (
                ("PREVIOUS_LANE", lane.predecessors),
                ("LEFT_LANE", (lane.left_lane,)),
                ("RIGHT_LANE", (lane.right_lane,)),
            )
            rows += [(kind, name, found) for kind, ids in others if (found := self._known(ids))]
        for sign in self._map.signs:
            if found := self._known(sign.lanes):
                rows.append(("SIGN_TO_LANE", sign.id, found))
        for light in self._map.lights:
            if found := self._known(light.lanes):
                rows.append(("LIGHT_TO_LANE", light.id, found))
        return write_table(
            "association",
            {
                "clip_id": texts([self._clip_id] * len(rows)),
                "kind": texts([kind for kind, _, _ in rows]),
            },
            {
                "subjects": texts([subject for _, subject, _ in rows]),
                "objects": text_lists([found for _, _, found in rows]),
            },
        )

    def _known(self, lanes: Iterable[str | None]) -> list[str]:
        return [self._lane_ids[x] for x in lanes if x in self._lane_ids]

    def lane_lines(self) -> bytes:
        lines = [x for x in self._map.lane_lines if x.style is not MarkStyle.NONE]
        counts = [len(x.points) for x in lines]
        unknown = text_lists([["UNKNOWN"] * n for n in counts])
        return write_table(
            "lane_line", self._map_key("lane_line", [x.id for x in lines]),
            {
                "line_rail": polylines([self._points(f"lane line {x.id}", x.points) for x in lines]),
                "styles": text_lists([[x.style.value] * n for x, n in zip(lines, counts, strict=True)]),
                "colors": text_lists([[x.color.value] * n for x, n in zip(lines, counts, strict=True)]),
                "left_driving_direction": unknown,
                "right_driving_direction": unknown,
            },
        )  # fmt: skip

    def road_boundaries(self) -> bytes:
        lines = self._map.road_boundaries or _outlines(self._map)
        kinds = ["road_boundary"] * len(lines)
        return self._shapes("road_boundary", kinds, [(x.id, x.points) for x in lines])

    def crosswalks(self) -> bytes:
        areas = [(x.id, x.outline) for x in self._map.crosswalks]
        return self._shapes("crosswalk", ["PEDESTRIAN"] * len(areas), areas)

    def features(self, kind: str) -> bytes:
        """Raises `SceneError` for a kind that no table is named like."""
        if kind not in FEATURE_TABLES:
            raise SceneError(
                f"map features of the kind '{kind}' have no ClipGT table",
                where=f"scene {self._scene.id}",
                remedy=f"name them one of {', '.join(FEATURE_TABLES)}, or drop them",
            )
        found = [x for x in self._map.features if x.kind == kind]
        return self._shapes(kind, [x.category for x in found], [(x.id, x.points) for x in found])

    def _shapes(
        self, table: str, categories: Sequence[str], shapes: Sequence[tuple[str, Array]]
    ) -> bytes:
        named = [self._points(f"{table.replace('_', ' ')} {name}", x) for name, x in shapes]
        return write_table(
            table, self._map_key(table, [name for name, _ in shapes]),
            {"category": texts(categories), "location": polylines(named)},
        )  # fmt: skip

    def wait_lines(self) -> bytes:
        """One row for each lane that a line stops; one without lanes goes to the nearest."""
        ids = _plain_ids([x.id for x in self._map.stop_lines])
        rows = [
            (f"{ids[line.id]}-{lane}", self._points(f"stop line {line.id}", line.points))
            for line in self._map.stop_lines
            for lane in self._known(line.lanes) or [self._nearest_lane(line)]
        ]
        return write_table(
            "wait_line", self._map_key("wait_line", [name for name, _ in rows]),
            {
                "category": texts(["STOP"] * len(rows)),
                "location": polylines([points for _, points in rows]),
                "is_implicit": flags([False] * len(rows)),
                "intersection_subtype": texts(["NOT_APPLICABLE"] * len(rows)),
            },
        )  # fmt: skip

    def _nearest_lane(self, line: Polyline) -> str:
        middle = line.points[:, :2].mean(axis=0, keepdims=True)
        gaps = [geometry.project_on_polyline(middle, x.centerline)[1][0] for x in self._lanes]
        return self._lane_ids[self._lanes[int(np.argmin(gaps))].id] if gaps else _NO_LANE

    def lights(self) -> bytes:
        """Newer readers take lights of one label class for one light, so each has its own."""
        lights = self._map.lights
        ids = [x.id for x in lights]
        key = self._map_key("traffic_light", ids, [f"omniloop:traffic_light:{x}" for x in ids])
        poses = np.array([x.local_to_light for x in lights]).reshape(-1, 7)
        return self._boxes(
            "traffic_light", key, poses, [x.size_m for x in lights], ["traffic_light"] * len(ids)
        )

    def signs(self) -> bytes:
        signs = self._map.signs
        key = self._map_key("traffic_sign", [x.id for x in signs])
        poses = np.array([x.local_to_sign for x in signs]).reshape(-1, 7)
        return self._boxes(
            "traffic_sign", key, poses, [x.size_m for x in signs], [x.kind for x in signs]
        )

    def _boxes(
        self, table: str, key: Any, poses: Array, sizes_m: Sequence[Array], kinds: Sequence[str]
    ) -> bytes:
        self._points(f"a {table.replace('_', ' ')}", poses)
        return write_table(
            table, key,
            {
                "center": vectors(poses[:, :3]),
                "dimensions": vectors(np.array(sizes_m).reshape(-1, 3)),
                "orientation": vectors(poses[:, 3:], "xyzw"),
                "category": texts(kinds),
            },
        )  # fmt: skip


def lane_rails(lane: Lane) -> tuple[Array, Array]:
    """Left and right side of a lane ``(N, 3)``, with as many points each.

    Both are cut where either has a vertex, at equal parts of their lengths, so neither
    changes its shape. A side that is unknown runs `HALF_LANE_M` from the centre line.
    """
    left = lane.left if lane.left is not None else _beside(lane.centerline, HALF_LANE_M)
    right = lane.right if lane.right is not None else _beside(lane.centerline, -HALF_LANE_M)
    if len(left) == len(right):
        return left, right
    parts = [geometry.arc_length_m(side) for side in (left, right)]
    parts = [part / max(float(part[-1]), 1e-9) for part in parts]
    cuts = np.unique(np.round(np.concatenate(parts), 9))
    out = [
        np.stack([np.interp(cuts, part, side[:, i]) for i in range(3)], axis=1)
        for part, side in zip(parts, (left, right), strict=True)
    ]
    return out[0], out[1]


def _beside(points: Array, left_m: float) -> Array:
    """A polyline ``(N, 3)`` moved to the left in the plane, N > 1."""
    along = np.gradient(points[:, :2], axis=0)
    length = np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    out = np.array(points, dtype=np.float64)
    out[:, :2] += left_m * np.stack([-along[:, 1], along[:, 0]], axis=1) / length
    return out


def _outlines(vector_map: VectorMap) -> list[Polyline]:
    """Closed outlines of the drivable areas: the road's edge in a map that has no other."""
    return [
        Polyline(f"{area.id}_{i}", np.concatenate([ring, ring[:1]]))
        for area in vector_map.drivable_areas
        for i, ring in enumerate((area.outline, *area.holes))
    ]


def _plain_ids(ids: Iterable[str]) -> dict[str, str]:
    """Ids without "-", each still different from the others."""
    plain: dict[str, str] = {}
    taken = set()
    for name in ids:
        candidate = name.replace("-", "_")
        while candidate in taken:
            candidate += "_"
        taken.add(candidate)
        plain[name] = candidate
    return plain
