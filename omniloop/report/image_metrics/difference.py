"""SSIM, PSNR and gradient error: pictures compared pixel by pixel, without weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from omniloop.core.errors import ConfigError
from omniloop.core.geometry import Array
from omniloop.report.image_difference import difference, psnr_db
from omniloop.report.image_metrics.contract import Estimate, FramePair, ImageScore
from omniloop.report.intervals import Interval, bootstrap


class DifferenceMetric:
    """Differences from the reference's picture of the same moment: SSIM, PSNR, gradient error.

    Formulas and sources: `omniloop.report.image_difference`.
    """

    scores = (
        ImageScore("ssim", "SSIM", has_interval=True),
        ImageScore("psnr_db", "PSNR", "dB", has_interval=True, in_chart=False),
        ImageScore("gradient_error", "gradient error", "levels/px", has_interval=True),
    )
    absent = ""

    def measure(self, clip: Sequence[FramePair]) -> Array:
        """Sums over the clip's frames: ``(4,)`` frames, SSIM, squared error, gradient error.

        Raises:
            ConfigError: pictures cannot be decoded, differ in size, or are too small.
        """
        sums = np.zeros(4)
        for pair in clip:
            try:
                found = difference(pair.reference, pair.other)
            except ValueError as error:
                raise ConfigError(
                    f"frames cannot be compared: {error}", where=pair.place,
                    remedy="draw them at one size: renderer.width, renderer.height",
                ) from error  # fmt: skip
            sums += (1.0, found.ssim, found.mse, found.gradient_error)
        return sums

    def score(self, measured: Sequence[Array], scenes: NDArray[np.str_]) -> tuple[Estimate, ...]:
        """Means over frames, and a bootstrap over scenes."""
        sums = np.array(measured)
        names, scene = np.unique(scenes, return_inverse=True)
        by_scene = np.zeros((len(names), 4))
        np.add.at(by_scene, scene, sums)
        ssim, mse, gradient = (sums[:, 1:].sum(axis=0) / sums[:, 0].sum()).tolist()
        intervals = bootstrap(by_scene[:, 1:], np.repeat(by_scene[:, :1], 3, axis=1))
        return (
            Estimate(ssim, interval=intervals[0]),
            _psnr(mse, intervals[1]),
            Estimate(gradient, interval=intervals[2]),
        )

    def notes(self, measured: Sequence[Array]) -> tuple[str, ...]:
        """There is nothing to say."""
        return ()


def _psnr(mse: float, interval: Interval) -> Estimate:
    """Of the mean squared error: the more error, the less it is."""
    if mse <= 0:
        return Estimate(None, "identical")
    low, high = (
        None if end is None or end <= 0 else psnr_db(end) for end in (interval.high, interval.low)
    )
    return Estimate(psnr_db(mse), interval=Interval(low, high, interval.reason, interval.method))
