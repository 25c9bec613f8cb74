"""The action head: a U-Net-shaped MLP under the velocity of a plan."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_TIME_FEATURES = 32


def sinusoids(t: Tensor, features: int) -> Tensor:
    """Cosines and sines ``(..., 2 features)`` of flow times in [0, 1]."""
    rate = torch.exp(
        math.log(0.5) + torch.arange(features, device=t.device) / features * math.log(400.0)
    )
    angle = t.float()[..., None] * rate * math.pi
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class UNetHead(nn.Module):
    """Layers that narrow, then widen with skip connections; each is modulated (FiLM) by the
    history token's output and the flow time.

    Args:
        size: Numbers of a plan.
        condition: Width of the history token's output.
        widths: Of the layers down; there are twice as many in all.
    """

    def __init__(self, size: int, condition: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        up = widths[::-1]
        self.widths = (*widths, *up)
        down_in = (size, *widths[:-1])
        up_in = (widths[-1], *(up[k - 1] + up[k] for k in range(1, len(up))))
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip((*down_in, *up_in), self.widths, strict=True)
        )
        self.by_condition = nn.Linear(condition, 2 * sum(self.widths))
        self.by_time = nn.Linear(2 * _TIME_FEATURES, 2 * sum(self.widths))
        self.out = nn.Linear(widths[0], size)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def film(self, h: Tensor) -> Tensor:
        """What the history token's output ``(N, D)`` says to all layers; once per decision."""
        film: Tensor = self.by_condition(F.silu(h))
        return film

    def forward(self, x: Tensor, s: Tensor, film: Tensor) -> Tensor:
        """``(N, size)`` at scaled plans `x` ``(N, size)`` and flow times `s` ``(N,)``."""
        scale_shift = (film + self.by_time(sinusoids(s, _TIME_FEATURES))).split(
            [2 * w for w in self.widths], dim=-1
        )
        hidden, half = x, len(self.widths) // 2
        skips: list[Tensor] = []
        for k, layer in enumerate(self.layers):
            if k > half:
                hidden = torch.cat([hidden, skips[2 * half - 1 - k]], dim=-1)
            scale, shift = scale_shift[k].chunk(2, dim=-1)
            hidden = F.layer_norm(layer(hidden), (self.widths[k],))
            hidden = F.silu(hidden * (1 + scale) + shift)
            skips.append(hidden)
        out: Tensor = self.out(hidden)
        return out
