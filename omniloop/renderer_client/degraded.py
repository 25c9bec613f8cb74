"""The rasteriser with pictures that get worse the farther ego is from the recorded path.

So do reconstructions of a recorded drive: they extrapolate beyond the rays that were
captured (OmniDreams, `seeds/omnidreams.txt`, Visual Realism and figure 14). This renderer has
that behaviour with a known strength; it imitates no particular reconstruction.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from omniloop.core.cameras import Camera
from omniloop.core.contracts import RenderRequest, RenderResult, SessionInfo
from omniloop.core.errors import ConfigError
from omniloop.core.seeds import generator
from omniloop.renderer_client.paint import Image
from omniloop.renderer_client.palette import REFERENCE_WIDTH_PX
from omniloop.renderer_client.rasterizer import Rasterizer, RasterSession
from omniloop.scenes.recorded_path import distance_from_recording_m

_WARP_KNOTS = (5, 8)
"""Displacements are drawn at so many places down and across, and smooth between them."""


class DegradedRasterizer(Rasterizer):
    """Draws as the rasteriser, then warps, blurs and adds noise, by ego's distance from the recorded path.

    The distance is that of the rig's origin from the whole recorded path, in the plane, at the
    frame's capture time. Up to `free_m` frames are the rasteriser's to the byte; beyond, each
    effect grows in proportion to the metres beyond it, up to `most_m`. What is drawn at random
    follows from the session's seed, the camera and the capture time alone.

    Args:
        blur_px_per_m: Standard deviation of a Gaussian, in pixels of an image 1280 wide.
        warp_px_per_m: Standard deviation of displacements, smooth over the image, in the
            same pixels.
        noise_levels_per_m: Standard deviation of grey noise, in levels of 0 to 255.
        free_m: No effect up to this distance.
        most_m: Effects grow no more from this distance on.
        settings: See `Rasterizer`.

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(
        self,
        blur_px_per_m: float = 0.5,
        warp_px_per_m: float = 1.0,
        noise_levels_per_m: float = 0.5,
        free_m: float = 0.1,
        most_m: float = 20.0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        given = {
            "blur_px_per_m": blur_px_per_m, "warp_px_per_m": warp_px_per_m,
            "noise_levels_per_m": noise_levels_per_m, "free_m": free_m, "most_m": most_m,
        }  # fmt: skip
        for name, value in given.items():
            if not (isinstance(value, int | float) and 0 <= value < math.inf):
                raise ConfigError(
                    f"{name} is {value!r}", where=f"renderer.{name}",
                    remedy="give a number, 0 or more",
                )  # fmt: skip
        if most_m <= free_m:
            raise ConfigError(
                f"most_m is {most_m!r}, free_m {free_m!r}", where="renderer.most_m",
                remedy="let renderer.most_m be larger than renderer.free_m",
            )  # fmt: skip
        self._per_m = (float(blur_px_per_m), float(warp_px_per_m), float(noise_levels_per_m))
        self._range_m = (float(free_m), float(most_m))

    def open(  # type: ignore[override]
        self, session: SessionInfo, cameras: tuple[Camera, ...]
    ) -> DegradedSession:
        """Begin a rollout with cameras at the size of their images."""
        degraded = DegradedSession(session, cameras, self._per_m, self._range_m)
        degraded.drawn = super().open(session, cameras, degraded.degrade)
        return degraded


class DegradedSession:
    """One rollout's frames. Equal frames of a session have equal bytes, however they are asked for."""

    drawn: RasterSession

    def __init__(
        self,
        session: SessionInfo,
        cameras: tuple[Camera, ...],
        per_m: tuple[float, float, float],
        range_m: tuple[float, float],
    ) -> None:
        self._session = session
        self._cameras = cameras
        self._per_m = per_m
        self._range_m = range_m
        self._distance_m = np.zeros(0)
        self._frames = self._degraded = 0
        self._farthest_m = 0.0

    def render(self, request: RenderRequest) -> RenderResult:
        """Render each frame at its capture time."""
        self._distance_m = distance_from_recording_m(
            self._session.scene, request.local_to_rig[request.end_index]
        )
        self._frames += len(request)
        self._farthest_m = max(self._farthest_m, float(self._distance_m.max(initial=0.0)))
        return self.drawn.render(request)

    def degrade(self, image: Image, request: RenderRequest, frame: int) -> Image:
        """See `omniloop.renderer_client.rasterizer.Alter`."""
        free_m, most_m = self._range_m
        beyond_m = min(float(self._distance_m[frame]), most_m) - free_m
        if beyond_m <= 0 or not any(self._per_m):
            return image
        self._degraded += 1
        camera_id = self._cameras[int(request.camera_index[frame])].id
        capture_us = int(request.times_us[request.end_index[frame]])
        random = generator(self._session.seed, "degraded", camera_id, capture_us)
        blur_px, warp_px, noise_levels = (beyond_m * k for k in self._per_m)
        scale = image.shape[1] / REFERENCE_WIDTH_PX
        return degraded(image, blur_px * scale, warp_px * scale, noise_levels, random)

    def facts(self) -> dict[str, object]:
        """How many frames were drawn and degraded, and the farthest that ego was from the path."""
        return {
            "distance": {
                "frames": self._frames,
                "degraded": self._degraded,
                "farthest_m": self._farthest_m,
            }
        }


def degraded(
    image: Image, blur_px: float, warp_px: float, noise_levels: float, random: np.random.Generator
) -> Image:
    """Warp, then blur, then add noise; the image given stays as it is.

    What is drawn does not depend on the strengths: of two strengths, the larger does the same
    more strongly.

    Args:
        image: ``(H, W, 3)`` uint8.
        blur_px: Standard deviation of a Gaussian.
        warp_px: Standard deviation of displacements at the places where they are drawn; cubic
            between these.
        noise_levels: Standard deviation of the noise, the same in all colours of a pixel.
    """
    height, width = image.shape[:2]
    knots = random.standard_normal((*_WARP_KNOTS, 2), dtype=np.float32)
    out: Image = image
    if warp_px > 0:
        shift = cv2.resize(
            knots * np.float32(warp_px), (width, height), interpolation=cv2.INTER_CUBIC
        )
        columns = np.arange(width, dtype=np.float32) + shift[..., 0]
        rows = np.arange(height, dtype=np.float32)[:, None] + shift[..., 1]
        out = cv2.remap(out, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if blur_px > 0:
        out = cv2.GaussianBlur(out, (0, 0), blur_px)
    if noise_levels > 0:
        levels = random.standard_normal((height, width), dtype=np.float32) * np.float32(
            noise_levels
        )
        grey = np.rint(levels).astype(np.int16)
        out = cv2.add(out, cv2.merge([grey] * 3), dtype=cv2.CV_8U)
    return out
