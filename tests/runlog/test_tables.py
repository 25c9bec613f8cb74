"""metrics.parquet and timeseries.parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omniloop.core import geometry
from omniloop.core.contracts import MetricValue
from omniloop.core.errors import RunFolderError
from omniloop.core.motion import EgoMotion
from omniloop.core.record import RolloutRecord
from omniloop.runlog import tables
from omniloop.runlog.results import RolloutResult, find_results, write_result
from omniloop.runlog.tables import (
    metrics_columns,
    timeseries_columns,
    write_metrics_parquet,
    write_rollout_timeseries,
    write_timeseries_parquet,
)
from tests.runlog.samples import PERIOD_US, START_US, make_scene, make_schedule, play


def result(seed: int, *metrics: MetricValue, **more: Any) -> RolloutResult:
    return RolloutResult(
        scene="line", seed=seed, session_id=f"line/{seed}", metrics={m.name: m for m in metrics},
        **{"outcome": "completed", **more},
    )  # fmt: skip


def store(run_dir: Path, *results: RolloutResult) -> None:
    for r in results:
        path = run_dir / "rollouts" / r.scene / str(r.seed) / "result.json"
        path.parent.mkdir(parents=True)
        write_result(path, r)


def metrics_of(run_dir: Path) -> Path:
    return write_metrics_parquet(run_dir, find_results(run_dir).results)


def timeseries_of(run_dir: Path) -> Path:
    return write_timeseries_parquet(run_dir, find_results(run_dir).results)


def test_a_row_per_rollout_with_nulls_where_a_score_is_not_valid(tmp_path: Path) -> None:
    store(
        tmp_path,
        result(1, MetricValue("progress", 0.5), MetricValue("offroad", None, "no map")),
        result(
            0, MetricValue("offroad", 1.0), outcome="policy_failed", error={"what": "too short"},
            plugins={"policy": "mine"}, privileged=["actors", "map"], handover_us=7, end_us=9,
        ),
    )  # fmt: skip
    table = pq.read_table(metrics_of(tmp_path))
    assert table.to_pylist() == [
        {
            "scene": "line", "seed": 0, "outcome": "policy_failed", "error": "too short", "stopped_by": "",
            "policy": "mine", "traffic": None, "controller": None, "ground": None, "renderer": None,
            "privileged": "actors,map", "handover_us": 7, "end_us": 9,
            "offroad": 1.0, "offroad_reason": None, "progress": None,
        },
        {
            "scene": "line", "seed": 1, "outcome": "completed", "error": None, "stopped_by": "",
            "policy": None, "traffic": None, "controller": None, "ground": None, "renderer": None,
            "privileged": "", "handover_us": None, "end_us": None,
            "offroad": None, "offroad_reason": "no map", "progress": 0.5,
        },
    ]  # fmt: skip
    assert table.schema.field("progress").type == pa.float64()
    assert "progress_reason" not in table.column_names


def test_a_score_named_like_a_fact_gets_a_column_of_its_own() -> None:
    columns = metrics_columns(
        [result(4, MetricValue("seed", 0.5), MetricValue("end_us", None, "why"))]
    )
    assert columns["seed"] == ("int64", [4])
    assert columns["metric_seed"] == ("float64", [0.5])
    assert columns["metric_end_us_reason"] == ("string", ["why"])


def test_no_results_give_an_empty_table(tmp_path: Path) -> None:
    table = pq.read_table(metrics_of(tmp_path))
    assert table.num_rows == 0
    assert table.column_names[:3] == ["scene", "seed", "outcome"]
    assert pq.read_table(timeseries_of(tmp_path)).num_rows == 0


def driven() -> RolloutRecord:
    """A drive 2 m left of the recorded path at 10 m/s that turns its nose by 0.1 rad/s."""
    scene, schedule = make_scene(), make_schedule()
    times = np.arange(START_US, schedule.end_us + 1, 40_000, dtype=np.int64)
    times = np.append(times[times < schedule.end_us], schedule.end_us)
    s = (times - START_US) / 1e6
    poses = geometry.poses_from_xyz_yaw(np.stack([10 * s, 0 * s + 2, 0 * s], 1), 0.1 * s)
    dynamics = np.zeros((len(times), 12))
    dynamics[:, 0], dynamics[:, 5], dynamics[:, 6] = 10 + s, 0.1, 1.0
    ego = EgoMotion(times, poses, dynamics)
    return RolloutRecord("line/5", scene, schedule, ego, ego, scene.recorded_actors(times), ())


def test_the_time_series_is_on_the_score_grid() -> None:
    record = driven()
    columns = timeseries_columns(record)
    grid = START_US + PERIOD_US * np.arange(3, 8)
    s = (grid - START_US) / 1e6
    assert columns["time_us"].tolist() == grid.tolist()
    for name, expected in {
        "ego_x_m": 10 * s, "ego_y_m": 0 * s + 2, "ego_z_m": 0 * s, "ego_yaw_rad": 0.1 * s,
        "ego_speed_mps": 10 + s, "ego_accel_mps2": 0 * s + 1, "ego_yaw_rate_radps": 0 * s + 0.1,
        "path_s_m": 10 * s, "path_distance_m": 0 * s + 2,
    }.items():  # fmt: skip
        np.testing.assert_allclose(columns[name], expected, atol=1e-6, err_msg=name)
    assert columns["actors_present"].tolist() == [2] * 5  # the third is there from 1 s on


def test_a_rollout_that_ended_in_warmup_has_no_rows() -> None:
    record = driven()
    keep = record.ego.times_us < record.schedule.handover_us
    ego = EgoMotion(
        record.ego.times_us[keep], record.ego.local_to_rig[keep], record.ego.dynamics[keep]
    )
    actors = record.actors.between(START_US - 1, int(ego.times_us[-1]))
    short = RolloutRecord("line/5", record.scene, record.schedule, ego, ego, actors, ())
    assert {len(c) for c in timeseries_columns(short).values()} == {0}


def test_time_series_of_a_run_are_joined_by_scene_and_seed(tmp_path: Path) -> None:
    store(tmp_path, result(5), result(2), result(7, outcome="policy_failed"))
    for seed in (5, 2):
        folder = tmp_path / "rollouts" / "line" / str(seed)
        write_rollout_timeseries(folder, play(folder / "log.mcap", seed=seed))
    table = pq.read_table(timeseries_of(tmp_path))
    assert table.column("seed").to_pylist() == [2] * 5 + [5] * 5
    assert set(table.column("scene").to_pylist()) == {"line"}
    one = pq.read_table(
        tmp_path / "rollouts" / "line" / "5" / "timeseries.parquet", partitioning=None
    )
    assert table.slice(5).equals(one)


def series(count: int, seed: int, **more: Any) -> pa.Table:
    return pa.table({
        "scene": pa.array(["line"] * count, type=pa.string()),
        "seed": pa.array([seed] * count, type=pa.int64()),
        "x_m": pa.array(np.arange(count) * 0.5 + seed), **more,
    })  # fmt: skip


@pytest.mark.parametrize("counts", [(3, 5, 1), (10,), (10, 10), (4, 6, 0, 33, 7), (0,), (0, 2)])
def test_a_table_written_piece_by_piece_has_the_bytes_of_one_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: tuple[int, ...]
) -> None:
    parts = [series(count, seed) for seed, count in enumerate(counts)]
    for seed, part in enumerate(parts):
        store(tmp_path, result(seed))
        pq.write_table(part, tmp_path / "rollouts" / "line" / str(seed) / "timeseries.parquet")
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 10)
    path = timeseries_of(tmp_path)
    whole = tmp_path / "whole.parquet"
    pq.write_table(
        pa.concat_tables(parts), whole, compression="zstd", compression_level=1, row_group_size=10
    )
    assert path.read_bytes() == whole.read_bytes()
    assert pq.ParquetFile(path).num_row_groups == max(-(-sum(counts) // 10), 1)


def test_a_time_series_with_other_columns_is_told_and_the_old_table_stays(tmp_path: Path) -> None:
    store(tmp_path, result(0), result(1))
    for seed, more in enumerate(({}, {"y_m": pa.array([1.0])})):
        path = tmp_path / "rollouts" / "line" / str(seed) / "timeseries.parquet"
        pq.write_table(series(1, seed, **more), path)
    (tmp_path / "timeseries.parquet").write_bytes(b"before")
    with pytest.raises(RunFolderError, match="columns differ") as caught:
        timeseries_of(tmp_path)
    assert caught.value.where == str(path)
    assert (tmp_path / "timeseries.parquet").read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rollouts", "timeseries.parquet"]


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        store(tmp_path / name, result(0, MetricValue("x", 0.1), MetricValue("y", None, "z")))
        metrics_of(tmp_path / name)
    first, second = ((tmp_path / name / "metrics.parquet").read_bytes() for name in "ab")
    assert first == second


def test_a_damaged_time_series_is_told(tmp_path: Path) -> None:
    store(tmp_path, result(5))
    path = tmp_path / "rollouts" / "line" / "5" / "timeseries.parquet"
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(RunFolderError, match="time series cannot be read") as caught:
        timeseries_of(tmp_path)
    assert caught.value.where == str(path)


def test_an_unwritable_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "metrics.parquet").mkdir()
    with pytest.raises(RunFolderError, match=r"metrics\.parquet cannot be written"):
        metrics_of(tmp_path)
