"""`omniloop serve`: one plugin behind its wire protocols."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import typer

from omniloop.configs.compose import compose
from omniloop.core import registry
from omniloop.core.errors import ConfigError
from omniloop.core.local import as_service
from omniloop.runner.assemble import open_source
from omniloop.services.roles import servicers
from omniloop.services.serving import Listening, serve_until_stopped
from omniloop.services.shelf import SceneShelf


def serve(
    kind: str,
    settings: Sequence[str],
    listening: Listening,
    max_sessions: int | None,
    idle_timeout_s: float,
) -> None:
    """Serve the plugin that a config names until SIGTERM or Ctrl-C.

    Raises:
        InputError: the config, the scenes or the address are unusable.
    """
    if max_sessions is not None and max_sessions < 1:
        raise ConfigError(f"--max-sessions is {max_sessions}", remedy="give 1 or more")
    if not idle_timeout_s > 0:
        raise ConfigError(f"--idle-timeout is {idle_timeout_s}", remedy="give seconds above 0")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    config = compose(settings)
    plugin = getattr(config, kind)
    if plugin.name == "none":
        raise ConfigError("renderer=none renders nothing to serve", remedy="choose a renderer")
    service = as_service(kind, registry.create(kind, plugin.name, plugin.arguments))
    shelf = SceneShelf(open_source(config.scenes))
    protocols = servicers(kind, service, shelf, max_sessions, idle_timeout_s)
    for protocol in protocols:
        protocol.served = plugin.name

    def started(port: int) -> None:
        names = ", ".join(s.service.full_name for s in protocols)
        typer.echo(f"serving {kind} {plugin.name} at {listening.host}:{port} ({names})")
        some = ", ".join(shelf.ids[:3]) + (", ..." if len(shelf.ids) > 3 else "")
        typer.echo(f"{len(shelf.ids)} scene(s): {some}; Ctrl-C stops")

    async def run() -> None:
        connect = getattr(service, "connect", None)
        if connect is not None:
            await connect()
        await serve_until_stopped(protocols, listening, started)

    asyncio.run(run())
