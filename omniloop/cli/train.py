"""`omniloop train wam`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Train policies on rollouts made here."
)


@app.callback()
def group() -> None:
    """Train policies on rollouts made here."""


@app.command()
def wam(
    out: Annotated[Path, typer.Option(help="Folder for data and model.")],
    minutes: Annotated[float, typer.Option(help="Wall-clock time in all.")] = 60.0,
    rollouts: Annotated[int, typer.Option(help="Rollouts to make data of.")] = 900,
    scenes: Annotated[
        list[str] | None,
        typer.Option(help="A family to train on; may be repeated. All if left out."),
    ] = None,
    real: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of recorded scenes to train on too; may be repeated."),
    ] = None,
    dagger: Annotated[
        int, typer.Option(help="Rounds in which the model drives and the expert labels.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Chooses scenes and starts training.")] = 0,
    threads: Annotated[
        int | None, typer.Option(help="Processes and threads; one per core if left out.")
    ] = None,
    size: Annotated[str, typer.Option(help="Of the model: small, or large for a GPU.")] = "small",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    vae: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a VAE of diffusers that makes the latents; none is downloaded."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what is in --out.")] = False,
) -> None:
    """Train a world-action model: collect rollouts of an expert, train, write a model card.

    At most 30 % of the time goes into data. Ctrl-C stops at any time; `--resume` goes on.

    **Examples**

        omniloop train wam --out wam
        omniloop train wam --out wam --minutes 60 --real DIR/commonroad_ngsim
        omniloop train wam --out wam --resume
        omniloop train wam --out big --size large --rollouts 20000 --minutes 600
        omniloop run policy=wam policy.checkpoint=wam/model/wam.pt
    """
    from omniloop.training.wam_pipeline import PipelineConfig, run_pipeline

    config = PipelineConfig(
        minutes=minutes, rollouts=rollouts, scenes=tuple(scenes or ()),
        real=tuple(str(path) for path in real or ()), dagger=dagger, seed=seed, threads=threads,
        size=size, device=device, vae=None if vae is None else str(vae.resolve()),
    )  # fmt: skip
    watcher = _Watcher()
    try:
        checkpoint = run_pipeline(out, config, watcher.told, resume=resume)
    except KeyboardInterrupt:
        watcher.close()
        typer.echo(f"interrupted; go on with the same options and --resume ({out})", err=True)
        raise typer.Exit(130) from None
    finally:
        watcher.close()
    typer.echo(f"checkpoint {checkpoint}")


class _Watcher:
    """A progress bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

        self._console = Console(highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
            TextColumn("{task.fields[facts]}"), console=self._console, transient=True,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, int] = {}
        if self._console.is_terminal:
            self._bar.start()

    def told(self, stage: str, share: float, facts: dict[str, Any]) -> None:
        """Show how far a stage is; elsewhere than on a terminal at every tenth."""
        text = ", ".join(f"{key} {_short(value)}" for key, value in facts.items() if value)
        if self._console.is_terminal:
            if stage not in self._tasks:
                self._tasks[stage] = self._bar.add_task(stage, total=1.0, facts="")
            self._bar.update(self._tasks[stage], completed=share, facts=text)
        tenth = int(share * 10 + 1e-9)
        if self._told.get(stage) != tenth and (not self._console.is_terminal or tenth == 10):
            self._console.print(f"{stage}: {share:.0%} {text}", markup=False)
        self._told[stage] = tenth

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
