"""Setting boxes on the ground: a plane, a scene's raster of heights, a triangle mesh."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import GroundRequest, GroundResult, GroundStatus, SessionInfo
from omniloop.core.errors import ConfigError, SceneError, nearest
from omniloop.core.geometry import Array
from omniloop.core.scene import Scene
from omniloop.physics.plane_fit import Heights, Limits, set_on_ground
from omniloop.scenes.height_raster import sample_heights
from omniloop.scenes.mesh import TriangleMesh, load_mesh

_UPDATED = GroundStatus.SUCCESSFUL_UPDATE.value
_FRAMES = ("local", "dataset")
_WHO = ("ego", "actors")
_LEAST_COVERED = 0.5
_HIGHEST_M = 10_000.0
_ROTATION_TOLERANCE = 1e-6


class StatusCounts:
    """How often poses got each status, ego's and other actors'."""

    def __init__(self) -> None:
        self._counts = {who: np.zeros(len(GroundStatus), dtype=np.int64) for who in _WHO}

    def add(self, status: np.ndarray, is_ego: bool) -> None:
        """Count the statuses ``(N,)`` of a request."""
        counts = self._counts[_WHO[0] if is_ego else _WHO[1]]
        counts += np.bincount(status, minlength=len(counts))

    def add_updated(self, count: int, is_ego: bool) -> None:
        """Count boxes that were all set on the ground."""
        self._counts[_WHO[0] if is_ego else _WHO[1]][_UPDATED] += count

    def facts(self) -> dict[str, object]:
        """Counts by name of the status, those that occurred: ``{"ego": {...}, "actors": {...}}``."""
        return {
            who: {GroundStatus(i).name: int(n) for i, n in enumerate(counts) if n}
            for who, counts in self._counts.items()
        }


class _CountingSession:
    """A rollout's ground that counts what it did."""

    def __init__(self) -> None:
        self._counts = StatusCounts()

    def _result(self, request: GroundRequest, poses: Array, status: np.ndarray) -> GroundResult:
        self._counts.add(status, request.is_ego)
        return GroundResult(poses, status)

    def facts(self) -> dict[str, object]:
        """What the rollout's result says of its ground, see `StatusCounts.facts`."""
        return self._counts.facts()


class FlatGround:
    """A horizontal plane: boxes stand on it upright, at their own place and yaw.

    Args:
        height_m: The plane's height in `local`; None for the ego's first recorded one.
    """

    def __init__(self, height_m: float | None = None) -> None:
        number = isinstance(height_m, int | float) and not isinstance(height_m, bool)
        if height_m is not None and not (number and abs(height_m) <= _HIGHEST_M):
            raise ConfigError(
                f"height_m is {height_m!r}", where="ground.height_m",
                remedy=f"give a number from -{_HIGHEST_M:g} to {_HIGHEST_M:g}, or null",
            )  # fmt: skip
        self._height_m = height_m

    def open(self, session: SessionInfo) -> FlatSession:
        """Begin a rollout."""
        height = session.scene.ego.poses[0, 2] if self._height_m is None else self._height_m
        return FlatSession(float(height))


class FlatSession(_CountingSession):
    """One rollout's plane."""

    def __init__(self, height_m: float) -> None:
        super().__init__()
        self._height_m = height_m

    def correct(self, request: GroundRequest) -> GroundResult:
        """Set every box upright on the plane."""
        boxes = request.local_to_aabb
        out = geometry.poses_from_xyz_yaw(boxes[:, :3], geometry.yaw_rad(boxes))
        out[:, 2] = self._height_m + request.sizes_m[:, 2] / 2
        return self._result(request, out, _all_updated(len(out)))


class AsPlannedSession(_CountingSession):
    """A rollout without a ground: poses are returned as they came."""

    def correct(self, request: GroundRequest) -> GroundResult:
        """Return the request's own poses."""
        boxes = request.local_to_aabb
        self._counts.add_updated(len(boxes), request.is_ego)
        return GroundResult(boxes, _all_updated(len(boxes)))


class FittedSession(_CountingSession):
    """One rollout's ground of heights: boxes are set on planes fitted to them."""

    def __init__(self, heights: Heights, limits: Limits) -> None:
        super().__init__()
        self._heights = heights
        self._limits = limits

    def correct(self, request: GroundRequest) -> GroundResult:
        """Set every box on the plane fitted to the ground under it, see `set_on_ground`."""
        poses, status = set_on_ground(
            self._heights, request.local_to_aabb, request.sizes_m, self._limits
        )
        return self._result(request, poses, status)


class SceneGround:
    """The scene's raster of heights where it has one; else poses stay as they are.

    Args:
        max_shift_m: A pose that would rise or sink by more stays as it is.
        max_tilt_deg: Likewise one that would turn by more.
    """

    def __init__(self, max_shift_m: float = 1.5, max_tilt_deg: float = 10.0) -> None:
        self._limits = Limits(max_shift_m, max_tilt_deg)

    def open(self, session: SessionInfo) -> FittedSession | AsPlannedSession:
        """Begin a rollout."""
        raster = session.scene.ground
        if raster is None:
            return AsPlannedSession()

        def heights(x_m: Array, y_m: Array) -> Array:
            return sample_heights(raster, x_m, y_m)[..., None]

        return FittedSession(heights, self._limits)


class RasterGround(SceneGround):
    """The scene's raster of ground heights, which it must have."""

    def check_scene(self, scene: Scene) -> None:
        """Check that a scene has ground heights.

        Raises:
            SceneError: it has none.
        """
        if scene.ground is None:
            raise SceneError(
                "the scene has no raster of ground heights", where=f"scene {scene.id}, ground=raster",
                remedy="use ground=flat, or ground=scene, which leaves poses as planned",
            )  # fmt: skip

    def open(self, session: SessionInfo) -> FittedSession | AsPlannedSession:
        """Begin a rollout.

        Raises:
            SceneError: the scene has no ground heights.
        """
        self.check_scene(session.scene)
        return super().open(session)


class MeshGround:
    """A triangle mesh of the ground.

    Args:
        path: PLY file; ``{scene}`` in it stands for the scene's id.
        frame: The frame of its vertices: "local", or "dataset" for that of the recordings,
            from which each scene's `dataset_to_local` leads to its own.
        max_shift_m: A pose that would rise or sink by more stays as it is.
        max_tilt_deg: Likewise one that would turn by more.
    """

    def __init__(
        self,
        path: str,
        frame: str = "local",
        max_shift_m: float = 1.5,
        max_tilt_deg: float = 10.0,
    ) -> None:
        if not isinstance(path, str) or not path:
            raise ConfigError(
                f"path is {path!r}", where="ground.path", remedy="give the path of a PLY file"
            )
        if frame not in _FRAMES:
            raise ConfigError(
                f"unknown frame {frame!r}.{nearest(str(frame), _FRAMES)}", where="ground.frame",
                remedy=f"known: {', '.join(_FRAMES)}",
            )  # fmt: skip
        self._path = path
        self._frame = frame
        self._limits = Limits(max_shift_m, max_tilt_deg)

    def check_scene(self, scene: Scene) -> None:
        """Check that the scene's mesh can be read and lies where its ego drives.

        Raises:
            ConfigError: there is no such file.
            SceneError: it holds no mesh that can be used, or less than half of ego's recorded
                poses have some of it within `max_shift_m`: all scenes begin near their
                origin, so that the mesh of another may well lie under the first poses.
        """
        mesh, origin_m = self._placed(scene)
        ego_m = scene.ego.poses[:, :3]
        gaps_m = mesh.heights(*(ego_m[:, :2] - origin_m[:2]).T) + origin_m[2] - ego_m[:, 2:]
        near = (np.abs(gaps_m) <= self._limits.max_shift_m).any(axis=1)
        if near.mean() < _LEAST_COVERED:
            bounds_m = [at - mesh.origin_m + origin_m for at in mesh.bounds_m]
            raise SceneError(
                f"of {len(near)} recorded ego poses {near.sum()} are within {self._limits.max_shift_m:g} m of the mesh:"
                f" in `local` it spans {_span(*bounds_m)}, ego {_span(ego_m.min(axis=0), ego_m.max(axis=0))}",
                where=f"scene {scene.id}, ground.path={self._path_for(scene)}, ground.frame={self._frame}",
                remedy="check ground.frame, or give the mesh of this scene; {scene} in ground.path stands for its id",
            )  # fmt: skip

    def open(self, session: SessionInfo) -> FittedSession:
        """Begin a rollout.

        Raises:
            ConfigError: there is no such file.
            SceneError: it holds no mesh that can be used.
        """
        mesh, (east_m, north_m, up_m) = self._placed(session.scene)

        def heights(x_m: Array, y_m: Array) -> Array:
            out: Array = mesh.heights(x_m - east_m, y_m - north_m) + up_m
            return out

        return FittedSession(heights, self._limits)

    def _path_for(self, scene: Scene) -> Path:
        return Path(self._path.replace("{scene}", scene.id))

    def _placed(self, scene: Scene) -> tuple[TriangleMesh, Array]:
        """The mesh in axes parallel to the scene's `local`, and its origin there ``(3,)``.

        Raises:
            ConfigError: there is no such file.
            SceneError: it holds no mesh that can be used, or the scene's place in its
                dataset is no pose.
        """
        path = self._path_for(scene)
        dataset_to_local = scene.dataset_to_local if self._frame == "dataset" else np.eye(4)
        turn = dataset_to_local[:3, :3].T
        if not np.allclose(turn @ turn.T, np.eye(3), atol=_ROTATION_TOLERANCE):
            raise SceneError(
                f"dataset_to_local is no pose: {dataset_to_local.tolist()}",
                where=f"scene {scene.id}, ground.frame=dataset", remedy="mend the scene, or use ground.frame=local",
            )  # fmt: skip
        try:
            mesh = load_mesh(path, turn)
        except OSError as error:
            raise ConfigError(
                f"the mesh cannot be read: {error.strerror or error}", where=f"ground.path={path}",
                remedy="give the path of a PLY file",
            ) from error  # fmt: skip
        return mesh, mesh.origin_m - turn @ dataset_to_local[:3, 3]


def _span(low_m: Array, high_m: Array) -> str:
    return ", ".join(
        f"{axis} {a:.1f} to {b:.1f}" for axis, a, b in zip("xyz", low_m, high_m, strict=True)
    )


def _all_updated(n: int) -> np.ndarray:
    return np.full(n, _UPDATED)
