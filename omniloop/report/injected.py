"""What the config group `imperfection` injected into a run, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from omniloop.imperfection.service import FACTS
from omniloop.runlog.results import RolloutResult

_LABELS = {
    "ego_motion": "ego motion",
    "latency": "decision latency",
    "frames": "frames",
    "image": "pictures",
    "actor_dropout": "actor dropout",
}
"""Kind to its label, in the order of the table."""


def injected_lines(results: Sequence[RolloutResult]) -> list[tuple[str, str, str]]:
    """For each kind that was on: its key, its label, and what it came to over all rollouts."""
    told: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for result in results:
        for place, facts in result.facts.items():
            for kind, fact in (facts if place == FACTS else facts.get(FACTS, {})).items():
                told.setdefault(kind, []).append((place, fact))
    return [
        (kind, label, _WORDS[kind](told[kind])) for kind, label in _LABELS.items() if kind in told
    ]


def injected_settings(config: Mapping[str, Any], kind: str) -> str:
    """The settings of a kind, without those that are 0 or null."""
    settings = (config.get("imperfection") or {}).get(kind) or {}
    return ", ".join(f"{key}={value}" for key, value in settings.items() if value)


def _ego_motion(told: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    parts = []
    for name, unit in (("position", "m"), ("yaw", "rad"), ("speed", "mps")):
        rms = np.sqrt(np.mean([fact[f"{name}_rms_{unit}"] ** 2 for _, fact in told]))
        most = max(fact[f"{name}_max_{unit}"] for _, fact in told)
        shown = "m/s" if unit == "mps" else unit
        parts.append(f"{name} off by {rms:.3g} {shown} rms, {most:.3g} {shown} at most")
    return "; ".join(parts)


def _latency(told: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    count = sum(fact["decisions"] for _, fact in told)
    mean_us = sum(fact["mean_us"] * fact["decisions"] for _, fact in told) / count
    least, most = min(fact["min_us"] for _, fact in told), max(fact["max_us"] for _, fact in told)
    return f"{_ms(least)} to {_ms(most)}, {_ms(mean_us)} on average, over {count} decisions"


def _frames(told: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    facts = list(_by_camera(told))
    frames, lost, delayed = (sum(f[key] for f in facts) for key in ("frames", "lost", "delayed"))
    text = f"{lost} of {frames} lost ({lost / max(frames, 1) * 100:.1f} %)"
    if delayed:
        mean_us = sum(f["delay_mean_us"] * f["delayed"] for f in facts) / delayed
        most_us = max(f["delay_max_us"] for f in facts)
        text += f"; {delayed} late, {_ms(mean_us)} on average, {_ms(most_us)} at most"
    return text


def _image(told: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    facts = list(_by_camera(told))
    if not facts:
        return "no picture"
    least, most = min(f["gain_min"] for f in facts), max(f["gain_max"] for f in facts)
    return f"{sum(f['frames'] for f in facts)} pictures, gain {least:.3g} to {most:.3g}"


def _actor_dropout(told: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    parts = []
    for place in dict.fromkeys(place for place, _ in told):
        facts = [fact for where, fact in told if where == place]
        spells, actor_s = sum(f["spells"] for f in facts), sum(f["actor_s"] for f in facts)
        parts.append(f"{place}: {spells} spells, {actor_s:.1f} actor-seconds")
    return "; ".join(parts)


def _by_camera(told: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[Mapping[str, Any]]:
    return (camera for _, fact in told for camera in fact.values())


def _ms(time_us: float) -> str:
    return f"{time_us / 1000:.0f} ms"


_WORDS = {
    "ego_motion": _ego_motion,
    "latency": _latency,
    "frames": _frames,
    "image": _image,
    "actor_dropout": _actor_dropout,
}
