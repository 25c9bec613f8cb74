"""The quick writer gives the library's bytes."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer

from omniloop.runlog.quick_mcap import QuickWriter

MESSAGES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2**40), st.binary(max_size=300)), max_size=30
)


def written(kind: type[Writer], messages: list[tuple[int, int, bytes]]) -> bytes:
    out = io.BytesIO()
    writer = kind(out, chunk_size=512, compression=CompressionType.LZ4)
    writer.start(profile="", library="omniloop")
    schema = writer.register_schema("s", "protobuf", b"x")
    channels = [writer.register_channel(f"/{k}", "protobuf", schema) for k in range(3)]
    for number, (channel, time_ns, data) in enumerate(messages):
        writer.add_message(channels[channel], time_ns, data, time_ns + 1, number)
    writer.finish()
    return out.getvalue()


@given(MESSAGES)
def test_the_bytes_are_those_of_the_library(messages: list[tuple[int, int, bytes]]) -> None:
    assert written(QuickWriter, messages) == written(Writer, messages)


def test_the_quick_path_is_taken_with_the_library_that_is_installed() -> None:
    writer = QuickWriter(io.BytesIO(), chunk_size=512)
    writer.start()
    assert writer._is_quick


def test_with_another_library_the_slow_path_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [(0, 5, b"a"), (1, 3, b"b" * 600)]
    start = QuickWriter.start

    def elsewhere(self: QuickWriter, profile: str = "", library: str = "") -> None:
        start(self, profile, library)
        self._is_quick = False

    monkeypatch.setattr(QuickWriter, "start", elsewhere)
    assert written(QuickWriter, messages) == written(Writer, messages)
