"""Clipping and projection: exact at the cone, finite and bounded everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core.cameras import FThetaCamera, PinholeCamera
from omniloop.renderer_client.flat_map import clip_rings
from omniloop.renderer_client.occlusion import sorted_by_constraints
from omniloop.renderer_client.paint import thickness_for
from omniloop.renderer_client.view import view_of
from tests.renderer_client.stage import FISHEYE, FTHETA, PINHOLE

BARREL = PinholeCamera(640, 480, 400.0, 400.0, 319.5, 239.5, radial=(-0.3, 0.05), max_angle_rad=1.4)
NARROW = FThetaCamera(640, 480, 300.0, 250.0, (0.0, 320.0, 0.0, -12.0), (0.0, 1 / 320), 0.9)
ALL = {"pinhole": PINHOLE, "barrel": BARREL, "ftheta": FTHETA, "fisheye": FISHEYE, "narrow": NARROW}
FAR_PX = 20 * 640

coordinate = st.one_of(
    st.floats(-300.0, 300.0), st.floats(-2.0, 2.0), st.sampled_from([0.0, 1e-9, -1e-9, 1.0, -1.0])
)
point = st.tuples(coordinate, coordinate, coordinate)
model = st.sampled_from(list(ALL.values()))


@given(model, st.lists(st.tuples(point, point), min_size=1, max_size=8))
@settings(max_examples=300)
def test_clipped_segments_project_to_finite_places_near_the_image(
    camera: PinholeCamera | FThetaCamera,
    segments: list[tuple[tuple[float, float, float], tuple[float, float, float]]],
) -> None:
    view = view_of(camera)
    ends = np.array(segments).transpose(1, 2, 0)
    start, end, index = view.clip_segments(ends[0], ends[1])
    assert ((index >= 0) & (index < len(segments))).all()
    for fraction in (0.0, 0.3, 0.5, 1.0):
        inside = start + (end - start) * fraction
        angle = np.arctan2(np.hypot(inside[0], inside[1]), inside[2])
        longest = np.linalg.norm(inside, axis=0)
        assert (angle[longest > 1e-3] <= view.clip_rad + 1e-6).all()
        pixels = view.project(inside)
        assert np.isfinite(pixels).all()
        assert np.abs(pixels).max(initial=0.0) < FAR_PX


@given(model, point, point)
@settings(max_examples=300)
def test_clipping_keeps_all_that_is_seen(
    camera: PinholeCamera | FThetaCamera,
    a: tuple[float, float, float],
    b: tuple[float, float, float],
) -> None:
    view = view_of(camera)
    begin, finish = np.array(a)[:, None], np.array(b)[:, None]
    start, end, _ = view.clip_segments(begin, finish)
    step = finish - begin
    length = float(np.linalg.norm(step))
    if length < 1e-3:
        return
    parts = np.linspace(0.0, 1.0, 41)
    samples = begin + step * parts
    angle = np.arctan2(np.hypot(samples[0], samples[1]), samples[2])
    along = ((samples - begin) * step).sum(axis=0) / length**2
    low = ((start - begin) * step).sum(axis=0) / length**2
    high = ((end - begin) * step).sum(axis=0) / length**2
    held = ((along[:, None] >= low - 1e-6) & (along[:, None] <= high + 1e-6)).any(axis=1)
    away = np.linalg.norm(samples, axis=0) > 1e-3
    assert held[away & (angle < view.clip_rad - 1e-4)].all()
    strictly = ((along[:, None] > low + 1e-6) & (along[:, None] < high - 1e-6)).any(axis=1)
    assert not strictly[away & (angle > view.clip_rad + 1e-4)].any()


@given(model, st.lists(point, min_size=3, max_size=12))
@settings(max_examples=200)
def test_outlines_project_to_finite_places(
    camera: PinholeCamera | FThetaCamera, ring: list[tuple[float, float, float]]
) -> None:
    view = view_of(camera)
    points, of_ring = clip_rings(np.array(ring).T, np.zeros(len(ring), dtype=np.int64))
    assert (points[2] >= 0).all()
    assert len(of_ring) == points.shape[1]
    pixels = view.project_clamped(points)
    assert np.isfinite(pixels).all()
    assert np.abs(pixels).max(initial=0.0) < FAR_PX


def test_clipping_rings_cuts_at_the_plane_and_keeps_rings_apart() -> None:
    square = np.array([(-1.0, 0.0, -1.0), (1.0, 0.0, -1.0), (1.0, 0.0, 1.0), (-1.0, 0.0, 1.0)]).T
    behind, ahead = square - [[0.0], [0.0], [5.0]], square + [[0.0], [0.0], [5.0]]
    points, of_ring = clip_rings(
        np.concatenate([square, behind, ahead], axis=1), np.repeat([3, 4, 7], 4)
    )
    assert of_ring.tolist() == [3, 3, 3, 3, 7, 7, 7, 7]
    assert np.allclose(sorted(points[2, :4]), [0.01, 0.01, 1.0, 1.0])
    assert (points[:, 4:] == ahead).all()


def test_the_cone_holds_the_image_and_stays_where_the_model_is_monotonic() -> None:
    for camera in (PINHOLE, FTHETA, FISHEYE):
        view = view_of(camera)
        corners = np.array([(x, y) for x in (0.0, 639.0) for y in (0.0, 479.0)])
        assert view.covers(camera.unproject(corners).T).all()
        assert view.spread == 2.0
    # r (1 - 0.3 r^2 + 0.05 r^4) of this lens grows for ever, but r (1 - 0.3 r^2) folds at 46.5 degrees.
    folding = PinholeCamera(640, 480, 200.0, 200.0, 319.5, 239.5, radial=(-0.3,))
    assert view_of(folding).clip_rad < np.arctan(1 / np.sqrt(0.9)) + 1e-6
    assert view_of(NARROW).clip_rad <= 0.9
    assert view_of(NARROW).spread == 1.0


def test_views_are_found_once_per_model() -> None:
    assert view_of(PINHOLE) is view_of(PINHOLE)
    assert view_of(PINHOLE) is not view_of(FTHETA)


def test_spheres_that_reach_into_the_cone_are_kept() -> None:
    view = view_of(PINHOLE)
    rng = np.random.default_rng(5)
    centers = rng.uniform(-20, 20, (3, 400))
    radii = rng.uniform(0.1, 4.0, 400)
    seen = view.sees_spheres(centers, radii)
    rays = rng.normal(size=(3, 1, 300))
    surface = centers[:, :, None] + radii[:, None] * rays / np.linalg.norm(rays, axis=0)
    reaches = view.covers(surface).any(axis=1)
    assert seen[reaches].all()
    assert not seen.all()


@pytest.mark.parametrize(
    ("width_px", "thickness"),
    [(0.4, 1), (2.0, 1), (2.5, 2), (3.5, 2), (5.0, 4), (7.0, 6), (10.5, 8)],
)
def test_thickness_is_the_one_with_the_nearest_ink(width_px: float, thickness: int) -> None:
    assert int(thickness_for(np.array(width_px))) == thickness


def test_ordering_by_constraints_is_topological_and_breaks_cycles_by_rank() -> None:
    rank = np.array([2, 0, 1, 3])
    pairs = np.array([(0, 1), (1, 3)])
    assert sorted_by_constraints(rank, pairs[:, 0], pairs[:, 1]) == [2, 0, 1, 3]
    ring = np.array([(0, 1), (1, 2), (2, 0), (2, 3)])
    assert sorted_by_constraints(rank, ring[:, 0], ring[:, 1]) == [1, 2, 0, 3]
