"""Ego's states in an ASL log: true, and as the driver was told them; who drove it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from omniloop.core import geometry
from omniloop.core.geometry import Array
from omniloop.core.kinematics import motion_at
from omniloop.core.motion import EgoMotion, Trajectory
from omniloop.core.replay import recorded_motion_at
from omniloop.core.time import MAX_STATE_STEP_US
from omniloop.services.asl_gather import Gathered
from omniloop.services.asl_scene import AslWorld

_SAME = 1e-4
"""Estimates this close to the truth are the truth, written as float32 on another way."""


def states_of(world: AslWorld, found: Gathered) -> EgoMotion:
    """True ego with its motion: the controller's after handover, the recording's before.

    AlpaSim logs no motion where the recording drives; what nobody tells is derived from poses.
    """
    times, path = world.times_us, Trajectory(world.times_us, world.local_to_rig)
    dynamics = motion_at(path, times, MAX_STATE_STEP_US).dynamics.copy()
    recorded, handover_us = world.scene.ego, world.schedule.handover_us
    warm = (times <= handover_us) & (times >= recorded.start_us) & (times <= recorded.end_us)
    dynamics[warm] = recorded_motion_at(recorded, times[warm]).dynamics
    for row in np.flatnonzero(times > handover_us).tolist():
        told = found.driven.get(int(times[row]))
        if told is not None:
            dynamics[row] = told
    return EgoMotion(times, world.local_to_rig, dynamics)


def estimates_of(true: EgoMotion, found: Gathered) -> EgoMotion:
    """`told_of`, or the true states themselves where that is the same."""
    estimate = told_of(true, found)
    away = np.abs(estimate.local_to_rig[:, :3] - true.local_to_rig[:, :3])
    turned = geometry.rotation_vectors(
        geometry.quat_multiply(
            geometry.conjugate(true.local_to_rig[:, 3:]), estimate.local_to_rig[:, 3:]
        )
    )
    return true if max(away.max(), np.abs(turned).max()) < _SAME else estimate


def told_of(true: EgoMotion, found: Gathered) -> EgoMotion:
    """States as the driver was told them; the true ones where it was told nothing."""
    poses, dynamics = true.local_to_rig.copy(), true.dynamics.copy()
    for row, time_us in enumerate(true.times_us.tolist()):
        told: Array | None = found.estimated.get(time_us)
        if told is not None:
            poses[row] = told[:7]
            if told[7:].any():  # AlpaSim sends zeros while the recording drives
                dynamics[row] = told[7:]
    return EgoMotion(true.times_us, poses, dynamics)


def plugins_of(found: Gathered) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Which plugin played each part, by the versions in the metadata, and what the policy saw."""
    versions = found.metadata.version_ids
    roles = {
        "policy": versions.egodriver_version, "traffic": versions.traffic_version,
        "controller": versions.controller_version, "ground": versions.physics_version,
        "renderer": versions.video_model_version if found.chunks_us else versions.sensorsim_version,
    }  # fmt: skip
    names = {kind: version.version_id for kind, version in roles.items()}
    name, marked, seen = names["policy"].partition(" (privileged: ")
    names["policy"] = name
    privileged = (
        tuple(part for part in seen.removesuffix(")").split(", ") if part) if marked else ()
    )
    return {k: n.removeprefix("omniloop ") or "unknown" for k, n in names.items()}, privileged
