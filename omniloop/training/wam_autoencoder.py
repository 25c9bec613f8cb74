"""Training the autoencoder that turns images into latent frames, or fitting in a VAE."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from omniloop.core.errors import PluginError
from omniloop.core.seeds import derive_seed, generator
from omniloop.policies.wam.autoencoder import Autoencoder, LatentFrames
from omniloop.policies.wam.checkpoint import fill, save_atomically
from omniloop.policies.wam.config import VaeReference
from omniloop.policies.wam.vae import load_vae
from omniloop.training.wam_dataset import sample_images

_BATCH, _LEARNING_RATE, _SAY_EVERY = 24, 2e-3, 20
_CROP = 64
"""It is trained on square parts of images: it is a convolution, and these are an eighth of the cost."""

_STATISTICS_IMAGES = 256


def train_autoencoder(
    autoencoder: Autoencoder, shards: list[Path], images: int, steps: int, most_s: float | None,
    seed: int, report: Callable[[float, dict[str, float]], None],
) -> None:  # fmt: skip
    """Train on a subset of the shards' images, then set the statistics of its latents.

    Args:
        autoencoder: Trained in place.
        shards: Where the images are.
        images: How many to use.
        steps: Steps of 24 parts of images.
        most_s: Stop after so many seconds, the learning rate then at its end; None for no limit.
        seed: Of the choice of images and of noise.
        report: Is told the share done and the loss.
    """
    began, held = time.perf_counter(), sample_images(shards, images, seed)
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=_LEARNING_RATE, weight_decay=1e-4)
    draws = torch.Generator().manual_seed(derive_seed(seed, "autoencoder noise") % 2**63)
    rng, total, step = generator(seed, "autoencoder images"), 0.0, 0
    while True:
        spent = 0.0 if most_s is None else (time.perf_counter() - began) / most_s
        share = max(step / steps, spent)
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        loss = autoencoder.loss(_crops(held, rng), draws)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimizer.step()
        total, step = total + loss.item(), step + 1
        if step % _SAY_EVERY == 0:
            report(share, {"step": step, "loss": total / _SAY_EVERY})
            total = 0.0
    few = torch.linspace(0, len(held) - 1, min(_STATISTICS_IMAGES, len(held))).round().long()
    autoencoder.set_statistics(held[few])
    report(1.0, {"step": step})


def fitted_vae(
    folder: Path, reference: VaeReference, out: Path, shards: list[Path], seed: int,
    device: torch.device,
) -> LatentFrames:  # fmt: skip
    """A VAE with the statistics of its latents on images of the shards.

    Args:
        folder: Where it is.
        reference: What it is.
        out: Keeps the statistics, which a resumed training takes from there.
        shards: Where the images are.
        seed: Of the choice of images.
        device: Where it goes.

    Raises:
        PluginError: it cannot be loaded, or its latents are not finite.
    """
    where, path = f"--vae {folder}", out / f"vae-{reference.sha256[:16]}.pt"
    vae = load_vae(folder, where, reference).to(device).eval().requires_grad_(False)
    if path.is_file():
        fill(vae.kept(), torch.load(path, weights_only=True), path.name)
        return vae
    images = sample_images(shards, _STATISTICS_IMAGES, seed)
    few = torch.linspace(0, len(images) - 1, min(_STATISTICS_IMAGES, len(images))).round().long()
    vae.set_statistics(images[few])
    if not bool(torch.isfinite(vae.mean + vae.deviation).all()):
        raise PluginError(
            "the VAE makes latents that are not finite", where=where, remedy="give another VAE"
        )
    save_atomically(path, {name: value.cpu() for name, value in vae.kept().items()})
    return vae


def digest(autoencoder: LatentFrames) -> str:
    """Tells the weights of one autoencoder from another's."""
    held = hashlib.sha256()
    for name, value in sorted(autoencoder.state_dict().items()):
        held.update(name.encode() + value.cpu().numpy().tobytes())
    return held.hexdigest()


def _crops(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Random square parts ``(24, 64, 64, 3)`` of images ``(N, H, W, 3)``."""
    top, left = (rng.integers(0, n - _CROP + 1, _BATCH) for n in images.shape[1:3])
    which = rng.integers(0, len(images), _BATCH)
    return torch.stack([
        images[n, y : y + _CROP, x : x + _CROP]
        for n, y, x in zip(which.tolist(), top.tolist(), left.tolist(), strict=True)
    ])  # fmt: skip
