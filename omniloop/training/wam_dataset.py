"""Shards as training sequences: images become latent frames once, the rest stays in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from omniloop.core.errors import RunFolderError
from omniloop.core.seeds import generator
from omniloop.policies.wam.autoencoder import LatentFrames
from omniloop.policies.wam.losses import Batch
from omniloop.policies.wam.model import Ego
from omniloop.training.shards import read_shard

_TABLES = (
    "time_us", "frame_capture_us", "history", "speed", "target", "route", "has_route", "valid",
)  # fmt: skip
_ENCODE_AT_ONCE = 32

Report = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Sequences:
    """All decisions of a split, rollout after rollout.

    Attributes:
        latents: ``(N, C, h, w)`` float16, memory-mapped.
        tele: ``(N, H, W, 3)`` uint8, memory-mapped, or None if no rollout has a second camera.
        has_tele: ``(N,)``.
        first, length: ``(R,)`` where each rollout begins and how many decisions it has.
        tables: The other arrays of the shards, by name.
    """

    latents: NDArray[np.float16]
    tele: NDArray[np.uint8] | None
    has_tele: NDArray[np.bool_]
    first: NDArray[np.int64]
    length: NDArray[np.int64]
    tables: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.latents)

    def batch(
        self, index: NDArray[np.int64], has_motion: NDArray[np.bool_],
        route_shown: NDArray[np.bool_], tele_shown: NDArray[np.bool_],
    ) -> Batch:  # fmt: skip
        """Sequences of the decisions `index` ``(B, F)``, with what is shown of each."""
        table = {name: values[index] for name, values in self.tables.items()}
        origin = table["frame_capture_us"][:, :1]
        tele = has_tele = None
        shown = self.has_tele[index] & tele_shown
        if self.tele is not None and shown.any():
            tele, has_tele = torch.from_numpy(self.tele[index]), torch.from_numpy(shown)
        capture_s, decision_s = (
            torch.from_numpy(((table[name] - origin) / 1e6).astype(np.float32))
            for name in ("frame_capture_us", "time_us")
        )
        ego = Ego(
            torch.from_numpy(table["history"]), torch.from_numpy(table["speed"]),
            torch.from_numpy(has_motion), torch.from_numpy(table["route"]),
            torch.from_numpy(table["has_route"] & route_shown),
        )  # fmt: skip
        return Batch(
            torch.from_numpy(self.latents[index].astype(np.float32)), capture_s, decision_s, ego,
            torch.from_numpy(table["target"]), torch.from_numpy(table["valid"]), tele, has_tele,
        )  # fmt: skip


def shard_files(folder: Path) -> list[Path]:
    """The shards of a split, sorted.

    Raises:
        RunFolderError: there is none.
    """
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise RunFolderError(
            "there is no shard to train from", where=str(folder),
            remedy="collect data first, or name the folder that holds train/ and val/",
        )  # fmt: skip
    return files


def sample_images(files: list[Path], count: int, seed: int) -> torch.Tensor:
    """About `count` images ``(n, 128, 256, 3)`` uint8, spread evenly over the shards."""
    chosen = np.sort(generator(seed, "images").permutation(len(files))[:count])
    each = max(-(-count // len(files)), 1)
    images = []
    for k in chosen.tolist():
        length = len(read_shard(files[k], images=False)["time_us"])
        shard = read_shard(files[k], every=max(length // each, 1))
        images += [shard[name][:each] for name in ("wide", "tele") if name in shard]
    return torch.from_numpy(np.concatenate(images))


def encode(
    files: list[Path], folder: Path, autoencoder: LatentFrames, frames: int, key: str,
    report: Report,
) -> Sequences:  # fmt: skip
    """Encode the images of shards into files that are memory-mapped.

    Args:
        files: The shards.
        folder: Where the files go; those of an earlier call with the same shards and `key`
            are used again.
        autoencoder: What encodes, on any device.
        frames: Rollouts with fewer decisions are left out.
        key: Tells one autoencoder from another.
        report: Is told the fraction done.

    Raises:
        RunFolderError: no rollout is long enough.
    """
    shards = [read_shard(f, images=False) for f in files]
    long = [k for k, s in enumerate(shards) if len(s["time_us"]) >= frames]
    if not long:
        raise RunFolderError(
            f"no rollout has {frames} decisions", where=str(files[0].parent),
            remedy="collect longer rollouts, or train with fewer frames",
        )  # fmt: skip
    files, shards = [files[k] for k in long], [shards[k] for k in long]
    length = np.array([len(s["time_us"]) for s in shards], dtype=np.int64)
    first = np.cumsum(length) - length
    tables = {name: np.concatenate([s[name] for s in shards]) for name in _TABLES}
    has_tele = _encode_images(files, length, folder, autoencoder, key, report)
    return Sequences(
        np.load(folder / "latents.npy", mmap_mode="r"),
        np.load(folder / "tele.npy", mmap_mode="r") if has_tele.any() else None,
        has_tele, first, length, tables,
    )  # fmt: skip


def _encode_images(
    files: list[Path], length: NDArray[np.int64], folder: Path, autoencoder: LatentFrames,
    key: str, report: Report,
) -> NDArray[np.bool_]:  # fmt: skip
    """Write ``latents.npy`` and ``tele.npy``; return which decisions have a second camera."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = json.dumps([key, [[f.name, f.stat().st_size] for f in files]])
    done = folder / "done.json"
    if done.is_file() and done.read_text(encoding="utf-8") == stamp:
        return np.asarray(np.load(folder / "has_tele.npy"))
    done.unlink(missing_ok=True)
    total, row = int(length.sum()), 0
    has_tele, device = np.zeros(total, dtype=bool), autoencoder.mean.device
    out = tele = None
    for number, file in enumerate(files):
        shard = read_shard(file)
        images, stop = shard["wide"], row + int(length[number])
        with torch.inference_mode():
            parts = [
                autoencoder.encode(torch.from_numpy(images[k : k + _ENCODE_AT_ONCE]).to(device))
                for k in range(0, len(images), _ENCODE_AT_ONCE)
            ]
        latents = torch.cat(parts).half().cpu().numpy()
        if out is None:
            shape = (total, *latents.shape[1:])
            out = np.lib.format.open_memmap(
                folder / "latents.npy", mode="w+", dtype=np.float16, shape=shape
            )
        out[row:stop] = latents
        if "tele" in shard:
            if tele is None:
                shape = (total, *shard["tele"].shape[1:])
                tele = np.lib.format.open_memmap(
                    folder / "tele.npy", mode="w+", dtype=np.uint8, shape=shape
                )
            tele[row:stop], has_tele[row:stop] = shard["tele"], True
        row = stop
        report((number + 1) / len(files))
    for array in (out, tele):
        if array is not None:
            array.flush()
    np.save(folder / "has_tele.npy", has_tele)
    done.write_text(stamp, encoding="utf-8")
    return has_tele


@dataclass(frozen=True)
class Augment:
    """How often something is hidden from, or changed in, training sequences.

    Attributes:
        drop_motion: Only the present speed is shown of a frame's history: a model that may
            copy its past motion does so, and does not react.
        drop_route: The route is hidden: one checkpoint drives with and without.
        drop_tele: The second camera is hidden, from a whole batch, which is so much quicker.
        far_sink: The first frame is one from earlier in the rollout, as when driving on.
        skip: Frames are 400 ms apart.
    """

    drop_motion: float = 0.5
    drop_route: float = 0.5
    drop_tele: float = 0.7
    far_sink: float = 0.5
    skip: float = 0.15


class Sampler:
    """Draws the batch of a step: always the same for one seed and step.

    Decisions at which the expert does not just drive on at its speed come up more often.

    Args:
        sequences: Where from.
        size, frames: B and F.
        seed: Of all draws.
        augment: What is hidden.
    """

    def __init__(
        self, sequences: Sequences, size: int, frames: int, seed: int, augment: Augment
    ) -> None:
        self._sequences, self._size, self._frames = sequences, size, frames
        self._seed, self._augment = seed, augment
        tables = sequences.tables
        seconds = 0.1 * np.arange(1, tables["target"].shape[1] + 1)
        gap = tables["target"][..., 0] - tables["speed"][:, None] * seconds
        aside = np.sqrt((gap**2 + tables["target"][..., 1] ** 2).mean(axis=1))
        rollout = np.repeat(np.arange(len(sequences.first)), sequences.length)
        self._place = np.arange(len(sequences)) - sequences.first[rollout]
        weight = (1 + np.minimum(aside, 4.0)) * (self._place >= frames - 1) * tables["valid"]
        if not weight.any():
            raise RunFolderError(
                f"no decision with {frames - 1} others before it has a plan to learn",
                remedy="collect longer rollouts, or train with fewer frames",
            )
        self._cumulative = np.cumsum(weight / weight.sum())

    def __call__(self, step: int) -> Batch:
        """The batch of a step."""
        rng, size, frames = generator(self._seed, "batch", step), self._size, self._frames
        index = self._index(rng, size, frames)
        shape, augment = index.shape, self._augment
        return self._sequences.batch(
            index,
            rng.random(shape) >= augment.drop_motion,
            np.broadcast_to(rng.random((size, 1)) >= augment.drop_route, shape).copy(),
            np.full(shape, rng.random() >= augment.drop_tele),
        )

    def _index(self, rng: np.random.Generator, size: int, frames: int) -> NDArray[np.int64]:
        last = np.searchsorted(self._cumulative, rng.random(size) * self._cumulative[-1])
        last = np.minimum(last, len(self._cumulative) - 1)
        place = self._place[last]
        step = np.where((rng.random(size) < self._augment.skip) & (place >= 2 * (frames - 1)), 2, 1)
        back = step[:, None] * np.arange(frames - 1, -1, -1)
        index = last[:, None] - back
        room = place - back[:, 0]  # decisions before the first one chosen
        far = rng.random(size) < self._augment.far_sink
        index[:, 0] -= np.where(far, (rng.random(size) * (room + 1)).astype(np.int64), 0)
        return np.asarray(index)
