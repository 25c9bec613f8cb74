"""Tiny TorchScript modules that are called like the public detectors; made, not downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="feature networks need torch: omniloop[models]")


class Images(torch.nn.Module):
    """Called like inception-2015-12-05.pt: uint8 images to 8 means and spreads."""

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        assert images.dtype == torch.uint8
        assert return_features
        x = images.to(torch.float32) / 255.0
        halves = torch.cat([x[:, :, :, : x.shape[3] // 2].mean((2, 3)), x.mean((2, 3))], 1)
        return torch.cat([halves, x.std((1, 2, 3)).unsqueeze(1), x.amax((1, 2, 3)).unsqueeze(1)], 1)


class Videos(torch.nn.Module):
    """Called like i3d_torchscript.pt: float videos in [-1, 1] to 4 features, one of them motion."""

    def forward(
        self, x: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> torch.Tensor:  # fmt: skip
        assert not rescale
        assert not resize
        assert return_features
        assert x.shape[3] == 224
        assert x.shape[4] == 224
        assert bool((x.abs() <= 1).all())
        moved = (x[:, :, 1:] - x[:, :, :-1]).abs().mean((1, 2, 3, 4))
        return torch.cat([x.mean((2, 3, 4)), moved.unsqueeze(1)], 1)


class Flat(torch.nn.Module):
    """Gives one number for all samples."""

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return x.to(torch.float32).mean()


class Maps(torch.nn.Module):
    """Gives maps of features, as a detector does whose samples are too large."""

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return x.to(torch.float32)


class NoKeyword(torch.nn.Module):
    """Takes no keyword."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.float32).mean((2, 3))


class Nan(torch.nn.Module):
    """Gives NaN for any picture that is not black."""

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return torch.sqrt(-x.to(torch.float32).mean((2, 3)))


class Greedy(torch.nn.Module):
    """Asks for 256 TiB: more than addresses reach, wherever memory is promised freely."""

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return torch.zeros([1 << 46]).reshape(x.shape[0], -1)


def saved(module: torch.nn.Module, path: Path) -> str:
    """Write a module as TorchScript."""
    torch.jit.script(module).save(str(path))
    return str(path)
