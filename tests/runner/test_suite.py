from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from pathlib import Path

import pytest

from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError, RunFolderError, SceneError
from omniloop.runlog.digest import digest_run
from omniloop.runlog.folder import read_run_yaml
from omniloop.runlog.results import read_results
from omniloop.runner.rescore import rescore
from omniloop.runner.run import Finished, execute
from omniloop.runner.suite import content_sha256, load_suite
from omniloop.runner.suite_diff import read_side, suite_differences
from omniloop.scenes.native import scene_hash, write_bundle

TEXT = """\
scenes:
  - {source: embedded, ids: [curve]}
  - {source: embedded, ids: [curve], edit: [recipe:cut_in], rename: "{scene}-cut_in"}
settings:
  renderer: none
  sync.duration_s: 1
"""


def suite_file(folder: Path, text: str = TEXT, name: str = "mine") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def run(folder: Path, suite: str | Path, *settings: str, name: str = "run"):
    return execute(compose([f"suite={suite}", f"run.dir={folder}", f"run.name={name}", *settings]))


def sha256(folder: Path, text: str, name: str = "mine") -> str:
    return load_suite(compose([f"suite={suite_file(folder, text, name)}"])).sha256


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run of that suite, whose file lies beside it."""
    folder = tmp_path_factory.mktemp("suite")
    return run(folder, suite_file(folder))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of that suite."""
    return sha256(tmp_path_factory.mktemp("known"), TEXT)


def test_smoke_runs_from_end_to_end(tmp_path):
    finished = run(tmp_path, "smoke", "renderer=none")
    assert [r.session_id for r in finished.results] == [
        "straight_road/0", "junction/0", "stopped_lead/0", "curve-cut_in/0",
    ]  # fmt: skip
    assert {r.outcome for r in finished.results} == {"completed"}
    told = read_run_yaml(tmp_path / "run")
    assert told["suite"]["name"] == "smoke"
    assert told["suite"]["sha256"] == content_sha256(told["suite"]["content"])
    scenes = told["suite"]["content"]["scenes"]
    assert {name: scene["sha256"] for name, scene in scenes.items()} == told["scenes"]
    assert scenes["curve-cut_in"]["edits"] == told["edits"]["curve-cut_in"]
    reference = {"name": "smoke", "sha256": told["suite"]["sha256"]}
    assert all(r.suite == reference for r in read_results(tmp_path / "run"))
    assert rescore(tmp_path / "run").changes == []
    assert all(r.suite == reference for r in read_results(tmp_path / "run"))
    assert suite_differences(read_side("smoke"), read_side(str(tmp_path / "run"))) == []


def test_the_command_of_the_report_runs_the_suite_again(tmp_path):
    from omniloop.configs.overrides import overrides_of
    from omniloop.report.page_parts import rerun_command

    config = compose([f"suite={suite_file(tmp_path)}", "policy=log_replay", "run.name=x"])
    given = {"command": ["omniloop", "run", *(overrides_of(config) or ())]}
    again = compose(shlex.split(rerun_command(given, "x"))[2:])
    assert (again.suite, again.scenes, again.sync) == (config.suite, config.scenes, config.sync)
    assert (again.policy.name, again.run.name) == ("log_replay", "x_2")


def test_the_hash_is_that_of_canonical_json(tmp_path):
    resolved = load_suite(compose([f"suite={suite_file(tmp_path)}"]))
    text = json.dumps(resolved.content, sort_keys=True, separators=(",", ":"))
    assert resolved.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_a_run_of_no_suite_says_so_and_has_the_same_digest(tmp_path, driven):
    plain = execute(
        compose(
            ["renderer=none", "sync.duration_s=1", "scenes.ids=curve", f"run.dir={tmp_path}",
             "run.name=plain"]
        )
    )  # fmt: skip
    assert plain.results[0].suite is None
    assert "suite" not in read_run_yaml(tmp_path / "plain")
    assert digest_run(tmp_path / "plain")[0] in digest_run(driven.run_dir)
    with pytest.raises(RunFolderError, match="the run is of no suite"):
        read_side(str(tmp_path / "plain"))


def test_the_hash_knows_neither_names_nor_order_nor_the_policy(tmp_path, known):
    lines = TEXT.splitlines(keepends=True)
    assert sha256(tmp_path, "".join([lines[0], lines[2], lines[1], *lines[3:]]), "turned") == known
    assert sha256(tmp_path, TEXT + "description: other\nversion: 2\n") == known
    config = compose([f"suite={suite_file(tmp_path)}", "policy=log_replay", "traffic=idm"])
    assert load_suite(config).sha256 == known


@pytest.mark.parametrize(
    "changed",
    [
        TEXT.replace("ids: [curve]", "ids: [junction]", 1),
        TEXT.replace('rename: "{scene}-cut_in"', 'set: {gap_s: 1.5}, rename: "{scene}-cut_in"'),
        TEXT.replace("{scene}-cut_in", "{scene}-x"), TEXT + "seeds: 2\n",
        TEXT + "metrics: {offroad: {}}\n", TEXT.replace("duration_s: 1", "duration_s: 2"),
        TEXT.replace("renderer: none", "sync.warmup_s: 1"),
    ],
)  # fmt: skip
def test_what_is_measured_changes_the_hash(tmp_path, known, changed):
    assert sha256(tmp_path, changed) != known


def test_a_metric_at_its_default_has_the_same_hash_as_when_it_is_written_out(tmp_path):
    written = "metrics: {offroad: {tolerance_m: 0.3}}\n"
    given = sha256(tmp_path, TEXT + written)
    assert sha256(tmp_path, TEXT + "metrics: {offroad: }\n") == given
    assert given != sha256(tmp_path, TEXT + written.replace("3", "4"))


def test_a_scene_that_is_too_short_is_excluded_and_still_counts(tmp_path):
    text = "scenes: [{source: embedded, ids: [junction, straight_road]}]\n"
    path = suite_file(tmp_path, text)
    whole = load_suite(compose([f"suite={path}"])).sha256
    finished = run(tmp_path, path, "renderer=none", "sync.warmup_s=16.5")
    assert [e.scene_id for e in finished.setup.exclusions] == ["straight_road"]
    assert finished.results[0].suite == {"name": "mine", "sha256": whole}


def test_an_edit_that_does_not_fit_excludes_its_scene_and_the_suite_tells(tmp_path):
    (tmp_path / "edit.yaml").write_text("edits:\n  - {kind: remove, actors: [nobody]}\n")
    text = TEXT.replace("recipe:cut_in", "edit.yaml")
    finished = run(tmp_path, suite_file(tmp_path, text))
    assert [e.scene_id for e in finished.setup.exclusions] == ["curve-cut_in"]
    content = finished.setup.suite.content
    assert content["scenes"]["curve-cut_in"] == {"sha256": None, "edits": []}
    assert load_suite(compose([f"suite={tmp_path / 'mine.yaml'}"])).content == content


def test_two_sources_run_as_one_and_bundles_keep_the_hash(tmp_path, driven):
    setup = driven.setup
    for scene_id in setup.ids:
        write_bundle(setup.source.load(scene_id), tmp_path / "bundles" / f"{scene_id}.zip")
    head, tail = TEXT.partition("scenes:\n")[0], TEXT[TEXT.index("settings") :]
    text = (
        f"{head}scenes:\n  - {{source: embedded, ids: [curve]}}\n"
        f"  - {{source: native, path: bundles, ids: [curve-cut_in]}}\n{tail}"
    )
    other = run(tmp_path, suite_file(tmp_path, text, "bundled"), name="other")
    assert other.setup.suite.sha256 == setup.suite.sha256
    assert digest_run(driven.run_dir) == digest_run(tmp_path / "other")


def test_two_real_sources_run_as_one(tmp_path, shared_data):
    av2, nuscenes = shared_data / "av2", shared_data / "nuscenes_mini"
    ids = {
        name: compose_ids(name, folder)[:1]
        for name, folder in (("av2", av2), ("nuscenes", nuscenes))
    }
    entries = [
        {"source": "av2", "path": str(av2), "ids": ids["av2"]},
        {"source": "nuscenes", "path": str(nuscenes), "ids": ids["nuscenes"]},
    ]
    text = json.dumps({"scenes": entries, "settings": {"renderer": "none", "sync.duration_s": 1}})
    finished = run(tmp_path, suite_file(tmp_path, text))
    assert [r.scene for r in finished.results] == [*ids["av2"], *ids["nuscenes"]]
    assert {r.outcome for r in finished.results} == {"completed"}


def compose_ids(source: str, folder: Path) -> list[str]:
    from omniloop.runner.assemble import chosen_ids, open_source

    config = compose([f"scenes={source}", f"scenes.path={folder}"]).scenes
    return chosen_ids(config, open_source(config))


def test_a_run_goes_on_only_with_the_suite_that_it_began_with(tmp_path, driven):
    shutil.copytree(driven.run_dir, tmp_path / "run")
    path = suite_file(tmp_path)
    assert run(tmp_path, path, "run.resume=true").resumed == 2
    suite_file(tmp_path, TEXT + "seeds: 2\n")
    with pytest.raises(RunFolderError, match=r"suite\.sha256"):
        run(tmp_path, path, "run.resume=true")


def test_a_scene_keeps_its_id_in_its_bundle(driven):
    setup = driven.setup
    scene = setup.source.load("curve-cut_in")
    assert scene.id == "curve-cut_in"
    assert scene_hash(scene) == setup.hashes["curve-cut_in"]


def test_differences_name_scenes_edits_seeds_settings_and_versions(tmp_path):
    first = read_side(str(suite_file(tmp_path)))
    text = TEXT.replace("ids: [curve]}", "ids: [junction]}").replace(
        "edit: [recipe:cut_in]", "edit: [recipe:cut_in], set: {gap_s: 1.5}"
    )
    text = text.replace("duration_s: 1", "duration_s: 2") + (
        "version: 2\nseeds: 2\nmetrics: {offroad: {tolerance_m: 0.5}}\n"
    )
    second = read_side(str(suite_file(tmp_path, text, "second")))
    lines = suite_differences(first, second)
    assert "scene curve: removed" in lines
    assert "scene junction: added" in lines
    changed = next(line for line in lines if line.startswith("scene curve-cut_in: "))
    assert " -> " in changed
    assert any("  without edit: cut_in" in line and "gap 0.8 s" in line for line in lines)
    assert any("  with edit: cut_in" in line and "gap 1.5 s" in line for line in lines)
    assert "seeds: [0] -> [0, 1]" in lines
    assert "metrics.offroad.tolerance_m: 0.3 -> 0.5" in lines
    assert "settings.sync.duration_s: 1.0 -> 2.0" in lines
    assert "version: 1 -> 2" in lines
    assert suite_differences(first, first) == []


def test_a_scene_that_is_not_in_its_source_is_found_before_anything_is_written(tmp_path):
    path = suite_file(tmp_path, "scenes: [{source: embedded, ids: [curvy]}]\n")
    with pytest.raises(SceneError, match="Did you mean 'curve'") as caught:
        run(tmp_path, path)
    assert "mine.yaml, line 1" in caught.value.where
    assert not (tmp_path / "run").exists()


def test_a_subset_of_a_suite_is_not_the_suite(tmp_path):
    with pytest.raises(ConfigError, match="pins 'scenes'"):
        run(tmp_path, "smoke", "scenes.ids=curve-cut_in")
