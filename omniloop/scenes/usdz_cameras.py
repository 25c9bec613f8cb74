"""Camera models in ``rig_trajectories.json`` of a USDZ archive."""

from __future__ import annotations

from typing import Any

import numpy as np

from omniloop.core.camera_fit import MAX_COEFFICIENTS, as_ftheta, is_long
from omniloop.core.cameras import Camera, FThetaCamera, PinholeCamera
from omniloop.core.errors import ConfigError, SceneError
from omniloop.core.fisheye import fisheye_from_ftheta, ftheta_from_fisheye
from omniloop.core.geometry import Array
from omniloop.scenes.build import damaged, member
from omniloop.scenes.usdz_documents import mapping, numbers

_KINDS = ("ftheta", "pinhole", "opencv-pinhole", "opencv-fisheye")


def read_model(document: Any, where: str) -> FThetaCamera | PinholeCamera | None:
    """The model of a camera; None of a kind or with a distortion that is not known here.

    Raises:
        SceneError: a number is missing or wrong.
    """
    kind = str(member(document, "type", where)).lower()
    if kind not in _KINDS:
        return None
    given = mapping(document, "parameters", where)

    def vector(key: str, count: int | None, default: Any = None) -> Array:
        value = given.get(key, default) if default is not None else member(given, key, where)
        return numbers(value, (count,), key, where)

    if given.get("external_distortion_parameters") or vector("thin_prism_coeffs", None, []).any():
        return None
    width, height = vector("resolution", 2)
    cx, cy = vector("principal_point", 2)
    if not (1 <= width <= 1 << 16 and 1 <= height <= 1 << 16):
        raise damaged(f"resolution is {width} x {height}", where)
    if kind in ("ftheta", "opencv-fisheye"):
        max_angle = float(numbers(member(given, "max_angle", where), (), "max_angle", where))
    if kind == "ftheta":
        forward, backward = (
            tuple(np.trim_zeros(vector(key, None), "b").tolist())
            for key in ("angle_to_pixeldist_poly", "pixeldist_to_angle_poly")
        )
        if not (forward and backward):
            raise damaged("an f-theta polynomial has no coefficient", where)
        linear = vector("linear_cde", 3, [1.0, 0.0, 0.0]).tolist()
        return FThetaCamera(
            int(width), int(height), float(cx), float(cy), forward, backward, max_angle,
            (linear[0], linear[1], linear[2]),
        )  # fmt: skip
    fx, fy = vector("focal_length", 2).tolist()
    radial = tuple(np.trim_zeros(vector("radial_coeffs", None, []), "b").tolist())
    if kind == "opencv-fisheye":
        if len(radial) > 4 or not (fx > 0 and fy > 0 and max_angle > 0):
            raise damaged(f"a fisheye has focal_length {fx}, {fy}, max_angle {max_angle} and {len(radial)} radial_coeffs", where)  # fmt: skip
        size, centre = (int(width), int(height)), (float(cx), float(cy))
        try:
            return ftheta_from_fisheye(size, (fx, fy), centre, radial, max_angle)
        except ConfigError:  # its inverse is no polynomial: not a distortion that is known here
            return None
    tangential = np.trim_zeros(vector("tangential_coeffs", None, []), "b").tolist()
    return PinholeCamera(
        int(width), int(height), fx, fy, float(cx), float(cy), radial, tuple(tangential)
    )


def model_document(camera: Camera) -> dict[str, Any]:
    """The document of a camera's model.

    F-theta polynomials have at most six coefficients there. A longer one that is a fisheye's
    is written as that, without error; any other is fitted.

    Raises:
        SceneError: the fit is off by more than 0.1 px.
    """
    model = camera.model
    own: dict[str, Any]
    fisheye = None
    if isinstance(model, FThetaCamera) and is_long(model):
        fisheye = fisheye_from_ftheta(model)
        if fisheye is None:
            model = _short(camera)
    if fisheye is not None:
        focal_px, radial = fisheye
        kind = "opencv-fisheye"
        own = {
            "focal_length": list(focal_px),
            "radial_coeffs": list(radial),
            "max_angle": float(model.max_angle_rad),
        }
    elif isinstance(model, FThetaCamera):
        kind = "ftheta"
        own = {
            "reference_poly": "ANGLE_TO_PIXELDIST",
            "pixeldist_to_angle_poly": _padded(model.pixeldist_to_angle, MAX_COEFFICIENTS),
            "angle_to_pixeldist_poly": _padded(model.angle_to_pixeldist, MAX_COEFFICIENTS),
            "max_angle": float(model.max_angle_rad),
            "linear_cde": [float(k) for k in model.linear_cde],
        }
    else:
        kind = "opencv-pinhole"
        own = {
            "focal_length": [float(model.fx), float(model.fy)],
            "radial_coeffs": _padded(model.radial, 6),
            "tangential_coeffs": _padded(model.tangential, 2),
            "thin_prism_coeffs": [0.0] * 4,
        }
    shared = {
        "resolution": [int(model.width), int(model.height)],
        "shutter_type": "ROLLING_TOP_TO_BOTTOM" if camera.shutter_us > 1 else "GLOBAL",
        "principal_point": [float(model.cx), float(model.cy)],
        "external_distortion_parameters": None,
    }
    return {"type": kind, "parameters": shared | own}


def _short(camera: Camera) -> FThetaCamera:
    try:
        fitted = as_ftheta(camera).model
    except ConfigError as error:
        raise SceneError(error.what, where=error.where, remedy=error.remedy) from error
    assert isinstance(fitted, FThetaCamera)
    return fitted


def _padded(coefficients: tuple[float, ...], count: int) -> list[float]:
    """`count` coefficients; further ones are zeros."""
    given = [float(k) for k in coefficients][:count]
    return given + [0.0] * (count - len(given))
