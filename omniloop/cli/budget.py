"""`omniloop budget`: where the time of a run went, on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def budget(run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]) -> None:
    """Show where the time of a run went: services, queues, lag, memory, and what held it up.

    **Example**

        omniloop budget runs/demo
    """
    from omniloop.report.tabular import to_markdown
    from omniloop.report.time_budget import budget_of
    from omniloop.runlog.folder import open_existing
    from omniloop.runlog.results import find_results

    folder = open_existing(run_dir)
    found = budget_of(folder, find_results(folder).results)
    blocks = [found.note] if found.note else []
    for sitting in found.sittings:
        lines = [sitting.title, "", sitting.bottleneck, "", to_markdown(sitting.table)]
        blocks.append("\n".join([*lines, *sitting.facts]))
    for bar in found.bars:
        parts = [f"{label} {value:.3g} s" for label, _, value in bar.parts]
        blocks.append(f"{bar.title}: {', '.join(parts)}")
    typer.echo("\n\n".join(blocks).replace("\N{NO-BREAK SPACE}", " "))
