"""A scene to the members of a native bundle and back, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote

import numpy as np
from pydantic import BaseModel, ValidationError

from omniloop.core.cameras import Camera, FThetaCamera, PinholeCamera
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Trajectory
from omniloop.core.scene import Actor, ActorClass, FirstFrame, HeightRaster, Scene, Track, Vehicle
from omniloop.scenes import native_schema as schema
from omniloop.scenes.build import safe_id
from omniloop.scenes.native_map import decode_map, encode_map
from omniloop.scenes.native_tables import (
    POSE_COLUMNS,
    narrowest_exact,
    pose_columns,
    read_table,
    stack,
    write_table,
)

_REWRITE = "write the bundle again from its source"

_DocT = TypeVar("_DocT", bound=BaseModel)

POSE_TYPES = {"time_us": "i", **dict.fromkeys(POSE_COLUMNS, "f")}


def encode_members(scene: Scene) -> dict[str, bytes]:
    """Return a bundle's members, name to bytes.

    Raises:
        SceneError: the scene holds something the schema refuses (an infinity, an array
            of the wrong shape, two first frames of one instant, an id that cannot be a
            folder name) or has no ego pose.
    """
    where = f"scene {scene.id}"
    safe_id(scene.id, where)
    if len(scene.ego) == 0:
        raise SceneError("the scene has no ego pose", where=where, remedy="give a recorded ego")
    frames = [
        schema.FirstFrameDoc(
            camera_id=f.camera_id, capture_us=int(f.capture_us), member=_frame_member(f)
        )
        for f in scene.first_frames
    ]
    members = {f.member: frame.image for f, frame in zip(frames, scene.first_frames, strict=True)}
    if len(members) < len(frames):
        raise SceneError(
            "two first frames have the same camera and capture time",
            where=where, remedy="give at most one image per camera and instant",
        )  # fmt: skip
    try:
        document = _scene_doc(scene, tuple(frames))
        map_doc, points = encode_map(scene.map, where)
    except ValidationError as error:
        raise _refused(error, where, "mend the scene or its reader") from error
    members["scene.json"] = _json_bytes(document)
    members["map.json"] = _json_bytes(map_doc)
    members["map_points.parquet"] = write_table(points)
    members["ego.parquet"] = write_table(
        {"time_us": scene.ego.times_us, **pose_columns(scene.ego.poses)}
    )
    members["tracks.parquet"] = write_table(_track_columns(scene.tracks))
    if scene.ground is not None:
        heights = np.asarray(scene.ground.heights_m, dtype=np.float64)
        members["ground.parquet"] = write_table({"height_m": narrowest_exact(heights.reshape(-1))})
    return members


def decode_members(members: Mapping[str, bytes], where: str) -> Scene:
    """Return the scene in a bundle's members.

    Args:
        members: Member name to bytes; members that the schema does not know are ignored.
        where: The bundle's name for errors.

    Raises:
        SceneError: a member is missing, of another type or another schema version, or
            holds impossible data.
    """
    document = read_scene_doc(_member(members, "scene.json", where), where)
    map_doc = _parse(schema.MapDoc, _member(members, "map.json", where), f"{where}, map.json")
    points = _member(members, "map_points.parquet", where)
    return Scene(
        id=safe_id(document.id, f"{where}, scene.json"),
        source=document.source,
        ego=_ego(_member(members, "ego.parquet", where), f"{where}, ego.parquet"),
        vehicle=Vehicle(**document.vehicle.model_dump()) if document.vehicle else Vehicle(),
        tracks=_tracks(
            _member(members, "tracks.parquet", where), document.actors, f"{where}, tracks.parquet"
        ),
        map=decode_map(map_doc, points, where),
        cameras=tuple(_camera(camera) for camera in document.cameras),
        first_frames=tuple(
            FirstFrame(f.camera_id, f.capture_us, _member(members, f.member, where))
            for f in document.first_frames
        ),
        prompt=document.prompt,
        ground=_ground(members, document.ground, where) if document.ground else None,
        dataset_to_local=np.array(document.dataset_to_local or np.eye(4), dtype=np.float64),
        may_run_on=document.may_run_on,
        tags=document.tags,
        edits=document.edits,
    )


def read_scene_doc(data: bytes, where: str) -> schema.SceneDoc:
    """Parse ``scene.json``.

    Raises:
        SceneError: it is not of this schema, of a newer version, or a key is wrong.
    """
    place = f"{where}, scene.json"
    try:
        head = json.loads(data)
    except ValueError as error:
        raise SceneError(f"not JSON: {error}", where=place, remedy=_REWRITE) from error
    name = head.get("schema") if isinstance(head, dict) else None
    if name != schema.SCHEMA:
        raise SceneError(
            f"schema is {name!r}, not '{schema.SCHEMA}'",
            where=place, remedy="give a native scene bundle, or read it with the source of its own format",
        )  # fmt: skip
    version = head.get("version")
    if type(version) is int and version > schema.VERSION:
        raise SceneError(
            f"schema version {version} is newer than {schema.VERSION}, the newest that is known here",
            where=place, remedy="upgrade omniloop, or write the bundle again with this version of it",
        )  # fmt: skip
    if type(version) is not int or version < 1:
        raise SceneError(
            f"schema version is {version!r}",
            where=place, remedy=f"give a whole number from 1 to {schema.VERSION}",
        )  # fmt: skip
    return _parse(schema.SceneDoc, data, place)


def _parse(kind: type[_DocT], data: bytes, where: str) -> _DocT:
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise _refused(error, where, "mend that key; the schema is in docs/scenes.md") from error


def _refused(error: ValidationError, where: str, remedy: str) -> SceneError:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "the document"
    return SceneError(
        f"{key}: {first['msg']}, not {first['input']!r:.80}", where=where, remedy=remedy
    )


def _json_bytes(document: BaseModel) -> bytes:
    """JSON with Python's shortest float texts, which read back to the same float64."""
    return (json.dumps(document.model_dump(by_alias=True)) + "\n").encode("ascii")


def _member(members: Mapping[str, bytes], name: str, where: str) -> bytes:
    if name not in members:
        raise SceneError(f"member '{name}' is missing", where=where, remedy=_REWRITE)
    return members[name]


def _frame_member(frame: FirstFrame) -> str:
    suffix = "png" if frame.image.startswith(b"\x89PNG") else "jpg"
    return f"frames/{quote(frame.camera_id, safe='')}/{int(frame.capture_us)}.{suffix}"


def _floats(values: Array) -> tuple[float, ...]:
    return tuple(np.asarray(values, dtype=np.float64).tolist())


def _rows(values: Array) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in np.asarray(values, dtype=np.float64).tolist())


def _optional_int(value: int | None) -> int | None:
    return None if value is None else int(value)


def _scene_doc(scene: Scene, frames: tuple[schema.FirstFrameDoc, ...]) -> schema.SceneDoc:
    ground = None
    if scene.ground is not None:
        rows, columns = scene.ground.heights_m.shape
        ground = {
            "rows": rows, "columns": columns, "local_xy_to_cell": _rows(scene.ground.local_xy_to_cell),
        }  # fmt: skip
    return schema.SceneDoc.model_validate(
        {
            "schema": schema.SCHEMA,
            "version": schema.VERSION,
            "id": scene.id,
            "source": scene.source,
            "vehicle": {
                k: float(getattr(scene.vehicle, k)) for k in schema.VehicleDoc.model_fields
            },
            "actors": tuple(_actor_doc(track.actor) for track in scene.tracks),
            "cameras": tuple(_camera_doc(camera) for camera in scene.cameras),
            "first_frames": frames,
            "prompt": scene.prompt,
            "ground": ground,
            "dataset_to_local": _rows(scene.dataset_to_local),
            "may_run_on": bool(scene.may_run_on),
            "tags": tuple(scene.tags),
            "edits": tuple(scene.edits),
        }
    )


def _actor_doc(actor: Actor) -> dict[str, object]:
    return {
        "id": actor.id, "actor_class": actor.actor_class.name, "label": actor.label,
        "size_m": _floats(actor.size_m), "is_static": bool(actor.is_static),
        "is_scripted": bool(actor.is_scripted),
    }  # fmt: skip


def _camera_doc(camera: Camera) -> dict[str, object]:
    model = camera.model
    fields: dict[str, object] = {
        "width": int(model.width), "height": int(model.height), "cx": float(model.cx),
        "cy": float(model.cy), "max_angle_rad": float(model.max_angle_rad),
    }  # fmt: skip
    if isinstance(model, PinholeCamera):
        fields |= {"kind": "pinhole", "fx": float(model.fx), "fy": float(model.fy)}
        names: tuple[str, ...] = ("radial", "tangential")
    else:
        fields |= {"kind": "ftheta"}
        names = ("angle_to_pixeldist", "pixeldist_to_angle", "linear_cde")
    fields |= {name: tuple(float(value) for value in getattr(model, name)) for name in names}
    return {
        "id": camera.id, "model": fields, "rig_to_camera": _floats(camera.rig_to_camera),
        "first_frame_end_us": _optional_int(camera.first_frame_end_us),
        "frame_interval_us": _optional_int(camera.frame_interval_us),
        "shutter_us": int(camera.shutter_us),
    }  # fmt: skip


def _camera(document: schema.CameraDoc) -> Camera:
    model_doc = document.model
    arguments = model_doc.model_dump(exclude={"kind"})
    model: PinholeCamera | FThetaCamera
    if isinstance(model_doc, schema.PinholeDoc):
        model = PinholeCamera(**arguments)
    else:
        model = FThetaCamera(**arguments)
    return Camera(
        document.id, model, np.array(document.rig_to_camera), document.first_frame_end_us,
        document.frame_interval_us, document.shutter_us,
    )  # fmt: skip


def _ego(data: bytes, where: str) -> Trajectory:
    columns = read_table(data, POSE_TYPES, where)
    if len(columns["time_us"]) == 0:
        raise SceneError("no ego pose", where=where, remedy="record ego for at least one instant")
    try:
        return Trajectory(columns["time_us"].astype(np.int64), stack(columns, POSE_COLUMNS))
    except ValueError as error:
        raise SceneError(
            f"the ego track cannot be used: {error}", where=where, remedy="mend the recording"
        ) from error


def _track_columns(tracks: tuple[Track, ...]) -> dict[str, np.ndarray]:
    counts = [len(track.times_us) for track in tracks]
    poses = np.concatenate([np.zeros((0, 7)), *(t.local_to_aabb for t in tracks)])
    return {
        "actor": np.repeat(np.arange(len(tracks), dtype=np.int32), counts),
        "time_us": np.concatenate([np.zeros(0, dtype=np.int64), *(t.times_us for t in tracks)]),
        "valid": np.concatenate([np.zeros(0, dtype=bool), *(t.valid for t in tracks)]),
        **pose_columns(poses),
    }


def _tracks(data: bytes, actors: tuple[schema.ActorDoc, ...], where: str) -> tuple[Track, ...]:
    columns = read_table(data, {"actor": "i", "valid": "b", **POSE_TYPES}, where)
    index = columns["actor"].astype(np.int64)
    if len(index) and (index.min() < 0 or index.max() >= len(actors) or (np.diff(index) < 0).any()):
        raise SceneError(
            f"actor numbers {index.min()}..{index.max()} are unsorted or outside the {len(actors)} actors of scene.json",
            where=where, remedy="sort the rows by actor, then time; number the actors from 0",
        )  # fmt: skip
    bounds = np.searchsorted(index, np.arange(len(actors) + 1))
    poses = stack(columns, POSE_COLUMNS)
    tracks = []
    for number, doc in enumerate(actors):
        rows = slice(bounds[number], bounds[number + 1])
        actor = Actor(
            doc.id,
            ActorClass[doc.actor_class],
            doc.label,
            np.array(doc.size_m),
            doc.is_static,
            doc.is_scripted,
        )
        try:
            tracks.append(
                Track(
                    actor,
                    columns["time_us"][rows].astype(np.int64),
                    poses[rows],
                    columns["valid"][rows].astype(bool),
                )
            )
        except SceneError as error:
            raise SceneError(
                error.what, where=f"{where}, {error.where}", remedy=error.remedy
            ) from error
    return tuple(tracks)


def _ground(members: Mapping[str, bytes], document: schema.GroundDoc, where: str) -> HeightRaster:
    place = f"{where}, ground.parquet"
    columns = read_table(_member(members, "ground.parquet", where), {"height_m": "f"}, place)
    heights = columns["height_m"].astype(np.float64)
    if len(heights) != document.rows * document.columns:
        raise SceneError(
            f"{len(heights)} heights do not fill {document.rows} x {document.columns} cells",
            where=place, remedy="mend ground.rows and ground.columns in scene.json",
        )  # fmt: skip
    return HeightRaster(
        heights.reshape(document.rows, document.columns), np.array(document.local_xy_to_cell)
    )
