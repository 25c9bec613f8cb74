"""Fisheyes on the wire."""

from __future__ import annotations

import numpy as np
import pytest

from omniloop.core.cameras import FLU_TO_OPTICAL, Camera, FThetaCamera
from omniloop.core.fisheye import ftheta_from_fisheye
from omniloop.services.camera_codec import model_from_wire, spec_to_wire

FISHEYE = ftheta_from_fisheye(
    (1280, 800), (501.0, 500.0), (640.0, 398.0), (-0.03, 0.005, -0.002), 1.4
)


def test_a_fisheye_goes_as_one_and_comes_back_without_error() -> None:
    spec = spec_to_wire(Camera("round", FISHEYE, FLU_TO_OPTICAL))
    assert spec.WhichOneof("camera_param") == "opencv_fisheye_param"
    assert (spec.opencv_fisheye_param.focal_length_x, spec.opencv_fisheye_param.focal_length_y) == pytest.approx((501.0, 500.0))  # fmt: skip
    back = model_from_wire(spec)
    rays = FISHEYE.unproject(np.array([[0.0, 0.0], [640.0, 398.0], [1279.0, 799.0]]))
    np.testing.assert_allclose(back.project(rays)[0], FISHEYE.project(rays)[0], atol=1e-9)


def test_six_coefficients_stay_an_f_theta_polynomial() -> None:
    model = FThetaCamera.equidistant(640, 352, 2.0)
    spec = spec_to_wire(Camera("front", model, FLU_TO_OPTICAL))
    assert spec.WhichOneof("camera_param") == "ftheta_param"


def test_a_fisheye_without_a_focal_length_is_refused_by_name() -> None:
    spec = spec_to_wire(Camera("round", FISHEYE, FLU_TO_OPTICAL))
    spec.opencv_fisheye_param.focal_length_y = 0.0
    with pytest.raises(ValueError, match="camera 'round': a fisheye camera has"):
        model_from_wire(spec)
