"""What a suite comes to: its scenes' content, seeds, metrics and settings, under one hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omniloop.configs.schema import RunConfig
from omniloop.core import registry
from omniloop.core.errors import SceneError
from omniloop.core.scene import Scene
from omniloop.runlog.redact import without_secrets
from omniloop.runlog.results import jsonable

SCHEMA = "omniloop-suite"
SCHEMA_VERSION = 1

_DECIDING = ("omniloop", "numpy", "scipy", "shapely", "pyarrow")
"""Packages whose versions can change the bytes of a scene's bundle, or what a score means."""


@dataclass(frozen=True)
class SceneContent:
    """What a scene is: the SHA-256 of its bundle, and what was edited in it."""

    sha256: str
    edits: tuple[str, ...]

    @classmethod
    def of(cls, scene: Scene, bundle: bytes) -> SceneContent:
        """The content of a scene with its bundle."""
        return cls(hashlib.sha256(bundle).hexdigest(), scene.edits)


@dataclass(frozen=True, eq=False)
class ResolvedSuite:
    """A suite with all that it measures, resolved.

    Attributes:
        name: Of its file.
        version: Its author's.
        file: Its path; None if it comes with the package.
        content: "scenes" (id to "sha256", null if its edits do not fit it, and "edits"),
            "seeds", "metrics" (plugin to all its settings, defaults too) and "settings".
    """

    name: str
    version: int
    file: str | None
    description: str
    content: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """SHA-256 of the content as canonical JSON: keys sorted, no blanks, ASCII."""
        return content_sha256(self.content)

    @property
    def reference(self) -> dict[str, str]:
        """What a result says of it."""
        return {"name": self.name, "sha256": self.sha256}

    def document(self) -> dict[str, Any]:
        """What ``run.yaml`` says of it."""
        return {
            "name": self.name, "version": self.version, "sha256": self.sha256, "file": self.file,
            "description": self.description, "content": dict(self.content),
        }  # fmt: skip


def deciding_versions(environment: Mapping[str, Any]) -> dict[str, str]:
    """Versions of the packages that can change what a suite comes to.

    Args:
        environment: As `omniloop.runlog.environment.describe_environment`.
    """
    versions = environment.get("versions") or {}
    return {name: versions[name] for name in _DECIDING if name in versions}


def content_sha256(content: Mapping[str, Any]) -> str:
    """SHA-256 of a suite's content as canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def resolve(config: RunConfig, scenes: Mapping[str, SceneContent | None]) -> ResolvedSuite | None:
    """The suite of a config, or None if it is of none.

    Args:
        scenes: Every scene of it; None where its edits do not fit it.
    """
    suite = config.suite
    if suite is None:
        return None
    whole = without_secrets(config.model_dump(mode="json"))
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "scenes": {
            scene_id: {"sha256": None, "edits": []}
            if scene is None
            else {"sha256": scene.sha256, "edits": list(scene.edits)}
            for scene_id, scene in sorted(scenes.items())
        },
        "seeds": list(config.run.seeds),
        "metrics": {
            name: _settings_of(name, given) for name, given in sorted(config.metrics.items())
        },
        "settings": {key: _at(whole, key) for key in sorted(suite.settings)},
    }
    return ResolvedSuite(suite.name, suite.version, suite.file, suite.description, content)


def load_suite(config: RunConfig) -> ResolvedSuite:
    """Resolve the suite of a config by loading its scenes, without policy or renderer.

    Raises:
        InputError: a scene is missing or damaged, or the config is of no suite.
    """
    from omniloop.runner.assemble import chosen_ids, open_source
    from omniloop.scenes.edits.apply import EditRefused
    from omniloop.scenes.native import scene_to_bytes

    source = open_source(config.scenes)
    scenes: dict[str, SceneContent | None] = {}
    for scene_id in chosen_ids(config.scenes, source):
        try:
            scene = source.load(scene_id)
            scenes[scene_id] = SceneContent.of(scene, scene_to_bytes(scene))
        except EditRefused:
            scenes[scene_id] = None
    resolved = resolve(config, scenes)
    if resolved is None:
        raise SceneError("the settings name no suite", remedy="add suite=NAME")
    return resolved


def _settings_of(metric: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a metric, so that a default that changes changes the content."""
    parameters = registry.parameters("metrics", metric)
    defaults = {k: p.default for k, p in parameters.items() if p.default is not p.empty}
    return {key: _plain(value) for key, value in sorted({**defaults, **given}.items())}


def _plain(value: Any) -> Any:
    try:
        return jsonable(value)
    except ValueError:  # a plugin's own default, such as an object: its type must do
        return f"{type(value).__module__}.{type(value).__qualname__}"


def _at(whole: Mapping[str, Any], key: str) -> Any:
    value: Any = whole
    for part in key.split("."):
        value = value[part]
    return value
