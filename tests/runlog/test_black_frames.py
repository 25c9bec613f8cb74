from __future__ import annotations

import cv2
import numpy as np
import pytest
import simplejpeg

from omniloop.runlog.black_frames import is_black


def picture(value: int = 0) -> np.ndarray:
    return np.full((64, 96, 3), value, dtype=np.uint8)


def jpeg(pixels: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(pixels, quality=95)


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.mark.parametrize("encode", [jpeg, png])
@pytest.mark.parametrize(("value", "black"), [(0, True), (8, True), (14, False), (200, False)])
def test_an_image_is_black_if_no_value_is_above_10(encode, value: int, black: bool) -> None:  # type: ignore[no-untyped-def]
    assert is_black(encode(picture(value))) is black


@pytest.mark.parametrize("encode", [jpeg, png])
def test_one_small_bright_spot_is_enough(encode) -> None:  # type: ignore[no-untyped-def]
    pixels = picture()
    pixels[20:22, 33:35] = 200  # a mean brightness of 12.5 in its 8 x 8 pixels, or of less
    assert not is_black(encode(pixels))
    pixels = picture()
    pixels[20, 33] = 120  # too little to be seen at an eighth of the size
    assert not is_black(encode(pixels))


def test_only_blue_is_not_black() -> None:
    pixels = picture()
    pixels[..., 2] = 40
    assert not is_black(jpeg(pixels))


def test_bytes_that_are_no_image_are_refused() -> None:
    for data in (b"", b"no image"):
        with pytest.raises(ValueError, match="no image"):
            is_black(data)
    with pytest.raises(ValueError):  # noqa: PT011, simplejpeg's own words
        is_black(jpeg(picture())[:200])
