"""The model card: what a checkpoint was trained on, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omniloop.policies.wam.config import WamConfig
from omniloop.training.wam_eval import HORIZONS_S, SAMPLES

_WAYS = {
    "zero": "plan from zero noise, no route",
    "min6": f"best of {SAMPLES} samples, no route",
    "route": "plan from zero noise, route shown",
    "speed": "plan from zero noise, present speed in place of 1.6 s of motion",
    "black": "plan from zero noise, black images",
    "shuffled": "plan from zero noise, images of another sequence",
    "constant_velocity": "constant velocity (baseline)",
}

_TEXT = """# World-action model

A causal video transformer over latent frames with an action head, trained jointly by flow
matching to predict video and to drive: policy `wam` of Omniloop {omniloop}.

- Input: one forward camera of 256 x 128 pixels at 5 Hz, 1.6 s of ego motion at 10 Hz, and the route if
  it is told to look at it. Output: 64 poses, 10 Hz, 6.4 s.
- {parameters:,} parameters in all, {megabytes:.1f} MB on disk (float16).
- Trained for {minutes} minutes on {device} ({machine}), torch {torch}: {steps} steps,
  {sequences:,} sequences; seed {seed}.
- Training set: {training_rollouts} rollouts, {training_decisions:,} decisions. Validation set:
  {validation_rollouts} rollouts, {validation_decisions:,} decisions.
- Latent frames: {latents}.
- It has seen drawings of maps and boxes by Omniloop's rasteriser only. It is no driver for a road.

## Validation

Flow matching losses: video {video_loss:.4f}, plan {plan_loss:.4f}.

Mean distance to the expert's plan in metres, up to each horizon, at the last frame of a sequence:

| | {heads} |
|---|{rule}
{rows}

## Training losses

| step | video | plan |
|---|---|---|
{losses}
"""


def write_card(
    path: Path, facts: Mapping[str, Any], scores: Mapping[str, float],
    history: Sequence[Mapping[str, float]], size_bytes: int,
) -> None:  # fmt: skip
    """Write the card of a checkpoint.

    Args:
        path: Where to.
        facts: The checkpoint's.
        scores: What `wam_eval.evaluate` found.
        history: Losses on the way, by step.
        size_bytes: Of the checkpoint.
    """
    rows = [
        f"| {text} | " + " | ".join(f"{scores[f'ade_{h}s/{way}']:.2f}" for h in HORIZONS_S) + " |"
        for way, text in _WAYS.items()
    ]
    few = history[:: max(len(history) // 12, 1)]
    losses = [f"| {h['step']:.0f} | {h['video_loss']:.4f} | {h['plan_loss']:.4f} |" for h in few]
    text = _TEXT.format(
        **facts, latents=_latents(facts), video_loss=scores["video_loss"], plan_loss=scores["plan_loss"],
        megabytes=size_bytes / 1e6, heads=" | ".join(f"{h} s" for h in HORIZONS_S) + " |",
        rule="---|" * len(HORIZONS_S), rows="\n".join(rows), losses="\n".join(losses),
    )  # fmt: skip
    path.write_text(text.replace("| |\n", "|\n"), encoding="utf-8")


def _latents(facts: Mapping[str, Any]) -> str:
    vae = WamConfig.from_dict(facts["settings"]["model"]).vae
    if vae is None:
        return "an autoencoder trained with it"
    return (
        f"the VAE '{vae.name}', {vae.channels} channels, stride {vae.stride}, scaling factor"
        f" {vae.scaling_factor:g}, SHA-256 {vae.sha256}; its weights are not in the file"
    )
