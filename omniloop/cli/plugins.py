"""`omniloop plugins list|new|check`: what there is, one of your own, and whether it is right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List plugins, write one of your own, check a policy.")


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """List plugins, write one of your own, check a policy.

    **Examples**

        omniloop plugins                               all there are
        omniloop plugins list policy
        omniloop plugins new policy my_driver DIR      a package of your own
        omniloop plugins check my_driver
    """
    if context.invoked_subcommand is None:
        list_(None)


@app.command("list")
def list_(
    kind: Annotated[
        str | None, typer.Argument(help="policy, renderer, traffic, controller, ...")
    ] = None,
) -> None:
    """List plugins, built in and installed, with their settings and defaults."""
    from omniloop.cli.inspect import list_plugins

    list_plugins(kind)


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="policy")],
    name: Annotated[str, typer.Argument(help="What settings will call it, such as my_driver.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
) -> None:
    """Write a package with a policy that runs at once: class, entry point, suite, test.

    **Example**

        omniloop plugins new policy my_driver my_driver
        pip install -e my_driver
        omniloop plugins check my_driver
    """
    from omniloop.cli.new_plugin import write_package

    for line in write_package(kind, name, folder):
        typer.echo(line)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A policy's name or module:Class.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="policy.KEY=..., scenes=..., renderer=..."),
    ] = None,
) -> None:
    """Try a policy against its contract; exit code 1 if it breaks it.

    It is driven on three decision grids, run again beside another rollout, asked again alone and
    in company, given little history and damaged frames, and closed in mid-rollout.

    **Examples**

        omniloop plugins check route_follower
        omniloop plugins check my_file:MyPolicy policy.speed_mps=8 scenes.ids=junction
    """
    from omniloop.runner.policy_check import check_policy

    broken = 0
    for finding in check_policy(name, settings or ()):
        word = {True: "ok  ", False: "FAIL", None: "--  "}[finding.good]
        broken += finding.good is False
        typer.echo(f"{word}  {finding.check:<46} {finding.detail}")
    if broken:
        typer.echo(f"{name} breaks its contract in {broken} point(s)")
    raise typer.Exit(int(broken > 0))
