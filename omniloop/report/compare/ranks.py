"""Runs of several policies under two settings each, brought into tables for `ranking`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from omniloop.core.errors import ConfigError, nearest
from omniloop.report.aggregate import matrix, scene_index, scene_means
from omniloop.report.compare.ranking import Agreement, kendall_of_rankings
from omniloop.report.runs import Run
from omniloop.runlog.environment import differences
from omniloop.runlog.results import RolloutResult


@dataclass(frozen=True)
class Ranking:
    """Policies ranked by one score under two settings.

    Attributes:
        score: The score's name.
        groups: The two settings.
        policies: In the order of the runs.
    """

    score: str
    groups: tuple[str, str]
    policies: tuple[str, ...]
    agreement: Agreement


def rank_runs(runs: Sequence[Run], key: str, names: Sequence[str]) -> list[Ranking]:
    """Compare how two groups of runs rank policies, for each score.

    Args:
        key: The setting that tells groups apart: "renderer", or with a dot
            "renderer.chunk", "sync.strategy".
        names: Scores to rank by.

    Raises:
        ConfigError: the runs are not the same policies, one run each, in two or more groups,
            or have no rollout in common.
    """
    groups = _groups(runs, key)
    labels = list(groups)
    common = _common_keys(runs)
    if not common:
        raise ConfigError(
            "the runs have no rollout in common", where="--rank-by",
            remedy="rank runs of the same scenes and seeds",
        )  # fmt: skip
    results = {run.path: _in_order(run, common) for run in runs}
    scenes, scene = scene_index(results[runs[0].path])
    values = {path: matrix(found, names) for path, found in results.items()}
    out = []
    for k, name in enumerate(names):
        for i, first in enumerate(labels):
            for second in labels[i + 1 :]:
                shared = [p for p in groups[first] if p in groups[second]]
                columns = [values[groups[g][p].path][:, k] for g in (first, second) for p in shared]
                by_rollout = np.stack(columns, axis=1)
                by_rollout[np.isnan(by_rollout).any(axis=1)] = np.nan  # the same ones for all
                means = scene_means(by_rollout, scene, len(scenes)).T
                agreement = kendall_of_rankings(means[: len(shared)], means[len(shared) :])
                out.append(Ranking(name, (first, second), tuple(shared), agreement))
    return out


def _groups(runs: Sequence[Run], key: str) -> dict[str, dict[str, Run]]:
    """Setting to policy to run."""
    policies = _policy_labels(runs)
    groups: dict[str, dict[str, Run]] = {}
    for run, policy in zip(runs, policies, strict=True):
        group = groups.setdefault(_setting(run, key), {})
        if policy in group:
            raise ConfigError(
                f"two runs have policy {policy} and the same {key}",
                where=f"{group[policy].path} and {run.path}", remedy="leave one of them out",
            )  # fmt: skip
        group[policy] = run
    if len(groups) < 2:
        raise ConfigError(
            f"all runs have the same {key}: {next(iter(groups))}", where=f"--rank-by {key}",
            remedy="give runs of the same policies under two settings",
        )  # fmt: skip
    every = list(groups.values())
    if len(set(every[0]).intersection(*every[1:])) < 2:
        have = "; ".join(f"{label}: {', '.join(group)}" for label, group in groups.items())
        raise ConfigError(
            f"fewer than two policies were run under each {key} ({have})",
            where=f"--rank-by {key}", remedy="give at least two policies under each setting",
        )  # fmt: skip
    return groups


def _policy_labels(runs: Sequence[Run]) -> list[str]:
    """A policy's name, with those of its settings in which runs of that name differ."""
    settings: list[dict[str, Any]] = [dict(run.config.get("policy") or {}) for run in runs]
    out = []
    for mine in settings:
        name = str(mine.get("name"))
        alike = [s for s in settings if str(s.get("name")) == name]
        told = sorted({line.split(":")[0] for s in alike for line in differences(mine, s)})
        words = [f"{key}={mine.get(key)}" for key in told]
        out.append(" ".join([name, *words]))
    return out


def _setting(run: Run, key: str) -> str:
    value: Any = run.config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            known = list(value) if isinstance(value, Mapping) else []
            raise ConfigError(
                f"{run.name} has no setting '{key}'.{nearest(part, known)}",
                where=f"--rank-by {key}", remedy=f"known here: {', '.join(known) or 'none'}",
            )  # fmt: skip
        value = value[part]
    if isinstance(value, Mapping):
        value = value.get("name", value)
    return str(value)


def _common_keys(runs: Sequence[Run]) -> list[tuple[str, int]]:
    """Scene and seed of rollouts that all runs have, of scenes with the same content."""
    common = set.intersection(*({r.key for r in run.results} for run in runs))
    hashes = [run.settings.get("scenes") or {} for run in runs]
    return [
        key for key in sorted(common) if len({str(h[key[0]]) for h in hashes if key[0] in h}) <= 1
    ]


def _in_order(run: Run, keys: Sequence[tuple[str, int]]) -> list[RolloutResult]:
    by_key = {result.key: result for result in run.results}
    return [by_key[key] for key in keys]
