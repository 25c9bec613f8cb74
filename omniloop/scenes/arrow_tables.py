"""Tables of strangers in parquet and feather files, bounded before they are unpacked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omniloop.scenes import parquet_size
from omniloop.scenes.feather_size import MAGIC, check_feather_size


def read_bounded(data: bytes, columns: Sequence[str] | None = None) -> Any:
    """Read a parquet or feather file.

    Args:
        columns: Only these; one that the file lacks is passed over. None reads all.

    Returns:
        A valid `pyarrow.Table`: texts are UTF-8, lists end after they start.

    Raises:
        ValueError: it holds more than a table of a scene can, is damaged, is neither, or two of its
            columns have one name.
    """
    import pyarrow as pa

    try:
        if data[:4] in (MAGIC[:4], b"FEA1"):
            check_feather_size(data)
            table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
            _refuse_repeats(table.column_names)
            if columns is not None:
                table = table.select([name for name in columns if name in table.column_names])
        else:
            import pyarrow.parquet as pq

            parquet_size.check_parquet_size(data)
            file = pq.ParquetFile(pa.BufferReader(data))
            table = file.read(columns=columns and list(columns), use_threads=False)
            _refuse_repeats(table.column_names)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0]) from error
    return table


def _refuse_repeats(names: Sequence[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ValueError(f"it has more than one column '{twice[0]:.60}'")


def is_text(kind: Any) -> bool:
    """Whether a column's type is text, also from a dictionary."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def texts(column: Any) -> NDArray[np.object_]:
    """Texts ``(N,)`` of a column for which `is_text` holds; None where null.

    Raises:
        ValueError: there are more of them, or they are longer in all, than may be.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    count = text_bytes = 0
    for chunk in column.chunks:
        count += len(chunk)
        if pa.types.is_dictionary(chunk.type):
            lengths = pc.take(pc.binary_length(chunk.dictionary), chunk.indices)
        else:
            lengths = pc.binary_length(chunk)
        text_bytes += pc.sum(lengths).as_py() or 0
        if count > parquet_size.MAX_TEXTS or text_bytes > parquet_size.MAX_TEXT_BYTES:
            raise ValueError(
                f"it holds more than {parquet_size.MAX_TEXTS} texts, or"
                f" {parquet_size.MAX_TEXT_BYTES >> 20} MiB of them"
            )
    out = np.empty(len(column), dtype=object)
    out[:] = column.to_pylist()
    return out
