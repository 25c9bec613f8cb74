"""nuScenes and CommonRoad files changed at random: a scene that can be checked, or a SceneError."""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from omniloop.core.contracts import SceneSource
from omniloop.core.errors import SceneError
from omniloop.scenes import build
from omniloop.scenes.commonroad import CommonRoadScenes
from omniloop.scenes.nuscenes import NuScenesScenes
from omniloop.scenes.validate import validate_scene
from tests.scenes import test_commonroad as commonroad
from tests.scenes import test_nuscenes_made as nuscenes

pytestmark = pytest.mark.filterwarnings("error")

CASES = 80
VALUES: tuple[Any, ...] = (
    float("nan"), float("inf"), 0, -1, 1e9, 1e15, -1e30, 1e308, 10**400, 2**63, "", "x", "9" * 5000,
    None, True, [], {}, [[]], [None], [[1, 2]], [0] * 50,
)  # fmt: skip
TEXTS = (
    "nan", "inf", "1e400", "1e30", "1e13", "1e9", "-1", "0", "-0.5", "", "x", "9" * 5000, "0x10",
    "1e-300", "100000", "7",
)  # fmt: skip


def bytes_changed(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    at = rng.randrange(len(out))
    change = rng.choice(["flip", "cut", "insert", "utf-16"])
    if change == "flip":
        out[at] ^= 1 << rng.randrange(8)
    elif change == "cut":
        del out[at : at + rng.choice([1, 40, len(out)])]
    elif change == "insert":
        out[at:at] = rng.choice([b"\0", b"<", b"[" * 5000, b'"', b"&lol;", b"\\ud800", b"\xff"])
    else:
        return data.decode().encode("utf-16")
    return bytes(out)


def json_changed(rng: random.Random, data: bytes) -> bytes:
    root = json.loads(data)
    node, key = root, rng.choice(list(root))
    while isinstance(node[key], dict | list) and node[key] and rng.random() > 0.2:
        node = node[key]
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
    change = rng.choice(["value", "value", "drop", "repeat", "rename"])
    if change == "value":
        node[key] = rng.choice(VALUES)
    elif change == "drop":
        del node[key]
    elif change == "repeat" and isinstance(node[key], list):
        node[key] = node[key] * 3
    elif isinstance(node, dict):
        node[rng.choice([*node, "", "y" * 5000])] = node.pop(key)
    return json.dumps(root).encode()


def xml_changed(rng: random.Random, data: bytes) -> bytes:
    root = ElementTree.fromstring(data)
    parent = rng.choice([e for e in root.iter() if len(e)])
    child = rng.choice(list(parent))
    change = rng.choice(["text", "text", "attribute", "drop", "repeat", "tag", "clear"])
    if change == "text":
        child.text = rng.choice(TEXTS)
    elif change == "attribute":
        holder = rng.choice([e for e in root.iter() if e.attrib])
        holder.set(rng.choice(list(holder.attrib)), rng.choice(TEXTS))
    elif change == "drop":
        parent.remove(child)
    elif change == "repeat":
        parent.append(child)
    elif change == "tag":
        child.tag = rng.choice(["circle", "polygon", "point", "state", "lanelet", "x"])
    else:
        child.clear()
    return ElementTree.tostring(root)


def loads_or_refuses(source: Callable[[str], SceneSource], path: Path) -> bool:
    """Whether the scene loads, and can be checked then."""
    error = scene = None
    try:
        found = source(str(path))
        scene = found.load(found.ids()[0])
    except SceneError as raised:
        error = raised
    if error is not None:
        assert str(path) in error.where
        assert error.remedy
        assert len(str(error).encode()) < 1_000
    elif scene is not None:
        validate_scene(scene)
    return scene is not None


NUSCENES = json.dumps(nuscenes.scenario()).encode()
COMMONROAD = commonroad.scenario(
    commonroad.LANES
    + commonroad.lanelet(5, (200, 203), (90, 110), '<trafficLightRef ref="70"/>', kind="crosswalk")
    + commonroad.EGO
    + commonroad.obstacle(8, [250.0, 251], "pedestrian", "<circle><radius>0.4</radius></circle>")
    + commonroad.parked(50, 230.0, shape=commonroad.bound("polygon", [(-1, -1), (3, -1), (3, 1)]))
    + commonroad.light([(2, "red"), (3, "green")], 1)
).encode()
READERS: dict[str, tuple[Callable[[str], SceneSource], str, bytes, Any]] = {
    "nuscenes": (NuScenesScenes, "sd_nuscenes_scene-0001.json", NUSCENES, json_changed),
    "commonroad": (CommonRoadScenes, "x.xml", COMMONROAD, xml_changed),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("reader", READERS)
def test_a_file_changed_at_random_loads_or_is_refused(
    tmp_path: Path, reader: str, seed: int
) -> None:
    source, name, data, changed = READERS[reader]
    rng = random.Random(f"{reader} {seed}")
    loaded = 0
    for _ in range(CASES):
        path = tmp_path / name
        path.write_bytes((bytes_changed if rng.random() < 0.25 else changed)(rng, data))
        loaded += loads_or_refuses(source, path)
    assert 0 < loaded < CASES


@pytest.mark.parametrize("reader", READERS)
def test_files_that_are_none_are_refused(tmp_path: Path, reader: str) -> None:
    source, name, _, _ = READERS[reader]
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(bytes(build.MAX_DOCUMENT_BYTES + 1)))
    assert not loads_or_refuses(source, tmp_path / f"{name}.gz")
    (tmp_path / name).mkdir()
    assert not loads_or_refuses(source, tmp_path / name)
    assert not loads_or_refuses(source, tmp_path / ("x" * 300))
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / name).symlink_to(name)
    assert not loads_or_refuses(source, tmp_path / "loop")


HUGE: dict[str, tuple[str, str]] = {
    "a step of years": (commonroad.EGO.replace("<exact>3<", "<exact>999999999999<"), "is recorded for"),
    "steps without end": (
        commonroad.EGO + "".join(commonroad.parked(k, 230.0) for k in range(50, 60))
        + commonroad.obstacle(9, [250.0, 251]).replace("<exact>1<", "<exact>900000<"),
        "poses of tracks at 10 Hz",
    ),
    "a negative step": (commonroad.EGO.replace("<exact>3<", "<exact>-3<"), "a time step is -3"),
    "states without end": (
        commonroad.EGO + commonroad.obstacle(9, [250.0, 251]).replace("<exact>1<", "<exact>2000001<").replace("<exact>0<", "<exact>2000000<")
        + commonroad.LANES.replace("</lanelet>", '<trafficLightRef ref="70"/></lanelet>').replace('id="1"', 'id="11"').replace('id="2"', 'id="12"')
        + commonroad.light([(1, "red"), (1, "green")], 0), "states in the recording",
    ),
    "an obstacle twice": (commonroad.EGO * 2, "2 elements, a <dynamicObstacle> first, have the id 7"),
    "a lanelet twice": (commonroad.LANES + commonroad.EGO, "2 elements, a <lanelet> first, have the id 1"),
    "a lanelet without area": (commonroad.lanelet(4, (1, 2), (5, 5)) + commonroad.EGO, "no area between"),
    "a lanelet round the world": (commonroad.lanelet(4, (1, 4e9), (5, 8)) + commonroad.EGO, "m long in all"),
    "a box inside out": (commonroad.EGO.replace("<width>2.0", "<width>-2.0"), "width is -2"),
    "no id": (commonroad.EGO.replace(' id="7"', ""), "a <dynamicObstacle> has no id"),
}  # fmt: skip


@pytest.mark.parametrize("case", HUGE)
def test_commonroad_files_that_claim_too_much_or_nonsense_are_refused_at_once(
    tmp_path: Path, case: str
) -> None:
    body, what = HUGE[case]
    path = commonroad.write(
        tmp_path, commonroad.scenario(commonroad.LANES + body, dt="0.01"), "x.xml"
    )
    with pytest.raises(SceneError) as caught:
        CommonRoadScenes(str(path)).load("x")
    assert what in caught.value.what
    assert str(path) in caught.value.where


@pytest.mark.parametrize("encoding", ["unicode_escape", "utf-7", "cp500", "rot13", "nonsense"])
def test_an_encoding_in_which_ascii_is_not_itself_is_refused(tmp_path: Path, encoding: str) -> None:
    text = COMMONROAD.decode().replace("?>", f' encoding="{encoding}"?>', 1)
    path = commonroad.write(tmp_path, text, "x.xml")
    with pytest.raises(SceneError, match="is not well-formed XML"):
        CommonRoadScenes(str(path)).load("x")


STATE = ("tracks", "bus", "state")
ODD: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "a heading of 10^400": ((*STATE, "heading"), [10**400] * 8, "not an array of numbers"),
    "far away": ((*STATE, "position"), [[1e15, 0, 0]] * 8, "position at 200000 us is"),
    "times of ages": (("metadata", "ts"), [k * 1e13 for k in range(8)], "a time of 7e+13 s"),
    "days": (("metadata", "ts"), [k * 1e5 for k in range(8)], "recorded for 700000 s"),
    "a lane's exit": (("map_features", "lane", "exit_lanes"), 7, "exit_lanes is 7, not a list"),
    "a lane's entry": (("map_features", "lane", "entry_lanes"), [[]], "an entry of entry_lanes is []"),
    "a type": (("map_features", "lane", "type"), ["LANE"], "type is ['LANE'], not a text"),
    "a tangled outline": (
        ("map_features", "boundary_0", "polyline"),
        [[320 + 30 * math.cos(2.2 * k), 700 + 9 * math.sin(2.2 * k)] for k in [*range(100), 0]],
        "crosses itself more than 200 times",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_nuscenes_values_that_cannot_be_are_refused(tmp_path: Path, case: str) -> None:
    keys, value, what = ODD[case]
    raw = nuscenes.scenario()
    at = raw
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    with pytest.raises(SceneError) as caught:
        nuscenes.load(tmp_path, raw)
    assert what in caught.value.what
    assert "scene-0001.json" in caught.value.where


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("img_path", "../front.jpg", "not the name of a file"),
        ("img_path", "/dev/zero", "not the name of a file"),
        ("cam2img", [[0, 0, 8], [0, 10, 4], [0, 0, 1]], "focal lengths of 0 and 10 px"),
        ("cam2ego", [[0] * 4] * 4, "no rotation"),
        ("timestamp", 1e20, r"a time of 1e\+20 s"),
    ],
)
def test_a_first_frame_that_cannot_be_is_refused(
    tmp_path: Path, key: str, value: Any, what: str
) -> None:
    file = nuscenes.first_frame(tmp_path) / "info.json"
    info = json.loads(file.read_text())
    info["data_list"][0]["images"]["CAM_FRONT"][key] = value
    file.write_text(json.dumps(info))
    with pytest.raises(SceneError, match=what) as caught:
        nuscenes.load(tmp_path, nuscenes.scenario())
    assert str(file) in caught.value.where
