"""What a session tells of itself reaches the result from wherever it runs."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from omniloop.core.local import as_service
from omniloop.core.registry import create
from omniloop.services.protos import traffic_pb2 as pb
from omniloop.services.roles import looped_back
from omniloop.services.rpc import methods_of
from omniloop.services.serving import Listening, start_server
from omniloop.services.shelf import SceneShelf
from omniloop.services.traffic_client import RemoteTraffic
from omniloop.services.traffic_server import TrafficServicer
from tests.orchestrator.harness import ReplayTraffic, drive, make_scene
from tests.services.test_traffic_wire import session_of


class Counting(ReplayTraffic):
    """Counts its steps."""

    told: object = None

    def open(self, session):
        self.steps = 0
        return super().open(session)

    def step(self, request):
        self.steps += 1
        return super().step(request)

    def facts(self):
        return {"steps": self.steps, "why": self.told}


def test_facts_of_a_session_in_this_process_are_kept_as_it_closes():
    watched = drive(make_scene(3.0), traffic=Counting())
    assert watched.call.facts == {"traffic": {"steps": watched.schedule.n_decisions, "why": None}}


def test_sessions_without_facts_tell_nothing():
    assert drive(make_scene(3.0)).call.facts == {}


def scenes():
    class One:
        def ids(self):
            return ["line"]

        def load(self, scene_id):
            return make_scene(3.0)

    return SceneShelf(One())


@pytest.mark.parametrize("told", ["ü", None, ["a", "b"]])
def test_facts_come_back_from_the_wire(told):
    plugin = Counting()
    plugin.told = told
    remote = looped_back("traffic", as_service("traffic", plugin), scenes())
    watched = drive(make_scene(3.0), traffic=remote)
    assert watched.call.facts["traffic"] == {"steps": watched.schedule.n_decisions, "why": told}


@pytest.mark.parametrize("told", ["x" * 100_000, object()])
def test_facts_that_the_wire_cannot_hold_do_not_fail_a_rollout(told):
    plugin = Counting()
    plugin.told = told
    remote = looped_back("traffic", as_service("traffic", plugin), scenes())
    watched = drive(make_scene(3.0), traffic=remote)
    if isinstance(told, str):
        assert "do not fit the wire" in watched.call.facts["traffic"]["left_out"]
    else:
        assert watched.call.facts == {}


def test_a_server_of_ours_tells_facts_to_our_clients_alone():
    servicer = TrafficServicer(as_service("traffic", Counting()), scenes())

    async def run():
        server, port = await start_server([servicer], Listening())
        client = RemoteTraffic(f"127.0.0.1:{port}")
        try:
            await client.connect()
            opened = await client.open(session_of(make_scene(3.0)))
            await opened.close()
            method = methods_of(servicer.service)["close_session"]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = channel.unary_unary(
                    method.path, method.request.SerializeToString, method.reply.FromString
                )(pb.TrafficSessionCloseRequest(session_uuid="nobody"))
                await call
                return opened.facts(), dict(await call.initial_metadata())
        finally:
            await client.disconnect()
            await server.stop(None)
            await servicer.aclose()

    facts, metadata = asyncio.run(run())
    assert facts == {"steps": 0, "why": None}
    assert "omniloop-session-facts" not in metadata


def test_a_ground_that_is_elsewhere_is_counted_by_its_client():
    remote = looped_back("ground", as_service("ground", create("ground", "flat", {})), scenes())
    watched = drive(make_scene(3.0), ground=remote, warmup_s=1.0)
    here = drive(make_scene(3.0), ground=create("ground", "flat", {}), warmup_s=1.0)
    assert watched.call.facts == here.call.facts
    assert watched.call.facts["ground"]["ego"]["SUCCESSFUL_UPDATE"] > 20
