"""What `omniloop run`, `score`, `tables` and `report` make of AlpaSim's scores."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.command import omniloop

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (
    "metrics=alpasim", "scenes.ids=cut_in,curve", "run.seeds=2", "sync.duration_s=2",
    "policy=constant_velocity", "renderer.width=64", "renderer.height=48",
)  # fmt: skip
FILES = ("metrics_results.parquet", "metrics_results.txt", "results-summary.json")


def run(folder: Path, *settings: str, name: str = "run") -> Path:
    done = omniloop("run", f"run.dir={folder}", f"run.name={name}", *settings)
    assert done.returncode == 0, done.stderr
    return folder / name


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("alpasim"), *SETTINGS)


def table(run_dir: Path, *options: str) -> dict[str, dict[str, str]]:
    done = omniloop("tables", run_dir, "--family", "alpasim", "--format", "csv", *options)
    assert done.returncode == 0, done.stderr
    return {row["score"]: row for row in csv.DictReader(io.StringIO(done.stdout))}


def test_the_files_have_alpasims_names_and_say_the_same(run_dir: Path) -> None:
    folder = run_dir / "aggregate"
    assert sorted(path.name for path in folder.iterdir()) == list(FILES)
    summary = json.loads((folder / "results-summary.json").read_text())
    assert set(summary) == {
        "schema_version", "scene_score_enabled", "rollouts", "metrics_results", "score_criteria",
    }  # fmt: skip
    assert [(r["clipgt_id"], r["rollout_id"]) for r in summary["rollouts"]] == [
        ("curve", "0"), ("curve", "1"), ("cut_in", "0"), ("cut_in", "1"),
    ]  # fmt: skip
    (row,) = summary["metrics_results"]
    assert (row["run_name"], row["n_clips"], row["n_rollouts"]) == ("run", 2.0, 2)
    (wide,) = pq.read_table(folder / "metrics_results.parquet").to_pylist()
    assert wide == row
    lines = table(run_dir)
    for name, line in lines.items():
        if name != "scene_score":
            assert line["mean"] == ("" if row[name] is None else str(row[name])), name
    text = (folder / "metrics_results.txt").read_text()
    for name in (*lines, "avg_dist_between_incidents_at_fault", "Driven in Tube [km]"):
        assert name in text


def test_every_row_states_what_it_rests_on(run_dir: Path) -> None:
    for name, line in table(run_dir).items():
        assert line["rollouts"] in ("0", "4"), name
        assert float(line["dist_traveled_m"]) > 0 or line["rollouts"] == "0"
        assert line["mean"] or line["reason"], name


def test_without_frames_the_rule_for_black_images_is_told_not_to_be_applied(run_dir: Path) -> None:
    shown = omniloop("tables", run_dir, "--family", "alpasim").stdout
    assert "the rule was not applied to 4 of 4 rollout(s)" in shown
    assert "omniloop score --frames" in shown
    assert "compat=corrected" in shown


def test_with_frames_it_says_how_many_are_removed(tmp_path: Path) -> None:
    scored = run(tmp_path, *SETTINGS)
    assert omniloop("score", scored, "--frames").returncode == 0
    text = (scored / "aggregate/metrics_results.txt").read_text()
    assert "black images: none of 4 rollout(s) removed" in text
    assert "not applied" not in text
    dark = run(
        tmp_path, *SETTINGS, "imperfection.image.gain=[0.001,0.001]", "run.seeds=1", name="dark"
    )
    assert omniloop("score", dark, "--frames").returncode == 0
    text = (dark / "aggregate/metrics_results.txt").read_text()
    assert "black images: 2 of 2 rollout(s) removed: curve/0, cut_in/0" in text
    summary = json.loads((dark / "aggregate/results-summary.json").read_text())
    assert [r["status"] for r in summary["rollouts"]] == ["unscored"] * 2
    assert summary["metrics_results"][0]["collision_any"] is None


def test_without_a_renderer_there_are_no_frames_to_look_at(tmp_path: Path) -> None:
    blind = run(
        tmp_path, *SETTINGS, "renderer=none", "run.seeds=1", "metrics.alpasim.compat=strict"
    )
    assert omniloop("score", blind, "--frames").returncode == 0
    text = (blind / "aggregate/metrics_results.txt").read_text()
    assert "compat=strict" in text
    assert "not applied to 2 of 2 rollout(s): no frame of camera_front_wide_120fov" in text


def test_scores_can_be_chosen_and_report_writes_the_files_again(run_dir: Path) -> None:
    chosen = table(run_dir, "--metric", "collision_*,alpasim_scene_score")
    assert list(chosen) == [
        "collision_front", "collision_rear", "collision_lateral", "collision_any",
        "collision_at_fault", "scene_score",
    ]  # fmt: skip
    before = {name: (run_dir / "aggregate" / name).read_bytes() for name in FILES}
    (run_dir / "aggregate/results-summary.json").unlink()
    assert omniloop("report", run_dir).returncode == 0
    assert {name: (run_dir / "aggregate" / name).read_bytes() for name in FILES} == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--family", "alpasim", "--by", "scene"), "whole run"),
        (("--family", "alpasim", "--metric", "colision_any"), "Did you mean 'collision_any'"),
        (("--family", "alpsim"), "Did you mean 'alpasim'"),
        (("--family", "navsim"), "no scores of the family 'navsim'"),
    ],
)
def test_what_cannot_be_shown_is_refused(run_dir: Path, options: tuple[str], words: str) -> None:
    done = omniloop("tables", run_dir, *options)
    assert done.returncode == 2
    assert words in done.stderr


def test_other_families_are_shown_as_any_scores_are(tmp_path: Path) -> None:
    plain = run(
        tmp_path, "scenes.ids=curve", "renderer=none", "sync.duration_s=1", "metrics=nuplan"
    )
    assert not (plain / "aggregate").exists()
    shown = omniloop("tables", plain, "--family", "nuplan")
    assert "nuplan" in shown.stdout, shown.stderr
    done = omniloop("tables", plain, "--family", "alpasim")
    assert done.returncode == 2
    assert "metrics=alpasim" in done.stderr
