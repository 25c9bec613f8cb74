"""PLY files of every kind, and every way in which they are wrong."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from omniloop.core.errors import SceneError
from omniloop.scenes.ply import read_ply, write_ply

FORMATS = ("ascii", "binary_little_endian", "binary_big_endian")
CODES = {
    "char": "b", "uchar": "B", "short": "h", "ushort": "H", "int": "i", "uint": "I",
    "float": "f", "double": "d", "uint8": "B", "int32": "i", "float32": "f", "float64": "d",
}  # fmt: skip
SQUARE = [(0, 0, 0), (10, 0, 1), (10, 10, 2), (0, 10, 3.25), (5, 20, 4)]


def header(form, vertices, faces, face_properties=("list uchar int vertex_indices",), kind="float"):
    lines = [
        "ply", f"format {form} 1.0", "comment made here", f"element vertex {vertices}",
        *(f"property {kind} {axis}" for axis in "xyz"), f"element face {faces}",
        *(f"property {p}" for p in face_properties), "end_header", "",
    ]  # fmt: skip
    return "\n".join(lines).encode()


def packed(form, kinds, values):
    """One row's bytes in a format."""
    if form == "ascii":
        return (" ".join(str(v) for v in values) + "\n").encode()
    order = "<" if "little" in form else ">"
    return struct.pack(order + "".join(CODES[k] for k in kinds), *values)


def ply(form, vertices=SQUARE, faces=((0, 1, 2),), kind="float", count="uchar", index="int"):
    """A file of vertices and polygons."""
    head = header(form, len(vertices), len(faces), (f"list {count} {index} vertex_indices",), kind)
    rows = [packed(form, [kind] * 3, v) for v in vertices]
    rows += [packed(form, [count] + [index] * len(f), (len(f), *f)) for f in faces]
    return head + b"".join(rows)


def read(tmp_path, data):
    path = tmp_path / "mesh.ply"
    path.write_bytes(data)
    return read_ply(path)


def refused(tmp_path, data, match):
    with pytest.raises(SceneError, match=match) as error:
        read(tmp_path, data)
    assert str(tmp_path / "mesh.ply") in error.value.where
    assert "export the mesh" in error.value.remedy
    return error.value


# ------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ["float", "double", "float32", "float64"])
@pytest.mark.parametrize(
    ("count", "index"), [("uchar", "int"), ("uint8", "int32"), ("int", "uint")]
)
def test_triangles_of_every_format_and_type(tmp_path, form, kind, count, index):
    faces = [(0, 1, 2), (0, 2, 3), (3, 2, 4)]
    vertices, triangles = read(tmp_path, ply(form, SQUARE, faces, kind, count, index))
    np.testing.assert_array_equal(vertices, SQUARE)
    assert vertices.dtype == np.float64
    assert triangles.tolist() == [list(f) for f in faces]


@pytest.mark.parametrize("form", FORMATS)
def test_polygons_become_fans(tmp_path, form):
    faces = [(0, 1, 2), (0, 1, 2, 3), (4, 0, 1, 2, 3), (2, 3, 4)]
    triangles = read(tmp_path, ply(form, SQUARE, faces))[1]
    expected = [(0, 1, 2), (2, 3, 4), (0, 1, 2), (0, 2, 3), (4, 0, 1), (4, 1, 2), (4, 2, 3)]
    assert sorted(map(tuple, triangles.tolist())) == sorted(expected)
    assert read(tmp_path, ply(form, SQUARE, [(0, 1, 2, 3)]))[1].tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize("form", FORMATS)
def test_other_elements_and_properties_are_skipped(tmp_path, form):
    lines = [
        "ply", f"format {form} 1.0", "obj_info \u00fc end_header", "element camera 1", "property list uchar float k",
        "property char on", "element vertex 4", "property uchar red", "property double z",
        "property double x", "property float y", "element face 2", "property float area",
        "property list uchar float texcoord", "property list int ushort vertex_index", "property uchar part",
        "element edge 1", "property int a", "property int b", "end_header", "",
    ]  # fmt: skip
    rows = [(["uchar", "float", "float", "char"], (2, 0.5, 1.5, -1))]
    rows += [(["uchar", "double", "double", "float"], (9, z, x, y)) for x, y, z in SQUARE[:4]]
    for texture, face in (((0.5,), (0, 1, 2)), ((), (1, 2, 3))):
        kinds = ["float", "uchar", *["float"] * len(texture), "int", *["ushort"] * 3, "uchar"]
        rows.append((kinds, (7.0, len(texture), *texture, 3, *face, 5)))
    rows.append((["int", "int"], (0, 1)))
    for newline in ("\n", "\r\n"):
        data = newline.join(lines).encode("latin-1")
        data += b"".join(packed(form, kinds, values) for kinds, values in rows)
        vertices, triangles = read(tmp_path, data)
        np.testing.assert_array_equal(vertices, SQUARE[:4])
        assert triangles.tolist() == [[0, 1, 2], [1, 2, 3]]


@pytest.mark.parametrize("form", FORMATS)
def test_coordinates_far_from_the_origin_are_exact_as_double_and_refused_as_float(tmp_path, form):
    far = [(500_000.123, 4_000_000.456, 101.5), (500_010.0, 4e6, 0), (500_010.0, 4_000_010.0, 0)]
    np.testing.assert_array_equal(read(tmp_path, ply(form, far, kind="double"))[0], far)
    if form != "ascii":
        with pytest.raises(
            SceneError, match=r"y is stored as float and reaches 4000010 m.* 0.25 m"
        ):
            read(tmp_path, ply(form, far))


def test_a_vertex_that_is_not_used_may_be_nan(tmp_path):
    for form in FORMATS:
        vertices, triangles = read(tmp_path, ply(form, [*SQUARE[:3], (np.nan, np.inf, 0)]))
        assert np.isnan(vertices[3, 0])
        assert triangles.tolist() == [[0, 1, 2]]


def test_what_is_written_is_read(tmp_path):
    rng = np.random.default_rng(0)
    vertices, triangles = rng.normal(scale=1e6, size=(50, 3)), rng.integers(0, 50, (70, 3))
    write_ply(tmp_path / "a.ply", vertices, triangles)
    for written, found in zip((vertices, triangles), read_ply(tmp_path / "a.ply"), strict=True):
        np.testing.assert_array_equal(found, written)


# ---------------------------------------------------------------------- what is refused


def test_a_file_that_is_no_ply(tmp_path):
    refused(tmp_path, b"", "no PLY file")
    refused(tmp_path, b"# wavefront\nv 0 0 0\n", "no PLY file")
    refused(tmp_path, b"plywood\nend_header\n", "no PLY file")
    refused(tmp_path, b"ply\nformat ascii 1.0\nelement vertex 3\n", "'end_header' is missing")
    refused(tmp_path, b"ply\nelement vertex 3\nend_header\n", "does not say its format")


@pytest.mark.parametrize(
    "line",
    [
        "format binary_middle_endian 1.0", "format ascii 2.0", "element vertex", "element vertex x",
        "element vertex -3", "element vertex " + "9" * 5000, "property quad x", "property list float int v",
        "property list int v", "propperty float x",
    ],
)  # fmt: skip
def test_a_header_line_that_cannot_be_used_is_named(tmp_path, line):
    text = f"ply\nformat ascii 1.0\nelement vertex 1\n{line}\nend_header\n"
    error = refused(tmp_path, text.encode(), "header's line")
    assert line[:60] in error.what
    assert "line 4" in error.where


def test_a_property_before_any_element(tmp_path):
    refused(tmp_path, b"ply\nformat ascii 1.0\nproperty float x\nend_header\n", "header's line")


@pytest.mark.parametrize("form", FORMATS)
def test_missing_elements_and_properties(tmp_path, form):
    head = f"ply\nformat {form} 1.0\n"
    refused(tmp_path, f"{head}element face 0\nproperty list uchar int vertex_indices\nend_header\n".encode(), "no element 'vertex'")  # fmt: skip
    axes = "".join(f"property float {a}\n" for a in "xyz")
    refused(tmp_path, f"{head}element vertex 0\n{axes}end_header\n".encode(), "no element 'face'")
    flat = f"{head}element vertex 0\nproperty float x\nproperty float y\nend_header\n"
    refused(tmp_path, flat.encode(), r"no property 'z', only \['x', 'y'\]")
    refused(tmp_path, header(form, 0, 0, ("list uchar int corners",)), r"no list 'vertex_indices', only \['corners'\]")  # fmt: skip
    listed = f"{head}element vertex 1\nproperty list uchar float x\nend_header\n"
    refused(tmp_path, listed.encode(), "list among their properties")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("faces", [[(0, 1, 2)] * 3, [(0, 1, 2), (0, 1, 2, 3), (0, 1, 2)]])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, form, faces):
    whole = ply(form, SQUARE, faces, kind="double")
    begin = whole.index(b"end_header\n") + 11
    last = whole.rindex(b" ") if form == "ascii" else len(whole) - 1
    for cut in [*range(begin, last, 5), last]:
        refused(tmp_path, whole[:cut], "cut off|cannot be")
    for cut in range(0, begin - 1, 7):
        refused(tmp_path, whole[:cut], "no PLY file|is missing")


@pytest.mark.parametrize("form", FORMATS)
def test_counts_beyond_the_file_are_refused_before_memory_is_taken(tmp_path, form):
    for vertices, faces in ((10**18, 1), (5, 10**18)):
        body = ply(form)[len(header(form, 5, 1)) :]
        refused(tmp_path, header(form, vertices, faces) + body, "cut off: of 1000000000000000000")
    lists = header(form, 3, 1, ("list uint int vertex_indices",))
    for row in SQUARE[:3]:
        lists += packed(form, ["float"] * 3, row)
    refused(tmp_path, lists + packed(form, ["uint"], (4_000_000_000,)), "cut off")


@pytest.mark.parametrize("form", FORMATS)
def test_more_than_the_header_says_is_refused(tmp_path, form):
    refused(tmp_path, ply(form) + packed(form, ["uchar"] * 2, (3, 4)), "follow the last element")
    assert len(read(tmp_path, ply(form) + b"\n")[1]) == 1


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_mesh_is_refused(tmp_path, form):
    refused(tmp_path, ply(form, SQUARE, []), "the mesh is empty")
    refused(tmp_path, ply(form, [], []), "the mesh is empty")


@pytest.mark.parametrize("form", FORMATS)
def test_faces_that_cannot_be_are_named(tmp_path, form):
    good = (0, 1, 2)
    for faces, match, number in (
        ([good, (0, 1, 5)], "of 5 vertices there is no vertex 5", 1),
        ([good, good, (0, -1, 2)], "there is no vertex -1", 2),
        ([good, (0, 1)], "a face of 2 vertices", 1),
        ([()], "a face of 0 vertices", 0),
    ):
        error = refused(tmp_path, ply(form, SQUARE, faces), match)
        assert f"face {number} (counted from 0)" in error.where
    refused(tmp_path, ply(form, [*SQUARE[:2], (np.nan, 0, 0)]), "not finite of vertex 2")
    refused(tmp_path, ply(form, [(np.inf, 0, 0), *SQUARE[:2]]), "not finite of vertex 0")


def test_ascii_that_is_no_number(tmp_path):
    whole = ply("ascii")
    refused(tmp_path, whole.replace(b"3.25", b"3.2.5"), "no number")
    refused(tmp_path, whole.replace(b"3 0 1 2", b"three 0 1 2"), "no number")
    refused(tmp_path, whole.replace(b"3 0 1 2", b"2.5 0 1 2"), "a list of 2.5 values")
    refused(tmp_path, whole.replace(b"3 0 1 2", b"nan 0 1 2"), "a list of nan values")
    refused(tmp_path, whole.replace(b"3 0 1 2", b"3 0 1.5 2"), "there is no vertex 1.5")
