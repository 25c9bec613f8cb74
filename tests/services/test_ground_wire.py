"""Grounds behind the physics protocol: the same answers as in this process."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.contracts import GroundRequest, GroundResult, SessionInfo
from omniloop.core.errors import SceneError, ServiceError
from omniloop.core.local import as_service
from omniloop.core.registry import create
from omniloop.core.scene import Scene
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.services.ground_client import RemoteGround
from omniloop.services.ground_server import PhysicsServicer
from omniloop.services.protos import physics_pb2 as pb
from omniloop.services.serving import Listening, Servicer, start_server
from omniloop.services.shelf import SceneShelf

SIZE = np.array([4.0, 2.0, 1.5])


def session_of(scene: Scene) -> SessionInfo:
    return SessionInfo("s/0", scene, 0, scene.vehicle, scene.start_us, scene.start_us, scene.end_us)


def request_of(boxes: np.ndarray, is_ego: bool) -> GroundRequest:
    times = np.arange(len(boxes), dtype=np.int64) * 50_000 + 150_000
    sizes = np.broadcast_to(SIZE, (len(boxes), 3))
    return GroundRequest(boxes, sizes, times, 100_000, 200_000, is_ego=is_ego)


def over_the_wire(servicer: Servicer, scene: Scene, request: GroundRequest) -> GroundResult:
    async def run() -> GroundResult:
        server, port = await start_server([servicer], Listening())
        client = RemoteGround(f"127.0.0.1:{port}")
        try:
            await client.connect()
            client.check_scene(scene)
            session = await client.open(session_of(scene))
            return await session.correct(request)
        finally:
            await client.disconnect()
            await server.stop(None)
            await servicer.aclose()

    return asyncio.run(run())


def served(name: str) -> PhysicsServicer:
    return PhysicsServicer(
        as_service("ground", create("ground", name, {})), SceneShelf(EmbeddedScenes())
    )


@pytest.mark.parametrize("is_ego", [True, False])
def test_a_served_ground_answers_as_it_does_in_this_process(is_ego: bool) -> None:
    scene = EmbeddedScenes().load("straight_road")
    boxes = np.stack([geometry.pose(x, 1.0, 0.4, 0.1) for x in (0.0, 5.0)])
    request = request_of(boxes, is_ego)
    here = create("ground", "flat", {}).open(session_of(scene)).correct(request)
    there = over_the_wire(served("flat"), scene, request)
    np.testing.assert_allclose(there.local_to_aabb, here.local_to_aabb, atol=1e-6)
    assert there.status.tolist() == here.status.tolist()


def test_boxes_that_stay_where_they_are_come_back_themselves() -> None:
    class Still:
        def open(self, session: SessionInfo) -> Still:
            return self

        def correct(self, request: GroundRequest) -> GroundResult:
            return GroundResult(request.local_to_aabb, np.zeros(len(request.local_to_aabb), int))

    servicer = PhysicsServicer(as_service("ground", Still()), SceneShelf(EmbeddedScenes()))
    request = request_of(np.stack([geometry.pose(1 / 3, yaw_rad=0.3)]), False)
    result = over_the_wire(servicer, EmbeddedScenes().load("straight_road"), request)
    assert result.local_to_aabb is request.local_to_aabb


def test_a_scene_that_is_not_served_is_refused_before_the_start() -> None:
    scene = EmbeddedScenes().load("straight_road")
    other = Scene("elsewhere", "test", scene.ego)
    with pytest.raises(SceneError, match="does not serve scene 'elsewhere'"):
        over_the_wire(served("flat"), other, request_of(scene.ego.poses[:1], True))


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (pb.PhysicsGroundIntersectionReturn(), "answered 0 poses and 0 statuses for 1 boxes"),
        (
            pb.PhysicsGroundIntersectionReturn(other_poses=[{"status": 0}]),
            "answered a pose that is none: quaternion",
        ),
        (
            pb.PhysicsGroundIntersectionReturn(
                other_poses=[{"status": 0, "pose": {"vec": {"x": float("nan")}, "quat": {"w": 1}}}]
            ),
            "not finite",
        ),
    ],
)
def test_an_answer_that_is_none_is_named(reply: object, said: str) -> None:
    class Wrong(PhysicsServicer):
        async def ground_intersection(self, request: object, caller: object) -> object:
            return reply

    scene = EmbeddedScenes().load("straight_road")
    servicer = Wrong(
        as_service("ground", create("ground", "flat", {})), SceneShelf(EmbeddedScenes())
    )
    with pytest.raises(ServiceError, match=said) as caught:
        over_the_wire(servicer, scene, request_of(scene.ego.poses[:1], False))
    assert "ground.ground_intersection at 100000 us, 127.0.0.1:" in caught.value.where
