"""A policy for carla-driver-interface that writes down what reaches it.

Loaded by its server process, which must not import Omniloop: two copies of the protobuf
messages clash.
"""

from __future__ import annotations

import json
from pathlib import Path

from carla_driver_interface.driver import BaseDriver, DriveContext, DriveResult, SessionState
from carla_driver_interface.geometry import Pose, Trajectory


class Probe(BaseDriver):
    """Plans 5 m/s straight ahead; one JSON line per session start and per drive."""

    name = "probe"
    frame_history_length = 100

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def _write(self, **facts: object) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(facts) + "\n")

    def on_session_start(self, session: SessionState) -> None:
        self._write(
            what="start",
            seed=session.seed,
            scene_id=session.scene_id,
            cameras={
                name: {
                    "rig_to_camera": [
                        *Pose.from_proto(c.rig_to_camera).position.tolist(),
                        *Pose.from_proto(c.rig_to_camera).quat_xyzw.tolist(),
                    ],
                    "size": [c.intrinsics.resolution_w, c.intrinsics.resolution_h],
                }
                for name, c in session.cameras.items()
            },
        )

    def drive(self, ctx: DriveContext) -> DriveResult:
        session = ctx.session
        self._write(
            what="drive",
            now_us=ctx.time_now_us,
            query_us=ctx.time_query_us,
            ego_us=session.ego_trajectory.timestamps_us[-1],
            ego_states=[len(session.ego_trajectory), len(session.dynamic_states)],
            speed_mps=session.speed_mps(),
            route=session.route_waypoints_in_rig.tolist(),
            frames={k: [f.timestamp_us for f in v] for k, v in session.frame_history.items()},
            shapes=[list(v[-1].as_array().shape) for v in session.frame_history.values() if v],
            recorded=None
            if session.ground_truth_in_rig is None
            else len(session.ground_truth_in_rig),
            has_renderer_data=ctx.renderer_data is not None and bool(ctx.renderer_data.ByteSize()),
        )
        plan = Trajectory.empty()
        for k in range(1, 41):
            plan.append(ctx.time_now_us + k * 100_000, Pose.from_xyz_yaw(0.5 * k, 0.0, 0.0, 0.0))
        return DriveResult(trajectory_in_rig=plan)
