"""The joint training loss: flow matching of video and of plans at independent noise levels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omniloop.policies.wam import flow
from omniloop.policies.wam.model import Ego, WorldActionModel

PLAN_SHIFT = 3.0
"""Flow times of plans are moved towards noise: four Euler steps look at 1, 3/4, 1/2 and 1/4."""

NO_NOISE = 0.25
"""Share of the plan draws whose noise is zero. The flow from zero noise, which no Gaussian draw
comes near in 192 dimensions, is so taught to end at the mean of the plans."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Sequences: B of F frames each.

    Attributes:
        latents: ``(B, F, C, h, w)`` clean.
        capture_s, decision_s: ``(B, F)`` from the first frame's capture on.
        ego: What the history tokens are made of, ``(B, F, ...)``.
        target: ``(B, F, 64, 3)``.
        valid: ``(B, F)`` where there is a target.
        tele: ``(B, F, H, W, 3)`` uint8, or None if no sequence has a second camera.
        has_tele: ``(B, F)``.
    """

    latents: Tensor
    capture_s: Tensor
    decision_s: Tensor
    ego: Ego
    target: Tensor
    valid: Tensor
    tele: Tensor | None = None
    has_tele: Tensor | None = None


def video_times(batch: int, frames: int, small: float, generator: torch.Generator) -> Tensor:
    """Flow times ``(B, F)``: half of the sequences small as in driving, half uniform per frame."""
    t = torch.rand((batch, frames), generator=generator, device=generator.device)
    alike = torch.arange(batch, device=generator.device) % 2 == 0
    return torch.where(alike[:, None], small * t, t)


def losses(
    model: WorldActionModel, batch: Batch, generator: torch.Generator, plan_draws: int
) -> tuple[Tensor, Tensor]:
    """Mean squared errors of the video's velocity and of the plans'.

    Args:
        model: The model.
        batch: Sequences.
        generator: Of flow times and noise, on the device of the batch.
        plan_draws: Flow times and noises per target, stratified over [0, 1]: the head is
            small beside the backbone, so that many draws steady the gradient at little cost.
    """
    (b, frames), device = batch.valid.shape, batch.valid.device
    t = video_times(b, frames, model.config.context_noise, generator)
    eps = torch.randn(batch.latents.shape, generator=generator, device=device)
    velocity, h = model.backbone(
        flow.mix(batch.latents, eps, t), t, batch.capture_s, model.token(batch.ego),
        batch.decision_s, batch.tele, batch.has_tele,
    )  # fmt: skip
    video = (velocity.float() - (eps - batch.latents)).square().mean()
    tau = model.whitening.whiten(batch.target, batch.ego.speed).flatten(0, 1)
    rows = batch.valid.flatten().nonzero()[:, 0].repeat(plan_draws)
    stratum = torch.arange(plan_draws, device=device).repeat_interleave(
        len(rows) // max(plan_draws, 1)
    )
    u = (stratum + torch.rand(len(rows), generator=generator, device=device)) / plan_draws
    s = flow.shifted(u, PLAN_SHIFT)
    noise = torch.randn((len(rows), tau.shape[-1]), generator=generator, device=device)
    noisy = torch.rand(len(rows), generator=generator, device=device) >= NO_NOISE
    noise = noise * noisy[:, None]
    s = torch.where(noisy, s, torch.ceil(u * model.config.plan_steps) / model.config.plan_steps)
    film = model.head.film(h.flatten(0, 1))[rows]
    given = model.velocity(flow.mix(tau[rows], noise, s), s, film)
    error = (given.float() - (noise - tau[rows])).square().sum()
    # By the components that plans really differ in, not by all 192.
    plan = error / (max(len(rows), 1) * model.whitening.deviation.square().sum())
    return video, plan
