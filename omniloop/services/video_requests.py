"""What a video model is asked: messages of a session's start and of its chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from omniloop.core.cameras import Camera
from omniloop.core.messages import RenderRequest
from omniloop.core.motion import Mask
from omniloop.core.once import once_per_object
from omniloop.core.scene import Actor, Scene
from omniloop.scenes.clipgt import write_clipgt
from omniloop.services.camera_codec import CameraAxes, rig_to_camera_to_wire, spec_to_wire
from omniloop.services.codec import size_to_wire, trajectory_to_wire
from omniloop.services.protos import video_model_pb2 as pb
from omniloop.services.sensorsim_images import format_of


@once_per_object
def hd_map(scene: Scene) -> bytes:
    """A scene's HD-map archive, written once.

    Raises:
        SceneError: the scene's map cannot be written so.
    """
    return write_clipgt(scene)


def start_request(
    scene: Scene,
    cameras: Sequence[Camera],
    first_frames: Sequence[bytes],
    prompt: tuple[str, str],
    seed: int,
    options: pb.DebugOptions,
) -> Any:
    """The start of a session.

    Args:
        cameras: F-theta cameras at the size of the images.
        first_frames: JPEG or PNG, one of each camera.
        prompt: What to show, and what not to; "" leaves it to the server.
        seed: Not 0, which leaves the choice to the server.
    """
    return pb.SessionRequest(
        static_world_map=pb.StaticWorldMap(hdmap_parquets=hd_map(scene)),
        text_prompt=pb.TextPrompt(positive=prompt[0], negative=prompt[1]),
        debug_options=options,
        camera_specs=[spec_to_wire(c) for c in cameras],
        initial_frames=images_to_wire(first_frames),
        rig_to_camera=[rig_to_camera_to_wire(c.rig_to_camera, CameraAxes.FLU) for c in cameras],
        random_seed=seed,
    )


def images_to_wire(images: Sequence[bytes]) -> list[Any]:
    """JPEG or PNG images as messages."""
    formats: list[Any] = [format_of(image) for image in images]
    return [pb.Image(data=i, format=f) for i, f in zip(images, formats, strict=True)]


class ChunkWriter:
    """Writes the requests for the chunks of one session.

    Args:
        static_actors: Whether actors that never move are sent. AlpaSim leaves them out, and
            the rows of parked cars with them (contracts.md 2.4). Those that were edited into
            the scene are in no recording, and always sent.
    """

    def __init__(self, session_id: str, static_actors: bool) -> None:
        self._session_id = pb.SessionId(session_id=session_id)
        self._static_actors = static_actors
        self._actors: tuple[Actor, ...] = ()
        self._sent: list[tuple[int, Any, Any]] = []

    def write(self, request: RenderRequest) -> Any:
        """Ego's pose at each frame, and the actors where they are there.

        An actor that is away in between comes as two, so that nobody makes up a way from
        one place to the other.
        """
        if request.actors is not self._actors:
            self._actors = request.actors
            self._sent = [
                (row, actor.actor_class.value, size_to_wire(actor.size_m))
                for row, actor in enumerate(request.actors)
                if self._static_actors or actor.is_scripted or not actor.is_static
            ]
        motion, times = request.actor_motion, request.times_us
        actors = [
            pb.DynamicActor(
                class_id=kind, bbox_dims=size,
                trajectory=trajectory_to_wire(times[a:b], motion.local_to_aabb[row, a:b]),
            )
            for row, kind, size in self._sent
            for a, b in _runs(motion.valid[row])
        ]  # fmt: skip
        return pb.VideoChunkRequest(
            session_id=self._session_id,
            rig_trajectory=trajectory_to_wire(times, request.local_to_rig),
            dynamic_state=pb.DynamicWorldState(actors=actors),
        )


def _runs(valid: Mask) -> list[tuple[int, int]]:
    """Start and end of each stretch of True in ``(T,)``."""
    if valid.all():
        return [(0, len(valid))]
    edges = np.flatnonzero(np.diff(valid, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
