"""`omniloop metrics list|docs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="List scores, and write their reference.")


@app.command("list")
def list_scores(
    family: Annotated[
        str | None, typer.Argument(help="omniloop, alpasim, nuplan, navsim, or a plugin's own.")
    ] = None,
) -> None:
    """Print every score of every installed metric: name, unit, family, metric.

    **Examples**

        omniloop metrics list
        omniloop metrics list nuplan
    """
    from omniloop.core.errors import ConfigError
    from omniloop.metrics.documentation import definitions_of, registered

    plugins = registered()
    known = sorted({d.family for plugin in plugins.values() for d in definitions_of(plugin)})
    if family is not None and family not in known:
        raise ConfigError(
            f"no metric is of the family '{family}'", remedy=f"one of {', '.join(known)}"
        )
    for name, plugin in plugins.items():
        for d in definitions_of(plugin):
            if family in (None, d.family):
                typer.echo(f"{d.name:<40} {d.unit:<8} {d.family:<9} {name}")
        if not definitions_of(plugin) and family is None:
            for score in getattr(plugin, "names", (plugin.__name__,)):
                typer.echo(f"{score:<40} {'':<8} {'':<9} {name}")


@app.command()
def docs(
    out: Annotated[Path, typer.Option(help="Folder of the pages.")] = Path("docs/metrics"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if a page is not current.")
    ] = False,
) -> None:
    """Write one page for each family of scores, from the definitions of installed metrics.

    **Examples**

        omniloop metrics docs --out docs/metrics
        omniloop metrics docs --check
    """
    from omniloop.core.errors import ConfigError
    from omniloop.metrics.documentation import pages, registered

    stale = []
    for family, text in pages(registered()).items():
        path = out / f"{family}.md"
        if check:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                stale.append(path)
            continue
        try:
            out.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"the page cannot be written: {error.strerror}", where=str(path),
                remedy="name a folder that you may write to: --out DIR",
            ) from error  # fmt: skip
        typer.echo(str(path))
    if stale:
        for path in stale:
            typer.echo(f"not current: {path}", err=True)
        typer.echo(f"run `omniloop metrics docs --out {out}`", err=True)
        raise typer.Exit(1)
