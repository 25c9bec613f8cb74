"""Layers of a USDZ archive: which members carry what, and what they cannot carry exactly.

AlpaSim's members lose some of a scene (`docs/scenes.md` lists it). The private members
``omniloop/`` hold the scene to the bit, and the SHA-256 of every member that they stand
for. A layer whose members are all as they were written is taken from there; a layer of
which a member was changed, added or removed is read from AlpaSim's members. So neither program can
follow an outdated copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from omniloop.core.errors import SceneError
from omniloop.core.scene import FirstFrame, Scene
from omniloop.scenes.archive import SceneArchive
from omniloop.scenes.build import damaged, member
from omniloop.scenes.native_codec import decode_members, encode_members
from omniloop.scenes.usdz_documents import MAX_JSON_BYTES, items, json_bytes, mapping, parse_json

SCHEMA = "omniloop-usdz"
VERSION = 1

RIG = "rig_trajectories.json"
TRACKS = "sequence_tracks.json"
GROUND = "mesh_ground.ply"
MESH = "mesh.ply"
PROMPT = "prompt.txt"
XODR = "map.xodr"
FRAMES = "frames/"
TABLES = "clipgt/"
CALIBRATION = f"{TABLES}calibration_estimate.parquet"
FASTMAP = "fastmap/"
MAPS = ("map_data/", TABLES, FASTMAP)
"""Folders of map tables in the order in which AlpaSim tries them (alpasim.md 6.1)."""

PRIVATE = "omniloop/"
LIST = f"{PRIVATE}layers.json"
_MAX_MEMBER_BYTES = 256 << 20
_NO_MAP = ("calibration_estimate", "egomotion_estimate", "obstacle", "clip")
"""Tables of a map's folder that are of another layer, or of none."""

LAYERS = ("ego", "cameras", "tracks", "map", "ground", "first_frames", "prompt")


def layers_of(name: str) -> tuple[str, ...]:
    """The layers that a member belongs to; none for those that are not read."""
    if name == RIG:
        return ("ego", "cameras")
    if name == CALIBRATION:
        return ("cameras",)
    if name.startswith(MAPS):
        table = name.rpartition("/")[2].removesuffix(".parquet").rpartition(".")[2]
        return () if table in _NO_MAP else ("map",)
    if name.startswith(FRAMES):
        return ("first_frames",)
    whole = {TRACKS: "tracks", XODR: "map", GROUND: "ground", MESH: "ground", PROMPT: "prompt"}
    return (whole[name],) if name in whole else ()


@dataclass(frozen=True, eq=False)
class Exact:
    """What the private members hold.

    Attributes:
        scene: The scene as it was written.
        unchanged: Layers whose members are as they were written.
    """

    scene: Scene
    unchanged: frozenset[str]


def exact_members(
    scene: Scene, frames: Mapping[str, FirstFrame], public: Mapping[str, str]
) -> dict[str, bytes]:
    """The private members.

    Args:
        frames: The scene's first images by the member that has each to the byte.
        public: The SHA-256 of every other member that belongs to a layer.
    """
    native = encode_members(replace(scene, first_frames=()))
    members = {f"{PRIVATE}{name}": data for name, data in native.items()}
    members |= {name: f.image for name, f in frames.items() if name.startswith(PRIVATE)}
    document = {
        "schema": SCHEMA,
        "version": VERSION,
        "public": dict(sorted(public.items())),
        "private": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(members.items())},
        "first_frames": [
            {"camera_id": f.camera_id, "capture_us": int(f.capture_us), "member": name}
            for name, f in frames.items()
        ],
    }  # fmt: skip
    return members | {LIST: json_bytes(document)}


def read_exact(archive: SceneArchive) -> Exact | None:
    """Read the private members; None if the archive has none.

    Raises:
        SceneError: they are damaged, were changed, or are of a newer version.
    """
    if LIST not in archive:
        return None
    where = archive.place(LIST)
    document = parse_json(archive.read(LIST, MAX_JSON_BYTES), where)
    version = document.get("version")
    if document.get("schema") != SCHEMA or type(version) is not int or version != VERSION:
        raise SceneError(
            f"its schema is {document.get('schema')!r}, version {version!r}, not '{SCHEMA}', version {VERSION}",
            where=where, remedy="upgrade omniloop, or give scenes.exact=false to read AlpaSim's members alone",
        )  # fmt: skip
    members: dict[str, bytes] = {}
    for name, sha256 in mapping(document, "private", where).items():
        members[name] = archive.read(name, _MAX_MEMBER_BYTES)
        if hashlib.sha256(members[name]).hexdigest() != sha256:
            raise SceneError(
                "the member was changed after the archive was written", where=archive.place(name),
                remedy=f"edit AlpaSim's members instead, or remove all below {PRIVATE}",
            )  # fmt: skip
    unchanged = _unchanged(archive, mapping(document, "public", where))
    native = {name.removeprefix(PRIVATE): data for name, data in members.items()}
    scene = decode_members(native, f"{archive.where}, {PRIVATE}")
    if "first_frames" in unchanged:
        entries = items(member(document, "first_frames", where), None, "'first_frames'", where)
        frames = tuple(_frame(entry, members, archive, where) for entry in entries)
        scene = replace(scene, first_frames=frames)
    return Exact(scene, unchanged)


def _unchanged(archive: SceneArchive, written: Mapping[str, Any]) -> frozenset[str]:
    changed: set[str] = set()
    there = [name for name in archive.names if layers_of(name)]
    for name in [*written, *(name for name in there if name not in written)]:
        layers = layers_of(name)
        if changed.issuperset(layers):
            continue
        same = name in archive and name in written and archive.sha256(name) == written[name]
        changed.update(() if same else layers)
    return frozenset(LAYERS) - changed


def _frame(
    entry: Any, private: Mapping[str, bytes], archive: SceneArchive, where: str
) -> FirstFrame:
    name = member(entry, "member", where)
    camera, capture = member(entry, "camera_id", where), member(entry, "capture_us", where)
    if not (isinstance(name, str) and isinstance(camera, str) and type(capture) is int):
        raise damaged(f"first frame {entry!r:.100} is none", where)
    image = private[name] if name in private else archive.read(name, _MAX_MEMBER_BYTES)
    return FirstFrame(camera, capture, image)
