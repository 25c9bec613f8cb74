"""`omniloop convert`: logs of rollouts to AlpaSim's format and back."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from omniloop.core.contracts import SceneSource


class LogFormat(StrEnum):
    """What a log is written as."""

    ASL = "asl"
    MCAP = "mcap"


_SUFFIXES = {LogFormat.ASL: ".mcap", LogFormat.MCAP: ".asl"}
"""The file that each format is made of."""


def convert(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH ... [scenes=NAME scenes.path=DIR]",
            help="A log, or a run's folder for all of its logs. With --to mcap: where the scenes are.",
        ),
    ],
    to: Annotated[LogFormat, typer.Option("--to", help="asl: AlpaSim's log; mcap: ours.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="A file for one log; a folder for more, which --to mcap makes a scored run."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write logs as AlpaSim's ASL logs, or ASL logs as logs of Omniloop.

    Without --out, a log is written beside the one that it is made of. Of a run's folder, logs that are
    there already are passed over, so that the command can be given again.

    **Examples**

        omniloop convert runs/demo --to asl
        omniloop convert runs/demo/rollouts/curve/0/log.mcap --to asl --out curve.asl
        omniloop convert rollout.asl --to mcap scenes=usdz scenes.path=DIR
        omniloop convert ALPASIM_RUN --to mcap --out runs/theirs scenes=usdz scenes.path=DIR
    """
    from omniloop.core.errors import ConfigError

    settings = [p for p in paths if p.startswith(("scenes=", "scenes."))]
    given = [Path(p) for p in paths if p not in settings]
    if not given:
        raise ConfigError("no log is given", where="PATH", remedy="give a log or a run's folder")
    if settings and to is LogFormat.ASL:
        raise ConfigError(
            "a log of Omniloop holds its scene", where=" ".join(settings), remedy="leave it out"
        )
    if to is LogFormat.MCAP and out is not None and out.suffix != ".mcap":
        raise typer.Exit(_make_run(given, out, _scenes(settings), force))
    raise typer.Exit(_make_files(given, to, out, _scenes(settings), force))


def _scenes(settings: list[str]) -> SceneSource | None:
    if not settings:
        return None
    from omniloop.configs.compose import compose
    from omniloop.runner.assemble import open_source

    return open_source(compose(settings).scenes)


def _make_run(given: list[Path], out: Path, scenes: SceneSource | None, force: bool) -> int:
    """A scored run of ASL logs."""
    from omniloop.core.errors import ConfigError
    from omniloop.runlog.results import RolloutResult
    from omniloop.runner.asl_run import run_from_asl

    if force:
        raise ConfigError(
            "--force does not replace a run", where=f"--out {out}", remedy="choose another folder"
        )

    def progress(log: Path, result: RolloutResult) -> None:
        typer.echo(f"{log} -> {result.session_id}")
        for note in result.notices[1:]:
            typer.echo(f"  {note}", err=True)

    done = run_from_asl(_logs_of(given, LogFormat.MCAP), out, scenes, progress)
    if done.resumed:
        typer.echo(f"{done.resumed} rollout(s) were there already")
    for error in done.errors:
        typer.echo(f"error: {error}", err=True)
    typer.echo(f"run: {done.run_dir}, {len(done.results)} rollout(s), {len(done.errors)} failed")
    return int(bool(done.errors))


def _make_files(
    given: list[Path],
    to: LogFormat,
    out: Path | None,
    scenes: SceneSource | None,
    force: bool,
) -> int:
    """A file for each log; of several, those that are there or cannot be read are passed over."""
    from omniloop.core.errors import OmniloopError, RunFolderError
    from omniloop.runlog.files import usable

    logs = _logs_of(given, to)
    single = len(given) == 1 and given[0].is_file()
    resumed = failed = 0
    for log in logs:
        target = _target(log, to, out, single)
        if target.exists() and not force:
            if single:
                raise RunFolderError(
                    "the file is there already", where=str(target),
                    remedy="replace it with --force, or choose another with --out",
                )  # fmt: skip
            resumed += 1
            continue
        with usable(target.parent, "made", "choose a writable place with --out"):
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            notes = _write(log, target, to, scenes)
        except OmniloopError as error:
            if single:
                raise
            failed += 1
            typer.echo(f"error: {error}", err=True)
            continue
        for note in notes:
            typer.echo(f"  {note}", err=True)
        typer.echo(f"{log} -> {target}")
    if resumed:
        typer.echo(f"{resumed} log(s) were there already; --force replaces them")
    if failed:
        typer.echo(f"{failed} of {len(logs)} log(s) could not be converted", err=True)
    return int(failed > 0)


def _write(log: Path, target: Path, to: LogFormat, scenes: SceneSource | None) -> tuple[str, ...]:
    if to is LogFormat.ASL:
        from omniloop.services.asl_write import write_asl

        return write_asl(log, target)
    from omniloop.services.asl_read import mcap_from_asl

    return mcap_from_asl(log, target, scenes).notes


def _logs_of(given: list[Path], to: LogFormat) -> list[Path]:
    """The logs to convert: files as they are given, and every log of a run's folder.

    Raises:
        RunFolderError: a path is not there, is of the wrong kind, or holds no log.
    """
    from omniloop.core.errors import ConfigError, RunFolderError
    from omniloop.runner.asl_run import asl_logs

    wanted = _SUFFIXES[to]
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            found += asl_logs(path) if to is LogFormat.MCAP else _mcap_logs(path)
        elif not path.exists():
            raise RunFolderError(
                "there is no such file or folder",
                where=str(path),
                remedy="give a log or a run's folder",
            )
        elif path.suffix != wanted:
            other = next((f for f, suffix in _SUFFIXES.items() if suffix == path.suffix), None)
            raise ConfigError(
                f"a file '{path.suffix}' cannot be written as {to}", where=str(path),
                remedy=f"give --to {other}" if other else f"give a log that ends in {wanted}",
            )  # fmt: skip
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _mcap_logs(run_dir: Path) -> list[Path]:
    from omniloop.core.errors import RunFolderError
    from omniloop.runlog.folder import LOG_NAME, open_existing

    found = sorted(open_existing(run_dir).glob(f"rollouts/*/*/{LOG_NAME}"))
    if not found:
        raise RunFolderError("the run holds no log", where=str(run_dir), remedy="run it first")
    return found


def _target(log: Path, to: LogFormat, out: Path | None, single: bool) -> Path:
    """Where a log is written: beside it, or below `out` as it lies below its run.

    Raises:
        ConfigError: `out` is a file for several logs, or of another kind.
    """
    from omniloop.core.errors import ConfigError
    from omniloop.runlog.folder import LOG_NAME
    from omniloop.services.asl_write import ASL_NAME

    suffix = f".{to}"
    usual = {LOG_NAME: ASL_NAME, ASL_NAME: LOG_NAME}
    name = usual.get(log.name, log.with_suffix(suffix).name)
    if out is None:
        return log.with_name(name)
    if single:
        if out.suffix != suffix:
            raise ConfigError(
                f"'{out.name}' is no name of a log", where=f"--out {out}",
                remedy=f"give a file that ends in {suffix}",
            )  # fmt: skip
        return out
    if out.suffix == suffix:
        raise ConfigError(
            "several logs do not fit one file", where=f"--out {out}", remedy="give a folder"
        )
    return (
        out.joinpath(*log.parts[-4:-1], name) if log.parts[-4:-3] == ("rollouts",) else out / name
    )
