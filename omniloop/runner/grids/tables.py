"""Tables of a grid: its scores, differences of policies, and whether settings rank them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from omniloop.core.time import US_PER_S
from omniloop.report.aggregate import Aggregate, Score
from omniloop.report.compare.comparison import Comparison
from omniloop.report.compare.ranks import Ranking
from omniloop.report.intervals import Interval
from omniloop.report.runs import Run
from omniloop.report.score_tables import listed
from omniloop.report.tabular import Table, Value, text
from omniloop.runlog.results import RolloutResult
from omniloop.runner.grids.grid import Cell, Grid

_FACTS: tuple[tuple[str, Callable[[RolloutResult], int | None]], ...] = (
    ("handover [us]", lambda r: r.handover_us),
    ("decision period [us]", lambda r: r.decision_period_us),
    ("decisions", lambda r: r.decisions),
    ("end [us]", lambda r: r.end_us if r.outcome == "completed" and not r.stopped_by else None),
)


def agreement(cells: Sequence[Cell], runs: Mapping[str, Run]) -> list[str]:
    """Whether all cells ran on one decision grid, from their results, and who did not.

    Rollouts that a policy or a service ended early, or that were told to stop, have no end to
    compare; they are counted.
    """
    found: dict[str, dict[str, RolloutResult]] = {}
    for cell in cells:
        for result in runs[cell.name].results:
            found.setdefault(result.session_id, {})[cell.name] = result
    lines = []
    for rollout, results in found.items():
        for what, fact in _FACTS:
            values = {name: fact(r) for name, r in results.items() if fact(r) is not None}
            if len(set(values.values())) > 1:
                told = ", ".join(f"{name} {value}" for name, value in values.items())
                lines.append(f"caution: {rollout} has another {what}: {told}")
    for cell in cells:
        lacking = [rollout for rollout, results in found.items() if cell.name not in results]
        if lacking:
            lines.append(
                f"{cell.name} lacks {len(lacking)} rollout(s) that other cells have: {listed(lacking)}"
            )
    if lines:
        return lines
    every = [r for results in found.values() for r in results.values()]
    periods = sorted({r.decision_period_us for r in every if r.decision_period_us is not None})
    early = sum(_FACTS[-1][1](r) is None for r in every)
    return [
        f"one decision grid: {len(cells)} cell(s) agree in handover, decision period"
        f" ({', '.join(f'{p / US_PER_S:g} s' for p in periods)}), decisions and end, in each of"
        f" {len(found)} rollout(s)" + (f"; {early} of {len(every)} ended early" if early else "")
    ]


def setting_name(grid: Grid, cell: Cell) -> str:
    """What a cell has besides its policy: the values that vary, or the renderer."""
    named = [label for axis, label in cell.others if axis in grid.varied]
    return ", ".join(named) or cell.renderer


def setting_axes(grid: Grid) -> str:
    """The axes of `setting_name`."""
    return ", ".join(axis for axis in grid.varied if axis != "policy") or "renderer"


def scores_table(
    grid: Grid,
    cells: Sequence[Cell],
    aggregates: Mapping[str, Aggregate],
    runs: Mapping[str, Run],
) -> Table:
    """A row for each score and setting, a column for each policy: value and 95 % interval.

    Flags that are set in no cell are named below.
    """
    policies = [v.label for v in grid.axes["policy"]]
    settings = list(dict.fromkeys(setting_name(grid, cell) for cell in cells))
    found = {
        (setting_name(grid, cell), cell.policy): {s.name: s for s in aggregates[cell.name].scores}
        for cell in cells
    }
    names = list(dict.fromkeys(name for scores in found.values() for name in scores))
    rows: list[tuple[Value, ...]] = []
    never = []
    for name in names:
        scores = [s[name] for s in found.values() if name in s]
        values = {s.value for s in scores if s.value is not None}
        if values == {0} and scores[0].reduction == "rate":
            never.append(name)
            continue
        for setting in settings:
            line = [found.get((setting, policy), {}).get(name) for policy in policies]
            rows.append((f"{name}{_unit(scores[0])}", setting, *map(_score_text, line)))
    notes = [f"0 wherever it is defined: {listed(never, 99)}"] if never else []
    headers = ("score", setting_axes(grid), *policies)
    return Table(
        "scores", "Scores of the policies, with 95 % intervals", headers, tuple(rows),
        (*notes, *_outcomes(cells, runs)),
    )  # fmt: skip


def _unit(score: Score) -> str:
    unit = "%" if score.reduction == "rate" else "" if score.unit in ("1", "0 or 1") else score.unit
    return f" [{unit}]" if unit else ""


def _score_text(score: Score | None) -> str:
    if score is None or score.value is None:
        return text(None)
    told = _with(score.value, score.interval, 100 if score.reduction == "rate" else 1)
    return told if score.valid == score.rollouts else f"{told} (n {score.valid})"


def _with(value: float, interval: Interval, factor: float = 1.0, sign: str = "") -> str:
    """Such as ``33.3 [6.15, 79.2]``."""
    told = _short(value * factor, sign)
    if interval.low is None or interval.high is None:
        return told
    return f"{told} [{_short(interval.low * factor)}, {_short(interval.high * factor)}]"


def _short(value: float, sign: str = "") -> str:
    if abs(value) < 1e-9:
        return "0"
    return f"{value:{sign}.3g}" if abs(value) < 1000 else f"{value:{sign}.0f}"


def _outcomes(cells: Sequence[Cell], runs: Mapping[str, Run]) -> tuple[str, ...]:
    """Rollouts that failed or are missing, and what policies may see."""
    lines = []
    seen: dict[str, str] = {}
    for cell in cells:
        run = runs[cell.name]
        failed = [
            f"{r.session_id} {r.outcome.replace('_', ' ')}"
            for r in run.results
            if r.outcome != "completed"
        ]
        if failed:
            lines.append(f"{cell.name}: {len(failed)} rollout(s) failed: {listed(failed)}")
        if run.missing:
            lines.append(
                f"{cell.name}: {len(run.missing)} rollout(s) missing: {listed(run.missing)}"
            )
        lines += [f"{cell.name}: {line}" for line in run.damaged]
        for result in run.results:
            if result.privileged:
                seen[cell.policy] = ", ".join(result.privileged)
    return (*lines, *(f"{policy} is privileged: it sees {what}" for policy, what in seen.items()))


def policies_table(grid: Grid, compared: Mapping[str, Comparison]) -> Table:
    """A row for each score and setting, a column for each further policy: its difference.

    Args:
        compared: By the cell of the second policy; the first is that of the grid's first policy.
    """
    first, *others = (v.label for v in grid.axes["policy"])
    cells = [cell for cell in grid.cells if cell.name in compared]
    found = {
        (setting_name(grid, cell), cell.policy): {
            d.name: d for d in compared[cell.name].differences
        }
        for cell in cells
    }
    settings = list(dict.fromkeys(setting for setting, _ in found))
    names = list(dict.fromkeys(name for line in found.values() for name in line))
    rows: list[tuple[Value, ...]] = []
    alike: list[str] = []
    undefined: list[str] = []
    for name in names:
        every = [line[name] for line in found.values() if name in line]
        if all(d.value is None for d in every):
            undefined.append(name)
            continue
        if all(d.value is None or d.scenes == d.same for d in every):
            alike.append(name)
            continue
        flag, unit = every[0].flag, "" if every[0].unit == "1" else every[0].unit
        told = "%" if flag else unit
        for setting in settings:
            line = []
            for policy in others:
                d = found.get((setting, policy), {}).get(name)
                line.append(
                    text(None) if d is None or d.value is None
                    else _with(d.value, d.interval, 100 if flag else 1, "+")
                )  # fmt: skip
            rows.append((f"{name} [{told}]" if told else name, setting, *line))
    notes = [f"the same in every scene of every cell: {listed(alike, 99)}"] if alike else []
    notes += [f"undefined in every pair: {listed(undefined, 99)}"] if undefined else []
    notes += _pairing_notes(compared)
    title = f"Paired differences from {first}, with 95 % intervals"
    headers = ("score", setting_axes(grid), *others)
    return Table("differences", title, headers, tuple(rows), tuple(notes))


def _pairing_notes(compared: Mapping[str, Comparison]) -> list[str]:
    """What is left out and what differs besides the policy, with the cells of which it holds."""
    told: dict[str, list[str]] = {}
    for name, comparison in compared.items():
        pairing = comparison.pairing
        for line in pairing.notes():
            if not line.startswith(f"{pairing.second.name} changes policy."):
                told.setdefault(line, []).append(name)
    return [f"{', '.join(names)}: {line}" for line, names in told.items()]


def tau_table(rankings: Sequence[Ranking], axes: str) -> Table:
    """A row for each score, a column for each two settings: Kendall's tau, interval, and how often the
    ranking stays the same when scenes are drawn anew."""
    pairs = list(dict.fromkeys(r.groups for r in rankings))
    by_score: dict[str, dict[tuple[str, str], Ranking]] = {}
    for r in rankings:
        by_score.setdefault(r.score, {})[r.groups] = r
    rows: list[tuple[Value, ...]] = []
    without: dict[str, list[str]] = {}
    for score, found in by_score.items():
        if all(r.agreement.tau is None for r in found.values()):
            for reason in dict.fromkeys(_why_not(r) for r in found.values()):
                without.setdefault(reason, []).append(score)
            continue
        rows.append((score, *(_tau_text(found.get(pair)) for pair in pairs)))
    notes = [
        "tau is 1 for the same ranking of policies, -1 for the reverse; in brackets its 95 % interval"
        " over scenes, then the share of resampled scenes that give the same ranking",
        *(f"no tau, {why}: {listed(scores, 99)}" for why, scores in without.items()),
    ]
    headers = ("score", *(f"{one} / {two}" for one, two in pairs))
    title = f"Rankings of the policies by {axes}: Kendall's tau"
    return Table("ranking", title, headers, tuple(rows), tuple(notes))


def _tau_text(ranking: Ranking | None) -> str:
    if ranking is None or ranking.agreement.tau is None:
        return text(None)
    a = ranking.agreement
    told = f"{a.tau:.2f}"
    if a.interval.low is not None and a.interval.high is not None:
        told += f" [{a.interval.low:.2f}, {a.interval.high:.2f}]"
    return told if a.kept is None else f"{told} {a.kept * 100:.0f} %"


def _why_not(ranking: Ranking) -> str:
    means = (*ranking.agreement.first, *ranking.agreement.second)
    return "0 everywhere" if means and not np.any(means) else ranking.agreement.reason
