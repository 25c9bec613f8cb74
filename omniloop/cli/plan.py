"""`omniloop plan`: how long a batch takes, what it costs, and what holds it up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from omniloop.report.tabular import Table
    from omniloop.runner.planning.plan import Forecast, Plan


def plan(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN] [KEY=VALUE]...", help="A run's folder; numbers."),
    ] = None,
    vary: Annotated[
        str | None,
        typer.Option(help="What the table has more of: a service elsewhere, or workers."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Simulate every rollout, however long that takes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
) -> None:
    """Predict wall time, GPU hours and the bottleneck of a batch before it is run.

    Times are those that RUN measured, or are given; whatever is given goes before RUN's.

    **Examples**

        omniloop plan runs/demo rollouts=10000 workers=4
        omniloop plan runs/demo rollouts=10000 renderer.addresses=4 renderer.sessions=4
        omniloop plan renderer=118ms,addresses=2,sessions=4 policy=80ms,batch=4 steps=75 rollouts=10000
        omniloop plan runs/demo rollouts=1000 policy=80ms    with its policy elsewhere
        omniloop plan runs/demo --vary policy --json

    **Keys**: `rollouts`, `steps` (decisions of a rollout), `workers`, `cores` (that they share; one each
    if not given), `concurrency` (rollouts at once; else what services hold, or one per core up to 8); times of a
    rollout: `start` (until its sessions are open), `loop` (of a worker, each step), `scoring` (of a
    worker, at the end). Times have units: us, ms, s, min, h.

    **Services** elsewhere: renderer, policy, traffic, controller, ground. `NAME=TIME,KEY=VALUE,...` is
    short for `NAME.time=TIME NAME.KEY=VALUE ...`. `time`: of a call that has an address to itself;
    `calls`: in a step (1); `addresses` (1); `sessions`: at each address (any number); `at_once`: calls that
    an address works on side by side (1); `batch`: calls that it answers in one go (1); `gpus`: of each
    address (1 of renderer and policy, else 0).

    Printed are a bound with its terms, which no schedule can beat, and a simulation of the calls under
    the scheduler of runs, for the batch and for 1, 2, 4, 8, ... addresses of one service.
    """
    from omniloop.core.errors import ConfigError
    from omniloop.runner.planning.plan import plan as make_plan
    from omniloop.runner.planning.words import batch_from_words, read_measured

    given = words or []
    folders = [word for word in given if "=" not in word or Path(word).is_dir()]
    if len(folders) > 1:
        raise ConfigError(
            f"'{folders[1]}' is a second folder", remedy="give one run, and KEY=VALUE for the rest"
        )
    measured = read_measured(Path(folders[0])) if folders else None
    batch = batch_from_words([word for word in given if word not in folders], measured)
    found = make_plan(batch, vary, exact=exact)
    if as_json:
        import json

        typer.echo(json.dumps(found.document(), indent=2))
    else:
        _print(found)


def _print(found: Plan) -> None:
    from rich.console import Console

    from omniloop.cli.printing import print_table

    console = Console(highlight=False)
    for line in _lines(found.forecast):
        console.print(line, markup=False, soft_wrap=True)
    console.print()
    print_table(_bound_table(found.forecast), console)
    print_table(_varied_table(found), console)


def _lines(expected: Forecast) -> list[str]:
    batch = expected.batch
    simulated = "every call was simulated"
    if not expected.is_exact:
        simulated = (
            f"{expected.simulated} rollouts were simulated call by call; their pace, which still changed"
            f" by {expected.drift:.1%}, stands for the others (--exact simulates all)"
        )
    return [
        f"{batch.rollouts} rollouts of {batch.steps} steps, {batch.at_once} at once"
        f" (limited by {batch.limited_by})",
        f"wall time {duration(expected.wall_s)}, {expected.gpu_hours:.4g} GPU hours on"
        f" {batch.gpus:g} GPU(s)",
        f"bottleneck {expected.bottleneck}, efficiency {expected.efficiency:.3f} of the bound",
        "busy: " + ", ".join(f"{name} {share:.0%}" for name, share in expected.busy.items()),
        simulated,
        *(f"note: {note}" for note in batch.notes),
    ]


def _bound_table(expected: Forecast) -> Table:
    from omniloop.report.tabular import Table

    rows = tuple((term.name, duration(term.seconds), term.how) for term in expected.bound)
    return Table("bound", "Bound: the largest counts", ("term", "time", "how"), rows)


def _varied_table(found: Plan) -> Table:
    from omniloop.report.tabular import Table

    rows = tuple(
        (
            str(number), str(each.batch.at_once), duration(each.wall_s), f"{each.gpu_hours:.4g}",
            f"{each.efficiency:.3f}", each.bottleneck,
        )
        for number, each in found.others.items()
    )  # fmt: skip
    note = f"more would still make it quicker: {found.varied} holds the batch up throughout"
    if found.enough is not None:
        note = f"from {found.enough} on, something else than {found.varied} holds the batch up"
    headers = (found.varied, "at once", "wall time", "GPU hours", "efficiency", "bottleneck")
    what = "workers" if found.varied == "workers" else f"addresses of {found.varied}"
    return Table("varied", f"With fewer or more {what}", headers, rows, (note,))


def duration(seconds: float) -> str:
    """Seconds as a person reads them: ``12 h 28 min``."""
    if seconds < 90:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
