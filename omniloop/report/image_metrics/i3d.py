"""FVD: how far apart the clips of two renderers are as distributions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import cv2
import numpy as np
from numpy.typing import NDArray

from omniloop.report.image_difference import decode
from omniloop.report.image_metrics.contract import Estimate, FramePair, ImageScore
from omniloop.report.image_metrics.distribution import frechet_distance
from omniloop.report.image_metrics.network import FeatureNetwork, Features, Samples, check_least

SIDE_PX = 224
LEAST_FRAMES = 10
"""I3D averages over two steps of what is left after time was halved three times; public tools begin here."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Features of a clip.

    Attributes:
        reference: ``(C, D)`` of the reference's videos, one of each camera.
        other: ``(C, D)`` of the other's.
        short: Cameras left out, with too few frames in the clip.
    """

    reference: Features
    other: Features
    short: int


class I3dMetric:
    """FVD of the clips of a bin, one video of each camera, on features of I3D that the user gives.

    Formula and sources: `omniloop.report.image_metrics.distribution`. Frames become
    224 x 224 px, bilinear, whatever their shape, as in Unterthiner et al. 2018.

    Args:
        weights: A TorchScript file, called as ``module(videos, rescale=False, resize=False,
            return_features=True)`` with float32 RGB videos ``(N, 3, T, 224, 224)`` in [-1, 1], which
            gives ``(N, D)`` features. Such is ``i3d_torchscript.pt`` of StyleGAN-V's metrics, D = 400.
        device: Where it runs, as torch names it.
        batch: Videos of a call.
        frames: T: the first so many frames of a camera in a clip; a camera with fewer is left out.
        least_videos: FVD is undefined with fewer; 0 for as many as there are features, below which
            the covariances are singular.

    Raises:
        ConfigError: a setting is out of range, torch is missing, or the file cannot be used.
    """

    scores = (ImageScore("fvd", "FVD"),)

    def __init__(
        self, weights: str = "", device: str = "cpu", batch: int = 8, frames: int = 16,
        least_videos: int = 0,
    ) -> None:  # fmt: skip
        settings = {
            "batch": (batch, 1), "frames": (frames, LEAST_FRAMES), "least_videos": (least_videos, 0),
        }  # fmt: skip
        check_least("i3d", settings)
        self._frames = frames
        self._network: FeatureNetwork | None = None
        if weights:
            self._network = FeatureNetwork(
                "i3d", weights, probe=np.zeros((1, 3, frames, SIDE_PX, SIDE_PX), np.float32),
                keywords={"rescale": False, "resize": False, "return_features": True},
                batch=batch, device=device,
            )  # fmt: skip
            self._least = max(least_videos or self._network.width, 2)

    @property
    def absent(self) -> str:
        """Why there is no score: no weights."""
        return "" if self._network else "needs --weights i3d=PATH"

    def measure(self, clip: Sequence[FramePair]) -> Measured:
        """Features of each camera's video, of both renderers.

        Raises:
            ConfigError: the network cannot be used on them.
        """
        assert self._network is not None
        cameras = [list(g) for _, g in itertools.groupby(clip, key=lambda pair: pair.camera_id)]
        chosen = [pairs[: self._frames] for pairs in cameras if len(pairs) >= self._frames]
        videos = [[p.reference for p in pairs] for pairs in chosen]
        videos += [[p.other for p in pairs] for pairs in chosen]
        found = self._network.features(
            [blake2b(b"".join(_digest(i) for i in v), digest_size=16).digest() for v in videos],
            [f"{n}'s {v[0].place}" for n in ("the reference", "the other") for v in chosen],
            lambda k: _video(videos[k]),
        )
        count = len(chosen)
        return Measured(found[:count], found[count:], len(cameras) - count)

    def score(self, measured: Sequence[Measured], scenes: NDArray[np.str_]) -> tuple[Estimate, ...]:
        """FVD of all videos together."""
        reference, other = (
            np.concatenate([getattr(m, side) for m in measured]).astype(np.float64)
            for side in ("reference", "other")
        )
        if len(other) < self._least:
            return (Estimate(None, f"needs {self._least} videos, has {len(other)}"),)
        return (Estimate(frechet_distance(reference, other)),)

    def notes(self, measured: Sequence[Measured]) -> tuple[str, ...]:
        """Which weights, and what was left out."""
        assert self._network is not None
        weights = f"{self._network.width} features, weights of SHA-256 {self._network.digest}"
        told = [f"FVD: videos of {self._frames} frames, {weights}"]
        short = sum(m.short for m in measured)
        if short:
            count = short + sum(len(m.other) for m in measured)
            told.append(
                f"FVD: {short} of {count} videos have fewer than {self._frames} frames and are left out;"
                " --clip and --every say how many there are, i3d.frames how many are needed"
            )
        return tuple(told)


def _digest(image: bytes) -> bytes:
    return blake2b(image, digest_size=16).digest()


def _video(images: Sequence[bytes]) -> Samples:
    """RGB ``(3, T, 224, 224)`` in [-1, 1]."""
    size = (SIDE_PX, SIDE_PX)
    frames = [
        cv2.resize(decode(image).astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        for image in images
    ]
    video = np.stack(frames)[..., ::-1].transpose(3, 0, 1, 2)
    return np.ascontiguousarray(video * np.float32(2 / 255) - 1, np.float32)
