"""Attention with rotary time, the mask of video and history tokens, transformer blocks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SHORTEST_S, _LONGEST_S = 0.4, 60.0
"""Periods of the rotary embedding: from two frames at 5 Hz to longer than most rollouts."""

_GATE = 0.3


def rotary(times_s: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``(B, 1, N, head_dim / 4)`` of tokens captured at `times_s` ``(B, N)``.

    Half of each head turns with time, the other half is free for content and place.
    """
    pairs = head_dim // 4
    exponent = torch.arange(pairs, device=times_s.device) / max(pairs - 1, 1)
    rate = 2 * math.pi / (_SHORTEST_S * (_LONGEST_S / _SHORTEST_S) ** exponent)
    angle = (times_s.float()[..., None] * rate)[:, None]
    return angle.cos(), angle.sin()


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the first half of the features of ``(B, heads, N, head_dim)``."""
    cos, sin = turn
    pairs = cos.shape[-1]
    a, b, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], dim=-1)


def frame_mask(frames: int, tokens: int, window: int) -> Tensor:
    """Who attends to whom: ``(N, N)`` bool, N = frames x (tokens + 1), rows are queries.

    Each frame has `tokens` video tokens and then its history token. A video token attends to
    the video of the first frame (the sink) and of the last `window` frames up to its own; a
    history token to the same video and itself; nothing else to a history token.
    """
    frame = torch.arange(frames).repeat_interleave(tokens + 1)
    is_history = torch.arange(frames * (tokens + 1)) % (tokens + 1) == tokens
    gap = frame[:, None] - frame[None, :]
    seen = (gap >= 0) & ((gap < window) | (frame[None, :] == 0))
    return (seen & ~is_history[None, :]) | torch.eye(len(frame), dtype=torch.bool)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Shift and scale of adaptive layer normalisation."""
    return x * (1 + scale) + shift


class Block(nn.Module):
    """A transformer block whose normalisations follow the frame's noise level (adaptive LN).

    The six modulations are one projection of the noise level, shared by all blocks, plus the
    block's own learned table (PixArt-alpha, Chen et al. 2023, section 2.3: adaLN-single).
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.table = nn.Parameter(torch.zeros(6, dim))
        with torch.no_grad():  # open a little: a short training has no time to open them from zero
            self.table[[2, 5]] = _GATE
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.up = nn.Linear(dim, mlp_ratio * dim)
        self.down = nn.Linear(mlp_ratio * dim, dim)

    def parts(self, modulation: Tensor) -> list[Tensor]:
        """Six modulations ``(B, F, 1, D)`` from the shared projection ``(B, F, 6, D)``."""
        return [p[:, :, None] for p in (modulation + self.table).unbind(dim=2)]

    def project(
        self, x: Tensor, parts: list[Tensor], turn: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``(B, heads, N, head_dim)`` of tokens ``(B, F, n, D)``."""
        b, f, n, d = x.shape
        qkv = self.qkv(modulate(self.norm1(x), parts[0], parts[1]))
        q, k, v = qkv.view(b, f * n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return rotate(q, turn), rotate(k, turn), v

    def finish(
        self, x: Tensor, parts: list[Tensor], q: Tensor, k: Tensor, v: Tensor, mask: Tensor
    ) -> Tensor:
        """Attend, then the feed-forward layers; both added to `x` behind their gates."""
        b, f, n, d = x.shape
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + parts[2] * self.out(mixed.transpose(1, 2).reshape(b, f, n, d))
        hidden = self.up(modulate(self.norm2(x), parts[3], parts[4]))
        out: Tensor = x + parts[5] * self.down(F.gelu(hidden, approximate="tanh"))
        return out
