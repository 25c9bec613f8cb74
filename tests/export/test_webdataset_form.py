"""`--to webdataset`: tars that WebDataset reads, one sample per decision."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from omniloop.core.cameras import default_camera
from omniloop.core.contracts import CameraFrame
from omniloop.core.errors import ConfigError
from omniloop.core.schedule import CameraClock
from omniloop.export.export import export_run
from omniloop.export.names import sample_key
from omniloop.export.settings import ExportSettings
from omniloop.runlog.reader import iter_frames
from tests.export.runs import SIZE, add_rollout, make_run, tree
from tests.memory import traced_peak
from tests.report.builders import START_US, make_frames

CAMERA = default_camera().id


def settings(**choices) -> ExportSettings:
    return ExportSettings("webdataset", **choices)


def samples_in(out: Path) -> dict[str, dict[str, bytes]]:
    """Key to suffix to content, with the standard library alone."""
    found: dict[str, dict[str, bytes]] = {}
    for shard in sorted(out.glob("shard-*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                assert suffix not in found.setdefault(key, {})
                found[key][suffix] = tar.extractfile(member).read()
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("wds") / "run", ["a", "b.c-1"])


def test_a_sample_holds_the_newest_images_and_the_numbers(run, tmp_path):
    export_run(run, tmp_path / "out", settings(scenes=("a",), history=3))
    logged = {f.capture_us: f.image for f in iter_frames(run / "rollouts/a/0/log.mcap")}
    found = samples_in(tmp_path / "out")
    # Three frames, at 0, 100 and 200 ms, have been delivered by the second decision.
    assert list(found) == [f"a-0-{k:06d}" for k in range(1, 30)]
    for k, sample in enumerate(found.values(), 1):
        t = START_US + 200_000 * k
        assert sorted(sample) == [
            f"{CAMERA}.1.jpg",
            f"{CAMERA}.2.jpg",
            f"{CAMERA}.jpg",
            "meta.json",
        ]
        for suffix, back in (("", 0), (".1", 1), (".2", 2)):
            assert sample[f"{CAMERA}{suffix}.jpg"] == logged[t - 100_000 * back]
        meta = json.loads(sample["meta.json"])
        assert (meta["time_us"], meta["decision"], meta["warmup"]) == (t, k, k < 5)
        assert [f["capture_us"] - t for f in meta["frames"]] == [-200_000, -100_000, 0]
        assert [f["file"] for f in meta["frames"]] == [
            f"{CAMERA}.2.jpg",
            f"{CAMERA}.1.jpg",
            f"{CAMERA}.jpg",
        ]
        assert meta["frames"][0]["local_to_rig"][0] == pytest.approx(2.0 * k - 2.0)
        assert meta["cameras"][CAMERA]["intrinsics"]["width"] == SIZE[0]
        assert len(meta["plan_rig_to_future_rig"]) == len(meta["plan_time_us"]) == 13
        assert {a["actor_id"] for a in meta["actors"]} == {
            "car",
            "truck",
            "walker",
            "cyclist",
            "parked",
        }
        car = next(a for a in meta["actors"] if a["actor_id"] == "car")
        assert car["rig_to_aabb"][0] == pytest.approx(30.0 - 1.0 * k)


def test_webdataset_reads_every_sample_whatever_the_names_are(run, tmp_path):
    wds = pytest.importorskip("webdataset")
    export_run(run, tmp_path / "out", settings(shard_samples=13))
    shards = sorted(map(str, (tmp_path / "out").glob("*.tar")))
    assert len(shards) == 5
    read = list(wds.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    expected = [sample_key(s, 0, k) for s in ("a", "b.c-1") for k in range(30)]
    assert [sample["__key__"] for sample in read] == expected
    for sample in read:
        assert sample[f"{CAMERA}.jpg"].shape == (SIZE[1], SIZE[0], 3)
        assert sample["meta.json"]["scene"] in ("a", "b.c-1")


def test_members_depend_on_nothing_but_the_samples(run, tmp_path):
    for name in ("one", "two"):
        export_run(run, tmp_path / name, settings())
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    with tarfile.open(tmp_path / "one/shard-000000.tar") as tar:
        names = [m.name for m in tar]
        facts = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar}
    assert facts == {(0, 0, 0, "", "", 0o644)}
    assert names == sorted(names)


def test_late_frames_are_seen_when_delivered_and_in_order_of_capture(tmp_path):
    run = make_run(tmp_path / "run", [])

    def jittered(record):  # every third is 350 ms late: others overtake it
        late = [0, 0, 350_000]
        return [
            replace(f, available_us=f.capture_us + late[k % 3])
            for k, f in enumerate(make_frames(record, SIZE))
        ]

    add_rollout(run, "a", frames=jittered)
    export_run(run, tmp_path / "out", settings(history=4))
    available = {f.capture_us: f.available_us for f in iter_frames(run / "rollouts/a/0/log.mcap")}
    for sample in samples_in(tmp_path / "out").values():
        meta = json.loads(sample["meta.json"])
        t = meta["time_us"]
        delivered = sorted(c for c, a in available.items() if a <= t)
        held = [f["capture_us"] for f in meta["frames"]]
        assert held == sorted(held)
        assert held[-1] == delivered[-1]
        assert all(f["available_us"] <= t for f in meta["frames"])


def test_tars_stay_below_the_size_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (300, 400, 3), dtype=np.uint8)
    image = simplejpeg.encode_jpeg(noise, quality=95)
    run = make_run(tmp_path / "run", [])
    add_rollout(run, "a", frames=lambda r: [replace(f, image=image) for f in make_frames(r, SIZE)])
    done = export_run(run, tmp_path / "out", settings(shard_mib=1, history=2))
    sizes = [p.stat().st_size for p in (tmp_path / "out").glob("*.tar")]
    assert max(sizes) <= 1 << 20
    assert sum(sizes) > 29 * 2 * len(image)
    assert len(samples_in(tmp_path / "out")) == done.samples == 29


def test_memory_does_not_grow_with_the_images(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (500, 800, 3), dtype=np.uint8)
    image = simplejpeg.encode_jpeg(noise, quality=98)
    run = make_run(tmp_path / "run", [])
    add_rollout(run, "a", frames=lambda r: [replace(f, image=image) for f in make_frames(r, SIZE)])
    log = (run / "rollouts/a/0/log.mcap").stat().st_size
    assert log > 30 << 20
    for form in ("webdataset", "frames"):
        with traced_peak() as peak:
            export_run(run, tmp_path / form, ExportSettings(form))
        assert peak.size < log / 3, form


def test_a_second_camera_that_starts_late_delays_the_first_sample(tmp_path):
    run = make_run(tmp_path / "run", [])
    other = replace(default_camera(), id="rear.tele")

    def two(record):
        scene = replace(record.scene, cameras=(default_camera(), other))
        clocks = (*record.schedule.clocks, CameraClock("rear.tele", START_US, 100_000, 0))
        return replace(record, scene=scene, schedule=replace(record.schedule, clocks=clocks))

    def frames(record):
        own = make_frames(record, SIZE)
        return [*own, *(replace(f, camera_id="rear.tele") for f in own[11:])]

    add_rollout(run, "a", change=two, frames=frames)
    export_run(run, tmp_path / "both", settings())
    found = samples_in(tmp_path / "both")
    assert list(found) == [f"a-0-{k:06d}" for k in range(6, 30)]
    assert set(found["a-0-000006"]) == {f"{CAMERA}.jpg", "rear%2Etele.jpg", "meta.json"}
    export_run(run, tmp_path / "one", settings(cameras=(CAMERA,)))
    assert len(samples_in(tmp_path / "one")) == 30


def test_cameras_that_differ_in_case_alone_are_refused(tmp_path):
    run = make_run(tmp_path / "run", [])
    upper = replace(default_camera(), id=CAMERA.upper())

    def two(record):
        clocks = (*record.schedule.clocks, CameraClock(upper.id, START_US, 100_000, 0))
        return replace(
            record, scene=replace(record.scene, cameras=(default_camera(), upper)),
            schedule=replace(record.schedule, clocks=clocks),
        )  # fmt: skip

    def frames(record) -> list[CameraFrame]:
        own = make_frames(record, SIZE)
        return [*own, *(replace(f, camera_id=upper.id) for f in own)]

    add_rollout(run, "a", change=two, frames=frames)
    with pytest.raises(ConfigError, match="takes cameras") as caught:
        export_run(run, tmp_path / "out", settings())
    assert caught.value.remedy == "export one of them"
