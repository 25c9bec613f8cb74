"""A camera 1.5 m above the origin of `local` that looks along +x, and things to put before it."""

from __future__ import annotations

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import FThetaCamera, PinholeCamera, optical_from_flu
from omniloop.core.geometry import Array
from omniloop.core.scene import (
    Actor,
    ActorClass,
    Area,
    LaneLine,
    MarkColor,
    MarkStyle,
    Polyline,
    VectorMap,
)
from omniloop.renderer_client.draw_world import ActorLooks, draw_world
from omniloop.renderer_client.paint import Image
from omniloop.renderer_client.world_geometry import NO_CUBOIDS, Cuboids, build_geometry

HEIGHT_M = 1.5
PINHOLE = PinholeCamera(640, 480, 400.0, 400.0, 319.5, 239.5)
FTHETA = FThetaCamera.equidistant(640, 480, np.deg2rad(120.0))
FISHEYE = FThetaCamera.equidistant(640, 480, np.deg2rad(210.0))
MODELS = {"pinhole": PINHOLE, "ftheta": FTHETA}

LOCAL_TO_CAMERA = optical_from_flu(geometry.pose(0.0, 0.0, HEIGHT_M))
"""Looking along +x."""

LOOKING_DOWN = np.array([0.0, 0.0, 20.0, 1.0, 0.0, 0.0, 0.0])
"""20 m up: pixels right of the centre are +x of `local`, pixels above it +y."""


def pixel_of(point: tuple[float, float, float]) -> tuple[float, float]:
    """The pinhole formula for `PINHOLE` at `LOCAL_TO_CAMERA`."""
    x, y, z = point
    return 319.5 - 400.0 * y / x, 239.5 + 400.0 * (HEIGHT_M - z) / x


def boundary(*points: tuple[float, float, float]) -> VectorMap:
    return VectorMap(road_boundaries=(Polyline("edge", np.array(points)),))


def lane_line(style: MarkStyle, *points: tuple[float, float, float]) -> VectorMap:
    return VectorMap(lane_lines=(LaneLine("line", np.array(points), style, MarkColor.WHITE),))


def crosswalk(
    *points: tuple[float, float], holes: tuple[tuple[tuple[float, float], ...], ...] = ()
) -> VectorMap:
    return VectorMap(crosswalks=(Area("walk", flat(points), tuple(flat(hole) for hole in holes)),))


def flat(points: tuple[tuple[float, float], ...]) -> Array:
    return np.array([(x, y, 0.0) for x, y in points])


def box(
    kind: ActorClass,
    x: float,
    y: float,
    size: tuple[float, float, float],
    yaw_rad: float = 0.0,
) -> tuple[Actor, Array]:
    """An actor that stands on the ground."""
    pose = geometry.pose(x, y, size[2] / 2, yaw_rad)
    return Actor(f"{kind.name}_{x}_{y}", kind, kind.name, np.array(size)), pose


def cuboids(*boxes: tuple[Actor, Array]) -> Cuboids:
    if not boxes:
        return NO_CUBOIDS
    poses = np.array([pose for _, pose in boxes])[:, None]
    looks = ActorLooks.of(tuple(actor for actor, _ in boxes))
    return looks.cuboids(poses, np.ones((len(boxes), 1), dtype=bool))[0]


def draw(
    vector_map: VectorMap | None = None,
    *boxes: tuple[Actor, Array],
    model: PinholeCamera | FThetaCamera = PINHOLE,
    pose: Array = LOCAL_TO_CAMERA,
    depth_max_m: float = 200.0,
) -> Image:
    world = build_geometry(vector_map or VectorMap())
    return draw_world(world, model, pose, cuboids(*boxes), depth_max_m)


def rgb_at(image: Image, pixel: tuple[float, float]) -> tuple[int, int, int]:
    r, g, b = image[round(pixel[1]), round(pixel[0])].tolist()
    return r, g, b
