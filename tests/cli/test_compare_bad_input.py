"""`omniloop compare` where runs are damaged, incomplete or of other versions: the rest is compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from omniloop.cli.compare import compare_runs
from omniloop.cli.tables import print_tables
from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError, RunFolderError
from omniloop.report.runs import read_run
from omniloop.runlog.folder import LOG_NAME, read_run_yaml, to_yaml
from omniloop.runner.run import execute

SETTINGS = (
    "scenes.ids=[curve,cut_in]", "renderer=none", "sync.duration_s=1.5", "run.seeds=2",
    "policy=constant_velocity",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two real runs of two scenes and two seeds, with other traffic."""
    folder = tmp_path_factory.mktemp("runs")
    for name, traffic in (("a", "log_replay"), ("b", "idm")):
        settings = (*SETTINGS, f"traffic={traffic}", f"run.dir={folder}", f"run.name={name}")
        execute(compose(settings))
    return folder


@pytest.fixture
def pair(runs, tmp_path) -> Path:
    """Copies of both, for a test to damage."""
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def told(pair, capsys) -> Callable[..., str]:
    """Compares both and returns what is printed, on one line."""

    def compared(**options: object) -> str:
        assert compare_runs([pair / "a", pair / "b"], **options) == 0  # type: ignore[arg-type]
        return " ".join(capsys.readouterr().out.split())

    return compared


def rollout(pair: Path, run: str, name: str) -> Path:
    return pair / run / "rollouts" / name


def rewrite(path: Path, change: Callable[[dict], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def settings(pair: Path, run: str, change: Callable[[dict], object]) -> None:
    document = read_run_yaml(pair / run)
    change(document)
    (pair / run / "run.yaml").write_text(to_yaml(document))


@pytest.mark.parametrize("keep", [0, 7, 0.02, 0.5, 0.99])
def test_a_truncated_log_costs_no_more_than_its_parting(pair, told, keep):
    log = rollout(pair, "b", "curve/0") / LOG_NAME
    data = log.read_bytes()
    log.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    text = told()
    assert "4 pair(s) of rollouts of 2 scene(s)" in text
    assert "logs of 1 rollout(s) could not be compared in full: curve/0" in text or "apart" in text


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "not JSON"),
        (b'{"schema": "omniloop-result"', "not JSON"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[]", "schema is None"),
        (b"null", "schema is None"),
        (b'{"schema": "omniloop-result", "version": 99}', "schema version is 99, not 1"),
    ],
)
def test_a_damaged_result_is_left_out_counted_and_named(pair, told, content, fault):
    (rollout(pair, "b", "cut_in/1") / "result.json").write_bytes(content)
    text = told(logs=False)
    assert "3 pair(s) of rollouts" in text
    assert "left out, without a valid result in b: 1 rollout(s): cut_in/1" in text
    assert "result.json is ignored" in text
    assert fault in text


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_no_scores(pair, told, number):
    path = rollout(pair, "b", "cut_in/1") / "result.json"
    value = json.loads(path.read_text())["metrics"]["progress_m"]["value"]
    path.write_text(path.read_text().replace(f'"value": {value}', f'"value": {number}', 1))
    text = told(logs=False)
    assert "3 pair(s) of rollouts" in text
    assert "cut_in/1" in text
    assert "result.json is ignored" in text


def test_a_rollout_without_its_folder_is_left_out(pair, told):
    shutil.rmtree(rollout(pair, "a", "curve/1"))
    shutil.rmtree(rollout(pair, "a", "cut_in"))
    shutil.rmtree(rollout(pair, "b", "cut_in/0"))
    text = told()
    assert "1 pair(s) of rollouts of 1 scene(s)" in text
    assert "left out, without a valid result in a: 2 rollout(s): curve/1, cut_in/1" in text
    assert "left out, without a valid result in either run: 1 rollout(s): cut_in/0" in text


def test_a_scene_that_is_gone_or_was_excluded_is_named(pair, told):
    shutil.rmtree(rollout(pair, "b", "cut_in"))

    def exclude(document):
        del document["scenes"]["cut_in"]
        document["exclusions"] = [{"scene": "cut_in", "reason": "too short"}, "a stray"]

    settings(pair, "b", exclude)
    assert "left out, excluded from b (too short): 2 rollout(s): cut_in/0, cut_in/1" in told()


def test_a_scene_that_changed_under_its_name_is_left_out(pair, told):
    settings(pair, "b", lambda d: d["scenes"].update(cut_in="0" * 64))
    text = told(logs=False)
    assert "left out, the scene is another one under the same name: 2 rollout(s): cut_in/0" in text
    assert "2 pair(s) of rollouts of 1 scene(s)" in text


def test_other_versions_of_omniloop_are_a_caution(pair, told):
    settings(pair, "b", lambda d: d["environment"]["versions"].update(omniloop="99.0"))
    assert "-> 99.0" in told(logs=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.clear(),
        lambda d: d.update(schema="omniloop-run", version=7, config=["later"], scenes=[1]),
        lambda d: d.update(environment={"versions": "later"}, suite={"sha256": 3}, tags=7),
        lambda d: d["config"].update(run=None, sync="prefetch", metrics=None, policy="p"),
        lambda d: d["config"].pop("metrics"),
    ],
    ids=["empty", "later", "odd", "bare", "no-metrics"],
)
def test_settings_of_another_version_are_named_and_results_compared(pair, told, change):
    settings(pair, "b", change)
    text = told(logs=False)
    assert "4 pair(s) of rollouts of 2 scene(s)" in text


@pytest.mark.parametrize("content", ["a: [", "- 1\n- 2\n", "just words"])
def test_settings_that_are_no_mapping_are_refused(pair, content):
    (pair / "b/run.yaml").write_text(content)
    with pytest.raises(RunFolderError, match=r"run.yaml"):
        compare_runs([pair / "a", pair / "b"])


@pytest.mark.parametrize("name", ["größe-日本 1", "x" * 200, "a'b\"c;$(d)", "[bold]x[red]|&_"])
def test_any_name_of_a_scene_goes_through_every_table(pair, tmp_path, capsys, name):
    for run in ("a", "b"):
        (pair / run / "rollouts/curve").rename(pair / run / "rollouts" / name)
        for seed in (0, 1):
            rewrite(
                pair / run / "rollouts" / name / str(seed) / "result.json",
                lambda d, seed=seed: d.update(scene=name, session_id=f"{name}/{seed}"),
            )
        settings(pair, run, lambda d: d["scenes"].update({name: d["scenes"].pop("curve")}))
        settings(pair, run, lambda d: d["tags"].update({name: d["tags"].pop("curve")}))
    for kind in ("text", "md", "latex", "csv"):
        out = tmp_path / kind
        assert compare_runs([pair / "a", pair / "b"], kind=kind, out=out, by="tag") == 0
        assert name in (out / "rollouts.csv").read_text().replace('""', '"')
        capsys.readouterr()
    for kind in ("md", "csv", "latex", "parquet"):
        assert print_tables(pair / "a", "scene", kind, None, tmp_path / f"t.{kind}") == 0


def test_a_metric_that_is_not_installed_any_more_is_no_hindrance(pair, told):
    for run in ("a", "b"):
        settings(pair, run, lambda d: d["config"]["metrics"].update({"gone:Metric": {"limit": 1}}))
        for path in (pair / run).glob("rollouts/*/*/result.json"):
            score = {"value": 2.0 + (run == "b"), "valid": True, "reason": ""}
            rewrite(path, lambda d, score=score: d["metrics"].update(gone_score=score))
    text = told(logs=False)
    assert "gone_score 2.00 3.00 +1.00" in text
    assert "scores of metric 'gone:Metric' are taken as means" in text


def test_a_metric_defined_otherwise_is_named_and_the_rest_compared(pair, told):
    rewrite(
        pair / "b/definitions.json",
        lambda d: d["metrics"]["offroad"]["scores"]["offroad"].update(version=2),
    )
    text = told(logs=False)
    assert (
        "not compared, it is defined otherwise (version: 1 -> 2): 2 score(s): offroad, offroad_per_km"
        in text
    )


def test_runs_without_a_common_score_have_no_row_and_say_so(pair, told):
    for path in (pair / "b").glob("rollouts/*/*/result.json"):
        rewrite(path, lambda d: d.update(metrics={}))
    text = told(logs=False)
    assert "no score is in both runs and means the same in both" in text
    assert "not compared, only in a:" in text


def test_one_run_under_two_paths_is_refused(pair, monkeypatch):
    (pair / "link").symlink_to(pair / "a")
    monkeypatch.chdir(pair)
    for other in (Path("a/"), Path("./a/../a"), pair / "link", Path("link/")):
        with pytest.raises(ConfigError, match="a run is given twice"):
            compare_runs([pair / "a", other])


def test_a_link_to_another_run_is_compared(pair, capsys):
    (pair / "link").symlink_to(pair / "b")
    assert compare_runs([Path(f"{pair / 'a'}/"), pair / "link"], logs=False) == 0
    assert "b (B) against a (A)" in capsys.readouterr().out


def test_tables_of_a_damaged_run_name_what_is_missing(pair, capsys):
    (rollout(pair, "b", "cut_in/1") / "result.json").write_text("{")
    assert print_tables(pair / "b", "run", "md", None, None) == 0
    text = capsys.readouterr().out
    assert "1 planned rollout(s) without a result: cut\\_in/1" in text
    assert len(read_run(pair / "b").damaged) == 1
