"""What every server tells of itself: health checks (``grpc.health.v1``) and reflection."""

from __future__ import annotations

from collections.abc import Sequence

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

_SERVING = health_pb2.HealthCheckResponse.SERVING


class Health:
    """Whether a server takes calls: as a whole, which is the empty name, and by service."""

    def __init__(self) -> None:
        self._servicer = health.aio.HealthServicer()

    async def add_to(self, server: aio.Server, services: Sequence[str]) -> None:
        """Have a server answer health checks, and tell by reflection what it serves.

        Args:
            services: Full names.
        """
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        for name in services:
            await self._servicer.set(name, _SERVING)
        told = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(told, server)

    async def drain(self) -> None:
        """Tell from now on that nothing is taken any more."""
        await self._servicer.enter_graceful_shutdown()
