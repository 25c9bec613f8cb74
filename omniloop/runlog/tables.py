"""Tables of a run: ``metrics.parquet`` and ``timeseries.parquet``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import RunFolderError
from omniloop.core.motion import Times, bracket
from omniloop.core.record import RolloutRecord
from omniloop.runlog.files import write_atomic
from omniloop.runlog.results import RolloutResult, find_results
from omniloop.runlog.timings import times_of

METRICS_NAME = "metrics.parquet"
TIMESERIES_NAME = "timeseries.parquet"


def metrics_columns(results: Sequence[RolloutResult]) -> dict[str, tuple[str, list[Any]]]:
    """Columns of ``metrics.parquet``: name to Arrow type name and values, one per result.

    After the facts of a rollout, every score has a column of its name, null where it
    is not valid, then ``<name>_reason`` if it is anywhere not valid. A score that a
    rollout lacks is null without a reason. A score whose name a fact has is called
    ``metric_<name>``. Facts end with wall-clock times, see `time_columns`.
    """
    columns: dict[str, tuple[str, list[Any]]] = {
        "scene": ("string", [r.scene for r in results]),
        "seed": ("int64", [r.seed for r in results]),
        "outcome": ("string", [r.outcome for r in results]),
        "error": ("string", [r.error.get("what") if r.error else None for r in results]),
        "stopped_by": ("string", [r.stopped_by for r in results]),
    }
    for kind in ("policy", "traffic", "controller", "ground", "renderer"):
        columns[kind] = ("string", [r.plugins.get(kind) for r in results])
    columns["privileged"] = ("string", [",".join(r.privileged) for r in results])
    columns["handover_us"] = ("int64", [r.handover_us for r in results])
    columns["end_us"] = ("int64", [r.end_us for r in results])
    columns |= time_columns(results)
    facts = set(columns)
    for metric in sorted({name for r in results for name in r.metrics}):
        found = [r.metrics.get(metric) for r in results]
        column = f"metric_{metric}" if metric in facts else metric
        columns[column] = ("float64", [m.value if m else None for m in found])
        if any(m is not None and not m.valid for m in found):
            reasons = [m.reason if m is not None and not m.valid else None for m in found]
            columns[f"{column}_reason"] = ("string", reasons)
    return columns


def time_columns(results: Sequence[RolloutResult]) -> dict[str, tuple[str, list[Any]]]:
    """Wall-clock times [s] as columns; only those that some result tells.

    ``time_queued_s``, ``time_wall_s``, ``time_rollout_s``, ``time_<service>_s`` for each service,
    ``time_own_s``, ``time_scoring_s``; see `omniloop.runlog.timings.RolloutTimes`.
    """
    times = [times_of(result) for result in results]
    services = sorted({service for t in times for service in t.services})
    found: dict[str, list[float | None]] = {
        "queued": [t.queued_s for t in times],
        "wall": [t.wall_s for t in times],
        "rollout": [t.rollout_s for t in times],
        **{service: [t.services.get(service) for t in times] for service in services},
        "own": [t.own_s for t in times],
        "scoring": [t.scoring_s for t in times],
    }
    return {
        f"time_{name}_s": ("float64", values)
        for name, values in found.items()
        if any(value is not None for value in values)
    }


def write_metrics_parquet(run_dir: Path) -> Path:
    """Write one row per rollout, by scene and seed; see `metrics_columns`.

    Raises:
        RunFolderError: it cannot be written.
    """
    import pyarrow as pa

    types = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
    columns = metrics_columns(find_results(run_dir).results)
    arrays = {name: pa.array(values, type=types[kind]) for name, (kind, values) in columns.items()}
    return _write(run_dir / METRICS_NAME, pa.table(arrays))


def timeseries_columns(record: RolloutRecord) -> dict[str, np.ndarray]:
    """Ego on the score grid of a rollout, each column ``(N,)``; N is 0 before handover.

    Columns: ``time_us``; true pose ``ego_x_m``, ``ego_y_m``, ``ego_z_m``, ``ego_yaw_rad``
    in the local frame; ``ego_speed_mps`` and ``ego_accel_mps2`` along the rig's x axis,
    ``ego_yaw_rate_radps``; ``path_s_m`` arc length and ``path_distance_m`` distance
    of the nearest point of the recorded ego path, in the plane; ``actors_present``.
    """
    times: Times = record.schedule.score_times_us(record.frontier_us)
    poses = record.ego.trajectory.sample(times)
    lo, hi, alpha = bracket(record.ego.times_us, times)
    dynamics = record.ego.dynamics
    motion = dynamics[lo] + alpha[:, None] * (dynamics[hi] - dynamics[lo])
    path_s_m, distance_m = geometry.project_on_polyline(poses[:, :2], record.scene.ego.poses[:, :2])
    return {
        "time_us": times,
        "ego_x_m": poses[:, 0],
        "ego_y_m": poses[:, 1],
        "ego_z_m": poses[:, 2],
        "ego_yaw_rad": geometry.yaw_rad(poses),
        "ego_speed_mps": motion[:, 0],
        "ego_accel_mps2": motion[:, 6],
        "ego_yaw_rate_radps": motion[:, 5],
        "path_s_m": path_s_m,
        "path_distance_m": distance_m,
        "actors_present": record.actors.sample(times).valid.sum(axis=0, dtype=np.int64),
    }


def write_rollout_timeseries(rollout: Path, record: RolloutRecord) -> Path:
    """Write the time series of one rollout into its folder.

    Raises:
        RunFolderError: it cannot be written.
    """
    import pyarrow as pa

    columns = timeseries_columns(record)
    count = len(columns["time_us"])
    scene, _, seed = record.session_id.rpartition("/")
    table = {
        "scene": pa.array([scene] * count, type=pa.string()),
        "seed": pa.array([int(seed)] * count, type=pa.int64()),
        **{name: pa.array(np.ascontiguousarray(values)) for name, values in columns.items()},
    }
    return _write(rollout / TIMESERIES_NAME, pa.table(table))


def write_timeseries_parquet(run_dir: Path) -> Path:
    """Write the time series of all rollouts with a valid result as one table.

    Rollouts that left none, because they failed, have no rows.

    Raises:
        RunFolderError: it cannot be written, or a rollout's cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = []
    for result in find_results(run_dir).results:
        path = run_dir / "rollouts" / result.scene / str(result.seed) / TIMESERIES_NAME
        if not path.is_file():
            continue
        try:
            parts.append(pq.read_table(path, use_threads=False, partitioning=None))
        except (pa.ArrowException, OSError) as error:
            raise RunFolderError(
                f"the time series cannot be read: {str(error).splitlines()[0]}", where=str(path),
                remedy="remove the rollout's folder, then go on with run.resume=true",
            ) from error  # fmt: skip
    empty = pa.table(
        {"scene": pa.array([], type=pa.string()), "seed": pa.array([], type=pa.int64())}
    )
    return _write(run_dir / TIMESERIES_NAME, pa.concat_tables(parts) if parts else empty)


def _write(path: Path, table: Any) -> Path:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", compression_level=1)
    write_atomic(path, sink.getvalue())
    return path
