"""Pictures as a worse camera takes them: blurred, exposed wrongly, noisy.

A picture is decoded, changed and encoded again in the threads that also draw pictures.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import cv2
import numpy as np
import simplejpeg

from omniloop.core.cameras import Camera
from omniloop.core.errors import ServiceError
from omniloop.core.geometry import Array
from omniloop.core.local import render_pool
from omniloop.core.messages import RenderRequest, RenderResult, SessionInfo
from omniloop.core.seeds import generator
from omniloop.core.time import US_PER_S
from omniloop.imperfection.settings import ImageSettings

_JPEG = b"\xff\xd8"
_PNG = b"\x89PNG"


@functools.cache
def _normal_quantiles() -> Array:
    """``(256,)`` equally likely values with the mean and deviation of a standard normal.

    One for each byte: a tenth of the time of normal numbers, and cut off at 2.9 deviations.
    """
    normal = NormalDist()
    values = np.array([normal.inv_cdf((k + 0.5) / 256) for k in range(256)])
    return np.asarray(values / values.std())


class GainDrift:
    """A camera's exposure gain over time.

    Its logarithm is linear between knots every `gain_period_s` from `start_us` on, each
    uniform in the logarithms of the range.
    """

    def __init__(self, settings: ImageSettings, start_us: int, end_us: int, seed: int, camera_id: str) -> None:  # fmt: skip
        self._start_us = start_us
        self._period_s = settings.gain_period_s
        count = int((end_us - start_us) / US_PER_S / self._period_s) + 2
        drawn = generator(seed, "image", "gain", camera_id).random(count)
        least, most = (math.log(g) for g in settings.gain)
        self._places = np.arange(count)
        self._logs: Array = least + drawn * (most - least)

    def at(self, time_us: int) -> float:
        """The gain at a time."""
        place = (time_us - self._start_us) / US_PER_S / self._period_s
        return math.exp(float(np.interp(place, self._places, self._logs)))


def disturb(
    image: bytes,
    *,
    gain: float,
    blur_px: float,
    noise_levels: float,
    jpeg_quality: int,
    noise: np.random.Generator,
) -> bytes:
    """Blur, then expose, then add noise; an image that none of this changes keeps its bytes.

    A JPEG becomes a JPEG (4:2:0, exact integer DCT), a PNG an 8-bit colour PNG.

    Args:
        gain: Factor of the values as they are encoded.
        blur_px: Standard deviation of a Gaussian.
        noise_levels: Standard deviation of the noise, the same in all three colours of a pixel, in
            levels of 0 to 255.
        noise: What the noise is drawn from.

    Raises:
        ValueError: it is neither JPEG nor PNG, or cannot be decoded.
    """
    if gain == 1.0 and blur_px == 0 and noise_levels == 0:
        return image
    if image.startswith(_JPEG):
        pixels = simplejpeg.decode_jpeg(image, colorspace="RGB", fastdct=False, fastupsample=False)
    elif image.startswith(_PNG):
        pixels = cv2.imdecode(np.frombuffer(image, dtype=np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ValueError("the PNG cannot be decoded")
    else:
        raise ValueError("it is neither JPEG nor PNG")
    if blur_px > 0:
        cv2.GaussianBlur(pixels, (0, 0), blur_px, dst=pixels)
    if gain != 1.0:
        table = np.clip(np.rint(np.arange(256) * gain), 0, 255).astype(np.uint8)
        cv2.LUT(pixels, table, dst=pixels)
    if noise_levels > 0:
        height, width = pixels.shape[:2]
        drawn = np.frombuffer(noise.bytes(height * width), dtype=np.uint8).reshape(height, width)
        levels = cv2.LUT(drawn, np.rint(_normal_quantiles() * noise_levels).astype(np.int16))
        cv2.add(pixels, cv2.merge([levels] * 3), dst=pixels, dtype=cv2.CV_8U)
    if image.startswith(_JPEG):
        return bytes(
            simplejpeg.encode_jpeg(
                pixels, quality=jpeg_quality, colorspace="RGB",
                colorsubsampling="420", fastdct=False,
            )
        )  # fmt: skip
    return bytes(cv2.imencode(".png", pixels)[1])


class ImageFaults:
    """The disturbed pictures of one rollout.

    Args:
        cameras: The session's, in order.
        seed: Of the rollout's disturbances.
    """

    def __init__(
        self, settings: ImageSettings, session: SessionInfo, cameras: Sequence[Camera], seed: int
    ) -> None:
        self._settings = settings
        self._where = session.session_id
        self._seed = seed
        self._ids = [camera.id for camera in cameras]
        self._drifts = [
            GainDrift(settings, session.start_us, session.end_us, seed, camera_id)
            for camera_id in self._ids
        ]
        self._gains: list[list[float]] = [[] for _ in cameras]
        # Rollouts run side by side; OpenCV's own threads would only fight for the cores.
        cv2.setNumThreads(1)

    async def apply(self, request: RenderRequest, result: RenderResult) -> RenderResult:
        """Disturb every picture that is not lost anyway.

        Raises:
            ServiceError: one cannot be decoded.
        """
        capture = request.times_us[request.end_index].tolist()
        cameras = np.asarray(request.camera_index).tolist()
        images: list[bytes | asyncio.Future[bytes]] = list(result.images)
        loop = asyncio.get_running_loop()
        for i, image in enumerate(result.images):
            if result.lost is not None and result.lost[i]:
                continue
            gain = self._drifts[cameras[i]].at(capture[i])
            self._gains[cameras[i]].append(gain)
            images[i] = loop.run_in_executor(
                render_pool(), self._disturb, image, gain, self._ids[cameras[i]], capture[i]
            )
        pending = [job for job in images if isinstance(job, asyncio.Future)]
        await asyncio.gather(*pending)
        done = (job.result() if isinstance(job, asyncio.Future) else job for job in images)
        return replace(result, images=tuple(done))

    def _disturb(self, image: bytes, gain: float, camera_id: str, capture_us: int) -> bytes:
        settings = self._settings
        noise = generator(self._seed, "image", "noise", camera_id, capture_us)
        try:
            return disturb(
                image, gain=gain, blur_px=settings.blur_px, noise_levels=settings.noise_levels,
                jpeg_quality=settings.jpeg_quality, noise=noise,
            )  # fmt: skip
        except (ValueError, cv2.error) as error:
            raise ServiceError(
                f"the renderer's image cannot be disturbed: {error}",
                where=f"{self._where}, camera {camera_id} at {capture_us} us",
                remedy="let it return JPEG or PNG, or leave imperfection.image out",
            ) from error

    def facts(self) -> dict[str, object]:
        """By camera: how many pictures, and the least and the largest gain."""
        return {
            camera_id: {"frames": len(gains), "gain_min": min(gains), "gain_max": max(gains)}
            for camera_id, gains in zip(self._ids, self._gains, strict=True)
            if gains
        }
