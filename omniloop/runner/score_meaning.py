"""A run keeps what its scores mean, and holds no scores of two meanings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omniloop.core.errors import RunFolderError
from omniloop.metrics.recorded import recorded, scores_that_differ
from omniloop.runlog.definitions import read_definitions, write_definitions
from omniloop.runlog.folder import RunFolder


def keep_meaning(
    folder: RunFolder, metrics: Mapping[str, Mapping[str, Any]], *, begun: bool
) -> None:
    """Write what the scores of a run mean, or check that results already there mean the same.

    A run that was begun without saying so stays without.

    Args:
        metrics: Plugin to the settings given to it.
        begun: Whether results are there that will stay.

    Raises:
        RunFolderError: they mean something else, or the file cannot be read or written.
    """
    now = recorded(metrics)
    if not begun:
        write_definitions(folder.path, now)
        return
    before = read_definitions(folder.path)
    changed = {} if before is None else scores_that_differ(before, now)
    if changed:
        name, reason = next(iter(changed.items()))
        raise RunFolderError(
            f"{len(changed)} score(s) no longer mean what they meant when the run was begun, first"
            f" {name}: {reason}", where=str(folder.path),
            remedy="bring its results up to date by `omniloop score RUN`, or choose another run.name=",
        )  # fmt: skip
