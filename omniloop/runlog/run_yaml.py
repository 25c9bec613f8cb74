"""``run.yaml``: what a run is, so that it can be understood, repeated and resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omniloop.core.errors import RunFolderError
from omniloop.runlog.environment import describe_environment, differences, environment_changes
from omniloop.runlog.files import usable, write_atomic
from omniloop.runlog.redact import without_secrets

RUN_YAML = "run.yaml"

_SIMULATED = (
    "policy", "traffic", "controller", "ground", "renderer", "sync", "imperfection", "metrics",
)  # fmt: skip
SIMULATED_RUN = ("root_seed", "stop_on", "route", "wire_precision")
"""Settings of the group `run` that decide what is simulated."""
_MAY_CHANGE = (
    "address", "addresses", "sessions", "timeout_s", "timeouts_s", "connect_timeout_s", "tls",
    "max_message_mib",
)  # fmt: skip
"""Settings of a plugin that say where it is and how it is reached, not what it does."""


def to_yaml(document: Mapping[str, Any]) -> str:
    """Settings as YAML in the order given, secrets masked."""
    import yaml  # type: ignore[import-untyped]

    text: str = yaml.safe_dump(
        without_secrets(document),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=100,
    )
    return text


def read_run_yaml(run_dir: Path) -> dict[str, Any]:
    """Read a run's ``run.yaml``.

    Raises:
        RunFolderError: it is missing or no YAML mapping.
    """
    import yaml  # type: ignore[import-untyped]

    path = run_dir / RUN_YAML
    remedy = "give the folder of a run, such as runs/demo"
    with usable(path, "read", remedy):
        data = path.read_bytes()
    try:
        document = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunFolderError(
            f"not YAML: {error}",
            where=str(path),
            remedy="remove it, then go on with run.resume=true",
        ) from error
    if not isinstance(document, dict):
        raise RunFolderError(
            f"holds no mapping but {document!r:.80}", where=str(path), remedy=remedy
        )
    return document


def write_run_yaml(run_dir: Path, document: Mapping[str, Any], *, force: bool = False) -> list[str]:
    """Write what the run is, with the machine that runs it.

    Args:
        document: "config", "root_seed", "suite" if it is of one, "scenes" (id to hash) and
            "exclusions".
        force: Write it though the run was begun with other settings or scenes.

    Returns:
        Warnings: how this machine differs from the one that began the run.

    Raises:
        RunFolderError: it cannot be written, or the run was begun with other settings or
            scenes, so that its rollouts could not be compared.
    """
    environment = describe_environment()
    warnings: list[str] = []
    if (run_dir / RUN_YAML).exists() and not force:
        before = check_same(run_dir, document)
        began = before.get("environment")
        if isinstance(began, dict):
            changes = environment_changes(began, environment)
            warnings = [
                f"resumed on another machine, results may differ in bits: {c}" for c in changes
            ]
            environment = {**began, "resumed_on": environment} if changes else began
    write_atomic(run_dir / RUN_YAML, to_yaml({**document, "environment": environment}).encode())
    return warnings


def check_same(run_dir: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's ``run.yaml``, if a run of `document` can go on with it.

    Raises:
        RunFolderError: it cannot be read, or the run was begun with other settings or scenes.
    """
    before = read_run_yaml(run_dir)
    changed = differences(_identity(before, document), _identity(document, before))
    if changed:
        raise RunFolderError(
            "the run was begun with other settings: " + "; ".join(changed), where=str(run_dir),
            remedy="give the settings it was begun with, another run.name=, or --force-new,"
            " which runs anew what differs and keeps the old in replaced/",
        )  # fmt: skip
    return before


def _identity(document: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What must not change in a resumed run; of scenes, those that both have."""
    config = without_secrets(document.get("config") or {})
    scenes, known = document.get("scenes") or {}, other.get("scenes") or {}
    return {
        "root_seed": document.get("root_seed"),
        "suite": {key: (document.get("suite") or {}).get(key) for key in ("name", "sha256")},
        "scenes": {name: value for name, value in scenes.items() if name in known},
        **{kind: without_places(config[kind]) for kind in _SIMULATED if kind in config},
        "run": {
            key: value for key, value in (config.get("run") or {}).items() if key in SIMULATED_RUN
        },
    }


def settings_sha256(document: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of what must not change in a run that goes on, scenes aside.

    Args:
        document: What `read_run_yaml` returns.
    """
    identity = json.dumps(_identity(document, {}), sort_keys=True, default=str)
    return hashlib.sha256(identity.encode("utf-8", "backslashreplace")).hexdigest()


def without_places(settings: Any) -> Any:
    """Settings but for those that say where a plugin is, not what it does."""
    if isinstance(settings, dict):
        return {
            key: without_places(value) for key, value in settings.items() if key not in _MAY_CHANGE
        }
    return settings
