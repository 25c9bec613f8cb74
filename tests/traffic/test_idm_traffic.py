import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.bench.traffic import ego_motion, overlapping_pairs, simulate
from omniloop.core import geometry
from omniloop.core.contracts import SessionInfo, TrafficRequest
from omniloop.core.errors import ConfigError
from omniloop.core.motion import ActorMotion, Trajectory
from omniloop.core.registry import create
from omniloop.core.replay import RecordedActors
from omniloop.core.scene import (
    Actor,
    ActorClass,
    Area,
    Lane,
    Scene,
    Track,
    TrafficLight,
    VectorMap,
)
from omniloop.scenes.embedded import EmbeddedScenes, synthetic_scene
from omniloop.traffic.corridors import corridors_of
from omniloop.traffic.ego_track import EgoTrack
from omniloop.traffic.idm import IdmTraffic
from omniloop.traffic.leads import leads_among
from omniloop.traffic.parameters import parameter_set
from omniloop.traffic.stage import buffer_m

S = 1_000_000
EMBEDDED = EmbeddedScenes()
CAR = np.array([4.5, 1.9, 1.6])
PERSON = np.array([0.6, 0.6, 1.8])


def lane(name: str, y: float, **more) -> Lane:
    x = np.arange(-200.0, 601.0, 5.0)
    return Lane(name, np.stack([x, np.full_like(x, y), 0 * x], axis=1), **more)


def track(name: str, x, y, *, size=CAR, kind=ActorClass.CAR, end=10 * S, start=0, **more) -> Track:
    """A track at 10 Hz; x and y are functions of seconds."""
    times = np.arange(start, end + 1, 100_000, dtype=np.int64)
    t = times / S
    xy = np.stack([x(t), y(t)], axis=1)
    step = np.diff(xy, axis=0, append=2 * xy[-1:] - xy[-2:-1])
    yaw = np.arctan2(step[:, 1], step[:, 0])
    z = np.full(len(t), size[2] / 2)
    poses = geometry.poses_from_xyz_yaw(np.column_stack([xy, z]), yaw)
    actor = Actor(name, kind, kind.name.lower(), size, **more)
    return Track(actor, times, poses, np.ones(len(times), dtype=bool))


def world(*tracks: Track, ego_mps: float = 10.0, lanes=None, **parts) -> Scene:
    times = np.arange(0, 10 * S + 1, 100_000, dtype=np.int64)
    xyz = np.zeros((len(times), 3))
    xyz[:, 0] = ego_mps * times / S
    ego = Trajectory(times, geometry.poses_from_xyz_yaw(xyz, np.zeros(len(times))))
    lanes = (lane("middle", 0.0),) if lanes is None else lanes
    return Scene("made", "test", ego, tracks=tracks, map=VectorMap(lanes=lanes, **parts))


def at(value: float):
    return lambda t: np.full_like(t, value)


def speeds(motion: ActorMotion, who: int) -> np.ndarray:
    step = np.diff(motion.local_to_aabb[who, :, :2], axis=0)
    return np.linalg.norm(step, axis=1) / np.diff(motion.times_us) * 1e6


def driven(scene: Scene, how: str = "recorded", params: str = "omniloop", step_us: int = 100_000):
    motion, ego, session, _ = simulate(scene, IdmTraffic(params), how, step_us)
    return motion, ego, session


@pytest.mark.parametrize("name", EMBEDDED.ids())
def test_with_ego_as_recorded_everybody_does_what_was_recorded(name):
    scene = EMBEDDED.load(name)
    motion, _, session = driven(scene)
    recorded = RecordedActors(scene).at(motion.times_us)
    assert np.array_equal(motion.valid, recorded.valid)
    assert np.array_equal(motion.local_to_aabb, recorded.local_to_aabb)
    assert session.facts()["idm"] > 0


@pytest.mark.parametrize("name", EMBEDDED.ids())
@pytest.mark.parametrize("how", ["brakes", "slower"])
def test_traffic_meets_neither_itself_nor_an_ego_that_slows_down(name, how):
    scene = EMBEDDED.load(name)
    motion, ego, _ = driven(scene, how)
    assert overlapping_pairs(motion, scene.actor_sizes_m, ego, scene.vehicle.size_m) == {}


@given(
    name=st.sampled_from(EMBEDDED.ids()),
    params=st.sampled_from(["omniloop", "nuplan", "waymax", "highway_env"]),
    how=st.sampled_from(["recorded", "brakes", "slower"]),
    tenths=st.integers(0, 60),
)
@settings(max_examples=15, deadline=None)
def test_handover_is_continuous_in_position_heading_and_speed(name, params, how, tenths):
    scene = EMBEDDED.load(name)
    check_continuous(scene, params, how, scene.start_us + tenths * 100_000)


def check_continuous(
    scene: Scene, params: str, how: str, handover_us: int, noise_mps: float = 0.35
) -> None:
    times = np.arange(scene.start_us, handover_us + 500_001, 100_000, dtype=np.int64)
    ego = ego_motion(scene, how, times)
    info = SessionInfo("s/0", scene, 0, scene.vehicle, scene.start_us, handover_us, int(times[-1]))
    session = IdmTraffic(params).open(info)
    hardest = max(parameter_set(params).idm.hardest_brake_mps2, 9.0)
    recorded = RecordedActors(scene)
    current, before = recorded.at(np.array([handover_us])), recorded.at([handover_us - 100_000])
    lasting = current.valid[:, 0] & before.valid[:, 0]
    last = (
        np.linalg.norm(current.local_to_aabb[:, 0, :2] - before.local_to_aabb[:, 0, :2], axis=1)
        / 0.1
    )
    session_cast = session._stage.cast
    for now, target in itertools.pairwise(times[times >= handover_us].tolist()):
        answer = session.step(TrafficRequest(now, target, ego.between(now, target), current))
        stays = lasting & answer.valid[:, 0] & session_cast.driven
        step = answer.local_to_aabb[:, 0, :2] - current.local_to_aabb[:, 0, :2]
        speed = np.linalg.norm(step, axis=1) / 0.1
        # Within the set's limits, and what a recording at 10 Hz does itself.
        changed = (speed - last)[stays]
        assert np.all(changed <= noise_mps + 0.1 * 3.0)
        assert np.all(changed >= -noise_mps - 0.1 * hardest)
        turn = geometry.wrap_rad(
            geometry.yaw_rad(answer.local_to_aabb[:, 0])
            - geometry.yaw_rad(current.local_to_aabb[:, 0])
        )
        assert np.all(np.abs(turn)[stays] <= noise_mps / 7 + 0.5 * speed[stays] * 0.1)
        current, last, lasting = answer, speed, lasting & answer.valid[:, 0]


def test_handover_is_continuous_on_real_recordings(shared_data):
    from omniloop.scenes.av2 import Av2Scenes
    from omniloop.scenes.commonroad import CommonRoadScenes
    from omniloop.scenes.nuscenes import NuScenesScenes

    sources = (
        (Av2Scenes(str(shared_data / "av2")), 1),
        (NuScenesScenes(str(shared_data / "nuscenes_mini")), 3),
        (CommonRoadScenes(str(shared_data / "commonroad_ngsim")), 60),
    )
    for source, which in sources:
        scene = source.load(source.ids()[which])
        for params, how in (("omniloop", "slower"), ("nuplan", "recorded")):
            check_continuous(scene, params, how, scene.start_us + 1_500_000, noise_mps=1.5)


@given(cuts=st.lists(st.integers(1, 400), min_size=1, max_size=8))
@settings(max_examples=15, deadline=None)
def test_states_are_at_most_100_ms_apart_and_end_where_asked(cuts):
    scene = EMBEDDED.load("cut_in")
    times = np.cumsum([0, *cuts]) * 1000 + scene.start_us
    ego = ego_motion(scene, "slower", times.astype(np.int64))
    info = SessionInfo("s", scene, 0, scene.vehicle, scene.start_us, scene.start_us, scene.end_us)
    session = IdmTraffic().open(info)
    current = RecordedActors(scene).at(times[:1])
    for now, target in itertools.pairwise(times.tolist()):
        answer = session.step(TrafficRequest(now, target, ego.between(now, target), current))
        assert answer.times_us[-1] == target
        assert np.diff(np.append(now, answer.times_us)).max() <= 100_000
        assert np.isfinite(answer.local_to_aabb).all()
        current = ActorMotion(
            answer.times_us[-1:], answer.local_to_aabb[:, -1:], answer.valid[:, -1:]
        )


def test_the_same_motion_whatever_the_interval_and_whoever_else_is_simulated():
    scene = EMBEDDED.load("straight_road")
    once, _, _ = driven(scene, "brakes", step_us=100_000)
    driven(EMBEDDED.load("junction"), "brakes")
    again, _, _ = driven(scene, "brakes", step_us=100_000)
    longer, _, _ = driven(scene, "brakes", step_us=500_000)
    assert once.local_to_aabb.tobytes() == again.local_to_aabb.tobytes()
    shared = np.isin(once.times_us, longer.times_us)
    assert np.allclose(once.local_to_aabb[:, shared], longer.local_to_aabb, atol=1e-9)


def test_a_follower_stands_behind_an_ego_that_stops():
    behind = track("behind", lambda t: -15.0 + 10 * t, at(0.0))
    motion, ego, _ = driven(world(behind), "brakes")
    gap = ego.poses[-1, 0] - motion.local_to_aabb[0, -1, 0] - 2.25 - 5.393 / 2
    assert speeds(motion, 0)[-1] < 0.1
    assert 0.5 < gap < 4.0


def test_a_parked_car_beside_the_lane_brakes_nobody():
    behind = track("behind", lambda t: -60.0 + 10 * t, at(0.0))
    parked = track("parked", at(20.0), at(2.3), is_static=True)
    motion, _, _ = driven(world(behind, parked), "slower", "nuplan")
    assert speeds(motion, 0)[:40].min() > 9.0


def test_a_scripted_actor_does_as_scripted_though_ego_is_in_its_way():
    behind = track("behind", lambda t: -15.0 + 10 * t, at(0.0), is_scripted=True)
    scene = world(behind)
    motion, _, session = driven(scene, "brakes")
    assert np.array_equal(
        motion.local_to_aabb, RecordedActors(scene).at(motion.times_us).local_to_aabb
    )
    facts = session.facts()
    assert (facts["scripted"], facts["static"], facts["log_replay"]) == (1, 0, 0)


def test_parked_actors_are_told_from_vehicles_replayed_for_want_of_a_lane():
    parked = track("parked", at(20.0), at(5.0), is_static=True)
    away = track("in the field", lambda t: -15.0 + 10 * t, at(30.0))
    facts = driven(world(parked, away))[2].facts()
    assert (facts["scripted"], facts["static"], facts["log_replay"]) == (0, 1, 1)
    assert facts["no_lane"] == ["in the field"]


def test_a_vehicle_without_a_lane_is_replayed_and_named():
    away = track("in the field", lambda t: -15.0 + 10 * t, at(30.0))
    beside = track("on the lane", lambda t: -40.0 + 10 * t, at(0.0))
    _, _, session = driven(world(away, beside), "brakes")
    assert session.facts()["no_lane"] == ["in the field"]
    assert session.facts()["idm"] == 1


def test_without_a_map_all_vehicles_are_replayed():
    behind = track("behind", lambda t: -15.0 + 10 * t, at(0.0))
    scene = world(behind, lanes=())
    motion, _, session = driven(scene, "brakes")
    assert session.facts()["no_lane"] == ["behind"]
    assert np.array_equal(motion.valid, RecordedActors(scene).at(motion.times_us).valid)


def test_a_pedestrian_waits_for_an_ego_that_blocks_its_way_and_goes_on_afterwards():
    # Ego was recorded to be past x = 40 when the pedestrian comes; driving slower it is not.
    walks = track(
        "walks", at(46.5), lambda t: -10.5 + 1.4 * t, size=PERSON, kind=ActorClass.PEDESTRIAN
    )
    scene = world(walks)
    recorded = RecordedActors(scene)
    motion, ego, session = driven(scene, "slower")
    assert overlapping_pairs(motion, scene.actor_sizes_m, ego, scene.vehicle.size_m) == {}
    late = motion.local_to_aabb[0, :, 1] < recorded.at(motion.times_us).local_to_aabb[0, :, 1] - 0.5
    assert late.any()
    assert motion.local_to_aabb[0, -1, 1] > 1.0
    assert session.facts()["kept_path"] == 1


def test_who_finds_ego_on_its_place_comes_later_and_is_counted():
    comes = track("comes", lambda t: 40.0 + 5 * (t - 6), at(0.0), start=6 * S)
    scene = world(comes)
    motion, ego, session = driven(scene, "slower")
    pairs = overlapping_pairs(motion, scene.actor_sizes_m, ego, scene.vehicle.size_m)
    first = int(motion.times_us[motion.valid[0].argmax()])
    assert pairs == {}
    assert first > 6 * S
    assert session.facts()["late_entries"] == 1


def test_who_finds_ego_on_its_place_to_the_end_never_comes_and_is_counted():
    comes = track("comes", lambda t: 35.0 + 5 * (t - 6), at(0.0), start=6 * S)
    motion, _, session = driven(world(comes), "brakes")
    assert not motion.valid.any()
    assert session.facts()["refused_entries"] == 1


def test_of_two_that_cross_the_one_recorded_first_keeps_its_priority():
    def crossing(scene, how="recorded", params="nuplan"):
        motion, _, _ = driven(scene, how, params)
        assert overlapping_pairs(motion, scene.actor_sizes_m) == {}
        return motion

    lanes = (
        lane("along", 20.0),
        Lane("across", np.array([[60.0, y, 0.0] for y in range(-100, 160, 5)])),
    )
    first = track("first", lambda t: 5.0 + 10 * t, at(20.0))
    second = track("second", at(60.0), lambda t: -42.0 + 9 * t)
    motion = crossing(world(first, second, lanes=lanes, ego_mps=1.0))
    at_zone = motion.times_us[np.argmax(motion.local_to_aabb[0, :, 0] > 60.0)]
    over = motion.times_us[np.argmax(motion.local_to_aabb[1, :, 1] > 20.0)]
    assert at_zone < over


def test_a_red_light_stops_those_who_come_later_than_recorded():
    lit = (lane("middle", 0.0), lane("other", 50.0))
    before = Lane("before", np.array([[-200.0, 0.0, 0.0], [55.0, 0.0, 0.0]]), successors=("after",))
    after = Lane("after", np.array([[55.0, 0.0, 0.0], [400.0, 0.0, 0.0]]))
    light = TrafficLight(
        "light", geometry.pose(60, 4, 5), np.ones(3), ("before",),
        np.array([0, 8 * S]), ("green", "red"),
    )  # fmt: skip
    # Ego drives ahead; with it slower the follower comes to the line when it is red.
    follows = track("follows", lambda t: -20.0 + 10 * t, at(0.0))
    scene = world(follows, lanes=(before, after, lit[1]), lights=(light,))
    motion, _, session = driven(scene, "slower")
    front = motion.local_to_aabb[0, -1, 0] + 2.25
    assert session.facts()["lights_not_believed"] == []
    assert front < 55.0
    assert speeds(motion, 0)[-1] < 3.0


def test_a_light_that_a_recorded_car_passed_on_red_is_not_believed():
    before = Lane("before", np.array([[-200.0, 0.0, 0.0], [55.0, 0.0, 0.0]]), successors=("after",))
    after = Lane("after", np.array([[55.0, 0.0, 0.0], [400.0, 0.0, 0.0]]))
    light = TrafficLight(
        "light", geometry.pose(60, 4, 5), np.ones(3), ("before",), np.array([0]), ("red",)
    )
    follows = track("follows", lambda t: -20.0 + 10 * t, at(0.0))
    _, _, session = driven(world(follows, lanes=(before, after), lights=(light,)), "slower")
    assert session.facts()["lights_not_believed"] == ["light"]


def test_a_crosswalk_in_use_is_waited_for():
    area = Area("zebra", np.array([[58.0, -6, 0], [62.0, -6, 0], [62.0, 6, 0], [58.0, 6, 0]]))
    stands = track(
        "stands", at(60.0), lambda t: 4.5 + 0.04 * t, size=PERSON, kind=ActorClass.PEDESTRIAN
    )
    comes = track("comes", lambda t: -20.0 + 10 * t, at(0.0))
    scene = world(comes, stands, crosswalks=(area,), ego_mps=1.0, lanes=(lane("middle", 0.0),))
    motion, _, _ = driven(scene, "recorded", "nuplan")
    assert motion.local_to_aabb[0, -1, 0] + 2.25 < 0.0 + 58.0


def test_cars_behind_a_braking_ego_change_lanes_smoothly_and_meet_nobody():
    scene = synthetic_scene(20, 12.0)
    motion, ego, session = driven(scene, "brakes")
    assert session.facts()["lane_changes"] > 0
    assert overlapping_pairs(motion, scene.actor_sizes_m, ego, scene.vehicle.size_m) == {}
    both = motion.valid[:, 1:] & motion.valid[:, :-1]
    aside = np.abs(np.diff(motion.local_to_aabb[:, :, 1], axis=1)) / 0.1
    turn = np.abs(np.diff(geometry.yaw_rad(motion.local_to_aabb), axis=1)) / 0.1
    assert aside[both].max() < 3.0
    assert turn[both].max() < 0.5


def test_sets_without_mobil_change_no_lanes():
    scene = synthetic_scene(20, 8.0)
    assert driven(scene, "brakes", "nuplan")[2].facts()["lane_changes"] == 0


def test_before_handover_the_recording_is_answered():
    scene = EMBEDDED.load("cut_in")
    start = scene.start_us
    info = SessionInfo("s", scene, 0, scene.vehicle, start, start + 2 * S, scene.end_us)
    session = IdmTraffic().open(info)
    recorded = RecordedActors(scene)
    ego = ego_motion(scene, "recorded", np.array([start, start + 500_000]))
    current = recorded.at(np.array([start]))
    answer = session.step(
        TrafficRequest(start, start + 500_000, ego.between(start, start + 500_000), current)
    )
    wanted = recorded.between(start, start + 500_000)
    assert np.array_equal(answer.local_to_aabb, wanted.local_to_aabb)


def test_a_committed_place_that_differs_from_the_answer_is_driven_on_from():
    behind = track("behind", lambda t: -30.0 + 10 * t, at(0.0))
    scene = world(behind)
    ego = ego_motion(scene, "recorded", np.arange(0, S + 1, 100_000))
    info = SessionInfo("s", scene, 0, scene.vehicle, 0, 0, scene.end_us)
    session = IdmTraffic().open(info)
    current = RecordedActors(scene).at(np.array([0]))
    answer = session.step(TrafficRequest(0, 100_000, ego.between(0, 100_000), current))
    moved = answer.local_to_aabb.copy()
    moved[0, 0, :2] += [-0.8, 0.4]
    current = ActorMotion(answer.times_us, moved, answer.valid)
    answer = session.step(TrafficRequest(100_000, 200_000, ego.between(100_000, 200_000), current))
    assert answer.local_to_aabb[0, 0, 0] == pytest.approx(moved[0, 0, 0] + 1.0, abs=0.1)
    assert answer.local_to_aabb[0, 0, 1] == pytest.approx(0.4, abs=0.1)


def test_an_actor_that_nobody_committed_stays_away():
    behind = track("behind", lambda t: -30.0 + 10 * t, at(0.0))
    scene = world(behind)
    ego = ego_motion(scene, "recorded", np.arange(0, S + 1, 100_000))
    session = IdmTraffic().open(SessionInfo("s", scene, 0, scene.vehicle, 0, 0, scene.end_us))
    current = RecordedActors(scene).at(np.array([0]))
    answer = session.step(TrafficRequest(0, 100_000, ego.between(0, 100_000), current))
    gone = ActorMotion(answer.times_us, answer.local_to_aabb, np.zeros_like(answer.valid))
    answer = session.step(TrafficRequest(100_000, 200_000, ego.between(100_000, 200_000), gone))
    assert not answer.valid.any()


def test_an_unknown_set_is_refused():
    with pytest.raises(ConfigError, match=r"nuplam.*nuplan"):
        create("traffic", "idm", {"params": "nuplam"})


def test_a_scene_without_actors_is_answered():
    motion, _, session = driven(world())
    assert motion.local_to_aabb.shape[0] == 0
    assert session.facts()["idm"] == 0


def test_who_was_late_comes_back_to_the_recording_without_overshooting_it():
    behind = track("behind", lambda t: -40.0 + 8 * t, at(0.0))
    scene = world(behind)
    times = np.arange(0, 10 * S + 1, 100_000)
    ego = ego_motion(scene, "recorded", times)
    session = IdmTraffic().open(SessionInfo("s", scene, 0, scene.vehicle, 0, 0, scene.end_us))
    recorded = RecordedActors(scene)
    current, xs = recorded.at(times[:1]), []
    for now, target in itertools.pairwise(times.tolist()):
        answer = session.step(TrafficRequest(now, target, ego.between(now, target), current))
        poses = answer.local_to_aabb.copy()
        if now == 2 * S:
            poses[0, 0, 0] -= 2.0
        current = ActorMotion(answer.times_us, poses, answer.valid)
        xs.append(poses[0, 0, 0])
    ahead = np.array(xs) - recorded.at(times[1:]).local_to_aabb[0, :, 0]
    speed = np.diff(xs) / 0.1
    assert ahead.max() < 0.05
    assert abs(ahead[-1]) < 1e-3
    assert np.abs(np.diff(speed[21:])).max() < 0.3


def test_without_calls_in_the_warm_up_the_first_call_comes_at_handover():
    scene = EMBEDDED.load("cut_in")
    handover = scene.start_us + 2 * S
    times = np.arange(scene.start_us, scene.end_us + 1, 100_000, dtype=np.int64)
    ego = ego_motion(scene, "brakes", times)
    recorded = RecordedActors(scene)

    def drive(first_us: int) -> np.ndarray:
        info = SessionInfo("s", scene, 0, scene.vehicle, scene.start_us, handover, scene.end_us)
        session, out = IdmTraffic().open(info), []
        current = recorded.at(np.array([first_us]))
        for now, target in itertools.pairwise(times[times >= first_us].tolist()):
            request = TrafficRequest(now, target, ego.between(now, target), current)
            answer = session.step(request)
            if now >= handover:
                out.append(answer.local_to_aabb)
            current = answer if now >= handover else recorded.at(np.array([target]))
        return np.concatenate(out, axis=1)

    assert np.allclose(drive(scene.start_us), drive(handover), atol=1e-9)


def test_ego_is_as_fast_as_it_is_from_the_first_short_interval_on():
    scene = world(track("behind", lambda t: -15.0 + 10 * t, at(0.0)))
    track_of_ego = EgoTrack(SessionInfo("s", scene, 0, scene.vehicle, 0, 0, scene.end_us))
    track_of_ego.extend(0, ego_motion(scene, "recorded", np.array([0, 50_000])).between(0, 50_000))
    assert track_of_ego.at(50_000).speed_mps == pytest.approx(10.0)


def test_who_was_recorded_but_is_not_in_the_world_at_handover_stays_away():
    scene = world(
        track("behind", lambda t: -30.0 + 10 * t, at(0.0)),
        track("before", lambda t: 30.0 + 10 * t, at(0.0)),
    )
    ego = ego_motion(scene, "recorded", np.arange(0, S + 1, 100_000))
    session = IdmTraffic().open(SessionInfo("s", scene, 0, scene.vehicle, 0, 0, scene.end_us))
    found = RecordedActors(scene).at(np.array([0]))
    current = ActorMotion(found.times_us, found.local_to_aabb, np.array([[True], [False]]))
    for now in range(0, S, 100_000):
        until = now + 100_000
        current = session.step(TrafficRequest(now, until, ego.between(now, until), current))
        assert current.valid[:, 0].tolist() == [True, False]


@pytest.mark.parametrize("params", ["omniloop", "nuplan"])
def test_who_appears_does_so_where_and_as_fast_as_recorded(params):
    comes = track("comes", lambda t: -60.0 + 8 * (t - 3), at(0.0), start=3 * S)
    scene = world(comes)
    motion, _, _ = driven(scene, "recorded", params)
    first = int(motion.valid[0].argmax())
    recorded = RecordedActors(scene).at(motion.times_us).local_to_aabb
    assert motion.times_us[first] == 3 * S
    assert np.allclose(motion.local_to_aabb[0, first], recorded[0, first], atol=1e-6)
    assert speeds(motion, 0)[first : first + 3] == pytest.approx(np.full(3, 8.0), abs=0.5)


def test_after_a_lane_change_corridors_are_those_of_the_new_paths():
    scene = synthetic_scene(20, 12.0)
    session = driven(scene, "brakes")[2]
    stage, state = session._stage, session._state
    assert session.facts()["lane_changes"] > 0
    anew = corridors_of(stage.table, stage.rows, stage.cast.sizes_m, buffer_m(session._params))
    places, compared = (state.s_m, state.s_m + 30.0), 0
    for place_m in places:
        s_m = np.minimum(place_m, stage.table.length_m)
        station = stage.table.station(s_m)
        beyond = s_m - stage.table.s_m[station]
        row_m = np.minimum(state.s_m, s_m)[stage.rows]
        leads = [
            leads_among(
                c, stage.table.start[:-1], station, beyond, state.v_mps, row_m, stage.row_half_m,
                np.ones(len(c.row), dtype=bool), np.zeros(len(c.row), dtype=bool),
            )
            for c in (stage.corridors, anew)
        ]  # fmt: skip
        assert np.array_equal(leads[0].who, leads[1].who)
        some = leads[0].who >= 0
        assert np.allclose(leads[0].gap_m[some], leads[1].gap_m[some], atol=0.02)
        compared += int(some.sum())
    assert compared > 10
