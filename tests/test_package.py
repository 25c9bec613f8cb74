"""What importing the package and starting the command line load, and which way imports point."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

HEAVY = (
    "torch", "cv2", "grpc", "pandas", "scipy", "pyarrow", "shapely", "av", "matplotlib",
    "google.protobuf", "mcap", "hydra",
)  # fmt: skip

CORE = sorted(
    f"omniloop.core.{path.stem}"
    for path in (ROOT / "omniloop" / "core").glob("*.py")
    if path.stem != "__init__"
)


def loaded_by(code: str) -> set[str]:
    """Heavy packages that a fresh interpreter has loaded after running code."""
    listing = f"{code}\nimport sys\nprint('\\n' + ' '.join(n for n in {HEAVY} if n in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", listing], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines()[-1].split())


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import omniloop") == set()


def test_importing_the_core_loads_nothing_heavy():
    assert loaded_by("\n".join(f"import {module}" for module in CORE)) == set()


def test_the_registry_finds_plugins_without_loading_them():
    code = (
        "from omniloop.core import registry\nfor kind in registry.GROUPS: registry.available(kind)"
    )
    assert loaded_by(code) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    code = f"""
import sys
from omniloop.cli.main import main
sys.argv = ["omniloop", *{arguments}]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
"""
    assert loaded_by(code) == set()


def test_help_says_what_the_program_does():
    result = subprocess.run(
        [sys.executable, "-m", "omniloop.cli.main", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "run" in result.stdout


def test_imports_point_one_way():
    pytest.importorskip("importlinter")
    result = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout
