"""Whether the headings of a JSON scenario are degrees or radians.

Converters differ: Nocturne's and the first of GPUDrive's write degrees, later ones of GPUDrive
radians, under the same key and without a word in the file. The objects' motion tells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array
from omniloop.core.motion import Mask

MIN_STEP_M = 0.2
"""Who moves less from one step to the next, 2 m/s at 10 Hz, shows no direction."""

MIN_STEPS = 5
FITS_RAD = np.deg2rad(10.0)
"""A reading fits if half of the moving steps go this close to the heading, or closer."""

APART_RAD = 0.02
"""Readings whose mean angles to the motion differ by less are not told apart by it."""

FULL_TURN_RAD = 2 * np.pi + 0.01

_REMEDY = "say which it is: scenes.heading_unit=degrees or scenes.heading_unit=radians"


def are_degrees(
    headings: Sequence[Array], positions: Sequence[Array], valid: Sequence[Mask], where: str
) -> bool:
    """Decide between the two readings.

    The angle between heading and motion decides. Without enough motion, or if it is alike in
    both readings, a number beyond a full turn of radians says degrees; and if all numbers are
    so small that the readings agree to 0.6 degrees, they are taken as radians.

    Args:
        headings: ``(T,)`` numbers of each object, as they are in the file.
        positions: ``(T, 2 or more)`` of each object.
        valid: ``(T,)`` of each object; other entries are not looked at.
        where: The file, for errors.

    Raises:
        SceneError: the motion fits neither reading, or nothing tells them apart.
    """
    numbers: list[Array] = [np.zeros(0)]
    directions: list[Array] = [np.zeros(0)]
    values: list[Array] = [np.zeros(0)]
    for heading, position, seen in zip(headings, positions, valid, strict=True):
        step = np.diff(position[:, :2], axis=0)
        both = seen[1:] & seen[:-1]
        step = np.where(both[:, None], step, 0.0)
        moving = np.linalg.norm(step, axis=1) >= MIN_STEP_M
        numbers.append(heading[:-1][moving])
        directions.append(np.arctan2(step[moving, 1], step[moving, 0]))
        values.append(heading[seen])
    number, direction = np.concatenate(numbers), np.concatenate(directions)
    largest = float(np.abs(np.concatenate(values)).max(initial=0.0))
    if len(number) >= MIN_STEPS:
        as_radians = np.abs(geometry.wrap_rad(number - direction))
        as_degrees = np.abs(geometry.wrap_rad(np.deg2rad(number) - direction))
        off = np.rad2deg(np.median([as_degrees, as_radians], axis=1))
        if np.deg2rad(off.min()) > FITS_RAD:
            raise SceneError(
                f"headings fit the motion neither as degrees ({off[0]:.0f} degrees off, median of"
                f" {len(number)} steps) nor as radians ({off[1]:.0f})",
                where=where, remedy=f"leave the file out, or {_REMEDY}",
            )  # fmt: skip
        # Clipped, so that who reverses counts against both readings alike.
        farthest = 2 * FITS_RAD
        closer = float(np.mean(np.minimum(as_radians, farthest) - np.minimum(as_degrees, farthest)))
        if abs(closer) >= APART_RAD:
            return closer > 0
    if largest > FULL_TURN_RAD:
        return True
    if largest < 0.01:
        return False
    raise SceneError(
        f"cannot tell whether headings are degrees or radians: they lie within ±{largest:.3g}, and"
        f" {len(number)} steps of moving objects do not tell",
        where=where, remedy=_REMEDY,
    )  # fmt: skip
