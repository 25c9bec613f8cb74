"""`omniloop bench ...`: speed, memory and tables of the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Measure speed and memory; JSON on standard output.")


@app.command()
def loop(
    seconds: Annotated[float, typer.Option(help="Simulated time of a rollout.")] = 20.0,
    actors: Annotated[int, typer.Option(help="Replayed actors.")] = 50,
    rollouts: Annotated[int, typer.Option(help="Rollouts of the longer of two runs.")] = 8,
    policy: Annotated[
        str, typer.Option(help="A cheap one shows the cost of the loop itself.")
    ] = "constant_velocity",
    profile: Annotated[bool, typer.Option(help="Add where the time goes.")] = False,
) -> None:
    """Time one step of the loop without a camera: log and scores on, decisions at 10 Hz."""
    import json

    from omniloop.bench.loop import run as run_bench

    typer.echo(json.dumps(run_bench(seconds, actors, rollouts, policy, profile), indent=2))


@app.command()
def render(
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="scenes=..., scenes.path=..., scenes.ids=..."),
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames to draw, spread over each scene.")] = 64,
    repeat: Annotated[int, typer.Option(help="How often each is timed; the fastest counts.")] = 7,
) -> None:
    """Time the rasteriser against bare OpenCV drawing the same primitives plus JPEG.

    **Example**

        omniloop bench render scenes=av2 scenes.path=DIR
    """
    import json

    from omniloop.bench.render import run as run_bench
    from omniloop.configs.compose import compose
    from omniloop.runner.assemble import chosen_ids, open_source

    config = compose(settings or []).scenes
    source = open_source(config)
    measured = {
        name: run_bench(source.load(name), frames, repeat) for name in chosen_ids(config, source)
    }
    typer.echo(json.dumps(measured, indent=2))


@app.command()
def wire(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PART",
            help="overhead, pipeline, camera30, in_flight, serving, divergence, growth; all if none.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of a rollout.")] = 200,
) -> None:
    """Time services behind gRPC: against a bare loop, against the bound, over 500 rollouts.

    Without a PART all are measured, one after the other.

    **Examples**

        omniloop bench wire
        omniloop bench wire overhead pipeline
    """
    import json

    from omniloop.bench.wire import PARTS
    from omniloop.bench.wire import run as run_bench

    typer.echo(json.dumps(run_bench(steps, parts or list(PARTS)), indent=2))


@app.command()
def metrics(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PART|KEY=VALUE",
            help="families, contacts, online, report; all if none. Settings choose other scenes.",
        ),
    ] = None,
    actors: Annotated[int, typer.Option(help="Of the two made scenes.")] = 60,
    seconds: Annotated[float, typer.Option(help="Of the two made scenes.")] = 20.0,
    repeat: Annotated[int, typer.Option(help="How often scores are made.")] = 15,
) -> None:
    """Time scores: each family, contacts against brute force, during a rollout, the page.

    **Examples**

        omniloop bench metrics
        omniloop bench metrics families contacts
        omniloop bench metrics families scenes=av2 scenes.path=DIR scenes.limit=1
    """
    import json

    from omniloop.bench.metrics import PARTS
    from omniloop.bench.metrics import run as run_bench

    settings = [word for word in what or [] if "=" in word]
    parts = [word for word in what or [] if "=" not in word] or list(PARTS)
    typer.echo(json.dumps(run_bench(parts, settings, actors, seconds, repeat), indent=2))


@app.command()
def traffic(
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="scenes=..., scenes.path=..., and so on."),
    ] = None,
    params: Annotated[str, typer.Option(help="Parameter set of traffic=idm.")] = "omniloop",
    ego: Annotated[
        str, typer.Option(help="recorded, brakes or slower; else what suits the question.")
    ] = "",
    overlaps: Annotated[
        bool, typer.Option("--overlaps", help="Count overlapping pairs instead of time.")
    ] = False,
    interval: Annotated[float, typer.Option(help="Seconds between decisions.")] = 0.5,
    actors: Annotated[int, typer.Option(help="Of the synthetic road, without scenes.")] = 100,
    repeat: Annotated[int, typer.Option(min=1, help="The fastest of so many counts.")] = 5,
) -> None:
    """Time reactive traffic against log replay, or count the actors that it lets overlap.

    **Examples**

        omniloop bench traffic
        omniloop bench traffic scenes=commonroad scenes.path=DIR scenes.limit=1
        omniloop bench traffic --overlaps scenes=av2 scenes.path=DIR --ego brakes
    """
    import json

    from omniloop.bench import traffic as bench
    from omniloop.configs.compose import compose
    from omniloop.runner.assemble import chosen_ids, open_source
    from omniloop.scenes.embedded import synthetic_scene

    if settings or overlaps:
        config = compose(settings or []).scenes
        source = open_source(config)
        scenes = map(source.load, chosen_ids(config, source))
    else:
        scenes = map(synthetic_scene, [actors], [20.0])
    if overlaps:
        out: object = bench.overlaps(scenes, params, ego or "recorded")
    else:
        step_us = round(interval * 1e6)
        out = [bench.cost(scene, params, ego or "slower", step_us, repeat) for scene in scenes]
    typer.echo(json.dumps(out, indent=2))


@app.command()
def braking(
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="scenes=..., scenes.path=..., and so on."),
    ] = None,
    traffic: Annotated[
        str, typer.Option(help="Kinds of traffic with commas between; idm:SET names parameters.")
    ] = "log_replay,idm",
    decel_mps2: Annotated[float, typer.Option(help="How hard ego brakes.")] = 6.0,
    after_s: Annotated[float, typer.Option(help="When it begins to, after handover.")] = 0.0,
) -> None:
    """Count who hits an ego that brakes to a stop, with replayed and with reactive traffic.

    **Example**

        omniloop bench braking scenes=commonroad scenes.path=DIR
    """
    from omniloop.bench.braking import run as run_bench

    found = run_bench(settings or [], traffic.split(","), decel_mps2, after_s)
    typer.echo("\n".join(found["table"]))
    for name, rollouts in found["hit"].items():
        typer.echo(f"\nhit from behind with {name}: {', '.join(rollouts) or 'none'}")


@app.command()
def ground(
    triangles: Annotated[int, typer.Option(help="Triangles of the mesh, about.")] = 1_000_000,
    actors: Annotated[int, typer.Option(help="Boxes of a call.")] = 50,
) -> None:
    """Time grounds: reading and building a mesh, rays per second, a call of each ground.

    **Example**

        omniloop bench ground --triangles 4000000
    """
    import json

    from omniloop.bench.ground import run as run_bench

    typer.echo(json.dumps(run_bench(triangles, actors), indent=2))


@app.command()
def tracking(
    lateral: Annotated[
        float, typer.Option(min=0.1, max=8.0, help="Largest lateral acceleration [m/s^2].")
    ] = 3.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for tracking.svg, a picture of it.")
    ] = None,
) -> None:
    """Measure how well controllers follow plans, and how long they take: a table in Markdown.

    **Example**

        omniloop bench tracking --out docs/images
    """
    from omniloop.bench.tracking import run as run_bench
    from omniloop.bench.tracking import table

    typer.echo(table(list(run_bench(lateral))))
    if out is not None:
        from omniloop.bench.tracking_plot import picture

        out.mkdir(parents=True, exist_ok=True)
        (out / "tracking.svg").write_text(picture(lateral), encoding="utf-8")


@app.command()
def policy(
    settings: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE", help="policy=NAME and its settings.")
    ],
    batch: Annotated[int, typer.Option(help="Rollouts that ask at once.")] = 8,
    rounds: Annotated[int, typer.Option(help="How often each is timed; the fastest counts.")] = 3,
) -> None:
    """Time a policy's decisions one at a time and in batches, and its memory.

    **Example**

        omniloop bench policy policy=wam
    """
    import json

    from omniloop.bench.policy import run as run_bench

    typer.echo(json.dumps(run_bench(settings, batch, rounds), indent=2))


@app.command()
def batch(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PART",
            help="workers, scheduling, pipeline, live, kill, soak; all but kill and soak by default.",
        ),
    ] = None,
    moments: Annotated[int, typer.Option(min=1, help="Moments at which to kill each.")] = 50,
    rollouts: Annotated[int, typer.Option(min=8, help="Rollouts of the soak.")] = 2000,
) -> None:
    """Measure batches: two workers against one, scheduling, services kept busy, live status.

    **Examples**

        omniloop bench batch
        omniloop bench batch kill --moments 50
        omniloop bench batch soak --rollouts 2000
    """
    import json

    from omniloop.bench.batch import PARTS
    from omniloop.bench.batch import run as run_bench

    typer.echo(json.dumps(run_bench(parts or list(PARTS), moments, rollouts), indent=2))
