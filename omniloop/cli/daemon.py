"""`omniloop daemon`: a simulator as a service, until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from omniloop.configs.schema import RunConfig
    from omniloop.runner.daemon import DaemonRules
    from omniloop.services.serving import Listening

_ENDING_S = 5.0
"""How long requests may take to end that were told to end at once."""


def daemon(
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings, as of `run`.")
    ] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 opens it to the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free one.")] = 50050,
    runs: Annotated[
        Path | None,
        typer.Option(help="Every request leaves a run's folder here; run.dir if not given."),
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=0, help="Keep only the latest of these folders.")
    ] = None,
    max_requests: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 256,
    tls_cert: Annotated[str | None, typer.Option(help="PEM file of the server.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="PEM file of its key.")] = None,
    tls_client_ca: Annotated[
        str | None, typer.Option(help="PEM file: clients must show a certificate of it.")
    ] = None,
    max_message_mib: Annotated[int, typer.Option(min=1, max=2047, help="Largest message.")] = 100,
) -> None:
    """Simulate for clients: AlpaSim's RuntimeService, with drivers of each request's own.

    The settings are those of `run`; scenes, rollouts and drivers come with the requests. SIGTERM
    and Ctrl-C end it once all requests have their answers, a second one at once.

    **Examples**

        omniloop daemon policy=remote               every request brings its drivers
        omniloop daemon scenes=av2 scenes.path=DIR run.workers=8 run.concurrency=32
        omniloop daemon --keep 100 renderer=none    only the latest hundred results stay
    """
    import asyncio
    import logging

    from omniloop.configs.compose import compose
    from omniloop.runner.daemon import DaemonRules
    from omniloop.services.serving import Listening

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    config = compose(settings or [])
    rules = DaemonRules(runs or Path(config.run.dir), keep, max_requests)
    listening = Listening(host, port, tls_cert, tls_key, tls_client_ca, max_message_mib)
    raise typer.Exit(asyncio.run(_serve(config, rules, listening)))


async def _serve(config: RunConfig, rules: DaemonRules, listening: Listening) -> int:
    """Serve until stopped; 0 if every request had its answer.

    Raises:
        OmniloopError: the daemon cannot start.
    """
    import asyncio
    import signal

    from omniloop.runner.daemon import Daemon
    from omniloop.services.health import Health
    from omniloop.services.runtime_server import RuntimeServicer
    from omniloop.services.serving import start_server

    found = Daemon(config, rules)
    ending = asyncio.Event()

    def stop() -> None:
        if found.stopping.is_set():
            ending.set()
        found.shut_down()

    try:
        await found.start()
        health = Health()
        servicer = RuntimeServicer(found, listening.max_message_mib)
        server, port = await start_server([servicer], listening, health)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        typer.echo(
            f"simulating at {listening.host}:{port} ({servicer.service.full_name}),"
            f" {found.concurrency} rollout(s) at once, {found.workers} worker(s)"
        )
        typer.echo(f"{len(found.scene_ids)} scene(s); results in {rules.runs}; Ctrl-C stops")
        await found.stopping.wait()
        await health.drain()
        waits = [asyncio.create_task(found.drained()), asyncio.create_task(ending.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        undone = found.under_way
        if undone:
            found.cancel()
            await asyncio.wait(waits[:1], timeout=_ENDING_S)
            typer.echo(f"interrupted: {undone} request(s) without an answer", err=True)
        for wait in waits:
            wait.cancel()
        await server.stop(grace=2.0)
        return int(undone > 0)
    finally:
        await found.stop()
