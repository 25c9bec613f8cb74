"""The services of a run, opened together for a rollout and closed in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from omniloop.core.calls import CallFunnel
from omniloop.core.cameras import Camera
from omniloop.core.contracts import (
    GroundModel,
    GroundSession,
    Policy,
    PolicySession,
    Renderer,
    RenderSession,
    SessionInfo,
    Traffic,
    TrafficSession,
    VehicleController,
    VehicleSession,
)
from omniloop.core.errors import OmniloopError
from omniloop.core.scene import Scene
from omniloop.core.schedule import Schedule
from omniloop.core.seeds import derive_seed

_Exit = Callable[
    [type[BaseException] | None, BaseException | None, TracebackType | None], Awaitable[None]
]

SERVICES = ("renderer", "ground", "controller", "policy", "traffic")
"""Order in which sessions open; they close in reverse (AlpaSim's order)."""


@dataclass(frozen=True)
class Services:
    """One of each; no renderer means that nothing is rendered."""

    policy: Policy
    traffic: Traffic
    controller: VehicleController
    ground: GroundModel
    renderer: Renderer | None = None
    _slots: dict[str, asyncio.Semaphore] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Name and service, in the order in which sessions open."""
        for name in SERVICES:
            service = getattr(self, name)
            if service is not None:
                yield name, service

    @property
    def notes(self) -> tuple[str, ...]:
        """What the services want every result to say."""
        return tuple(note for _, service in self for note in getattr(service, "notes", ()))

    @property
    def versions(self) -> dict[str, dict[str, dict[str, str]]]:
        """What runs at each address of services that are elsewhere, by service and address."""
        found = {name: getattr(service, "versions", {}) for name, service in self}
        return {name: versions for name, versions in found.items() if versions}

    @property
    def capacity(self) -> int | None:
        """Rollouts at once that the services can hold; None if none limits them."""
        limits = [getattr(service, "capacity", None) for _, service in self]
        return min((n for n in limits if n is not None), default=None)

    async def connect(self) -> None:
        """First contact with services that are elsewhere; their `spec` may follow from it.

        Raises:
            InputError: one cannot be reached, or speaks another version.
        """
        await asyncio.gather(*self._hooks("connect"))

    async def disconnect(self) -> None:
        """Let go of what the running event loop holds of services that are elsewhere."""
        await asyncio.gather(*self._hooks("disconnect"))

    def _hooks(self, name: str) -> list[Awaitable[None]]:
        return [getattr(s, name)() for _, s in self if hasattr(s, name)]

    def slot(self) -> asyncio.Semaphore | None:
        """The renderer's limit of sessions at once, if it has one."""
        limit = self.renderer.spec.max_sessions if self.renderer is not None else None
        if limit is None:
            return None
        return self._slots.setdefault("renderer", asyncio.Semaphore(limit))


@dataclass(frozen=True)
class Sessions:
    """The sessions of one rollout."""

    policy: PolicySession
    traffic: TrafficSession
    controller: VehicleSession
    ground: GroundSession
    renderer: RenderSession | None


def service_seeds(root_seed: int, scene_id: str, seed: int) -> dict[str, int]:
    """Every service's seed in a rollout, derived by name from the root seed."""
    return {name: derive_seed(root_seed, scene_id, seed, name) for name in SERVICES}


def session_info(
    session_id: str, scene: Scene, schedule: Schedule, seed: int = 0, wire_uuid: str = "",
    is_retry: bool = False,
) -> SessionInfo:  # fmt: skip
    """What a session is told of its rollout but for the funnel; `seed` is the service's own."""
    return SessionInfo(
        session_id=session_id, scene=scene, seed=seed, vehicle=scene.vehicle,
        start_us=schedule.context_start_us, handover_us=schedule.handover_us, end_us=schedule.end_us,
        wire_uuid=wire_uuid, is_retry=is_retry,
    )  # fmt: skip


@asynccontextmanager
async def open_session(
    name: str,
    service: Any,
    session: SessionInfo,
    cameras: tuple[Camera, ...],
    call: CallFunnel,
) -> AsyncIterator[Any]:
    """Open a session of one service; close it, whatever happens inside."""
    info = replace(session, call=call)
    arguments = (info, cameras) if name in ("policy", "renderer") else (info,)
    async with AsyncExitStack() as stack:
        opened = await call(name, "open", service.open(*arguments))
        stack.push_async_exit(_closing(name, opened, call))
        yield opened


@asynccontextmanager
async def open_sessions(
    services: Services,
    session: SessionInfo,
    seeds: dict[str, int],
    cameras: tuple[Camera, ...],
    call: CallFunnel,
    addresses: Mapping[str, str],
) -> AsyncIterator[Sessions]:
    """Open a session of every service; close them all, whatever happens inside.

    Args:
        addresses: Where services that are elsewhere open theirs, by name; others choose.
    """
    opened: dict[str, object] = {}
    async with AsyncExitStack() as stack:
        slot = services.slot()
        if slot is not None:
            await stack.enter_async_context(slot)
        for name in SERVICES:
            service = getattr(services, name)
            if service is None:
                opened[name] = None
                continue
            info = replace(session, seed=seeds[name], address=addresses.get(name, ""))
            opening = open_session(name, service, info, cameras, call)
            opened[name] = await stack.enter_async_context(opening)
        yield Sessions(**opened)  # type: ignore[arg-type]


def _closing(name: str, session: object, call: CallFunnel) -> _Exit:
    """Close a session; an error of its own never takes the place of an earlier one."""

    async def close(
        kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await call(name, "close", session.close())  # type: ignore[attr-defined]
            if hasattr(session, "facts") and (facts := session.facts()):
                call.facts[name] = dict(facts)
        except OmniloopError as late:
            if error is None:
                raise
            error.add_note(late.what)

    return close
