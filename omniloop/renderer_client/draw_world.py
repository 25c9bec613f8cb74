"""Images of the world: geometry, boxes and a camera in, drawing commands or pixels out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omniloop.core import geometry
from omniloop.core.cameras import CameraModel
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.core.scene import Actor
from omniloop.renderer_client import palette
from omniloop.renderer_client.boxes import box_commands
from omniloop.renderer_client.flat_map import fill_commands, line_commands
from omniloop.renderer_client.paint import Command, Image, paint
from omniloop.renderer_client.view import view_of
from omniloop.renderer_client.world_geometry import Cuboids, WorldGeometry


@dataclass(frozen=True, eq=False)
class ActorLooks:
    """Sizes and colours of a scene's actors: ``(A, 3)`` each."""

    halves_m: Array
    front_rgb: Array
    back_rgb: Array

    @classmethod
    def of(cls, actors: tuple[Actor, ...]) -> ActorLooks:
        """Look up the colours of the actors' classes."""
        colours = [palette.CUBOID_RGB[actor.actor_class] for actor in actors]
        rgb = np.array(colours, dtype=np.float64).reshape(-1, 2, 3)
        sizes = np.array([actor.size_m for actor in actors], dtype=np.float64).reshape(-1, 3)
        return cls(sizes / 2, rgb[:, 0], rgb[:, 1])

    def cuboids(self, local_to_aabb: Array, valid: Mask) -> tuple[Cuboids, NDArray[np.intp]]:
        """Boxes of the actors that exist.

        Args:
            local_to_aabb: ``(A, F, 7)`` box centres at F instants.
            valid: ``(A, F)`` which actors exist.

        Returns:
            The boxes, instant after instant, and the number of each one's instant.
        """
        instant, actor = np.nonzero(valid.T)
        poses = local_to_aabb[actor, instant]
        boxes = Cuboids(
            poses[:, :3], geometry.matrix_from_pose(poses)[:, :3, :3], self.halves_m[actor],
            self.front_rgb[actor], self.back_rgb[actor], np.ones(len(actor), dtype=bool),
        )  # fmt: skip
        return boxes, instant


def world_commands(
    world: WorldGeometry,
    model: CameraModel,
    local_to_camera: Array,
    cuboids: Cuboids,
    frame: NDArray[np.intp],
    depth_max_m: float = palette.DEPTH_MAX_M,
) -> list[list[Command]]:
    """What to draw in each frame, in order: areas, lines, then boxes from back to front.

    Args:
        world: The map.
        model: The camera at the size of the images.
        local_to_camera: ``(F, 7)`` poses of the camera's optical frame, one per frame.
        cuboids: Actors of all frames; traffic lights and signs come with `world`.
        frame: ``(N,)`` the frame of each box.
        depth_max_m: Nothing farther is drawn.
    """
    view = view_of(model)
    matrices = geometry.matrix_from_pose(local_to_camera)
    fixed = len(world.cuboids)
    if fixed:
        n = len(matrices)
        repeated = world.cuboids.take(np.tile(np.arange(fixed), n))
        cuboids = Cuboids.join([repeated, cuboids])
        frame = np.concatenate([np.repeat(np.arange(n), fixed), frame])
    fills = fill_commands(world, view, matrices, depth_max_m)
    lines = line_commands(world, view, matrices, depth_max_m)
    boxes = box_commands(cuboids, frame, view, matrices, depth_max_m)
    return [a + b + c for a, b, c in zip(fills, lines, boxes, strict=True)]


def draw_world(
    world: WorldGeometry,
    model: CameraModel,
    local_to_camera: Array,
    cuboids: Cuboids,
    depth_max_m: float = palette.DEPTH_MAX_M,
) -> Image:
    """Draw one image ``(H, W, 3)``, RGB on black.

    Args:
        local_to_camera: ``(7,)`` pose of the camera's optical frame.
        cuboids: The actors, see `ActorLooks`.

    The rest as in `world_commands`.
    """
    image = np.zeros((model.height, model.width, 3), dtype=np.uint8)
    frame = np.zeros(len(cuboids), dtype=np.intp)
    paint(
        image, world_commands(world, model, local_to_camera[None], cuboids, frame, depth_max_m)[0]
    )
    return image
