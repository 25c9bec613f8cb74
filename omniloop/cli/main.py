"""The command line: `omniloop run|serve|score|digest|report|tables|compare|scenes|plugins|...`.

Each command imports what it needs when it is called, so that `--help` is quick.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from omniloop.cli import bench as bench_commands
from omniloop.cli import budget as budget_commands
from omniloop.cli import convert as convert_commands
from omniloop.cli import daemon as daemon_commands
from omniloop.cli import export as export_commands
from omniloop.cli import metrics as metrics_commands
from omniloop.cli import plan as plan_commands
from omniloop.cli import plugins as plugins_commands
from omniloop.cli import replay as replay_commands
from omniloop.cli import rerender as rerender_commands
from omniloop.cli import results as results_commands
from omniloop.cli import scenes as scenes_commands
from omniloop.cli import suite as suite_commands
from omniloop.cli import train as train_commands
from omniloop.cli import watch as watch_commands

app = typer.Typer(
    name="omniloop", no_args_is_help=True, add_completion=False, rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    epilog="Start with `omniloop run`: it drives six built-in scenes. "
    "Exit codes: 0 every rollout completed or failed by its policy, 1 infrastructure failed, 2 bad input.",
)  # fmt: skip
app.add_typer(bench_commands.app, name="bench")
app.add_typer(scenes_commands.app, name="scenes")
app.add_typer(metrics_commands.app, name="metrics")
app.add_typer(suite_commands.app, name="suite")
app.add_typer(train_commands.app, name="train")
app.add_typer(plugins_commands.app, name="plugins")


def _print_version(wanted: bool) -> None:
    if wanted:
        from omniloop import __version__

        typer.echo(f"omniloop {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Closes the loop between a driving policy and a simulated world."""


_RUN_HELP = """Drive scenes in closed loop and score them.

Settings are written KEY=VALUE; a group's name chooses one of its kinds.

**Examples**

    omniloop run                              six embedded scenes
    omniloop run run.video=true run.seeds=4   videos, four seeds each
    omniloop run policy=constant_velocity renderer=none
    omniloop run policy=my_file:MyPolicy      a policy of your own
    omniloop run scenes=av2 scenes.path=DIR   Argoverse 2 recordings
    omniloop run renderer.chunk=0 renderer.fps=10   frame by frame
    omniloop run sync=postfetch sync.decisions_per_chunk=2
    omniloop run imperfection=all             noise, latency, lost frames and more
    omniloop run suite=smoke                  scenes, seeds and metrics as one
    omniloop run run.name=big run.resume=true       go on with a run
    omniloop run --show                       print settings and stop

**Groups**: scenes, policy, traffic, controller, ground, renderer, sync,
imperfection, metrics, run.
`omniloop plugins` lists what each can be and its settings.
"""


@app.command(help=_RUN_HELP)
def run(
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print the resolved settings and stop.")
    ] = False,
    force_new: Annotated[
        bool,
        typer.Option(
            "--force-new",
            help="Go on with a run begun with other settings; what differs runs anew.",
        ),
    ] = False,
) -> None:
    """Drive scenes in closed loop and score them."""
    from omniloop.configs.compose import compose

    config = compose([*(settings or []), *(["run.force_new=true"] if force_new else [])])
    if show:
        from omniloop.runlog.folder import to_yaml

        typer.echo(to_yaml(config.model_dump(mode="json")), nl=False)
        return
    from omniloop.cli.run import run_and_report

    raise typer.Exit(run_and_report(config))


class ServedKind(StrEnum):
    """What can be served."""

    POLICY = "policy"
    TRAFFIC = "traffic"
    CONTROLLER = "controller"
    GROUND = "ground"
    RENDERER = "renderer"


@app.command()
def serve(
    kind: Annotated[ServedKind, typer.Argument(help="What to serve.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings, as of `run`.")
    ] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 opens it to the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free one.")] = 50051,
    max_sessions: Annotated[int | None, typer.Option(help="Sessions at once.")] = None,
    idle_timeout: Annotated[
        float, typer.Option(help="Seconds until an unused session ends.")
    ] = 3600.0,
    tls_cert: Annotated[str | None, typer.Option(help="PEM file of the server.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="PEM file of its key.")] = None,
    tls_client_ca: Annotated[
        str | None, typer.Option(help="PEM file: clients must show a certificate of it.")
    ] = None,
    max_message_mib: Annotated[int, typer.Option(min=1, max=2047, help="Largest message.")] = 100,
    from_log: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Answer from a log.mcap, or a run's logs, and check."),
    ] = None,
    lenient: Annotated[
        bool, typer.Option("--lenient", help="From a log: answer what is not as recorded, too.")
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="From a log: how far apart numbers may be; 0.0001 if it was recorded over the wire, else 0.001."
        ),
    ] = None,
) -> None:
    """Serve a plugin under the wire protocol of its kind.

    A renderer is served as WorldModelService (chunks) and SensorsimService (frames) at once.
    The wire carries only ids of scenes: `scenes=` names where they are.

    **Examples**

        omniloop serve policy policy=route_follower
        omniloop serve renderer --port 50052
        omniloop serve traffic scenes=av2 scenes.path=DIR
        omniloop serve policy --from-log runs/demo      what the policy answered then
    """
    from omniloop.cli.serve import serve as serve_plugin
    from omniloop.services.serving import Listening

    listening = Listening(host, port, tls_cert, tls_key, tls_client_ca, max_message_mib)
    if from_log is not None:
        from omniloop.cli.serve_log import refuse_settings, serve_log

        refuse_settings(settings or [])
        done = serve_log(
            kind.value, from_log, listening, max_sessions, idle_timeout,
            lenient=lenient, tolerance=tolerance,
        )  # fmt: skip
        raise typer.Exit(done)
    if lenient or tolerance is not None:
        from omniloop.core.errors import ConfigError

        given = "--lenient" if lenient else "--tolerance"
        raise ConfigError(
            "it is of a server that plays a log", where=given, remedy="add --from-log RUN"
        )
    serve_plugin(kind.value, settings or [], listening, max_sessions, idle_timeout)


@app.command()
def doctor(
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="A plugin and its settings: policy=alpamayo"),
    ] = None,
) -> None:
    """Check this machine, or what a plugin needs.

    Without settings: versions, extras, plugins that cannot be imported, and a short rollout.

    **Examples**

        omniloop doctor
        omniloop doctor policy=alpamayo policy.device=cuda    package, weights, memory
    """
    from omniloop.cli.doctor import examine, examine_for

    raise typer.Exit(examine_for(settings) if settings else examine())


for _command in (
    results_commands.score,
    results_commands.digest,
    results_commands.report,
    results_commands.tables,
    results_commands.compare,
):
    app.command()(_command)
app.command()(budget_commands.budget)
app.command()(convert_commands.convert)
app.command()(plan_commands.plan)
app.command()(rerender_commands.rerender)
app.command()(replay_commands.replay)
app.command()(rerender_commands.backends)
app.command()(export_commands.export)
app.command()(watch_commands.watch)
app.command()(daemon_commands.daemon)


def main() -> None:
    """Run the command line; errors become one clear message and an exit code."""
    from omniloop.core.errors import InputError, OmniloopError, RunFolderError

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its log lines say less than our errors do
    try:
        app()
    except (InputError, RunFolderError) as error:
        sys.exit(_say(error, 2))
    except OmniloopError as error:
        sys.exit(_say(error, 1))
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)


def _say(error: Exception, code: int) -> int:
    typer.echo(f"error: {error}", err=True)
    return code


if __name__ == "__main__":
    main()
