"""The command that report.html shows, pasted into a shell, makes the same run."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.command import omniloop

SMALL = ("renderer.width=64", "renderer.height=48")


def shell(line: str, cwd: Path) -> None:
    """Call `omniloop` with the words that a shell makes of the line."""
    head = "omniloop() { printf '%s\\0' \"$@\"; }\n"
    words = subprocess.run(["bash", "-c", head + line], capture_output=True, text=True, check=True)
    done = omniloop(*words.stdout.split("\0")[:-1], cwd=cwd)
    assert done.returncode == 0, done.stderr


def command_of(run_dir: Path) -> str:
    page = (run_dir / "report.html").read_text()
    (found,) = re.findall(r"As a command</summary><pre[^>]*>(.*?)</pre>", page, re.DOTALL)
    return html.unescape(found)


def digests(run_dir: Path) -> dict[str, str]:
    from omniloop.runlog.digest import digest_run

    return {name: sha256 for sha256, name in digest_run(run_dir)}


def scores(run_dir: Path) -> dict[str, object]:
    paths = sorted(run_dir.glob("rollouts/*/*/result.json"))
    return {"/".join(p.parts[-3:-1]): json.loads(p.read_text())["metrics"] for p in paths}


SUITE = """
scenes:
  - {source: embedded, ids: [curve], edit: [recipe:cut_in], set: {gap_s: 0.5}, rename: "{scene}-cut"}
  - {source: embedded, ids: [cut_in]}
seeds: [0, 4]
metrics: {collision: {}, offroad: {tolerance_m: 0.5}}
settings: {sync.duration_s: 2}
"""


@pytest.mark.parametrize(
    "given",
    [
        f'suite="it\'s mine (1).yaml" policy=constant_velocity {" ".join(SMALL)} run.root_seed=3',
        "scenes.ids=curve,junction scenes.edit=recipe:cut_in scenes.set.gap_s=0.5 sync.duration_s=2"
        " run.seeds=[2,5] metrics=all metrics.comfort=false metrics.offroad.tolerance_m=0.2"
        " metrics.alpasim.compat=strict policy=constant_velocity run.stop_on=[offroad,collision]"
        f" imperfection=all imperfection.frames.loss=0.3 run.concurrency=1 {' '.join(SMALL)}",
        "scenes.ids=curve renderer=none sync=postfetch traffic=idm controller=bicycle"
        " run.wire_precision=float32 run.route=lanes sync.duration_s=1",
    ],
)
def test_the_command_on_the_page_gives_the_same_digests_and_scores(
    tmp_path: Path, given: str
) -> None:
    (tmp_path / "it's mine (1).yaml").write_text(SUITE)
    shell(f"omniloop run run.name='a b' {given}", tmp_path)
    first = tmp_path / "runs" / "a b"
    command = command_of(first)
    assert command.startswith("omniloop run ")
    shell(command, tmp_path)
    again = tmp_path / "runs" / "a b_2"
    assert digests(again) == digests(first)
    assert scores(again) == scores(first)


def test_the_command_of_a_run_drawn_again_draws_the_same(tmp_path: Path) -> None:
    size = " ".join(SMALL)
    shell(f"omniloop run run.name=a scenes.ids=curve sync.duration_s=1 {size}", tmp_path)
    shell("omniloop rerender runs/a renderer=degraded renderer.free_m=0 --out runs/b", tmp_path)
    shell("omniloop report runs/b", tmp_path)
    command = command_of(tmp_path / "runs/b")
    assert command.startswith("omniloop rerender runs/a ")
    shell(command, tmp_path)
    assert digests(tmp_path / "runs/b_2") == digests(tmp_path / "runs/b")
