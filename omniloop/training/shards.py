"""Shards: one rollout's labelled frames in one ``.npz``, written and read here only.

In the file the images of a camera are the JPEG bytes that the renderer delivered, one after
the other (``wide_jpeg``) with their ends (``wide_ends``): a 256 x 128 line drawing takes about
a tenth of its pixels. `read_shard` decodes them, so that readers see the arrays of `Shard`.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omniloop.core.errors import RunFolderError

WIDTH, HEIGHT = 256, 128
FORMAT = 1

_FLOATS = ("history", "speed", "target", "route")
_BOOLS = ("has_route", "valid")
_REMEDY = "delete the file and collect again: what is there is kept"


@dataclass(frozen=True, eq=False)
class Shard:
    """T decisions of one rollout, 200 ms apart, with what the expert would do at each.

    Attributes:
        wide: JPEG bytes of the wide front camera, one per decision.
        tele: Likewise of the tele camera; None if the scene has none.
        time_us: ``(T,)`` decision times.
        frame_capture_us: ``(T,)`` when the image in `wide` was captured.
        history: ``(T, 16, 5)`` float32, see `omniloop.policies.wam.inputs`.
        speed: ``(T,)`` float32 m/s.
        target: ``(T, 64, 3)`` float32: the expert's x, y in metres and yaw in rad in the rig
            frame at the decision, 100 ms to 6400 ms later.
        route: ``(T, 16, 3)`` float32 waypoints in the same frame.
        has_route: ``(T,)``.
        valid: ``(T,)`` False where the expert has no plan of 6.4 s.
    """

    wide: tuple[bytes, ...]
    tele: tuple[bytes, ...] | None
    time_us: NDArray[np.int64]
    frame_capture_us: NDArray[np.int64]
    history: NDArray[np.float32]
    speed: NDArray[np.float32]
    target: NDArray[np.float32]
    route: NDArray[np.float32]
    has_route: NDArray[np.bool_]
    valid: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.time_us)


def write_shard(path: Path, shard: Shard) -> None:
    """Write a shard; the file appears whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    arrays: dict[str, Any] = {"format": np.int64(FORMAT)}
    for name in ("time_us", "frame_capture_us", *_FLOATS, *_BOOLS):
        arrays[name] = getattr(shard, name)
    for name in ("wide", "tele"):
        images = getattr(shard, name)
        if images is not None:
            arrays[f"{name}_jpeg"] = np.frombuffer(b"".join(images), dtype=np.uint8)
            arrays[f"{name}_ends"] = np.cumsum([len(i) for i in images], dtype=np.int64)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    with unfinished.open("wb") as out:
        np.savez(out, **arrays)
    unfinished.replace(path)


def read_shard(path: Path, *, images: bool = True, every: int = 1) -> dict[str, np.ndarray]:
    """The arrays of a shard.

    Args:
        images: Whether to decode ``wide`` ``(T, 128, 256, 3)`` uint8 RGB and, where the scene
            has a tele camera, ``tele``; both are left out if not.
        every: Decode only every so-manieth image, from the first on; other arrays stay whole.

    Raises:
        RunFolderError: the file is damaged, or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            raw = {name: held[name] for name in held.files}
        if int(raw.pop("format")) != FORMAT:
            raise ValueError("another format")
        for name in ("wide", "tele"):
            data, ends = raw.pop(f"{name}_jpeg", None), raw.pop(f"{name}_ends", None)
            if images and data is not None and ends is not None:
                raw[name] = _decoded(data.tobytes(), ends, every)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunFolderError(
            f"the shard cannot be read: {error}", where=str(path), remedy=_REMEDY
        ) from error
    return raw


def _decoded(data: bytes, ends: NDArray[np.int64], every: int) -> np.ndarray:
    import simplejpeg

    starts = np.concatenate([[0], ends[:-1]])[::every]
    ends = ends[::every]
    out = np.empty((len(ends), HEIGHT, WIDTH, 3), dtype=np.uint8)
    for k, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        out[k] = simplejpeg.decode_jpeg(data[start:end], colorspace="RGB")
    return out
