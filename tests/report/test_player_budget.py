from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from omniloop.core import geometry
from omniloop.core.errors import RunFolderError
from omniloop.core.motion import ActorMotion
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import Actor, ActorClass, Track
from omniloop.report import html
from omniloop.report.player_budget import FOLDER, MOST_INLINE, PAGE_BYTES, Player, fit, place
from omniloop.report.player_data import player_data
from omniloop.report.player_film import Film, read_camera
from omniloop.runlog.folder import rollout_dir
from omniloop.runlog.results import write_result
from tests.report.builders import (
    START_US,
    make_frames,
    make_record,
    make_result,
    make_scene,
    write_log,
)

SECONDS, ACTORS = 20, 60


def crowded() -> RolloutRecord:
    """20 s with 60 actors around ego, each on a wandering course of its own."""
    rng = np.random.default_rng(3)
    scene = make_scene(seconds=SECONDS)
    times = START_US + np.arange(0, SECONDS * 1_000_000 + 1, 100_000, dtype=np.int64)
    yaw = np.cumsum(rng.normal(0, 0.03, (ACTORS, len(times))), axis=1)
    speed = 10 + np.cumsum(rng.normal(0, 0.1, (ACTORS, len(times))), axis=1)
    xyz = np.zeros((ACTORS, len(times), 3))
    xyz[..., 0] = rng.uniform(-40, 60, (ACTORS, 1)) + np.cumsum(speed * 0.1, axis=1)
    xyz[..., 1] = rng.uniform(-30, 30, (ACTORS, 1)) + np.cumsum(speed * np.sin(yaw) * 0.1, axis=1)
    poses = np.stack([geometry.poses_from_xyz_yaw(p, a) for p, a in zip(xyz, yaw, strict=True)])
    valid = np.ones((ACTORS, len(times)), dtype=bool)
    tracks = tuple(
        Track(Actor(f"a{k}", ActorClass.CAR, "car", np.array([4.6, 1.9, 1.5])), times, p, v)
        for k, (p, v) in enumerate(zip(poses, valid, strict=True))
    )
    record = make_record(replace(scene, tracks=tracks))
    return replace(record, actors=ActorMotion(times, poses, valid))


def film(quality: int, noise: float) -> Film:
    """Two pictures a second of 20 s: `noise` 0 is a smooth sky, 1 compresses as badly as can be."""
    rng = np.random.default_rng(4)
    smooth = np.linspace(60, 200, 180)[:, None, None] * np.ones((180, 320, 3))
    jpegs = [
        simplejpeg.encode_jpeg(
            (smooth * (1 - noise) + rng.uniform(0, 255, smooth.shape) * noise).astype(np.uint8),
            quality=quality,
        )
        for _ in range(2 * SECONDS)
    ]
    times = START_US + np.arange(2 * SECONDS) * 500_000
    return Film("front", tuple(times.tolist()), tuple(jpegs))


@pytest.mark.parametrize(("noise", "thinned"), [(0.0, False), (0.6, True), (1.0, True)])
def test_thirty_players_of_twenty_seconds_with_sixty_actors_fit_into_fifteen_megabytes(
    noise: float, thinned: bool
) -> None:
    data = player_data(crowded())
    assert len(data["actors"]) == ACTORS
    pictures = film(55, noise)
    players = [Player(f"r{k}", data, pictures, START_US, False) for k in range(MOST_INLINE)]
    room = PAGE_BYTES - 5_000_000  # what the rest of a large page takes
    texts, limits = fit(players, room)
    assert sum(map(len, texts.values())) <= room
    assert len(texts) == MOST_INLINE
    assert bool(limits) is thinned
    shown = json.loads(texts["r0"])
    assert shown["actors"] == data["actors"]  # motion is never thinned
    assert (len(shown["camera"]["jpg"]) == 2 * SECONDS) is not thinned


def test_pictures_are_thinned_before_players_go_and_the_page_says_so() -> None:
    data = player_data(make_record())
    players = [Player(f"r{k}", data, film(55, 0.5), START_US, False) for k in range(3)]
    whole, none = sum(len(p.text()) for p in players), sum(len(p.text(0)) for p in players)
    assert fit(players, whole)[1] == ""
    texts, limits = fit(players, whole - 1)
    assert len(json.loads(texts["r2"])["camera"]["jpg"]) == SECONDS
    assert limits == "the players in the page have a camera picture each 1 s instead of 0.5 s"
    assert fit(players, none)[1] == "the players in the page have no camera pictures"
    texts, limits = fit(players, none - 1)
    assert list(texts) == ["r0", "r1"]
    assert limits.endswith("no camera pictures; 1 more player lie beside it")
    assert fit(players, -5)[0] == {}


def test_rollouts_with_trouble_come_first_and_old_scripts_go(tmp_path: Path) -> None:
    data = player_data(make_record())
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "r99.js").write_text("old")
    players = [Player(f"r{k}", data, None, START_US, k == 3) for k in range(4)]
    placed = place(players, tmp_path, 10_000_000, 2)
    assert set(placed.inline) == {"r3", "r0"}
    assert placed.beside == {"r1": f"{FOLDER}/r1.js", "r2": f"{FOLDER}/r2.js"}
    assert sorted(p.name for p in (tmp_path / FOLDER).iterdir()) == ["r1.js", "r2.js"]
    script = (tmp_path / FOLDER / "r1.js").read_text()
    assert script.startswith('omniloopPlayer("r1",{')
    place(players, tmp_path, 10_000_000, 4)
    assert not (tmp_path / FOLDER).exists()
    (tmp_path / FOLDER).write_text("in the way")
    with pytest.raises(RunFolderError, match="report_players"):
        place(players, tmp_path, 10_000_000, 2)


def test_a_page_stays_below_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        record = make_record(make_scene(name), speed_mps=4.0)
        place_ = rollout_dir(tmp_path, name, 0)
        place_.mkdir(parents=True)
        write_log(place_ / "log.mcap", record, make_frames(record))
        write_result(place_ / "result.json", make_result(record))
    whole = html.write_report(tmp_path).stat().st_size
    limit = whole - 5_000
    monkeypatch.setattr(html, "PAGE_BYTES", limit)
    monkeypatch.setattr(html, "_MARGIN_BYTES", 2_000)
    path = html.write_report(tmp_path)
    assert path.stat().st_size <= limit
    assert "To keep this page below 15 MB the players" in path.read_text()


def test_a_film_has_at_most_two_pictures_a_second_and_frames_are_the_newest_before(
    tmp_path: Path,
) -> None:
    record = make_record()
    frames = make_frames(record)
    write_log(tmp_path / "log.mcap", record, frames)
    clock = record.schedule.clocks[0]
    instants = [START_US - 10, START_US + 1_250_000, START_US + 99_000_000]
    found, kept = read_camera(tmp_path / "log.mcap", clock.camera_id, instants)
    assert np.diff(found.times_us).min() == 500_000
    assert found.times_us[0] == frames[0].capture_us
    assert simplejpeg.decode_jpeg_header(found.jpegs[0])[:2] == (176, 320)
    times = [kept[t].capture_us for t in instants]
    assert times == [frames[0].capture_us, START_US + 1_200_000, frames[-1].capture_us]
    assert len(found.every(4).jpegs) == (len(found.jpegs) + 3) // 4
    assert found.every(0).jpegs == ()
