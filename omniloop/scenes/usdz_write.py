"""A scene as a USDZ archive that AlpaSim, NVIDIA's video model and Omniloop read.

Bytes depend only on the scene, on what is kept of another archive, and on the versions of this
package, pyarrow and the JPEG library (for first images that are PNG): members are stored, dated
1980-01-01, and in a fixed order.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import omniloop
from omniloop.core.cameras import Camera, default_camera
from omniloop.core.errors import SceneError
from omniloop.core.scene import FirstFrame, Scene
from omniloop.scenes.archive import BROKEN_ZIP, EPOCH, SceneArchive
from omniloop.scenes.build import safe_id
from omniloop.scenes.clipgt import clip_id_of
from omniloop.scenes.clipgt_write import tables_of
from omniloop.scenes.usdz_documents import MAX_JSON_BYTES, json_bytes, parse_json
from omniloop.scenes.usdz_ground import ground_mesh
from omniloop.scenes.usdz_layers import (
    FRAMES,
    GROUND,
    MAPS,
    PRIVATE,
    PROMPT,
    RIG,
    TABLES,
    TRACKS,
    exact_members,
    layers_of,
)
from omniloop.scenes.usdz_read import METADATA, check_jpeg, frame_folder, read_metadata
from omniloop.scenes.usdz_rig import read_rig, rig_document
from omniloop.scenes.usdz_tracks import read_tracks, tracks_document

_JPEG_QUALITY = 95
_PNG = b"\x89PNG"


@dataclass(frozen=True, eq=False)
class _Kept:
    """A member of another archive that is copied, `name` there."""

    archive: SceneArchive
    name: str


def write_usdz(
    scene: Scene, path: str | Path, *, exact: bool = True, keep_from: str | Path | None = None
) -> Path:
    """Write a scene as one ``.usdz`` file; readers never see half of it.

    Args:
        exact: Add the private members below ``omniloop/`` that carry the scene to the bit.
        keep_from: An archive whose other members (checkpoints, volumes, USD files, further images
            and tables) are copied, with the keys of its documents that are not written here.

    Raises:
        SceneError: the scene cannot be written so, `keep_from` cannot be read, or the file
            cannot be written.
    """
    target = Path(path)
    safe_id(scene.id, f"scene {scene.id}")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(SceneArchive(Path(keep_from))) if keep_from is not None else None
        members = _members(scene, exact, old)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                _write_zip(file, members)
            temporary.replace(target)
        except BROKEN_ZIP as error:
            raise SceneError(
                f"the archive cannot be written: {error}", where=str(target),
                remedy="give the path of a file, such as scenes/my_scene.usdz, in a writable folder with space left",
            ) from error  # fmt: skip
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    return target


def _members(scene: Scene, exact: bool, old: SceneArchive | None) -> dict[str, bytes | _Kept]:
    """Members by name, in the order of the archive."""
    if len(scene.ego) < 2:
        raise SceneError(
            f"the scene has {len(scene.ego)} ego poses", where=f"scene {scene.id}",
            remedy="give a recorded ego of at least two",
        )  # fmt: skip
    cameras = scene.cameras or (default_camera(),)
    frames = _frames(scene)
    rig = rig_document(scene, cameras)
    if old is not None and RIG in old:
        found = parse_json(old.read(RIG, MAX_JSON_BYTES), old.place(RIG))
        read_rig(found, old.place(RIG))  # refuses what cannot be merged
        rig = _merged_rig(rig, found, cameras)
    public: dict[str, bytes | _Kept] = {
        RIG: _json(rig, RIG, scene),
        TRACKS: _json(tracks_document(scene, _baked(old)), TRACKS, scene),
        GROUND: ground_mesh(scene.ground, scene.ego),
    }
    if scene.prompt.strip():
        public[PROMPT] = (scene.prompt.strip() + "\n").encode()
    tables = tables_of(scene, clip_id_of(scene.id))
    public |= {f"{TABLES}{name}.parquet": data for name, data in sorted(tables.items())}
    public |= {
        name: _as_jpeg(frame, f"scene {scene.id}, {name}")
        for name, frame in sorted(_public_frames(frames).items())
    }
    kept = _kept(public, old) if old is not None else {}
    sha256 = {name: _sha256(content) for name, content in (public | kept).items()
              if layers_of(name) or not isinstance(content, _Kept)}  # fmt: skip
    private = (
        exact_members(scene, frames, {n: s for n, s in sha256.items() if layers_of(n)})
        if exact
        else {}
    )
    sha256 |= {name: hashlib.sha256(data).hexdigest() for name, data in private.items()}
    metadata = _metadata(scene, cameras, sha256, read_metadata(old) if old is not None else {})
    return {METADATA: metadata} | public | dict(sorted(private.items())) | kept


def _baked(old: SceneArchive | None) -> set[str]:
    """Ids of the tracks that are static in another archive: its reconstruction has them."""
    if old is None or TRACKS not in old:
        return set()
    where = old.place(TRACKS)
    tracks = read_tracks(parse_json(old.read(TRACKS, MAX_JSON_BYTES), where), where)
    return {track.actor.id for track in tracks if track.actor.is_static}


def _json(document: Any, name: str, scene: Scene) -> bytes:
    try:
        data = json_bytes(document)
    except ValueError as error:
        raise SceneError(
            f"'{name}' cannot be written: {error}", where=f"scene {scene.id}",
            remedy="mend what is not finite: `omniloop scenes validate` says where it is",
        ) from error  # fmt: skip
    if len(data) > MAX_JSON_BYTES:
        raise SceneError(
            f"'{name}' would have {len(data)} bytes, and {MAX_JSON_BYTES} are read",
            where=f"scene {scene.id}", remedy="cut the scene into shorter ones",
        )  # fmt: skip
    return data


def _metadata(
    scene: Scene, cameras: tuple[Camera, ...], sha256: Mapping[str, str], old: dict[str, Any]
) -> bytes:
    import yaml

    content = hashlib.sha256(repr(sorted(sha256.items())).encode()).hexdigest()
    old_sensors = old.get("sensors")
    sensors = dict(old_sensors) if isinstance(old_sensors, Mapping) else {"lidar_ids": []}
    document = {
        "scene_id": scene.id,
        "version_string": f"omniloop-{omniloop.__version__}",
        "training_date": "1980-01-01",  # nothing was trained
        "dataset_hash": content,
        "uuid": "",
        "is_resumable": False,
        "sensors": {},
        "logger": {},
        "time_range": {},
    }
    document |= {key: value for key, value in old.items() if key != "scene_id"}
    document["dataset_hash"] = content
    document["uuid"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"omniloop:usdz:{scene.id}:{content}"))
    document["sensors"] = {"camera_ids": [c.id for c in cameras]} | {
        key: value for key, value in sensors.items() if key != "camera_ids"
    }
    document["time_range"] = {"start": scene.start_us, "end": scene.end_us}
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)).encode()


# ------------------------------------------------------------------------ first images


def _frames(scene: Scene) -> dict[str, FirstFrame]:
    """First images by the member that has each to the byte.

    Times of the layout are not negative: an image from before 0 is written as one at 0.
    """
    frames: dict[str, FirstFrame] = {}
    folders: dict[str, str] = {}
    for frame in scene.first_frames:
        folder = frame_folder(frame.camera_id)
        png = frame.image.startswith(_PNG)
        name = f"{FRAMES}{folder}/{max(int(frame.capture_us), 0)}.{'png' if png else 'jpeg'}"
        name = f"{PRIVATE}{name}" if png else name
        taken = folders.setdefault(folder, frame.camera_id) != frame.camera_id
        if taken or name in frames:
            raise SceneError(
                f"first frame of camera '{frame.camera_id}' at {frame.capture_us} us cannot be written: '{name}' is taken",
                where=f"scene {scene.id}", remedy="give at most one image per camera and instant",
            )  # fmt: skip
        frames[name] = frame
    return frames


def _public_frames(frames: Mapping[str, FirstFrame]) -> dict[str, FirstFrame]:
    return {
        name.removeprefix(PRIVATE).removesuffix(".png").removesuffix(".jpeg") + ".jpeg": frame
        for name, frame in frames.items()
    }


def _as_jpeg(frame: FirstFrame, where: str) -> bytes:
    """The image itself, or a PNG's pixels encoded again: AlpaSim takes JPEG alone."""
    if not frame.image.startswith(_PNG):
        check_jpeg(frame.image, where)
        return frame.image
    import cv2
    import numpy as np
    import simplejpeg

    pixels = cv2.imdecode(np.frombuffer(frame.image, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise SceneError("the PNG image is damaged", where=where, remedy="give a whole image")
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), _JPEG_QUALITY, "BGR"))


# --------------------------------------------------------------- what another archive has


def _kept(public: Mapping[str, Any], old: SceneArchive) -> dict[str, bytes | _Kept]:
    """Members of another archive that are not written anew, by their name here.

    Tables of ``map_data/``, which AlpaSim would prefer to the map that is written, move to
    ``clipgt/`` where that has no such table.
    """
    kept: dict[str, bytes | _Kept] = {}
    for name in sorted(old.names):
        if name == METADATA or name.startswith(PRIVATE) or name in public:
            continue
        moved = f"{TABLES}{name.removeprefix(MAPS[0])}" if name.startswith(MAPS[0]) else name
        if moved not in public and (moved == name or moved not in old):
            kept[moved] = _Kept(old, name)
    return kept


def _merged_rig(new: dict[str, Any], old: dict[str, Any], cameras: tuple[Camera, ...]) -> Any:
    """The new document with keys, transforms and recorded frames that only the old one has."""
    wanted = {camera.id for camera in cameras}
    calibrations = old.get("camera_calibrations")
    entries = calibrations if isinstance(calibrations, Mapping) else {}
    unique = {
        entry["logical_sensor_name"]: name
        for name, entry in entries.items()
        if isinstance(entry, Mapping) and entry.get("logical_sensor_name") in wanted
    }
    drives = old.get("rig_trajectories")
    old_drive = drives[0] if isinstance(drives, list) and len(drives) == 1 else {}
    drive = new["rig_trajectories"][0]
    old_frames = old_drive.get("cameras_frame_timestamps_us", {})
    names = {f"{camera.id}@{drive['sequence_id']}": camera.id for camera in cameras}

    def renamed(by_unique: Mapping[str, Any]) -> dict[str, Any]:
        return {unique.get(names[name], name): value for name, value in by_unique.items()}

    frames = renamed(drive["cameras_frame_timestamps_us"])
    same_drive = old_drive.get("T_rig_world_timestamps_us") == drive["T_rig_world_timestamps_us"]
    if same_drive:
        frames |= {name: old_frames[name] for name in frames if name in old_frames}
    transforms = {k: old[k] for k in ("world_to_nre", "T_world_base") if k in old}
    return {
        **new,
        **{key: value for key, value in old.items() if key not in new},
        **transforms,
        "lidar_calibrations": old.get("lidar_calibrations", {}),
        "camera_calibrations": {
            name: {**value, **entries.get(name, {})}
            for name, value in renamed(new["camera_calibrations"]).items()
        },
        "rig_trajectories": [
            {
                **(old_drive if same_drive else {}),
                **{key: value for key, value in drive.items() if key != "lidars_frame_timestamps_us"},
                "cameras_frame_timestamps_us": frames,
                "lidars_frame_timestamps_us": old_drive.get("lidars_frame_timestamps_us", {}),
            }
        ],
    }  # fmt: skip


def _sha256(content: bytes | _Kept) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    return content.archive.sha256(content.name)


def _write_zip(file: Any, members: Mapping[str, bytes | _Kept]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3  # else it differs between Windows and the rest
            info.external_attr = 0o644 << 16
            if isinstance(content, bytes):
                archive.writestr(info, content)
                continue
            info.file_size = content.archive.size_bytes(content.name)
            with archive.open(info, "w") as out:
                for block in content.archive.blocks(content.name):
                    out.write(block)
