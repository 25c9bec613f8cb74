"""A run as it is read back for tables and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omniloop.core import registry
from omniloop.core.errors import ConfigError, PluginError
from omniloop.metrics.definition import MetricDefinition
from omniloop.report.aggregate import Aggregate, Definitions, aggregate
from omniloop.report.page_parts import missing_rollouts
from omniloop.runlog.folder import RUN_YAML, open_existing, read_run_yaml
from omniloop.runlog.results import RolloutResult, find_results, read_results

GROUPINGS = ("run", "scene", "tag", "rollout")


@dataclass(frozen=True, eq=False)
class Run:
    """What a run's folder holds.

    Attributes:
        name: The folder's name.
        settings: ``run.yaml``; empty if it is missing.
        results: Valid ones, by scene and seed.
        damaged: One line for each result that is not valid.
        missing: ``<scene>/<seed>`` of planned rollouts without a valid result.
        definitions: Of the scores, as far as they are known.
        problems: What a reader should know of the above.
    """

    path: Path
    name: str
    settings: Mapping[str, Any]
    results: tuple[RolloutResult, ...]
    damaged: tuple[str, ...]
    missing: tuple[str, ...]
    definitions: Definitions
    problems: tuple[str, ...]

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved settings; empty if they are not known."""
        return self.settings.get("config") or {}

    def renamed(self, name: str) -> Run:
        """The same run under another name."""
        return replace(self, name=name)


def read_run(run_dir: Path) -> Run:
    """Read a run's results and what is known of it.

    Raises:
        RunFolderError: the folder is no run, its ``run.yaml`` cannot be read, or it holds no
            valid result.
    """
    folder = open_existing(run_dir)
    found = find_results(folder)
    if not found.results:
        read_results(folder)  # says why
    settings = read_run_yaml(folder) if (folder / RUN_YAML).is_file() else {}
    problems = [] if settings else [f"{folder / RUN_YAML} is missing: settings are not known"]
    definitions, unknown = definitions_of((settings.get("config") or {}).get("metrics"))
    return Run(
        path=folder, name=folder.resolve().name, settings=settings, results=tuple(found.results),
        damaged=tuple(found.damaged),
        missing=tuple(missing_rollouts(settings, found.results)), definitions=definitions,
        problems=(*problems, *unknown),
    )  # fmt: skip


def definitions_of(metrics: Mapping[str, Any] | None) -> tuple[Definitions, list[str]]:
    """Definitions of the scores of metric plugins by score, and a line for each plugin without.

    Args:
        metrics: Names of plugins (keys); None for all that are installed.
    """
    found: dict[str, MetricDefinition] = {}
    problems = []
    for plugin in registry.available("metrics") if metrics is None else metrics:
        try:
            loaded = registry.load_class("metrics", plugin)
        except PluginError as error:
            problems.append(f"scores of metric '{plugin}' are taken as means: {error.what}")
            continue
        found.update({d.name: d for d in getattr(loaded, "definitions", ())})
    return found, problems


def scores_of(run: Run, by: str = "run", names: Sequence[str] | None = None) -> list[Aggregate]:
    """The scores of a run: of all of it, by scene, by tag of scenes, or by rollout.

    A scene with several tags is in several groups; one without is in the group "untagged".

    Raises:
        ConfigError: `by` is "tag" and the run does not know its scenes' tags, or is unknown.
    """
    groups: dict[str, list[RolloutResult]] = {}
    for result in run.results:
        for label in _labels(run, result, by):
            groups.setdefault(label, []).append(result)
    order = sorted(groups) if by == "tag" else list(groups)
    return [aggregate(groups[label], run.definitions, label, names) for label in order]


def _labels(run: Run, result: RolloutResult, by: str) -> Sequence[str]:
    if by == "run":
        return (run.name,)
    if by == "scene":
        return (result.scene,)
    if by == "rollout":
        return (result.session_id,)
    if by != "tag":
        raise ConfigError(f"cannot group by '{by}'", remedy=f"one of {', '.join(GROUPINGS)}")
    tags = run.settings.get("tags")
    if not isinstance(tags, Mapping):
        raise ConfigError(
            "the run does not know the tags of its scenes", where=str(run.path / RUN_YAML),
            remedy="run it again, or group by scene",
        )  # fmt: skip
    return tuple(dict.fromkeys(map(str, tags.get(result.scene) or ()))) or ("untagged",)
