"""What the runs of a grid say: scores, differences of policies, rankings, and frozen frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omniloop.core.errors import ConfigError
from omniloop.report.aggregate import score_names
from omniloop.report.backend_bins import EDGES_M, bins_of, brief_table, chart
from omniloop.report.backend_bins import full_table as full_bins_table
from omniloop.report.backends import clips_of
from omniloop.report.compare.comparison import Comparison, compare
from omniloop.report.compare.pairing import pair_runs
from omniloop.report.compare.ranking_tables import by_incident_type, full_ranking_table
from omniloop.report.compare.ranks import Ranking, rank_runs
from omniloop.report.compare.tables import full_differences_table
from omniloop.report.runs import Run, scores_of
from omniloop.report.score_tables import chosen_scores, full_table
from omniloop.report.tabular import SUFFIXES, TEXT_FORMATS, Table, to_csv
from omniloop.runlog.files import write_atomic
from omniloop.runner.grids.grid import Cell, Grid
from omniloop.runner.grids.tables import (
    agreement,
    policies_table,
    scores_table,
    setting_axes,
    setting_name,
    tau_table,
)

HEADLINES = (
    "incident", "incident_at_fault", "incident_in_tube", "collision", "collision_at_fault",
    "collision_front", "collision_lateral", "collision_rear", "collision_ego_stopped", "offroad",
    "progress_rel", "path_distance_max_m",
)  # fmt: skip
"""Scores that a grid is about unless others are asked for."""

CHART_NAME = "backends.svg"


@dataclass(frozen=True)
class Answers:
    """The tables of a grid: in full for programs, brief for people.

    Attributes:
        chart: SVG of the image differences; empty if nothing was drawn again.
        notes: What holds for all of it.
    """

    full: tuple[Table, ...]
    brief: tuple[Table, ...]
    chart: str
    notes: tuple[str, ...]

    def with_notes(self, more: Sequence[str]) -> Answers:
        """The same with further notes, each once."""
        return replace(self, notes=tuple(dict.fromkeys((*self.notes, *more))))


def answer(grid: Grid, runs: Mapping[str, Run], wanted: Sequence[str] | None) -> Answers:
    """Compare the runs of a grid.

    Args:
        runs: By cell.
        wanted: Patterns of score names; None for `HEADLINES`.

    Raises:
        ConfigError: a pattern matches no score.
    """
    present = score_names([result for run in runs.values() for result in run.results])
    names = chosen_scores(present, wanted)
    if not wanted:
        names = [name for name in HEADLINES if name in present] or names
    cells = [cell for cell in grid.cells if cell.name in runs]
    aggregates = {cell.name: scores_of(runs[cell.name], "run", names)[0] for cell in cells}
    full = [full_table(list(aggregates.values()), "Scores")]
    brief = [scores_table(grid, cells, aggregates, runs)]
    notes = agreement(cells, runs)
    compared: dict[str, Comparison] = {}
    for cell in cells:
        first = _first_policy(grid, cells, cell)
        if first is not None:
            try:
                pairing = pair_runs(runs[first.name], runs[cell.name])
            except ConfigError as error:
                notes.append(f"{cell.name} is not compared with {first.name}: {error.what}")
                continue
            compared[cell.name] = compare(pairing, names, 0.0, logs=False)
    if compared:
        brief.append(policies_table(grid, compared))
        full.append(full_differences_table(list(compared.values())))
    if len(grid.axes["policy"]) < 2 or grid.varied == ("policy",):
        notes.append("no rankings: they need two policies or more, under two settings or more")
        return Answers(tuple(full), tuple(brief), "", tuple(notes))
    try:
        rankings = _rankings(grid, cells, runs, by_incident_type(names))
    except ConfigError as error:
        notes.append(f"no rankings: {error.what}")
    else:
        brief.append(tau_table(rankings, setting_axes(grid)))
        full.append(full_ranking_table(rankings, setting_axes(grid)))
    return Answers(tuple(full), tuple(brief), "", tuple(notes))


def _first_policy(grid: Grid, cells: Sequence[Cell], cell: Cell) -> Cell | None:
    """The cell of the first policy under the same setting; None for that cell itself."""
    first = grid.axes["policy"][0].label
    if cell.policy == first:
        return None
    return next((c for c in cells if c.others == cell.others and c.policy == first), None)


def _rankings(
    grid: Grid, cells: Sequence[Cell], runs: Mapping[str, Run], names: Sequence[str]
) -> list[Ranking]:
    """Rankings under each two settings that differ in one axis."""
    labelled, places = [], {}
    for cell in cells:
        run, name = runs[cell.name], setting_name(grid, cell)
        places[name] = cell.others
        # A label stands for a plugin with its settings: two of one plugin are two groups.
        config = {**run.config, "policy": {"name": cell.policy}, "setting": name}
        labelled.append(replace(run, settings={**run.settings, "config": config}))

    def apart(ranking: Ranking) -> int:
        one, two = (places[group] for group in ranking.groups)
        return sum(a != b for a, b in zip(one, two, strict=True))

    return [r for r in rank_runs(labelled, "setting", names) if apart(r) == 1]


def with_frozen(
    answers: Answers, reference: Path, name: str, drawn: Mapping[str, Path], every: int
) -> Answers:
    """Add how the frames of each renderer differ from those that a cell was driven with.

    Args:
        reference: The cell's folder.
        name: The renderer that it was driven with.
        drawn: Label of each other renderer to the folder of what it drew.
        every: Compare every so many frames of a camera.

    Raises:
        ConfigError: the frames are of other sizes, or none is in common.
        RunFolderError: a log cannot be read.
    """
    compared = []
    for label, folder in drawn.items():
        clips = clips_of(reference, folder, label, every=every)
        compared.append((clips, bins_of(clips)))
    brief, full = brief_table(compared, name), full_bins_table(compared, name)
    notes = [f"states driven in {reference.name}, one frame of {every} compared"]
    farthest_m = max(float(clips.deviation_m.max(initial=0.0)) for clips, _ in compared)
    if farthest_m < EDGES_M[0]:
        notes.append(
            f"no clip is farther than {farthest_m:.2f} m from the recorded path: freeze a cell whose"
            " policy leaves it with --frozen CELL"
        )
    brief = replace(brief, notes=(*brief.notes, *notes))
    return replace(
        answers, full=(*answers.full, full), brief=(*answers.brief, brief),
        chart=chart(compared, name),
    )  # fmt: skip


def write_answers(out: Path, answers: Answers, title: str) -> list[Path]:
    """Write each full table as CSV, all brief ones as Markdown and LaTeX, and the chart.

    Raises:
        RunFolderError: they cannot be written.
    """
    files = {f"{table.name}.csv": to_csv(table) for table in answers.full}
    if answers.chart:
        files[CHART_NAME] = answers.chart
    notes = Table("notes", title, ("what holds for all of it",), tuple((n,) for n in answers.notes))
    for kind in ("md", "latex"):
        parts = [TEXT_FORMATS[kind](table) for table in (notes, *answers.brief)]
        if answers.chart and kind == "md":
            parts.append(f"![Differences of images over the deviation]({CHART_NAME})\n")
        files[f"grid.{SUFFIXES[kind]}"] = "\n".join(parts)
    for name, content in files.items():
        write_atomic(out / name, content.encode("utf-8", "backslashreplace"))
    return [out / name for name in files]
