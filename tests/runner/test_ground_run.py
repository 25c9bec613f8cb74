"""Runs on a mesh of the ground."""

from __future__ import annotations

import numpy as np
import pytest

from omniloop.cli.scenes import mesh as export_meshes
from omniloop.configs.compose import compose
from omniloop.core import geometry
from omniloop.core.errors import ConfigError, PluginError, RunFolderError, SceneError
from omniloop.runlog.digest import digest_run
from omniloop.runlog.record import read_record
from omniloop.runner.run import execute
from omniloop.scenes.ply import read_ply, write_ply

SLOPE = 0.01
QUICK = ("renderer=none", "sync.duration_s=4", "scenes.ids=curve")


@pytest.fixture
def slope(tmp_path):
    """One large square through the origin, rising along x; its path."""
    at = np.array([(-500, -500), (500, -500), (500, 500), (-500, 500.0)])
    path = tmp_path / "curve.ply"
    write_ply(path, np.column_stack([at, SLOPE * at[:, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    return path


def run(folder, *settings, name="run"):
    return execute(compose([f"run.dir={folder}", f"run.name={name}", *QUICK, *settings]))


def test_boxes_stand_on_the_mesh_named_for_the_scene(tmp_path, slope):
    settings = ("ground=mesh", f"ground.path={tmp_path}/{{scene}}.ply", "ground.max_shift_m=2.5")
    (result,) = run(tmp_path, *settings, "sync.warmup_s=0").results
    assert result.outcome == "completed"
    counts = result.facts["ground"]
    assert set(counts["ego"]) == {"SUCCESSFUL_UPDATE"}
    assert counts["actors"]["SUCCESSFUL_UPDATE"] > 50
    record = read_record(tmp_path / "run" / "rollouts" / "curve" / "0" / "log.mcap")
    driven = record.ego.times_us > record.schedule.first_decision_us
    ego = record.ego.local_to_rig[driven]
    assert np.ptp(ego[:, 0]) > 10
    np.testing.assert_allclose(ego[:, 2], SLOPE * ego[:, 0], atol=1e-6)
    up = geometry.rotate(ego[:, 3:], np.array([0.0, 0, 1]))
    np.testing.assert_allclose(up[:, 0], -SLOPE / np.hypot(1, SLOPE), atol=1e-6)
    run(tmp_path, *settings, "sync.warmup_s=0", name="again")
    assert digest_run(tmp_path / "run") == digest_run(tmp_path / "again")


def test_a_mesh_that_cannot_serve_is_found_before_the_start(tmp_path, slope):
    with pytest.raises(PluginError, match="needs the setting 'path'"):
        run(tmp_path, "ground=mesh")
    with pytest.raises(ConfigError, match="cannot be read") as error:
        run(tmp_path, "ground=mesh", f"ground.path={tmp_path}/{{scene}}_ground.ply")
    assert f"{tmp_path}/curve_ground.ply" in error.value.where
    (tmp_path / "broken.ply").write_bytes(slope.read_bytes()[:-5])
    with pytest.raises(SceneError, match="cut off"):
        run(tmp_path, "ground=mesh", f"ground.path={tmp_path}/broken.ply")


@pytest.mark.parametrize("precision", ["null", "float32"])
def test_a_service_that_refuses_a_scene_does_so_before_the_start(tmp_path, precision):
    common = [
        f"run.dir={tmp_path}",
        f"run.wire_precision={precision}",
        "scenes.ids=curve",
        "renderer=none",
    ]
    with pytest.raises(SceneError, match="no raster of ground heights"):
        execute(compose([*common, "ground=raster"]))
    vehicle = ["controller.vehicle_model=dynamic", "controller.vehicle.cg_from_rear_m=5"]
    with pytest.raises(ConfigError, match="5 m before the rear axle"):
        execute(compose([*common, "controller=mpc", *vehicle]))
    assert not list(tmp_path.iterdir())


def test_heights_of_scenes_become_meshes(tmp_path, shared_data):
    folder = shared_data / "av2" / "motion_forecasting"
    export_meshes(["scenes=av2", f"scenes.path={folder}"], tmp_path / "meshes")
    (path,) = (tmp_path / "meshes").glob("*.ply")
    vertices, triangles = read_ply(path)
    assert len(triangles) > 10_000
    assert np.isfinite(vertices).all()
    with pytest.raises(SceneError, match="no ground heights"):
        export_meshes(["scenes.ids=curve"], tmp_path)
    with pytest.raises(RunFolderError, match="cannot write"):
        export_meshes(["scenes=av2", f"scenes.path={folder}"], path)
