"""Images and their latent frames, and the frozen autoencoder that is trained here."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LIT, _LIT_WEIGHT = 0.08, 8.0
"""Drawings are lines on black: pixels brighter than this in any colour count more."""


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.b(F.silu(self.a(F.silu(x))))
        return out


class LatentFrames(nn.Module, ABC):
    """What turns images into latent frames and back.

    Latents leave `encode` with mean 0 and deviation 1 per channel, once `set_statistics` has
    been told what they are.

    Args:
        channels: Of the latent frame.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))

    @abstractmethod
    def raw(self, pixels: Tensor) -> Tensor:
        """Latents ``(N, C, h, w)`` before normalisation of pixels ``(N, 3, H, W)`` in [0, 1]."""

    @abstractmethod
    def pixels(self, raw: Tensor) -> Tensor:
        """The inverse of `raw`, about."""

    def kept(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint holds."""
        state: dict[str, Tensor] = self.state_dict()
        return state

    @torch.no_grad()
    def set_statistics(self, images: Tensor) -> None:
        """Take mean and deviation of the raw latents of images ``(N, H, W, 3)`` uint8."""
        parts = torch.split(images, 16)  # type: ignore[no-untyped-call]
        raw = torch.cat([self.raw(as_pixels(part.to(self.mean.device))) for part in parts])
        self.mean.copy_(raw.mean(dim=(0, 2, 3))[:, None, None])
        self.deviation.copy_(raw.std(dim=(0, 2, 3)).clamp_min(1e-3)[:, None, None])

    def encode(self, images: Tensor) -> Tensor:
        """Latent frames ``(N, C, h, w)`` of images ``(N, H, W, 3)`` uint8 RGB."""
        return (self.raw(as_pixels(images)) - self.mean) / self.deviation

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels ``(N, 3, H, W)`` in about [0, 1]."""
        return self.pixels(latents * self.deviation + self.mean)


class Autoencoder(LatentFrames):
    """Strided convolutions down, pixel shuffles up.

    Args:
        channels: Of the latent frame.
        stride: Pixels per latent pixel: 4, 8 or 16.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels)
        # Four pixels at once at first: an encoder for every frame must be cheap.
        widths = [32] + [64] * (round(math.log2(stride)) - 2)
        down: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=4), nn.SiLU()]
        for a, b in itertools.pairwise(widths):
            down += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.SiLU()]
        width = widths[-1]
        down += [nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, channels, 1)]
        self.encoder = nn.Sequential(*down)
        up: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), _Residual(width)]
        for a, b in itertools.pairwise([*widths[::-1], 16, 3]):
            up += [nn.SiLU(), nn.Conv2d(a, 4 * b, 3, padding=1), nn.PixelShuffle(2)]
        self.decoder = nn.Sequential(*up)

    def raw(self, pixels: Tensor) -> Tensor:
        """Latents before normalisation, within 4 of 0."""
        return 4 * torch.tanh(self.encoder(pixels) / 4)

    def pixels(self, raw: Tensor) -> Tensor:
        """The inverse of `raw`, about."""
        out: Tensor = self.decoder(raw)
        return out

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error, lit pixels counting more, of slightly disturbed latents."""
        pixels = as_pixels(images)
        raw = self.raw(pixels)
        noise = torch.randn(raw.shape, generator=generator)
        error = (self.decoder(raw + 0.1 * noise) - pixels) ** 2
        lit = (pixels.amax(dim=1, keepdim=True) > _LIT).to(error.dtype)
        weight = 1 + _LIT_WEIGHT * lit
        out: Tensor = (weight * error).sum() / (3 * weight.sum()) + 1e-4 * (raw**2).mean()
        return out


def as_pixels(images: Tensor) -> Tensor:
    """``(N, 3, H, W)`` float in [0, 1] of ``(N, H, W, 3)`` uint8."""
    return images.permute(0, 3, 1, 2).float() / 255
