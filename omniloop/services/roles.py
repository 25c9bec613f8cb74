"""Which server serves a service of a rollout, and which client reaches it."""

from __future__ import annotations

import sys
from typing import Any

from omniloop.core.errors import ConfigError
from omniloop.services.remote import RemoteService
from omniloop.services.serving import Servicer
from omniloop.services.shelf import SceneShelf

_NOWHERE = "in-process:0"
"""An address that a looped-back client never dials."""

_ANY_NUMBER = sys.maxsize


def servicers(
    kind: str,
    service: Any,
    scenes: SceneShelf,
    max_sessions: int | None = None,
    idle_timeout_s: float = 3600.0,
) -> list[Servicer]:
    """The servers of every protocol under which a service can be served.

    Args:
        kind: "policy", "traffic", "controller", "ground" or "renderer".
        service: See `omniloop.core.local.as_service`.
        max_sessions: Sessions at once; None for the protocol's own default.
    """
    limits: dict[str, Any] = {"idle_timeout_s": idle_timeout_s}
    if max_sessions is not None:
        limits["limit"] = max_sessions
    if kind == "policy":
        from omniloop.services.driver_server import EgodriverServicer

        return [EgodriverServicer(service, scenes, **limits)]
    if kind == "traffic":
        from omniloop.services.traffic_server import TrafficServicer

        return [TrafficServicer(service, scenes, **limits)]
    if kind == "controller":
        from omniloop.services.controller_server import ControllerServicer

        return [ControllerServicer(service, scenes, **limits)]
    if kind == "ground":
        from omniloop.services.ground_server import PhysicsServicer

        return [PhysicsServicer(service, scenes)]
    if kind == "renderer":
        from omniloop.services.sensorsim_server import SensorsimServicer
        from omniloop.services.video_server import WorldModelServicer

        return [WorldModelServicer(service, **limits), SensorsimServicer(service, scenes)]
    raise ConfigError(
        f"a {kind} cannot be served", remedy="serve policy, traffic, controller, ground or renderer"
    )


def looped_back(kind: str, service: Any, scenes: SceneShelf) -> Any:
    """A service of this process behind its client and server, without a socket.

    What it is told and answers is then rounded as on the wire. A service that is elsewhere
    already is returned as it is.
    """
    if isinstance(service, RemoteService):
        return service
    client, served = _client(kind, service), servicers(kind, service, scenes, _ANY_NUMBER)
    client.loop_back(next(s for s in served if s.service is client.service))
    return client


def _client(kind: str, service: Any) -> RemoteService:
    if kind == "policy":
        from omniloop.services.driver_client import RemotePolicy

        return RemotePolicy(_NOWHERE)
    if kind == "traffic":
        from omniloop.services.traffic_client import RemoteTraffic

        return RemoteTraffic(_NOWHERE)
    if kind == "controller":
        from omniloop.services.controller_client import RemoteController

        return RemoteController(_NOWHERE)
    if kind == "ground":
        from omniloop.services.ground_client import RemoteGround

        return RemoteGround(_NOWHERE)
    spec = service.spec
    width, height = spec.size
    if spec.chunk is None:
        from omniloop.services.sensorsim_client import NuRec

        return NuRec(
            _NOWHERE, width=width, height=height, fps=spec.fps, cameras=spec.cameras,
            shutter_us=spec.shutter_us,
        )  # fmt: skip
    from omniloop.services.video_client import OmniDreams

    return OmniDreams(
        _NOWHERE, chunk=spec.chunk.frames, fps=spec.chunk.fps, width=width, height=height,
        cameras=spec.cameras, first_frame="raster",
    )  # fmt: skip
