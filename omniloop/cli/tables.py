"""`omniloop tables`: the scores of a run, grouped, as Markdown, CSV, LaTeX or Parquet."""

from __future__ import annotations

from pathlib import Path

import typer

from omniloop.core.errors import ConfigError
from omniloop.report.run_tables import family_tables
from omniloop.report.runs import read_run
from omniloop.report.score_tables import tables_of
from omniloop.report.tabular import FULL_FORMATS, to_bytes
from omniloop.runlog.files import write_atomic


def print_tables(
    run_dir: Path,
    by: str,
    kind: str,
    wanted: list[str] | None,
    out: Path | None,
    family: str | None = None,
) -> int:
    """Print a table of scores, or write it to a file; return 0.

    Raises:
        RunFolderError: the folder is no run or holds no result, or the file cannot be written.
        ConfigError: a score or family is unknown, or the run cannot be grouped so.
    """
    if kind == "parquet" and out is None:
        raise ConfigError("parquet is no text", where="--format", remedy="add --out FILE")
    run = read_run(run_dir)
    full, brief = (
        tables_of(run, by, wanted) if family is None else family_tables(run, family, by, wanted)
    )
    data = to_bytes(full if kind in FULL_FORMATS else brief, kind)
    if out is None:
        typer.echo(data, nl=False)
    else:
        write_atomic(out, data)
        typer.echo(f"{out}")
    return 0
