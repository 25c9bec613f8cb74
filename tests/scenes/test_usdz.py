"""USDZ archives: those of other programs, and each layer of our own there and back."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omniloop.core import geometry, registry
from omniloop.core.errors import ConfigError, SceneError
from omniloop.core.scene import ActorClass, Scene, Vehicle
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.scenes.height_raster import sample_heights
from omniloop.scenes.native import scene_to_bytes
from omniloop.scenes.opening import open_scenes
from omniloop.scenes.ply import ply_bytes
from omniloop.scenes.usdz import UsdzScenes, read_usdz
from omniloop.scenes.usdz_write import write_usdz
from tests.scenes.usdz_made import (
    CAMERA_POSE,
    FRONT,
    JPEG,
    SEQUENCE,
    START_US,
    documents,
    members,
    tiny_scene,
    write_zip,
)

RIG, TRACKS = "rig_trajectories.json", "sequence_tracks.json"


def changed_rig(change: Any) -> dict[str, Any]:
    found = documents()[RIG]
    change(found, found["rig_trajectories"][0])
    return {RIG: found}


# ------------------------------------------------------------------- foreign archives


def test_every_member_of_a_foreign_archive_is_read(tmp_path: Path) -> None:
    scene = read_usdz(write_zip(tmp_path / "a.usdz", members()))
    assert (scene.id, scene.source, scene.prompt) == (SEQUENCE, "usdz", "rain")
    assert scene.ego.times_us.tolist() == [START_US + 100_000 * k for k in range(5)]
    np.testing.assert_allclose(scene.ego.poses[:, 0], [0, 2, 4, 6, 8])
    np.testing.assert_array_equal(scene.dataset_to_local, np.eye(4))
    vehicle = scene.vehicle
    assert (vehicle.length_m, vehicle.width_m, vehicle.height_m) == (5.0, 2.0, 1.5)
    assert vehicle.rear_axle_to_center_m == 1.4
    assert vehicle.wheelbase_m == pytest.approx(2.85 * 5.0 / 5.393)
    car, person = scene.tracks
    assert (car.actor.id, car.actor.actor_class, car.actor.is_static) == ("17", ActorClass.CAR, False)  # fmt: skip
    assert (person.actor.actor_class, person.actor.is_static) == (ActorClass.PEDESTRIAN, True)
    assert car.local_to_aabb[2].tolist() == [11, 3, 0.7, 0, 0, 0, 1]
    assert {lane.id for lane in scene.map.lanes} == {"l", "m"}
    assert [frame.image for frame in scene.first_frames] == [JPEG]
    assert (scene.first_frames[0].camera_id, scene.first_frames[0].capture_us) == (FRONT, START_US)


def test_cameras_have_their_logical_names_models_and_frame_times(tmp_path: Path) -> None:
    scene = read_usdz(write_zip(tmp_path / "a.usdz", members()))
    camera = scene.cameras[0]
    assert camera.id == FRONT
    assert (camera.model.width, camera.model.height, camera.model.cx) == (1920, 1080, 959.5)
    np.testing.assert_allclose(camera.rig_to_camera, CAMERA_POSE, atol=1e-15)
    assert camera.first_frame_end_us == START_US + 1_000
    assert (camera.frame_interval_us, camera.shutter_us) == (100_000, 16_000)


def test_a_calibration_table_stands_in_for_models_that_the_rig_lacks(tmp_path: Path) -> None:
    def bare(rig: Any, drive: Any) -> None:
        rig["camera_calibrations"][f"{FRONT}@{SEQUENCE}"] = {"logical_sensor_name": FRONT}

    scene = read_usdz(write_zip(tmp_path / "a.usdz", members(changed_rig(bare))))
    camera = scene.cameras[0]
    assert (camera.id, camera.model.width, camera.shutter_us) == (FRONT, 1280, 16_000)


def test_numbers_may_be_texts_and_shutter_starts_unknown(tmp_path: Path) -> None:
    def texts(rig: Any, drive: Any) -> None:
        drive["T_rig_world_timestamps_us"] = [str(t) for t in drive["T_rig_world_timestamps_us"]]
        drive["T_rig_worlds"][1][0][3] = "2.5"
        for frame in drive["cameras_frame_timestamps_us"].values():
            frame[:] = [[-1, float(end)] for _, end in frame]

    scene = read_usdz(write_zip(tmp_path / "a.usdz", members(changed_rig(texts))))
    assert scene.ego.times_us[1] == START_US + 100_000
    assert scene.ego.poses[1, 0] == 2.5
    assert scene.cameras[0].shutter_us == 0


def test_the_smallest_archive_is_three_documents(tmp_path: Path) -> None:
    scene = read_usdz(write_zip(tmp_path / "a.usdz", {n: d for n, d in members().items() if n in documents()}))  # fmt: skip
    assert (scene.map.lanes, scene.ground, scene.first_frames, scene.prompt) == ((), None, (), "")


def test_calibration_and_recorded_motion_in_clipgt_are_no_map(tmp_path: Path) -> None:
    tables = ("calibration_estimate", "egomotion_estimate", "obstacle", "clip")
    wanted = [*documents(), *(f"clipgt/{name}.parquet" for name in tables)]
    found = {name: data for name, data in members().items() if name in wanted}
    scene = read_usdz(write_zip(tmp_path / "a.usdz", found))
    assert (scene.map.lanes, len(scene.cameras)) == ((), 2)


def test_map_data_comes_before_clipgt(tmp_path: Path) -> None:
    found = members()
    tables = {n.replace("clipgt/", "map_data/"): d for n, d in found.items() if n == "clipgt/lane.parquet"}  # fmt: skip
    scene = read_usdz(write_zip(tmp_path / "a.usdz", found | tables))
    lanes = {lane.id: lane.successors for lane in scene.map.lanes}
    assert lanes == {"l": (), "m": ()}  # map_data has no association


def test_an_opendrive_map_counts_where_no_tables_are(tmp_path: Path) -> None:
    xodr = (
        b'<OpenDRIVE><header revMajor="1" revMinor="4"/><road id="7" length="50" junction="-1">'
        b'<planView><geometry s="0" x="0" y="0" hdg="0" length="50"><line/></geometry></planView>'
        b'<lanes><laneSection s="0"><center><lane id="0" type="none"/></center><right>'
        b'<lane id="-1" type="driving"><width sOffset="0" a="4" b="0" c="0" d="0"/></lane>'
        b"</right></laneSection></lanes></road></OpenDRIVE>"
    )
    found = {name: data for name, data in members().items() if not name.startswith("clipgt/")}
    scene = read_usdz(write_zip(tmp_path / "a.usdz", found | {"map.xodr": xodr}))
    (lane,) = scene.map.lanes
    np.testing.assert_allclose(lane.centerline[[0, -1], :2], [[0, -2], [50, -2]], atol=1e-9)
    tables = read_usdz(write_zip(tmp_path / "b.usdz", members({"map.xodr": xodr})))
    assert len(tables.map.lanes) == 2
    with pytest.raises(SceneError, match=r"(?s)map\.xodr"):
        read_usdz(write_zip(tmp_path / "c.usdz", found | {"map.xodr": b"<OpenDRIVE/>"}))


def test_a_fastmap_is_put_on_the_ground(tmp_path: Path) -> None:
    sheet = np.array([[-200.0, -200, 5], [200, -200, 5], [200, 200, 5], [-200, 200, 5]])
    mesh = ply_bytes(sheet, np.array([[0, 1, 2], [0, 2, 3]]), "float")
    found = {name.replace("clipgt/", "fastmap/"): data for name, data in members().items()}
    scene = read_usdz(write_zip(tmp_path / "a.usdz", found | {"mesh_ground.ply": mesh}))
    assert {float(z) for lane in scene.map.lanes for z in lane.centerline[:, 2]} == {5.0}


def test_a_vehicle_may_be_given_and_must_be_where_the_archive_has_none(tmp_path: Path) -> None:
    none = changed_rig(lambda rig, drive: drive.update(rig_bbox=None))
    path = write_zip(tmp_path / "a.usdz", members(none))
    with pytest.raises(SceneError, match=r"rig_bbox.*scenes\.vehicle"):
        _matched(lambda: UsdzScenes(str(path)).load(SEQUENCE))
    source = UsdzScenes(str(path), vehicle={"length_m": 4.0, "rear_axle_to_center_m": 1.1})
    assert source.load(SEQUENCE).vehicle == Vehicle(length_m=4.0, rear_axle_to_center_m=1.1)


def _matched(call: Any) -> None:
    try:
        call()
    except SceneError as error:
        raise SceneError(" ".join(str(error).split())) from error


@pytest.mark.parametrize("vehicle", [3, {"lenght_m": 4.0}, {"length_m": -1}, {"width_m": "2"}])
def test_a_vehicle_that_is_none_is_refused(tmp_path: Path, vehicle: Any) -> None:
    path = write_zip(tmp_path / "a.usdz", members())
    with pytest.raises(ConfigError, match="vehicle"):
        UsdzScenes(str(path), vehicle=vehicle)


# ---------------------------------------------------------------------------- folders


def test_a_folder_is_searched_and_only_metadata_is_read_to_list_it(tmp_path: Path) -> None:
    for name in ("b", "a"):
        content = members({"metadata.yaml": {"scene_id": name}, RIG: b"{", TRACKS: b"["})
        write_zip(tmp_path / "sub" / name / f"{name}.usdz", content)
    source = UsdzScenes(str(tmp_path))
    assert source.ids() == ["a", "b"]
    assert source.file_of("b") == tmp_path / "sub/b/b.usdz"
    with pytest.raises(SceneError, match="not JSON"):
        source.load("a")


def test_two_archives_of_one_id_are_both_named(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write_zip(tmp_path / f"{name}.usdz", members())
    with pytest.raises(SceneError, match=f"(?s)'{SEQUENCE}'.*x.usdz and .*y.usdz"):
        UsdzScenes(str(tmp_path)).ids()


def test_a_folder_without_archives_and_an_unknown_scene_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"no \*\.usdz"):
        UsdzScenes(str(tmp_path))
    write_zip(tmp_path / "a.usdz", members())
    with pytest.raises(SceneError, match="clipgt-0000"):
        UsdzScenes(str(tmp_path)).load("clipgt-000")


def test_settings_open_it_as_any_other_source(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.usdz", members())
    source = open_scenes("omniloop.scenes.usdz:UsdzScenes", {"exact": False}, str(tmp_path))
    assert source.ids() == [SEQUENCE]
    assert set(registry.parameters("scenes", "omniloop.scenes.usdz:UsdzScenes")) == {
        "path", "vehicle", "exact",
    }  # fmt: skip


# ----------------------------------------------------------------- there and back, exactly


@pytest.mark.parametrize("scene_id", EmbeddedScenes().ids())
def test_embedded_scenes_come_back_to_the_bit(tmp_path: Path, scene_id: str) -> None:
    scene = EmbeddedScenes().load(scene_id)
    back = read_usdz(write_usdz(scene, tmp_path / "a.usdz"))
    assert scene_to_bytes(back) == scene_to_bytes(scene)


def test_a_scene_of_everything_comes_back_to_the_bit(tmp_path: Path) -> None:
    scene = tiny_scene()
    assert scene_to_bytes(read_usdz(write_usdz(scene, tmp_path / "a.usdz"))) == scene_to_bytes(scene)  # fmt: skip


def test_recorded_scenes_come_back_to_the_bit(tmp_path: Path, shared_data: Path) -> None:
    source = open_scenes("nuscenes", {}, str(shared_data / "nuscenes_mini"))
    scene = source.load("scene-0061")  # has first frames, from before 0
    back = read_usdz(write_usdz(scene, tmp_path / "a.usdz"))
    assert scene_to_bytes(back) == scene_to_bytes(scene)


# ---------------------------------------------------- there and back, AlpaSim's members alone


@pytest.fixture(scope="module")
def there_and_back(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Scene]:
    scene = tiny_scene()
    path = write_usdz(scene, tmp_path_factory.mktemp("plain") / "a.usdz", exact=False)
    return scene, read_usdz(path)


def assert_same_poses(a: np.ndarray, b: np.ndarray, atol: float) -> None:
    """Equal, whatever the sign of a quaternion."""
    np.testing.assert_allclose(b[:, :3], a[:, :3], rtol=0, atol=atol)
    np.testing.assert_allclose(np.abs((a[:, 3:] * b[:, 3:]).sum(axis=1)), 1.0, rtol=0, atol=1e-12)


def test_ego_comes_back_within_rounding(there_and_back: tuple[Scene, Scene]) -> None:
    scene, back = there_and_back
    np.testing.assert_array_equal(back.ego.times_us, scene.ego.times_us)
    assert_same_poses(scene.ego.poses, back.ego.poses, 1e-12)


def test_the_box_comes_back_and_the_wheelbase_is_scaled(there_and_back: tuple[Scene, Scene]) -> None:  # fmt: skip
    scene, back = there_and_back
    assert replace(back.vehicle, wheelbase_m=2.7) == scene.vehicle
    assert back.vehicle.wheelbase_m == pytest.approx(2.85 * 4.8 / 5.393)


def test_valid_samples_of_tracks_come_back_exactly(there_and_back: tuple[Scene, Scene]) -> None:
    scene, back = there_and_back
    assert [t.actor.id for t in back.tracks] == ["a", "b"]  # "c" has a single sample
    for track, found in zip(scene.tracks, back.tracks, strict=False):
        np.testing.assert_array_equal(found.times_us, track.times_us[track.valid])
        np.testing.assert_array_equal(found.local_to_aabb, track.local_to_aabb[track.valid])
        assert found.actor.actor_class is track.actor.actor_class
        assert not found.actor.is_static  # parked vehicles are what AlpaSim sends too
        assert found.actor.size_m.tolist() == track.actor.size_m.tolist()
    assert [t.actor.label for t in back.tracks] == ["automobile", "truck"]


def test_cameras_come_back_exactly_but_for_those_without_frames(there_and_back: tuple[Scene, Scene]) -> None:  # fmt: skip
    scene, back = there_and_back
    for camera, found in zip(scene.cameras, back.cameras, strict=True):
        assert (found.id, type(found.model)) == (camera.id, type(camera.model))
        np.testing.assert_allclose(found.rig_to_camera, camera.rig_to_camera, atol=1e-12)
        pixels = np.array([[0.0, 0.0], [camera.model.cx, 20.0], [300.0, 400.0]])
        np.testing.assert_allclose(found.model.unproject(pixels), camera.model.unproject(pixels), atol=1e-12)  # fmt: skip
    wide, rear = back.cameras
    assert (wide.first_frame_end_us, wide.frame_interval_us, wide.shutter_us) == (START_US + 40_000, 33_333, 12_000)  # fmt: skip
    assert (rear.first_frame_end_us, rear.frame_interval_us) == (START_US, 100_000)


def test_the_map_comes_back_in_float32(there_and_back: tuple[Scene, Scene]) -> None:
    scene, back = there_and_back
    first, second = back.map.lanes
    assert (first.id, first.successors, second.predecessors) == ("l", ("m",), ("l",))
    np.testing.assert_allclose(first.left, scene.map.lanes[0].left, atol=1e-5)
    np.testing.assert_allclose(back.map.road_boundaries[0].points, scene.map.road_boundaries[0].points, atol=1e-5)  # fmt: skip


def test_heights_come_back_where_the_raster_has_some(there_and_back: tuple[Scene, Scene]) -> None:
    scene, back = there_and_back
    assert scene.ground is not None
    assert back.ground is not None
    x, y = np.meshgrid(np.linspace(-14.0, 40.0, 50), np.linspace(-19.0, 18.0, 50))
    np.testing.assert_allclose(
        sample_heights(back.ground, x, y), sample_heights(scene.ground, x, y), atol=1e-5
    )


def test_first_frames_and_prompt_come_back(there_and_back: tuple[Scene, Scene]) -> None:
    scene, back = there_and_back
    assert back.prompt == scene.prompt
    assert [(f.camera_id, f.capture_us, f.image) for f in back.first_frames] == [
        (f.camera_id, f.capture_us, f.image) for f in scene.first_frames
    ]


def test_without_heights_the_ground_is_ego_s_height_50_m_to_all_sides(tmp_path: Path) -> None:
    scene = replace(tiny_scene(), ground=None)
    back = read_usdz(write_usdz(scene, tmp_path / "a.usdz", exact=False))
    assert back.ground is not None
    path = scene.ego.poses
    np.testing.assert_allclose(sample_heights(back.ground, path[:, 0], path[:, 1]), path[:, 2], atol=0.03)  # fmt: skip
    angle = np.linspace(0, 2 * np.pi, 60)[:, None]
    around = sample_heights(back.ground, path[:, 0] + 50 * np.cos(angle), path[:, 1] + 50 * np.sin(angle))  # fmt: skip
    assert np.isfinite(around).all()


def test_of_sheets_above_each_other_the_one_that_ego_drives_on_counts(tmp_path: Path) -> None:
    sheet = np.array([[-30.0, -30, 0], [60, -30, 0], [60, 30, 0], [-30, 30, 0]])
    both = np.concatenate([sheet, sheet + [0, 0, 6.0]])
    data = ply_bytes(both, np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]]), "float")
    scene = read_usdz(write_zip(tmp_path / "a.usdz", members({"mesh.ply": data})))
    assert scene.ground is not None
    assert np.nanmax(np.abs(scene.ground.heights_m)) == 0.0


# ----------------------------------------------------------------- which copy is followed


def rewritten(path: Path, name: str, data: bytes | None) -> Path:
    with zipfile.ZipFile(path) as archive:
        found = {n: archive.read(n) for n in archive.namelist() if n != name}
    return write_zip(path.with_name("changed.usdz"), found | ({name: data} if data else {}))


def test_an_edited_member_of_alpasim_is_honoured_and_said(tmp_path: Path) -> None:
    scene = tiny_scene()
    path = write_usdz(scene, tmp_path / "a.usdz")
    other = write_usdz(replace(scene, tracks=scene.tracks[1:]), tmp_path / "b.usdz", exact=False)
    with zipfile.ZipFile(other) as archive:
        data = archive.read(TRACKS)
    back = read_usdz(rewritten(path, TRACKS, data))
    assert [t.actor.id for t in back.tracks] == ["b"]
    assert back.vehicle == scene.vehicle  # the rest stays exact, wheelbase included
    np.testing.assert_array_equal(back.dataset_to_local, scene.dataset_to_local)
    assert back.edits == ("usdz: tracks changed after the archive was written",)


def test_private_members_are_what_the_rest_comes_from(tmp_path: Path) -> None:
    path = write_usdz(tiny_scene(), tmp_path / "a.usdz")
    assert read_usdz(path, exact=False).source == "usdz"
    assert read_usdz(path).source == "made"


def test_a_member_that_was_added_or_removed_is_a_change_of_its_layer(tmp_path: Path) -> None:
    path = write_usdz(tiny_scene(), tmp_path / "a.usdz")
    assert read_usdz(rewritten(path, "prompt.txt", None)).prompt == ""
    moved = read_usdz(rewritten(path, f"frames/{FRONT}/5.jpeg", JPEG))
    assert moved.first_frames[0].capture_us == 5
    renamed = rewritten(path, "metadata.yaml", b"scene_id: other\n")
    assert read_usdz(renamed).id == "other"
    with pytest.raises(SceneError, match=TRACKS):
        read_usdz(rewritten(path, TRACKS, None))


def test_an_edited_private_member_is_refused_and_can_be_left_aside(tmp_path: Path) -> None:
    path = rewritten(write_usdz(tiny_scene(), tmp_path / "a.usdz"), "omniloop/map.json", b"{}")
    with pytest.raises(SceneError, match=r"(?s)changed after.*omniloop/map\.json"):
        read_usdz(path)
    assert read_usdz(path, exact=False).id == "tiny"


def test_a_newer_version_of_the_private_members_is_refused(tmp_path: Path) -> None:
    document = json.dumps({"schema": "omniloop-usdz", "version": 2}).encode()
    path = rewritten(write_usdz(tiny_scene(), tmp_path / "a.usdz"), "omniloop/layers.json", document)  # fmt: skip
    with pytest.raises(SceneError, match=r"(?s)version 2.*upgrade omniloop"):
        read_usdz(path)


def test_poses_turn_as_they_should(tmp_path: Path) -> None:
    yaw = np.linspace(0, 3.0, 40)
    scene = tiny_scene()
    poses = geometry.poses_from_xyz_yaw(scene.ego.poses[:, :3], yaw)
    turned = replace(scene, ego=type(scene.ego)(scene.ego.times_us, poses))
    back = read_usdz(write_usdz(turned, tmp_path / "a.usdz", exact=False))
    np.testing.assert_allclose(geometry.yaw_rad(back.ego.poses), yaw, atol=1e-12)
