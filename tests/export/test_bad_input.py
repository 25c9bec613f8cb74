"""What a user can get wrong is named: the run, the folder, the choices, damaged logs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from omniloop.core.errors import ConfigError, RunFolderError
from omniloop.export.export import export_run
from omniloop.export.manifest import read_manifest
from omniloop.export.settings import FORMS, ExportSettings
from tests.export.runs import CONFIG, add_rollout, make_run, tree

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", ["a", "b"], seconds=3.0)


def refused(run: Path, out: Path | None, match: str, form: str = "parquet", **choices) -> None:
    with pytest.raises((RunFolderError, ConfigError), match=match) as caught:
        export_run(run, out, ExportSettings(form, **choices))
    assert caught.value.remedy


def test_no_run(tmp_path):
    refused(tmp_path / "none", tmp_path / "out", "the folder does not exist")
    refused(tmp_path, tmp_path / "out", "the folder holds no run")
    make_run(tmp_path / "empty", [])
    (tmp_path / "empty/rollouts").mkdir()
    refused(tmp_path / "empty", tmp_path / "out", "no rollout of the run ended as")
    assert not (tmp_path / "out").exists()


def test_unknown_scenes_and_cameras_are_named_with_those_there_are(run, tmp_path):
    refused(run, tmp_path / "out", "scene 'c'", scenes=("c",))
    refused(run, tmp_path / "out", "camera 'camera_front_wide'", "frames", cameras=("camera_front_wide",))  # fmt: skip
    refused(run, tmp_path / "out", "ended as infrastructure_failed", outcomes=("infrastructure_failed",))  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("every", 0, "--every"), ("shard_mib", 0, "--shard-mib"), ("shard_samples", 0, "--shard-samples"),
        ("history", 2, "--history"), ("incident_within_s", 0.0, "--incident-within"),
        ("incident_within_s", float("nan"), "--incident-within"), ("outcomes", ("fine",), "--outcome"),
    ],
)  # fmt: skip
def test_impossible_choices_name_the_option(key, value, name):
    with pytest.raises(ConfigError) as caught:
        ExportSettings("parquet", **{key: value})
    assert caught.value.where == name


def test_a_run_without_frames_exports_tables_only(tmp_path):
    run = make_run(tmp_path / "run", [])
    add_rollout(run, "a", camera=False)
    for form in ("frames", "webdataset"):
        refused(run, tmp_path / "out", "no frames", form)
    assert export_run(run, tmp_path / "out", ExportSettings("parquet")).samples == 30


@pytest.mark.parametrize("form", FORMS)
def test_damaged_logs_are_left_out_by_name_and_come_later(form, run, tmp_path):
    logs = {name: run / f"rollouts/{name}/0/log.mcap" for name in "ab"}
    whole = logs["a"].read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 0xFF
    faults = {
        "cut": whole[: len(whole) // 2], "damaged": bytes(damaged), "empty": b"", "other": b"no log",
    }  # fmt: skip
    for name, data in faults.items():
        logs["a"].write_bytes(data)
        done = export_run(run, tmp_path / name, ExportSettings(form))
        (line,) = done.skipped
        assert line.startswith("a/0: the log")
        assert done.rollouts == 1
        assert read_manifest(tmp_path / name).skipped == [line]
    logs["a"].write_bytes(whole)
    done = export_run(run, tmp_path / "cut", ExportSettings(form))
    assert (done.rollouts, done.added, done.skipped) == (2, 1, ())
    logs["b"].unlink()
    assert "cannot be read" in export_run(run, tmp_path / "gone", ExportSettings(form)).skipped[0]


def test_a_log_of_another_rollout_and_a_damaged_result_are_left_out(run, tmp_path):
    (run / "rollouts/a/0/log.mcap").write_bytes((run / "rollouts/b/0/log.mcap").read_bytes())
    done = export_run(run, tmp_path / "one", ExportSettings("parquet"))
    assert done.skipped == ("a/0: the log is of rollout b/0",)
    (run / "rollouts/a/0/result.json").write_text("{")
    done = export_run(run, tmp_path / "two", ExportSettings("parquet"))
    assert "a/0/result.json is ignored" in done.skipped[0]


def test_an_image_that_is_none_is_named(tmp_path):
    from dataclasses import replace

    from tests.export.runs import SIZE
    from tests.report.builders import make_frames

    run = make_run(tmp_path / "run", ["b"])

    def broken(record):
        own = make_frames(record, SIZE)
        return [*own[:-1], replace(own[-1], image=b"\xff\xd8 no more")]

    add_rollout(run, "a", frames=broken)
    (line,) = export_run(run, tmp_path / "out", ExportSettings("frames")).skipped
    assert (
        "a/0: the image of camera_front_wide_120fov captured at 1700000006000000 us is no JPEG"
        in line
    )


def test_folders_of_runs_and_of_others_are_refused(run, tmp_path):
    other = make_run(tmp_path / "other", ["a"])
    refused(run, other, "belongs to the run other")
    refused(run, other / "export", "belongs to the run other")
    refused(run, run, "belongs to the run run")
    refused(run, run / "rollouts/a/0/x", "belongs to the run run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    refused(run, tmp_path / "full", "not empty and holds no export: notes.txt")
    (tmp_path / "file").write_text("mine")
    refused(run, tmp_path / "file", "cannot be made")
    assert sorted(p.name for p in (tmp_path / "full").iterdir()) == [".lock", "notes.txt"]


def test_without_out_it_goes_beside_the_runs_own_files(run):
    done = export_run(run, None, ExportSettings("parquet"))
    assert done.out == run / "export/parquet"
    assert export_run(run, None, ExportSettings("frames")).out == run / "export/frames"


def test_other_choices_and_another_run_are_refused_naming_the_difference(run, tmp_path):
    export_run(run, tmp_path / "out", ExportSettings("parquet"))
    before = tree(tmp_path / "out")
    refused(run, tmp_path / "out", "--every is 2, the export has 1", every=2)
    refused(run, tmp_path / "out", "--to is frames, the export has parquet", "frames")
    refused(run, tmp_path / "out", "--scenes is a, the export has not given", scenes=("a",))
    other = make_run(tmp_path / "other", ["a", "b"], seconds=3.0)
    document = {"config": {**CONFIG, "policy": {"name": "another"}}, "root_seed": 0}
    (other / "run.yaml").write_text(yaml.safe_dump(document))
    refused(other, tmp_path / "out", "of another run, run")
    assert tree(tmp_path / "out") == before


def test_rollouts_and_files_that_have_changed_since_are_named(run, tmp_path):
    export_run(run, tmp_path / "out", ExportSettings("parquet"))
    add_rollout(run, "a", seconds=4.0)
    refused(run, tmp_path / "out", "rollout a/0, which is exported, has changed since")
    (run / "rollouts/a/0/result.json").unlink()
    refused(run, tmp_path / "out", "rollout a/0, which is exported, is no longer")
    add_rollout(run, "a", seconds=3.0)
    part = tmp_path / "out/actors/part-000000.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    refused(run, tmp_path / "out", "actors/part-000000.parquet of the export has")
    part.unlink()
    refused(run, tmp_path / "out", "actors/part-000000.parquet of the export is missing")
    (tmp_path / "out/manifest.json").write_text('{"schema": "other"}')
    refused(run, tmp_path / "out", "the manifest is no 'omniloop-export'")
    (tmp_path / "out/manifest.json").write_text("{")
    refused(run, tmp_path / "out", "the manifest cannot be read")


def test_only_wall_clock_facts_of_a_result_may_change(run, tmp_path):
    export_run(run, tmp_path / "out", ExportSettings("parquet"))
    add_rollout(run, "a", seconds=3.0, timings={"wall_s": 9.0}, attempts=4)
    assert export_run(run, tmp_path / "out", ExportSettings("parquet")).added == 0


_EXPORTS = """
import resource, signal, sys
from omniloop.cli.main import main
run, out, *forms = sys.argv[1:]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
for form in forms:
    sys.argv = ["omniloop", "export", run, "--to", form, "--out", f"{out}/{form}"]
    try:
        main()
    except SystemExit as end:
        print(f"code={end.code}")
"""


def test_a_full_disk_is_named_and_the_export_goes_on_later(tmp_path):
    run = make_run(tmp_path / "run", ["a", "b"], seconds=4.0)
    # -B: other processes would import what is cut off of a module's bytecode.
    done = subprocess.run(
        [sys.executable, "-B", "-c", _EXPORTS, run, tmp_path / "out", *FORMS], cwd=ROOT,
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.stdout.count("code=") == done.stdout.count("code=2\n") == len(FORMS), done.stderr
    assert done.stderr.count("cannot be written: File too large") == len(FORMS)
    assert done.stderr.count("the export goes on") == len(FORMS)
    assert "Traceback" not in done.stderr
    assert "ignored" not in done.stderr
    for form in FORMS:
        export_run(run, tmp_path / "out" / form, ExportSettings(form))
        export_run(run, tmp_path / "undisturbed" / form, ExportSettings(form))
        assert tree(tmp_path / "out" / form) == tree(tmp_path / "undisturbed" / form)
