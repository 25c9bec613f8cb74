"""``definitions.json``: what a run's scores mean, kept beside them.

Schema ``omniloop-definitions``, version 1; `omniloop.metrics.recorded` makes and reads its content.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omniloop.core.errors import RunFolderError
from omniloop.runlog.files import usable, write_atomic

SCHEMA = "omniloop-definitions"
VERSION = 1
DEFINITIONS_NAME = "definitions.json"

_REMEDY = "make it anew by `omniloop score RUN`"


def write_definitions(run_dir: Path, metrics: Mapping[str, Any]) -> None:
    """Write what a run's scores mean.

    Raises:
        RunFolderError: it cannot be written.
    """
    document = {"schema": SCHEMA, "version": VERSION, "metrics": metrics}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(run_dir / DEFINITIONS_NAME, text.encode("utf-8", "backslashreplace"))


def read_definitions(run_dir: Path) -> dict[str, Any] | None:
    """Read what a run's scores mean, as it was written; None if the run does not say.

    Raises:
        RunFolderError: the file cannot be read, is not this schema, or of another version.
    """
    path = run_dir / DEFINITIONS_NAME
    if not path.is_file():
        return None
    with usable(path, "read", _REMEDY):
        data = path.read_bytes()
    try:
        document = json.loads(data)
    except ValueError as error:
        raise RunFolderError(f"not JSON: {error}", where=str(path), remedy=_REMEDY) from error
    known = isinstance(document, dict) and document.get("schema") == SCHEMA
    if not known or document.get("version") != VERSION:
        raise RunFolderError(
            f"it is not '{SCHEMA}' of version {VERSION}", where=str(path), remedy=_REMEDY
        )
    metrics = document.get("metrics")
    if not isinstance(metrics, dict) or not all(isinstance(m, dict) for m in metrics.values()):
        raise RunFolderError("'metrics' is no object of objects", where=str(path), remedy=_REMEDY)
    return metrics


def forget_definitions(run_dir: Path) -> None:
    """Remove the file: from now on the run does not say what its scores mean.

    Raises:
        RunFolderError: it cannot be removed.
    """
    path = run_dir / DEFINITIONS_NAME
    with usable(path, "removed"):
        path.unlink(missing_ok=True)
