"""A tiny model and shards whose images say where to drive."""

from __future__ import annotations

from pathlib import Path

import numpy as np

TINY = {
    "dim": 32, "layers": 2, "heads": 2, "window": 2, "latent_channels": 2, "latent_stride": 16,
    "head_widths": (48, 32, 24, 24, 16, 16),
}  # fmt: skip


def tiny_config(**changes):
    from omniloop.policies.wam.config import WamConfig

    return WamConfig(**{**TINY, **changes})


def random_checkpoint(path: Path, seed: int = 0, **changes) -> Path:
    """A checkpoint whose weights are noise, so that nothing in it is a zero by design."""
    import torch

    from omniloop.policies.wam import checkpoint

    autoencoder, model = checkpoint.build(tiny_config(**changes))
    draws = torch.Generator().manual_seed(seed)
    for module in (autoencoder, model):
        for weight in module.parameters():
            weight.data += 0.1 * torch.randn(weight.shape, generator=draws)
    checkpoint.save(path, checkpoint.Checkpoint(autoencoder, model, {"steps": 0}))
    return path


def write_tiny_vae(folder: Path, kind: str = "AutoencoderKL", seed: int = 0, **changes) -> Path:
    """A VAE of diffusers with random weights, as its save_pretrained writes one; stride 8."""
    import diffusers
    import torch

    settings = {
        "AutoencoderKL": {
            "block_out_channels": (4, 4, 4, 4), "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4, "layers_per_block": 1,
            "latent_channels": 3, "norm_num_groups": 2,
        },
        "AutoencoderTiny": {
            "encoder_block_out_channels": (4, 4, 4, 4), "num_encoder_blocks": (1, 1, 1, 1),
            "decoder_block_out_channels": (4, 4, 4, 4), "num_decoder_blocks": (1, 1, 1, 1),
            "latent_channels": 3,
        },
    }[kind]  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        getattr(diffusers, kind)(**{**settings, **changes}).save_pretrained(folder)
    return folder


def write_toy_shards(folder: Path, rollouts: int, decisions: int = 10, seed: int = 0) -> None:
    """Rollouts at 8 m/s in which a bright stripe left or right says to which side the plan bends."""
    import simplejpeg

    from omniloop.training.shards import Shard, write_shard

    rng = np.random.default_rng(seed)
    seconds = 0.1 * np.arange(1, 65)
    for number in range(rollouts):
        side = rng.choice([-1.0, 1.0])
        image = np.zeros((128, 256, 3), dtype=np.uint8)
        image[:, 40 : 72 if side > 0 else 40] = 255
        if side < 0:
            image[:, 184:216] = 255
        target = np.zeros((decisions, 64, 3), dtype=np.float32)
        target[..., 0], target[..., 1] = 8 * seconds, side * 0.3 * seconds**2
        target[..., 2] = side * 0.6 * seconds / 8
        history = np.zeros((decisions, 16, 5), dtype=np.float32)
        history[..., 0] = -0.8 * np.arange(16, 0, -1)
        history[..., 2], history[..., 4] = 1.0, 8.0
        jpeg = simplejpeg.encode_jpeg(image, quality=90, colorspace="RGB")
        times = 200_000 * np.arange(decisions, dtype=np.int64)
        write_shard(
            folder / f"toy{number}-{seed}.npz",
            Shard(
                wide=(jpeg,) * decisions, tele=None, time_us=times, frame_capture_us=times,
                history=history, speed=np.full(decisions, 8, dtype=np.float32), target=target,
                route=np.zeros((decisions, 16, 3), dtype=np.float32),
                has_route=np.zeros(decisions, dtype=bool), valid=np.ones(decisions, dtype=bool),
            ),
        )  # fmt: skip
