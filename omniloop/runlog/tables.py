"""Tables of a run: ``metrics.parquet`` and ``timeseries.parquet``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import RunFolderError
from omniloop.core.motion import Times, bracket
from omniloop.core.record import RolloutRecord
from omniloop.runlog.files import replacing
from omniloop.runlog.results import RolloutResult
from omniloop.runlog.timings import times_of

METRICS_NAME = "metrics.parquet"
TIMESERIES_NAME = "timeseries.parquet"

ROWS_AT_ONCE = 1 << 20
"""Rows of a row group, which are in memory together: 100 to 200 MiB of time series."""

_PACKED: dict[str, Any] = {"compression": "zstd", "compression_level": 1}


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
        values = [None if m is None else m.value for m in found]
        columns[column] = ("float64", values)
        if None in values:
            reasons = [m.reason if m is not None and m.value is None else None for m in found]
            if any(reason is not None for reason in reasons):
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


def write_metrics_parquet(run_dir: Path, results: Sequence[RolloutResult]) -> Path:
    """Write one row per rollout; see `metrics_columns`.

    Args:
        results: As `omniloop.runlog.results.find_results` has them, by scene and seed.

    Raises:
        RunFolderError: it cannot be written.
    """
    import pyarrow as pa

    types = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
    columns = metrics_columns(results)
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


def write_timeseries_parquet(run_dir: Path, results: Iterable[RolloutResult]) -> Path:
    """Write the time series of rollouts as one table, of which `ROWS_AT_ONCE` are in memory.

    Rollouts that left none, because they failed, have no rows.

    Args:
        results: As `omniloop.runlog.results.find_results` has them, by scene and seed.

    Raises:
        RunFolderError: it cannot be written, or a rollout's cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    empty = pa.table(
        {"scene": pa.array([], type=pa.string()), "seed": pa.array([], type=pa.int64())}
    )
    tables = _timeseries(run_dir, results)
    held = [next(tables, empty)]
    rows, path = held[0].num_rows, run_dir / TIMESERIES_NAME
    with replacing(path) as file, pq.ParquetWriter(file, held[0].schema, **_PACKED) as writer:
        for table in tables:
            held.append(table)
            rows += table.num_rows
            while rows > ROWS_AT_ONCE:
                held = _write_group(writer, held)
                rows -= ROWS_AT_ONCE
        writer.write_table(pa.concat_tables(held), ROWS_AT_ONCE)
    return path


def _write_group(writer: Any, held: list[Any]) -> list[Any]:
    """Write the first `ROWS_AT_ONCE` of some tables, return the rest."""
    import pyarrow as pa

    whole = pa.concat_tables(held)
    writer.write_table(whole.slice(0, ROWS_AT_ONCE), ROWS_AT_ONCE)
    return [whole.slice(ROWS_AT_ONCE)]


def _timeseries(run_dir: Path, results: Iterable[RolloutResult]) -> Iterator[Any]:
    """The time series of each rollout that left one.

    Raises:
        RunFolderError: one cannot be read, or has other columns than those before it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = None
    for result in results:
        path = run_dir / "rollouts" / result.scene / str(result.seed) / TIMESERIES_NAME
        if not path.is_file():
            continue
        try:
            with pq.ParquetFile(path) as file:  # a third of the time that `read_table` takes
                table = file.read(use_threads=False)
            schema = schema or table.schema
            if not table.schema.equals(schema):
                raise pa.ArrowInvalid("its columns differ from those of other rollouts")
        except (pa.ArrowException, OSError) as error:
            raise RunFolderError(
                f"the time series cannot be read: {str(error).splitlines()[0]}", where=str(path),
                remedy="remove the rollout's folder, then go on with run.resume=true",
            ) from error  # fmt: skip
        yield table


def _write(path: Path, table: Any) -> Path:
    import pyarrow.parquet as pq

    with replacing(path) as file:
        pq.write_table(table, file, **_PACKED)
    return path
