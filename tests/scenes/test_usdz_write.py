"""USDZ archives as bytes: layout, what the metadata says, what is kept of another archive."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import subprocess
import sys
import uuid
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import yaml
from typer.testing import CliRunner

from omniloop.cli.main import app
from omniloop.core import geometry
from omniloop.core.cameras import FLU_TO_OPTICAL, Camera, FThetaCamera, default_camera
from omniloop.core.errors import SceneError
from omniloop.core.fisheye import ftheta_from_fisheye
from omniloop.core.scene import Actor, ActorClass, FirstFrame, Scene, Vehicle
from omniloop.scenes.clipgt import read_clipgt
from omniloop.scenes.clipgt_rig import rig_json
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.scenes.native import NativeScenes, scene_to_bytes
from omniloop.scenes.opening import open_scenes
from omniloop.scenes.ply import parse_ply
from omniloop.scenes.usdz import read_usdz
from omniloop.scenes.usdz_cameras import model_document, read_model
from omniloop.scenes.usdz_rig import frame_ranges_us
from omniloop.scenes.usdz_write import _write_zip, write_usdz
from tests.scenes.usdz_made import (
    FRONT,
    JPEG,
    SEQUENCE,
    START_US,
    documents,
    members,
    tiny_scene,
    write_zip,
)

SOURCE = "scenes=omniloop.scenes.usdz:UsdzScenes"


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


# ------------------------------------------------------------------------------ bytes


def test_members_stand_in_a_fixed_order_stored_and_dated_1980(tmp_path: Path) -> None:
    data = write_usdz(tiny_scene(), tmp_path / "a.usdz").read_bytes()
    infos = zipfile.ZipFile(io.BytesIO(data)).infolist()
    names = [i.filename for i in infos]
    tables = [n for n in names if n.startswith("clipgt/")]
    assert [n for n in names if n not in tables] == [
        "metadata.yaml", "rig_trajectories.json", "sequence_tracks.json", "mesh_ground.ply",
        "prompt.txt", f"frames/{FRONT}/{START_US + 40_000}.jpeg", "omniloop/ego.parquet",
        "omniloop/ground.parquet", "omniloop/layers.json", "omniloop/map.json",
        "omniloop/map_points.parquet", "omniloop/scene.json", "omniloop/tracks.parquet",
    ]  # fmt: skip
    assert names.index(tables[0]) == 5
    assert tables == sorted(tables)
    assert {"clipgt/calibration_estimate.parquet", "clipgt/lane.parquet", "clipgt/clip.parquet"} <= set(tables)  # fmt: skip
    assert {i.date_time for i in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {(i.compress_type, i.create_system, i.flag_bits) for i in infos} == {(0, 3, 0)}
    at = 0
    for info in infos:  # no gap, no extra field: each begins where the one before ends
        assert info.header_offset == at
        at += 30 + len(info.filename) + info.file_size
    assert data[at : at + 4] == b"PK\x01\x02"


def test_golden_bytes_of_a_container() -> None:
    out = io.BytesIO()
    _write_zip(out, {"metadata.yaml": b"scene_id: a\n", "frames/front/7.jpeg": b"\xff\xd8\xff"})
    data = out.getvalue()
    assert len(data) == 253
    assert data[:43] == struct.pack(
        "<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 0x21, 0x776FA513, 12, 12, 13, 0
    ) + b"metadata.yaml"  # fmt: skip
    assert hashlib.sha256(data).hexdigest() == (
        "81b6700dc2fcb3347b29a07e877b91fecf37c777d80bee4e69be270f95696993"
    )


def test_golden_members_of_a_scene(tmp_path: Path) -> None:
    found = contents(write_usdz(tiny_scene(), tmp_path / "a.usdz"))
    names = ("rig_trajectories.json", "sequence_tracks.json", "mesh_ground.ply", "prompt.txt")
    assert {n: hashlib.sha256(found[n]).hexdigest()[:16] for n in names} == {
        "rig_trajectories.json": "ca369df4e0f2a4cc",
        "sequence_tracks.json": "edd7de6255d6b45b",
        "mesh_ground.ply": "38506f422fb185f7",
        "prompt.txt": "104767f0fc7be7f3",
    }  # fmt: skip


def test_bytes_are_the_same_in_another_process(tmp_path: Path) -> None:
    code = (
        "from omniloop.scenes.embedded import EmbeddedScenes\n"
        "from omniloop.scenes.usdz_write import write_usdz\n"
        f"write_usdz(EmbeddedScenes().load('junction'), {str(tmp_path / 'a.usdz')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    here = write_usdz(EmbeddedScenes().load("junction"), tmp_path / "b.usdz")
    assert here.read_bytes() == (tmp_path / "a.usdz").read_bytes()


def test_metadata_says_what_alpasim_asks_for(tmp_path: Path) -> None:
    scene = tiny_scene()
    found = yaml.safe_load(contents(write_usdz(scene, tmp_path / "a.usdz"))["metadata.yaml"])
    assert list(found) == [
        "scene_id", "version_string", "training_date", "dataset_hash", "uuid", "is_resumable",
        "sensors", "logger", "time_range",
    ]  # fmt: skip
    assert found["scene_id"] == "tiny"
    assert found["sensors"] == {"camera_ids": [FRONT, "rear"], "lidar_ids": []}
    assert found["time_range"] == {"start": scene.start_us, "end": scene.end_us}
    assert (found["logger"], found["is_resumable"]) == ({}, False)
    assert uuid.UUID(found["uuid"]).version == 5
    other = write_usdz(replace(scene, prompt="rain"), tmp_path / "b.usdz")
    assert yaml.safe_load(contents(other)["metadata.yaml"])["uuid"] != found["uuid"]


FISHEYE = ftheta_from_fisheye((1280, 800), (501.0, 500.0), (640.0, 398.0), (-0.03, 0.005, -0.002, 0.0002), 1.4)  # fmt: skip
STRONG = ftheta_from_fisheye((848, 800), (286.0, 286.0), (424.0, 400.0), (-0.0078, 0.0435, -0.0411, 0.0072), 1.5)  # fmt: skip


def written_with(model: FThetaCamera, path: Path) -> tuple[dict[str, Any], Scene]:
    """Model in the document of a scene with one such camera, and the scene read without exact members."""
    scene = replace(tiny_scene(), cameras=(Camera("round", model, FLU_TO_OPTICAL),), first_frames=())  # fmt: skip
    archive = write_usdz(scene, path, exact=False)
    rig = json.loads(contents(archive)["rig_trajectories.json"])
    return rig["camera_calibrations"]["round@tiny"]["camera_model"], read_usdz(archive)


@pytest.mark.parametrize("model", [FISHEYE, STRONG], ids=["mild", "strong"])
def test_a_fisheye_is_written_as_one_and_comes_back_without_error(
    model: FThetaCamera, tmp_path: Path
) -> None:
    document, scene = written_with(model, tmp_path / "a.usdz")
    assert document["type"] == "opencv-fisheye"
    back = scene.cameras[0].model
    u, v = np.meshgrid(np.linspace(0, model.width - 1, 15), np.linspace(0, model.height - 1, 9))
    pixels = np.stack([u.ravel(), v.ravel()], axis=1)
    rays = model.unproject(pixels)
    np.testing.assert_allclose(back.project(rays)[0], model.project(rays)[0], atol=1e-9)
    np.testing.assert_allclose(back.unproject(pixels), rays, atol=1e-9)
    assert back.max_angle_rad == pytest.approx(model.max_angle_rad, abs=1e-3)


@pytest.mark.parametrize(("model", "count"), [(FISHEYE, 1), (STRONG, 0)], ids=["mild", "strong"])
def test_the_calibration_table_has_fisheyes_that_six_coefficients_follow(
    model: FThetaCamera, count: int, tmp_path: Path
) -> None:
    found = json.loads(rig_json([Camera("round", model, FLU_TO_OPTICAL)]))["rig"]["sensors"]
    assert len(found) == count
    for sensor in found:
        polynomial = [float(k) for k in sensor["properties"]["polynomial"].split()]
        angle = np.linspace(0, model.max_angle_rad, 99)
        off = np.polynomial.polynomial.polyval(angle, polynomial) - np.polynomial.polynomial.polyval(angle, model.angle_to_pixeldist)  # fmt: skip
        assert np.abs(off).max() < 0.1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"radial_coeffs": [0.1] * 5}, "5 radial_coeffs"),
        ({"focal_length": [0.0, 500.0]}, "focal_length 0.0"),
        ({"max_angle": -1.0}, "max_angle -1.0"),
        ({"radial_coeffs": [-0.1398, -0.044, 0.0266, 0.0037], "max_angle": 1.6}, ""),
        ({"external_distortion_parameters": {"type": "windshield"}}, ""),
    ],
)
def test_a_fisheye_with_wrong_numbers_is_refused_and_one_that_is_not_known_left_out(
    changes: dict[str, Any], said: str
) -> None:
    document = model_document(Camera("round", FISHEYE, FLU_TO_OPTICAL))
    document["parameters"] |= changes
    if not said:
        assert read_model(document, "here") is None
        return
    with pytest.raises(SceneError, match=said):
        read_model(document, "here")


def test_another_long_polynomial_is_fitted_or_refused_with_its_error(tmp_path: Path) -> None:
    mild = replace(FISHEYE, linear_cde=(1.0, 1e-4, 0.0))
    document, scene = written_with(mild, tmp_path / "a.usdz")
    assert document["type"] == "ftheta"
    assert [len(document["parameters"][f"{x}_poly"]) for x in ("angle_to_pixeldist", "pixeldist_to_angle")] == [6, 6]  # fmt: skip
    rays = mild.unproject(np.array([[0.0, 0.0], [300.0, 700.0], [1279.0, 399.0]]))
    np.testing.assert_allclose(
        scene.cameras[0].model.project(rays)[0], mild.project(rays)[0], atol=0.1
    )
    with pytest.raises(SceneError, match=r"camera 'round' .* best of 6 is off by 0\.\d+ px"):
        written_with(replace(STRONG, linear_cde=(1.0, 1e-4, 0.0)), tmp_path / "b.usdz")


def test_every_camera_has_frames_that_end_after_they_start(tmp_path: Path) -> None:
    scene = tiny_scene()
    rig = json.loads(contents(write_usdz(scene, tmp_path / "a.usdz"))["rig_trajectories.json"])
    frames = rig["rig_trajectories"][0]["cameras_frame_timestamps_us"]
    assert list(frames) == list(rig["camera_calibrations"]) == [f"{FRONT}@tiny", "rear@tiny"]
    assert frames[f"{FRONT}@tiny"][:2] == [
        [START_US + 28_000, START_US + 40_000], [START_US + 61_333, START_US + 73_333],
    ]  # fmt: skip
    assert frames["rear@tiny"] == [[t - 100_000, t] for t in scene.ego.times_us.tolist()]
    shutterless = replace(scene.cameras[0], shutter_us=0)
    ranges = frame_ranges_us(shutterless, scene.ego.times_us)
    assert (ranges[:, 1] - ranges[:, 0] == 1).all()


def test_the_mesh_is_binary_with_floats_in_local(tmp_path: Path) -> None:
    data = contents(write_usdz(tiny_scene(), tmp_path / "a.usdz"))["mesh_ground.ply"]
    assert data.startswith(b"ply\nformat binary_little_endian 1.0\n")
    assert b"property float x" in data
    vertices, triangles = parse_ply(data, "mesh")
    assert (vertices[:, :2].min(axis=0).tolist(), vertices[:, :2].max(axis=0).tolist()) == ([-15, -20], [44, 19])  # fmt: skip
    assert len(triangles) == 2 * 59 * 39


def test_clipgt_members_make_a_video_model_s_archive(tmp_path: Path) -> None:
    """AlpaSim zips them as ``{clip}.{table}.parquet`` for the server."""
    found = contents(write_usdz(tiny_scene(), tmp_path / "a.usdz"))
    tables = {n.replace("clipgt/", "tiny."): d for n, d in found.items() if n.startswith("clipgt/")}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in tables.items():
            archive.writestr(name, data)
    assert len(read_clipgt(out.getvalue()).map.lanes) == 2


def test_a_scene_without_cameras_gets_the_camera_that_stands_in(tmp_path: Path) -> None:
    path = write_usdz(replace(tiny_scene(), cameras=()), tmp_path / "a.usdz")
    assert [c.id for c in read_usdz(path, exact=False).cameras] == [default_camera().id]
    assert read_usdz(path).cameras == ()


def test_a_png_is_written_as_jpeg_and_comes_back_as_it_was(tmp_path: Path) -> None:
    import cv2

    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16, 2] = 250
    png = bytes(cv2.imencode(".png", pixels)[1])
    scene = replace(tiny_scene(), first_frames=(FirstFrame("rear", -5, png),))
    path = write_usdz(scene, tmp_path / "a.usdz")
    assert scene_to_bytes(read_usdz(path)) == scene_to_bytes(scene)
    (frame,) = read_usdz(path, exact=False).first_frames
    assert frame.capture_us == 0
    rgb = simplejpeg.decode_jpeg(frame.image)
    assert rgb[8, 8, 0] > 230  # still red
    assert rgb[8, 24].max() < 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first_frames": (FirstFrame(FRONT, 5, b"nothing"),)}, "no JPEG"),
        ({"first_frames": (FirstFrame(FRONT, 5, b"\x89PNG"),)}, "PNG"),
        ({"first_frames": (FirstFrame("a:b", 5, JPEG), FirstFrame("a_b", 6, JPEG))}, "taken"),
        ({"vehicle": Vehicle(length_m=float("nan"))}, r"rig_trajectories\.json"),
        ({"id": "../x"}, "folder name"),
    ],
)
def test_a_scene_that_cannot_be_written_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SceneError, match=message):
        write_usdz(replace(tiny_scene(), **change), tmp_path / "a.usdz")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SceneError, match=r"file/a\.usdz"):
        write_usdz(tiny_scene(), tmp_path / "file" / "a.usdz")


# ------------------------------------------------------------------ kept of another archive


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    found = documents()
    drive = found["rig_trajectories.json"]["rig_trajectories"][0]
    drive["lidars_frame_timestamps_us"] = {"lidar@x": [[1, 2]]}
    found["rig_trajectories.json"]["T_world_base"][0][3] = 5.0
    found["rig_trajectories.json"]["camera_calibrations"][f"{FRONT}@{SEQUENCE}"]["note"] = "kept"
    tables = {"map_data/" + n: d for n, d in (("lane.parquet", b""), ("pole.parquet", b"poles"))}
    return write_zip(tmp_path / "foreign.usdz", members(found | tables, drop="clipgt/pole.parquet"))  # fmt: skip


def flags_of(archive: Path) -> dict[str, list[str]]:
    (sequence,) = json.loads(contents(archive)["sequence_tracks.json"]).values()
    data = sequence["tracks_data"]
    return dict(zip(data["tracks_id"], data["tracks_flags"], strict=True))


def test_alpasim_sends_parked_vehicles_but_no_static_things_nor_what_is_reconstructed(
    tmp_path: Path, foreign: Path
) -> None:
    car, truck, _ = tiny_scene().tracks
    cone = Actor("cone", ActorClass.OTHER, "cone", np.array([0.3, 0.3, 0.7]), is_static=True)
    tracks = (car, truck, replace(truck, actor=cone))
    scene = replace(tiny_scene(), tracks=tracks)
    made = write_usdz(scene, tmp_path / "a.usdz")
    expected = {"a": ["DYNAMIC", "CONTROLLABLE"], "b": ["CONTROLLABLE"], "cone": []}
    assert flags_of(made) == expected
    again = write_usdz(read_usdz(made), tmp_path / "b.usdz", keep_from=made)
    assert flags_of(again) == expected
    assert read_usdz(again).tracks[1].actor.is_static  # among the exact members it still is

    assert flags_of(foreign)["18"] == []
    baked = replace(scene, tracks=(replace(truck, actor=replace(truck.actor, id="18")), truck))
    kept = write_usdz(baked, tmp_path / "c.usdz", keep_from=foreign)
    assert flags_of(kept) == {"18": [], "b": ["CONTROLLABLE"]}


def test_unknown_members_and_keys_are_kept(tmp_path: Path, foreign: Path) -> None:
    scene = replace(tiny_scene(), id=SEQUENCE)
    path = write_usdz(scene, tmp_path / "b.usdz", keep_from=foreign)
    found, old = contents(path), contents(foreign)
    assert found["checkpoint.ckpt"] == old["checkpoint.ckpt"]
    assert found["default.usda"] == old["default.usda"]
    assert found[f"frames/{FRONT}/{START_US + 100_000}.jpeg"] == JPEG + b"later"
    assert "map_data/lane.parquet" not in found  # it would be preferred to the map written
    rig = json.loads(found["rig_trajectories.json"])
    assert rig["T_world_base"][0][3] == 5.0
    assert rig["camera_calibrations"][f"{FRONT}@{SEQUENCE}"]["note"] == "kept"
    assert rig["rig_trajectories"][0]["lidars_frame_timestamps_us"] == {"lidar@x": [[1, 2]]}
    metadata = yaml.safe_load(found["metadata.yaml"])
    assert metadata["training_step_outputs"] == {"psnr": 32.0}
    assert metadata["version_string"] == "25.7.9"
    assert metadata["sensors"]["lidar_ids"] == ["lidar_top"]
    assert scene_to_bytes(read_usdz(path)) == scene_to_bytes(scene)


def test_an_unedited_archive_keeps_its_recorded_frames_and_scene(tmp_path: Path) -> None:
    original = write_zip(tmp_path / "a.usdz", members())
    scene = read_usdz(original)
    again = write_usdz(scene, tmp_path / "b.usdz", keep_from=original)
    third = write_usdz(read_usdz(again), tmp_path / "c.usdz", keep_from=again)
    assert third.read_bytes() == again.read_bytes()
    frames = json.loads(contents(again)["rig_trajectories.json"])["rig_trajectories"][0]
    drive = documents()["rig_trajectories.json"]["rig_trajectories"][0]
    assert (
        drive["cameras_frame_timestamps_us"].items()
        <= frames["cameras_frame_timestamps_us"].items()
    )
    back = read_usdz(again, exact=False)
    np.testing.assert_array_equal(back.ego.times_us, scene.ego.times_us)
    assert [t.actor.id for t in back.tracks] == ["17", "18"]


def test_an_archive_may_be_written_over_itself(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.usdz", members())
    scene = read_usdz(path)
    write_usdz(scene, path, keep_from=path)
    assert contents(path)["checkpoint.ckpt"] == b"weights" * 1000
    assert [p.name for p in tmp_path.iterdir()] == ["a.usdz"]


# ---------------------------------------------------------------------------- command line


def test_scenes_convert_writes_archives_and_keeps_what_an_archive_has(tmp_path: Path) -> None:
    runner = CliRunner()
    first, second = tmp_path / "first", tmp_path / "second"
    command = ["scenes", "convert", "scenes.ids=curve", "--to", "usdz", "--out", str(first)]
    assert runner.invoke(app, command).output == f"{first / 'curve.usdz'}\n"
    assert scene_to_bytes(read_usdz(first / "curve.usdz")) == scene_to_bytes(EmbeddedScenes().load("curve"))  # fmt: skip
    with zipfile.ZipFile(first / "curve.usdz", "a") as archive:
        archive.writestr("volume.nurec", b"volume")
    command = ["scenes", "convert", SOURCE, f"scenes.path={first}", "--to", "usdz", "--plain", "--out", str(second)]  # fmt: skip
    result = runner.invoke(app, command)
    assert result.exit_code == 0, result.output
    found = contents(second / "curve.usdz")
    assert found["volume.nurec"] == b"volume"
    assert not [name for name in found if name.startswith("omniloop/")]


def test_scenes_convert_still_writes_native_bundles(tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["scenes", "convert", "scenes.ids=curve", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert NativeScenes(str(tmp_path)).ids() == ["curve"]
    result = runner.invoke(app, ["scenes", "convert", "--plain", "--out", str(tmp_path)])
    assert result.exit_code != 0


def digests_of_scene_and_archive(chosen: list[str], folder: Path, seconds: int) -> list[Any]:
    from omniloop.runlog.digest import digest_run

    runner, archives = CliRunner(), folder / "archives"
    converted = runner.invoke(app, ["scenes", "convert", *chosen, "--to", "usdz", "--out", str(archives)])  # fmt: skip
    assert converted.exit_code == 0, converted.output
    digests = []
    for number, settings in enumerate((chosen, [SOURCE, f"scenes.path={archives}"])):
        words = ["renderer=none", "policy=route_follower", f"sync.duration_s={seconds}"]
        run = folder / f"run{number}"
        result = runner.invoke(app, ["run", *settings, *words, "run.name=r", f"run.dir={run}"])
        assert result.exit_code == 0, result.output
        digests.append(digest_run(run / "r"))
    return digests


def test_a_run_in_the_archive_has_the_digest_of_a_run_in_the_scene(tmp_path: Path) -> None:
    scene, archive = digests_of_scene_and_archive(["scenes.ids=stopped_lead"], tmp_path, 3)
    assert len(scene) == 1
    assert scene == archive


@pytest.mark.parametrize(
    ("source", "path", "scene_id"),
    [
        ("av2", "av2", "7fab2350-7eaf-3b7e-a39d-6937a4c1bede"),
        ("av2", "av2", "0a1e6f0a-1817-4a98-b02e-db8c9327d151"),
        ("nuscenes", "nuscenes_mini", "scene-0061"),
        ("commonroad", "commonroad_ngsim", "USA_US101-9_4_T-1"),
    ],
)
def test_recorded_scenes_give_the_same_digest_from_an_archive(
    tmp_path: Path, shared_data: Path, source: str, path: str, scene_id: str
) -> None:
    from omniloop.configs.compose import compose
    from omniloop.runlog.digest import digest_run
    from omniloop.runner.run import execute

    loaded = open_scenes(source, {}, str(shared_data / path)).load(scene_id)
    write_usdz(loaded, tmp_path / "archives" / f"{scene_id}.usdz")
    chosen = [f"scenes={source}", f"scenes.path={shared_data / path}", f"scenes.ids={scene_id}"]
    digests = []
    for number, settings in enumerate((chosen, [SOURCE, f"scenes.path={tmp_path / 'archives'}"])):
        words = ["renderer=none", "policy=route_follower", "sync.duration_s=1"]
        finished = execute(compose([*settings, *words, f"run.dir={tmp_path / str(number)}"]))
        digests.append(digest_run(finished.run_dir))
    assert len(digests[0]) == 1
    assert digests[0] == digests[1]


def test_geometry_of_a_pose_survives_the_matrix() -> None:
    poses = geometry.poses_from_xyz_yaw(np.zeros((9, 3)), np.linspace(-3.1, 3.1, 9))
    back = geometry.pose_from_matrix(geometry.matrix_from_pose(poses))
    assert np.abs(np.abs((poses[:, 3:] * back[:, 3:]).sum(axis=1)) - 1).max() < 1e-14
