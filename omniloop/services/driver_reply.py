"""A driver's reply as a plan: checked, since drivers check little themselves."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from omniloop.core.messages import Observation, Plan
from omniloop.core.motion import Trajectory
from omniloop.core.time import US_PER_S
from omniloop.services.codec import trajectory_from_wire

START_TOLERANCE_M = 2.0
"""How far from ego, in the plane, a plan may start. Drivers lead their plans by the exact ego
pose (contracts.md 1.2); one that takes the box centre for its origin is 1.4 m off, one that
answers in another frame, or for another session, mostly far more."""

_REACH_MPS2 = 10.0
"""A plan whose first pose is later may start as far away as this acceleration takes ego."""

_DEBUG_BYTES = 1 << 20
"""Longer debug bytes are not looked into."""


def plan_from_reply(reply: Any, observation: Observation) -> Plan:
    """Read a DriveResponse.

    A sampled trajectory that cannot be read is left out, and the plan's reasoning says so:
    nobody drives it.

    Raises:
        ValueError: the plan's times do not grow, a number is not finite, a quaternion is no
            unit, it starts after the next decision, or elsewhere than ego.
    """
    plan = trajectory_from_wire(reply.trajectory)
    if len(plan):
        _check_start(plan, observation)
    reasoning = reasoning_of(reply.debug_info.unstructured_debug_info)
    samples = []
    for index, message in enumerate(reply.debug_info.sampled_trajectories):
        try:
            sample = trajectory_from_wire(message)
            if not len(sample):
                raise ValueError("it is empty")
            samples.append(sample)
        except ValueError as error:
            note = f"[sampled trajectory {index} left out: {error}]"
            reasoning = f"{reasoning}\n{note}" if reasoning else note
    return Plan(plan, tuple(samples), reasoning, reply.terminate_session)


def _check_start(plan: Trajectory, observation: Observation) -> None:
    now_us, query_us = observation.time_us, observation.next_decision_us
    if plan.start_us > query_us:
        raise ValueError(
            f"it starts at {plan.start_us} us, after the next decision at {query_us} us"
        )
    if plan.end_us < now_us:
        raise ValueError(f"it ends at {plan.end_us} us, before the decision at {now_us} us")
    ego = observation.ego
    allowed_m = START_TOLERANCE_M
    if plan.start_us == now_us:
        start = plan.poses[0]
    elif plan.start_us < now_us:
        start = plan.sample(now_us)[0]
    else:
        start = plan.poses[0]
        late_s = (plan.start_us - now_us) / US_PER_S
        speed_mps = math.hypot(*ego.dynamics[-1, :2].tolist())
        allowed_m += (speed_mps + _REACH_MPS2 / 2 * late_s) * late_s
    away_m = math.hypot(*(start[:2] - ego.local_to_rig[-1, :2]).tolist())
    if away_m > allowed_m:
        place, pose = np.round(ego.local_to_rig[-1, :3], 2), np.round(start[:3], 2)
        raise ValueError(
            f"it starts elsewhere: {away_m:.2f} m from ego, at {pose.tolist()} instead of"
            f" {place.tolist()}; {allowed_m:.2f} m is allowed"
        )


def reasoning_of(debug: bytes) -> str:
    """The ``reasoning_text`` in a driver's debug bytes; empty if they hold none.

    They are opaque (contracts.md 1.2): a JSON object or a `google.protobuf.Struct` is
    read. AlpaSim's own driver pickles a dict, which is never unpickled: that would run the
    peer's code here.
    """
    if not debug or len(debug) > _DEBUG_BYTES:
        return ""
    try:
        if debug[:1] == b"{":
            text = json.loads(debug).get("reasoning_text")
            return text if isinstance(text, str) else ""
        fields = Struct.FromString(debug).fields
    except (ValueError, RecursionError, DecodeError):
        return ""
    return fields["reasoning_text"].string_value if "reasoning_text" in fields else ""


def reasoning_bytes(reasoning: str) -> bytes:
    """A plan's reasoning as debug bytes that `reasoning_of` reads."""
    return json.dumps({"reasoning_text": reasoning}).encode() if reasoning else b""
