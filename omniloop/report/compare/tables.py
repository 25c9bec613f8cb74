"""Comparisons as tables: in full for programs, brief for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from omniloop.core.time import US_PER_S
from omniloop.report.aggregate import matrix, outcome_counts
from omniloop.report.compare.comparison import Comparison
from omniloop.report.compare.differences import Difference
from omniloop.report.compare.divergence import Divergence
from omniloop.report.compare.pairing import Pair, Pairing
from omniloop.report.score_tables import interval_text, listed
from omniloop.report.tabular import Table, Value, number, text
from omniloop.runlog.results import OUTCOMES, RolloutResult


def differences_table(comparison: Comparison) -> Table:
    """One row for each score, and below all that a reader must know."""
    found = comparison.differences
    alike = [d.name for d in found if _is_alike(d)]
    undefined = [d.name for d in found if d.value is None]
    rows = [_difference_row(d) for d in found if d.value is not None and not _is_alike(d)]
    notes = (
        *_outcome_notes(comparison.pairing),
        *_parting_notes(comparison),
        *([f"the same in every scene: {listed(alike, 99)}"] if alike else []),
        *([f"undefined in every pair: {listed(undefined, 99)}"] if undefined else []),
        *([] if found else ["no score is in both runs and means the same in both"]),
        *comparison.pairing.notes(),
    )
    return Table("differences", comparison.title, _HEADERS, tuple(rows), notes)


_HEADERS = ("score", "A", "B", "B - A", "95 % interval", "won/same/lost", "n", "scenes")


def _is_alike(d: Difference) -> bool:
    """Whether nothing differs; of a flag that is set somewhere this is worth a row."""
    if d.flag:
        return d.first == d.second == 0
    return bool(d.scenes) and d.scenes == d.same


def _difference_row(d: Difference) -> tuple[Value, ...]:
    factor = 100 if d.flag else 1
    values = [text(None if v is None else number(v * factor)) for v in (d.first, d.second)]
    change = text(None) if d.value is None else _signed(d.value * factor)
    counts = f"{d.wins}/{d.same}/{d.losses}"
    if d.wins is None:
        counts = f"+{d.higher} -{d.lower}"
    n = str(d.valid) if d.valid == d.pairs else f"{d.valid} of {d.pairs}"
    interval = interval_text(d.interval, factor)
    return (_with_unit(d), *values, change, interval, counts, n, d.scenes)


def _with_unit(d: Difference) -> str:
    """A score's name, with the unit that it is shown in unless the name ends with it."""
    unit = "%" if d.flag else "" if d.unit == "1" else d.unit
    spelt = "_" + unit.replace("1/", "per_").replace("/", "p").replace("^", "")
    return d.name if not unit or d.name.endswith(spelt) else f"{d.name} [{unit}]"


def groups_table(comparison: Comparison) -> Table:
    """One row for each group and score in which something differs."""
    rows: list[tuple[Value, ...]] = []
    without: list[str] = []
    for label, found in comparison.groups.items():
        shown = [d for d in found if d.value is not None and not _is_alike(d)]
        rows += [(label, *_difference_row(d)) for d in shown]
        if not shown:
            without.append(label)
    notes = ["scores that are undefined or the same in every scene of a group have no row"]
    if without:
        notes.append(f"no score differs in {len(without)} group(s): {listed(without, 99)}")
    title = f"By {comparison.by}, {comparison.title}"
    return Table("groups", title, (comparison.by, *_HEADERS), tuple(rows), tuple(notes))


def full_differences_table(comparisons: Sequence[Comparison]) -> Table:
    """One row for each comparison, group and score; numbers as they are. All pairs come first."""
    headers = (
        "first", "second", "group", "score", "first_value", "second_value", "difference", "low", "high",
        "unit", "better", "valid", "pairs", "scenes", "scenes_higher", "scenes_lower", "scenes_same",
        "scenes_won", "scenes_lost", "set_only_in_first", "set_only_in_second", "interval", "interval_reason",
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = [
        (
            c.pairing.first.name, c.pairing.second.name, label, d.name, d.first, d.second, d.value,
            d.interval.low, d.interval.high, d.unit or None, d.better, d.valid, d.pairs, d.scenes,
            d.higher, d.lower, d.same, d.wins, d.losses, len(d.cleared_by) if d.flag else None,
            len(d.set_by) if d.flag else None, d.interval.method or None, d.interval.reason or None,
        )
        for c in comparisons
        for label, found in ((None, c.differences), *c.groups.items())
        for d in found
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
    kept = {name for c in comparisons for side in c.pairing.pairs for name in side.first.metrics}
    names = [
        name
        for name in dict.fromkeys(d.name for c in comparisons for d in c.differences)
        if name in kept  # not those per km, which rollouts do not have
    ]
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
