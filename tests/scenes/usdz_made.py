"""USDZ archives made by hand, as another program writes them, for tests."""

from __future__ import annotations

import functools
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import yaml

from omniloop.core import geometry
from omniloop.core.cameras import Camera, FThetaCamera, PinholeCamera, optical_from_flu
from omniloop.core.motion import Trajectory
from omniloop.core.scene import (
    Actor,
    ActorClass,
    FirstFrame,
    HeightRaster,
    Lane,
    Polyline,
    Scene,
    Track,
    VectorMap,
    Vehicle,
)
from omniloop.scenes.clipgt_write import tables_of

FRONT = "camera_front_wide_120fov"
SEQUENCE = "clipgt-0000"
START_US = 1_600_000_000_000_000

CAMERA_POSE = optical_from_flu(geometry.pose(1.5, 0, 1.2))
JPEG = simplejpeg.encode_jpeg(np.full((8, 16, 3), 90, np.uint8), 90)


def tiny_scene() -> Scene:
    """A few members of everything, on a slope, with a gap, a still box and two cameras."""
    times = START_US + 100_000 * np.arange(40)
    poses = geometry.poses_from_xyz_yaw(
        np.column_stack([0.5 * np.arange(40), np.zeros(40), 0.01 * np.arange(40)]), np.zeros(40)
    )
    valid = np.ones(40, dtype=bool)
    valid[10:15] = False
    x = np.linspace(-5.0, 30.0, 8)

    def line(y: float) -> np.ndarray:
        return np.column_stack([x, np.full(8, y), 0.02 * x])

    cells = np.meshgrid(np.arange(0, 60) - 15, np.arange(0, 40) - 20)
    return Scene(
        id="tiny",
        source="made",
        ego=Trajectory(times, poses),
        vehicle=Vehicle(4.8, 1.9, 1.6, 1.4, 2.7),
        tracks=(
            Track(
                Actor("a", ActorClass.CAR, "REGULAR_VEHICLE", np.array([4.5, 1.8, 1.5])),
                times, geometry.compose(geometry.pose(12.0, 3.5, 0.75), poses), valid,
            ),
            Track(
                Actor("b", ActorClass.TRUCK, "truck", np.array([8.0, 2.5, 3.0]), is_static=True),
                times, np.tile([20.0, -6.0, 1.5, 0, 0, 0.6, 0.8], (40, 1)), np.ones(40, bool),
            ),
            Track(
                Actor("c", ActorClass.OTHER, "dog", np.array([1.0, 0.4, 0.6])),
                times[:1], geometry.pose(9.0, 2.0, 0.3)[None], np.ones(1, bool),
            ),
        ),
        map=VectorMap(
            lanes=(
                Lane("l", line(0.0), line(1.75), line(-1.75), successors=("m",)),
                Lane("m", line(0.0) + [35.0, 0, 0.7], predecessors=("l",), speed_limit_mps=9.0),
            ),
            road_boundaries=(Polyline("edge", line(4.0)),),
        ),
        cameras=(
            Camera(
                FRONT, FThetaCamera.equidistant(1280, 704, 2.0), optical_from_flu(geometry.pose(1.6, 0, 1.5)),
                first_frame_end_us=START_US + 40_000, frame_interval_us=33_333, shutter_us=12_000,
            ),
            Camera("rear", PinholeCamera(640, 480, 500.0, 500.0, 319.5, 239.5, (0.01,)), optical_from_flu(np.array([0.1, 0, 1.4, 0, 0, 1.0, 0]))),
        ),
        first_frames=(FirstFrame(FRONT, START_US + 40_000, JPEG),),
        prompt="a road",
        ground=HeightRaster(0.01 * cells[0] + 0.002 * cells[1], np.array([[1.0, 0, 15], [0, 1.0, 20]])),
        dataset_to_local=np.diag([1.0, 1.0, 1.0, 1.0]) + np.eye(4, k=3) * 7000.0,
        tags=("made",),
    )  # fmt: skip


@functools.cache
def _tables() -> dict[str, bytes]:
    return dict(tables_of(tiny_scene(), "0000"))


def documents() -> dict[str, Any]:
    """The three documents of a minimal archive."""
    times = [START_US + 100_000 * k for k in range(5)]
    poses = [[[1.0, 0, 0, 2.0 * k], [0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1]] for k in range(5)]
    unique = f"{FRONT}@{SEQUENCE}"
    return {
        "metadata.yaml": {
            "scene_id": SEQUENCE,
            "version_string": "25.7.9",
            "training_date": "2025-07-31",
            "sensors": {"camera_ids": [FRONT], "lidar_ids": ["lidar_top"]},
            "training_step_outputs": {"psnr": 32.0},
        },
        "rig_trajectories.json": {
            "world_to_nre": {"matrix": np.eye(4).tolist()},
            "T_world_base": np.eye(4).tolist(),
            "camera_calibrations": {
                unique: {
                    "logical_sensor_name": FRONT,
                    "T_sensor_rig": geometry.matrix_from_pose(CAMERA_POSE).tolist(),
                    "camera_model": {
                        "type": "ftheta",
                        "parameters": {
                            "resolution": [1920, 1080],
                            "principal_point": ["959.5", 539.5],
                            "pixeldist_to_angle_poly": [0.0, 0.001, 0, 0, 0, 0],
                            "angle_to_pixeldist_poly": [0.0, 1000.0, 0, 0, 0, 0],
                            "max_angle": 1.2,
                            "linear_cde": [1.0, 0.0, 0.0],
                        },
                    },
                }
            },
            "rig_trajectories": [
                {
                    "sequence_id": SEQUENCE,
                    "T_rig_world_timestamps_us": times,
                    "T_rig_worlds": poses,
                    "cameras_frame_timestamps_us": {
                        unique: [[t - 15_000, t + 1_000] for t in times]
                    },
                    "rig_bbox": {"centroid": [1.4, 0, 0.75], "dim": [5, 2, 1.5], "rot": [0, 0, 0]},
                }
            ],
        },
        "sequence_tracks.json": {
            SEQUENCE: {
                "tracks_data": {
                    "tracks_id": ["17", "18"],
                    "tracks_label_class": ["automobile", "person"],
                    "tracks_flags": ["DYNAMIC|CONTROLLABLE", []],
                    "tracks_timestamps_us": [times[:3], times],
                    "tracks_poses": [
                        [[9.0 + k, 3, 0.7, 0, 0, 0, 1] for k in range(3)],
                        [[4.0, 5, 0.9, 0, 0, 1, 0]] * 5,
                    ],
                },
                "cuboidtracks_data": {"cuboids_dims": [[4.5, 1.9, 1.4], [0.5, 0.6, 1.8]]},
            }
        },
    }


def members(changes: Mapping[str, Any] | None = None, *, drop: str = "") -> dict[str, bytes]:
    """Members of a minimal archive with clipgt tables, an image and a checkpoint.

    Args:
        changes: Members that replace these: bytes, or a document.
        drop: A member that is left out.
    """
    found: dict[str, Any] = documents()
    found |= {f"clipgt/{name}.parquet": data for name, data in _tables().items()}
    found |= {
        f"frames/{FRONT}/{START_US}.jpeg": JPEG,
        f"frames/{FRONT}/{START_US + 100_000}.jpeg": JPEG + b"later",
        "prompt.txt": b"rain\n",
        "checkpoint.ckpt": b"weights" * 1000,
        "default.usda": b"#usda 1.0\n",
    }
    found |= changes or {}
    found.pop(drop, None)
    return {
        name: value if isinstance(value, bytes)
        else yaml.safe_dump(value).encode() if name.endswith(".yaml")
        else json.dumps(value).encode()
        for name, value in found.items()
    }  # fmt: skip


def write_zip(path: Path, content: Mapping[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write members as a zip."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.getvalue())
    return path
