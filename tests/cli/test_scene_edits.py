"""Edits on the command line: runs, pictures, recipes and families."""

from __future__ import annotations

import cv2

from tests.command import omniloop


def test_a_run_drives_edited_scenes_and_its_report_lists_the_edits(tmp_path):
    done = omniloop(
        "run", "scenes.ids=curve", "scenes.edit=recipe:cut_in,recipe:night_rain", "scenes.set.gap_s=1.1",
        "renderer=none", "sync.duration_s=4", f"run.dir={tmp_path}", "run.name=a",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "a/report.html").read_text()
    assert "gap 1.1 s" in page
    assert "time_of_day: night" in page
    plain = omniloop(
        "run", "scenes.ids=curve", "renderer=none", "sync.duration_s=4", f"run.dir={tmp_path}", "run.name=b"
    )  # fmt: skip
    assert plain.returncode == 0
    assert "edits of the scene" not in (tmp_path / "b/report.html").read_text()
    hashes = [
        [line for line in (tmp_path / name / "run.yaml").read_text().splitlines() if "curve:" in line]
        for name in "ab"
    ]  # fmt: skip
    assert hashes[0] != hashes[1]


def test_show_prints_edits_and_draws_the_whole_or_an_instant(tmp_path):
    common = ("scenes", "show", "scenes.ids=curve", "scenes.edit=recipe:cut_in")
    done = omniloop(*common, "--out", str(tmp_path / "whole"))
    assert "  edit: cut_in: car 'cut_in_1'" in done.stdout
    instant = omniloop(*common, "--at", "4.5", "--out", str(tmp_path / "at"))
    assert instant.returncode == 0, instant.stderr
    for folder, pixels in (("whole", 50), ("at", 50)):
        image = cv2.imread(str(tmp_path / folder / "curve.png")).astype(int)
        pink = (abs(image - [128, 24, 208]).sum(axis=2) < 40).sum()
        assert pink > pixels


def test_wrong_edits_exit_with_2_and_say_what_was_meant():
    for setting, said in (
        ("scenes.edit=recipe:cutin", "Did you mean 'cut_in'?"),
        ("scenes.edit=nothing.yaml", "the edit file cannot be read"),
        ("scenes.set.gap_s=1", "no edit file has a parameter 'gap_s'"),
    ):
        done = omniloop("scenes", "validate", "scenes.ids=curve", setting)
        assert done.returncode == 2, (setting, done.stderr)
        assert said in done.stderr + done.stdout


def test_a_run_excludes_scenes_that_an_edit_does_not_fit_and_says_why(tmp_path):
    (tmp_path / "mine.yaml").write_text("edits: [{kind: hard_brake, actor: right_turner, at_s: 2}]")
    common = ("run", f"scenes.edit={tmp_path / 'mine.yaml'}", "renderer=none", "sync.duration_s=1", f"run.dir={tmp_path}")  # fmt: skip
    done = omniloop(*common, "scenes.ids=curve,junction", "run.name=two")
    assert done.returncode == 0, done.stderr
    assert "excluded curve: edit refused: no actor 'right_turner'" in done.stdout
    assert "[1/1] junction/0: completed" in done.stdout
    none = omniloop(*common, "scenes.ids=curve", "run.name=one")
    assert none.returncode == 2
    assert "mine.yaml, edit 1 (hard_brake), scene curve" in none.stderr


def test_recipes_are_listed_with_a_line_and_their_parameters():
    lines = omniloop("scenes", "recipes").stdout.splitlines()
    assert sum(line.startswith("recipe:") for line in lines) >= 8
    assert "    gap_s=0.8 (0.2 to 4): time gap when it is in ego's lane" in lines


def test_a_family_is_written_twice_alike_and_runs(tmp_path):
    for folder in ("a", "b"):
        done = omniloop(
            "scenes", "vary", "scenes.ids=curve", "--edit", "recipe:jaywalk", "--vary", "at_s=3:8",
            "--vary", "gap_s", "--sample", "4", "--seed", "1", "--out", str(tmp_path / folder),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    made = {p.name: p.read_bytes() for p in sorted((tmp_path / "a").iterdir())}
    assert made == {p.name: p.read_bytes() for p in sorted((tmp_path / "b").iterdir())}
    assert "family.csv" in made
    ran = omniloop(
        "run", "scenes=native", f"scenes.path={tmp_path / 'a'}", "renderer=none", "sync.duration_s=1",
        f"run.dir={tmp_path}", "run.name=family",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert f"{len(made) - 1} rollout(s)" in ran.stdout


def test_a_family_needs_an_edit_file_and_something_to_vary():
    for arguments, said in (
        ((), "nothing to vary"),
        (("--edit", "recipe:cut_in"), "no parameter to vary"),
        (("--edit", "recipe:cut_in", "--vary", "gap=1,2"), "Did you mean 'gap_s'?"),
    ):
        done = omniloop("scenes", "vary", "scenes.ids=curve", *arguments)
        assert done.returncode == 2
        assert said in done.stderr + done.stdout


def test_pictures_and_bundles_are_made_of_the_scenes_that_an_edit_fits(tmp_path):
    (tmp_path / "mine.yaml").write_text("edits: [{kind: hard_brake, actor: right_turner, at_s: 2}]")
    edit = f"scenes.edit={tmp_path / 'mine.yaml'}"
    for command, suffix in (("show", "png"), ("convert", "zip")):
        common = ("scenes", command, edit, "--out", str(tmp_path / command))
        done = omniloop(*common, "scenes.ids=curve,junction")
        assert done.returncode == 0, done.stderr
        assert "skipped curve: no actor 'right_turner'" in done.stdout
        assert [p.name for p in (tmp_path / command).iterdir()] == [f"junction.{suffix}"]
        done = omniloop(*common, "scenes.ids=curve")
        assert done.returncode == 2
        assert "no actor 'right_turner'" in done.stderr


def test_an_instant_that_is_none_is_refused(tmp_path):
    for at in ("nan", "-1"):
        done = omniloop("scenes", "show", "scenes.ids=curve", "--at", at, "--out", str(tmp_path))
        assert done.returncode == 2
        assert "an instant of" in done.stderr


def test_one_damaged_scene_of_several_is_said_and_the_others_are_written(tmp_path):
    done = omniloop("scenes", "convert", "scenes.ids=curve,junction", "--out", str(tmp_path / "in"))
    assert done.returncode == 0, done.stderr
    damaged = tmp_path / "in/junction.zip"
    damaged.write_bytes(damaged.read_bytes()[:-500])
    common = ("scenes=native", f"scenes.path={tmp_path / 'in'}")
    for command in ("convert", "show"):
        done = omniloop("scenes", command, *common, "--out", str(tmp_path / command))
        assert done.returncode == 2
        assert "skipped junction.zip: not a readable zip" in done.stderr
        assert str(damaged) in done.stderr
        assert [p.stem for p in (tmp_path / command).iterdir()] == ["curve"]
    alone = omniloop(
        "scenes", "convert", *common, "scenes.ids=junction.zip", "--out", str(tmp_path / "c")
    )
    assert alone.returncode == 2
    assert alone.stderr.startswith("error: not a readable zip")
