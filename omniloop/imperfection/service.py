"""Services whose inputs and answers are disturbed; what they are besides stays as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from omniloop.core.cameras import Camera
from omniloop.core.messages import Observation, RenderRequest, RenderResult, SessionInfo
from omniloop.imperfection.actor_dropout import Dropout, draw_spells
from omniloop.imperfection.draws import rollout_seed
from omniloop.imperfection.frames import FrameFaults
from omniloop.imperfection.settings import ImperfectionSettings

FACTS = "imperfection"
"""Under this key sessions tell what was injected."""


def imperfect(kind: str, service: Any, settings: ImperfectionSettings, root_seed: int) -> Any:
    """Wrap a service in what disturbs it; it is returned as it is if nothing does.

    Args:
        kind: "policy", "renderer", ...
        service: Anything with a coroutine `open`, in this process or elsewhere.
        root_seed: The run's.
    """
    on = settings.kinds_on
    if kind == "policy" and "actor_dropout" in on:
        return ImperfectPolicy(service, settings, root_seed)
    if kind == "renderer" and {"actor_dropout", "frames", "image"}.intersection(on):
        return ImperfectRenderer(service, settings, root_seed)
    return service


class _Wrapper:
    """Is like what it holds, but for what a subclass defines."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":  # not there yet, as in a copy that is being made
            raise AttributeError(name)
        return getattr(self._inner, name)


class _Service(_Wrapper):
    def __init__(self, service: Any, settings: ImperfectionSettings, root_seed: int) -> None:
        super().__init__(service)
        self._settings = settings
        self._root_seed = root_seed

    def _dropout(self, session: SessionInfo) -> Dropout | None:
        settings = self._settings.actor_dropout
        if not settings.is_on:
            return None
        seed = rollout_seed(self._root_seed, session.session_id)
        actors = session.scene.actors
        return Dropout(draw_spells(settings, actors, session.start_us, session.end_us, seed))


class _Session(_Wrapper):
    """Tells what it injected besides what the session inside tells."""

    def __init__(self, inner: Any, **faults: Any) -> None:
        super().__init__(inner)
        self._faults = {kind: fault for kind, fault in faults.items() if fault is not None}

    def facts(self) -> dict[str, object]:
        """See `omniloop.core.calls.CallFunnel.facts`."""
        inner = self._inner.facts() if hasattr(self._inner, "facts") else {}
        return {**inner, FACTS: {kind: fault.facts() for kind, fault in self._faults.items()}}


class ImperfectPolicy(_Service):
    """A policy whose privileged view of the actors has gaps."""

    async def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> Any:
        """Begin a rollout; without a view of the actors there is nothing to disturb."""
        inner = await self._inner.open(session, cameras)
        if "actors" not in self._inner.spec.privileged:
            return inner
        return _PolicySession(inner, actor_dropout=self._dropout(session))


class _PolicySession(_Session):
    async def plan(self, observation: Observation) -> Any:
        dropout: Dropout = self._faults["actor_dropout"]
        if observation.actor_motion is not None:
            sensed = dropout.sensed(observation.actor_motion)
            observation = replace(observation, actor_motion=sensed)
        return await self._inner.plan(observation)


class ImperfectRenderer(_Service):
    """A renderer that misses actors, whose pictures are worse, and lost or late."""

    async def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> Any:
        """Begin a rollout."""
        settings, seed = self._settings, rollout_seed(self._root_seed, session.session_id)
        frames = image = None
        if settings.frames.is_on:
            frames = FrameFaults(settings.frames, self._inner.spec, session, cameras, seed)
        if settings.image.is_on:
            from omniloop.imperfection.image import ImageFaults

            image = ImageFaults(settings.image, session, cameras, seed)
        dropout = self._dropout(session)
        inner = await self._inner.open(session, cameras)
        return _RenderSession(inner, actor_dropout=dropout, frames=frames, image=image)


class _RenderSession(_Session):
    async def render(self, request: RenderRequest) -> Any:
        faults = self._faults
        if "actor_dropout" in faults:
            sensed = faults["actor_dropout"].sensed(request.actor_motion)
            request = replace(request, actor_motion=sensed)
        result = await self._inner.render(request)
        if not isinstance(result, RenderResult) or len(result.images) != len(request):
            return result  # the loop says what is wrong with it
        if "frames" in faults:
            result = faults["frames"].apply(request, result)
        if "image" in faults:
            result = await faults["image"].apply(request, result)
        return result
