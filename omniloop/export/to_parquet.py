"""Parquet tables: decisions, actors, incidents and rollouts, a folder of shards each."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omniloop.core.time import US_PER_S
from omniloop.export.files import HashedFile, Written, writable
from omniloop.export.folder import ExportFolder
from omniloop.export.packer import Packer
from omniloop.export.rollout import Rollout
from omniloop.export.rows import (
    Index,
    actor_columns,
    decision_columns,
    incident_rows,
    newest_frames,
    rollout_row,
)
from omniloop.export.schema import arrow_schema, arrow_table
from omniloop.export.settings import ExportSettings
from omniloop.export.sources import Sources

TABLES = ("decisions", "actors", "incidents", "rollouts")

_AT_ONCE = 256
"""Decisions of a row group; shards end between them."""

_GROUP_FOOTER = 16 << 10
"""Most bytes that a row group takes in the footers of all tables."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of some tables, Arrow tables by name."""

    count: int
    tables: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes of the values, not compressed."""
        values: int = sum(table.nbytes for table in self.tables.values())
        return _GROUP_FOOTER + values


@dataclass
class _Open:
    """A table's file that is being written."""

    name: str
    file: HashedFile
    writer: Any


class ParquetShard:
    """One file of every table."""

    def __init__(self, folder: ExportFolder, number: int) -> None:
        import pyarrow.parquet as pq

        self._groups = 0
        self._open: dict[str, _Open] = {}
        for table in TABLES:
            name = f"{table}/part-{number:06d}.parquet"
            path = folder.partial(name)
            with writable(path):
                file = HashedFile(path)
                writer = pq.ParquetWriter(
                    file, arrow_schema(table), compression="zstd", compression_level=1
                )
            self._open[table] = _Open(name, file, writer)

    @property
    def size(self) -> int:
        """See `ShardWriter`."""
        written: int = sum(held.file.size for held in self._open.values())
        return self._groups * _GROUP_FOOTER + written

    def add(self, piece: Rows) -> None:
        """See `ShardWriter`."""
        self._groups += 1
        for name, table in piece.tables.items():
            held = self._open[name]
            if table.num_rows:
                with writable(held.file.path):
                    held.writer.write_table(table)

    def finish(self) -> list[Written]:
        """See `ShardWriter`."""
        for held in self._open.values():
            with writable(held.file.path):
                held.writer.close()
                held.file.close()
        return [held.file.written(held.name) for held in self._open.values()]

    def abandon(self) -> None:
        """See `ShardWriter`."""
        for held in self._open.values():
            with contextlib.suppress(OSError, ValueError):  # what went wrong is known already
                held.writer.close()
            with contextlib.suppress(OSError):
                held.file.close()


class ToParquet:
    """Exports tables."""

    def __init__(self, folder: ExportFolder, settings: ExportSettings, sources: Sources) -> None:
        for table in TABLES:
            folder.remove_unlisted(f"{table}/part-*.parquet")
        self._settings, self._sources = settings, sources
        self._packer: Packer[Rows] = Packer(folder, settings, lambda n: ParquetShard(folder, n))

    def add(self, rollout: Rollout, first: int) -> int:
        """Export a rollout from decision `first` on; return how many it has in all.

        Raises:
            RunFolderError: a shard cannot be written.
        """
        self._packer.begin(*rollout.source.key, first)
        total = len(rollout.chosen)
        step = min(_AT_ONCE, self._settings.shard_samples)
        for k in range(first, max(total, 1), step):
            which = rollout.chosen[k : k + step]
            tables = self._decisions(rollout, which) if len(which) else {}
            if k + step >= total:
                tables |= self._ends(rollout)
            self._packer.add(Rows(len(which), tables))
        self._packer.end()
        return total

    def close(self) -> None:
        """Finish the last shard."""
        self._packer.close()

    def abandon(self) -> None:
        """Close what is open; it is of no use."""
        self._packer.abandon()

    def _decisions(self, rollout: Rollout, which: Index) -> dict[str, Any]:
        """What is told of some decisions."""
        within_us = round(self._settings.incident_within_s * US_PER_S)
        decisions = {**decision_columns(rollout, which, within_us), **newest_frames(rollout, which)}
        return {
            "decisions": arrow_table("decisions", decisions),
            "actors": arrow_table("actors", actor_columns(rollout, which)),
        }

    def _ends(self, rollout: Rollout) -> dict[str, Any]:
        """What is told once of a rollout."""
        tags: Sequence[str] = self._sources.tags.get(rollout.source.result.scene) or ()
        row = rollout_row(rollout, tags, self._sources.settings_sha256)
        return {
            "incidents": arrow_table("incidents", incident_rows(rollout)),
            "rollouts": arrow_table("rollouts", row),
        }
