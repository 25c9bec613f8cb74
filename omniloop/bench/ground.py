"""What grounds cost: building a mesh's grid, casting rays, setting boxes on the ground."""

from __future__ import annotations

import functools
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from omniloop.bench.loop import resident_mib
from omniloop.core import geometry
from omniloop.core.contracts import GroundRequest, SessionInfo
from omniloop.core.errors import ConfigError
from omniloop.core.motion import Trajectory
from omniloop.core.registry import create
from omniloop.core.scene import HeightRaster, Scene
from omniloop.core.seeds import generator
from omniloop.scenes.height_raster import raster_mesh, sample_heights
from omniloop.scenes.mesh import build_mesh
from omniloop.scenes.ply import read_ply, write_ply

CELL_M = 0.3
_SIZE_M = np.array([4.6, 1.9, 1.6])
_RAYS = 1_000_000
_LEAST_TRIANGLES = 20_000


def run(triangles: int = 1_000_000, actors: int = 50, repeat: int = 200) -> dict[str, Any]:
    """Time a square of hills of 0.3 m cells, as a raster and as a mesh of it.

    Args:
        triangles: About so many in the mesh.
        actors: Boxes of a call.
        repeat: Calls; the fastest counts, as others on the machine can only slow it down.

    Returns:
        ``mesh``: triangles, seconds to read the file and to build the grid, MiB of the grid's
        arrays, and rays per second; ``resident_mib`` before and after; ``ms_per_call`` of
        each ground for all actors and for one box.

    Raises:
        ConfigError: too few triangles, or a count below 1.
    """
    if triangles < _LEAST_TRIANGLES or actors < 1 or repeat < 1:
        raise ConfigError(
            f"{triangles} triangles, {actors} actors, {repeat} calls",
            remedy=f"give at least {_LEAST_TRIANGLES} triangles and 1 of the others",
        )
    rng = generator(0, "bench.ground")
    side = math.isqrt(triangles // 2) + 1
    raster = _hills(side)
    extent_m = (side - 1) * CELL_M
    before_mib = resident_mib()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hills.ply"
        write_ply(path, *raster_mesh(raster))
        (vertices, faces), read_s = _timed(lambda: read_ply(path))
        mesh, build_s = _timed(lambda: build_mesh(vertices, faces))
        x, y = rng.uniform(0, extent_m, (2, _RAYS))
        rays_s = min(_timed(lambda: mesh.heights(x, y))[1] for _ in range(3))
        arrays = (mesh.xyz, mesh.triangles, mesh.starts, mesh.members)
        xy = rng.uniform(0.1 * extent_m, 0.9 * extent_m, (actors, 2))
        z = sample_heights(raster, *xy.T) + _SIZE_M[2] / 2
        boxes = geometry.poses_from_xyz_yaw(
            np.column_stack([xy, z]), rng.uniform(-np.pi, np.pi, actors)
        )
        ego = Trajectory(np.array([0, 1]), np.tile(boxes[0], (2, 1)))
        scene = Scene("hills", "bench", ego, ground=raster)
        grounds = {"flat": {}, "raster": {}, "mesh": {"path": str(path)}}
        ms = {name: _ms(name, given, scene, boxes, repeat) for name, given in grounds.items()}
    return {
        "mesh": {
            "triangles": len(faces),
            "read_s": round(read_s, 3),
            "build_s": round(build_s, 3),
            "arrays_mib": round(sum(a.nbytes for a in arrays) / 2**20, 1),
            "rays_per_s": round(_RAYS / rays_s),
        },
        "resident_mib": {"before": before_mib, "after": resident_mib()},
        "actors": actors,
        "ms_per_call": ms,
    }


def _hills(side: int) -> HeightRaster:
    along = np.arange(side) * CELL_M
    heights = np.sin(along / 40) + np.cos(along / 30)[:, None]
    return HeightRaster(heights, np.array([[1 / CELL_M, 0, 0], [0, 1 / CELL_M, 0]]))


def _ms(
    name: str, given: dict[str, str], scene: Scene, boxes: geometry.Array, repeat: int
) -> dict[str, float]:
    session = create("ground", name, given).open(
        SessionInfo("hills/0", scene, 0, scene.vehicle, 0, 0, 1)
    )
    out = {}
    for label, some in (("all_actors", boxes), ("one_box", boxes[:1])):
        sizes, times = np.tile(_SIZE_M, (len(some), 1)), np.zeros(len(some), dtype=np.int64)
        request = GroundRequest(some, sizes, times, 0, 1, is_ego=False)
        correct = functools.partial(session.correct, request)
        took_s = min(_timed(correct)[1] for _ in range(repeat))
        out[label] = round(1e3 * took_s, 4)
    return out


def _timed(action: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    out = action()
    return out, time.perf_counter() - start
