"""One decision grid, handover and duration for all cells of a grid, or a reason why there is none.

A chunk sets when the policy decides: D0 is the end of the first chunk, d a chunk's length. All
cells take those of the slowest chunk, and the warm-up that the most demanding policy needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omniloop.configs.compose import compose
from omniloop.configs.schema import PluginConfig, RunConfig
from omniloop.core import registry
from omniloop.core.contracts import ChunkRule
from omniloop.core.errors import ConfigError, InputError, SceneError
from omniloop.core.local import as_service
from omniloop.core.schedule import Schedule
from omniloop.core.time import US_PER_S
from omniloop.renderer_client.rasterizer import Rasterizer
from omniloop.runlog.folder import RUN_YAML
from omniloop.runlog.run_yaml import check_same
from omniloop.runner.assemble import assemble
from omniloop.runner.grids.grid import Cell, Grid
from omniloop.runner.run import describe


@dataclass(frozen=True)
class Clock:
    """When all cells decide.

    Attributes:
        chunk: The rule that sets it; None if no renderer makes chunks.
        set_by: The renderer's label whose rule that is.
        sync: Settings of `sync` that every cell takes.
        renderers: Label to the settings of `renderer` that it takes.
        drawn: Label to the chunk rule that it draws with then; None for frame by frame. Those
            that draw nothing are not in it.
        adaptable: Labels of renderers that make any chunk.
        notes: What was changed.
    """

    chunk: ChunkRule | None
    set_by: str
    sync: Mapping[str, str]
    renderers: Mapping[str, Mapping[str, str]]
    drawn: Mapping[str, ChunkRule | None]
    adaptable: frozenset[str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GridPlan:
    """A grid that can be run.

    Attributes:
        configs: Cell's name to its settings.
        warmup_s: Of every cell, from render start.
        notes: What a reader should know.
    """

    grid: Grid
    out: Path
    clock: Clock
    configs: Mapping[str, RunConfig]
    warmup_s: float
    notes: tuple[str, ...] = field(default=())


def common_clock(grid: Grid) -> Clock:
    """Find the decision grid that every renderer of a grid can take.

    Omniloop's own rasterisers are set to it; renderers that work frame by frame take its period
    and first decision. Others must have it.

    Raises:
        InputError: two renderers cannot, or a renderer or a setting is unknown or unusable.
    """
    plugins: dict[str, PluginConfig] = {}
    per_chunk = 1
    for cell in grid.cells:
        if cell.renderer not in plugins:
            config = compose(grid.overrides(cell))
            plugins[cell.renderer] = config.renderer
            per_chunk = config.sync.decisions_per_chunk
    rules = {label: _rule(plugin) for label, plugin in plugins.items() if plugin.name != "none"}
    own = frozenset(
        label for label in rules
        if issubclass(registry.load_class("renderer", plugins[label].name), Rasterizer)
    )  # fmt: skip
    chunks = {label: rule for label, rule in rules.items() if rule is not None}
    if not chunks:
        return Clock(None, "", {}, {}, rules, own)
    fixed = {label: rule for label, rule in chunks.items() if label not in own}
    candidates = fixed or chunks
    slowest = max(candidates, key=lambda label: candidates[label].duration_us)
    rule = candidates[slowest]
    for label, other in fixed.items():
        if _times(other) != _times(rule):
            raise ConfigError(
                f"{slowest} and {label} cannot decide at the same times: {slowest} makes {_told(rule)},"
                f" {label} {_told(other)}", where=f"renderer={','.join(plugins)}",
                remedy=f"serve both with the same chunks ({label}.chunk={rule.frames} {label}.fps={rule.fps},"
                f" or {slowest}.chunk={other.frames} {slowest}.fps={other.fps}), or leave one out",
            )  # fmt: skip
    sync = {
        "sync.decision_period_us": str(rule.duration_us // per_chunk),
        "sync.first_decision_us": str(_times(rule)[0]),
    }
    for key, text in sync.items():
        if grid.given(key) not in (None, text):
            raise ConfigError(
                f"{key} is {grid.given(key)}, but {slowest} makes {_told(rule)}",
                where=f"{key}={grid.given(key)}", remedy=f"leave it out, which makes it {text}",
            )  # fmt: skip
    changed = {label: chunks[label] for label in chunks if label in own and chunks[label] != rule}
    taken = {"renderer.chunk": str(rule.frames), "renderer.fps": str(rule.fps)}
    return Clock(
        chunk=rule, set_by=slowest, sync=sync, renderers=dict.fromkeys(changed, taken),
        drawn={label: rule if label in chunks else None for label in rules}, adaptable=own,
        notes=tuple(
            f"{label} takes {slowest}'s chunks of {rule.frames} frames at {rule.fps} Hz instead of"
            f" {before.frames} at {before.fps} Hz" for label, before in changed.items()
        ),
    )  # fmt: skip


def _rule(plugin: PluginConfig) -> ChunkRule | None:
    """What a renderer declares once it can be reached."""
    service: Any = as_service(
        "renderer", registry.create("renderer", plugin.name, plugin.arguments)
    )

    async def contact() -> None:
        try:
            if hasattr(service, "connect"):
                await service.connect()
        finally:
            if hasattr(service, "disconnect"):
                await service.disconnect()

    asyncio.run(contact())
    rule: ChunkRule | None = service.spec.chunk
    return rule


def _times(rule: ChunkRule) -> tuple[int, int]:
    """The first decision after render start, and the period."""
    return rule.first_frames * rule.frame_interval_us, rule.duration_us


def _told(rule: ChunkRule) -> str:
    first_us, period_us = _times(rule)
    return (
        f"chunks of {rule.frames} frames at {rule.fps} Hz (first decision after {first_us / 1e3:g} ms,"
        f" then every {period_us / 1e3:g} ms)"
    )


def plan_grid(grid: Grid, out: Path) -> GridPlan:
    """Check every cell as `omniloop run` does, and give all of them the same times.

    Raises:
        InputError: a cell cannot be run, or cells cannot decide at the same times.
        RunFolderError: a cell's folder was begun with other settings.
    """
    clock = common_clock(grid)
    configs: dict[str, RunConfig] = {}
    documents: dict[str, dict[str, object]] = {}
    schedules: dict[str, dict[str, Schedule]] = {}
    for cell in grid.cells:
        try:
            config = compose(
                grid.overrides(
                    cell,
                    {
                        **clock.sync, **clock.renderers.get(cell.renderer, {}),
                        "run.dir": str(out), "run.name": cell.name, "run.resume": "true",
                    },
                )
            )  # fmt: skip
            setup = assemble(config)
        except InputError as error:
            raise type(error)(
                f"cell {cell.name}: {error.what}", where=error.where, remedy=error.remedy
            ) from error
        configs[cell.name], documents[cell.name] = config, describe(setup)
        schedules[cell.name] = {name: setup.prepare(name).schedule for name in setup.ids}
    _check_same_times(schedules)
    warmup_s, notes = _common_warmup(grid, configs, schedules)
    for name, config in configs.items():
        sync = config.sync.model_copy(update={"warmup_s": warmup_s})
        configs[name] = config.model_copy(update={"sync": sync})
        if (out / name / RUN_YAML).is_file():
            check_same(out / name, {**documents[name], "config": configs[name].model_dump(mode="json")})  # fmt: skip
    return GridPlan(grid, out, clock, configs, warmup_s, (*clock.notes, *notes))


def _check_same_times(schedules: Mapping[str, Mapping[str, Schedule]]) -> None:
    first, *others = schedules
    for other in others:
        for scene in sorted(schedules[first].keys() & schedules[other].keys()):
            one, two = schedules[first][scene], schedules[other][scene]
            for what, before, now in (
                ("first decision", one.first_decision_us, two.first_decision_us),
                ("decision period", one.decision_period_us, two.decision_period_us),
                ("end", one.end_us, two.end_us),
            ):
                if before != now:
                    cameras = [", ".join(c.camera_id for c in s.clocks) or "none" for s in (one, two)]  # fmt: skip
                    raise ConfigError(
                        f"{first} and {other} would not run alike: the {what} is {before} us and {now} us",
                        where=f"scene {scene}, cameras {cameras[0]} and {cameras[1]}",
                        remedy="give all cells the same cameras with renderer.cameras=[...], or leave one out",
                    )  # fmt: skip


def _common_warmup(
    grid: Grid, configs: Mapping[str, RunConfig], schedules: Mapping[str, Mapping[str, Schedule]]
) -> tuple[float, list[str]]:
    """Seconds from render start that cover what every policy must have seen, and what to say of it.

    Raises:
        SceneError: no scene lasts so long.
    """
    given = next(iter(configs.values())).sync.warmup_s
    if given != "auto":
        return given, []
    longest = {c: max(s.n_warmup for s in found.values()) for c, found in schedules.items()}
    steps = max(longest.values())
    one = next(iter(next(iter(schedules.values())).values()))
    offset_us = one.first_decision_us - one.render_start_us
    warmup_s = (offset_us + steps * one.decision_period_us) / US_PER_S if steps else 0.0
    most: Cell = max(grid.cells, key=lambda cell: longest[cell.name])
    whole = {scene: s for found in schedules.values() for scene, s in found.items()}
    if all(s.n_decisions <= steps for s in whole.values()):
        raise SceneError(
            f"no scene leaves a closed-loop decision: {most.policy} needs {warmup_s:g} s of warm-up",
            where=f"{len(whole)} scene(s)",
            remedy="give sync.warmup_s, lengthen sync.duration_s, choose a smaller chunk, or leave"
            f" {most.policy} out",
        )  # fmt: skip
    if len(set(longest.values())) == 1:
        return warmup_s, []
    return warmup_s, [f"every cell has the warm-up that {most.policy} needs: {warmup_s:g} s"]
