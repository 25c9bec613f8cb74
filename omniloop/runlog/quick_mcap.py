"""The mcap library's writer, with the path that every message takes in one piece.

A step of a rollout writes a dozen small messages; the library builds an object for each and
writes its six fields one by one, which cost as much as encoding them all.
"""

from __future__ import annotations

import struct
from typing import Any

from mcap.opcode import Opcode
from mcap.records import MessageIndex
from mcap.writer import Writer

_HEAD = struct.Struct("<BQHIQQ")
"""Opcode, length, channel, sequence, log time, publish time (MCAP specification, Message)."""

_FIELDS_BYTES = _HEAD.size - 9


class QuickWriter(Writer):  # type: ignore[misc]
    """Writes the same bytes as `mcap.writer.Writer` with chunks."""

    def start(self, profile: str = "", library: str = "") -> None:
        """Begin the file; finds the library's own state, if this version of it has it so."""
        super().start(profile=profile, library=library)
        mine = vars(self)
        self._chunk: Any = mine.get("_Writer__chunk_builder")
        self._statistics: Any = mine.get("_Writer__statistics")
        self._limit = mine.get("_Writer__chunk_size")
        held = (self._statistics, self._limit, getattr(self._chunk, "record_writer", None))
        self._is_quick = None not in held and hasattr(held[2], "_buffer")

    def add_message(
        self, channel_id: int, log_time: int, data: bytes, publish_time: int, sequence: int = 0
    ) -> None:
        """Add a message to the current chunk."""
        if not self._is_quick:
            super().add_message(channel_id, log_time, data, publish_time, sequence)
            return
        statistics, chunk = self._statistics, self._chunk
        buffer = chunk.record_writer._buffer
        at = buffer.tell()
        if at + len(data) + _HEAD.size >= self._limit:  # the library ends the chunk
            super().add_message(channel_id, log_time, data, publish_time, sequence)
            return
        first = statistics.message_count == 0
        if first or log_time < statistics.message_start_time:
            statistics.message_start_time = log_time
        statistics.message_end_time = max(statistics.message_end_time, log_time)
        statistics.channel_message_counts[channel_id] += 1
        statistics.message_count += 1
        if chunk.num_messages == 0 or log_time < chunk.message_start_time:
            chunk.message_start_time = log_time
        chunk.message_end_time = max(chunk.message_end_time, log_time)
        index = chunk.message_indices.get(channel_id)
        if index is None:
            index = chunk.message_indices[channel_id] = MessageIndex(channel_id, [])
        index.records.append((log_time, at))
        chunk.num_messages += 1
        size = _FIELDS_BYTES + len(data)
        buffer.write(_HEAD.pack(Opcode.MESSAGE, size, channel_id, sequence, log_time, publish_time))
        buffer.write(data)
