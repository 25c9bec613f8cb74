"""`omniloop convert` as users meet it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from omniloop.configs.compose import compose
from omniloop.runlog.record import read_record
from omniloop.runlog.results import read_result
from omniloop.runner.run import execute
from tests.command import ROOT, omniloop


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("convert")
    settings = [
        "scenes.ids=curve,cut_in", "renderer.chunk=0", "renderer.fps=10", "renderer.width=64",
        "renderer.height=32", "sync.duration_s=1", "run.concurrency=1", f"run.dir={folder}",
        "run.name=demo",
    ]  # fmt: skip
    execute(compose(settings))
    return folder / "demo"


@pytest.fixture
def demo(ran: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ran, tmp_path / "demo"))


@pytest.fixture(scope="module")
def theirs(ran: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as AlpaSim leaves it: rollouts/<scene>/<uuid>/rollout.asl, and nothing of ours."""
    folder = tmp_path_factory.mktemp("alpasim")
    done = omniloop("convert", ran, "--to", "asl", "--out", folder)
    assert done.returncode == 0, done.stderr
    curve = folder / "rollouts" / "curve"
    (curve / "0").rename(curve / "a1b2")
    shutil.copytree(curve / "a1b2", curve / "c3d4")
    return folder


def test_a_runs_logs_are_written_beside_their_own_and_only_once(demo: Path) -> None:
    first = omniloop("convert", demo, "--to", "asl")
    assert first.returncode == 0, first.stderr
    written = sorted(demo.glob("rollouts/*/*/rollout.asl"))
    assert [p.parent.parent.name for p in written] == ["curve", "cut_in"]
    assert first.stdout.count(" -> ") == 2
    before = [p.stat().st_mtime_ns for p in written]
    written[0].unlink()
    again = subprocess.run(
        [sys.executable, "-m", "omniloop.cli.main", "convert", str(demo), "--to", "asl"],
        cwd=ROOT, capture_output=True, text=True, timeout=150, check=True,
    )  # fmt: skip
    assert again.stdout.count(" -> ") == 1
    assert "1 log(s) were there already" in again.stdout
    assert written[0].exists()
    assert written[1].stat().st_mtime_ns == before[1]
    forced = omniloop("convert", demo, "--to", "asl", "--force")
    assert forced.stdout.count(" -> ") == 2


def test_one_log_goes_there_and_back(demo: Path, tmp_path: Path) -> None:
    log, asl, back = demo / "rollouts/curve/0/log.mcap", tmp_path / "x.asl", tmp_path / "y.mcap"
    assert omniloop("convert", log, "--to", "asl", "--out", asl).returncode == 0
    done = omniloop("convert", asl, "--to", "mcap", "--out", back)
    assert done.returncode == 0, done.stderr
    assert "has no map" in done.stderr
    assert len(read_record(back).decisions) == len(read_record(log).decisions)
    refused = omniloop("convert", asl, "--to", "mcap", "--out", back)
    assert refused.returncode == 2
    assert "there already" in refused.stderr
    assert "--force" in refused.stderr


def test_logs_of_alpasim_become_a_scored_run(theirs: Path, ran: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ("convert", theirs, "--to", "mcap", "--out", out, "scenes=embedded")
    done = omniloop(*command)
    assert done.returncode == 0, done.stderr
    assert "3 rollout(s), 0 failed" in done.stdout
    # Two logs of one scene say that they are its rollout 0: the later one gets the next number.
    for rollout, own in (("curve/0", "curve/0"), ("curve/1", "curve/0"), ("cut_in/0", "cut_in/0")):
        result = read_result(out / "rollouts" / rollout / "result.json")
        expected = read_result(ran / "rollouts" / own / "result.json")
        assert result.plugins["policy"] == expected.plugins["policy"]
        assert result.privileged == expected.privileged
        assert result.frames == expected.frames
        for name, value in expected.metrics.items():
            assert result.metrics[name].valid == value.valid, name
            if value.valid:
                assert result.metrics[name].value == pytest.approx(value.value, rel=1e-3, abs=1e-3)
    scored = omniloop("score", out)
    assert "3 rollout(s) scored again, 0 score(s) changed" in scored.stdout, scored.stderr
    again = omniloop(*command)
    assert "3 rollout(s) were there already" in again.stdout


def test_a_log_that_cannot_be_read_does_not_stop_the_others(theirs: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(theirs, tmp_path / "theirs"))
    (folder / "rollouts/curve/a1b2/rollout.asl").write_bytes(b"\x89MCAP0\r\n")
    for out in ((), ("--out", tmp_path / "run")):
        done = omniloop("convert", folder, "--to", "mcap", *out, "scenes=embedded")
        assert done.returncode == 1
        assert "it is an MCAP file" in done.stderr
        assert "a1b2" in done.stderr
    assert len(list(folder.glob("rollouts/*/*/log.mcap"))) == 2
    assert len(list((tmp_path / "run").glob("rollouts/*/*/result.json"))) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("LOG", "--to", "mcap"), "give --to asl"),
        (("ASL", "--to", "asl"), "give --to mcap"),
        (("TEXT", "--to", "asl"), "ends in .mcap"),
        (("nowhere.asl", "--to", "mcap"), "no such file"),
        (("EMPTY", "--to", "mcap"), "holds no ASL log"),
        (("EMPTY", "--to", "asl"), "holds no run"),
        (("LOG", "--to", "asl", "--out", "x.txt"), "ends in .asl"),
        (("DEMO", "--to", "asl", "--out", "x.asl"), "give a folder"),
        (("DEMO", "--to", "asl", "scenes=embedded"), "holds its scene"),
        (("scenes=embedded", "--to", "mcap"), "no log is given"),
        (("ASL", "--to", "mcap", "--out", "OUT", "scenes=native", "scenes.path=EMPTY"), "no *.zip"),
        (("ASL", "--to", "mcap", "--out", "OUT", "--force"), "choose another folder"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    ran: Path, theirs: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("hello")
    places = {
        "LOG": ran / "rollouts/curve/0/log.mcap", "DEMO": ran, "OUT": tmp_path / "out",
        "ASL": theirs / "rollouts/curve/a1b2/rollout.asl", "TEXT": tmp_path / "x.txt",
        "EMPTY": tmp_path / "empty",
    }  # fmt: skip
    given = [str(places.get(a, a)).replace("=EMPTY", f"={tmp_path / 'empty'}") for a in arguments]
    done = omniloop("convert", *given)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert "Traceback" not in done.stderr
