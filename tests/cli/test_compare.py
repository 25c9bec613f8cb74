"""`omniloop tables` and `omniloop compare` on real small runs."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cli.test_cli import run
from tests.command import omniloop

SCENES = ("renderer=none", "sync.duration_s=4", "scenes.ids=curve,cut_in,junction", "run.seeds=2")


pytestmark = pytest.mark.timeout(600)  # the first test waits for 24 rollouts


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two policies, each with replayed and with reactive traffic."""
    folder = tmp_path_factory.mktemp("runs")
    for policy in ("route_follower", "constant_velocity"):
        for traffic in ("log_replay", "idm"):
            settings = (*SCENES, f"policy={policy}", f"traffic={traffic}")
            done = run(folder, *settings, name=f"{policy}-{traffic}")
            assert done.returncode == 0, done.stderr
    return folder


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def compared(runs: Path, *names: str, options: tuple[str, ...] = ()):
    return omniloop("compare", *(str(runs / name) for name in names), *options)


def test_a_run_ends_with_intervals_and_tables(runs):
    one = runs / "constant_velocity-log_replay"
    assert {p.suffix for p in one.glob("scores.*")} == {".csv", ".md", ".parquet", ".tex"}
    found = {row["score"]: row for row in rows((one / "scores.csv").read_text())}
    assert found["completed"]["value"] == "6"
    assert found["collision"]["interval"] == "Wilson"
    assert int(found["collision"]["scenes"]) == 3
    assert found["progress_m"]["interval"] == "bootstrap"
    low, high = (float(found["progress_m"][k]) for k in ("low", "high"))
    assert low < float(found["progress_m"]["value"]) < high
    printed = omniloop("report", str(one)).stdout
    assert "95 %" in printed
    assert "scores.csv" in printed


def test_scoring_again_gives_the_same_tables(runs):
    one = runs / "constant_velocity-idm"
    before = (one / "scores.csv").read_bytes()
    (one / "scores.csv").unlink()
    assert omniloop("score", str(one)).returncode == 0
    assert (one / "scores.csv").read_bytes() == before


def test_tables_by_scene_tag_and_rollout(runs, tmp_path):
    one = str(runs / "route_follower-idm")
    by_scene = omniloop("tables", one, "--by", "scene", "--metric", "progress_rel").stdout
    assert by_scene.count("\n| cut\\_in | 2 of 2 |") == 1
    by_tag = rows(omniloop("tables", one, "--by", "tag", "--format", "csv").stdout)
    assert {"curve", "motorway"} <= {row["group"] for row in by_tag}
    by_rollout = rows(omniloop("tables", one, "--by", "rollout", "--format", "csv").stdout)
    assert {"curve/0", "curve/1"} <= {row["group"] for row in by_rollout}
    out = tmp_path / "t.parquet"
    assert omniloop("tables", one, "--format", "parquet", "--out", str(out)).returncode == 0
    assert pq.read_table(out).num_rows > 10
    assert r"\begin{tabular}" in omniloop("tables", one, "--format", "latex").stdout


def test_tables_of_bad_input_end_with_2(runs, tmp_path):
    one = str(runs / "route_follower-idm")
    for arguments, message in (
        ((one, "--metric", "colision"), "Did you mean 'collision'"),
        ((one, "--format", "parquet"), "add --out FILE"),
        ((str(tmp_path),), "holds no run"),
    ):
        done = omniloop("tables", *arguments)
        assert done.returncode == 2
        assert message in done.stderr


def test_two_policies_compared(runs):
    done = compared(runs, "route_follower-log_replay", "constant_velocity-log_replay",
                    options=("--format", "csv"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {row["score"]: row for row in rows(done.stdout)}
    incident = found["incident"]
    assert (incident["pairs"], incident["scenes"]) == ("6", "3")
    assert (incident["set_only_in_first"], incident["set_only_in_second"]) == ("0", "2")
    assert float(incident["difference"]) == pytest.approx(1 / 3)
    assert float(incident["low"]) < 1 / 3 < float(incident["high"])


def test_the_text_names_flips_partings_and_what_changes(runs):
    text = compared(runs, "route_follower-log_replay", "constant_velocity-log_replay").stdout
    flat = " ".join(text.split())
    assert "changes policy.name: route_follower -> constant_velocity" in flat
    assert "incident only in B 2 curve/0, curve/1" in flat
    assert "what the policy may see differs in 6 rollout(s)" in flat
    assert "egos part by more than 0.1 m in 6 of 6 rollout(s)" in flat


def test_tables_go_to_a_folder(runs, tmp_path):
    out = tmp_path / "out"
    done = compared(runs, "route_follower-idm", "constant_velocity-idm", "route_follower-log_replay",
                    options=("--out", str(out), "--format", "md"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.iterdir()) == [
        "comparison.md", "comparison.tex", "differences.csv", "rollouts.csv",
    ]  # fmt: skip
    pairs = rows((out / "rollouts.csv").read_text())
    assert len(pairs) == 12
    assert all(float(p["parted_after_handover_s"]) > 0 for p in pairs[:6])
    assert done.stdout == (out / "comparison.md").read_text()


def test_rankings_under_two_settings(runs, tmp_path):
    names = [
        f"{p}-{t}" for p in ("route_follower", "constant_velocity") for t in ("log_replay", "idm")
    ]
    options = ("--rank-by", "traffic", "--metric", "incident*", "--out", str(tmp_path))
    done = compared(runs, *names, options=options)
    assert done.returncode == 0, done.stderr
    ranking = [r for r in rows((tmp_path / "ranking.csv").read_text()) if r["score"] == "incident"]
    assert [r["policy"] for r in ranking] == ["route_follower", "constant_velocity"]
    assert ranking[0]["tau"] == "1.0"
    refused = compared(runs, *names[:2], options=("--rank-by", "policy"))
    assert refused.returncode == 2
    assert "two runs have policy route_follower and the same policy" in refused.stderr


def test_missing_damaged_and_cut_off_are_named_and_the_rest_compared(runs, tmp_path):
    name = "constant_velocity-log_replay"
    shutil.copytree(runs / name, tmp_path / "hurt")
    rollouts = tmp_path / "hurt/rollouts"
    shutil.rmtree(rollouts / "curve/0")
    (rollouts / "cut_in/0/result.json").write_text("{")
    log = rollouts / "junction/0/log.mcap"
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    (rollouts / "junction/1/log.mcap").unlink()
    done = omniloop("compare", str(runs / name), str(tmp_path / "hurt"))
    flat = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stderr
    assert "4 pair(s) of rollouts of 3 scene(s)" in flat
    assert "left out, without a valid result in hurt: 2 rollout(s): curve/0, cut_in/0" in flat
    assert "result.json is ignored" in flat
    assert "logs of 2 rollout(s) could not be compared in full: junction/0, junction/1" in flat
    assert "egos part by more than 0.1 m in 0 of 4" in flat


def test_another_scene_or_other_thresholds_are_not_compared(runs, tmp_path):
    name = "route_follower-log_replay"
    shutil.copytree(runs / name, tmp_path / "other")
    text = (tmp_path / "other/run.yaml").read_text()
    sha256 = next(line for line in text.splitlines() if line.startswith("  cut_in: "))
    (tmp_path / "other/run.yaml").write_text(text.replace(sha256, f"  cut_in: {'0' * 64}"))
    kept = json.loads((tmp_path / "other/definitions.json").read_text())
    kept["metrics"]["collision"]["settings"]["stopped_mps"] = 1.0
    (tmp_path / "other/definitions.json").write_text(json.dumps(kept))
    done = omniloop("compare", str(runs / name), str(tmp_path / "other"))
    flat = " ".join(done.stdout.split())
    assert (
        "left out, the scene is another one under the same name: 2 rollout(s): cut_in/0, cut_in/1"
        in flat
    )
    assert "settings of metric 'collision' differ (stopped_mps: 0.05 -> 1.0)" in flat


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("route_follower-idm", "a run is given twice"),
        ("nowhere", "does not exist"),
        ("empty", "holds no run"),
        ("apart", "no rollout in common"),
        ("hollow", "holds no result"),
    ],
)
def test_what_cannot_be_compared_ends_with_2(runs, tmp_path, second, message):
    (tmp_path / "empty").mkdir()
    if second == "apart":
        run(
            tmp_path, "renderer=none", "sync.duration_s=1", "scenes.ids=straight_road", name="apart"
        )
    (tmp_path / "hollow/rollouts").mkdir(parents=True)
    other = runs / second if (runs / second).exists() else tmp_path / second
    done = omniloop("compare", str(runs / "route_follower-idm"), str(other))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_one_run_alone_or_an_unknown_score_ends_with_2(runs):
    alone = compared(runs, "route_follower-idm")
    assert alone.returncode == 2
    assert "one run cannot be compared" in alone.stderr
    unknown = compared(
        runs, "route_follower-idm", "constant_velocity-idm", options=("--metric", "nope")
    )
    assert unknown.returncode == 2
    assert "no score is called 'nope'" in unknown.stderr


def test_results_hold_what_is_aggregated(runs):
    one = runs / "constant_velocity-idm"
    values = [
        json.loads(path.read_text())["metrics"]["progress_m"]["value"]
        for path in one.glob("rollouts/*/*/result.json")
    ]
    found = {row["score"]: row for row in rows((one / "scores.csv").read_text())}
    assert float(found["progress_m"]["value"]) == pytest.approx(sum(values) / len(values))
