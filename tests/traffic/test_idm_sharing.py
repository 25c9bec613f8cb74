import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from omniloop.bench.traffic import ego_motion, simulate
from omniloop.core.contracts import SessionInfo, TrafficRequest
from omniloop.core.motion import ActorMotion
from omniloop.core.replay import RecordedActors
from omniloop.core.scene import Scene, Vehicle
from omniloop.scenes.embedded import synthetic_scene
from omniloop.traffic.idm import IdmTraffic


def info(scene: Scene, handover_us: int = 0, vehicle: Vehicle | None = None) -> SessionInfo:
    vehicle = scene.vehicle if vehicle is None else vehicle
    return SessionInfo("s", scene, 0, vehicle, scene.start_us, handover_us, scene.end_us)


def stepped(scene: Scene, session, how: str) -> list[ActorMotion]:
    """Answers to one request after the other, as an iterator, so that sessions can take turns."""
    times = np.arange(scene.start_us, scene.end_us + 1, 500_000, dtype=np.int64)
    fine = np.arange(scene.start_us, scene.end_us + 1, 100_000, dtype=np.int64)
    ego, current = ego_motion(scene, how, fine), RecordedActors(scene).at(times[:1])
    for now, until in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        answer = session.step(TrafficRequest(now, until, ego.between(now, until), current))
        yield answer
        current = ActorMotion(
            answer.times_us[-1:], answer.local_to_aabb[:, -1:], answer.valid[:, -1:]
        )


def test_sessions_that_take_turns_do_not_touch_each_other():
    scene, alone = synthetic_scene(20, 12.0), {}
    for how in ("brakes", "slower", "recorded"):
        alone[how] = list(stepped(scene, IdmTraffic().open(info(scene)), how))
    traffic = IdmTraffic()
    turns = {how: stepped(scene, traffic.open(info(scene)), how) for how in alone}
    sessions = {how: [] for how in alone}
    for _ in alone["brakes"]:
        for how, answers in turns.items():
            sessions[how].append(next(answers))
    for how, answers in alone.items():
        for a, b in zip(answers, sessions[how], strict=True):
            assert a.local_to_aabb.tobytes() == b.local_to_aabb.tobytes()
    again = list(stepped(scene, traffic.open(info(scene)), "brakes"))
    assert again[-1].local_to_aabb.tobytes() == alone["brakes"][-1].local_to_aabb.tobytes()


def test_sessions_of_one_scene_share_what_is_worked_out_unless_they_differ():
    scene, traffic = synthetic_scene(5, 4.0), IdmTraffic()
    first = traffic.open(info(scene))._stage
    assert traffic.open(info(scene))._stage is first
    assert traffic.open(info(scene, 500_000))._stage is not first
    wider = replace(scene.vehicle, width_m=2.5)
    assert traffic.open(info(scene, vehicle=wider))._stage is not first
    assert traffic.open(info(synthetic_scene(5, 4.0)))._stage is not first


def test_many_handovers_of_a_scene_do_not_pile_up():
    scene, traffic = synthetic_scene(2, 4.0), IdmTraffic()
    stages = [weakref.ref(traffic.open(info(scene, k * 100_000))._stage) for k in range(10)]
    gc.collect()
    assert sum(stage() is not None for stage in stages) == 4
    assert stages[-1]() is not None


def test_a_scene_that_nobody_holds_is_freed():
    scene, traffic = synthetic_scene(5, 4.0), IdmTraffic()
    simulate(scene, traffic, "brakes", 500_000)
    held, stage = weakref.ref(scene), weakref.ref(traffic.open(info(scene))._stage)
    del scene
    gc.collect()
    assert held() is None
    assert stage() is None


def test_threads_that_open_one_scene_at_once_get_one_stage():
    scene, traffic = synthetic_scene(10, 4.0), IdmTraffic()
    with ThreadPoolExecutor(4) as pool:
        stages = list(pool.map(lambda _: traffic.open(info(scene))._stage, range(8)))
    assert all(stage is stages[0] for stage in stages)
