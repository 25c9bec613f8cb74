"""FID and KID: how far apart the frames of two renderers are as distributions."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from omniloop.report.image_difference import decode
from omniloop.report.image_metrics.contract import Estimate, FramePair, ImageScore
from omniloop.report.image_metrics.distribution import frechet_distance, kernel_distance
from omniloop.report.image_metrics.network import FeatureNetwork, Features, Samples, check_least

Measured = tuple[Features, Features]
"""Features of a clip's frames, ``(N, D)``: the reference's and the other's."""


class InceptionMetric:
    """FID and KID of the frames of a bin, on features of Inception v3 that the user gives.

    Formulas and sources: `omniloop.report.image_metrics.distribution`.

    Args:
        weights: A TorchScript file, called as ``module(images, return_features=True)`` with
            uint8 RGB images ``(N, 3, H, W)``, which gives ``(N, D)`` features; it resizes them itself.
            Such is ``inception-2015-12-05.pt`` of StyleGAN's metrics, D = 2048.
        device: Where it runs, as torch names it.
        batch: Frames of a call.
        least_frames: FID is undefined with fewer; 0 for as many as there are features, below which
            the covariances are singular.
        kid_subsets: Subsets that KID is the mean of.
        kid_subset_frames: Frames of a subset.

    Raises:
        ConfigError: a setting is out of range, torch is missing, or the file cannot be used.
    """

    scores = (ImageScore("fid", "FID"), ImageScore("kid", "KID", in_chart=False))

    def __init__(
        self, weights: str = "", device: str = "cpu", batch: int = 32, least_frames: int = 0,
        kid_subsets: int = 100, kid_subset_frames: int = 1000,
    ) -> None:  # fmt: skip
        settings = {
            "batch": (batch, 1), "least_frames": (least_frames, 0), "kid_subsets": (kid_subsets, 1),
            "kid_subset_frames": (kid_subset_frames, 2),
        }  # fmt: skip
        check_least("inception", settings)
        self._subsets, self._subset_frames = kid_subsets, kid_subset_frames
        self._network: FeatureNetwork | None = None
        if weights:
            self._network = FeatureNetwork(
                "inception", weights, probe=np.zeros((1, 3, 299, 299), np.uint8),
                keywords={"return_features": True}, batch=batch, device=device,
            )  # fmt: skip
            self._least = max(least_frames or self._network.width, 2)

    @property
    def absent(self) -> str:
        """Why there is no score: no weights."""
        return "" if self._network else "needs --weights inception=PATH"

    def measure(self, clip: Sequence[FramePair]) -> Measured:
        """Features of both renderers' frames.

        Raises:
            ConfigError: the network cannot be used on them.
        """
        assert self._network is not None
        pictures = [pair.reference for pair in clip] + [pair.other for pair in clip]

        def sample(k: int) -> Samples:
            return np.ascontiguousarray(decode(pictures[k])[:, :, ::-1].transpose(2, 0, 1))

        found = self._network.features(
            [blake2b(picture, digest_size=16).digest() for picture in pictures],
            [f"{name}'s {p.place}" for name in ("the reference", "the other") for p in clip],
            sample,
        )
        return found[: len(clip)], found[len(clip) :]

    def score(self, measured: Sequence[Measured], scenes: NDArray[np.str_]) -> tuple[Estimate, ...]:
        """FID and KID of all frames together."""
        reference, other = (
            np.concatenate(part).astype(np.float64) for part in zip(*measured, strict=True)
        )
        return (
            Estimate(frechet_distance(reference, other))
            if len(other) >= self._least
            else _too_few(self._least, len(other)),
            Estimate(
                kernel_distance(
                    reference, other, subsets=self._subsets, size=self._subset_frames
                )
            )
            if len(other) >= 2
            else _too_few(2, len(other)),
        )  # fmt: skip

    def notes(self, measured: Sequence[Measured]) -> tuple[str, ...]:
        """Which weights."""
        assert self._network is not None
        return (
            f"FID, KID: {self._network.width} features, weights of SHA-256 {self._network.digest}",
        )


def _too_few(least: int, count: int) -> Estimate:
    return Estimate(None, f"needs {least} frames, has {count}")
