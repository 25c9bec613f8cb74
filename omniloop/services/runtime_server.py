"""RuntimeService: a simulator as a service, whoever does the work."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from grpc import StatusCode

from omniloop.core.errors import RunFolderError, SceneError, ServiceError
from omniloop.services.protos import runtime_pb2 as pb
from omniloop.services.protos.common_pb2 import Empty
from omniloop.services.rpc import MIB, Caller, Refusal
from omniloop.services.runtime_codec import (
    Asked,
    RolloutAnswer,
    RuntimeFacts,
    Versions,
    asked_of,
    runtime_info,
    simulation_return,
)
from omniloop.services.serving import Servicer


class Runtime(Protocol):
    """What simulates."""

    async def simulate(self, asked: Asked) -> tuple[Sequence[RolloutAnswer], Versions, str]:
        """Run rollouts; cancelling the call ends them.

        Returns:
            An answer for each, in their order; versions; and where the results are on disk.

        Raises:
            Refusal: nothing more is taken.
            SceneError: a scene is unknown.
            OmniloopError: nothing can be run, such as a driver that does not answer.
        """
        ...

    async def facts(self) -> RuntimeFacts:
        """What can be asked for."""
        ...

    def shut_down(self) -> None:
        """Take nothing more, and stop once all that is under way has ended."""
        ...


class RuntimeServicer(Servicer):
    """Answers with what a runtime does.

    Args:
        max_message_mib: Largest reply.
    """

    service = pb.DESCRIPTOR.services_by_name["RuntimeService"]

    def __init__(self, runtime: Runtime, max_message_mib: int = 100) -> None:
        self._runtime = runtime
        self._max_message_mib = max_message_mib

    async def simulate(self, request: pb.SimulationRequest, caller: Caller) -> pb.SimulationReturn:
        """Run what is asked for; a client that goes away ends it.

        Raises:
            Refusal: the request cannot be (INVALID_ARGUMENT), names a rollout that another has
                (ALREADY_EXISTS), comes to too many others (RESOURCE_EXHAUSTED), or too late, or
                there are no workers or no room on disk (UNAVAILABLE).
        """
        asked = asked_of(request, caller.metadata)
        try:
            answers, versions, where = await self._runtime.simulate(asked)
        except SceneError as error:
            raise Refusal(StatusCode.INVALID_ARGUMENT, str(error)) from error
        except (ServiceError, RunFolderError) as error:
            raise Refusal(StatusCode.UNAVAILABLE, str(error)) from error
        reply = await asyncio.to_thread(simulation_return, request, answers, versions)
        if reply.ByteSize() > self._max_message_mib * MIB:
            raise Refusal(
                StatusCode.RESOURCE_EXHAUSTED,
                f"the reply has {reply.ByteSize() / MIB:.0f} MiB, above --max-message-mib"
                f" {self._max_message_mib}; ask for fewer rollouts at once. The results are in {where}",
            )
        return reply

    async def get_runtime_info(self, request: Empty, caller: Caller) -> pb.RuntimeInfo:
        """What runs here, and which scenes there are."""
        return runtime_info(await self._runtime.facts())

    async def shut_down(self, request: Empty, caller: Caller) -> Empty:
        """Begin to drain; the reply does not wait for the end."""
        self._runtime.shut_down()
        return Empty()
