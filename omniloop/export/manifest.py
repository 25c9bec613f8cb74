"""``manifest.json``: what an export is, and which of its files are finished.

A file that it does not list does not count: it is left over from an export that was killed.
Schema ``omniloop-export``, version 1.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from omniloop.core.errors import RunFolderError
from omniloop.export.files import Written, writable, write_hashed

SCHEMA = "omniloop-export"
VERSION = 1
MANIFEST_NAME = "manifest.json"

_REMEDY = "export to another folder with --out, or remove this one first"


@dataclass(frozen=True)
class Span:
    """Samples of a rollout in a shard: decisions, or images of `frames`.

    Attributes:
        first: Number of the first one among those of the rollout that are exported.
        count: How many.
        last: Whether the rollout ends with them.
    """

    scene: str
    seed: int
    first: int
    count: int
    last: bool


@dataclass(frozen=True)
class Shard:
    """Files that were finished together, and what they hold."""

    files: tuple[Written, ...]
    spans: tuple[Span, ...]


@dataclass
class Manifest:
    """The state of an export.

    Attributes:
        run: The run folder's name; for people.
        settings_sha256: Of the run, see `Sources`.
        settings: See `ExportSettings.document`.
        sources: ``<scene>/<seed>`` to the hash of each rollout of which something is exported.
        shards: In the order in which they were finished.
        complete: Whether the last export came to its end.
        skipped: What it left out, and why.
    """

    run: str
    settings_sha256: str
    settings: dict[str, Any]
    sources: dict[str, str] = field(default_factory=dict)
    shards: list[Shard] = field(default_factory=list)
    complete: bool = False
    skipped: list[str] = field(default_factory=list)

    @property
    def files(self) -> dict[str, Written]:
        """Finished files by name."""
        return {file.name: file for shard in self.shards for file in shard.files}

    def progress(self) -> dict[tuple[str, int], tuple[int, bool]]:
        """Of each rollout: how many samples are exported, and whether that is all."""
        out: dict[tuple[str, int], tuple[int, bool]] = {}
        for shard in self.shards:
            for span in shard.spans:
                out[span.scene, span.seed] = (span.first + span.count, span.last)
        return out

    def write(self, folder: Path, unfinished: Path) -> None:
        """Write it atomically, by way of a file `unfinished` on the same disk.

        Raises:
            RunFolderError: it cannot be written.
        """
        document = {"schema": SCHEMA, "version": VERSION, **asdict(self)}
        text = json.dumps(document, indent=1, ensure_ascii=True) + "\n"
        write_hashed(unfinished, text.encode(), MANIFEST_NAME)
        with writable(folder / MANIFEST_NAME):
            unfinished.replace(folder / MANIFEST_NAME)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder, None if it has none.

    Raises:
        RunFolderError: it cannot be read, or is none of this version.
    """
    path = folder / MANIFEST_NAME
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"the manifest cannot be read: {error}", where=str(path), remedy=_REMEDY
        ) from error
    found = (
        (document.get("schema"), document.get("version")) if isinstance(document, dict) else None
    )
    if found != (SCHEMA, VERSION):
        raise RunFolderError(
            f"the manifest is no '{SCHEMA}' of version {VERSION}", where=str(path), remedy=_REMEDY
        )
    try:
        return _ADAPTER.validate_python(
            {k: v for k, v in document.items() if k not in ("schema", "version")}
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise RunFolderError(
            f"the manifest is damaged: {key}: {first['msg']}", where=str(path), remedy=_REMEDY
        ) from error


_ADAPTER = TypeAdapter(Manifest)
