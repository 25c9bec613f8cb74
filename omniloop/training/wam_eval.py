"""How good a world-action model is on sequences that it was not trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omniloop.policies.wam import flow
from omniloop.policies.wam.autoencoder import LatentFrames
from omniloop.policies.wam.inputs import IMAGE_HEIGHT, IMAGE_WIDTH, PLAN_STEPS
from omniloop.policies.wam.losses import Batch, losses
from omniloop.policies.wam.model import WorldActionModel
from omniloop.training.wam_dataset import Sequences

HORIZONS_S = (1.6, 3.2, 6.4)
SAMPLES = 6

_ROWS = 32


def evaluate(
    model: WorldActionModel, autoencoder: LatentFrames, sequences: Sequences, frames: int,
    count: int, plan_draws: int, seed: int,
) -> dict[str, float]:  # fmt: skip
    """Losses and displacement errors at the last frames of at most `count` sequences.

    Returns:
        ``video_loss``, ``plan_loss``, and for each way to plan and horizon the mean distance
        to the expert's plan in metres, such as ``ade_1.6s/zero``: "zero" is the plan from zero
        noise, "route" the same with the route shown, "speed" with the present speed in place
        of the history, "black" and "shuffled" with black images and those of other sequences,
        "min6" the best of 6 samples, "constant_velocity" the baseline.
    """
    index = _ends(sequences, frames, count)
    black = autoencoder.encode(torch.zeros((1, IMAGE_HEIGHT, IMAGE_WIDTH, 3), dtype=torch.uint8))[0]
    draws = torch.Generator().manual_seed(seed)
    rows: dict[str, list[Tensor]] = {}
    losses_held: list[tuple[int, float, float]] = []
    for first in range(0, len(index), _ROWS):
        part = index[first : first + _ROWS]
        yes, no = np.ones(part.shape, dtype=bool), np.zeros(part.shape, dtype=bool)
        batch = sequences.batch(part, yes, no, yes)
        video, plan = losses(model, batch, draws, plan_draws)
        losses_held.append((len(part), float(video), float(plan)))
        start = torch.randn((len(part), SAMPLES, 3 * PLAN_STEPS), generator=draws)
        zero = torch.zeros((len(part), 1, 3 * PLAN_STEPS))
        other = sequences.batch(_others(index, first, len(part)), yes, no, yes)
        shown = {
            "zero": (batch, zero),
            "min6": (batch, start),
            "route": (sequences.batch(part, yes, yes, yes), zero),
            "speed": (sequences.batch(part, no, no, yes), zero),
            "black": (replace(batch, latents=black.expand_as(batch.latents)), zero),
            "shuffled": (replace(batch, latents=other.latents), zero),
        }
        target, speed = batch.target[:, -1], batch.ego.speed[:, -1]
        for name, (seen, noise) in shown.items():
            rows.setdefault(name, []).append(_errors(_plans(model, seen, noise, draws), target))
        straight = torch.zeros_like(target)
        straight[..., 0] = speed[:, None] * model.whitening.seconds
        rows.setdefault("constant_velocity", []).append(_errors(straight[:, None], target))
    sizes = np.array([n for n, _, _ in losses_held], dtype=np.float64)
    out = {
        name: float(np.average([row[k] for row in losses_held], weights=sizes))
        for k, name in ((1, "video_loss"), (2, "plan_loss"))
    }
    for name, errors in rows.items():
        mean = torch.cat(errors).mean(dim=0).tolist()
        for horizon, value in zip(HORIZONS_S, mean, strict=True):
            out[f"ade_{horizon}s/{name}"] = value
    return out


def _plans(model: WorldActionModel, batch: Batch, noise: Tensor, draws: torch.Generator) -> Tensor:
    """Plans ``(B, S, 64, 3)`` at the last frame, the frames at the small noise of driving."""
    t = torch.full(batch.valid.shape, model.config.context_noise / 2)
    eps = torch.randn(batch.latents.shape, generator=draws)
    _, h = model.backbone(
        flow.mix(batch.latents, eps, t), t, batch.capture_s, model.token(batch.ego),
        batch.decision_s, batch.tele, batch.has_tele,
    )  # fmt: skip
    return model.act(h[:, -1], batch.ego.speed[:, -1], noise)


def _errors(plans: Tensor, target: Tensor) -> Tensor:
    """The least mean distance ``(B, horizons)`` of plans ``(B, S, 64, 3)`` to the target."""
    gap = (plans[..., :2] - target[:, None, :, :2]).norm(dim=-1)
    steps = [round(10 * h) for h in HORIZONS_S]
    return torch.stack([gap[..., :n].mean(dim=-1).amin(dim=1) for n in steps], dim=-1)


def _ends(sequences: Sequences, frames: int, count: int) -> NDArray[np.int64]:
    """Sequences ``(n, F)`` without gaps whose last frame has a target, spread evenly."""
    ends = np.concatenate(
        [
            f + np.arange(frames - 1, n)
            for f, n in zip(sequences.first, sequences.length, strict=True)
        ]
    )
    ends = ends[sequences.tables["valid"][ends]]
    chosen = ends[np.linspace(0, len(ends) - 1, min(count, len(ends))).round().astype(np.int64)]
    return np.asarray(chosen[:, None] - np.arange(frames - 1, -1, -1))


def _others(index: NDArray[np.int64], first: int, size: int) -> NDArray[np.int64]:
    """Sequences from half the split away: of another rollout wherever there are several."""
    return index[(np.arange(first, first + size) + len(index) // 2) % len(index)]
