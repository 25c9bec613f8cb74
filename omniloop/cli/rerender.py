"""`omniloop rerender` and `omniloop backends`: driven states drawn again, and what that changes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class BackendsFormat(StrEnum):
    """How the differences are printed."""

    MD = "md"
    CSV = "csv"
    LATEX = "latex"


def rerender(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run's folder, such as runs/demo.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new run.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="renderer=NAME and renderer.KEY=VALUE."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an earlier attempt.")
    ] = False,
) -> None:
    """Draw a run's frames again with another renderer, on the states that were driven.

    No policy, traffic or controller is called. Image size, chunk, cameras and the like are the
    run's unless they are given.

    **Examples**

        omniloop rerender runs/demo renderer=degraded --out runs/demo-degraded
        omniloop rerender runs/demo renderer=omnidreams renderer.address=host:50051 --out runs/demo-od
    """
    from omniloop.runlog.results import RolloutResult
    from omniloop.runner.rerender import rerender as draw

    def progress(result: RolloutResult, finished: int, count: int) -> None:
        failed = f": {result.error['what']}" if result.error else ""
        frames = sum(result.frames.values())
        typer.echo(f"[{finished}/{count}] {result.session_id}: {frames} frames{failed}")

    done = draw(run_dir, out, settings or (), resume=resume, progress=progress)
    for note in done.notes:
        typer.echo(note, err=True)
    typer.echo(f"drawn again: {done.run_dir}")
    raise typer.Exit(done.exit_code)


def backends(
    run_dirs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN ...", help="The others against the first.")
    ],
    bins: Annotated[str, typer.Option(help="Metres at which bins end, with commas.")] = "0.5,1,2,4",
    clip: Annotated[float, typer.Option(help="Seconds of a clip.")] = 1.0,
    every: Annotated[int, typer.Option(help="Compare every so many frames of a camera.")] = 1,
    form: Annotated[
        BackendsFormat, typer.Option("--format", help="csv holds every number in full.")
    ] = BackendsFormat.MD,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH", help="A feature network: inception (FID, KID) or i3d (FVD)."
        ),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only these image metrics.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME.KEY=VALUE", help="A setting of an image metric."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder for backends.csv, .md, .tex and .svg.")
    ] = None,
) -> None:
    """Compare renderers on the same states, by how far ego was from the recorded path.

    Frames are compared with those of the first run: SSIM, PSNR and gradient error; FID, KID and
    FVD where the weights of their networks are given.

    **Examples**

        omniloop backends runs/demo runs/demo-degraded --out compared
        omniloop backends runs/demo runs/demo-degraded --weights inception=inception-2015-12-05.pt
    """
    from omniloop.report.backend_bins import bins_of, brief_table, chart, check_edges, full_table
    from omniloop.report.backends import clips_of
    from omniloop.report.image_metrics.choosing import choose
    from omniloop.report.tabular import SUFFIXES, TEXT_FORMATS
    from omniloop.runlog.files import usable, write_atomic

    edges_m = check_edges(_metres(bins))
    names = _names(run_dirs)
    metrics, absent = choose(metric or (), weights or (), settings or ())
    compared = []
    for path, name in zip(run_dirs[1:], names[1:], strict=True):
        clips = clips_of(run_dirs[0], path, name, metrics=metrics, clip_s=clip, every=every)
        compared.append((clips, bins_of(clips, edges_m)))
    full = full_table(compared, names[0])
    brief = brief_table(compared, names[0], absent)
    tables = {kind: write(full if kind == "csv" else brief) for kind, write in TEXT_FORMATS.items()}
    typer.echo(tables[form.value], nl=False)
    if out is not None:
        with usable(out, "made", "choose a writable folder with --out"):
            out.mkdir(parents=True, exist_ok=True)
        files = {f"backends.{SUFFIXES[kind]}": content for kind, content in tables.items()}
        files["backends.svg"] = chart(compared, names[0])
        for name, content in files.items():
            write_atomic(out / name, content.encode("utf-8", "backslashreplace"))
            typer.echo(f"{out / name}", err=True)


def _metres(bins: str) -> list[float]:
    from omniloop.core.errors import ConfigError

    try:
        return [float(part) for part in bins.split(",") if part.strip()]
    except ValueError:
        raise ConfigError(
            f"'{bins}' are no metres", where="--bins", remedy="write --bins 0.5,1,2,4"
        ) from None


def _names(run_dirs: list[Path]) -> list[str]:
    """Names of the folders; paths where names are the same."""
    from omniloop.core.errors import ConfigError

    real = [path.resolve() for path in run_dirs]
    if len(real) < 2 or len(set(real)) < len(real):
        raise ConfigError(
            "two runs or more are compared, each once", where=" ".join(map(str, run_dirs)),
            remedy="give the run that was driven first, then those drawn again from it",
        )  # fmt: skip
    names = [path.name for path in real]
    return [
        name if names.count(name) == 1 else str(path)
        for name, path in zip(names, run_dirs, strict=True)
    ]
