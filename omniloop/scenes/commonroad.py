"""CommonRoad 2020a scenarios (``.xml``, ``.xml.gz``) as scenes.

A scenario has recorded traffic and a planning problem, but no recorded ego: one of its
vehicles becomes ego. See ``docs/scenes.md`` for what is taken and what is assumed.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import SceneError, nearest
from omniloop.core.geometry import Array
from omniloop.core.motion import Trajectory
from omniloop.core.scene import Scene, Vehicle
from omniloop.core.time import US_PER_S
from omniloop.scenes.bounds import MAX_TRACKS, check_count, check_extent, name_of
from omniloop.scenes.build import dataset_to_local, existing, local_origin, safe_id, unknown_scene
from omniloop.scenes.commonroad_actors import Obstacle, as_track, read_obstacle
from omniloop.scenes.commonroad_map import read_map
from omniloop.scenes.commonroad_xml import check_unique, number, read_root

REAR_AXLE_TO_CENTER = 1.461 / 5.176
WHEELBASE = 3.089 / 5.176
"""Over the length: nuPlan's Pacifica, 4.049 m ahead of and 1.127 m behind its rear axle."""

_EXPECTED = "give a CommonRoad file (.xml or .xml.gz), or a folder that holds some"


class CommonRoadScenes:
    """Scenes from CommonRoad files.

    Args:
        path: A file, or a folder that is searched with its subfolders. A scene's id is
            its file's name; files of one name get their folders' names before it.
        ego: Id of the obstacle that becomes ego. By default it is the car, truck or bus
            with the longest recording, of several the one with the smallest id.

    Raises:
        SceneError: there is no such file at `path`, or two files get the same id.
    """

    def __init__(self, path: str, ego: str | None = None) -> None:
        self._path = path
        self._ego = None if ego is None else str(ego)
        root = existing(path, _EXPECTED)
        files = (
            [root] if root.is_file() else sorted({*root.rglob("*.xml"), *root.rglob("*.xml.gz")})
        )
        if not files:
            raise SceneError("the folder holds no .xml or .xml.gz", where=path, remedy=_EXPECTED)
        self._files = _name_files(files, root)

    def ids(self) -> list[str]:
        """Scene ids, sorted; no file is opened."""
        return sorted(self._files)

    def load(self, scene_id: str) -> Scene:
        """Load one scene.

        Raises:
            SceneError: it is unknown, damaged, holds no vehicle, or lacks the chosen ego.
        """
        if scene_id not in self._files:
            raise unknown_scene(scene_id, self._files, self._path, _EXPECTED)
        path = self._files[scene_id]
        return _read_scene(read_root(path), scene_id, self._ego, str(path))


def _name_files(files: list[Path], root: Path) -> dict[str, Path]:
    def stem(path: Path) -> str:
        return re.sub(r"\.xml(\.gz)?$", "", path.name)

    def safe(name: str) -> str:
        return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("._-")

    often = Counter(safe(stem(path)) for path in files)
    named: dict[str, Path] = {}
    for path in files:
        name = safe(stem(path))
        if often[name] > 1:
            name = safe("_".join([*path.relative_to(root).parts[:-1], stem(path)]))
        if name in named:
            raise SceneError(
                f"two files give the scene id '{name}'",
                where=f"{named[name]} and {path}", remedy="remove or rename one of them",
            )  # fmt: skip
        named[safe_id(name, str(path))] = path
    return named


def _read_scene(root: Element, scene_id: str, ego_id: str | None, where: str) -> Scene:
    step_s = number(root.get("timeStepSize"), "timeStepSize", where)
    step_us = round(step_s * US_PER_S)
    if step_us <= 0:
        raise SceneError(
            f"timeStepSize is {step_s}", where=where,
            remedy="give a positive one, in seconds",
        )  # fmt: skip
    elements = [e for tag in ("dynamicObstacle", "staticObstacle") for e in root.findall(tag)]
    check_count(len(elements), MAX_TRACKS, "obstacles", where)
    check_unique(elements, where)
    obstacles = [read_obstacle(element, where) for element in elements]
    ego = _choose_ego(obstacles, ego_id, where)
    origin = local_origin(np.array([*ego.aabb[0, :2], 0.0]))
    first = min(int(o.steps.min()) for o in obstacles if o.moves)
    last = max(int(o.steps.max()) for o in obstacles if o.moves)
    _check_extent(obstacles, ego, last, step_us, where)
    clock = (step_us, last)
    tracks = tuple(as_track(o, clock, origin, where) for o in obstacles if o is not ego)
    motion = as_track(ego, clock, origin, where)
    vehicle = _vehicle(ego.size_m)
    seen = motion.valid
    ego_rig = geometry.compose(motion.local_to_aabb[seen], geometry.inverse(vehicle.rig_to_aabb))
    return Scene(
        id=scene_id,
        source="commonroad",
        ego=Trajectory(motion.times_us[seen], ego_rig),
        vehicle=vehicle,
        tracks=tracks,
        map=read_map(root, origin, (first, last), step_us, where),
        dataset_to_local=dataset_to_local(origin),
        tags=tuple(name_of(e.tag, "a tag", where) for e in root.findall("scenarioTags/*")),
    )


def _check_extent(
    obstacles: list[Obstacle], ego: Obstacle, last: int, step_us: int, where: str
) -> None:
    """Refuse more steps than can be, before a pose is made for each."""
    steps = [(int(o.steps.min()), int(o.steps.max())) if o.moves else (0, last) for o in obstacles]
    spans = [(a * step_us, b * step_us) for a, b in steps]
    poses = sum(b - a + 1 for a, b in steps)
    check_extent(spans[obstacles.index(ego)], spans, poses, where)
    check_extent((0, last * step_us), (), 0, where)


def _choose_ego(obstacles: list[Obstacle], ego_id: str | None, where: str) -> Obstacle:
    moving = {o.id: o for o in obstacles if o.moves}
    if ego_id is not None:
        if ego_id not in moving:
            known = sorted(moving, key=_by_number)
            raise SceneError(
                f"no dynamic obstacle {ego_id} to be ego.{nearest(ego_id, known)}",
                where=where,
                remedy=f"choose scenes.ego from: {', '.join(known) or 'none'}, or leave it out",
            )
        return moving[ego_id]
    vehicles = [o for o in moving.values() if o.can_be_ego]
    if not vehicles:
        raise SceneError(
            f"no car, truck or bus among its {len(moving)} dynamic obstacles can be ego",
            where=where,
            remedy="leave the scenario out, or name another obstacle with scenes.ego=ID",
        )
    return min(vehicles, key=lambda o: (-o.lifetime_steps, _by_number(o.id)))


def _by_number(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else 0, name)


def _vehicle(size_m: Array) -> Vehicle:
    length_m, width_m, height_m = (float(v) for v in size_m)
    return Vehicle(
        length_m, width_m, height_m,
        rear_axle_to_center_m=REAR_AXLE_TO_CENTER * length_m, wheelbase_m=WHEELBASE * length_m,
    )  # fmt: skip
