"""Privileged inputs on the wire: who the actors are once, then their newly committed motion.

Map and recording do not travel: the server has them from the scene itself.
"""

from __future__ import annotations

import numpy as np
from google.protobuf.message import DecodeError

from omniloop.core.messages import Observation
from omniloop.core.motion import ActorMotion
from omniloop.core.scene import Actor, ActorClass
from omniloop.orchestrator.world import Columns
from omniloop.runlog.motion_codec import decode_actors, encode_actors
from omniloop.runlog.wire import embedded
from omniloop.services.protos import privileged_pb2 as pb

_MOTION = pb.PrivilegedInputs.DESCRIPTOR.fields_by_name["motion"].number


class PrivilegedSender:
    """What of a rollout's actors was not sent yet."""

    def __init__(self) -> None:
        self._sent_until_us: int | None = None

    def new(self, observation: Observation) -> bytes:
        """The `renderer_data` of a decision; empty if it holds no privileged motion."""
        motion = observation.actor_motion
        if motion is None or observation.actors is None:
            return b""
        head = b""
        if self._sent_until_us is None:
            told = pb.PrivilegedInputs(actors=[_actor_to_wire(a) for a in observation.actors])
            head = told.SerializeToString()
        else:
            motion = motion.between(self._sent_until_us, observation.time_us)
        if len(motion.times_us):
            self._sent_until_us = int(motion.times_us[-1])
        return head + embedded(_MOTION, encode_actors(motion))


def _actor_to_wire(actor: Actor) -> pb.Actor:
    return pb.Actor(
        id=actor.id, actor_class=actor.actor_class.value, label=actor.label,
        size_m=actor.size_m.tolist(), is_static=actor.is_static,
    )  # fmt: skip


class PrivilegedLog:
    """All that a session was told of its actors.

    Attributes:
        actors: None until it was told any.
    """

    def __init__(self) -> None:
        self.actors: tuple[Actor, ...] | None = None
        self._times = Columns((), 0, np.int64)
        self._poses = Columns((0, 7), 1, np.float64)
        self._valid = Columns((0,), 1, np.bool_)

    def add(self, data: bytes) -> None:
        """Take the `renderer_data` of a decision; nothing if it is empty.

        Raises:
            ValueError: it cannot be read, or does not go on from what was told before.
        """
        if not data:
            return
        try:
            message = pb.PrivilegedInputs.FromString(data)
        except DecodeError as error:
            raise ValueError(f"renderer_data holds no privileged inputs: {error}") from error
        motion = decode_actors(message.motion)
        if self.actors is None:
            self.actors = tuple(_actor_from_wire(a) for a in message.actors)
            count = len(self.actors)
            self._poses = Columns((count, 7), 1, np.float64)
            self._valid = Columns((count,), 1, np.bool_)
        if len(motion.valid) != len(self.actors):
            raise ValueError(f"motion of {len(motion.valid)} actors, but {len(self.actors)} exist")
        told = self._times.view()
        times = np.concatenate([told[-1:], motion.times_us])
        if (np.diff(times) <= 0).any():
            raise ValueError(f"times of actors do not grow: {times.tolist()} us")
        self._times.append(motion.times_us)
        self._poses.append(motion.local_to_aabb)
        self._valid.append(motion.valid)

    @property
    def motion(self) -> ActorMotion | None:
        """Their motion so far; None until any was told."""
        if self.actors is None:
            return None
        return ActorMotion(self._times.view(), self._poses.view(), self._valid.view())


def _actor_from_wire(message: pb.Actor) -> Actor:
    size_m = np.array(message.size_m, dtype=np.float64)
    if size_m.shape != (3,):
        raise ValueError(f"actor '{message.id}' has the size {size_m.tolist()}")
    return Actor(
        message.id, ActorClass(message.actor_class), message.label, size_m, message.is_static
    )
