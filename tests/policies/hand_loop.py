"""A closed loop in one for-loop: policy, controller and replayed traffic, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import Observation, SessionInfo, TrafficRequest, VehicleRequest
from omniloop.core.geometry import Array
from omniloop.core.motion import ActorMotion, EgoMotion, Trajectory
from omniloop.core.replay import recorded_motion_at
from omniloop.core.route import RouteLine, route_at, route_from_recording
from omniloop.core.scene import Actor, ActorClass, Scene, Track
from omniloop.physics.perfect import PerfectController
from omniloop.traffic.log_replay import LogReplayTraffic

PERIOD_US = 100_000


@dataclass
class Driven:
    """What happened: ego's states, the actors' motion and the route."""

    ego: EgoMotion
    actors: ActorMotion
    route: RouteLine

    @property
    def speed_mps(self) -> Array:
        return self.ego.dynamics[:, 0]

    def off_route_m(self) -> Array:
        """Distance of every state to the route in the plane."""
        return geometry.project_on_polyline(self.ego.local_to_rig[:, :2], self.route.points)[1]

    def contacts(self, scene: Scene) -> list[tuple[float, str]]:
        """Times [s] and ids of actors whose footprints meet ego's."""
        from shapely import intersects, polygons

        boxes = geometry.compose(self.ego.local_to_rig, scene.vehicle.rig_to_aabb)
        ego = polygons(
            geometry.box_corners_xy(boxes, np.tile(scene.vehicle.size_m, (len(boxes), 1)))
        )
        motion = self.actors.sample(self.ego.times_us)
        found = []
        for i, actor in enumerate(scene.actors):
            sizes = np.tile(actor.size_m, (len(boxes), 1))
            other = polygons(geometry.box_corners_xy(motion.local_to_aabb[i], sizes))
            for k in np.flatnonzero(intersects(ego, other) & motion.valid[i]):
                found.append(((self.ego.times_us[k] - scene.start_us) / 1e6, actor.id))
        return sorted(found)


def session_of(scene: Scene, handover_us: int, end_us: int) -> SessionInfo:
    return SessionInfo(
        f"{scene.id}/0", scene, 0, scene.vehicle, scene.start_us, handover_us, end_us
    )


def join(parts: list[ActorMotion]) -> ActorMotion:
    return ActorMotion(
        np.concatenate([p.times_us for p in parts]),
        np.concatenate([p.local_to_aabb for p in parts], axis=1),
        np.concatenate([p.valid for p in parts], axis=1),
    )


def drive(
    scene, policy, controller=None, *, handover_us=None, until_us=None, period_us=PERIOD_US
) -> Driven:
    """Seed ego and actors from the recording, then close the loop until the scene's end."""
    start = scene.start_us + 500_000 if handover_us is None else handover_us
    end = scene.end_us if until_us is None else until_us
    session = session_of(scene, start, end)
    planner = policy.open(session, ()) if hasattr(policy, "open") else policy
    vehicle = (controller or PerfectController()).open(session)
    traffic = LogReplayTraffic().open(session)
    ego = recorded_motion_at(scene.ego, np.arange(scene.start_us, start + 1, 100_000))
    assert ego.times_us[-1] == start
    times, poses, motion = list(ego.times_us), list(ego.local_to_rig), list(ego.dynamics)
    seed = ActorMotion(np.array([scene.start_us]), *_at(scene, scene.start_us))
    actors = seed
    if start > scene.start_us:
        actors = join([seed, traffic.step(TrafficRequest(scene.start_us, start, None, seed))])
    line, near = route_from_recording(scene.ego, scene.map), None
    assert line is not None
    for now in range(start, end - period_us + 1, period_us):
        target = now + period_us
        history = EgoMotion(np.array(times), np.array(poses), np.array(motion))
        route, near = route_at(line, poses[-1], now, near_s_m=near)
        plan = planner.plan(
            Observation(
                session.session_id, scene.id, 0, now, target, history, {}, route, scene.vehicle,
                actors=scene.actors, actor_motion=actors, recording=scene.ego,
            )
        )  # fmt: skip
        answer = vehicle.step(VehicleRequest(now, target, poses[-1], motion[-1], plan.local_to_rig))
        assert answer.times_us[-1] == target
        times += list(answer.times_us)
        poses += list(answer.local_to_rig)
        motion += list(answer.dynamics)
        request = TrafficRequest(
            now, target, Trajectory(answer.times_us, answer.local_to_rig), actors
        )
        actors = join([actors, traffic.step(request)])
    return Driven(EgoMotion(np.array(times), np.array(poses), np.array(motion)), actors, line)


def _at(scene: Scene, time_us: int):
    motion = scene.recorded_actors(np.array([time_us]))
    return motion.local_to_aabb, motion.valid


def straight(speed_mps: float, duration_s: float, start_us: int = 1_000_000) -> Trajectory:
    """An ego that drives along +x at a constant speed, recorded every 100 ms."""
    times = start_us + np.arange(0, round(duration_s * 1e6) + 1, 100_000)
    x = speed_mps * (times - start_us) / 1e6
    return Trajectory(
        times, geometry.poses_from_xyz_yaw(np.stack([x, 0 * x, 0 * x], axis=1), 0 * x)
    )


def bend(
    speed_mps: float,
    duration_s: float,
    radius_m: float,
    straight_m: float = 30.0,
    start_us: int = 1_000_000,
) -> Trajectory:
    """An ego that drives straight, then a left-hand circle, recorded every 100 ms."""
    times = start_us + np.arange(0, round(duration_s * 1e6) + 1, 100_000)
    s = speed_mps * (times - start_us) / 1e6
    angle = np.maximum(s - straight_m, 0.0) / radius_m
    x = np.minimum(s, straight_m) + radius_m * np.sin(angle)
    y = radius_m * (1 - np.cos(angle))
    return Trajectory(times, geometry.poses_from_xyz_yaw(np.stack([x, y, 0 * x], axis=1), angle))


def car(
    track_id: str,
    times_us,
    x_m,
    y_m=0.0,
    yaw_rad=0.0,
    *,
    size=(4.5, 1.9, 1.6),
    actor_class=ActorClass.CAR,
) -> Track:
    """A track along given positions, always valid."""
    times = np.asarray(times_us, dtype=np.int64)
    xyz = np.zeros((len(times), 3))
    xyz[:, 0], xyz[:, 1], xyz[:, 2] = x_m, y_m, size[2] / 2
    yaw = np.broadcast_to(np.asarray(yaw_rad, dtype=np.float64), (len(times),))
    actor = Actor(track_id, actor_class, actor_class.name.lower(), np.array(size))
    return Track(
        actor, times, geometry.poses_from_xyz_yaw(xyz, yaw), np.ones(len(times), dtype=bool)
    )
