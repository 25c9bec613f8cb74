"""The command line as users meet it: exit codes, what is printed, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from omniloop import __version__
from tests.cli.held import Hold
from tests.command import ROOT, interruptible, omniloop
from tests.live.made_run import wait_for

QUICK = ("renderer=none", "sync.duration_s=1", "scenes.ids=curve")


def process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "omniloop.cli.main", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip


def run(
    folder: Path, *settings: str, name: str = "run", by=omniloop
) -> subprocess.CompletedProcess[str]:
    return by("run", f"run.dir={folder}", f"run.name={name}", *settings)


def test_help_teaches_by_example():
    out = omniloop("run", "--help").stdout
    assert "omniloop run policy=my_file:MyPolicy" in out
    assert "scenes=av2" in out


def test_the_version_is_that_of_the_package():
    done = omniloop("--version")
    assert (done.returncode, done.stdout) == (0, f"omniloop {__version__}\n")


def test_run_ends_with_a_table_and_the_report(tmp_path):
    done = run(tmp_path, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "[1/1] curve/0: completed" in done.stdout
    assert "report.html" in done.stdout
    assert (tmp_path / "run/report.html").is_file()
    assert (tmp_path / "run/metrics.parquet").is_file()
    assert not done.stderr


def test_digest_prints_one_line_a_rollout(tmp_path):
    run(tmp_path, *QUICK, "run.seeds=2")
    lines = omniloop("digest", str(tmp_path / "run")).stdout.splitlines()
    assert [line.split("  ")[1] for line in lines] == ["curve/0", "curve/1"]
    assert all(len(line.split("  ")[0]) == 64 for line in lines)


def test_two_processes_give_the_same_digest(tmp_path):
    for name in ("a", "b"):
        run(
            tmp_path,
            "scenes.ids=cut_in",
            "sync.duration_s=1",
            "renderer.width=320",
            "renderer.height=176",
            name=name,
            by=process,
        )
    digests = [omniloop("digest", str(tmp_path / name)).stdout for name in ("a", "b")]
    assert digests[0] == digests[1]
    assert "cut_in/0" in digests[0]


def test_score_and_report_again(tmp_path):
    run(tmp_path, *QUICK)
    scored = omniloop("score", str(tmp_path / "run"))
    assert scored.returncode == 0, scored.stderr
    assert "0 score(s) changed" in scored.stdout
    (tmp_path / "run/report.html").unlink()
    assert omniloop("report", str(tmp_path / "run")).returncode == 0
    assert (tmp_path / "run/report.html").is_file()


def test_show_prints_the_resolved_settings_and_runs_nothing(tmp_path):
    done = run(tmp_path, "--show", "policy=constant_velocity")
    assert "name: constant_velocity" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("policy=nope",), ("unknown policy plugin 'nope'", "known:")),
        (("scenes.ids=curv",), ("unknown scene 'curv'", "Did you mean 'curve'")),
        (("renderer.chunk=9",), ("9", "8, 12")),
        (("run.sedes=3",), ("Did you mean 'seeds'",)),
        (("scenes=native", "scenes.path=/no/where"), ("/no/where",)),
        (("renderer.cameras=[back]",), ("camera 'back'",)),
        (("sync.warmup_s=100",), ("every scene is excluded",)),
    ],
)
def test_bad_input_exits_2_with_one_clear_message(tmp_path, settings, words):
    done = run(tmp_path, *settings)
    assert done.returncode == 2
    told = [line for line in done.stderr.splitlines() if not line.startswith("notice: ")]
    assert told[0].startswith("error: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "run").exists()


def test_an_existing_run_exits_2_and_names_both_remedies(tmp_path):
    run(tmp_path, *QUICK)
    done = run(tmp_path, *QUICK)
    assert done.returncode == 2
    assert "run.resume=true" in done.stderr
    assert "run.name=" in done.stderr


def test_infrastructure_failure_exits_1(tmp_path):
    done = run(tmp_path, *QUICK, "traffic=tests.plugins:BrokenTraffic", "run.seeds=2")
    assert done.returncode == 1
    assert "curve/1: infrastructure_failed" in done.stdout
    assert "curve/0: completed" in done.stdout


def test_a_policy_failure_exits_0(tmp_path):
    done = run(
        tmp_path,
        "renderer=none",
        "scenes.ids=curve",
        "policy=tests.plugins:FailsOnSeedOne",
        "run.seeds=2",
    )
    assert done.returncode == 0
    assert "curve/1: policy_failed" in done.stdout


def test_a_run_folder_that_cannot_be_made_exits_2(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(tmp_path / "file", *QUICK)
    assert done.returncode == 2
    assert str(tmp_path / "file") in done.stderr
    assert "run.dir=" in done.stderr


def test_ctrl_c_leaves_nothing_that_looks_complete_and_resume_goes_on(tmp_path):
    settings = (
        "renderer=none",
        "scenes.ids=curve",
        "policy=tests.cli.held:Held",
        "sync.duration_s=4",
        "run.seeds=3",
        "run.concurrency=1",
    )
    hold, log = Hold(tmp_path), tmp_path / "run/rollouts/curve/0/log.mcap"
    process = subprocess.Popen(
        interruptible("run", f"run.dir={tmp_path}", "run.name=run", *settings),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=hold.environment,
    )  # fmt: skip
    wait_for(lambda: process.poll() is not None or (hold.reached and log.exists()))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "interrupted: 0 of 3" in err
    assert "run.resume=true" in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("run/rollouts/*/*/result.json"))
    done = run(tmp_path, *settings, "run.resume=true")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("run/rollouts/*/*/result.json"))) == 3


def test_a_full_disk_stops_the_run_with_a_message_and_nothing_looks_complete(tmp_path):
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
        " from omniloop.cli.main import main; main()"
    )

    def with_small_files(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=ROOT, capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip

    done = run(tmp_path, "scenes.ids=curve", "sync.duration_s=4", by=with_small_files)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("run/rollouts/*/*/result.json"))


def test_a_report_that_cannot_be_written_hides_no_score(tmp_path):
    (tmp_path / "run/report.html").mkdir(parents=True)
    done = run(tmp_path, *QUICK, "run.resume=true")
    assert done.returncode == 1
    assert "1 rollout(s): 1 completed" in done.stdout
    assert "report.html cannot be written" in done.stderr


def test_doctor_finds_this_machine_sound():
    done = omniloop("doctor")
    assert done.returncode == 0, done.stdout
    assert "FAIL" not in done.stdout
    assert "a short rollout" in done.stdout


def test_scenes_list_show_validate_and_convert(tmp_path):
    assert "junction" in omniloop("scenes", "list").stdout.split()
    shown = omniloop("scenes", "show", "scenes.ids=curve", "--out", str(tmp_path))
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "curve.png").stat().st_size > 5_000
    assert omniloop("scenes", "validate", "scenes.ids=curve").returncode == 0
    converted = omniloop(
        "scenes", "convert", "scenes.ids=curve", "--out", str(tmp_path / "bundles")
    )
    assert converted.returncode == 0, converted.stderr
    native = ("scenes=native", f"scenes.path={tmp_path}/bundles")
    assert omniloop("scenes", "list", *native).stdout.split() == ["curve"]
    run(tmp_path, *native, "renderer=none", "sync.duration_s=1", name="native")
    run(tmp_path, *QUICK, name="embedded")
    digests = [omniloop("digest", str(tmp_path / n)).stdout for n in ("native", "embedded")]
    assert digests[0] == digests[1]


def test_a_truncated_bundle_is_refused_by_name(tmp_path):
    omniloop("scenes", "convert", "scenes.ids=curve", "--out", str(tmp_path / "bundles"))
    bundle = tmp_path / "bundles/curve.zip"
    bundle.write_bytes(bundle.read_bytes()[:2000])
    done = run(tmp_path, "scenes=native", f"scenes.path={tmp_path}/bundles")
    assert done.returncode == 2
    assert "curve.zip" in done.stderr
    assert "Traceback" not in done.stderr


def test_folders_that_are_no_runs_are_refused(tmp_path):
    for command in ("digest", "score", "report"):
        done = omniloop(command, str(tmp_path / "nothing"))
        assert done.returncode == 2
        assert "nothing" in done.stderr


def test_metrics_and_results_are_machine_readable(tmp_path):
    run(tmp_path, *QUICK)
    result = json.loads((tmp_path / "run/rollouts/curve/0/result.json").read_text())
    assert result["outcome"] == "completed"
    assert result["metrics"]["collision"]["valid"] is True


def test_a_closed_pipe_is_no_traceback(tmp_path):
    run(tmp_path, *QUICK, "run.seeds=2")
    command = f"{sys.executable} -m omniloop.cli.main scenes list | head -1"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert "Traceback" not in done.stderr
