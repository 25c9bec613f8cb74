"""What is said in one step of a rollout, as messages: shared by clients, servers and ASL logs."""

from __future__ import annotations

from typing import Any

from omniloop.core.messages import CameraFrame, GroundRequest, Plan, Route, VehicleRequest
from omniloop.core.motion import EgoMotion, Trajectory
from omniloop.services.codec import (
    dynamics_to_wire,
    pose_to_wire,
    poses_to_wire,
    size_to_wire,
    trajectory_to_wire,
)
from omniloop.services.protos import controller_pb2, egodriver_pb2, physics_pb2
from omniloop.services.protos.common_pb2 import StateAtTime, Vec3


def image_to_wire(uuid: str, frame: CameraFrame) -> egodriver_pb2.RolloutCameraImage:
    """A frame as a driver is pushed it."""
    image = egodriver_pb2.RolloutCameraImage.CameraImage(
        frame_start_us=frame.start_us, frame_end_us=frame.capture_us, image_bytes=frame.image,
        logical_id=frame.camera_id,
    )  # fmt: skip
    return egodriver_pb2.RolloutCameraImage(session_uuid=uuid, camera_image=image)


def ego_to_wire(uuid: str, ego: EgoMotion) -> egodriver_pb2.RolloutEgoTrajectory:
    """Ego's states as a driver is pushed them."""
    return egodriver_pb2.RolloutEgoTrajectory(
        session_uuid=uuid,
        trajectory=trajectory_to_wire(ego.times_us, ego.local_to_rig),
        dynamic_states=[dynamics_to_wire(d) for d in ego.dynamics],
    )


def route_to_wire(uuid: str, route: Route) -> egodriver_pb2.RouteRequest:
    """A route as a driver is pushed it."""
    points = [Vec3(x=x, y=y, z=z) for x, y, z in route.waypoints_rig.tolist()]
    way = egodriver_pb2.Route(timestamp_us=route.time_us, waypoints=points)
    return egodriver_pb2.RouteRequest(session_uuid=uuid, route=way)


def plan_to_wire(plan: Plan, debug: bytes) -> egodriver_pb2.DriveResponse:
    """A plan as a driver answers it, with debug bytes for whoever understands them."""
    reply = egodriver_pb2.DriveResponse(
        trajectory=trajectory_to_wire(plan.local_to_rig.times_us, plan.local_to_rig.poses),
        terminate_session=plan.terminate,
    )
    samples = [trajectory_to_wire(s.times_us, s.poses) for s in plan.samples]
    if samples or debug:
        reply.debug_info.sampled_trajectories.extend(samples)
        reply.debug_info.unstructured_debug_info = debug
    return reply


def vehicle_to_wire(
    uuid: str, request: VehicleRequest, plan_in_rig: Trajectory, interval_us: int
) -> controller_pb2.RunControllerAndVehicleModelRequest:
    """A question to a controller.

    Args:
        plan_in_rig: The plan in the frame of ego's own pose at its first timestamp.
        interval_us: How far apart the states are that are asked for.
    """
    return controller_pb2.RunControllerAndVehicleModelRequest(
        session_uuid=uuid,
        state=StateAtTime(
            timestamp_us=request.time_us, pose=pose_to_wire(request.local_to_rig),
            state=dynamics_to_wire(request.dynamics),
        ),
        planned_trajectory_in_rig=trajectory_to_wire(plan_in_rig.times_us, plan_in_rig.poses),
        future_time_us=request.target_us,
        coerce_dynamic_state=request.coerce,
        pose_reporting_interval_us=interval_us,
    )  # fmt: skip


def states_to_wire(states: EgoMotion) -> controller_pb2.RunControllerAndVehicleModelResponse:
    """Ego's states as a controller answers them."""
    reply = controller_pb2.RunControllerAndVehicleModelResponse()
    poses = poses_to_wire(states.local_to_rig)
    for time_us, pose, dynamics in zip(
        states.times_us.tolist(), poses, states.dynamics, strict=True
    ):
        moving = dynamics_to_wire(dynamics)
        reply.states.add(
            timestamp_us=time_us, pose_local_to_rig=pose, pose_local_to_rig_estimated=pose,
            dynamic_state=moving, dynamic_state_estimated=moving,
        )  # fmt: skip
    return reply


def ground_to_wire(
    scene_id: str, request: GroundRequest
) -> tuple[physics_pb2.PhysicsGroundIntersectionRequest, list[Any]]:
    """A question to a ground, and its boxes as they stand in it."""
    message = physics_pb2.PhysicsGroundIntersectionRequest(
        scene_id=scene_id, now_us=request.time_us, future_us=request.target_us
    )
    if request.is_ego:
        sent = trajectory_to_wire(request.times_us, request.local_to_aabb)
        message.ego_data.aabb.CopyFrom(size_to_wire(request.sizes_m[0]))
        message.ego_data.ego_trajectory_aabb.CopyFrom(sent)
        return message, [p.pose for p in sent.poses]
    asked = poses_to_wire(request.local_to_aabb)
    message.other_objects.extend(
        physics_pb2.PhysicsGroundIntersectionRequest.OtherObject(
            aabb=size_to_wire(size),
            pose_pair=physics_pb2.PhysicsGroundIntersectionRequest.PosePair(
                now_pose=pose, future_pose=pose
            ),
        )
        for size, pose in zip(request.sizes_m, asked, strict=True)
    )
    return message, asked
