"""Vertical rays against triangles, compared with testing every triangle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core.errors import SceneError
from omniloop.scenes import mesh as mesh_module
from omniloop.scenes.mesh import build_mesh, load_mesh
from omniloop.scenes.ply import write_ply


def grid_mesh(height_of_xy, n=21, step=1.0, origin=(0.0, 0.0)):
    """A height field as triangles."""
    i, j = np.meshgrid(np.arange(n), np.arange(n))
    x, y = origin[0] + step * i.ravel(), origin[1] + step * j.ravel()
    corner = (j * n + i)[:-1, :-1].reshape(-1, 1)
    triangles = np.concatenate([corner + [0, 1, n + 1], corner + [0, n + 1, n]])
    return np.column_stack([x, y, np.broadcast_to(height_of_xy(x, y), x.shape)]), triangles


def heights_at(mesh, x, y):
    """Distinct heights in the frame of the mesh, lowest first, per place."""
    found = mesh.heights(np.asarray(x) - mesh.origin_m[0], np.asarray(y) - mesh.origin_m[1])
    return [np.unique(np.round(row[~np.isnan(row)] + mesh.origin_m[2], 6)) for row in found]


def brute_force(vertices, triangles, x, y):
    """Heights by the planes of all triangles whose corners go round the place."""
    out = []
    for a, b, c in vertices[triangles]:
        m = np.array([b[:2] - a[:2], c[:2] - a[:2]]).T
        if abs(np.linalg.det(m)) < 1e-9:
            continue
        s, t = np.linalg.solve(m, [x - a[0], y - a[1]])
        if s >= 0 and t >= 0 and s + t <= 1:
            out.append(a[2] + s * (b[2] - a[2]) + t * (c[2] - a[2]))
    return np.unique(np.round(out, 6))


@given(st.integers(0, 10_000), st.sampled_from([1.0, 30.0, 1000.0]), st.sampled_from([0.0, 4e6]))
def test_rays_hit_what_a_test_of_every_triangle_finds(seed, spread_m, far_m):
    rng = np.random.default_rng(seed)
    # Triangles of any size and place: long, tiny, steep, far apart, crossing each other.
    middle = rng.uniform(-spread_m, spread_m, (40, 1, 3))
    vertices = (
        middle + rng.normal(scale=rng.uniform(0.1, 10, (40, 1, 1)), size=(40, 3, 3))
    ).reshape(-1, 3)
    vertices += [far_m / 8, far_m, 0]
    triangles = rng.permutation(120).reshape(-1, 3)[:, ::-1]
    mesh = build_mesh(vertices, triangles)
    inside = vertices[triangles].mean(axis=1)[:30, :2]
    places = np.concatenate(
        [inside, rng.uniform(-spread_m, spread_m, (20, 2)) + [far_m / 8, far_m]]
    )
    for found, (x, y) in zip(heights_at(mesh, *places.T), places, strict=True):
        expected = brute_force(vertices - [0, far_m, 0], triangles, x, y - far_m)
        np.testing.assert_allclose(found, expected, atol=3e-6)


@given(st.integers(0, 10_000), st.floats(0.03, 30))
def test_no_ray_slips_between_two_triangles(seed, step):
    rng = np.random.default_rng(seed)
    vertices, triangles = grid_mesh(lambda x, y: rng.normal(size=x.shape), 9, step)
    turn = rng.uniform(-3, 3)
    c, s = np.cos(turn), np.sin(turn)
    vertices[:, :2] = vertices[:, :2] @ np.array([[c, s], [-s, c]])
    mesh = build_mesh(vertices, triangles)
    ends = vertices[triangles[:, [0, 1, 2, 0]]][:, :, :2]
    part = rng.uniform(0, 1, (len(ends), 3, 1))
    on_edges = (ends[:, :-1] * part + ends[:, 1:] * (1 - part)).reshape(-1, 2)
    # Edges of the rim have nothing on their other side, so rays may miss there by rounding.
    middle = vertices[:, :2].mean(axis=0)
    local = (on_edges - middle) @ np.array([[c, -s], [s, c]])
    on_edges = on_edges[np.abs(local).max(axis=1) < 3.99 * step]
    found = mesh.heights(*(on_edges - mesh.origin_m[:2]).T)
    assert np.isfinite(found).any(axis=1).all()


def test_heights_of_a_plane_are_exact_at_corners_edges_and_inside():
    mesh = build_mesh(*grid_mesh(lambda x, y: 3 + 0.25 * x - 0.5 * y))
    x, y = np.array([0, 20, 20, 7, 7.5, 3.25]), np.array([0, 20, 0, 3, 3, 4.75])
    for found, expected in zip(heights_at(mesh, x, y), 3 + 0.25 * x - 0.5 * y, strict=True):
        assert found.tolist() == [expected]


def test_outside_and_in_holes_there_is_no_height():
    vertices, triangles = grid_mesh(lambda x, y: 0 * x)
    middle = vertices[triangles].mean(axis=1)
    holed = triangles[np.abs(middle[:, :2] - 10.5).max(axis=1) > 1]
    mesh = build_mesh(vertices, holed)
    x = np.array([10.5, -0.1, 20.1, np.nan, 1e12, -np.inf, 5.5])
    assert [len(h) for h in heights_at(mesh, x, np.full(7, 10.5))] == [0, 0, 0, 0, 0, 0, 1]


def test_places_of_any_shape_and_none():
    mesh = build_mesh(*grid_mesh(lambda x, y: 0 * x))
    assert mesh.heights(np.full((3, 4), 0.5), np.full((3, 4), 0.25)).shape == (3, 4, 1)
    assert mesh.heights(np.zeros((0, 16)), np.zeros((0, 16))).shape == (0, 16, 1)


def test_many_rays_are_cast_in_blocks_with_the_same_answer(monkeypatch):
    rng = np.random.default_rng(1)
    mesh = build_mesh(*grid_mesh(lambda x, y: np.sin(x) + y))
    xy = rng.uniform(-2, 22, (2, 500))
    whole = mesh.heights(*xy)
    monkeypatch.setattr(mesh_module, "_BLOCK", 7)
    np.testing.assert_array_equal(mesh.heights(*xy), whole)
    again = build_mesh(*grid_mesh(lambda x, y: np.sin(x) + y))
    np.testing.assert_array_equal(again.members, mesh.members)
    np.testing.assert_array_equal(again.starts, mesh.starts)


def test_walls_and_triangles_without_an_area_are_left_out():
    vertices, triangles = grid_mesh(lambda x, y: 0 * x, 3)
    wall = [(0.3, 0.4, 0), (1.1, 1.7, 0), (0.3, 0.4, 5)]
    n = len(vertices)
    extra = [(n, n + 1, n + 2), (0, 0, 1), (0, 1, 2), (4, 4, 4)]
    mesh = build_mesh(np.concatenate([vertices, wall]), np.concatenate([triangles, extra]))
    assert len(mesh.triangles) == len(triangles)
    assert heights_at(mesh, [0.3, 0.5], [0.4, 0.0])[0].tolist() == [0]
    for useless in ([(n, n + 1, n + 2)], [(0, 0, 1)], np.zeros((0, 3), dtype=int)):
        with pytest.raises(SceneError, match="no triangle with an area seen from above"):
            build_mesh(np.concatenate([vertices, wall]), np.array(useless))


@pytest.mark.parametrize(
    "kind", ["one huge among tiny", "far apart", "a diagonal strip", "slivers"]
)
def test_the_grid_stays_small_whatever_the_shape(kind):
    vertices, triangles = grid_mesh(lambda x, y: 0 * x, 60, 0.3)
    if kind == "one huge among tiny":
        vertices = np.concatenate([vertices, [(-1e4, -1e4, -1), (1e4, -1e4, -1), (0, 1e4, -1)]])
        triangles = np.concatenate([triangles, [[3600, 3601, 3602]]])
    elif kind == "far apart":
        vertices = np.concatenate([vertices, vertices + 1e6])
        triangles = np.concatenate([triangles, triangles + 3600])
    elif kind == "a diagonal strip":
        vertices[:, :2] = vertices[:, :1] * [100, 100] + vertices[:, 1:2] * [0, 0.1]
    else:
        vertices[:, 1] *= 1e-6
    mesh = build_mesh(vertices, triangles)
    assert len(mesh.members) <= 12 * len(triangles) + (1 << 17)
    assert len(mesh.starts) <= 8 * len(triangles) + (1 << 17)
    inside = vertices[triangles].mean(axis=1)[::17]
    for found, z in zip(heights_at(mesh, *inside[:, :2].T), inside[:, 2], strict=True):
        assert z in found


def test_far_from_the_origin_nothing_is_lost():
    shift = np.array([500_000.123, 4_649_776.25, 101.7])
    vertices, triangles = grid_mesh(lambda x, y: 0.1 * x + 0.01 * y * y)
    near, far = build_mesh(vertices, triangles), build_mesh(vertices + shift, triangles)
    x, y = np.random.default_rng(0).uniform(0.01, 19.9, (2, 200))
    here = near.heights(x - near.origin_m[0], y - near.origin_m[1])[:, 0] + near.origin_m[2]
    at = shift - far.origin_m
    there = far.heights(x + at[0], y + at[1])[:, 0] - at[2]
    np.testing.assert_allclose(there, here, atol=2e-9)


def test_a_mesh_is_read_once_and_again_when_the_file_or_the_axes_change(tmp_path):
    path = tmp_path / "mesh.ply"
    write_ply(path, *grid_mesh(lambda x, y: 0 * x))
    turn = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    first = load_mesh(path, np.eye(3))
    assert load_mesh(tmp_path / ".." / tmp_path.name / "mesh.ply", np.eye(3)) is first
    turned = load_mesh(path, turn)
    assert turned is not first
    np.testing.assert_allclose(turned.bounds_m, [(0, -20, 0), (20, 0, 0)], atol=1e-12)
    write_ply(path, *grid_mesh(lambda x, y: 0 * x + 1, 5))
    assert load_mesh(path, np.eye(3)).bounds_m[0][2] == 1


def test_a_mesh_that_is_all_wall_names_its_file(tmp_path):
    path = tmp_path / "wall.ply"
    write_ply(path, np.array([(0, 0, 0), (1, 0, 0), (0, 0, 1.0)]), np.array([[0, 1, 2]]))
    with pytest.raises(SceneError) as error:
        load_mesh(path, np.eye(3))
    assert error.value.where == str(path)
