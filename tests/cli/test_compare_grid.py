"""`omniloop compare --grid` as users meet it."""

from __future__ import annotations

import csv
import io
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.held import Hold
from tests.command import ROOT, interruptible, omniloop
from tests.live.made_run import wait_for

BLIND = ("policy=constant_velocity,log_replay", "renderer=none", "traffic=log_replay,idm")
QUICK = ("scenes.ids=curve,cut_in", "sync.duration_s=2")


def test_a_grid_is_run_compared_and_gone_on_with(tmp_path):
    out = str(tmp_path / "g")
    done = omniloop("compare", "--grid", *BLIND, *QUICK, "--out", out)
    assert done.returncode == 0, done.stderr
    flat = " ".join(done.stdout.split())
    assert "one decision grid: 4 cell(s) agree in handover, decision period (0.1 s)" in flat
    assert "Scores of the policies" in flat
    assert "Paired differences from constant_velocity" in flat
    assert "Rankings of the policies by traffic: Kendall's tau" in flat
    assert "log_replay is privileged: it sees recording" in flat
    assert "cell 4 of 4, log_replay-none-idm: 2 rollout(s)" in done.stderr
    again = omniloop("compare", "--grid", *BLIND, *QUICK, "--out", out, "--format", "csv")
    assert again.returncode == 0, again.stderr
    assert "cell 4 of 4, log_replay-none-idm: 0 rollout(s), 2 already there" in again.stderr
    groups = {row["group"] for row in csv.DictReader(io.StringIO(again.stdout))}
    assert groups == {
        f"{policy}-none-{traffic}"
        for policy in ("constant_velocity", "log_replay")
        for traffic in ("log_replay", "idm")
    }
    # Cells are runs: what is for runs takes them.
    cells = [f"{out}/{policy}-none-idm" for policy in ("constant_velocity", "log_replay")]
    assert omniloop("compare", *cells).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--grid", "policy=log_replay", "renderer=none"), "a grid of one cell has nothing to compare"),
        (("--grid", "policy=log_replay,log_replay"), "'log_replay' is given twice"),
        (("--grid", "policy=log_replay,nobody", "renderer=none"), "unknown policy plugin 'nobody'"),
        (("--grid", *BLIND, "--rank-by", "traffic"), "--rank-by is for runs that are there"),
        (("--grid", *BLIND, "--by", "scene"), "--by"),
        (("--grid", *BLIND, "--frozen", "x", "--no-frozen"), "a cell is to be frozen and none is"),
        (("policy=a,b", "renderer=x,y"), "add --grid to run a grid"),
        (("runs/a", "runs/b", "--no-frozen"), "settings are of a grid"),
    ],
)  # fmt: skip
def test_bad_input_ends_with_2_and_one_clear_message(arguments, says, tmp_path):
    done = omniloop("compare", *arguments, "--out", str(tmp_path / "g"))
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "g").exists()


def test_ctrl_c_leaves_a_grid_that_goes_on(tmp_path):
    out: Path = tmp_path / "g"
    settings = (
        "policy=slow,log_replay", "slow=tests.cli.held:Held", "renderer=none", "scenes.ids=curve",
        "run.seeds=2", "run.concurrency=1", "sync.duration_s=4",
    )  # fmt: skip
    hold, log = Hold(tmp_path), out / "slow-none/rollouts/curve/0/log.mcap"
    process = subprocess.Popen(
        interruptible("compare", "--grid", *settings, "--out", out),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=hold.environment,
    )  # fmt: skip
    wait_for(lambda: process.poll() is not None or (hold.reached and log.exists()))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "interrupted: cell 1 of 2, slow-none" in err
    assert "Traceback" not in err
    done = omniloop("compare", "--grid", *settings, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert len(list(out.glob("*/rollouts/*/*/result.json"))) == 4
