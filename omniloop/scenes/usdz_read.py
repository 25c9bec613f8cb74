"""AlpaSim's members of a USDZ archive as the layers of a scene (alpasim.md 6.1)."""

from __future__ import annotations

import functools
from typing import Any
from urllib.parse import quote

from omniloop.core.cameras import Camera
from omniloop.core.errors import SceneError
from omniloop.core.scene import FirstFrame, HeightRaster, Scene, Track, VectorMap, Vehicle
from omniloop.scenes.archive import SceneArchive
from omniloop.scenes.build import damaged, member, safe_id
from omniloop.scenes.usdz_documents import MAX_JSON_BYTES, numbers, parse_json, parse_yaml
from omniloop.scenes.usdz_layers import (
    CALIBRATION,
    FASTMAP,
    FRAMES,
    GROUND,
    MAPS,
    MESH,
    PROMPT,
    RIG,
    TRACKS,
    XODR,
    layers_of,
)
from omniloop.scenes.usdz_rig import Rig, no_vehicle, read_rig, with_frame_times

METADATA = "metadata.yaml"
_MAX_METADATA_BYTES = 1 << 20
_MAX_TABLE_BYTES = 64 << 20
_MAX_MESH_BYTES = 256 << 20
_MAX_IMAGE_BYTES = 32 << 20
_MAX_PROMPT_BYTES = 64 << 10
_TABLE = ".parquet"
_LANES = ("lane", "dw_lane")


def read_metadata(archive: SceneArchive) -> dict[str, Any]:
    """Read ``metadata.yaml``.

    Raises:
        SceneError: it is missing, or no YAML mapping.
    """
    return parse_yaml(archive.read(METADATA, _MAX_METADATA_BYTES), archive.place(METADATA))


def scene_id_of(metadata: dict[str, Any], where: str) -> str:
    """The scene's id.

    Raises:
        SceneError: it is missing, or cannot be a folder name.
    """
    name = member(metadata, "scene_id", where)
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise damaged(f"'scene_id' is {name!r:.100}, not a text", where)
    return safe_id(str(name), where)


class PublicLayers:
    """Layers of an archive, each read when it is asked for.

    Args:
        vehicle: Ego's vehicle whatever the archive says; None takes it from there.
    """

    def __init__(self, archive: SceneArchive, vehicle: Vehicle | None) -> None:
        self._archive = archive
        self._vehicle = vehicle

    def layer(self, name: str) -> dict[str, Any]:
        """Fields of `Scene` that a layer of `LAYERS` fills.

        Raises:
            SceneError: a member is missing or wrong.
        """
        found: dict[str, Any] = getattr(self, f"_{name}")()
        return found

    @functools.cached_property
    def _rig(self) -> Rig:
        return read_rig(self._json(RIG), self._archive.place(RIG))

    def _json(self, name: str) -> dict[str, Any]:
        return parse_json(self._archive.read(name, MAX_JSON_BYTES), self._archive.place(name))

    def _ego(self) -> dict[str, Any]:
        vehicle = self._vehicle or self._rig.vehicle
        if vehicle is None:
            raise no_vehicle(self._archive.place(RIG))
        return {"ego": self._rig.ego, "vehicle": vehicle}

    def _tracks(self) -> dict[str, Any]:
        from omniloop.scenes.usdz_tracks import read_tracks

        tracks: tuple[Track, ...] = read_tracks(self._json(TRACKS), self._archive.place(TRACKS))
        return {"tracks": tracks}

    def _cameras(self) -> dict[str, Any]:
        """Models of ``rig_trajectories.json``, else of the calibration table."""
        from omniloop.scenes.clipgt_read import clip_of

        known: dict[str, Camera] = dict(self._rig.cameras)
        if CALIBRATION in self._archive:
            data = self._archive.read(CALIBRATION, _MAX_TABLE_BYTES)
            clip = clip_of("", {"calibration_estimate": data}, self._archive.place(CALIBRATION))
            for camera in clip.cameras:
                known.setdefault(camera.id, camera)
        frames = self._rig.frames_us
        order = [*(name for name in frames if name in known), *(n for n in known if n not in frames)]  # fmt: skip
        return {"cameras": tuple(with_frame_times(known[n], frames.get(n)) for n in order)}

    def _map(self) -> dict[str, Any]:
        """The first folder with lanes, else ``map.xodr``; no map where there is nothing of one."""
        from omniloop.scenes.clipgt import read_map_tables
        from omniloop.scenes.fastmap import on_ground

        without: list[str] = []
        for folder in MAPS:
            names = [
                name for name in self._archive.under(folder)
                if name.endswith(_TABLE) and "map" in layers_of(name)
            ]  # fmt: skip
            if not names:
                continue
            tables = {n.rpartition("/")[2].removesuffix(_TABLE).rpartition(".")[2] for n in names}
            if tables.isdisjoint(_LANES):
                without.append(folder)
                continue
            data = {name: self._archive.read(name, _MAX_TABLE_BYTES) for name in names}
            found = read_map_tables(data, self._archive.place(folder))[0]
            ground = self._ground()["ground"] if folder == FASTMAP else None
            return {"map": found if ground is None else on_ground(found, ground)}
        if XODR in self._archive:
            return {"map": self._xodr()}
        if without:
            raise SceneError(
                f"the map has no table 'lane': '{without[0]}lane{_TABLE}' is missing",
                where=self._archive.where, remedy="add the table, or remove the map's other tables",
            )  # fmt: skip
        return {"map": VectorMap()}

    def _xodr(self) -> VectorMap:
        """The OpenDRIVE map, put in its place by ``T_world_base`` (alpasim.md 6.1)."""
        from omniloop.scenes.xodr import xodr_to_map

        base = self._json(RIG).get("T_world_base")
        place = self._archive.place(RIG)
        matrix = None if base is None else numbers(base, (4, 4), "T_world_base", place)
        data = self._archive.read(XODR, _MAX_TABLE_BYTES)
        return xodr_to_map(data, matrix, self._archive.place(XODR))[0]

    def _ground(self) -> dict[str, Any]:
        from omniloop.scenes.usdz_ground import read_ground

        ground: HeightRaster | None = None
        for name in (GROUND, MESH):
            if name in self._archive:
                data = self._archive.read(name, _MAX_MESH_BYTES)
                ground = read_ground(data, self._rig.ego, self._archive.place(name))
                break
        return {"ground": ground}

    def _first_frames(self) -> dict[str, Any]:
        """The earliest image of each camera's folder."""
        folders: dict[str, dict[int, str]] = {}
        for name in self._archive.under(FRAMES):
            parts = name.split("/")
            stem, dot, ending = parts[-1].rpartition(".")
            if len(parts) != 3 or ending.lower() not in ("jpeg", "jpg"):
                continue
            if not (stem.isascii() and stem.isdigit() and dot):
                raise damaged("the file's name is no time in microseconds", self._archive.place(name))  # fmt: skip
            folders.setdefault(parts[1], {})[int(stem)] = name
        camera_of = {frame_folder(c.id): c.id for c in self._cameras()["cameras"]}
        frames = []
        for folder, images in folders.items():
            name = images[min(images)]
            image = self._archive.read(name, _MAX_IMAGE_BYTES)
            check_jpeg(image, self._archive.place(name))
            frames.append(FirstFrame(camera_of.get(folder, folder), min(images), image))
        return {"first_frames": tuple(frames)}

    def _prompt(self) -> dict[str, Any]:
        if PROMPT not in self._archive:
            return {"prompt": ""}
        try:
            text = self._archive.read(PROMPT, _MAX_PROMPT_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise damaged(f"is no UTF-8: {error}", self._archive.place(PROMPT)) from error
        return {"prompt": text.strip()}

    def scene(self, scene_id: str) -> Scene:
        """All layers as a scene.

        Raises:
            SceneError: a member is missing or wrong.
        """
        from omniloop.scenes.usdz_layers import LAYERS

        fields: dict[str, Any] = {}
        for name in LAYERS:
            fields |= self.layer(name)
        return Scene(id=scene_id, source="usdz", **fields)


def frame_folder(camera_id: str) -> str:
    """The folder below ``frames/`` with a camera's images."""
    return quote(camera_id.replace(":", "_"), safe=" ")


def check_jpeg(image: bytes, where: str) -> None:
    """Refuse what is no JPEG.

    Raises:
        SceneError: its header cannot be read.
    """
    import simplejpeg

    try:
        simplejpeg.decode_jpeg_header(image)
    except ValueError as error:
        raise damaged(f"is no JPEG image: {error}", where) from error
