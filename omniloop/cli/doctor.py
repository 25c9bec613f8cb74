"""`omniloop doctor`: is this machine able to run, and if not, what is missing."""

from __future__ import annotations

import importlib
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from omniloop import __version__
from omniloop.core import registry
from omniloop.core.errors import OmniloopError

_PACKAGES = {
    "numpy": "numpy", "scipy": "scipy", "shapely": "shapely", "opencv-python-headless": "cv2",
    "simplejpeg": "simplejpeg", "pyarrow": "pyarrow", "mcap": "mcap", "protobuf": "google.protobuf",
    "hydra-core": "hydra", "pydantic": "pydantic",
}  # fmt: skip
_EXTRAS = {"video": ("av", "av"), "models": ("torch", "torch")}


def _check_import(distribution: str, module: str) -> tuple[bool, str]:
    try:
        importlib.import_module(module)
        return True, version(distribution)
    except (ImportError, PackageNotFoundError) as error:
        return False, str(error)


def _line(good: bool, name: str, detail: str) -> None:
    typer.echo(f"{'ok  ' if good else 'FAIL'}  {name:<24} {detail}")


def examine_for(settings: Sequence[str]) -> int:
    """Print what the plugins that settings choose need; return 0 if all of it is here, else 1.

    Raises:
        InputError: a setting is not right.
    """
    from omniloop.configs.compose import compose

    config = compose(settings)
    failed = 0
    for kind in dict.fromkeys(s.partition("=")[0].partition(".")[0] for s in settings):
        if kind not in registry.GROUPS or kind == "metrics":
            continue
        chosen = getattr(config, kind)
        if (kind, chosen.name) == ("renderer", "none"):
            continue
        plugin = registry.create(kind, chosen.name, chosen.arguments)
        needed = list(plugin.requirements()) if hasattr(plugin, "requirements") else []
        for requirement in needed:
            failed += not requirement.good
            _line(requirement.good, requirement.name, requirement.detail)
        _line(
            True, f"{kind} {chosen.name}", "its settings are right" if needed else "needs nothing"
        )
    return int(failed > 0)


def examine() -> int:
    """Print what was checked; return 0 if everything that is needed works, else 1."""
    failed, line = 0, _line
    line(True, "omniloop", f"{__version__}, Python {sys.version.split()[0]}, {platform.machine()}")
    for distribution, module in _PACKAGES.items():
        good, detail = _check_import(distribution, module)
        failed += not good
        line(good, distribution, detail)
    for extra, (distribution, module) in _EXTRAS.items():
        good, detail = _check_import(distribution, module)
        line(
            True,
            f"extra {extra}",
            detail if good else f"not installed: pip install 'omniloop[{extra}]'",
        )
    for kind in registry.GROUPS:
        for name in registry.available(kind):
            try:
                registry.load_class(kind, name)
            except OmniloopError as error:
                failed += 1
                line(False, f"{kind} {name}", error.what)
        line(True, kind, ", ".join(sorted(registry.available(kind))))
    try:
        line(True, "a short rollout", _short_rollout())
    except (OmniloopError, OSError) as error:
        failed += 1
        line(False, "a short rollout", str(error))
    return 1 if failed else 0


def _short_rollout() -> str:
    from omniloop.configs.compose import compose
    from omniloop.runner.run import execute

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        config = compose(
            [
                f"run.dir={folder}",
                "run.name=doctor",
                "scenes.ids=straight_road",
                "sync.duration_s=1",
            ]
        )
        finished = execute(config)
        result = finished.results[0]
        if result.outcome != "completed":
            raise OmniloopError(f"it ended as {result.outcome}", where=str(Path(folder)))
    return f"completed in {time.perf_counter() - began:.1f} s"
