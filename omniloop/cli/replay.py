"""`omniloop replay`: rollouts again from their logs, and the first thing in which they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def replay(
    source: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run's folder, or a log.mcap alone.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Of services to run live: policy=my:Policy."),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(
            metavar="KIND,...",
            help="Services that answer from the log, the rest are live; none for no service."
            " Without it: all that no setting is of.",
        ),
    ] = None,
    scenes: Annotated[
        str | None, typer.Option(metavar="ID,...", help="Only rollouts of these scenes.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Numbers that are no further apart are the same.")
    ] = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="A new run's folder that keeps the replayed rollouts.")
    ] = None,
) -> None:
    """Run the orchestrator again on what services answered, and tell the first difference.

    Exit codes: 0 there is no difference, 1 there is one, 2 bad input.

    **Examples**

        omniloop replay log.mcap                        is it what this version does, too?
        omniloop replay runs/demo --service policy,traffic      all others live, as configured
        omniloop replay runs/demo policy=my:Policy      what does my policy do differently?
    """
    from omniloop.runner.replaying.replay import Replayed, made_elsewhere
    from omniloop.runner.replaying.replay import replay as again

    def progress(done: Replayed, finished: int, count: int) -> None:
        if done.note:
            typer.echo(f"{done.session_id}: {done.note}", err=True)
        if done.difference is not None:
            typer.echo(str(done.difference))
        elif not done.note:
            typer.echo(f"[{finished}/{count}] {done.session_id}: no difference", err=True)

    found = again(
        source, settings or (), recorded=_kinds(service), scenes=_split(scenes),
        tolerance=tolerance, out=out, progress=progress,
    )  # fmt: skip
    count = sum(r.difference is not None for r in found)
    if count:
        for change in made_elsewhere(source):
            typer.echo(f"recorded on another machine: {change}", err=True)
    typer.echo(f"{len(found)} rollout(s) replayed, {count or 'none'} with a difference")
    if out is not None:
        typer.echo(f"kept: {out}")
    raise typer.Exit(int(count > 0))


def _split(words: str | None) -> list[str]:
    return [part.strip() for part in (words or "").split(",") if part.strip()]


def _kinds(service: str | None) -> list[str] | None:
    if service is None:
        return None
    return [] if service.strip() == "none" else _split(service)
