"""How much two pictures of the same moment differ: SSIM, squared error, gradients; no weights.

Pure functions over decoded pictures. They compare two renderers' frames of one moment, pixel
by pixel; distances of distributions, which need the weights of a network, are in
`omniloop.report.image_metrics`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from omniloop.core.geometry import Array

Image = NDArray[np.uint8]
"""``(H, W, 3)`` in OpenCV's order: blue, green, red."""
Grey = NDArray[np.float32]

WINDOW_PX = 11
WINDOW_SIGMA_PX = 1.5
PEAK = 255.0
C1 = (0.01 * PEAK) ** 2
C2 = (0.03 * PEAK) ** 2


@dataclass(frozen=True)
class Difference:
    """How a picture differs from a reference.

    Attributes:
        ssim: 1 for the same picture, less for others.
        mse: Mean squared error over pixels and colours, in levels squared.
        gradient_error: See `gradient_error`.
    """

    ssim: float
    mse: float
    gradient_error: float


SAME = Difference(1.0, 0.0, 0.0)


def decode(image: bytes) -> Image:
    """Decode a JPEG (exact integer DCT) or a PNG.

    Raises:
        ValueError: the bytes are neither.
    """
    pixels = cv2.imdecode(np.frombuffer(image, dtype=np.uint8), cv2.IMREAD_COLOR) if image else None
    if pixels is None:
        raise ValueError(f"{len(image)} bytes that are neither JPEG nor PNG")
    return np.asarray(pixels)


def difference(first: bytes, second: bytes) -> Difference:
    """Compare two encoded pictures; equal bytes are the same picture.

    Raises:
        ValueError: one cannot be decoded, they differ in size, or are smaller than the window.
    """
    if first == second:
        return SAME
    a, b = decode(first), decode(second)
    if a.shape != b.shape:
        raise ValueError(
            f"pictures of {a.shape[1]}x{a.shape[0]} and {b.shape[1]}x{b.shape[0]} pixels"
        )
    grey_a, grey_b = luma(a), luma(b)
    return Difference(ssim(grey_a, grey_b), mse(a, b), gradient_error(grey_a, grey_b))


def luma(image: Image) -> Grey:
    """Luma ``(H, W)`` of ITU-R BT.601, in levels, not rounded."""
    return np.asarray(cv2.cvtColor(image.astype(np.float32), cv2.COLOR_BGR2GRAY))


def ssim(first: Grey, second: Grey) -> float:
    """Mean structural similarity of two pictures ``(H, W)`` in levels of 0 to 255.

    Source: Wang, Bovik, Sheikh, Simoncelli, Image quality assessment: from error visibility to
    structural similarity, IEEE Transactions on Image Processing 13 (2004), equation 13, with
    the paper's circular Gaussian window of 11 x 11 px, sigma 1.5, K1 = 0.01, K2 = 0.03. The
    mean is over the places at which the window lies inside the picture.

    Raises:
        ValueError: a picture is smaller than the window.
    """
    if min(first.shape) < WINDOW_PX:
        raise ValueError(
            f"a picture of {first.shape[1]}x{first.shape[0]} pixels is smaller than the window of"
            f" {WINDOW_PX}x{WINDOW_PX}"
        )
    # Variances are small differences of large squares: float32 would lose their digits.
    a, b = first.astype(np.float64), second.astype(np.float64)
    mean_a, mean_b = _windowed(a), _windowed(b)
    both, square_a, square_b = mean_a * mean_b, mean_a * mean_a, mean_b * mean_b
    var_a, var_b = _windowed(a * a) - square_a, _windowed(b * b) - square_b
    covariance = _windowed(a * b) - both
    over = (2 * both + C1) * (2 * covariance + C2)
    under = (square_a + square_b + C1) * (var_a + var_b + C2)
    inside = slice(WINDOW_PX // 2, -(WINDOW_PX // 2))
    return float((over / under)[inside, inside].mean())


def _windowed(values: Array) -> Array:
    size = (WINDOW_PX, WINDOW_PX)
    return np.asarray(cv2.GaussianBlur(values, size, WINDOW_SIGMA_PX))


def mse(first: Image, second: Image) -> float:
    """Mean squared error over pixels and colours, in levels squared."""
    # Sums of whole numbers are exact, in any order; those of OpenCV's norm are not.
    counts = np.bincount(cv2.absdiff(first, second).ravel(), minlength=256)
    return int(counts @ np.arange(256) ** 2) / first.size


def psnr_db(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio ``10 log10(255^2 / mse)``; infinite for no error."""
    return 10 * math.log10(PEAK**2 / mean_squared_error) if mean_squared_error > 0 else math.inf


def gradient_error(first: Grey, second: Grey) -> float:
    """Mean absolute difference of the gradients' magnitudes, in levels per pixel.

    Gradients are Sobel's (3 x 3, divided by 8). Blur takes gradients away and noise adds some:
    both count.
    """
    return float(np.abs(_gradient(first) - _gradient(second)).mean(dtype=np.float64))


def _gradient(values: Grey) -> Grey:
    x, y = (cv2.Sobel(values, cv2.CV_32F, dx, 1 - dx, ksize=3, scale=1 / 8) for dx in (1, 0))
    # Not by cv2.magnitude, whose last bits depend on where its memory lies.
    return np.asarray(np.sqrt(x * x + y * y))
