"""The cameras of a ClipGT archive: ``rig_json`` of ``calibration_estimate``.

Poses are roll, pitch and yaw in degrees about fixed axes and a translation, with camera
axes forward, left, up; numbers of the model are texts (alpasim.md 6.4).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from omniloop.core.camera_fit import MAX_COEFFICIENTS, as_ftheta, inverse_polynomial
from omniloop.core.cameras import Camera, FThetaCamera, flu_from_optical, optical_from_flu
from omniloop.core.errors import ConfigError, SceneError
from omniloop.core.geometry import Array

_PREFIX = "camera:"
_FORWARD, _BACKWARD = "angle-to-pixeldistance", "pixeldistance-to-angle"
_BEYOND = 1.01
"""The model goes on this far beyond the corner farthest from the principal point."""

_NEEDED = ("width", "height", "cx", "cy", "polynomial")


def rig_json(cameras: Iterable[Camera]) -> str:
    """Write cameras; one that cannot be an f-theta camera is left out.

    The server takes the cameras of a session from its request and needs none of these.
    """
    sensors = []
    for camera in cameras:
        try:
            fitted = as_ftheta(camera)
        except ConfigError:
            continue
        assert isinstance(fitted.model, FThetaCamera)
        sensors.append(_sensor(fitted, fitted.model))
    return json.dumps({"rig": {"sensors": sensors}, "version": 1})


def _sensor(camera: Camera, model: FThetaCamera) -> dict[str, Any]:
    from scipy.spatial.transform import Rotation

    body = flu_from_optical(camera.rig_to_camera)
    c, d, e = model.linear_cde
    padded = (*model.angle_to_pixeldist, *(0.0,) * MAX_COEFFICIENTS)[:MAX_COEFFICIENTS]
    return {
        "name": _sensor_name(camera.id),
        "protocol": "camera.virtual",
        "nominalSensor2Rig_FLU": {
            "roll-pitch-yaw": Rotation.from_quat(body[3:]).as_euler("xyz", degrees=True).tolist(),
            "t": body[:3].tolist(),
        },
        "correction_sensor_R_FLU": {"roll-pitch-yaw": [0.0, 0.0, 0.0]},
        "correction_rig_T": [0.0, 0.0, 0.0],
        "properties": {
            "Model": "ftheta", "width": str(model.width), "height": str(model.height),
            "cx": repr(model.cx), "cy": repr(model.cy),
            "polynomial": " ".join(repr(float(k)) for k in padded), "polynomial-type": _FORWARD,
            "linear-c": repr(c), "linear-d": repr(d), "linear-e": repr(e),
        },
    }  # fmt: skip


def _sensor_name(camera_id: str) -> str:
    """``camera_front_wide_120fov`` is written ``camera:front:wide:120fov``; other ids stay."""
    return camera_id.replace("_", ":") if camera_id.startswith("camera_") else camera_id


def read_rig_json(text: str, where: str) -> tuple[Camera, ...]:
    """Read the f-theta cameras of a rig; its other sensors are passed over.

    Raises:
        SceneError: it is no JSON, or a camera's numbers are missing or wrong.
    """
    try:
        document = json.loads(text)
        sensors = document.get("rig", document)["sensors"]
        return tuple(
            _camera(sensor)
            for sensor in sensors
            if str((sensor.get("properties") or {}).get("Model", "")).lower() == "ftheta"
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SceneError(
            f"rig_json of calibration_estimate cannot be read: {type(error).__name__}: {error}",
            where=where, remedy="write the HD map again",
        ) from error  # fmt: skip


def _camera(sensor: dict[str, Any]) -> Camera:
    from scipy.spatial.transform import Rotation

    p = sensor["properties"]
    width, height, cx, cy = (float(p[k]) for k in _NEEDED[:4])
    given = tuple(float(k) for k in str(p["polynomial"]).split())
    reach_px = _BEYOND * float(np.hypot(max(cx, width - cx), max(cy, height - cy)))
    if not (width >= 1 and height >= 1 and given and np.isfinite([cx, cy, *given]).all()):
        raise ValueError(f"camera {sensor['name']} has the size {width}x{height} and {given}")
    if p.get("polynomial-type", _BACKWARD) == _FORWARD:
        forward, max_angle = given, _angle_at(given, reach_px)
        backward = inverse_polynomial(forward, max_angle)
    else:
        backward, max_angle = given, float(np.polynomial.polynomial.polyval(reach_px, given))
        forward = inverse_polynomial(backward, reach_px)
    nominal = sensor["nominalSensor2Rig_FLU"]
    turned = Rotation.from_euler("xyz", nominal["roll-pitch-yaw"], degrees=True)
    if "correction_sensor_R_FLU" in sensor:
        turned = turned * Rotation.from_euler(
            "xyz", sensor["correction_sensor_R_FLU"]["roll-pitch-yaw"], degrees=True
        )
    moved: Array = np.add(nominal["t"], sensor.get("correction_rig_T", (0.0, 0.0, 0.0)))
    cde = tuple(float(p.get(f"linear-{k}", v)) for k, v in (("c", 1), ("d", 0), ("e", 0)))
    name = str(sensor["name"])
    return Camera(
        id=name.replace(":", "_") if name.startswith(_PREFIX) else name,
        model=FThetaCamera(
            int(width), int(height), cx, cy, forward, backward, max_angle, (cde[0], cde[1], cde[2])
        ),
        rig_to_camera=optical_from_flu(np.concatenate([moved, turned.as_quat()])),
    )


def _angle_at(forward: tuple[float, ...], radius_px: float) -> float:
    """The first angle at which a polynomial reaches a radius, or stops growing."""
    angles = np.linspace(0.0, np.pi, 2001)
    radius = np.polynomial.polynomial.polyval(angles, forward)
    ends = np.flatnonzero((radius[1:] >= radius_px) | (np.diff(radius) <= 0))
    return float(angles[ends[0] + 1] if len(ends) else angles[-1])
