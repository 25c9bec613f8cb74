from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.command import omniloop


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "my_driver"
    done = omniloop("plugins", "new", "policy", "my_driver", str(folder))
    assert done.returncode == 0, done.stderr
    assert "omniloop plugins check my_driver" in done.stdout
    return folder


def test_a_new_policy_runs_at_once(package, tmp_path):
    entry = tomllib.loads((package / "pyproject.toml").read_text())["project"]["entry-points"]
    target = entry["omniloop.policies"]["my_driver"]
    done = omniloop(
        "run", f"policy={target}", "suite=suite.yaml", "renderer=none", f"run.dir={tmp_path}",
        cwd=package,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 completed, 0 policy failed" in done.stdout


@pytest.mark.timeout(600)
def test_its_own_tests_pass(package):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=package,
        capture_output=True, text=True, timeout=580, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_check_says_what_is_right_and_what_is_not(tmp_path):
    (tmp_path / "late.py").write_text(
        "from tests.plugins import Straight\n"
        "class Late(Straight):\n"
        "    def plan(self, observation):\n"
        "        raise RuntimeError('out of ideas')\n"
    )
    done = omniloop("plugins", "check", "late:Late", "sync.duration_s=1", cwd=tmp_path)
    assert done.returncode == 1
    assert "FAIL  decisions every 100 ms" in done.stdout
    assert "out of ideas" in done.stdout
    assert "late:Late breaks its contract in 3 point(s)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("renderer", "mine", "DIR"), "no package can be written for a renderer"),
        (("policy", "My Driver", "DIR"), "cannot name a policy"),
        (("policy", "class", "DIR"), "cannot name a policy"),
        (("policy", "route_follower", "DIR"), "there is a policy called 'route_follower'"),
        (("policy", "mine", "."), "not an empty folder"),
        (("policy", "mine", "/proc/nowhere/mine"), "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused(arguments, words, tmp_path):
    (tmp_path / "taken").touch()
    done = omniloop("plugins", "new", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert not (tmp_path / "DIR").exists()


def test_plugins_are_listed_all_or_of_a_kind():
    every, policies = omniloop("plugins").stdout, omniloop("plugins", "list", "policy").stdout
    assert "rasterizer" in every
    assert "renderer.chunk = 8" in every
    assert "route_follower" in policies
    assert "rasterizer" not in policies
    assert omniloop("plugins", "list", "polcy").returncode == 2
