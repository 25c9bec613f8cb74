"""Comparisons as tables: in full for programs, brief for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omniloop.core.time import US_PER_S
from omniloop.report.aggregate import matrix, outcome_counts
from omniloop.report.compare.differences import Difference, paired_differences
from omniloop.report.compare.divergence import Divergence, divergence
from omniloop.report.compare.pairing import Pair, Pairing
from omniloop.report.compare.ranks import Ranking
from omniloop.report.score_tables import interval_text, listed
from omniloop.report.tabular import Table, Value, number, text
from omniloop.runlog.folder import LOG_NAME, rollout_dir
from omniloop.runlog.results import OUTCOMES, RolloutResult


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two runs compared.

    Attributes:
        differences: By score.
        divergences: By ``<scene>/<seed>``; empty if logs were not looked at.
        tolerance_m: How far apart egos must be to have parted.
    """

    pairing: Pairing
    differences: tuple[Difference, ...]
    divergences: Mapping[str, Divergence]
    tolerance_m: float

    @property
    def title(self) -> str:
        """The two runs, which tables call A and B."""
        return f"{self.pairing.second.name} (B) against {self.pairing.first.name} (A)"


def compare(pairing: Pairing, names: Sequence[str], tolerance_m: float, logs: bool) -> Comparison:
    """Compare the scores wanted, and with `logs` when the rollouts part."""
    first, second = pairing.first, pairing.second
    definitions = {**first.definitions, **second.definitions}
    wanted = [name for name in names if name not in pairing.left_out_scores]

    def log(run_dir: Path, pair: Pair) -> Path:
        return rollout_dir(run_dir, *pair.first.key) / LOG_NAME

    parted = {
        pair.name: divergence(log(first.path, pair), log(second.path, pair), tolerance_m)
        for pair in (pairing.pairs if logs else ())
    }
    found = paired_differences(pairing.pairs, wanted, definitions)
    return Comparison(pairing, tuple(found), parted, tolerance_m)


def differences_table(comparison: Comparison) -> Table:
    """One row for each score, and below all that a reader must know."""
    headers = ("score", "A", "B", "B - A", "95 % interval", "unit", "won/same/lost", "n", "scenes")
    rows: list[tuple[Value, ...]] = []
    alike = [
        d.name for d in comparison.differences if d.scenes and d.scenes == d.same and not d.flag
    ]
    alike += [d.name for d in comparison.differences if d.flag and d.first == d.second == 0]
    undefined = [d.name for d in comparison.differences if not d.scenes]
    for d in comparison.differences:
        if d.name in alike or d.name in undefined:
            continue
        factor, unit = (100, "%") if d.flag else (1, "" if d.unit == "1" else d.unit)
        values = [text(None if v is None else number(v * factor)) for v in (d.first, d.second)]
        change = text(None) if d.value is None else _signed(d.value * factor)
        counts = f"{d.wins}/{d.same}/{d.losses}"
        if d.wins is None:
            counts = f"{d.higher} up {d.lower} down"
        n = str(d.valid) if d.valid == d.pairs else f"{d.valid} of {d.pairs}"
        interval = interval_text(d.interval, factor)
        rows.append((d.name, *values, change, interval, unit, counts, n, d.scenes))
    notes = (
        *_outcome_notes(comparison.pairing),
        *_parting_notes(comparison),
        *([f"the same in every scene: {listed(alike, 99)}"] if alike else []),
        *([f"undefined in every pair: {listed(undefined, 99)}"] if undefined else []),
        *comparison.pairing.notes(),
    )
    return Table("differences", comparison.title, headers, tuple(rows), notes)


def full_differences_table(comparisons: Sequence[Comparison]) -> Table:
    """One row for each comparison and score; numbers as they are."""
    headers = (
        "first", "second", "score", "first_value", "second_value", "difference", "low", "high", "unit",
        "better", "valid", "pairs", "scenes", "scenes_higher", "scenes_lower", "scenes_same", "scenes_won",
        "scenes_lost", "set_only_in_first", "set_only_in_second", "interval_reason",
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = [
        (
            c.pairing.first.name, c.pairing.second.name, d.name, d.first, d.second, d.value,
            d.interval.low, d.interval.high, d.unit or None, d.better, d.valid, d.pairs, d.scenes,
            d.higher, d.lower, d.same, d.wins, d.losses, len(d.cleared_by) if d.flag else None,
            len(d.set_by) if d.flag else None, d.interval.reason or None,
        )
        for c in comparisons
        for d in c.differences
    ]  # fmt: skip
    return Table("differences", "Differences of scores", headers, tuple(rows))


def flips_table(comparison: Comparison) -> Table:
    """Flags that are set in one run only, with the rollouts in which they are."""
    rows = [
        (d.name, f"only in {run}", len(names), ", ".join(names))
        for d in comparison.differences
        for run, names in (("A", d.cleared_by), ("B", d.set_by))
        if names
    ]
    title = f"Flags that flipped, {comparison.title}"
    return Table("flips", title, ("score", "set", "rollouts", "which"), tuple(rows))


def rollouts_table(comparison: Comparison) -> Table:
    """One row for each pair: outcomes and when the two parted."""
    headers = ("rollout", "A", "B", "parted", "apart", "note")
    rows: list[tuple[Value, ...]] = []
    for pair in comparison.pairing.pairs:
        parted = comparison.divergences.get(pair.name)
        rows.append(
            (pair.name, pair.first.outcome, pair.second.outcome, _when(pair, parted),
             "" if parted is None or parted.distance_m is None else f"{number(parted.distance_m)} m",
             "" if parted is None else parted.problem)
        )  # fmt: skip
    note = (
        f"parted: s after handover at which egos are more than {comparison.tolerance_m:g} m apart"
    )
    title = f"Rollouts, {comparison.title}"
    return Table("rollouts", title, headers, tuple(rows), (note,) if comparison.divergences else ())


def full_rollouts_table(comparisons: Sequence[Comparison]) -> Table:
    """One row for each pair of each comparison, with every score compared in both runs."""
    names = list(dict.fromkeys(d.name for c in comparisons for d in c.differences))
    rows: list[tuple[Value, ...]] = []
    for c in comparisons:
        results = ([p.first for p in c.pairing.pairs], [p.second for p in c.pairing.pairs])
        values = [matrix(side, names).tolist() for side in results]
        for k, pair in enumerate(c.pairing.pairs):
            parted = c.divergences.get(pair.name, Divergence(None, None, None))
            handover = pair.first.handover_us
            after = None
            if parted.time_us is not None and handover is not None:
                after = (parted.time_us - handover) / US_PER_S
            scores: list[Value] = []
            for one, two in zip(values[0][k], values[1][k], strict=True):
                scores += [None if math.isnan(v) else v for v in (one, two)]
            rows.append(
                (c.pairing.first.name, c.pairing.second.name, *pair.first.key, pair.first.outcome,
                 pair.second.outcome, parted.time_us, after, parted.distance_m, parted.until_us,
                 parted.problem or None, *scores)
            )  # fmt: skip
    headers = (
        "first", "second", "scene", "seed", "first_outcome", "second_outcome", "parted_us",
        "parted_after_handover_s", "apart_m", "compared_until_us", "problem",
        *(f"{side}_{name}" for name in names for side in ("first", "second")),
    )  # fmt: skip
    return Table("rollouts", "Rollouts", headers, tuple(rows))


def ranking_table(rankings: Sequence[Ranking], key: str) -> Table:
    """One row for each score and pair of settings: tau and the means that were ranked."""
    rows: list[tuple[Value, ...]] = []
    notes = []
    reasons: dict[str, list[str]] = {}
    for r in rankings:
        a = r.agreement
        if a.tau is None:
            reasons.setdefault(a.reason, []).append(r.score)
            continue
        groups = f"{r.groups[0]} / {r.groups[1]}"
        means = ", ".join(
            f"{number(one)} / {number(two)}" for one, two in zip(a.first, a.second, strict=True)
        )
        rows.append(
            (r.score, groups, None if a.tau is None else f"{a.tau:.2f}", interval_text(a.interval),
             None if a.kept is None else f"{a.kept * 100:.0f} %", a.scenes, means or None)
        )  # fmt: skip
        notes.append(f"means under {groups} of {', '.join(r.policies)}")
    notes += [f"no tau, {why}: {listed(tuple(dict.fromkeys(s)), 99)}" for why, s in reasons.items()]
    headers = ("score", key, "tau", "95 % interval", "same ranking", "scenes", "means")
    title = f"Kendall's tau of the rankings of policies by {key}"
    return Table("ranking", title, headers, tuple(rows), tuple(dict.fromkeys(notes)))


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
                 policy, *means, a.reason or a.interval.reason or None)
            )  # fmt: skip
    return Table("ranking", "Rankings", headers, tuple(rows))


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)


def _when(pair: Pair, parted: Divergence | None) -> str:
    if parted is None or parted.until_us is None:
        return text(None)
    if parted.time_us is None:
        return "never" if not parted.problem else text(None)
    start = pair.first.handover_us
    return (
        f"{(parted.time_us - start) / US_PER_S:.2f} s"
        if start is not None
        else f"{parted.time_us} us"
    )


def _outcome_notes(pairing: Pairing) -> list[str]:
    def told(results: Sequence[RolloutResult]) -> str:
        counts = outcome_counts(results)
        return ", ".join(f"{counts[o]} {o.replace('_', ' ')}" for o in OUTCOMES)

    return [
        f"{len(pairing.pairs)} pair(s) of rollouts of {len({p.first.scene for p in pairing.pairs})} scene(s)",
        f"A, {pairing.first.name}: {told([p.first for p in pairing.pairs])}",
        f"B, {pairing.second.name}: {told([p.second for p in pairing.pairs])}",
    ]


def _parting_notes(comparison: Comparison) -> list[str]:
    found = comparison.divergences
    if not found:
        return []
    apart = [name for name, d in found.items() if d.time_us is not None]
    together = [n for n, d in found.items() if d.time_us is None and not d.problem]
    problems = [name for name, d in found.items() if d.problem]
    lines = [
        f"egos part by more than {comparison.tolerance_m:g} m in {len(apart)} of {len(found)} rollout(s)"
        + (f"; never in {listed(together)}" if together and apart else "")
    ]
    if problems:
        lines.append(
            f"logs of {len(problems)} rollout(s) could not be compared in full: {listed(problems)}"
        )
    return lines
