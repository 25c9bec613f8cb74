"""Policies behind the egodriver protocol see, and answer, what they would in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from omniloop.configs.compose import compose
from omniloop.core.cameras import default_camera
from omniloop.core.contracts import Observation, Plan, PolicySpec
from omniloop.core.errors import ConfigError
from omniloop.core.motion import Trajectory
from omniloop.core.registry import create
from omniloop.core.scene import Scene
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.services.driver_client import RemotePolicy
from omniloop.services.driver_spec import CONTRACT_KEY, SPEC_KEY, spec_from_json, spec_to_json
from omniloop.services.rpc import VERSION_KEY
from omniloop.services.serving import Servicer
from tests.orchestrator.harness import StampRenderer, Watched, drive, make_scene
from tests.services.driver_peers import (
    BehindTheWire,
    ScriptedDriver,
    Shelf,
    Watching,
    everything_declared,
    listening,
    served_policy,
    straight,
)


def drive_there(policy: Any, scene: Scene, *settings: Any, **named: Any) -> Watched:
    """Drive with a policy behind a real server."""
    return drive(scene, BehindTheWire(policy, Shelf(scene)), *settings, **named)


async def connected(client: RemotePolicy) -> RemotePolicy:
    await client.connect()
    await client.disconnect()
    return client


def meeting(*servicers: Servicer, settings: Mapping[str, Any] | None = None) -> PolicySpec:
    """What a client takes a policy to be after first contact with its addresses."""

    async def run() -> PolicySpec:
        async with listening(*servicers) as addresses:
            return (await connected(RemotePolicy(",".join(addresses), **settings or {}))).spec

    return asyncio.run(run())


def looped_back(policy: Any, scene: Scene) -> RemotePolicy:
    client = RemotePolicy("nowhere:0")
    client.loop_back(served_policy(policy, Shelf(scene)))
    return asyncio.run(connected(client))


def assert_same(
    here: Observation, there: Observation, atol: float = 1e-7, acceleration_atol: float = 1e-7
) -> None:
    for name in ("session_id", "scene_id", "seed", "time_us", "next_decision_us", "vehicle"):
        assert getattr(here, name) == getattr(there, name)
    np.testing.assert_array_equal(here.ego.times_us, there.ego.times_us)
    close = {"atol": atol, "rtol": 2e-7}
    np.testing.assert_allclose(there.ego.local_to_rig, here.ego.local_to_rig, **close)
    velocity, acceleration = slice(0, 6), slice(6, 12)
    np.testing.assert_allclose(
        there.ego.dynamics[:, velocity], here.ego.dynamics[:, velocity], **close
    )
    np.testing.assert_allclose(
        there.ego.dynamics[:, acceleration],
        here.ego.dynamics[:, acceleration],
        atol=acceleration_atol,
    )
    assert list(here.frames) == list(there.frames)
    for camera, frames in here.frames.items():
        assert [vars(f) for f in frames] == [vars(f) for f in there.frames[camera]]
    assert (here.route is None) == (there.route is None)
    if here.route is not None and there.route is not None:
        assert here.route.time_us == there.route.time_us
        np.testing.assert_allclose(there.route.waypoints_rig, here.route.waypoints_rig, **close)
    assert_same_actors(here, there)
    assert here.map is there.map
    assert (here.recording is None) == (there.recording is None)
    if here.recording is not None and there.recording is not None:
        np.testing.assert_array_equal(here.recording.poses, there.recording.poses)


def assert_same_actors(here: Observation, there: Observation) -> None:
    assert (here.actors is None) == (there.actors is None)
    if here.actors is None or there.actors is None:
        return
    assert len(here.actors) == len(there.actors)
    for a, b in zip(here.actors, there.actors, strict=True):
        assert (a.id, a.actor_class, a.label, a.is_static) == (b.id, b.actor_class, b.label, b.is_static)  # fmt: skip
        assert a.size_m.tolist() == b.size_m.tolist()
    assert here.actor_motion is not None
    assert there.actor_motion is not None
    for name in ("times_us", "local_to_aabb", "valid"):
        np.testing.assert_array_equal(
            getattr(here.actor_motion, name), getattr(there.actor_motion, name)
        )


@pytest.mark.parametrize(
    "timing",
    [
        {},
        {"postfetch": True, "decisions_per_chunk": 2},
        {"warmup_s": 1.0, "skip": True},
    ],
    ids=["prefetch", "postfetch", "services skipped in warm-up"],
)
def test_a_policy_behind_the_wire_sees_what_it_would_in_this_process(
    timing: dict[str, Any],
) -> None:
    camera = default_camera()
    other = replace(camera, id="other")
    scene = make_scene(cameras=(camera, other))
    spec = everything_declared((other.id,))
    here, there = Watching(spec), Watching(spec)
    ids = (camera.id, other.id)
    drive(scene, here, StampRenderer(8, cameras=ids), **timing)
    drive_there(there, scene, StampRenderer(8, cameras=ids), **timing)
    assert len(here.seen) == len(there.seen) > 10
    for a, b in zip(here.seen, there.seen, strict=True):
        assert_same(a, b)
    (session_here, _), (session_there, cameras) = here.opened[0], there.opened[0]
    assert [c.id for c in cameras] == ["other"]
    point = np.array([0.7, -0.2, 1.0])
    np.testing.assert_allclose(
        cameras[0].model.project(point)[0], other.model.project(point)[0], rtol=1e-6
    )
    np.testing.assert_allclose(cameras[0].rig_to_camera, other.rig_to_camera, atol=1e-6)
    for name in ("session_id", "seed", "vehicle", "start_us", "handover_us", "end_us"):
        assert getattr(session_here, name) == getattr(session_there, name)
    assert there.closed == 1


def test_a_policy_that_is_told_everything_is_told_it_behind_the_wire_too() -> None:
    spec = PolicySpec(cameras=None, horizon_s=4.0, everything=True)
    here, there = Watching(spec), Watching(spec)
    scene = make_scene(cameras=(default_camera(),))
    drive(scene, here, StampRenderer(8))
    drive_there(there, scene, StampRenderer(8))
    assert len(here.seen[1].frames[default_camera().id]) == 8
    for a, b in zip(here.seen, there.seen, strict=True):
        assert_same(a, b)


class _Behind:
    """Lets another policy plan, and keeps what it saw."""

    def __init__(self, name: str) -> None:
        self._inner = create("policy", name, {})
        self.spec = self._inner.spec
        self.seen: list[Observation] = []

    def open(self, session: Any, cameras: Any) -> Any:
        opener = getattr(self._inner, "open", None)
        self._session = self._inner if opener is None else opener(session, cameras)
        return self

    def plan(self, observation: Observation) -> Plan:
        self.seen.append(observation)
        plan: Plan = self._session.plan(observation)
        return plan


@pytest.mark.parametrize("name", ["route_follower", "log_replay"])
def test_a_built_in_policy_drives_behind_the_wire_as_it_does_here(name: str) -> None:
    scene = EmbeddedScenes().load("cut_in")
    here, there = _Behind(name), _Behind(name)
    driven_here = drive(scene, here, duration_s=2.0)
    driven_there = drive_there(there, scene, duration_s=2.0)
    assert len(here.seen) >= 20
    for a, b in zip(here.seen, there.seen, strict=True):
        # Accelerations are second differences of positions that float32 holds to 1e-5 m.
        assert_same(a, b, 1e-3, acceleration_atol=3e-2)
    np.testing.assert_allclose(
        driven_there.record.ego.local_to_rig, driven_here.record.ego.local_to_rig, atol=1e-3
    )
    said = [[d.plan.reasoning for d in w.record.decisions] for w in (driven_here, driven_there)]
    assert said[0] == said[1]


@pytest.mark.parametrize("name", ["route_follower", "log_replay"])
def test_the_same_messages_without_a_socket_give_the_same_bytes(name: str) -> None:
    scene = EmbeddedScenes().load("curve")
    policies = [create("policy", name, {}) for _ in range(3)]
    looped = drive(scene, looped_back(policies[0], scene), duration_s=2.0).record
    remote = drive_there(policies[1], scene, duration_s=2.0).record
    here = drive(scene, policies[2], duration_s=2.0).record
    assert looped.ego.local_to_rig.tobytes() == remote.ego.local_to_rig.tobytes()
    assert looped.ego.local_to_rig.tobytes() != here.ego.local_to_rig.tobytes()
    assert looped.privileged == here.privileged != ()


def test_reasoning_samples_and_the_wish_to_end_come_back() -> None:
    def answer(observation: Observation) -> Plan:
        plan = straight(observation)
        late = observation.time_us > 1_000_000
        return replace(
            plan, samples=(plan.local_to_rig,), reasoning="gäbe \ud800 acht", terminate=late
        )

    watched = drive_there(Watching(answer=answer), make_scene())
    assert watched.record.stopped_by == "policy"
    last = watched.record.decisions[-1].plan
    assert last.reasoning == "gäbe \ud800 acht"
    assert len(last.samples) == 1
    np.testing.assert_array_equal(last.samples[0].poses, last.local_to_rig.poses)


def test_a_policy_that_is_not_ready_yet_answers_an_empty_plan() -> None:
    def answer(observation: Observation) -> Plan:
        return straight(observation) if observation.time_us > 900_000 else Plan()

    watched = drive_there(Watching(answer=answer), make_scene(), warmup_s=1.0)
    lengths = [len(d.plan.local_to_rig) for d in watched.record.decisions]
    assert lengths[0] == 0 < lengths[-1]


# ----------------------------------------------------------------------------- declarations


def test_a_declaration_survives_the_way_there_and_back() -> None:
    for spec in (PolicySpec(), everything_declared(("a", "b")), PolicySpec(None, rate_hz=2.5)):
        text = spec_to_json(spec)
        assert text.isascii()
        assert spec_from_json(text) == spec
    assert spec_from_json(spec_to_json(PolicySpec())[:-1] + ', "newer": 1}') == PolicySpec()
    for text in ("{}", "[]", "null", "{", spec_to_json(PolicySpec()).replace("count", "size")):
        with pytest.raises(ValueError, match="is no policy's declaration"):
            spec_from_json(text)


def test_what_a_served_policy_declares_is_taken_over_and_settings_win() -> None:
    spec = replace(everything_declared(("front",)), rate_hz=5.0, route=False)
    served = served_policy(Watching(spec))
    assert meeting(served) == replace(spec, everything=True)
    given = {
        "cameras": "a, b", "images_count": 7, "ego_history_s": 0.0, "horizon_s": 9.0, "route": True,
    }  # fmt: skip
    assert meeting(served, settings=given) == replace(
        spec, everything=True, cameras=("a", "b"), images=replace(spec.images, count=7),
        ego_history_s=0.0, horizon_s=9.0, route=True,
    )  # fmt: skip


def test_a_driver_that_declares_nothing_gets_every_frame_and_a_route() -> None:
    assert meeting(ScriptedDriver()) == PolicySpec(cameras=None, everything=True)


def test_addresses_that_serve_different_policies_are_refused() -> None:
    served = [served_policy(Watching(PolicySpec(rate_hz=hz))) for hz in (1.0, 2.0)]
    with pytest.raises(ConfigError, match=r"127.*and 127.* serve different policies"):
        meeting(*served)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({CONTRACT_KEY: "9"}, r"contract revision 9 is not one of \(1, 2\)"),
        ({CONTRACT_KEY: "two"}, "'two' is not a revision"),
        ({VERSION_KEY: "9.9", SPEC_KEY: "{}"}, "no policy's declaration"),
    ],
)
def test_a_driver_of_an_unknown_version_is_refused(metadata: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        meeting(ScriptedDriver(metadata=metadata))
    assert caught.value.what.startswith("the driver at 127.0.0.1:")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"camera_axes": "up"}, "policy.camera_axes"),
        ({"images_count": 0}, "policy.images_count"),
        ({"images_count": 1.5}, "policy.images_count"),
        ({"images_rate_hz": 0}, "policy.images_rate_hz"),
        ({"ego_history_s": -1}, "policy.ego_history_s"),
        ({"rate_hz": True}, "policy.rate_hz"),
        ({"horizon_s": float("nan")}, "policy.horizon_s"),
        ({"timeouts_s": {"plan": 3}}, "policy.timeouts_s.plan"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RemotePolicy("127.0.0.1:1", **settings)
    assert caught.value.where == key
    assert caught.value.remedy


def test_settings_of_the_command_line_arrive() -> None:
    config = compose(
        ["policy=remote", "policy.address=127.0.0.1:1,127.0.0.1:2", "policy.cameras=[a,b]",
         "policy.sessions=[1,2]", "policy.rate_hz=2.5", "policy.route=false", "policy.timeouts_s.drive=3"]
    )  # fmt: skip
    policy = create("policy", config.policy.name, config.policy.arguments)
    assert (policy.spec.cameras, policy.spec.rate_hz, policy.spec.route) == (("a", "b"), 2.5, False)
    assert policy.capacity == 3


def test_a_plan_of_float32_numbers_comes_back_bit_for_bit() -> None:
    times = np.array([0, 100_000, 1_000_000], dtype=np.int64)
    poses = np.zeros((3, 7))
    poses[:, 0], poses[:, 6] = [0.0, 0.1, 0.7], 1.0
    exact = np.float32(poses).astype(np.float64)

    def answer(observation: Observation) -> Plan:
        return Plan(Trajectory(observation.time_us + times, exact))

    scene = make_scene()
    watched = drive_there(Watching(answer=answer), scene, duration_s=0.1)
    plan = watched.record.decisions[0].plan.local_to_rig
    assert plan.poses.tobytes() == exact.tobytes()
