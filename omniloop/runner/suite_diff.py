"""What differs between two suites: scenes, seeds, edits, metric settings, versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omniloop.configs.compose import compose
from omniloop.core.errors import RunFolderError
from omniloop.runlog.environment import describe_environment, differences
from omniloop.runlog.folder import RUN_YAML, open_existing, read_run_yaml
from omniloop.runner.suite import deciding_versions, load_suite

_SHOWN_DIGITS = 12


@dataclass(frozen=True, eq=False)
class SuiteSide:
    """A suite as it resolves here, or as a run resolved it.

    Attributes:
        label: What the user called it.
        document: As `ResolvedSuite.document`.
        versions: Of the packages that resolved it.
    """

    label: str
    document: Mapping[str, Any]
    versions: Mapping[str, str]


def read_side(name: str) -> SuiteSide:
    """Resolve a suite by its name or file, or take the one that a run's folder tells of.

    Raises:
        InputError: there is no such suite, or it is not right.
        RunFolderError: the run is of no suite.
    """
    path = Path(name)
    if not path.is_dir():
        document = load_suite(compose([f"suite={name}"])).document()
        return SuiteSide(name, document, deciding_versions(describe_environment()))
    found = read_run_yaml(open_existing(path))
    suite = found.get("suite")
    if not isinstance(suite, Mapping) or not isinstance(suite.get("content"), Mapping):
        raise RunFolderError(
            "the run is of no suite", where=str(path / RUN_YAML),
            remedy="give the folder of a run made with suite=NAME, or a suite",
        )  # fmt: skip
    return SuiteSide(name, suite, deciding_versions(found.get("environment") or {}))


def suite_differences(first: SuiteSide, second: SuiteSide) -> list[str]:
    """A line for everything that differs; the last ones, of versions, change no content hash."""
    old, new = first.document["content"], second.document["content"]
    lines = _scene_lines(old["scenes"], new["scenes"])
    for part in ("seeds", "metrics", "settings"):
        lines += differences({part: old[part]}, {part: new[part]})
    lines += differences(
        {"version": first.document["version"], "package": first.versions},
        {"version": second.document["version"], "package": second.versions},
    )
    return lines


def _scene_lines(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = []
    for scene_id in sorted({*old, *new}):
        if scene_id not in new:
            lines.append(f"scene {scene_id}: removed")
            continue
        if scene_id not in old:
            lines += [f"scene {scene_id}: added", *_edit_lines([], new[scene_id]["edits"])]
            continue
        before, after = old[scene_id], new[scene_id]
        if before["sha256"] != after["sha256"]:
            lines.append(f"scene {scene_id}: {_short(before)} -> {_short(after)}")
        lines += _edit_lines(before["edits"], after["edits"])
    return lines


def _edit_lines(old: list[str], new: list[str]) -> list[str]:
    if old == new:
        return []
    return [*(f"  without edit: {line}" for line in old), *(f"  with edit: {line}" for line in new)]


def _short(scene: Mapping[str, Any]) -> str:
    return scene["sha256"][:_SHOWN_DIGITS] if scene["sha256"] else "an edit does not fit it"
