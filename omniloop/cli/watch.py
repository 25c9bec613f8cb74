"""`omniloop watch`: runs as they go, over MQTT or from a run's folder, and what they are told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from omniloop.live.board import Row
    from omniloop.live.broker import Broker

_REFRESH_S = 0.5
_READ_S = 0.3
"""For how long results are read before the view is drawn again."""
_FIRST_WORD_S = 2.5
"""So long after the connection every run that goes on has told its progress."""
_SETTLED_S = 0.5
"""So long after the connection every run is known by its status, or by that of a namesake."""
_NAMESAKE_S = 5.0
"""So long after the connection nothing more is to come of a run that only a namesake tells of."""
_LINGER_S = 1.0
"""Messages of a run's last moments may come after the status that ends it."""


def watch(
    target: Annotated[
        str | None,
        typer.Argument(metavar="BROKER|RUN", help="mqtt://host/prefix, or a run's folder."),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="One run of a broker; the view ends with it.")
    ] = None,
    instance: Annotated[
        str | None, typer.Option(help="Which --run, where several have its name.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print how things stand and stop.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON: a list with --once, else a line a change.")
    ] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Have --run begin no rollout.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Have --run begin rollouts again.")
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="End --run; what is done stays.")
    ] = False,
    concurrency: Annotated[
        int | None, typer.Option(help="Rollouts at once of --run.", min=1)
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Remove what the broker keeps of --run.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 10.0,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of all messages and stop.")
    ] = False,
) -> None:
    """Watch runs: over MQTT any number of them, or one by its folder.

    On a terminal the view is redrawn; elsewhere a line is printed when something changes.
    Exit code: 0, or 1 if the run watched did not complete or a command was not carried out.

    **Examples**

        omniloop watch runs/demo
        omniloop watch mqtt://host/team
        omniloop watch mqtt://host/team --run demo --pause
        omniloop watch mqtt://host/team --run demo --concurrency 8
        omniloop watch runs/demo --once --json
    """
    from omniloop.core.errors import ConfigError

    if schema:
        from omniloop.live.schema import json_schema

        typer.echo(json.dumps(json_schema(), indent=2))
        return
    if target is None:
        raise ConfigError(
            "there is nothing to watch", where="omniloop watch",
            remedy="give mqtt://host/prefix or the folder of a run, such as runs/demo",
        )  # fmt: skip
    orders = [
        name for name, asked in (
            ("pause", pause), ("resume", resume), ("cancel", cancel),
            ("set_concurrency", concurrency is not None), ("forget", forget),
        ) if asked
    ]  # fmt: skip
    if orders and ("://" not in target or run is None or len(orders) > 1):
        raise ConfigError(
            "a command is one at a time, over a broker, and for a run", where="omniloop watch",
            remedy="write: omniloop watch mqtt://host/prefix --run NAME --pause",
        )  # fmt: skip
    if run is not None and "://" not in target:
        raise ConfigError(
            f"--run chooses a run of a broker, and '{target}' is none", where="omniloop watch",
            remedy="give the folder of that run instead",
        )  # fmt: skip
    if instance is not None and run is None:
        raise ConfigError(
            "--instance chooses between runs of one name", where="omniloop watch",
            remedy="write: omniloop watch mqtt://host/prefix --run NAME --instance INSTANCE",
        )  # fmt: skip
    if orders:
        raise typer.Exit(_tell(target, str(run), instance, orders[0], concurrency, timeout))
    show = _show(as_json, once)
    if "://" in target:
        raise typer.Exit(_watch_broker(target, run, instance, once, show))
    raise typer.Exit(_watch_folder(Path(target), once, show))


Show = Callable[["Sequence[Row]", str, bool], None]


def _show(as_json: bool, once: bool) -> Show:
    """What is done with rows, a footer, and whether they are the last ones."""
    from rich.console import Console
    from rich.live import Live

    from omniloop.cli.watch_view import Changes, draw, summary

    console = Console(highlight=False)
    if as_json:
        return _show_json(once)
    if console.is_terminal:
        live = Live(console=console, auto_refresh=False)

        def redraw(rows: Sequence[Row], footer: str, last: bool) -> None:
            if not live.is_started:
                live.start()
            live.update(draw(rows, footer, console.width), refresh=True)
            if last:
                live.stop()

        return redraw
    changes = Changes()
    said = ""

    def print_lines(rows: Sequence[Row], footer: str, last: bool) -> None:
        nonlocal said
        lines = changes.lines(rows, time.monotonic())
        if footer not in (said, ""):
            lines.append(footer)
        said = footer
        if last:
            ends = [summary(row) for row in rows]
            lines += [line for line in ends if line not in lines]
        for line in lines:
            typer.echo(line)

    return print_lines


def _show_json(once: bool) -> Show:
    said: dict[tuple[str, str], str] = {}

    def print_json(rows: Sequence[Row], footer: str, last: bool) -> None:
        if once:
            typer.echo(json.dumps([row.document() for row in rows], indent=2))
            return
        for row in rows:
            text = json.dumps(row.document())
            same = json.dumps({**row.document(), "elapsed_s": None, "silent_s": None})
            if said.get((row.name, row.instance)) != same:
                said[row.name, row.instance] = same
                typer.echo(text)

    return print_json


def _watch_folder(path: Path, once: bool, show: Show) -> int:
    from omniloop.live.run_dir import RunDir

    run_dir = RunDir(path)
    while True:
        began = time.monotonic()
        row = run_dir.row(began, None if once else _READ_S)
        reading = run_dir.unread > 0
        last = once or (row.ended and not reading)
        show([row], "", last)
        if last:
            return int(_went_wrong(row))
        if not reading:
            time.sleep(max(_REFRESH_S - (time.monotonic() - began), 0.05))


def _watch_broker(url: str, run: str | None, instance: str | None, once: bool, show: Show) -> int:
    from omniloop.live.broker import Broker

    broker = Broker.parse(url, "omniloop watch")
    return asyncio.run(_follow(broker, run, instance, once, show))


async def _follow(
    broker: Broker, run: str | None, instance: str | None, once: bool, show: Show
) -> int:
    from omniloop.live.board import Board, clean
    from omniloop.live.subscriber import follow

    board, fault = Board(broker.prefix), [f"not connected to {broker.shown}"]

    def rows() -> list[Row]:
        found = board.rows(time.monotonic())
        return [
            row for row in found
            if (run is None or row.name == clean(run)) and instance in (None, row.instance)
        ]  # fmt: skip

    def footer() -> str:
        ignored = (
            f"{board.ignored} message(s) ignored, the last: {board.why}" if board.ignored else ""
        )
        return "; ".join(part for part in (fault[0], ignored) if part)

    following = asyncio.create_task(
        follow(
            broker, lambda topic, payload: board.take(topic, payload, time.monotonic()),
            lambda line: fault.__setitem__(0, line),
        )
    )  # fmt: skip
    try:
        if once:
            await _first_words(rows, board.awaits, fault)
            found = rows()
            which = "no run" if run is None else f"no run '{clean(run)}'"
            show(found, footer() or ("" if found else f"{which} under {broker.shown}"), True)
            bad = run is not None and (not found or any(map(_went_wrong, found)))
            return int(bool(fault[0]) or bad)
        while True:
            found = rows()
            if run is not None and found and all(row.ended for row in found):
                await asyncio.sleep(_LINGER_S)
                found = rows() or found  # it may be forgotten meanwhile
                show(found, footer(), True)
                return int(any(map(_went_wrong, found)))
            show(found, footer(), False)
            await asyncio.sleep(_REFRESH_S)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def _went_wrong(row: Row) -> bool:
    return row.ended and row.state != "completed"


async def _first_words(
    rows: Callable[[], list[Row]], awaits: Callable[[], bool], fault: list[str]
) -> None:
    """Wait until the runs have told where they stand, or the broker is known to be away."""
    waiting = fault[0]
    while fault[0] == waiting:  # the attempt to connect has a limit of its own
        await asyncio.sleep(0.05)
    there = time.monotonic()
    while not fault[0]:
        told = all(row.ended or row.lag_ms is not None for row in rows())
        limit_s = _NAMESAKE_S if awaits() else _SETTLED_S if told else _FIRST_WORD_S
        if time.monotonic() - there > limit_s:
            return
        await asyncio.sleep(0.05)


def _tell(
    url: str, run: str, instance: str | None, order: str, value: int | None, timeout_s: float
) -> int:
    from omniloop.live.broker import Broker, explain
    from omniloop.live.subscriber import command, forget

    broker = Broker.parse(url, "omniloop watch")
    if order == "forget":
        try:
            asyncio.run(forget(broker, run))
        except Exception as error:
            typer.echo(f"error: {explain(error, broker)[0]}", err=True)
            return 1
        typer.echo(f"{run}: forgotten")
        return 0
    answer = asyncio.run(command(broker, run, order, value, timeout_s, instance))
    typer.echo(f"{'' if answer.ok else 'error: '}{run}: {answer.what}", err=not answer.ok)
    return int(not answer.ok)
