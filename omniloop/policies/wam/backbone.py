"""The causal video transformer: whole sequences in training, one frame at a time in driving."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omniloop.policies.wam.attention import Block, frame_mask, modulate, rotary
from omniloop.policies.wam.autoencoder import as_pixels
from omniloop.policies.wam.config import WamConfig
from omniloop.policies.wam.head import sinusoids

_NOISE_FEATURES = 32
_STEM = 48


@dataclass(frozen=True, eq=False)
class Cache:
    """Keys and values of the frames that later ones look at; shapes never change.

    Attributes:
        kept: ``(B, layers, 2, heads, (1 + window) tokens, head_dim)``: the first frame's, then
            a ring of the last `window` frames'.
        filled: ``(B, 1 + window)`` which places hold a frame.
        count: ``(B,)`` int64 frames held or overwritten so far.
    """

    kept: Tensor
    filled: Tensor
    count: Tensor

    @classmethod
    def empty(cls, config: WamConfig, batch: int, device: torch.device | str = "cpu") -> Cache:
        """A cache without frames."""
        places = 1 + config.window
        return cls(
            torch.zeros(
                (batch, config.layers, 2, config.heads, places * config.tokens, config.head_dim),
                device=device,
            ),
            torch.zeros((batch, places), dtype=torch.bool, device=device),
            torch.zeros(batch, dtype=torch.int64, device=device),
        )

    @classmethod
    def stack(cls, rows: list[Cache]) -> Cache:
        """One cache of many rows."""
        return cls(
            torch.cat([r.kept for r in rows]),
            torch.cat([r.filled for r in rows]),
            torch.cat([r.count for r in rows]),
        )

    def row(self, index: int) -> Cache:
        """A copy of one row, as a cache of its own."""
        part = slice(index, index + 1)
        return Cache(self.kept[part].clone(), self.filled[part].clone(), self.count[part].clone())


class TeleEncoder(nn.Module):
    """Patch features of the second camera: one vector per video token of the first."""

    def __init__(self, config: WamConfig) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(3, 16, 4, stride=4), nn.SiLU(),
            nn.Conv2d(16, 32, 4, stride=4), nn.SiLU(),
            nn.Conv2d(32, 64, 3, padding=1), nn.SiLU(),
            nn.AdaptiveAvgPool2d(config.grid),
        )  # fmt: skip
        self.linear = nn.Linear(64, config.dim)

    def forward(self, images: Tensor) -> Tensor:
        """``(N, tokens, dim)`` of ``(N, H, W, 3)`` uint8."""
        out: Tensor = self.linear(self.conv(as_pixels(images)).flatten(2).transpose(1, 2))
        return out


class Backbone(nn.Module):
    """Video and history tokens through blocks with the mask of `attention.frame_mask`."""

    mask: Tensor

    def __init__(self, config: WamConfig) -> None:
        super().__init__()
        self.config = config
        dim, size = config.dim, config.latent_channels * config.patch**2
        # Convolutions before the patches: a transformer of few sequences learns to see by them
        # (Xiao et al. 2021, "Early convolutions help transformers see better").
        self.stem = nn.Sequential(
            nn.Conv2d(config.latent_channels, _STEM, 3, padding=1), nn.SiLU(),
            nn.Conv2d(_STEM, dim, config.patch, stride=config.patch),
        )  # fmt: skip
        self.place = nn.Parameter(0.02 * torch.randn(config.tokens, dim))
        self.tele = TeleEncoder(config)
        self.tele_missing = nn.Parameter(torch.zeros(dim))
        self.noise = nn.Sequential(
            nn.Linear(2 * _NOISE_FEATURES, dim), nn.SiLU(), nn.Linear(dim, dim), nn.SiLU()
        )
        self.modulation = nn.Linear(dim, 6 * dim)
        self.layers = nn.ModuleList(
            Block(dim, config.heads, config.mlp_ratio) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.last = nn.Linear(dim, 2 * dim)
        self.patch_out = nn.Linear(dim, size)
        for layer in (self.modulation, self.last, self.patch_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, latents: Tensor, t: Tensor, capture_s: Tensor, history: Tensor, decision_s: Tensor,
        tele: Tensor | None = None, has_tele: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """A whole sequence.

        Args:
            latents: ``(B, F, C, h, w)`` noised latent frames.
            t: ``(B, F)`` their flow times.
            capture_s: ``(B, F)`` when they were captured, from any common origin.
            history: ``(B, F, dim)`` history tokens.
            decision_s: ``(B, F)`` the decisions that these belong to, from the same origin.
            tele: ``(B, F, H, W, 3)`` uint8 images of the second camera, if any.
            has_tele: ``(B, F)`` which of them there are.

        Returns:
            The frames' velocity ``(B, F, C, h, w)`` and the history tokens' output
            ``(B, F, dim)``.
        """
        frames = latents.shape[1]
        x = self._tokens(latents, history, tele, has_tele)
        shared, ends = self._noise(t)
        turn = self._turn(capture_s, decision_s)
        mask = frame_mask(frames, self.config.tokens, self.config.window).to(x.device)
        for block in self._blocks:
            parts = block.parts(shared)
            q, k, v = block.project(x, parts, turn)
            x = block.finish(x, parts, q, k, v, mask)
        return self._outputs(x, ends)

    def step(
        self, cache: Cache, latents: Tensor, t: Tensor, capture_s: Tensor, history: Tensor,
        decision_s: Tensor, tele: Tensor | None = None, has_tele: Tensor | None = None,
    ) -> tuple[Tensor, Cache]:  # fmt: skip
        """One more frame of every row, as `forward` would see it at the end of the sequence.

        Args: as of `forward`, without the axis of frames.

        Returns:
            The history tokens' output ``(B, dim)`` and the cache that also holds the frame;
            the one given is left as it is.
        """
        config, b, n = self.config, len(latents), self.config.tokens
        tele = None if tele is None else tele[:, None]
        has_tele = None if has_tele is None else has_tele[:, None]
        x = self._tokens(latents[:, None], history[:, None], tele, has_tele)
        shared, ends = self._noise(t[:, None])
        turn = self._turn(capture_s[:, None], decision_s[:, None])
        place = torch.where(cache.count == 0, 0, 1 + (cache.count - 1) % config.window)
        filled = cache.filled | F.one_hot(place, 1 + config.window).bool()
        here = place[:, None] * n + torch.arange(n, device=x.device)
        at = here[:, None, None, :, None].expand(-1, 2, config.heads, -1, config.head_dim)
        video = filled.repeat_interleave(n, dim=1)[:, None, None]
        own = torch.arange(n + 1, device=x.device)[:, None] == n
        mask = torch.cat([video.expand(b, 1, n + 1, -1), own.expand(b, 1, -1, 1)], dim=-1)
        kept = []
        for index, block in enumerate(self._blocks):
            parts = block.parts(shared)
            q, k, v = block.project(x, parts, turn)
            new = torch.stack([k[:, :, :n], v[:, :, :n]], dim=1)
            held = cache.kept[:, index].scatter(3, at, new)
            kept.append(held)
            keys = torch.cat([held[:, 0], k[:, :, n:]], dim=2)
            values = torch.cat([held[:, 1], v[:, :, n:]], dim=2)
            x = block.finish(x, parts, q, keys, values, mask)
        h = self._outputs(x, ends, video=False)[1][:, 0]
        return h, Cache(torch.stack(kept, dim=1), filled, cache.count + 1)

    @property
    def _blocks(self) -> list[Block]:
        return [layer for layer in self.layers if isinstance(layer, Block)]

    def _tokens(
        self, latents: Tensor, history: Tensor, tele: Tensor | None, has_tele: Tensor | None
    ) -> Tensor:
        """``(B, F, tokens + 1, dim)``: video tokens, then the history token."""
        b, f = latents.shape[:2]
        patches = self.stem(latents.flatten(0, 1)).flatten(2).transpose(1, 2)
        video = patches.view(b, f, self.config.tokens, -1) + self.place
        if tele is None or has_tele is None:
            video = video + self.tele_missing
        else:
            features = self.tele(tele.flatten(0, 1)).view(video.shape)
            video = video + torch.where(has_tele[..., None, None], features, self.tele_missing)
        return torch.cat([video, history[:, :, None]], dim=2)

    def _noise(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Modulations ``(B, F, 6, dim)`` of the blocks and ``(B, F, 2, dim)`` of the last norm."""
        level = self.noise(sinusoids(t, _NOISE_FEATURES))
        return self.modulation(level).unflatten(-1, (6, -1)), self.last(level).unflatten(
            -1, (2, -1)
        )

    def _turn(self, capture_s: Tensor, decision_s: Tensor) -> tuple[Tensor, Tensor]:
        video = capture_s[..., None].expand(-1, -1, self.config.tokens)
        times = torch.cat([video, decision_s[..., None]], dim=-1)
        return rotary(times.flatten(1), self.config.head_dim)

    def _outputs(self, x: Tensor, ends: Tensor, video: bool = True) -> tuple[Tensor, Tensor]:
        config, (b, f, n, _) = self.config, x.shape
        out = modulate(self.norm(x), ends[:, :, None, 0], ends[:, :, None, 1])
        h = out[:, :, n - 1]
        if not video:
            return h, h
        (rows, columns), p = config.grid, config.patch
        patches = self.patch_out(out[:, :, : n - 1]).view(
            b, f, rows, columns, config.latent_channels, p, p
        )
        return patches.permute(0, 1, 4, 2, 5, 3, 6).reshape(b, f, *config.latent_shape), h
