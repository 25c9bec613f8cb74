"""Commands that look at runs and plugins: score, report, plugins."""

from __future__ import annotations

import inspect
from pathlib import Path

import typer

from omniloop.core import registry
from omniloop.core.errors import OmniloopError, PluginError, nearest


def list_plugins(kind: str | None) -> None:
    """Print plugins of one kind or of all, each with its settings and defaults.

    Raises:
        PluginError: the kind is unknown.
    """
    if kind is not None and kind not in registry.GROUPS:
        raise PluginError(
            f"unknown kind of plugin '{kind}'.{nearest(kind, registry.GROUPS)}",
            remedy=f"kinds: {', '.join(registry.GROUPS)}",
        )
    for group in [kind] if kind else registry.GROUPS:
        typer.echo(f"{group} (entry points {registry.GROUPS[group]})")
        for name in sorted(registry.available(group)):
            try:
                settings = registry.parameters(group, name)
                about = (inspect.getdoc(registry.load_class(group, name)) or "").splitlines()[:1]
            except OmniloopError as error:
                typer.echo(f"  {name}: {error.what}")
                continue
            typer.echo(f"  {name}: {about[0] if about else ''}")
            for parameter in settings.values():
                default = (
                    ""
                    if parameter.default is inspect.Parameter.empty
                    else f" = {parameter.default!r}"
                )
                typer.echo(f"      {group}.{parameter.name}{default}")


def score_again(run_dir: Path, *, frames: bool = False) -> int:
    """Score a run's logs again, rewrite its results, say what changed; return 0.

    Raises:
        RunFolderError: the folder is no run, or a log is missing or damaged.
    """
    from rich.console import Console

    from omniloop.report.run_tables import write_tables
    from omniloop.report.runs import read_run
    from omniloop.report.table import print_scores
    from omniloop.runner.rescore import rescore

    outcome = rescore(run_dir, frames=frames)
    if outcome.results:
        write_tables(read_run(run_dir))
    print_scores(outcome.results, Console())
    for line in outcome.changes:
        typer.echo(line)
    typer.echo(
        f"{len(outcome.results)} rollout(s) scored again, {len(outcome.changes)} score(s) changed"
    )
    return 0


def report_again(run_dir: Path) -> int:
    """Write the report of a run again; return 0.

    Raises:
        RunFolderError: the folder is no run.
    """
    from rich.console import Console

    from omniloop.report.html import write_report
    from omniloop.report.run_tables import write_tables
    from omniloop.report.runs import read_run
    from omniloop.report.table import print_scores

    run = read_run(run_dir)
    print_scores(run.results, Console())
    tables = write_tables(run)
    typer.echo(f"report: {write_report(run.path, run.found)}")
    typer.echo(f"tables: {', '.join(map(str, tables))}")
    return 0
