"""Which scenarios of the Waymo Open Motion Dataset are in which file, without parsing them.

In a serialized `Scenario` the id comes after the tracks. It is reached by stepping from one
field to the next: the tracks are skipped by their lengths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omniloop.core.errors import SceneError
from omniloop.scenes import tfrecord
from omniloop.scenes.build import damaged, safe_id
from omniloop.scenes.tfrecord import MAX_RECORD_BYTES, Record

Form = Literal["tfrecord", "pb", "json"]

_TFRECORD = re.compile(r".*\.tfrecord(-\d+-of-\d+)?", re.DOTALL)
_HEX_ID = re.compile(r"(?:.*[_-])?([0-9a-f]{10,16})", re.DOTALL)
"""Ids are 64 bit numbers in hexadecimal without leading zeros; converters put them last in a
file's name: tfrecord-00004-of-00150_74e892ddfe3b9b8.json."""

_ID_FIELD = 5
_BYTES = 2
_FIXED = {1: 8, 5: 4}
_LONGEST_ID = 200
_WINDOW_BYTES = 4096
_EXAMPLE_KEY = re.compile(rb"[\x20-\x7e]{1,200}")
_EXAMPLE_PARTS = (b"scenario/", b"state/", b"roadgraph_samples/", b"traffic_light_state/")


@dataclass(frozen=True)
class Place:
    """Where a scenario is: a whole file, or a record of one.

    Attributes:
        form: Of the file.
        record: For a file that is no TFRecord, all its bytes.
    """

    form: Form
    record: Record

    @property
    def where(self) -> str:
        """For errors."""
        return self.record.where if self.form == "tfrecord" else str(self.record.path)


def form_of(path: Path) -> Form | None:
    """What a file is by its name; None if it is none of the three forms."""
    name = path.name.lower()
    if name.endswith(".json"):
        return "json"
    if name.endswith(".pb"):
        return "pb"
    return "tfrecord" if _TFRECORD.fullmatch(name) else None


def whole(path: Path, form: Form) -> Place:
    """The place of all of a file, whatever it holds."""
    return Place(form, Record(path, 0, 0, 0))


def scenarios(path: Path, form: Form) -> Iterator[tuple[str, Place]]:
    """Ids and places of a file's scenarios, in the order of the file.

    The id of a JSON file is the part of its name that looks like a scenario's id, or its name.

    Raises:
        SceneError: the file is damaged, cut off or no regular file, or holds something else.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait without end
        raise damaged("is no regular file", str(path))
    if form == "json":
        record = Record(path, 0, 0, _size(path))
        yield _json_id(path), Place(form, record)
        return
    found = tfrecord.records(path) if form == "tfrecord" else [Record(path, 0, 0, _size(path))]
    for record in found:
        place = Place(form, record)
        yield safe_id(_scenario_id(place), place.where), place


def read(place: Place) -> bytes:
    """The bytes of a scenario.

    Raises:
        SceneError: the file cannot be read, is too long, or fails its checksum.
    """
    if place.form == "tfrecord":
        return tfrecord.read_record(place.record)
    if place.record.length > MAX_RECORD_BYTES:
        raise too_long(place.where)
    try:
        with place.record.path.open("rb") as file:
            return file.read(place.record.length)
    except OSError as error:
        raise damaged(f"cannot be read: {error}", place.where) from error


def too_long(where: str, most_bytes: int = MAX_RECORD_BYTES) -> SceneError:
    """The error for a file that no scenario fills."""
    return SceneError(
        f"is longer than {most_bytes} bytes", where=where,
        remedy="leave the file out: no scenario is as long",
    )  # fmt: skip


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise damaged(f"cannot be read: {error}", str(path)) from error


def _json_id(path: Path) -> str:
    stem = path.name[: -len(".json")]
    found = _HEX_ID.fullmatch(stem)
    name = found[1] if found else re.sub(r"[^A-Za-z0-9._-]+", "_", stem).lstrip("._-")
    return safe_id(name, str(path))


class _Fields:
    """The bytes of a record, read as fields of a protobuf message; only some are loaded."""

    def __init__(self, place: Place) -> None:
        self._record, self._where = place.record, place.where
        self._file = place.record.path.open("rb", buffering=0)
        self._window, self._window_at = b"", 0
        self.at = 0

    def close(self) -> None:
        self._file.close()

    def bytes_at(self, at: int, count: int) -> bytes:
        """`count` bytes from offset `at`; fewer at the record's end."""
        count = min(count, self._record.length - at)
        lo = at - self._window_at
        if lo < 0 or lo + count > len(self._window):
            self._file.seek(self._record.start + at)
            want = min(max(count, _WINDOW_BYTES), self._record.length - at)
            self._window, self._window_at, lo = self._file.read(want) or b"", at, 0
        return self._window[lo : lo + count]

    def fields(self, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Field number, wire type, start and length of each field from `at` to `end`."""
        while self.at < end:
            key = self._varint()
            number, wire = key >> 3, key & 7
            length = _FIXED.get(wire, 0)
            start = self.at
            if wire == 0:
                self._varint()
                length = self.at - start
            elif wire == _BYTES:
                length = self._varint()
                start = self.at
            if number == 0 or (wire not in _FIXED and wire not in (0, _BYTES)):
                raise self._foreign()
            self.at = start + length
            if self.at > end:
                raise self._foreign()
            yield number, wire, start, length
            self.at = start + length

    def _varint(self) -> int:
        out = 0
        for shift, byte in enumerate(self.bytes_at(self.at, 10)):
            out |= (byte & 0x7F) << (7 * shift)
            if byte < 0x80:
                self.at += shift + 1
                return out
        raise self._foreign()

    def _foreign(self) -> SceneError:
        return damaged(f"is no protobuf message: no field at byte {self.at}", self._where)


def _scenario_id(place: Place) -> str:
    """The id in a serialized `Scenario`.

    Raises:
        SceneError: there is none: the message is another one, or none at all.
    """
    try:
        fields = _Fields(place)
    except OSError as error:
        raise damaged(f"cannot be read: {error}", place.where) from error
    try:
        key = _example_key(fields, place.record.length)
        if key is not None:
            raise _example(key, place.where)
        fields.at = 0
        for number, wire, start, length in fields.fields(place.record.length):
            if number == _ID_FIELD and wire == _BYTES:
                return fields.bytes_at(start, min(length, _LONGEST_ID)).decode("utf-8", "replace")
    except OSError as error:
        raise damaged(f"cannot be read: {error}", place.where) from error
    finally:
        fields.close()
    raise SceneError(
        "has no scenario_id (field 5): it is no Scenario message", where=place.where,
        remedy="give the files of the dataset's folder scenario/; lidar and perception files hold other messages",
    )  # fmt: skip


def _example_key(fields: _Fields, length: int) -> bytes | None:
    """The first feature's name if the message is a tf.Example, else None.

    That is field 1 (features), in it field 1 (an entry), in it field 1 (its name).
    """
    end = length
    for _ in range(3):
        try:
            number, wire, start, size = next(fields.fields(end))
        except (StopIteration, SceneError):
            return None
        if (number, wire) != (1, _BYTES):
            return None
        fields.at, end = start, start + size
    name = fields.bytes_at(start, min(size, 201))
    return name if _EXAMPLE_KEY.fullmatch(name) else None


def _example(key: bytes, where: str) -> SceneError:
    whose = "of the dataset " if key.startswith(_EXAMPLE_PARTS) else ""
    return SceneError(
        f"is a tf.Example {whose}(its first feature is '{key.decode()}'), not a Scenario",
        where=where, remedy="give the files of the dataset's folder scenario/, not those of tf_example/",
    )  # fmt: skip
