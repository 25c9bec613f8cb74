"""`omniloop tables`: the scores of a run, grouped, as Markdown, CSV, LaTeX or Parquet."""

from __future__ import annotations

from pathlib import Path

import typer

from omniloop.core.errors import ConfigError
from omniloop.report.runs import read_run
from omniloop.report.score_tables import tables_of
from omniloop.report.tabular import TEXT_FORMATS, to_parquet
from omniloop.runlog.files import write_atomic


def print_tables(
    run_dir: Path, by: str, kind: str, wanted: list[str] | None, out: Path | None
) -> int:
    """Print a table of scores, or write it to a file; return 0.

    Raises:
        RunFolderError: the folder is no run or holds no result, or the file cannot be written.
        ConfigError: a score is unknown, or the run cannot be grouped so.
    """
    if kind == "parquet" and out is None:
        raise ConfigError("parquet is no text", where="--format", remedy="add --out FILE")
    full, brief = tables_of(read_run(run_dir), by, wanted)
    if kind == "parquet":
        data = to_parquet(full)
    else:
        data = TEXT_FORMATS[kind](full if kind == "csv" else brief).encode(
            "utf-8", "backslashreplace"
        )
    if out is None:
        typer.echo(data, nl=False)
    else:
        write_atomic(out, data)
        typer.echo(f"{out}")
    return 0
