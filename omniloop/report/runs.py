"""A run as it is read back for tables and comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omniloop.core import registry
from omniloop.core.errors import ConfigError, PluginError, RunFolderError
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.recorded import Recorded, definitions_in
from omniloop.report.aggregate import Aggregate, Definitions, aggregate
from omniloop.report.page_parts import missing_rollouts
from omniloop.runlog.definitions import DEFINITIONS_NAME, read_definitions
from omniloop.runlog.folder import RUN_YAML, open_existing, read_run_yaml
from omniloop.runlog.results import FoundResults, RolloutResult, find_results, read_results

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
        definitions: Of the scores, as far as they are known: those that the run keeps, else those
            of the plugins that are installed.
        recorded: What the run itself says of its scores (`omniloop.metrics.recorded`); None if
            it says nothing.
        problems: What a reader should know of the above.
    """

    path: Path
    name: str
    settings: Mapping[str, Any]
    results: tuple[RolloutResult, ...]
    damaged: tuple[str, ...]
    missing: tuple[str, ...]
    definitions: Definitions
    recorded: Recorded | None
    problems: tuple[str, ...]

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved settings; empty if they are not known."""
        return self.settings.get("config") or {}

    @property
    def found(self) -> FoundResults:
        """The results, valid and damaged, for what reads runs by itself."""
        return FoundResults(list(self.results), list(self.damaged))

    def renamed(self, name: str) -> Run:
        """The same run under another name."""
        return replace(self, name=name)


def read_run(run_dir: Path, found: FoundResults | None = None) -> Run:
    """Read a run's results and what is known of it.

    Args:
        found: Its results, if they have been read already.

    Raises:
        RunFolderError: the folder is no run, its ``run.yaml`` cannot be read, or it holds no
            valid result.
    """
    folder = open_existing(run_dir)
    found = find_results(folder) if found is None else found
    if not found.results:
        read_results(folder)  # says why
    settings, problems = _settings(folder)
    kept, definitions, faults = _kept_definitions(folder)
    plugins = (settings.get("config") or {}).get("metrics")
    unsaid = plugins if kept is None or plugins is None else [p for p in plugins if p not in kept]
    if unsaid is None or unsaid:
        live, unknown = definitions_of(unsaid)
        definitions = {**live, **definitions}
        problems += unknown
    return Run(
        path=folder, name=folder.resolve().name, settings=settings, results=tuple(found.results),
        damaged=tuple(found.damaged), missing=tuple(missing_rollouts(settings, found.results)),
        definitions=definitions, recorded=kept, problems=(*problems, *faults),
    )  # fmt: skip


_MAPPINGS = ("config", "scenes", "tags", "edits", "suite", "environment")
_CONFIG_MAPPINGS = ("run", "sync", "metrics")


def _settings(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """``run.yaml`` as far as it has the shape it should, and a line for each part that has not."""
    path = folder / RUN_YAML
    if not path.is_file():
        return {}, [f"{path} is missing: settings are not known"]
    settings = read_run_yaml(folder)
    problems = _without_strays(settings, _MAPPINGS, "")
    if settings.get("config"):
        settings["config"] = dict(settings["config"])
        config = settings["config"]
        problems += _without_strays(config, _CONFIG_MAPPINGS, "config.")
        if config.get("metrics"):
            metrics = config["metrics"] = dict(config["metrics"])
            problems += _without_strays(metrics, list(metrics), "config.metrics.")
    if not settings.get("config"):
        problems.append("its settings are not known")
    return settings, [f"{path}: {line}" for line in problems]


def _without_strays(found: dict[str, Any], keys: Sequence[str], prefix: str) -> list[str]:
    stray = [k for k in keys if found.get(k) is not None and not isinstance(found[k], Mapping)]
    return [f"'{prefix}{k}' is no mapping but {found.pop(k)!r:.40}: it is ignored" for k in stray]


def _kept_definitions(folder: Path) -> tuple[Recorded | None, Definitions, list[str]]:
    """What a run says of its scores, and why that cannot be used."""
    try:
        kept = read_definitions(folder)
        return kept, {} if kept is None else definitions_in(kept), []
    except RunFolderError as error:
        return None, {}, [f"{error.where} is ignored: {error.what}"]
    except ValueError as error:
        return None, {}, [f"{folder / DEFINITIONS_NAME} is ignored: {error}"]


def definitions_of(metrics: Iterable[str] | None) -> tuple[Definitions, list[str]]:
    """Definitions of the scores of metric plugins by score, and a line for each plugin without.

    Args:
        metrics: Names of plugins; None for all that are installed.
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

    A scene with several tags is in several groups; see `tags_of`.

    Raises:
        ConfigError: `by` is "tag" and the run does not know its scenes' tags, or is unknown.
    """
    groups: dict[str, list[RolloutResult]] = {}
    for result in run.results:
        for label in labels_of(run, result, by):
            groups.setdefault(label, []).append(result)
    order = sorted(groups) if by == "tag" else list(groups)
    return [aggregate(groups[label], run.definitions, label, names) for label in order]


def labels_of(run: Run, result: RolloutResult, by: str) -> Sequence[str]:
    """The groups that a rollout is in; one of "run", "scene", "tag" and "rollout" tells them apart.

    Raises:
        ConfigError: see `scores_of`.
    """
    if by == "run":
        return (run.name,)
    if by == "scene":
        return (result.scene,)
    if by == "rollout":
        return (result.session_id,)
    if by != "tag":
        raise ConfigError(f"cannot group by '{by}'", remedy=f"one of {', '.join(GROUPINGS)}")
    return tags_of(run, result.scene)


def tags_of(run: Run, scene: str) -> tuple[str, ...]:
    """A scene's tags and ``edit:KIND`` for each kind of edit in it.

    Where other scenes of the run are edited, one that is not has "edit:none"; a scene without
    any has "untagged".

    Raises:
        ConfigError: the run does not know the tags of its scenes.
    """
    tags = run.settings.get("tags")
    if not isinstance(tags, Mapping):
        raise ConfigError(
            "the run does not know the tags of its scenes", where=str(run.path / RUN_YAML),
            remedy="run it again, or group by scene",
        )  # fmt: skip
    edits = run.settings.get("edits") or {}
    kinds = [f"edit:{str(line).partition(':')[0]}" for line in edits.get(scene) or ()]
    if edits and not kinds:
        kinds = ["edit:none"]
    return tuple(dict.fromkeys([*map(str, tags.get(scene) or ()), *kinds])) or ("untagged",)
