"""Rankings of policies as tables: incident types first, every tau that is undefined with its reason."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniloop.report.compare.ranks import Ranking
from omniloop.report.intervals import SAME
from omniloop.report.score_tables import interval_text, listed
from omniloop.report.tabular import Table, Value, number

INCIDENT_TYPES = (
    "incident", "incident_at_fault", "collision_front", "collision_lateral", "collision_rear",
    "collision_ego_stopped", "collision_at_fault", "collision", "offroad",
)  # fmt: skip
"""Scores of which each has a row, also where tau is undefined."""


def by_incident_type(names: Sequence[str]) -> list[str]:
    """Scores in the order in which rankings show them: types of incident first."""
    return [n for n in INCIDENT_TYPES if n in names] + [n for n in names if n not in INCIDENT_TYPES]


def ranking_table(rankings: Sequence[Ranking], key: str) -> Table:
    """One row for each score and pair of settings: tau and the means that were ranked.

    Of scores that are no type of incident, those without a tau are named below the table.
    """
    rows: list[tuple[Value, ...]] = []
    notes = []
    reasons: dict[str, list[str]] = {}
    for r in rankings:
        a = r.agreement
        if a.tau is None and r.score not in INCIDENT_TYPES:
            reasons.setdefault(_reason(r), []).append(r.score)
            continue
        groups = f"{r.groups[0]} / {r.groups[1]}"
        means = ", ".join(
            f"{number(one)} / {number(two)}" for one, two in zip(a.first, a.second, strict=True)
        )
        rows.append(
            (r.score, groups, None if a.tau is None else f"{a.tau:.2f}", interval_text(a.interval),
             None if a.kept is None else f"{a.kept * 100:.0f} %", a.scenes, means or None,
             _reason(r))
        )  # fmt: skip
        notes.append(f"means under {groups} of {', '.join(r.policies)}")
    notes += [f"no tau, {why}: {listed(tuple(dict.fromkeys(s)), 99)}" for why, s in reasons.items()]
    headers = ["score", key, "tau", "95 % interval", "same ranking", "scenes", "means", "why not"]
    if not any(row[-1] for row in rows):
        del headers[-1]
        rows = [row[:-1] for row in rows]
    title = f"Kendall's tau of the rankings of policies by {key}"
    return Table("ranking", title, tuple(headers), tuple(rows), tuple(dict.fromkeys(notes)))


def full_ranking_table(rankings: Sequence[Ranking], key: str) -> Table:
    """One row for each score, pair of settings and policy; numbers as they are."""
    headers = (
        "setting", "score", "first", "second", "tau", "low", "high", "same_ranking", "scenes", "policy",
        "first_mean", "second_mean", "reason",
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = []
    for r in rankings:
        a = r.agreement
        for k, policy in enumerate(r.policies):
            means = (a.first[k], a.second[k]) if a.first else (None, None)
            rows.append(
                (key, r.score, *r.groups, a.tau, a.interval.low, a.interval.high, a.kept, a.scenes,
                 policy, *means, _reason(r) or a.interval.reason or None)
            )  # fmt: skip
    return Table("ranking", "Rankings", headers, tuple(rows))


def _reason(ranking: Ranking) -> str:
    """Why there is no tau, with the settings under which policies are tied; empty if there is one."""
    a = ranking.agreement
    if a.tau is not None or len(a.first) < 2:
        return a.reason
    if ranking.score in INCIDENT_TYPES and not any((*a.first, *a.second)):
        return "no run has such an incident"
    sides = zip(ranking.groups, (a.first, a.second), strict=True)
    tied = [group for group, means in sides if np.ptp(means) <= SAME]
    return f"all policies are tied under {' and '.join(tied)}"
