"""Picture differences against hand-made cases and the formulas written out."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.report.image_difference import (
    C1,
    C2,
    SAME,
    decode,
    difference,
    gradient_error,
    luma,
    mse,
    psnr_db,
    ssim,
)


def picture(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    drawn = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(drawn, (0, 0), 1.0)


def png(image: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", image)[1])


def plane(level: float) -> np.ndarray:
    return np.full((20, 20), level, np.float32)


def test_ssim_of_flat_pictures_is_the_luminance_term():
    a, b = 100.0, 140.0
    assert ssim(plane(a), plane(b)) == pytest.approx(
        (2 * a * b + C1) / (a * a + b * b + C1), rel=1e-5
    )


def test_ssim_is_the_papers_formula_at_every_place():
    a, b = luma(picture(1)).astype(float), luma(picture(2)).astype(float)
    reach = np.arange(-5, 6)
    weights = np.exp(-(reach**2) / (2 * 1.5**2))
    window = np.outer(weights, weights) / weights.sum() ** 2
    found = []
    for y in range(5, a.shape[0] - 5):
        for x in range(5, a.shape[1] - 5):
            p, q = (v[y - 5 : y + 6, x - 5 : x + 6] for v in (a, b))
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            found.append(
                (2 * mp * mq + C1) * (2 * cov + C2) / ((mp**2 + mq**2 + C1) * (vp + vq + C2))
            )
    assert ssim(luma(picture(1)), luma(picture(2))) == pytest.approx(np.mean(found), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_scores_are_symmetric_and_bounded(first: int, second: int):
    one, two = picture(first), picture(second)
    a, b = luma(one), luma(two)
    assert ssim(a, b) == pytest.approx(ssim(b, a), abs=1e-6)
    assert -1 - 1e-6 <= ssim(a, b) <= 1 + 1e-6
    assert mse(one, two) == mse(two, one) >= 0
    assert gradient_error(a, b) == pytest.approx(gradient_error(b, a))
    assert ssim(a, a) == pytest.approx(1, abs=1e-6)
    assert mse(one, one) == gradient_error(a, a) == 0


def test_psnr_of_one_level_everywhere_is_48_decibels():
    a = np.full((16, 16, 3), 100, np.uint8)
    assert mse(a, a + 1) == 1
    assert psnr_db(1) == pytest.approx(20 * math.log10(255))
    assert psnr_db(0) == math.inf


def test_squared_errors_do_not_wrap_around():
    black, white = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)
    assert mse(black, white) == 255**2
    assert psnr_db(mse(black, white)) == pytest.approx(0)


def test_the_gradient_of_a_ramp_is_its_slope():
    ramp = np.tile(np.arange(0, 80, 4, dtype=np.float32), (20, 1))
    inside = ramp.shape[1] - 2  # the border mirrors, so its columns have no slope
    assert gradient_error(ramp, plane(0)) == pytest.approx(4 * inside / ramp.shape[1])


def test_luma_weighs_colours_as_bt_601():
    blue_green_red = np.zeros((1, 3, 3), np.uint8)
    blue_green_red[0, range(3), range(3)] = 255
    assert luma(blue_green_red)[0] == pytest.approx(255 * np.array([0.114, 0.587, 0.299]), abs=0.1)


def test_equal_bytes_are_the_same_picture_and_pngs_and_jpegs_are_read():
    image = picture(5)
    assert difference(png(image), png(image)) == SAME
    jpeg = bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])
    assert (decode(png(image)) == image).all()
    found = difference(png(image), jpeg)
    assert 0.8 < found.ssim < 1
    assert found.mse > 0


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (png(picture(1)), png(picture(1, 26, 32)), "32x24 and 32x26"),
        (png(picture(1)), b"no picture", "10 bytes that are neither"),
        (b"", png(picture(1)), "0 bytes that are neither"),
        (png(picture(1, 8, 32)), png(picture(2, 8, 32)), "smaller than the window"),
    ],
)
def test_what_cannot_be_compared_is_refused(first: bytes, second: bytes, says: str):
    with pytest.raises(ValueError, match=says):
        difference(first, second)
