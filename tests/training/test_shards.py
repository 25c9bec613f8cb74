from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import simplejpeg

from omniloop.core.errors import RunFolderError
from omniloop.training.shards import HEIGHT, WIDTH, Shard, read_shard, write_shard


def jpeg(value: int) -> bytes:
    image = np.full((HEIGHT, WIDTH, 3), value, dtype=np.uint8)
    return simplejpeg.encode_jpeg(image, quality=95, colorspace="RGB")


def a_shard(count: int = 3) -> Shard:
    rng = np.random.default_rng(0)
    return Shard(
        wide=tuple(jpeg(40 * k) for k in range(count)), tele=None,
        time_us=np.arange(count) * 200_000, frame_capture_us=np.arange(count) * 200_000,
        history=rng.normal(size=(count, 16, 5)).astype(np.float32),
        speed=np.arange(count, dtype=np.float32),
        target=rng.normal(size=(count, 64, 3)).astype(np.float32),
        route=np.zeros((count, 16, 3), dtype=np.float32), has_route=np.ones(count, dtype=bool),
        valid=np.array([False] + [True] * (count - 1)),
    )  # fmt: skip


def test_a_shard_comes_back_with_its_images_decoded(tmp_path):
    shard = a_shard()
    write_shard(tmp_path / "train" / "a-0.npz", shard)
    back = read_shard(tmp_path / "train" / "a-0.npz")
    for name in (
        "time_us",
        "frame_capture_us",
        "history",
        "speed",
        "target",
        "route",
        "has_route",
        "valid",
    ):
        np.testing.assert_array_equal(back[name], getattr(shard, name))
    assert back["wide"].shape == (3, HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(back["wide"].mean(axis=(1, 2, 3)), [0, 40, 80], atol=1)
    assert "tele" not in back
    assert [p.name for p in (tmp_path / "train").iterdir()] == ["a-0.npz"]


def test_a_tele_camera_is_kept_beside_the_wide_one(tmp_path):
    write_shard(tmp_path / "a.npz", replace(a_shard(), tele=(jpeg(9), jpeg(99), jpeg(199))))
    back = read_shard(tmp_path / "a.npz")
    np.testing.assert_allclose(back["tele"].mean(axis=(1, 2, 3)), [9, 99, 199], atol=1)


def test_images_can_be_left_out(tmp_path):
    write_shard(tmp_path / "a.npz", a_shard())
    assert "wide" not in read_shard(tmp_path / "a.npz", images=False)


@pytest.mark.parametrize("damage", ["cut", "other", "missing"])
def test_a_damaged_shard_is_named(tmp_path, damage):
    path = tmp_path / "a.npz"
    write_shard(path, a_shard())
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "other":
        np.savez(path, format=np.int64(99))
    else:
        path.unlink()
    with pytest.raises(RunFolderError, match=r"cannot be read") as caught:
        read_shard(path)
    assert caught.value.where == str(path)
