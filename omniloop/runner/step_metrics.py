"""``step_metrics.parquet``: AlpaSim's scores of one rollout over time, in its columns."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from omniloop.core.errors import RunFolderError
from omniloop.core.record import BlackFrames, Metric, RolloutRecord
from omniloop.metrics.alpasim_metric import AlpasimMetric
from omniloop.metrics.alpasim_steps import StepMetric, step_metrics
from omniloop.runlog.black_frames import black_frames
from omniloop.runlog.files import write_atomic
from omniloop.runlog.folder import LOG_NAME

log = logging.getLogger("omniloop.daemon")

STEPS_NAME = "step_metrics.parquet"


def write_step_metrics(
    rollout: Path, record: RolloutRecord | None, metrics: Sequence[Metric]
) -> None:
    """Write the scores of a rollout into its folder, if it has a record and the metric is on.

    Rows are one score at one time: ``name``, ``timestamps_us``, ``values`` (NaN where not
    valid), ``valid`` and ``time_aggregation``, the scores one after the other. Where frames of
    the metric's camera were rendered, those of the log are looked at for `img_is_black`: call
    this in a thread.

    Raises:
        RunFolderError: they cannot be written.
    """
    settings = next((m.settings for m in metrics if isinstance(m, AlpasimMetric)), None)
    if record is None or settings is None:
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    steps = step_metrics(record, settings, _frames(rollout, record, settings.camera))
    lengths = [len(s.times_us) for s in steps]

    def repeated(words: Sequence[str]) -> pa.Array:
        codes = np.repeat(np.arange(len(words), dtype=np.int32), lengths)
        return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(words, type=pa.string()))

    table = pa.table({
        "name": repeated([s.name for s in steps]),
        "timestamps_us": _joined([s.times_us for s in steps], np.int64),
        "values": _joined([s.values for s in steps], np.float64),
        "valid": _joined([s.valid for s in steps], np.bool_),
        "time_aggregation": repeated([s.over_time for s in steps]),
    })  # fmt: skip
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", compression_level=1)
    write_atomic(rollout / STEPS_NAME, sink.getvalue())


def _frames(rollout: Path, record: RolloutRecord, camera: str) -> BlackFrames | None:
    """The frames of a camera, None if it was not rendered or an image cannot be read."""
    if all(clock.camera_id != camera for clock in record.schedule.clocks):
        return None
    try:
        return black_frames(rollout / LOG_NAME, camera)
    except RunFolderError as error:
        log.warning("%s: img_is_black is left out: %s", record.session_id, error.what)
        return None


def _joined(parts: Sequence[np.ndarray], kind: type[np.generic]) -> np.ndarray:
    return np.concatenate([*parts, np.zeros(0, dtype=kind)]).astype(kind)


def read_step_metrics(rollout: Path) -> tuple[StepMetric, ...]:
    """Read the scores of a rollout; none if it left none, because it failed.

    Raises:
        RunFolderError: they cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = rollout / STEPS_NAME
    if not path.is_file():
        return ()
    try:
        table = pq.read_table(path, use_threads=False, partitioning=None)
        words = {key: table[key].to_pylist() for key in ("name", "time_aggregation")}
        numbers = {key: table[key].to_numpy() for key in ("timestamps_us", "values", "valid")}
    except (pa.ArrowException, OSError, KeyError) as error:
        raise RunFolderError(
            f"the scores over time cannot be read: {str(error).splitlines()[0]}",
            where=str(path), remedy="run the rollout again",
        ) from error  # fmt: skip
    names = words["name"]
    begins = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    return tuple(
        StepMetric(
            names[lo], numbers["timestamps_us"][lo:hi], numbers["values"][lo:hi],
            numbers["valid"][lo:hi], words["time_aggregation"][lo],
        )
        for lo, hi in zip(begins, [*begins[1:], len(names)], strict=True)
    )  # fmt: skip
