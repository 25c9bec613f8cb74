"""Camera specifications to and from messages of sensorsim, shared by three protocols."""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np

from omniloop.core.camera_fit import is_long
from omniloop.core.cameras import (
    Camera,
    FThetaCamera,
    PinholeCamera,
    flu_from_optical,
    optical_from_flu,
)
from omniloop.core.errors import ConfigError
from omniloop.core.fisheye import fisheye_from_ftheta, ftheta_from_fisheye
from omniloop.core.geometry import Array
from omniloop.services.codec import pose_from_wire, pose_to_wire
from omniloop.services.protos import sensorsim_pb2 as pb


class CameraAxes(Enum):
    """Which axes a peer's camera poses have; inside they are always optical.

    The values are the contract revisions of carla-driver-interface.
    """

    FLU = "1"
    OPTICAL = "2"


def rig_to_camera_to_wire(rig_to_camera: Array, axes: CameraAxes) -> Any:
    """A camera pose ``(7,)`` with optical axes as a message with a peer's axes."""
    if axes is CameraAxes.FLU:
        rig_to_camera = flu_from_optical(rig_to_camera)
    return pose_to_wire(rig_to_camera)


def rig_to_camera_from_wire(message: Any, axes: CameraAxes) -> Array:
    """A message with a peer's axes as a camera pose ``(7,)`` with optical axes."""
    pose = pose_from_wire(message)
    return optical_from_flu(pose) if axes is CameraAxes.FLU else pose


def spec_to_wire(camera: Camera) -> pb.CameraSpec:
    """A camera's intrinsics at the size of its model.

    A fisheye goes as such where an f-theta polynomial of six coefficients, the most that
    NuRec's f-theta model has, would not say it.
    """
    model = camera.model
    shutter = pb.ROLLING_TOP_TO_BOTTOM if camera.shutter_us else pb.GLOBAL
    spec = pb.CameraSpec(
        logical_id=camera.id, resolution_h=model.height, resolution_w=model.width, shutter_type=shutter
    )  # fmt: skip
    fisheye = None
    if isinstance(model, FThetaCamera) and is_long(model):
        fisheye = fisheye_from_ftheta(model)
    if fisheye is not None:
        (fx, fy), radial = fisheye
        spec.opencv_fisheye_param.CopyFrom(
            pb.OpenCVFisheyeCameraParam(
                principal_point_x=model.cx, principal_point_y=model.cy,
                focal_length_x=fx, focal_length_y=fy,
                radial_coeffs=radial, max_angle=model.max_angle_rad,
            )
        )  # fmt: skip
    elif isinstance(model, FThetaCamera):
        c, d, e = model.linear_cde
        spec.ftheta_param.CopyFrom(
            pb.FthetaCameraParam(
                principal_point_x=model.cx, principal_point_y=model.cy,
                reference_poly=pb.FthetaCameraParam.ANGLE_TO_PIXELDIST,
                pixeldist_to_angle_poly=model.pixeldist_to_angle,
                angle_to_pixeldist_poly=model.angle_to_pixeldist,
                max_angle=model.max_angle_rad,
                linear_cde=pb.LinearCde(linear_c=c, linear_d=d, linear_e=e),
            )
        )  # fmt: skip
    else:
        spec.opencv_pinhole_param.CopyFrom(
            pb.OpenCVPinholeCameraParam(
                principal_point_x=model.cx, principal_point_y=model.cy,
                focal_length_x=model.fx, focal_length_y=model.fy,
                radial_coeffs=_padded(model.radial, 6), tangential_coeffs=_padded(model.tangential, 2),
                thin_prism_coeffs=_padded((), 4),
            )
        )  # fmt: skip
    return spec


def _padded(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    return (*values, *(0.0,) * (count - len(values)))


def model_from_wire(spec: Any) -> PinholeCamera | FThetaCamera:
    """The camera model of a specification.

    A missing direction of an f-theta polynomial is fitted from the other one.

    Raises:
        ValueError: the specification is empty, or of a kind that cannot be read.
    """
    width, height = spec.resolution_w, spec.resolution_h
    if width < 1 or height < 1:
        raise ValueError(f"camera '{spec.logical_id}' has the resolution {width}x{height}")
    if spec.WhichOneof("external_distortion"):
        raise ValueError(
            f"camera '{spec.logical_id}' has a windshield model, which is not supported"
        )
    which = spec.WhichOneof("camera_param")
    if which == "opencv_pinhole_param":
        p = spec.opencv_pinhole_param
        if any(p.thin_prism_coeffs):
            raise ValueError(
                f"camera '{spec.logical_id}' has thin prism coefficients, which are not supported"
            )
        if not (p.focal_length_x > 0 and p.focal_length_y > 0):
            raise ValueError(f"camera '{spec.logical_id}' has no focal length")
        return PinholeCamera(
            width, height, p.focal_length_x, p.focal_length_y, p.principal_point_x, p.principal_point_y,
            radial=tuple(p.radial_coeffs), tangential=tuple(p.tangential_coeffs),
        )  # fmt: skip
    if which == "ftheta_param":
        return _ftheta(spec.ftheta_param, width, height, spec.logical_id)
    if which == "opencv_fisheye_param":
        f = spec.opencv_fisheye_param
        try:
            return ftheta_from_fisheye(
                (width, height), (f.focal_length_x, f.focal_length_y),
                (f.principal_point_x, f.principal_point_y), tuple(f.radial_coeffs),
                f.max_angle or np.pi / 2,
            )  # fmt: skip
        except ConfigError as error:
            raise ValueError(f"camera '{spec.logical_id}': {error.what}") from error
    raise ValueError(f"camera '{spec.logical_id}' has no intrinsics")


def _ftheta(p: Any, width: int, height: int, name: str) -> FThetaCamera:
    forward, backward = list(p.angle_to_pixeldist_poly), list(p.pixeldist_to_angle_poly)
    if not forward and not backward:
        raise ValueError(f"camera '{name}' has no f-theta polynomial")
    corner_px = float(
        np.hypot(
            max(p.principal_point_x, width - p.principal_point_x),
            max(p.principal_point_y, height - p.principal_point_y),
        )
    )
    if forward:
        max_angle = p.max_angle or np.pi / 2
    else:
        max_angle = p.max_angle or float(np.polynomial.polynomial.polyval(corner_px, backward))
        reach_px = corner_px
        forward = list(_inverse_poly(np.array(backward), reach_px))
    if not backward:
        backward = list(_inverse_poly(np.array(forward), max_angle))
    c = p.linear_cde
    cde = (c.linear_c, c.linear_d, c.linear_e) if p.HasField("linear_cde") else (1.0, 0.0, 0.0)
    return FThetaCamera(
        width, height, p.principal_point_x, p.principal_point_y, tuple(forward), tuple(backward),
        max_angle, linear_cde=cde,
    )  # fmt: skip


def _inverse_poly(
    poly: Array, reach: float, degree: int = 5, samples: int = 256
) -> tuple[float, ...]:
    """Fit the inverse of a polynomial over [0, `reach`], with 256 samples as AlpaSim does."""
    x = np.linspace(0.0, reach, samples)
    y = np.polynomial.polynomial.polyval(x, poly)
    scale = float(np.abs(y).max()) or 1.0
    basis = np.stack([(y / scale) ** k for k in range(1, degree + 1)], axis=1)
    solved = np.linalg.lstsq(basis, x, rcond=None)[0]
    return (0.0, *(float(v) / scale**k for k, v in enumerate(solved, start=1)))


def available_camera(camera: Camera, axes: CameraAxes) -> Any:
    """A camera as drivers and catalogues list it."""
    return pb.AvailableCamerasReturn.AvailableCamera(
        intrinsics=spec_to_wire(camera), logical_id=camera.id,
        rig_to_camera=rig_to_camera_to_wire(camera.rig_to_camera, axes),
    )  # fmt: skip


def camera_from_wire(message: Any, axes: CameraAxes) -> Camera:
    """A listed camera.

    Raises:
        ValueError: its intrinsics or its pose cannot be read.
    """
    name = message.logical_id or message.intrinsics.logical_id
    return Camera(
        name,
        model_from_wire(message.intrinsics),
        rig_to_camera_from_wire(message.rig_to_camera, axes),
    )
