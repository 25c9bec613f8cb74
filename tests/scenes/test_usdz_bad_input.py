"""Hostile and broken USDZ archives: refused by name, nothing written, memory bounded."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import struct
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omniloop.core.errors import SceneError
from omniloop.core.scene import Polyline
from omniloop.scenes.archive import SceneArchive
from omniloop.scenes.clipgt_write import tables_of
from omniloop.scenes.native import scene_to_bytes
from omniloop.scenes.usdz import UsdzScenes, read_usdz
from omniloop.scenes.usdz_write import write_usdz
from omniloop.scenes.validate import validate_scene
from tests.memory import traced_peak
from tests.scenes.usdz_made import FRONT, SEQUENCE, documents, members, tiny_scene, write_zip

META, RIG, TRACKS = "metadata.yaml", "rig_trajectories.json", "sequence_tracks.json"
UNIQUE = f"{FRONT}@{SEQUENCE}"


def refused(path: Path, *parts: str) -> None:
    """The archive is refused by an error that names the file and all parts, with a remedy."""
    with pytest.raises(SceneError) as caught:
        read_usdz(path)
    error = caught.value
    assert str(path) in error.where
    assert error.remedy
    for part in parts:
        assert part in f"{error.what} | {error.where}", str(error)


def archive(tmp_path: Path, changes: dict[str, Any] | None = None, *, drop: str = "") -> Path:
    return write_zip(tmp_path / "a.usdz", members(changes, drop=drop))


def with_member(tmp_path: Path, info: zipfile.ZipInfo | str, data: bytes = b"x") -> Path:
    path = archive(tmp_path)
    with zipfile.ZipFile(path, "a") as found:
        found.writestr(info, data)
    return path


# ------------------------------------------------------------------------------- the zip


@pytest.mark.parametrize(
    "name",
    ["../out.txt", "frames/../../out.txt", "/etc/passwd", "C:/out.txt", "c:out.txt",
     "..\\out.txt", "\\out.txt", "frames\\a.jpeg"],
)  # fmt: skip
def test_names_that_lead_out_are_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    path = with_member(tmp_path / "in", name)
    refused(path, repr(name))
    with pytest.raises(SceneError):
        write_usdz(tiny_scene(), tmp_path / "in" / "b.usdz", keep_from=path)
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "a.usdz"]


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("clipgt/link.parquet")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(with_member(tmp_path, info, b"/etc/passwd"), "clipgt/link.parquet", "symbolic link")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    refused(with_member(tmp_path, TRACKS, b"{}"), TRACKS, "twice")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as found:
        offset = found.getinfo(RIG).header_offset
    data[offset + 6] |= 1
    at = data.index(b"PK\x01\x02")
    while data[at + 46 : at + 46 + len(RIG)] != RIG.encode():
        at = data.index(b"PK\x01\x02", at + 1)
    data[at + 8] |= 1
    path.write_bytes(bytes(data))
    refused(path, RIG, "encrypted")


@pytest.mark.parametrize("name", [META, RIG, TRACKS])
def test_a_missing_member_is_named(tmp_path: Path, name: str) -> None:
    refused(archive(tmp_path, drop=name), f"'{name}' is missing")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.999])
def test_a_truncated_archive_is_refused(tmp_path: Path, share: float) -> None:
    path = archive(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(path, "zip")


def test_a_bomb_is_refused_while_it_unpacks(tmp_path: Path) -> None:
    path = archive(tmp_path, {TRACKS: b"{" + b" " * (32 << 20)})
    assert path.stat().st_size < 1 << 20
    with traced_peak() as peak:
        refused(path, TRACKS, "unpack")
    assert peak.size < 16 << 20


def claiming(path: Path, name: str, size: int) -> Path:
    """The archive with another size of a member in the list of members."""
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    while data[at + 46 : at + 46 + len(name)] != name.encode():
        at = data.index(b"PK\x01\x02", at + 1)
    data[at + 24 : at + 28] = struct.pack("<L", size)
    path.write_bytes(bytes(data))
    return path


def test_a_member_that_says_it_is_huge_is_refused_before_it_is_read(tmp_path: Path) -> None:
    refused(claiming(archive(tmp_path), RIG, (4 << 30) - 2), RIG, "4294967294 bytes")


def test_a_member_larger_than_it_says_is_refused(tmp_path: Path) -> None:
    refused(claiming(archive(tmp_path), RIG, 100), RIG, "CRC")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.usdz")
    found: list[str] = []

    def listing() -> None:
        try:
            UsdzScenes(str(tmp_path)).ids()
        except SceneError as error:
            found.append(error.what)

    thread = threading.Thread(target=listing, daemon=True)
    thread.start()
    thread.join(120)  # a read of it would wait for ever
    assert found == ["not a readable zip: it is no regular file"]


def test_a_small_table_with_millions_of_points_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 3_000_000
    monkeypatch.setattr("omniloop.scenes.parquet_size.MAX_VALUES", count - 1)
    points = pa.ListArray.from_arrays(
        pa.array([0, count], pa.int32()), pa.array(np.zeros(count, np.int8))
    )
    lane = pa.StructArray.from_arrays([points], names=["left_rail"])
    sink = io.BytesIO()
    pq.write_table(pa.table({"key": lane, "lane": lane}), sink)
    assert len(sink.getvalue()) < 10_000
    refused(archive(tmp_path, {"clipgt/lane.parquet": sink.getvalue()}), "lane", "values")


def test_a_checkpoint_of_10_gb_is_never_read(tmp_path: Path) -> None:
    """A sparse file: its bytes would fill the disk, and reading them would take a minute."""
    path = tmp_path / "a.usdz"
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as found:
        for name, data in members(drop="checkpoint.ckpt").items():
            found.writestr(name, data)
        info = zipfile.ZipInfo("checkpoint.ckpt")
        info.file_size = info.compress_size = 10 << 30
        info.header_offset, info.CRC = file.tell(), 0
        file.write(info.FileHeader(True))
        file.seek(10 << 30, 1)
        found.filelist.append(info)
        found.NameToInfo[info.filename] = info
        found.start_dir = file.tell()
        found._didModify = True
    assert path.stat().st_size > 10 << 30
    with traced_peak() as peak:
        assert UsdzScenes(str(path)).load(SEQUENCE).id == SEQUENCE
    assert peak.size < 64 << 20


def test_a_list_of_members_without_end_is_refused_before_it_is_read(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as found:
        found.writestr(META, b"scene_id: a\n")
    data = bytearray(out.getvalue())
    at = data.rindex(b"PK\x05\x06")
    data[at + 12 : at + 16] = struct.pack("<L", 200 << 20)
    path = tmp_path / "a.usdz"
    path.write_bytes(bytes(data))
    refused(path, "list of members", str(200 << 20))


def test_a_folder_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.usdz").mkdir()
    refused(tmp_path / "d.usdz", "zip")
    (tmp_path / "t.usdz").write_text("scene")
    refused(tmp_path / "t.usdz", "zip")


def test_any_changed_byte_gives_the_same_scene_or_a_named_error(tmp_path: Path) -> None:
    path = write_usdz(tiny_scene(), tmp_path / "a.usdz")
    data, whole = path.read_bytes(), scene_to_bytes(tiny_scene())
    draw = np.random.default_rng(0)
    for place in draw.integers(0, len(data), 80).tolist():
        broken = bytearray(data)
        broken[place] ^= int(draw.integers(1, 256))
        path.write_bytes(bytes(broken))
        with contextlib.suppress(SceneError):
            scene = read_usdz(path)  # a changed name of a member changes its layer
            assert scene_to_bytes(scene) == whole or scene.edits, place


# ------------------------------------------------------------------------- the documents


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "not an object"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": "\xff"}', "utf-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
    ],
)
@pytest.mark.parametrize("name", [RIG, TRACKS])
def test_json_that_cannot_be_used_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:  # fmt: skip
    refused(archive(tmp_path, {name: data}), name, message)


BOMB = b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (k, k, k - 1, k - 1) for k in range(98, 120))  # fmt: skip


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"scene_id: [", "not YAML"),
        (b"- a\n", "not a mapping"),
        (b"scene_id: a\n" + BOMB, "anchor"),
        (b"scene_id: !!python/object/apply:os.system [ls]\n", "not YAML"),
        (b"scene_id: " + b"[" * 20_000, "brackets"),
        (b"scene_id: " + b"[" * 150, "nested"),
        (b"- " * 20_000, "nested"),
        (b"scene_id: \xff\n", "utf-8"),
        (b"x: " + b"a" * 100_000, "bytes"),
        (b"name: a\n", "'scene_id'"),
        (b"scene_id: ../a\n", "folder name"),
        (b"scene_id: null\n", "scene_id"),
    ],
)
def test_metadata_that_cannot_be_used_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = archive(tmp_path, {META: data})
    refused(path, META, message)
    with pytest.raises(SceneError):
        UsdzScenes(str(path)).ids()


RigChange = Callable[[Any, Any], Any]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda r, d: r.pop("rig_trajectories"), ("rig_trajectories",)),
        (lambda r, d: r.pop("camera_calibrations"), ("camera_calibrations",)),
        (lambda r, d: r["rig_trajectories"].append(d), ("2 entries",)),
        (lambda r, d: r["rig_trajectories"].clear(), ("0 entries",)),
        (lambda r, d: d.pop("T_rig_worlds"), ("T_rig_worlds",)),
        (lambda r, d: d.pop("cameras_frame_timestamps_us"), ("cameras_frame_timestamps_us",)),
        (lambda r, d: d["T_rig_worlds"].pop(), ("T_rig_worlds 4 poses",)),
        (lambda r, d: d["T_rig_worlds"][2][0].__setitem__(3, None), ("T_rig_worlds",)),
        (lambda r, d: d["T_rig_worlds"][2][0].__setitem__(3, "nan"), ("T_rig_worlds", "nan")),
        (lambda r, d: d["T_rig_worlds"][2][0].__setitem__(3, 10**400), ("T_rig_worlds",)),
        (lambda r, d: d["T_rig_worlds"][2][0].__setitem__(0, 2.0), ("index 2", "no rotation")),
        (lambda r, d: d["T_rig_worlds"][2][0].__setitem__(0, 1e300), ("T_rig_worlds", "1e+300")),
        (lambda r, d: d["T_rig_worlds"][2][1].__setitem__(1, -1.0), ("index 2", "no rotation")),
        (lambda r, d: d["T_rig_worlds"][0][1].__setitem__(3, 5e5), ("500000 m", "origin")),
        (lambda r, d: d["T_rig_world_timestamps_us"].__setitem__(3, 5), ("time 5 us at index 3",)),
        (lambda r, d: d["T_rig_world_timestamps_us"].__setitem__(3, 1.5), ("1.5 is no whole",)),
        (lambda r, d: d["T_rig_world_timestamps_us"].__setitem__(3, True), ("True",)),
        (lambda r, d: d["T_rig_world_timestamps_us"].__setitem__(3, 1 << 70), ("whole number",)),
        (lambda r, d: d["T_rig_world_timestamps_us"].__setitem__(3, "x"), ("T_rig_world_timestamps_us",)),
        (lambda r, d: d["rig_bbox"].update(rot=[0, 0, 1.5]), ("rig_bbox", "rot is")),
        (lambda r, d: d["rig_bbox"].update(dim=[5, 0, 1]), ("rig_bbox", "dim is")),
        (lambda r, d: d["rig_bbox"].update(centroid=[1, 1, 0.75]), ("rig_bbox", "centroid is")),
        (lambda r, d: d["rig_bbox"].pop("dim"), ("rig_bbox", "'dim'")),
        (lambda r, d: d.update(cameras_frame_timestamps_us={"other": []}), ("'other'",)),
        (lambda r, d: d["cameras_frame_timestamps_us"][UNIQUE].__setitem__(1, [7, 7]), (UNIQUE, "frame 1 ends at 7")),
        (lambda r, d: d["cameras_frame_timestamps_us"][UNIQUE].__setitem__(1, [7, 8]), (UNIQUE, "time 8 us")),
        (lambda r, d: d["cameras_frame_timestamps_us"].update({UNIQUE: [1, 2]}), (UNIQUE, "(N, 2)")),
        (lambda r, d: d["cameras_frame_timestamps_us"].update({UNIQUE: [[1, 2], [3]]}), (UNIQUE,)),
        (lambda r, d: r["camera_calibrations"][UNIQUE].pop("logical_sensor_name"), (UNIQUE, "logical_sensor_name")),
        (lambda r, d: r["camera_calibrations"].update({"b": r["camera_calibrations"][UNIQUE]}), ("two cameras", FRONT)),
        (lambda r, d: r["camera_calibrations"][UNIQUE].update(T_sensor_rig=[[1]]), (UNIQUE, "T_sensor_rig")),
        (lambda r, d: r["camera_calibrations"][UNIQUE]["camera_model"].pop("parameters"), (UNIQUE, "parameters")),
        (lambda r, d: r["camera_calibrations"][UNIQUE]["camera_model"]["parameters"].update(resolution=[0, 5]), (UNIQUE, "0.0 x 5.0")),
        (lambda r, d: r["camera_calibrations"][UNIQUE]["camera_model"]["parameters"].update(max_angle="wide"), (UNIQUE, "max_angle")),
    ],
)  # fmt: skip
def test_a_wrong_rig_is_named_with_its_key(tmp_path: Path, change: RigChange, parts: tuple[str, ...]) -> None:  # fmt: skip
    found = documents()[RIG]
    change(found, found["rig_trajectories"][0])
    refused(archive(tmp_path, {RIG: found}), RIG, *parts)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda s, t: s.update(other={}), ("2 sequences",)),
        (lambda s, t: s.clear(), ("0 sequences",)),
        (lambda s, t: s[SEQUENCE].pop("tracks_data"), ("tracks_data",)),
        (lambda s, t: s[SEQUENCE].pop("cuboidtracks_data"), ("cuboidtracks_data",)),
        (lambda s, t: t.pop("tracks_flags"), ("tracks_flags",)),
        (lambda s, t: t["tracks_label_class"].pop(), ("tracks_label_class", "1 entries")),
        (lambda s, t: t.update(tracks_id="17"), ("tracks_id",)),
        (lambda s, t: t["tracks_id"].__setitem__(1, "17"), ("two tracks", "'17'")),
        (lambda s, t: t["tracks_id"].__setitem__(1, None), ("track None",)),
        (lambda s, t: t["tracks_flags"].__setitem__(1, 6), ("track 18", "flag 6")),
        (lambda s, t: t["tracks_timestamps_us"][0].__setitem__(2, 3), ("track 17", "time 3 us")),
        (lambda s, t: t["tracks_timestamps_us"][0].pop(), ("track 17", "3 poses")),
        (lambda s, t: t["tracks_poses"][0][1].pop(), ("track 17", "tracks_poses")),
        (lambda s, t: t["tracks_poses"][0][1].__setitem__(6, 0.5), ("track 17", "not a unit")),
        (lambda s, t: t["tracks_poses"][0][1].__setitem__(0, 1e300), ("track 17", "1e+300")),
        (lambda s, t: t["tracks_poses"][0][1].__setitem__(0, "inf"), ("track 17", "inf")),
        (lambda s, t: s[SEQUENCE]["cuboidtracks_data"]["cuboids_dims"][0].__setitem__(1, 0), ("track 17", "size")),
    ],
)  # fmt: skip
def test_wrong_tracks_are_named_with_their_key(tmp_path: Path, change: RigChange, parts: tuple[str, ...]) -> None:  # fmt: skip
    found = documents()[TRACKS]
    change(found, found[SEQUENCE]["tracks_data"])
    refused(archive(tmp_path, {TRACKS: found}), TRACKS, *parts)


# ---------------------------------------------------------------------- the other members


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (f"frames/{FRONT}/0.jpeg", b"GIF89a", "no JPEG"),
        (f"frames/{FRONT}/now.jpeg", b"", "no time in microseconds"),
        ("mesh_ground.ply", b"ply\n", "header has no end"),
        ("mesh_ground.ply", b"solid", "no PLY"),
        ("clipgt/lane.parquet", b"PAR1", "parquet"),
        ("clipgt/calibration_estimate.parquet", b"PAR1", "parquet"),
        ("prompt.txt", b"\xff\xfe", "UTF-8"),
        ("prompt.txt", b"a" * 100_000, "bytes"),
        ("map_data/road_boundary.parquet", b"PAR1", ""),
    ],
)
def test_a_wrong_member_is_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = archive(tmp_path, {name: data})
    if message:
        refused(path, name.rpartition("/")[0], message)
    else:  # no lanes there: the next folder is taken
        assert len(read_usdz(path).map.lanes) == 2


def test_map_tables_without_lanes_are_refused(tmp_path: Path) -> None:
    refused(archive(tmp_path, drop="clipgt/lane.parquet"), "'clipgt/lane.parquet' is missing")


def test_an_archive_is_closed_and_its_total_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("omniloop.scenes.archive._MAX_TOTAL_BYTES", 1000)
    path = archive(tmp_path, {RIG: json.dumps(documents()[RIG]).encode()})
    with SceneArchive(path) as found, pytest.raises(SceneError, match="may be read"):
        found.read(RIG, 1 << 20)


def test_a_damaged_archive_of_several_is_listed_by_its_name(tmp_path: Path) -> None:
    archive(tmp_path)
    (tmp_path / "b.usdz").write_bytes(b"PK")
    source = UsdzScenes(str(tmp_path))
    good = next(name for name in source.ids() if name != "b.usdz")
    assert source.load(good).id == good
    with pytest.raises(SceneError, match="not a readable zip") as caught:
        source.load("b.usdz")
    assert caught.value.where == str(tmp_path / "b.usdz")


def test_what_a_made_document_may_still_hold_is_named(tmp_path: Path) -> None:
    def rig(change: Callable[[dict[str, Any]], None]) -> Path:
        made = documents()[RIG]
        change(made)
        return archive(tmp_path, {RIG: made})

    def calibration(made: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = made["camera_calibrations"][UNIQUE]
        return found

    refused(
        rig(lambda made: calibration(made)["camera_model"]["parameters"].update(max_angle=[])),
        "max_angle", "has shape (0,)",
    )  # fmt: skip
    refused(
        rig(lambda made: calibration(made).update(logical_sensor_name="\ud800x")),
        "\\ud800, half of a character",
    )
    whole = rig(lambda made: calibration(made).update(logical_sensor_name="\U0001f697"))
    assert read_usdz(whole).cameras[0].id == "\U0001f697"


def test_points_out_of_this_world_are_refused(tmp_path: Path) -> None:
    scene = tiny_scene()
    edge = Polyline("edge", scene.map.road_boundaries[0].points * 1e12)
    far = replace(scene, map=replace(scene.map, road_boundaries=(edge,)))
    table = tables_of(far, "0000")["road_boundary"]
    refused(
        archive(tmp_path, {"clipgt/road_boundary.parquet": table}), "clipgt", "and 1e+09 may be"
    )


def test_a_recording_of_years_is_an_error_that_validation_finds_at_once(tmp_path: Path) -> None:
    made = documents()[RIG]
    made["rig_trajectories"][0]["T_rig_world_timestamps_us"][0] = -(2**62)
    findings = validate_scene(read_usdz(archive(tmp_path, {RIG: made})))
    assert [f.severity for f in findings[:2]] == ["error", "error"]
    assert "before 0" in findings[0].what
    assert "more than 1000000 s" in findings[1].what
