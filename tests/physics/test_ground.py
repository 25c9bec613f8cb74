import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.contracts import GroundRequest, GroundStatus, SessionInfo
from omniloop.core.errors import ConfigError, SceneError
from omniloop.core.motion import Trajectory
from omniloop.core.registry import create
from omniloop.core.scene import HeightRaster, Scene
from omniloop.scenes.av2 import Av2Scenes
from omniloop.scenes.height_raster import raster_mesh, sample_heights
from omniloop.scenes.ply import write_ply

CELL_M = 0.5
SIZE = np.array([4.6, 1.9, 1.6])


def raster(height_of_xy, noise_m: float = 0.0, seed: int = 0) -> HeightRaster:
    """Cells every 0.5 m over +-50 m; columns along x, rows along -y."""
    column, row = np.meshgrid(np.arange(201), np.arange(201))
    heights = np.asarray(height_of_xy(column * CELL_M - 50, 50 - row * CELL_M), dtype=np.float64)
    heights = heights + noise_m * np.random.default_rng(seed).standard_normal((201, 201))
    return HeightRaster(heights, np.array([[1 / CELL_M, 0, 100.0], [0, -1 / CELL_M, 100.0]]))


def correct(name: str, boxes, ground=None, sizes=None, ego_z=0.0, **settings):
    ego = Trajectory(np.array([0, 1]), np.tile(geometry.pose(z=ego_z), (2, 1)))
    scene = Scene("s", "test", ego, ground=ground)
    session = create("ground", name, settings).open(
        SessionInfo("s/0", scene, 0, scene.vehicle, 0, 0, 1)
    )
    boxes = np.atleast_2d(boxes)
    sizes = np.tile(SIZE, (len(boxes), 1)) if sizes is None else sizes
    result = session.correct(
        GroundRequest(boxes, sizes, np.zeros(len(boxes), dtype=np.int64), 0, 1, is_ego=False)
    )
    assert result.local_to_aabb.shape == boxes.shape
    assert result.status.shape == (len(boxes),)
    return result


def bottom_points(box, size=SIZE):
    corners = np.array([[sx, sy, -1] for sx in (-1, 1) for sy in (-1, 1)]) / 2 * size
    return geometry.transform_points(box, corners)


# ---------------------------------------------------------------------------------- flat


def test_flat_sets_boxes_upright_on_the_plane():
    tilted = geometry.compose(
        geometry.pose(3, 4, 9, 0.8), np.array([0, 0, 0, 0.1, 0.2, 0, 0.97468])
    )
    result = correct("flat", tilted, height_m=2.0)
    np.testing.assert_allclose(result.local_to_aabb[0, :3], [3, 4, 2.8])
    assert geometry.yaw_rad(result.local_to_aabb)[0] == pytest.approx(
        float(geometry.yaw_rad(tilted))
    )
    np.testing.assert_allclose(bottom_points(result.local_to_aabb[0])[:, 2], 2.0, atol=1e-12)
    assert result.status.tolist() == [0]


def test_flat_takes_the_recorded_egos_height_by_default():
    result = correct("flat", geometry.pose(z=5.0), ego_z=-1.5)
    assert result.local_to_aabb[0, 2] == pytest.approx(-1.5 + 0.8)


@pytest.mark.parametrize("height_m", [float("nan"), "low", True, 1e300])
def test_flat_refuses_a_height_that_is_none(height_m):
    with pytest.raises(ConfigError, match=f"height_m is {height_m!r}".replace("+", r"\+")):
        create("ground", "flat", {"height_m": height_m})


# -------------------------------------------------------------------------------- raster


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-0.12, 0.12), st.floats(-0.12, 0.12), st.floats(-3, 3),
    st.floats(-40, 40), st.floats(-40, 40), st.floats(-0.05, 0.05), st.floats(-1.2, 1.2),
)  # fmt: skip
def test_on_a_slope_the_whole_bottom_face_lies_on_the_ground(gx, gy, yaw, x, y, roll, lift):
    start = geometry.pose(x, y, gx * x + gy * y + SIZE[2] / 2 + lift, yaw)
    tilt = np.array([0, 0, 0, np.sin(roll / 2), 0, 0, np.cos(roll / 2)])
    start = geometry.compose(start, tilt)
    result = correct("raster", start, raster(lambda x, y: gx * x + gy * y))
    if result.status[0] == GroundStatus.HIGH_ROTATION.value:
        assert np.hypot(gx, gy) + abs(roll) > 0.15
        return
    assert result.status[0] == 0
    box = result.local_to_aabb[0]
    np.testing.assert_allclose(box[:2], start[:2], atol=1e-12)
    assert geometry.wrap_rad(geometry.yaw_rad(box) - geometry.yaw_rad(start)) == pytest.approx(
        0, abs=1e-9
    )
    points = bottom_points(box)
    np.testing.assert_allclose(points[:, 2], gx * points[:, 0] + gy * points[:, 1], atol=1e-9)
    assert np.linalg.norm(box[3:]) == pytest.approx(1.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.0, 0.05))
def test_correcting_twice_changes_nothing(seed, noise):
    ground = raster(lambda x, y: 0.5 * np.sin(x / 9) + 0.3 * np.cos(y / 7), noise, seed)
    rng = np.random.default_rng(seed)
    boxes = geometry.poses_from_xyz_yaw(rng.uniform(-40, 40, (30, 3)), rng.uniform(-3, 3, 30))
    boxes[:, 2] = sample_heights(ground, boxes[:, 0], boxes[:, 1]) + 0.8
    once = correct("raster", boxes, ground)
    twice = correct("raster", once.local_to_aabb, ground)
    assert (once.status == 0).sum() > 20
    np.testing.assert_allclose(twice.local_to_aabb, once.local_to_aabb, atol=1e-9)
    np.testing.assert_array_equal(twice.status, once.status)


def test_too_far_from_the_ground_or_too_steep_the_pose_stays():
    ground = raster(lambda x, y: np.where(x > 0, 0.3 * x, 0.0))
    boxes = np.stack(
        [
            geometry.pose(-20, 0, 0.8 + 1.4),
            geometry.pose(-20, 0, 0.8 + 1.6),
            geometry.pose(20, 0, 6.8),
        ]
    )
    result = correct("raster", boxes, ground)
    assert result.status.tolist() == [
        0,
        GroundStatus.HIGH_TRANSLATION.value,
        GroundStatus.HIGH_ROTATION.value,
    ]
    assert result.local_to_aabb[0, 2] == pytest.approx(0.8)
    np.testing.assert_array_equal(result.local_to_aabb[1:], boxes[1:])


def test_unknown_ground_leaves_the_pose_with_a_status():
    def heights(x, y):
        return np.where(x < 0, 0.05 * x, np.nan)

    boxes = np.stack([
        geometry.pose(-20, 0, -0.2), geometry.pose(20, 0, 0.8),
        geometry.pose(500, 0, 0.8), geometry.pose(0.2, 0, 0.8), geometry.pose(1.0, 0, 0.8, np.pi / 2),
    ])  # fmt: skip
    result = correct("raster", boxes, raster(heights))
    missing = GroundStatus.INSUFFICIENT_POINTS_FITPLANE.value
    assert result.status.tolist() == [0, missing, missing, 0, missing]
    np.testing.assert_array_equal(result.local_to_aabb[[1, 2, 4]], boxes[[1, 2, 4]])
    # Half of this box lies over known ground, and that half decides.
    points = bottom_points(result.local_to_aabb[3])
    np.testing.assert_allclose(points[:, 2], 0.05 * points[:, 0], atol=1e-9)


def test_heights_are_bilinear_and_a_hole_spoils_only_what_touches_it():
    heights = np.array([[0.0, 1.0, 2.0], [3.0, 5.0, np.nan]])
    ground = HeightRaster(heights, np.array([[1.0, 0, 0], [0, 1.0, 0]]))
    x = np.array([0.0, 0.5, 1.0, 2.0, 1.5, 1.0, 0.5, -0.1, 2.1, 1.0])
    y = np.array([0.0, 0.0, 0.5, 0.0, 0.5, 1.0, 0.5, 0.0, 0.0, 1.1])
    expected = [0, 0.5, 3, 2, np.nan, 5, 2.25, np.nan, np.nan, np.nan]
    np.testing.assert_allclose(sample_heights(ground, x, y), expected)


def test_raster_without_heights_says_what_to_use_instead():
    with pytest.raises(SceneError, match="no raster") as error:
        correct("raster", geometry.pose())
    assert "ground=flat" in error.value.remedy


# --------------------------------------------------------------------------------- scene


def test_scene_uses_the_raster_where_there_is_one():
    ground = raster(lambda x, y: 0.1 * x)
    box = geometry.pose(10, 0, 2.0)
    np.testing.assert_array_equal(
        correct("scene", box, ground).local_to_aabb, correct("raster", box, ground).local_to_aabb
    )


def test_scene_without_a_raster_returns_the_very_poses_it_got():
    boxes = geometry.poses_from_xyz_yaw(np.arange(9).reshape(3, 3), np.arange(3))
    result = correct("scene", boxes)
    assert result.local_to_aabb is boxes
    assert result.status.tolist() == [0, 0, 0]


def test_no_boxes_are_no_problem(tmp_path):
    path = tmp_path / "plane.ply"
    write_ply(path, *raster_mesh(raster(lambda x, y: 0 * x)))
    for name in ("flat", "scene", "raster", "mesh"):
        chosen = {"path": str(path)} if name == "mesh" else {}
        result = correct(
            name, np.zeros((0, 7)), raster(lambda x, y: 0 * x), np.zeros((0, 3)), **chosen
        )
        assert len(result.status) == 0


@pytest.mark.parametrize("name", ["scene", "raster"])
def test_limits_are_settings(name):
    ground = raster(lambda x, y: 0.25 * x)
    box = geometry.pose(z=2.8)
    assert correct(name, box, ground).status[0] == GroundStatus.HIGH_TRANSLATION.value
    assert correct(name, box, ground, max_shift_m=3.0).status[0] == GroundStatus.HIGH_ROTATION.value
    assert correct(name, box, ground, max_shift_m=3, max_tilt_deg=15).status[0] == 0
    with pytest.raises(ConfigError, match="max_tilt_deg is -1"):
        create("ground", name, {"max_tilt_deg": -1})


# ---------------------------------------------------------------------------------- mesh


def scene_of(ground=None, dataset_to_local=None, ego_xyz=(0, 0, 0), name="s"):
    ego = Trajectory(np.array([0, 1]), np.tile(geometry.pose(*ego_xyz), (2, 1)))
    placed = np.eye(4) if dataset_to_local is None else dataset_to_local
    return Scene(name, "test", ego, ground=ground, dataset_to_local=placed)


def ground_of(path, scene=None, **chosen):
    """A session of `MeshGround` on a checked scene."""
    scene = scene_of() if scene is None else scene
    plugin = create("ground", "mesh", {"path": str(path), **chosen})
    plugin.check_scene(scene)
    return plugin.open(SessionInfo("s/0", scene, 0, scene.vehicle, 0, 0, 1))


def ask(session, boxes, sizes=None, is_ego=False):
    boxes = np.atleast_2d(boxes)
    sizes = np.tile(SIZE, (len(boxes), 1)) if sizes is None else sizes
    times = np.zeros(len(boxes), dtype=np.int64)
    return session.correct(GroundRequest(boxes, sizes, times, 0, 1, is_ego=is_ego))


def many_boxes(n, reach_m, ground, seed=0):
    rng = np.random.default_rng(seed)
    boxes = geometry.poses_from_xyz_yaw(
        rng.uniform(-reach_m, reach_m, (n, 3)), rng.uniform(-3, 3, n)
    )
    boxes[:, 2] = sample_heights(ground, boxes[:, 0], boxes[:, 1]) + 0.8 + rng.uniform(-1, 1, n)
    return boxes


@pytest.fixture
def written(tmp_path):
    """Write a raster as a mesh, moved and turned into a dataset's frame; its path."""

    def write(ground, dataset_to_local=None, name="mesh.ply"):
        vertices, triangles = raster_mesh(ground)
        if dataset_to_local is not None:
            vertices = vertices @ dataset_to_local[:3, :3].T + dataset_to_local[:3, 3]
        write_ply(tmp_path / name, vertices, triangles)
        return tmp_path / name

    return write


def test_mesh_of_a_plane_gives_what_the_raster_of_it_gives(written):
    ground = raster(lambda x, y: 0.08 * x - 0.05 * y + 0.3)
    boxes = many_boxes(200, 40, ground)
    session = ground_of(written(ground))
    from_mesh, from_raster = ask(session, boxes), correct("raster", boxes, ground)
    np.testing.assert_array_equal(from_mesh.status, 0)
    np.testing.assert_array_equal(from_raster.status, 0)
    np.testing.assert_allclose(from_mesh.local_to_aabb, from_raster.local_to_aabb, atol=1e-9)


def test_mesh_of_a_recorded_raster_agrees_with_it_within_the_interpolation(shared_data, written):
    source = Av2Scenes(str(shared_data / "av2" / "sensor"))
    scene = source.load(source.ids()[0])
    ground = scene.ground
    session = ground_of(written(ground), scene)
    rng = np.random.default_rng(0)
    boxes = scene.ego.poses[rng.integers(0, len(scene.ego.times_us), 300)]
    boxes[:, :2] += rng.uniform(-15, 15, (300, 2))
    boxes[:, 2] = sample_heights(ground, boxes[:, 0], boxes[:, 1]) + SIZE[2] / 2
    boxes = boxes[np.isfinite(boxes[:, 2])]
    h = ground.heights_m
    twist_m = np.abs(h[1:, 1:] + h[:-1, :-1] - h[1:, :-1] - h[:-1, 1:])
    cell = np.floor(
        ground.local_xy_to_cell[:, :2] @ boxes[:, :2].T + ground.local_xy_to_cell[:, 2:]
    )
    from_mesh, from_raster = ask(session, boxes), correct("raster", boxes, ground)
    both = (from_mesh.status == 0) & (from_raster.status == 0)
    assert both.sum() > 200
    assert (from_mesh.status != from_raster.status).mean() < 0.02
    gap_m = np.abs(from_mesh.local_to_aabb[:, 2] - from_raster.local_to_aabb[:, 2])
    for i in both.nonzero()[0]:
        column, row = cell[:, i].astype(int)
        reach = 12  # cells of 0.3 m that a box of 4.6 m can touch
        near = twist_m[max(row - reach, 0) : row + reach, max(column - reach, 0) : column + reach]
        assert gap_m[i] <= np.nanmax(near) / 4 * 1.1 + 1e-9
    assert np.median(gap_m[both]) < 2e-3


def test_mesh_statuses_of_a_ramp_a_step_and_a_hole(written):
    steep = np.tan(np.deg2rad(12))
    start = geometry.pose(z=0.8)
    for heights, ego_x, status in (
        (lambda x, y: steep * x, 0, GroundStatus.HIGH_ROTATION),
        (lambda x, y: np.where(np.hypot(x, y) < 10, -2.0, 0.0), 20, GroundStatus.HIGH_TRANSLATION),
        (
            lambda x, y: np.where(np.hypot(x, y) < 10, np.nan, 0.0), 20,
            GroundStatus.INSUFFICIENT_POINTS_FITPLANE,
        ),
    ):  # fmt: skip
        session = ground_of(written(raster(heights)), scene_of(ego_xyz=(ego_x, 0, 0)))
        result = ask(session, start)
        assert result.status.tolist() == [status.value]
        np.testing.assert_array_equal(result.local_to_aabb[0], start)


def test_mesh_keeps_a_box_on_the_road_or_on_the_bridge_above_it(tmp_path):
    road, r = raster_mesh(raster(lambda x, y: 0.03 * x))
    bridge, b = raster_mesh(raster(lambda x, y: np.where(np.abs(y) < 6, 5.5 + 0.02 * y, np.nan)))
    path = tmp_path / "bridge.ply"
    write_ply(path, np.concatenate([road, bridge]), np.concatenate([r, b + len(road)]))
    rng = np.random.default_rng(5)
    boxes = geometry.poses_from_xyz_yaw(rng.uniform(-35, 35, (300, 3)), rng.uniform(-3, 3, 300))
    above = rng.uniform(0, 1, 300) < 0.5
    boxes[:, 1] /= 10
    boxes[:, 2] = np.where(above, 6.3, 0.03 * boxes[:, 0] + 0.8) + rng.uniform(-1, 1, 300)
    session = ground_of(path)
    once = ask(session, boxes)
    assert (once.status == 0).all()
    deck, street = 5.5 + 0.02 * boxes[:, 1], 0.03 * boxes[:, 0]
    np.testing.assert_allclose(
        once.local_to_aabb[:, 2], np.where(above, deck, street) + 0.8, atol=2e-3
    )
    twice = ask(session, once.local_to_aabb)
    np.testing.assert_allclose(twice.local_to_aabb, once.local_to_aabb, atol=1e-9)


@settings(max_examples=20)
@given(st.floats(-3, 3), st.floats(-0.3, 0.3), st.floats(-6.4e6, 6.4e6), st.floats(-6.4e6, 6.4e6))
def test_mesh_in_the_frame_of_the_dataset_is_the_mesh_in_local(
    tmp_path_factory, yaw, tilt, east, north
):
    # A dataset's z axis need not point up: earth-centred frames lean.
    ground = raster(lambda x, y: 0.05 * x + 0.2 * np.sin(y / 5))
    lean = np.array([0, 0, 0, np.sin(tilt / 2), 0, 0, np.cos(tilt / 2)])
    placed = geometry.matrix_from_pose(
        geometry.compose(geometry.pose(east, north, 150.25, yaw), lean)
    )
    vertices, triangles = raster_mesh(ground)
    folder = tmp_path_factory.mktemp("meshes")
    write_ply(folder / "local.ply", vertices, triangles)
    moved = vertices @ placed[:3, :3].T + placed[:3, 3]
    write_ply(folder / "dataset.ply", moved, triangles)
    boxes = many_boxes(60, 40, ground)
    scene = scene_of(dataset_to_local=placed)
    at_home = ask(ground_of(folder / "local.ply", scene), boxes)
    away = ask(ground_of(folder / "dataset.ply", scene, frame="dataset"), boxes)
    np.testing.assert_array_equal(away.status, at_home.status)
    np.testing.assert_allclose(away.local_to_aabb, at_home.local_to_aabb, atol=1e-7)


def test_mesh_path_holds_the_scene(written, tmp_path):
    for name, height in (("low", 0.0), ("high", 1.0)):
        written(raster(lambda x, y, h=height: 0 * x + h), name=f"ground_{name}.ply")
    for name, height in (("low", 0.0), ("high", 1.0)):
        session = ground_of(tmp_path / "ground_{scene}.ply", scene_of(name=name))
        assert ask(session, geometry.pose(z=1.5)).local_to_aabb[0, 2] == pytest.approx(height + 0.8)
    with pytest.raises(ConfigError, match="No such file") as error:
        ground_of(tmp_path / "ground_{scene}.ply", scene_of(name="none"))
    assert "ground_none.ply" in error.value.where


def test_mesh_is_shared_by_sessions(written):
    path = written(raster(lambda x, y: 0 * x))
    plugin = create("ground", "mesh", {"path": str(path)})
    assert plugin._placed(scene_of())[0] is plugin._placed(scene_of())[0]
    again = create("ground", "mesh", {"path": str(path), "max_shift_m": 1.0})
    assert again._placed(scene_of())[0] is plugin._placed(scene_of())[0]


def test_mesh_that_is_nowhere_near_ego_is_refused_before_the_start(written):
    path = written(raster(lambda x, y: 0 * x))
    placed = geometry.matrix_from_pose(geometry.pose(5000, 4e6, 20))
    for scene, chosen, match in (
        (scene_of(ego_xyz=(70, 0, 0)), {}, "x -50.0 to 50.0, .* ego x 70.0 to 70.0"),
        (scene_of(ego_xyz=(0, 0, 30)), {}, "z 0.0 to 0.0, ego .*z 30.0 to 30.0"),
        (scene_of(dataset_to_local=placed), {"frame": "dataset"}, "x -5050.0 to -4950.0"),
    ):
        with pytest.raises(SceneError, match=match) as error:
            ground_of(path, scene, **chosen)
        assert "ground.frame" in error.value.remedy


def test_mesh_of_another_scene_is_refused_although_both_begin_at_the_origin(written):
    path = written(raster(lambda x, y: 0 * x))
    for reach_m, fits in ((99, True), (110, False)):
        poses = geometry.poses_from_xyz_yaw(np.linspace((0, 0, 0), (reach_m, 0, 0), 101), 0.0)
        scene = Scene("s", "test", Trajectory(np.arange(101), poses))
        if fits:
            ground_of(path, scene)
        else:
            with pytest.raises(SceneError, match=r"of 101 recorded ego poses 46 are within 1.5 m"):
                ground_of(path, scene)


def test_mesh_needs_a_pose_between_dataset_and_local(written):
    path = written(raster(lambda x, y: 0 * x))
    for wrong in (np.diag([2.0, 2, 2, 1]), np.full((4, 4), np.nan)):
        with pytest.raises(SceneError, match="dataset_to_local is no pose"):
            ground_of(path, scene_of(dataset_to_local=wrong), frame="dataset")


def test_mesh_settings_that_cannot_be_are_refused(tmp_path, written):
    path = written(raster(lambda x, y: 0 * x))
    with pytest.raises(ConfigError, match=r"unknown frame 'datset'.* 'dataset'"):
        create("ground", "mesh", {"path": str(path), "frame": "datset"})
    for chosen in ("", 3, None):
        with pytest.raises(ConfigError, match="path is"):
            create("ground", "mesh", {"path": chosen})
    with pytest.raises(ConfigError, match="max_shift_m is 0"):
        create("ground", "mesh", {"path": str(path), "max_shift_m": 0})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        ground_of(tmp_path)
    (tmp_path / "mesh.obj").write_text("v 0 0 0")
    with pytest.raises(SceneError, match="no PLY file"):
        ground_of(tmp_path / "mesh.obj")


# --------------------------------------------------------------------------------- facts


def test_facts_count_each_status_of_ego_and_of_actors(written):
    ground = raster(lambda x, y: np.where(x > 0, 0.3 * x, 0.0))
    boxes = np.stack(
        [geometry.pose(x, 0, z) for x, z in ((-20, 0.8), (-20, 9), (20, 6.8), (99, 0))]
    )
    plugin = create("ground", "raster", {})
    info = SessionInfo("s/0", scene_of(ground), 0, scene_of().vehicle, 0, 0, 1)
    for session in (plugin.open(info), ground_of(written(ground))):
        assert session.facts() == {"ego": {}, "actors": {}}
        ask(session, boxes[:1], is_ego=True)
        for _ in range(3):
            ask(session, boxes)
        expected = {
            "ego": {"SUCCESSFUL_UPDATE": 1},
            "actors": {
                "SUCCESSFUL_UPDATE": 3, "INSUFFICIENT_POINTS_FITPLANE": 3, "HIGH_TRANSLATION": 3,
                "HIGH_ROTATION": 3,
            },
        }  # fmt: skip
        assert json.loads(json.dumps(session.facts())) == expected


@pytest.mark.parametrize("name", ["flat", "scene"])
def test_grounds_without_heights_count_too(name):
    session = create("ground", name, {}).open(
        SessionInfo("s/0", scene_of(), 0, scene_of().vehicle, 0, 0, 1)
    )
    ask(session, np.stack([geometry.pose(), geometry.pose(1)]))
    assert session.facts() == {"ego": {}, "actors": {"SUCCESSFUL_UPDATE": 2}}
