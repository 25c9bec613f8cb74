"""The world-action model: backbone, history token, action head and plans as latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from omniloop.policies.wam import flow
from omniloop.policies.wam.backbone import Backbone, Cache
from omniloop.policies.wam.config import WamConfig
from omniloop.policies.wam.head import UNetHead
from omniloop.policies.wam.inputs import (
    HISTORY_FEATURES,
    HISTORY_STEPS,
    PLAN_STEP_US,
    PLAN_STEPS,
    ROUTE_POINTS,
)

_YAW_M = 4.0
"""A radian of yaw weighs as much as so many metres."""

_LEAST_DEVIATION = 1e-3

_METRES, _MPS, _ROUTE_M = 20.0, 15.0, 40.0


@dataclass(frozen=True, eq=False)
class Ego:
    """What a history token is made of; leading axes ``(...)`` are free.

    Attributes:
        history: ``(..., 16, 5)``, see `inputs.history_of`.
        speed: ``(...)`` m/s.
        has_motion: ``(...)`` where False only the speed is looked at.
        route: ``(..., 16, 3)``.
        has_route: ``(...)``.
    """

    history: Tensor
    speed: Tensor
    has_motion: Tensor
    route: Tensor
    has_route: Tensor


class HistoryToken(nn.Module):
    """One token of 1.6 s of ego motion, and of the route where there is one."""

    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.motion = nn.Sequential(
            nn.Linear(HISTORY_STEPS * HISTORY_FEATURES + 2, dim), nn.SiLU(), nn.Linear(dim, dim)
        )
        self.route = nn.Sequential(nn.Linear(3 * ROUTE_POINTS, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.no_route = nn.Parameter(torch.zeros(dim))
        scale = torch.tensor([_METRES, _METRES, 1.0, 1.0, _MPS])
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, ego: Ego) -> Tensor:
        """``(..., dim)``."""
        known = ego.has_motion[..., None].float()
        motion = (ego.history / self.scale).flatten(-2) * known
        token = self.motion(torch.cat([motion, ego.speed[..., None] / _MPS, known], dim=-1))
        route = self.route(ego.route.flatten(-2) / _ROUTE_M)
        out: Tensor = token + torch.where(ego.has_route[..., None], route, self.no_route)
        return out


class Whitening(nn.Module):
    """Plans as latents: the residual to constant velocity, decorrelated and scaled.

    The transform is a principal component analysis of the training set whose deviations have
    a floor, so that directions in which plans hardly differ stay small in the latent too:
    `deviation` ``(192,)`` says how much is left of each.
    """

    mean: Tensor
    forward_matrix: Tensor
    back_matrix: Tensor
    deviation: Tensor
    seconds: Tensor

    def __init__(self) -> None:
        super().__init__()
        size = 3 * PLAN_STEPS
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("forward_matrix", torch.eye(size))
        self.register_buffer("back_matrix", torch.eye(size))
        self.register_buffer("deviation", torch.ones(size))
        seconds = torch.arange(1, PLAN_STEPS + 1) * (PLAN_STEP_US / 1e6)
        self.register_buffer("seconds", seconds, persistent=False)

    def fit(self, plans: Tensor, speed: Tensor, floor_m: float) -> None:
        """Take the statistics of plans ``(N, 64, 3)`` begun at `speed` ``(N,)``.

        Args:
            plans: x, y, yaw in the rig frame at the decision.
            speed: m/s.
            floor_m: Least deviation of a component: the norm over all 64 waypoints.
        """
        residual = self._residual(plans, speed).double()
        mean = residual.mean(dim=0)
        centred = residual - mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / max(len(plans) - 1, 1))
        own = values.clamp_min(0).sqrt()
        deviation = own.clamp_min(floor_m)
        self.mean.copy_(mean)
        self.forward_matrix.copy_(vectors / deviation)
        self.back_matrix.copy_((vectors * deviation).T)
        self.deviation.copy_((own / deviation).clamp_min(_LEAST_DEVIATION))

    def whiten(self, plans: Tensor, speed: Tensor) -> Tensor:
        """Latents ``(..., 192)`` of plans ``(..., 64, 3)`` begun at `speed` ``(...)``."""
        return (self._residual(plans, speed) - self.mean) @ self.forward_matrix

    def plans(self, latents: Tensor, speed: Tensor) -> Tensor:
        """The inverse of `whiten`."""
        flat = latents @ self.back_matrix + self.mean
        out = flat.view(*flat.shape[:-1], PLAN_STEPS, 3).clone()
        out[..., 2] /= _YAW_M
        out[..., 0] += speed[..., None] * self.seconds
        return out

    def _residual(self, plans: Tensor, speed: Tensor) -> Tensor:
        x = plans[..., 0] - speed[..., None] * self.seconds
        return torch.stack([x, plans[..., 1], _YAW_M * plans[..., 2]], dim=-1).flatten(-2)


class WorldActionModel(nn.Module):
    """Video flow and plan flow, joint in training; only the plan's in driving."""

    def __init__(self, config: WamConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.token = HistoryToken(config.dim)
        self.head = UNetHead(3 * PLAN_STEPS, config.dim, config.head_widths)
        self.whitening = Whitening()

    def look(
        self, cache: Cache, latents: Tensor, capture_s: Tensor, ego: Ego, decision_s: Tensor,
        noise: Tensor, tele: Tensor | None = None, has_tele: Tensor | None = None,
    ) -> tuple[Tensor, Cache]:  # fmt: skip
        """The single pass of the backbone before a decision; see `Backbone.step`.

        Args:
            latents: ``(B, C, h, w)`` clean latent frames.
            noise: Of the same shape: mixed in at the small flow time of inference.

        Returns:
            The history tokens' output ``(B, dim)`` and the cache that holds the frames too.
        """
        t = torch.full((len(latents),), self.config.context_noise / 2, device=latents.device)
        return self.backbone.step(
            cache, flow.mix(latents, noise, t), t, capture_s, self.token(ego), decision_s,
            tele, has_tele,
        )  # fmt: skip

    def velocity(self, x: Tensor, s: Tensor, film: Tensor) -> Tensor:
        """The plan's flow ``(N, 192)`` at latents `x` and times `s` ``(N,)``; see `UNetHead`."""
        c_in, c_skip, c_out = flow.balance(s[:, None], self.whitening.deviation)
        out: Tensor = c_skip * x + c_out * self.head(c_in * x, s, film)
        return out

    def act(self, h: Tensor, speed: Tensor, noise: Tensor) -> Tensor:
        """Plans ``(B, S, 64, 3)`` from starting points `noise` ``(B, S, 192)`` of the flow."""
        b, samples, size = noise.shape
        film = self.head.film(h).repeat_interleave(samples, dim=0)
        latents = flow.euler(
            lambda x, s: self.velocity(x, s, film), noise.reshape(-1, size), self.config.plan_steps
        )
        return self.whitening.plans(
            latents.view(b, samples, size), speed[:, None].expand(b, samples)
        )
