"""Samples packed into shards of bounded size; a shard counts once it is finished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from omniloop.export.files import Written
from omniloop.export.folder import ExportFolder
from omniloop.export.manifest import Span
from omniloop.export.settings import ExportSettings


class Piece(Protocol):
    """What is put into a shard as a whole."""

    @property
    def count(self) -> int:
        """Samples in it."""
        ...

    @property
    def size(self) -> int:
        """Most bytes that it takes."""
        ...


PieceT = TypeVar("PieceT", bound=Piece)
PieceT_contra = TypeVar("PieceT_contra", bound=Piece, contravariant=True)


class ShardWriter(Protocol[PieceT_contra]):
    """A shard that is being written."""

    @property
    def size(self) -> int:
        """Most bytes that it has if it is finished now."""
        ...

    def add(self, piece: PieceT_contra) -> None:
        """Put in a piece."""
        ...

    def finish(self) -> list[Written]:
        """Write the rest and close it; return its files."""
        ...

    def abandon(self) -> None:
        """Close what is open; nothing of it is of use."""
        ...


class Packer(Generic[PieceT]):
    """Fills shard after shard.

    Where shards end depends on the samples alone, so that an export that went on after it was
    killed has the same files as one that was not.

    Args:
        folder: Where finished shards go.
        settings: How large they get.
        start: Starts the shard of a number, below `ExportFolder.partial`.
    """

    def __init__(
        self, folder: ExportFolder, settings: ExportSettings,
        start: Callable[[int], ShardWriter[PieceT]],
    ) -> None:  # fmt: skip
        self._folder, self._settings, self._start = folder, settings, start
        self._writer: ShardWriter[PieceT] | None = None
        self._spans: list[Span] = []
        self._count = 0

    def begin(self, scene: str, seed: int, first: int) -> None:
        """What is added from now on are samples of this rollout, from number `first` on."""
        self._spans.append(Span(scene, seed, first, 0, False))

    def add(self, piece: PieceT) -> None:
        """Put a piece into the shard, or into the next one if it is full.

        Raises:
            RunFolderError: the disk is full, or the like.
        """
        if self._writer is not None and not self._has_room(piece):
            self._seal()
        if self._writer is None:
            self._writer = self._start(sum(bool(s.files) for s in self._folder.manifest.shards))
        self._writer.add(piece)
        self._count += piece.count
        self._spans[-1] = replace(self._spans[-1], count=self._spans[-1].count + piece.count)

    def end(self) -> None:
        """The rollout has no more samples."""
        self._spans[-1] = replace(self._spans[-1], last=True)

    def close(self) -> None:
        """Finish the last shard.

        Raises:
            RunFolderError: it cannot be written.
        """
        if self._writer is not None or self._spans:
            self._seal()

    def _has_room(self, piece: PieceT) -> bool:
        assert self._writer is not None
        return (
            self._writer.size + piece.size <= self._settings.shard_bytes
            and self._count + piece.count <= self._settings.shard_samples
        )

    def _seal(self) -> None:
        files = self._writer.finish() if self._writer is not None else []
        current = self._spans[-1]
        held = [span for span in self._spans if span.count or span.last]
        self._folder.commit([file.name for file in files], files, held)
        self._writer, self._count = None, 0
        rest = replace(current, first=current.first + current.count, count=0)
        self._spans = [] if current.last else [rest]

    def abandon(self) -> None:
        """Close what is open; it is of no use."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
