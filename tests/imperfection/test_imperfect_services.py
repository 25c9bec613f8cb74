from __future__ import annotations

import asyncio
import copy

import numpy as np
import pytest

from omniloop.core.local import as_service
from omniloop.core.messages import PolicySpec, SessionInfo
from omniloop.core.scene import Vehicle
from omniloop.imperfection.draws import rollout_seed, uniform_us
from omniloop.imperfection.latency import extra_latency_us
from omniloop.imperfection.service import imperfect
from omniloop.imperfection.settings import ImperfectionSettings, LatencySettings
from tests.orchestrator.harness import FramePolicy, StampRenderer, make_scene

OFF = ImperfectionSettings()
DROPOUT = ImperfectionSettings(actor_dropout={"spells_per_s": 5})
FRAMES = ImperfectionSettings(frames={"loss": 0.5})


class Rich:
    """A service elsewhere, with all that a service may have."""

    capacity = 7
    notes = ("mind the gap",)
    versions = {"there:1": {"name": "rich"}}  # noqa: RUF012

    def __init__(self, spec: object) -> None:
        self.spec = spec
        self.did: list[object] = []

    async def connect(self) -> None:
        self.did.append("connect")
        self.spec = PolicySpec(privileged=frozenset({"actors"}), horizon_s=9.0)

    async def disconnect(self) -> None:
        self.did.append("disconnect")

    def check_scene(self, scene: object) -> None:
        self.did.append(scene)

    def check_cameras(self, cameras: object) -> None:
        self.did.append(cameras)

    async def open(self, session: SessionInfo, cameras: object) -> RichSession:
        return RichSession()


class RichSession:
    def __init__(self) -> None:
        self.anticipated: list[object] = []
        self.closed = False

    def anticipate(self, time_us: int, ego: object, route: object) -> None:
        self.anticipated.append(time_us)

    def facts(self) -> dict[str, object]:
        return {"inner": {"answers": 42}}

    async def close(self) -> None:
        self.closed = True


def info(seed: int = 1) -> SessionInfo:
    scene = make_scene()
    return SessionInfo("line/0", scene, seed, Vehicle(), 0, 0, 6_000_000)


def test_a_service_that_nothing_disturbs_is_returned_as_it_is():
    renderer = as_service("renderer", StampRenderer(8))
    policy = as_service("policy", FramePolicy())
    assert imperfect("renderer", renderer, OFF, 0) is renderer
    assert imperfect("policy", policy, FRAMES, 0) is policy
    for kind in ("traffic", "controller", "ground"):
        assert imperfect(kind, renderer, DROPOUT, 0) is renderer


@pytest.mark.parametrize("kind", ["policy", "renderer"])
def test_everything_else_passes_through(kind):
    rich = Rich(PolicySpec())
    wrapped = imperfect(kind, rich, DROPOUT, 0)
    assert wrapped is not rich
    assert (wrapped.capacity, wrapped.notes, wrapped.versions) == (7, rich.notes, rich.versions)
    asyncio.run(wrapped.connect())
    assert wrapped.spec.horizon_s == 9.0
    wrapped.check_scene("scene")
    wrapped.check_cameras("cameras")
    asyncio.run(wrapped.disconnect())
    assert rich.did == ["connect", "scene", "cameras", "disconnect"]
    assert not hasattr(imperfect(kind, StampRenderer(8), DROPOUT, 0), "connect")
    session = asyncio.run(wrapped.open(info(), ()))
    session.anticipate(5, None, None)
    assert session.anticipated == [5]
    facts = session.facts()
    assert facts["inner"] == {"answers": 42}
    assert facts["imperfection"]["actor_dropout"]["spells"] == 0
    asyncio.run(session.close())
    assert session.closed


def test_a_policy_that_sees_no_actors_has_a_session_of_its_own():
    session = asyncio.run(imperfect("policy", Rich(PolicySpec()), DROPOUT, 0).open(info(), ()))
    assert isinstance(session, RichSession)


def test_a_wrapper_can_be_copied():
    wrapped = imperfect("renderer", Rich(PolicySpec()), DROPOUT, 0)
    assert copy.copy(wrapped).capacity == 7


def test_policy_and_renderer_miss_the_same_actors_though_their_seeds_differ():
    hidden = []
    for kind, seed in (("policy", 11), ("renderer", 12)):
        service = imperfect(kind, Rich(PolicySpec(privileged=frozenset({"actors"}))), DROPOUT, 4)
        session = asyncio.run(service.open(info(seed), ()))
        hidden.append(session._faults["actor_dropout"]._spells.start_us)
    assert len(hidden[0]) > 3
    assert np.array_equal(*hidden)


def test_latency_is_drawn_by_decision_and_stays_in_its_range():
    settings = LatencySettings(extra_us=30_000, jitter_us=50_000)
    drawn = extra_latency_us(settings, 2_000, 3)
    assert drawn.min() >= 30_000
    assert drawn.max() <= 80_000 == settings.longest_us
    assert drawn.mean() == pytest.approx(55_000, rel=0.02)
    assert np.array_equal(drawn[:100], extra_latency_us(settings, 100, 3))
    assert extra_latency_us(LatencySettings(), 100, 3) is None
    fixed = extra_latency_us(LatencySettings(extra_us=7), 3, 3)
    assert fixed.tolist() == [7, 7, 7]


def test_whole_microseconds_reach_both_ends():
    assert set(uniform_us(2, 200, 1, "x").tolist()) == {0, 1, 2}
    assert not uniform_us(0, 50, 1, "x").any()


def test_every_rollout_has_a_seed_of_its_own():
    seeds = {rollout_seed(root, name) for root in (0, 1) for name in ("a/0", "a/1", "b/0")}
    assert len(seeds) == 6
