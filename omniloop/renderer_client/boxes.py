"""Commands that draw cuboids as one camera sees them.

Only faces turned to the camera are filled. A face is made of strips along the box's x
axis, which carry the colour gradient and, where the camera bends straight lines, follow it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omniloop.core.geometry import Array
from omniloop.core.motion import Mask
from omniloop.renderer_client import palette
from omniloop.renderer_client.flat_map import REFINE, to_camera
from omniloop.renderer_client.occlusion import paint_order
from omniloop.renderer_client.paint import Command, Faces, Lines, Pixels, subpixels, thickness_for
from omniloop.renderer_client.view import NEAR_M, View, by_point, extents
from omniloop.renderer_client.world_geometry import Cuboids

Index = NDArray[np.intp]

CORNERS: Array = np.array(
    [[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]
)
"""Corners of the box of half lengths 1; corner number 4 x + 2 y + z with 0 or 1 each."""

_EDGES = np.array(
    [
        [i, i + step]
        for axis, step in ((0, 4), (1, 2), (2, 1))
        for i in range(8)
        if CORNERS[i, axis] < 0
    ]
)
# An edge is drawn if either of the two faces that both its ends lie on is seen.
_EDGE_FACES = np.array([
    [2 * k + int(CORNERS[a, k] > 0) for k in range(3) if CORNERS[a, k] == CORNERS[b, k]] for a, b in _EDGES
])  # fmt: skip
_X_EDGES = 4

# Corners and middles of edges.
_PROBES = np.concatenate([CORNERS, CORNERS[_EDGES].mean(axis=1)])

# Faces -x, +x, -y, +y, -z, +z: a corner, the direction along which strips follow one
# another (x wherever the gradient runs), and the direction across.
_FACE_ORIGIN = np.array(
    [[-1, -1, -1], [1, -1, -1], [-1, -1, -1], [-1, 1, -1], [-1, -1, -1], [-1, -1, 1]]
)
_FACE_ALONG = np.array([[0, 2, 0], [0, 2, 0], [2, 0, 0], [2, 0, 0], [2, 0, 0], [2, 0, 0]])
_FACE_ACROSS = np.array([[0, 0, 2], [0, 0, 2], [0, 0, 2], [0, 0, 2], [0, 2, 0], [0, 2, 0]])
_END_FACES = 2

STRIP_PX = 6.0
"""Strips of a gradient are about this wide."""

MAX_STRIPS = 32

_BENT_PX = 0.75
_BENT_STRIPS = 6
_BENT_ACROSS = 6


@dataclass(frozen=True, eq=False)
class _Seen:
    """Boxes before one camera, everything in the optical frame.

    Attributes:
        index: ``(N,)`` numbers of the boxes among all.
        centers: ``(3, N)``.
        axes: ``(N, 3, 3)`` columns are the boxes' axes.
        halves: ``(N, 3)``.
        corners: ``(3, N, 8)``.
        corner_px: ``(N, 8, 2)``, of no use where not `whole`.
        length_px: ``(N,)`` length of the image along x.
        camera_in_box: ``(N, 3)``.
        faces: ``(N, 6)`` whether each face is turned to the camera.
        whole: ``(N,)`` whether the box lies in the cone.
        straight: ``(N,)`` whether it does, and its edges look straight.
        extents_px: ``(N, 4)`` left, top, right, bottom of the image.
    """

    index: Index
    centers: Array
    axes: Array
    halves: Array
    corners: Array
    corner_px: Array
    length_px: Array
    camera_in_box: Array
    faces: Mask
    whole: Mask
    straight: Mask
    extents_px: Array


def box_commands(
    cuboids: Cuboids, frame: Index, view: View, local_to_camera: Array, depth_max_m: float
) -> list[list[Command]]:
    """Commands for the boxes of each frame, from back to front.

    Args:
        cuboids: The boxes of all frames.
        frame: ``(N,)`` which frame each box belongs to.
        local_to_camera: ``(F, 4, 4)`` matrices of camera poses.
    """
    out: list[list[Command]] = [[] for _ in local_to_camera]
    centers = to_camera(local_to_camera[frame], cuboids.centers.T)
    radii = np.sqrt((cuboids.halves_m * cuboids.halves_m).sum(axis=1))
    near = view.sees_spheres(centers, radii) & (view.depth_m(centers) < depth_max_m)
    index = np.flatnonzero(near)
    seen = _look_at(cuboids, index, centers[:, index], view, local_to_camera[frame[index]])
    if not len(seen.index):
        return out
    smooth = ~cuboids.wireframe[seen.index]
    filled: list[Command | None] = [None] * len(smooth)
    for chosen, across in ((seen.straight, 1), (~seen.straight, _BENT_ACROSS)):
        if chosen.any():
            _fill_faces(filled, cuboids, seen, chosen, across, smooth, view)
    edges = _edges(seen, ~smooth, view)
    scale = view.model.width / palette.REFERENCE_WIDTH_PX
    thickness = int(thickness_for(np.array(palette.WIREFRAME_WIDTH_PX * scale)))
    frame = frame[seen.index]
    order = paint_order(
        frame, seen.camera_in_box, seen.halves, seen.corners, seen.axes, seen.extents_px
    )
    for i, f in zip(order, frame[order].tolist(), strict=True):
        faces = filled[i]
        if faces is not None:
            out[f].append(faces)
        if edges[i]:
            out[f].append(Lines(edges[i], palette.WIREFRAME_RGB, thickness))
    return out


def _look_at(
    cuboids: Cuboids, index: Index, centers: Array, view: View, local_to_camera: Array
) -> _Seen:
    halves = cuboids.halves_m[index]
    # R^T R_box, written out: a BLAS product may round differently elsewhere.
    axes = np.empty((len(index), 3, 3))
    rotations = cuboids.rotations[index]
    for i in range(3):
        r = local_to_camera[:, :3, i, None] * rotations
        axes[:, i] = r[:, 0] + r[:, 1] + r[:, 2]
    x, y, z = (_PROBES[:, k] * halves[:, k, None] for k in range(3))
    probes = np.empty((3, len(index), len(_PROBES)))
    for i in range(3):
        a = axes[:, i, :, None]
        probes[i] = centers[i][:, None] + a[:, 0] * x + a[:, 1] * y + a[:, 2] * z
    c = centers[:, :, None]
    camera_in_box = -(axes[:, 0] * c[0] + axes[:, 1] * c[1] + axes[:, 2] * c[2])
    faces = np.empty((len(index), 6), dtype=bool)
    faces[:, 0::2] = camera_in_box < -halves
    faces[:, 1::2] = camera_in_box > halves
    inside = view.covers_convexly(probes)
    whole = np.asarray(by_point(inside).all(axis=0))
    pixels = view.project(np.where(inside, probes, _AHEAD))
    start, end = pixels[:, _EDGES[:, 0]], pixels[:, _EDGES[:, 1]]
    chord, arm = end - start, pixels[:, 8:] - start
    length = np.sqrt(chord[..., 0] ** 2 + chord[..., 1] ** 2)
    cross = np.abs(chord[..., 0] * arm[..., 1] - chord[..., 1] * arm[..., 0])
    straight = whole & np.asarray(by_point(cross <= _BENT_PX * np.maximum(length, 1.0)).all(axis=0))
    corner_px = pixels[:, :8]
    box_extents = np.concatenate(extents(corner_px), axis=1)
    # What the cone cuts may reach anywhere on the image.
    box_extents[~whole] = (-1.0, -1.0, view.model.width, view.model.height)
    left, top, right, bottom = box_extents.T
    # With a margin for edges' widths; a camera inside a box sees no face of it.
    shown = np.asarray((left < view.model.width + 4) & (top < view.model.height + 4))
    shown &= (right > -4) & (bottom > -4) & by_point(faces).any(axis=0)
    return _Seen(
        index[shown], centers[:, shown], axes[shown], halves[shown], probes[:, shown, :8], corner_px[shown],
        by_point(length[shown, :_X_EDGES]).max(axis=0), camera_in_box[shown], faces[shown], whole[shown],
        straight[shown], box_extents[shown],
    )  # fmt: skip


_AHEAD = np.array([0.0, 0.0, 1.0]).reshape(3, 1, 1)


def _fill_faces(
    filled: list[Command | None],
    cuboids: Cuboids,
    seen: _Seen,
    chosen: Mask,
    across: int,
    smooth: Mask,
    view: View,
) -> None:
    """Make the faces of the chosen boxes."""
    box, face = np.nonzero(seen.faces & chosen[:, None])
    front, back = cuboids.front_rgb[seen.index], cuboids.back_rgb[seen.index]
    wanted = np.rint(seen.length_px / STRIP_PX)
    wanted[by_point(front == back).all(axis=0)] = 1
    if across > 1:
        wanted = np.where(seen.whole, np.maximum(wanted, _BENT_STRIPS), MAX_STRIPS)
    strips = np.clip(wanted, 1, MAX_STRIPS).astype(np.intp)[box]
    strips[face < _END_FACES] = 1 if across == 1 else _BENT_STRIPS
    # Columns: the lines across a face between which the strips lie.
    columns = strips + 1
    of_face = np.repeat(np.arange(len(box)), columns)
    nth = np.arange(len(of_face)) - np.repeat(np.cumsum(columns) - columns, columns)
    part = nth / strips[of_face]
    pixels, valid = _columns(seen, view, box, face, of_face, part, across)
    left = np.flatnonzero((part < 1) & valid & np.roll(valid, -1))
    polygons = np.concatenate([pixels[left], pixels[left + 1][:, ::-1]], axis=1)
    of_face = of_face[left]
    of_box = box[of_face]
    middle = part[left] + 0.5 / strips[of_face]
    middle = np.where(face[of_face] < _END_FACES, face[of_face], middle)[:, None]
    colours = np.rint(back[of_box] + (front[of_box] - back[of_box]) * middle).astype(np.intp)
    polygon_list, rgb_list = list(polygons), [(r, g, b) for r, g, b in colours.tolist()]
    bounds = np.searchsorted(of_box, np.arange(len(filled) + 1)).tolist()
    for i in np.flatnonzero(chosen).tolist():
        if bounds[i] < bounds[i + 1]:
            span = slice(bounds[i], bounds[i + 1])
            filled[i] = Faces(polygon_list[span], rgb_list[span], bool(smooth[i]), across == 1)


def _columns(
    seen: _Seen, view: View, box: Index, face: Index, of_face: Index, part: Array, across: int
) -> tuple[Pixels, Mask]:
    """Columns ``(C, across + 1, 2)`` and whether anything of each lies before the camera.

    Args:
        of_face: ``(C,)`` number of the face of each column.
        part: ``(C,)`` its place along the face, 0 to 1.
    """
    halves, axes = seen.halves[box], seen.axes[box]
    ends = np.empty((3, len(box), 3))
    for i, table in enumerate((_FACE_ORIGIN, _FACE_ALONG, _FACE_ACROSS)):
        v = (table[face] * halves)[:, None] * axes
        ends[i] = v[:, :, 0] + v[:, :, 1] + v[:, :, 2]
    ends[0] += seen.centers.T[box]
    origin, along, side = (ends[i].T[:, of_face] for i in range(3))
    start = origin + along * part
    if across == 1:
        both = np.empty((3, len(part), 2))
        both[:, :, 0], both[:, :, 1] = start, start + side
        return subpixels(view.project(both)), np.ones(len(part), dtype=bool)
    # Each column is cut to what lies before the camera; its depth is linear.
    depth, slope = start[2] - NEAR_M, side[2]
    cut = np.where(slope != 0, -depth / np.where(slope != 0, slope, 1.0), 0.0)
    low = np.clip(np.where((slope > 0) & (depth < 0), cut, 0.0), 0.0, 1.0)
    high = np.clip(np.where((slope < 0) & (depth + slope < 0), cut, 1.0), 0.0, 1.0)
    valid = (np.maximum(depth, depth + slope) > 0) & (high > low)
    steps = np.arange(across + 1) / across
    frac = low[:, None] + (high - low)[:, None] * steps
    grid = start[:, :, None] + side[:, :, None] * frac
    return subpixels(view.project_clamped(np.where(valid[:, None], grid, _AHEAD))), valid


def _edges(seen: _Seen, wanted: Mask, view: View) -> list[list[Pixels]]:
    """Edges of each wanted box that adjoin a face turned to the camera."""
    out: list[list[Pixels]] = [[] for _ in range(len(wanted))]
    box, edge = np.nonzero(
        (seen.faces[:, _EDGE_FACES[:, 0]] | seen.faces[:, _EDGE_FACES[:, 1]]) & wanted[:, None]
    )
    straight = seen.straight[box]
    ends = subpixels(seen.corner_px[box[straight, None], _EDGES[edge[straight]]])
    for i, line in zip(box[straight].tolist(), ends, strict=True):
        out[i].append(line)
    if straight.all():
        return out
    box, edge = box[~straight], edge[~straight]
    start, end, index = view.clip_segments(
        seen.corners[:, box, _EDGES[edge, 0]], seen.corners[:, box, _EDGES[edge, 1]]
    )
    fine = start[:, :, None] + (end - start)[:, :, None] * (np.arange(REFINE + 1) / REFINE)
    for i, line in zip(box[index].tolist(), subpixels(view.project(fine)), strict=True):
        out[i].append(line)
    return out
