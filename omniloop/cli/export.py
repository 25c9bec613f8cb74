"""`omniloop export`: rollouts as training data."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ExportForm(StrEnum):
    """What is written."""

    FRAMES = "frames"
    PARQUET = "parquet"
    WEBDATASET = "webdataset"


def export(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run's folder, such as runs/demo.")
    ],
    to: Annotated[ExportForm, typer.Option(help="What is written.")],
    out: Annotated[Path | None, typer.Option(help="A folder; RUN/export/FORM if left out.")] = None,
    scenes: Annotated[
        list[str] | None,
        typer.Option(help="Scene ids, with * for any letters, with commas or repeated."),
    ] = None,
    outcome: Annotated[
        list[str] | None,
        typer.Option(help="Rollouts that ended so; all but infrastructure_failed if left out."),
    ] = None,
    cameras: Annotated[
        list[str] | None, typer.Option(help="Camera ids, with commas or repeated; all if left out.")
    ] = None,
    every: Annotated[
        int, typer.Option(help="Every so-manieth decision; of frames, every so-manieth frame.")
    ] = 1,
    after_handover_only: Annotated[
        bool, typer.Option("--after-handover-only/--all", help="Leave out warm-up.")
    ] = False,
    until_incident: Annotated[
        bool,
        typer.Option("--until-incident", help="Leave out the first incident and all after it."),
    ] = False,
    history: Annotated[int, typer.Option(help="webdataset: images per camera in a sample.")] = 1,
    incident_within: Annotated[
        float, typer.Option(help="Seconds that incident_ahead looks ahead.")
    ] = 3.0,
    shard_mib: Annotated[int, typer.Option(help="Largest file of parquet and webdataset.")] = 128,
    shard_samples: Annotated[int, typer.Option(help="Most decisions in such a file.")] = 10_000,
) -> None:
    """Export rollouts as training data: images, tables or WebDataset shards.

    Give the same command again after it was ended, or when the run has grown: it goes on.

    **Examples**

        omniloop export runs/demo --to frames
        omniloop export runs/demo --to parquet --out data --after-handover-only
        omniloop export runs/demo --to webdataset --history 4 --every 2 --until-incident
    """
    from omniloop.export.export import export_run
    from omniloop.export.settings import ExportSettings

    settings = ExportSettings(
        form=to.value, scenes=_words(scenes), cameras=_words(cameras), every=every,
        outcomes=_words(outcome) or ("completed", "policy_failed"),
        after_handover_only=after_handover_only, until_incident=until_incident, history=history,
        incident_within_s=incident_within, shard_mib=shard_mib, shard_samples=shard_samples,
    )  # fmt: skip

    def progress(line: str, done: int, count: int) -> None:
        typer.echo(f"[{done}/{count}] {line}")

    done = export_run(run_dir, out, settings, progress)
    for line in done.skipped:
        typer.echo(f"not exported: {line}", err=True)
    unit = "image(s)" if settings.form == "frames" else "decision(s)"
    typer.echo(
        f"{done.out}: {done.samples} {unit} of {done.rollouts} rollout(s), {done.added} new,"
        f" in {done.files} file(s)"
    )
    raise typer.Exit(1 if done.skipped else 0)


def _words(values: list[str] | None) -> tuple[str, ...]:
    """Words between commas, sorted, each once."""
    words = {part.strip() for value in values or () for part in value.split(",")}
    return tuple(sorted(words - {""}))
