from __future__ import annotations

import json

from typer.testing import CliRunner

from omniloop.cli.main import app
from omniloop.configs.suite import suite_names

TEXT = "scenes:\n  - {source: embedded, ids: [curve]}\n"


def omniloop(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_list_names_every_suite():
    lines = omniloop("suite", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == suite_names()


def test_show_prints_scenes_edits_metrics_and_the_hash(tmp_path):
    out = omniloop("suite", "show", "smoke").stdout
    document = json.loads(omniloop("suite", "show", "smoke", "--json").stdout)
    assert f"sha256: {document['sha256']}" in out
    assert "edit: cut_in: car" in out
    assert "offroad: tolerance_m=0.3" in out
    assert "sync.duration_s: 8.0" in out
    assert "omniloop" in document["versions"]
    assert document["content"]["scenes"]["junction"]["sha256"][:12] in out


def test_a_shipped_suite_can_be_copied_and_stays_the_same(tmp_path):
    copy = tmp_path / "copy.yaml"
    copy.write_text(omniloop("suite", "show", "smoke", "--file").stdout)
    assert omniloop("suite", "diff", "smoke", str(copy)).exit_code == 0


def test_diff_tells_by_its_exit_code(tmp_path):
    paths = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    paths[0].write_text(TEXT)
    paths[1].write_text(TEXT + "description: a copy\n")
    same = omniloop("suite", "diff", *map(str, paths))
    assert (same.exit_code, same.stdout[:16]) == (0, "the same content")
    paths[1].write_text(TEXT + "seeds: 2\n")
    other = omniloop("suite", "diff", *map(str, paths))
    assert other.exit_code == 1
    assert other.stdout.splitlines()[0] == "seeds: [0] -> [0, 1]"
    assert other.stdout.splitlines()[-1].endswith("b.yaml")


def test_every_command_that_takes_a_source_takes_a_suite():
    out = omniloop("scenes", "list", "suite=smoke").stdout
    assert out.splitlines() == ["straight_road", "junction", "stopped_lead", "curve-cut_in"]
