"""Run the cells of a grid one after the other, and draw one cell's rollouts again with each renderer.

<out>/grid.yaml                     what the grid is
      <cell>/                       a run each
      frozen/<cell>/<renderer>/     that cell drawn again
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omniloop.core.errors import ConfigError, OmniloopError, RunFolderError
from omniloop.live.events import Listener
from omniloop.report.html import write_report
from omniloop.report.run_tables import write_tables
from omniloop.report.runs import Run, read_run
from omniloop.runlog.files import usable, write_atomic
from omniloop.runlog.folder import to_yaml
from omniloop.runlog.results import RolloutResult
from omniloop.runner.grids.clock import Clock, GridPlan
from omniloop.runner.grids.grid import Cell, Grid
from omniloop.runner.rerender import Rerendered, rerender
from omniloop.runner.run import Finished, execute

GRID_YAML = "grid.yaml"
_FRAME_STEP_S = 0.1

CellStarted = Callable[[Cell, int, int], None]
"""Told of a cell before it runs, with its number and how many to run and already there."""


@dataclass
class GridRun:
    """What the cells left.

    Attributes:
        runs: By cell; of those that hold a result.
        notes: What a reader should know.
        problems: Failures of infrastructure; also the reason why a cell is not in `runs`.
    """

    plan: GridPlan
    runs: dict[str, Run] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if every rollout completed or failed by its policy, else 1."""
        return int(bool(self.problems))


@dataclass(frozen=True)
class FrozenCell:
    """A cell whose rollouts are drawn again.

    Attributes:
        settings: Label of each other renderer to the settings that it draws with.
        every: Which frames of a camera to compare: all, or with chunks about ten a second.
    """

    cell: Cell
    settings: Mapping[str, tuple[str, ...]]
    every: int


def begin_grid(plan: GridPlan) -> None:
    """Make the grid's folder and say in it what the grid is.

    Raises:
        RunFolderError: it holds something else, or cannot be written.
    """
    out = plan.out
    with usable(out, "made", "choose a writable folder with --out"):
        if out.is_dir() and not (out / GRID_YAML).is_file() and any(out.iterdir()):
            raise RunFolderError(
                "the folder holds something that is no grid", where=str(out),
                remedy="choose another one with --out",
            )  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
    clock = plan.clock
    document = {
        "cells": {
            cell.name: {
                axis: {"name": v.plugin or v.label, "label": v.label, **dict(v.settings)}
                for axis, v in cell.values.items()
            }
            for cell in plan.grid.cells
        },
        "common": dict(plan.grid.common),
        "times": {
            "set_by": clock.set_by or None,
            "chunk": None if clock.chunk is None else {"frames": clock.chunk.frames, "fps": clock.chunk.fps},
            "warmup_s": plan.warmup_s,
        },
    }  # fmt: skip
    write_atomic(out / GRID_YAML, to_yaml(document).encode())


def run_cells(
    plan: GridPlan, started: CellStarted | None = None, listeners: Sequence[Listener] = ()
) -> GridRun:
    """Run what is missing of every cell; a cell that fails takes no other down."""
    done = GridRun(plan, notes=list(plan.notes))
    for cell in plan.grid.cells:
        folder = plan.out / cell.name

        def told(_setup: object, _dir: Path, todo: int, there: int, cell: Cell = cell) -> None:
            if started is not None:
                started(cell, todo, there)

        try:
            finished = execute(plan.configs[cell.name], listeners, told)
            if finished.results:
                run = read_run(folder, finished.found)
                _keep_run(finished, run)
                done.runs[cell.name] = run
        except OmniloopError as error:
            done.problems.append(f"cell {cell.name} could not be run: {error.what} ({error.where})")
            continue
        done.notes += [f"{cell.name}: {warning}" for warning in finished.warnings]
        done.notes += [
            f"{cell.name}: scene {e.scene_id} is left out: {e.reason}"
            for e in finished.setup.exclusions
        ]
        done.problems += [
            f"cell {cell.name}: {r.session_id}: {(r.error or {}).get('what', r.outcome)}"
            for r in finished.results
            if r.outcome == "infrastructure_failed"
        ]
    return done


def _keep_run(finished: Finished, run: Run) -> None:
    """Leave in a cell's folder what `omniloop run` leaves."""
    if len(finished.results) > finished.resumed or not (run.path / "report.html").is_file():
        write_report(run.path, run.found)
        write_tables(run)


def choose_frozen(grid: Grid, clock: Clock, wanted: str | None) -> FrozenCell | None:
    """Which cell is drawn again, and with what; None if there are no two renderers that draw.

    Args:
        wanted: A cell's name; None for the first policy under the first renderer whose frames
            all others can draw.

    Raises:
        ConfigError: there is no such cell, or a renderer cannot draw its frames.
    """
    named = {cell.name: cell for cell in grid.cells}
    if wanted is not None and wanted not in named:
        raise ConfigError(
            f"the grid has no cell '{wanted}'", where=f"--frozen {wanted}",
            remedy=f"one of {', '.join(named)}",
        )  # fmt: skip
    drawing = [cell for cell in grid.cells if cell.renderer in clock.drawn]
    if len(clock.drawn) < 2 or (wanted is not None and named[wanted] not in drawing):
        if wanted is None:
            return None
        raise ConfigError(
            "there are no frames to draw again, or no other renderer", where=f"--frozen {wanted}",
            remedy="give two renderers or more, and a cell that one of them draws",
        )  # fmt: skip
    # Chunks that cannot be chosen draw nothing but such chunks.
    bound = [n for n, rule in clock.drawn.items() if rule is not None and n not in clock.adaptable]
    if wanted is not None:
        cell = named[wanted]
    else:
        fits = [c for c in drawing if not bound or clock.drawn[c.renderer] is not None]
        cell = fits[0]
    rule = clock.drawn[cell.renderer]
    refused = [label for label in bound if rule is None and label != cell.renderer]
    if refused:
        raise ConfigError(
            f"{refused[0]} draws chunks only, and {cell.renderer} was asked for its frames one by one",
            where=f"--frozen {cell.name}",
            remedy=f"freeze a cell of {refused[0]}, or leave this out with --no-frozen",
        )  # fmt: skip
    every = 1 if rule is None else max(round(rule.fps * _FRAME_STEP_S), 1)
    return FrozenCell(cell, _redraw_settings(grid, clock, cell), every)


def _redraw_settings(grid: Grid, clock: Clock, frozen: Cell) -> dict[str, tuple[str, ...]]:
    rule = clock.drawn[frozen.renderer]
    settings: dict[str, tuple[str, ...]] = {}
    for cell in grid.cells:
        label = cell.renderer
        if label == frozen.renderer or label in settings or label not in clock.drawn:
            continue
        more = dict(clock.renderers.get(label, {}))
        if label in clock.adaptable and clock.drawn[label] is not None and rule is None:
            more["renderer.chunk"] = "0"
        settings[label] = tuple(
            text
            for text in grid.overrides(cell, more)
            if text.startswith(("renderer=", "renderer."))
        )
    return settings


def draw_frozen(
    done: GridRun,
    frozen: FrozenCell,
    progress: Callable[[str, RolloutResult, int, int], None] | None = None,
) -> dict[str, Path]:
    """Draw a cell's rollouts with each other renderer; what fails is one of the problems.

    Returns:
        Label of a renderer to the folder of what it drew.
    """
    out, name = done.plan.out, frozen.cell.name
    folders: dict[str, Path] = {}
    for label, settings in frozen.settings.items():
        folder = out / "frozen" / name / label.replace(":", ".")

        def told(result: RolloutResult, count: int, of: int, label: str = label) -> None:
            if progress is not None:
                progress(label, result, count, of)

        try:
            drawn: Rerendered = rerender(out / name, folder, settings, resume=True, progress=told)
        except OmniloopError as error:
            done.problems.append(
                f"{name} could not be drawn by {label}: {error.what} ({error.where})"
            )
            continue
        done.problems += [
            f"{r.session_id} of {name} drawn by {label}: {(r.error or {}).get('what', r.outcome)}"
            for r in drawn.results
            if r.outcome != "completed"
        ]
        done.notes += [f"{name} drawn by {label}: {note}" for note in drawn.notes]
        folders[label] = folder
    return folders
