"""Native scene bundles: exact round trips, stable bytes, damaged files."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from omniloop.core import geometry
from omniloop.core.cameras import Camera, FThetaCamera, PinholeCamera, default_camera
from omniloop.core.errors import SceneError
from omniloop.core.motion import EMPTY_TRAJECTORY, Trajectory
from omniloop.core.scene import (
    Actor,
    ActorClass,
    Area,
    FirstFrame,
    HeightRaster,
    Lane,
    LaneLine,
    MarkColor,
    MarkStyle,
    Polyline,
    Scene,
    Track,
    TrafficLight,
    TrafficSign,
    VectorMap,
    Vehicle,
)
from omniloop.scenes.embedded import EmbeddedScenes, synthetic_scene
from omniloop.scenes.native import (
    NativeScenes,
    scene_from_bytes,
    scene_hash,
    scene_to_bytes,
    write_bundle,
)


def assert_same(a: object, b: object, path: str = "scene") -> None:
    """Equal in every field; arrays equal in type, shape and every bit."""
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray), path
        assert (a.dtype, a.shape) == (b.dtype, b.shape), path
        assert a.tobytes() == b.tobytes(), path
    elif dataclasses.is_dataclass(a):
        assert type(a) is type(b), path
        for field in dataclasses.fields(a):
            name = field.name
            assert_same(getattr(a, name), getattr(b, name), f"{path}.{name}")
    elif isinstance(a, tuple):
        assert isinstance(b, tuple), path
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{i}]")
    elif isinstance(a, float):  # numpy's float64 is one too
        assert isinstance(b, float), path
        assert float(a).hex() == float(b).hex(), path
    else:
        assert type(a) is type(b), path
        assert a == b, path


# ---------------------------------------------------------------- arbitrary scenes

finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=8)
ids = st.tuples(words, words).map(tuple)
vec3 = npst.arrays(np.float64, 3, elements=finite)


def optional(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


@st.composite
def lines(draw: st.DrawFn) -> np.ndarray:
    n = draw(st.integers(0, 4))
    return draw(npst.arrays(np.float64, (n, 3), elements=finite))


@st.composite
def poses(draw: st.DrawFn, n: int) -> np.ndarray:
    xyz = draw(npst.arrays(np.float64, (n, 3), elements=finite))
    yaw = draw(npst.arrays(np.float64, n, elements=st.floats(-4, 4)))
    return geometry.poses_from_xyz_yaw(xyz, yaw)


@st.composite
def times(draw: st.DrawFn, min_size: int) -> np.ndarray:
    values = draw(st.sets(st.integers(-(2**62), 2**62), min_size=min_size, max_size=5))
    return np.array(sorted(values), dtype=np.int64)


@st.composite
def tracks(draw: st.DrawFn) -> Track:
    t = draw(times(0))
    valid = draw(npst.arrays(bool, len(t)))
    motion = draw(poses(len(t)))
    motion[~valid] = draw(st.sampled_from([np.nan, 0.0]))  # means nothing there
    actor = Actor(
        draw(words), draw(st.sampled_from(ActorClass)), draw(words), draw(vec3), draw(st.booleans())
    )
    return Track(actor, t, motion, valid)


cameras = st.builds(
    Camera,
    id=words,
    model=st.builds(
        PinholeCamera, st.integers(1, 9), st.integers(1, 9), finite, finite, finite, finite,
        st.lists(finite, max_size=6).map(tuple), st.lists(finite, max_size=2).map(tuple), finite,
    )
    | st.builds(
        FThetaCamera, st.integers(1, 9), st.integers(1, 9), finite, finite,
        st.lists(finite, max_size=6).map(tuple), st.lists(finite, max_size=6).map(tuple), finite,
        st.tuples(finite, finite, finite),
    ),
    rig_to_camera=poses(1).map(lambda p: p[0]),
    first_frame_end_us=optional(st.integers(0, 2**60)),
    frame_interval_us=optional(st.integers(1, 10**7)),
    shutter_us=st.integers(0, 10**6),
)  # fmt: skip

one_pose = poses(1).map(lambda p: p[0])
areas = st.builds(Area, words, lines(), st.lists(lines(), max_size=2).map(tuple))
polylines = st.builds(Polyline, words, lines(), ids)
lanes = st.builds(
    Lane, words, lines(), optional(lines()), optional(lines()), optional(lines()), words,
    st.booleans(), optional(finite), ids, ids, optional(words), optional(words), optional(words),
    optional(words),
)  # fmt: skip


@st.composite
def lights(draw: st.DrawFn) -> TrafficLight:
    t = draw(times(0))
    states = tuple(draw(words) for _ in t)
    return TrafficLight(draw(words), draw(one_pose), draw(vec3), draw(ids), t, states)


def some(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(strategy, max_size=2).map(tuple)


maps = st.builds(
    VectorMap,
    some(lanes),
    some(
        st.builds(
            LaneLine, words, lines(), st.sampled_from(MarkStyle), st.sampled_from(MarkColor)
        )
    ),
    some(polylines), some(areas), some(areas), some(polylines),
    some(st.builds(TrafficSign, words, one_pose, vec3, words, ids)), some(lights()),
)  # fmt: skip


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    t = draw(times(1))
    rows, columns = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    width = draw(st.sampled_from([16, 32, 64]))  # of what the heights were made from
    heights = npst.arrays(
        np.float64, (rows, columns), elements=st.just(np.nan) | st.floats(-100, 100, width=width)
    )
    ground = st.builds(HeightRaster, heights, npst.arrays(np.float64, (2, 3), elements=finite))
    frames = st.builds(FirstFrame, words, st.integers(-5, 2**60), st.binary(max_size=9))
    return Scene(
        id=draw(st.from_regex("[A-Za-z0-9][A-Za-z0-9._-]*", fullmatch=True)),
        source=draw(words),
        ego=Trajectory(t, draw(poses(len(t)))),
        vehicle=draw(st.builds(Vehicle, finite, finite, finite, finite, finite)),
        tracks=draw(st.lists(tracks(), max_size=3).map(tuple)),
        map=draw(maps),
        cameras=draw(some(cameras)),
        first_frames=tuple(
            draw(st.lists(frames, max_size=2, unique_by=lambda f: (f.camera_id, f.capture_us)))
        ),
        prompt=draw(words),
        ground=draw(optional(ground)),
        dataset_to_local=draw(npst.arrays(np.float64, (4, 4), elements=finite)),
        may_run_on=draw(st.booleans()),
        tags=draw(ids),
    )


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(scene=scenes())
def test_every_field_of_any_scene_comes_back_bit_for_bit(scene: Scene) -> None:
    data = scene_to_bytes(scene)
    back = scene_from_bytes(data, "memory")
    assert_same(scene, back)
    assert scene_to_bytes(back) == data


@pytest.mark.parametrize("scene_id", EmbeddedScenes().ids())
def test_embedded_scenes_come_back_bit_for_bit(scene_id: str) -> None:
    scene = EmbeddedScenes().load(scene_id)
    assert_same(scene, scene_from_bytes(scene_to_bytes(scene), scene_id))


# -------------------------------------------------------------------------- bytes


def test_bytes_are_the_same_in_another_process() -> None:
    code = (
        "from omniloop.scenes.embedded import EmbeddedScenes\n"
        "from omniloop.scenes.native import scene_hash\n"
        "print(scene_hash(EmbeddedScenes().load('junction')))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == scene_hash(EmbeddedScenes().load("junction"))


def test_hash_tells_scenes_apart_that_differ_in_one_bit() -> None:
    scene = EmbeddedScenes().load("curve")
    poses_ = scene.ego.poses.copy()
    poses_[3, 0] = np.nextafter(poses_[3, 0], 1e9)
    other = dataclasses.replace(scene, ego=Trajectory(scene.ego.times_us, poses_))
    assert scene_hash(scene) != scene_hash(other)


def test_members_are_sorted_stored_and_dated_1980() -> None:
    archive = zipfile.ZipFile(io.BytesIO(scene_to_bytes(full_scene())))
    infos = archive.infolist()
    assert [i.filename for i in infos] == [
        "ego.parquet", "frames/front%2Fwide/5.jpg", "frames/front%2Fwide/7.png", "ground.parquet",
        "map.json", "map_points.parquet", "scene.json", "tracks.parquet",
    ]  # fmt: skip
    assert {i.date_time for i in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {i.compress_type for i in infos} == {zipfile.ZIP_STORED}


def test_pyarrow_is_loaded_only_when_a_bundle_is_made_or_read() -> None:
    code = "import sys, omniloop.scenes.native; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_large_scene_comes_back_bit_for_bit() -> None:
    scene = large_scene()
    assert_same(scene, scene_from_bytes(scene_to_bytes(scene), "large"))


def large_scene() -> Scene:
    """2700 ego poses, 100 tracks of 156 samples, 2000 polylines of 20 points."""
    rng = np.random.default_rng(0)

    def walk(n: int) -> np.ndarray:
        return np.cumsum(rng.normal(0.3, 0.1, (n, 3)), axis=0)

    def motion(n: int) -> np.ndarray:
        return geometry.poses_from_xyz_yaw(walk(n), np.cumsum(rng.normal(0, 0.01, n)))

    lanes_ = []
    for i in range(500):
        left, right = walk(20), walk(20)
        lanes_.append(Lane(str(i), walk(20), left, right, np.concatenate([left, right[::-1]])))
    size = np.array([4.5, 1.9, 1.6])
    return Scene(
        "large", "test", Trajectory(np.arange(2700) * 5900, motion(2700)),
        tracks=tuple(
            Track(Actor(str(i), ActorClass.CAR, "car", size), np.arange(156) * 100_000, motion(156), np.ones(156, bool))
            for i in range(100)
        ),
        map=VectorMap(tuple(lanes_)),
    )  # fmt: skip


def full_scene() -> Scene:
    """A small scene with something in every field."""
    t = np.array([0, 100_000, 200_000])
    motion = geometry.poses_from_xyz_yaw(np.arange(9.0).reshape(3, 3), np.zeros(3))
    actor = Actor("a1", ActorClass.TRUCK, "lorry", np.array([8.0, 2.5, 3.0]))
    line = np.array([[0.0, 0, 0], [1, 0, 0]])
    return Scene(
        "full", "test", Trajectory(t, motion),
        tracks=(Track(actor, t, motion, np.array([True, True, False])),),
        map=VectorMap(lanes=(Lane("1", line, line + 1.0, line - 1.0),)),
        cameras=(default_camera(),),
        first_frames=(FirstFrame("front/wide", 5, b"\xff\xd8"), FirstFrame("front/wide", 7, b"\x89PNG")),
        ground=HeightRaster(np.zeros((2, 3)), np.eye(3)[:2]),
    )  # fmt: skip


# --------------------------------------------------------------- folders and files


def test_a_folder_of_bundles_is_a_source(tmp_path: Path) -> None:
    for scene_id in ("curve", "junction"):
        write_bundle(EmbeddedScenes().load(scene_id), tmp_path / f"file_of_{scene_id}.zip")
    source = NativeScenes(str(tmp_path))
    assert source.ids() == ["curve", "junction"]
    assert_same(source.load("curve"), EmbeddedScenes().load("curve"))


def test_a_folder_that_is_a_file_is_one_clear_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SceneError, match="cannot be written"):
        write_bundle(full_scene(), tmp_path / "file" / "one.zip")


def test_one_bundle_is_a_source(tmp_path: Path) -> None:
    path = write_bundle(full_scene(), tmp_path / "new" / "one.zip")
    assert NativeScenes(str(path)).ids() == ["full"]
    assert_same(NativeScenes(str(path)).load("full"), full_scene())


def test_writing_again_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "one.zip"
    write_bundle(synthetic_scene(1, 1.0), path)
    write_bundle(full_scene(), path)
    assert NativeScenes(str(path)).ids() == ["full"]
    assert [p.name for p in tmp_path.iterdir()] == ["one.zip"]


def test_a_bundle_cannot_be_written_over_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="cannot be written") as caught:
        write_bundle(full_scene(), tmp_path)
    assert str(tmp_path) in caught.value.where
    assert list(tmp_path.parent.glob(".*.tmp")) == []


@pytest.mark.parametrize("name", ["absent.zip", "."])
def test_a_path_without_bundles_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SceneError, match=r"nothing at|holds no") as caught:
        NativeScenes(str(tmp_path / name))
    assert caught.value.where == str(tmp_path / name)
    assert "native scene bundle" in caught.value.remedy


def test_an_unknown_scene_id_suggests_the_nearest(tmp_path: Path) -> None:
    write_bundle(full_scene(), tmp_path / "a.zip")
    with pytest.raises(SceneError, match="Did you mean 'full'"):
        NativeScenes(str(tmp_path)).load("ful")


def test_two_bundles_with_one_id_are_refused_by_name(tmp_path: Path) -> None:
    write_bundle(full_scene(), tmp_path / "a.zip")
    write_bundle(full_scene(), tmp_path / "b.zip")
    with pytest.raises(SceneError, match="'full'") as caught:
        NativeScenes(str(tmp_path)).ids()
    assert "a.zip" in caught.value.where
    assert "b.zip" in caught.value.where


def test_a_damaged_bundle_in_a_folder_is_listed_by_its_file_and_loading_it_says_why(
    tmp_path: Path,
) -> None:
    write_bundle(full_scene(), tmp_path / "a.zip")
    (tmp_path / "b (1).zip").write_bytes(b"PK not a zip")
    source = NativeScenes(str(tmp_path))
    assert source.ids() == ["b_1_.zip", "full"]
    assert source.load("full").id == "full"
    with pytest.raises(SceneError, match="not a readable zip") as caught:
        source.load("b_1_.zip")
    assert caught.value.where.endswith("b (1).zip")
    (tmp_path / "b 1 .zip").write_bytes(b"PK not a zip")
    with pytest.raises(SceneError, match="not a readable zip"):
        NativeScenes(str(tmp_path)).ids()


def test_a_zip_that_is_no_bundle_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(SceneError, match=r"scene\.json.*missing") as caught:
        NativeScenes(str(tmp_path)).ids()
    assert caught.value.where.endswith("other.zip")


# ---------------------------------------------------------------------- bad bundles


def repack(change: Callable[[dict[str, bytes]], None]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(scene_to_bytes(full_scene()))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def set_key(member: str, key: str, value: object) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        document = json.loads(members[member])
        *parents, last = key.split(".")
        place = document
        for part in parents:
            place = place[int(part)] if part.isdigit() else place[part]
        place[last] = value
        members[member] = json.dumps(document).encode()

    return change


def set_column(member: str, name: str, values: object) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        table = pq.read_table(io.BytesIO(members[member]))
        at = table.column_names.index(name)
        table = table.remove_column(at)
        if values is not None:
            table = table.add_column(at, name, pa.array(values))
        sink = io.BytesIO()
        pq.write_table(table, sink)
        members[member] = sink.getvalue()

    return change


BAD = {
    "newer version": (set_key("scene.json", "version", 2), "newer than 1", "scene.json", "upgrade"),
    "version of the wrong type": (set_key("scene.json", "version", "1"), "version is '1'", "scene.json", "from 1 to 1"),
    "version 0": (set_key("scene.json", "version", 0), "version is 0", "scene.json", "from 1"),
    "another schema": (set_key("scene.json", "schema", "x"), "schema is 'x'", "scene.json", "native scene bundle"),
    "wrong type in scene.json": (set_key("scene.json", "id", 5), "id: ", "scene.json", "mend that key"),
    "id that leaves its folder": (set_key("scene.json", "id", "../../x"), "'../../x'", "scene.json", "rename"),
    "unknown class": (set_key("scene.json", "actors.0.actor_class", "TANK"), "actors.0.actor_class", "scene.json", "mend that key"),
    "NaN in JSON": (set_key("scene.json", "vehicle.length_m", float("nan")), "vehicle.length_m", "scene.json", "mend that key"),
    "unknown camera model": (set_key("scene.json", "cameras.0.model.kind", "fish"), "cameras.0.model", "scene.json", "mend that key"),
    "wrong type in map.json": (set_key("map.json", "lanes.0.centerline", "zero"), "lanes.0.centerline", "map.json", "mend that key"),
    "line number out of range": (set_key("map.json", "lanes.0.centerline", 99), "line 99", "map_points.parquet", "map.json"),
    "too few lines stated": (set_key("map.json", "lines", 1), "outside 0..0", "map_points.parquet", "lines"),
    "JSON cut off": (lambda m: m.update({"scene.json": m["scene.json"][:40]}), "not JSON", "scene.json", "write the bundle again"),
    "JSON that is a list": (lambda m: m.update({"scene.json": b"[]"}), "schema is None", "scene.json", "native"),
    "parquet cut off": (lambda m: m.update({"ego.parquet": m["ego.parquet"][:-9]}), "not a readable parquet", "ego.parquet", "write the bundle again"),
    "column missing": (set_column("tracks.parquet", "valid", None), "column 'valid' is missing", "tracks.parquet", "actor"),
    "column of the wrong type": (set_column("ego.parquet", "x", ["a", "b", "c"]), "column 'x' has type string", "ego.parquet", "floats"),
    "float times": (set_column("ego.parquet", "time_us", [0.0, 0.1, 0.2]), "column 'time_us' has type double", "ego.parquet", "integers"),
    "null in a column": (set_column("ego.parquet", "y", [0.0, None, 1.0]), "1 nulls", "ego.parquet", "without nulls"),
    "NaN ego pose": (set_column("ego.parquet", "z", [0.0, float("nan"), 1.0]), "100000 us is not finite", "ego.parquet", "mend the recording"),
    "ego quaternion not a unit": (set_column("ego.parquet", "qw", [1.0, 1.0, 0.5]), "200000 us is not a unit", "ego.parquet", "mend"),
    "unsorted ego times": (set_column("ego.parquet", "time_us", [0, 200, 100]), "100 us at index 2 is not after 200", "ego.parquet", "mend"),
    "no ego poses": (lambda m: m.update({"ego.parquet": scene_member_without_rows(m["ego.parquet"])}), "no ego pose", "ego.parquet", "record"),
    "NaN track pose": (set_column("tracks.parquet", "qz", [0.0, float("nan"), 1.0]), "100000 us is not finite", "tracks.parquet, track a1", "drop the track"),
    "unsorted track times": (set_column("tracks.parquet", "time_us", [0, 0, 100]), "0 us at index 1 is not after 0", "track a1", "drop the track"),
    "actor out of range": (set_column("tracks.parquet", "actor", [0, 1, 1]), "actor numbers 0..1", "tracks.parquet", "sort the rows"),
    "actors unsorted": (set_column("tracks.parquet", "actor", [0, -1, 0]), "actor numbers -1..0", "tracks.parquet", "sort the rows"),
    "ground of another size": (set_key("scene.json", "ground.rows", 5), "6 heights do not fill 5 x 3", "ground.parquet", "ground.rows"),
}  # fmt: skip


def scene_member_without_rows(data: bytes) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(data)).slice(0, 0), sink)
    return sink.getvalue()


@pytest.mark.parametrize("case", BAD)
def test_a_bad_bundle_is_refused_with_file_place_and_remedy(case: str) -> None:
    change, what, place, remedy = BAD[case]
    with pytest.raises(SceneError) as caught:
        scene_from_bytes(repack(change), "my/file.zip")
    assert what in caught.value.what
    assert caught.value.where.startswith("my/file.zip")
    assert place in caught.value.where
    assert remedy in caught.value.remedy


REQUIRED = ["ego.parquet", "ground.parquet", "map.json", "map_points.parquet", "scene.json"]
REQUIRED += ["tracks.parquet", "frames/front%2Fwide/5.jpg"]


@pytest.mark.parametrize("member", REQUIRED)
def test_a_missing_member_is_named(member: str) -> None:
    with pytest.raises(SceneError, match=f"'{member}' is missing") as caught:
        scene_from_bytes(repack(lambda m: m.pop(member) and None), "my/file.zip")
    assert caught.value.where == "my/file.zip"
    assert caught.value.remedy


def test_a_bomb_is_refused_and_members_that_nobody_asks_for_are_not_unpacked() -> None:
    def packed(name: str) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members.items():
                archive.writestr(member, data)
            archive.writestr(name, b" " * (16 << 20))
        return out.getvalue()

    with zipfile.ZipFile(io.BytesIO(scene_to_bytes(full_scene()))) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with pytest.raises(SceneError, match="unpack to more than 250 times"):
        scene_from_bytes(packed("frames/front/9.jpg"), "f")
    assert_same(scene_from_bytes(packed("notes.txt"), "f"), full_scene())


def test_a_small_table_with_millions_of_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 3_000_000
    monkeypatch.setattr("omniloop.scenes.parquet_size.MAX_VALUES", count - 1)

    def spoil(members: dict[str, bytes]) -> None:
        sink = io.BytesIO()
        pq.write_table(pa.table({"height_m": np.zeros(count, np.float16)}), sink)
        members["ground.parquet"] = sink.getvalue()
        assert len(sink.getvalue()) < 1 << 20

    with pytest.raises(SceneError, match="values") as caught:
        scene_from_bytes(repack(spoil), "f")
    assert caught.value.where == "f, ground.parquet"


@settings(max_examples=40, deadline=None)
@given(keep=st.floats(0, 0.999))
def test_a_bundle_cut_off_anywhere_is_refused(keep: float) -> None:
    data = scene_to_bytes(full_scene())
    with pytest.raises(SceneError, match="not a readable zip"):
        scene_from_bytes(data[: int(len(data) * keep)], "my/file.zip")


@settings(max_examples=200, deadline=None)
@given(at=st.floats(0, 0.999), flip=st.integers(1, 255))
def test_a_changed_byte_gives_the_scene_or_a_scene_error(at: float, flip: int) -> None:
    data = bytearray(scene_to_bytes(full_scene()))
    data[int(len(data) * at)] ^= flip
    try:
        back = scene_from_bytes(bytes(data), "f")
    except SceneError:
        return
    assert_same(back, full_scene())


def test_unknown_members_and_keys_are_ignored() -> None:
    def change(members: dict[str, bytes]) -> None:
        set_key("scene.json", "weather", "rain")(members)
        members["notes.txt"] = b"mine"

    assert_same(scene_from_bytes(repack(change), "f"), full_scene())


def test_keys_with_defaults_may_be_left_out() -> None:
    def change(members: dict[str, bytes]) -> None:
        document = json.loads(members["scene.json"])
        keep = ("schema", "version", "id", "source", "actors")
        members["scene.json"] = json.dumps({k: document[k] for k in keep}).encode()
        members["map.json"] = b'{"lines": 0}'
        members["map_points.parquet"] = scene_member_without_rows(members["map_points.parquet"])

    scene = scene_from_bytes(repack(change), "f")
    assert scene.vehicle == Vehicle()
    assert scene.map.lanes == ()
    assert np.array_equal(scene.dataset_to_local, np.eye(4))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"prompt": 5}, "prompt: "),
        ({"id": "a/b"}, "scene id 'a/b'"),
        ({"ego": EMPTY_TRAJECTORY}, "no ego pose"),
        ({"vehicle": Vehicle(length_m=float("inf"))}, "vehicle.length_m: "),
        ({"map": VectorMap(lanes=(Lane("7", np.zeros((4, 2))),))}, "points of shape (4, 2)"),
        (
            {"first_frames": (FirstFrame("c", 1, b"a"), FirstFrame("c", 1, b"b"))},
            "two first frames",
        ),
    ],
)
def test_a_scene_that_cannot_be_stored_is_refused(change: dict[str, object], what: str) -> None:
    with pytest.raises(SceneError) as caught:
        scene_to_bytes(dataclasses.replace(full_scene(), **change))
    assert what in caught.value.what
    assert caught.value.where.startswith("scene ")
