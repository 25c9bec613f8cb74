"""What a rollout is made of, as one hash: rollouts with the same content need no second run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import omniloop
from omniloop.configs.schema import RunConfig
from omniloop.runlog.results import jsonable
from omniloop.runlog.run_yaml import SIMULATED_RUN, without_places
from omniloop.runner.assemble import Setup

_GROUPS = ("policy", "traffic", "controller", "ground", "renderer", "sync", "imperfection", "metrics")  # fmt: skip


def content_of(setup: Setup) -> Callable[[str, int], str]:
    """A function of scene and seed: the SHA-256 over what decides that rollout's result.

    That is the scene as it is after its edits, these edits, the seed and the root seed, the
    settings that are simulated and scored (not where services are), and the versions of this
    package and of services elsewhere.
    """
    common = jsonable({
        "settings": _settings(setup.config),
        "omniloop": omniloop.__version__,
        "services": _versions(setup.services.versions),
    })  # fmt: skip

    def content(scene_id: str, seed: int) -> str:
        document = {
            **common,
            "scene": scene_id,
            "scene_sha256": setup.hashes[scene_id],
            "edits": jsonable(list(setup.edits.get(scene_id, ()))),
            "seed": seed,
        }
        text = json.dumps(document, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    return content


def _settings(config: RunConfig) -> dict[str, Any]:
    whole = config.model_dump(mode="json")
    groups = {name: without_places(whole[name]) for name in _GROUPS}
    return {**groups, "run": {key: whole["run"][key] for key in SIMULATED_RUN}}


def _versions(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One version per service: first contact has found that all addresses agree."""
    return {name: _first(by_address.values()) for name, by_address in sorted(found.items())}


def _first(values: Iterable[Any]) -> Any:
    """The first of some values, of which there is at least one."""
    return next(iter(values))
