"""Commands over many scenes of which one is damaged: the others are made, and it is named."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.scenes.native import write_bundle
from tests.command import omniloop

VARY = ("--edit", "recipe:cut_in", "--vary", "gap_s=0.5,1.5")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two scenes as bundles, and one cut off between them."""
    for name in ("curve", "cut_in", "junction"):
        write_bundle(EmbeddedScenes().load(name), tmp_path / "scenes" / f"{name}.zip")
    middle = tmp_path / "scenes" / "cut_in.zip"
    middle.write_bytes(middle.read_bytes()[:2000])
    return tmp_path / "scenes"


def test_vary_writes_the_scenes_that_are_whole_and_names_the_damaged_at_the_end(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "family"
    common = ("scenes", "vary", "scenes=native", f"scenes.path={folder}", *VARY, "--out", str(out))
    done = omniloop(*common)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "1 of 3 scenes cannot be used: cut_in.zip"
    assert sum(line.startswith("skipped cut_in.zip: ") for line in done.stderr.splitlines()) == 1
    written = sorted(p.stem for p in out.glob("*.zip"))
    assert {name.split("-")[0] for name in written} == {"curve", "junction"}
    assert f"{len(written)} scene(s) into {out}" in done.stdout
    with (out / "family.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 6
    lost = [row for row in rows if row["scene"] == "cut_in.zip"]
    assert [row["gap_s"] for row in lost] == ["0.5", "1.5"]
    assert all(row["skipped"] for row in lost)

    alone = omniloop(*common, "scenes.ids=cut_in.zip")
    assert alone.returncode == 2
    assert str(folder / "cut_in.zip") in alone.stderr
    assert "remedy: " in alone.stderr


def test_convert_and_validate_go_on_after_a_damaged_scene(folder: Path, tmp_path: Path) -> None:
    common = ("scenes=native", f"scenes.path={folder}")
    done = omniloop("scenes", "convert", *common, "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "1 of 3 scenes cannot be used: cut_in.zip"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["curve.zip", "junction.zip"]
    done = omniloop("scenes", "validate", *common)
    assert done.returncode == 2
    assert "cut_in.zip: error: " in done.stdout
    assert "3 scene(s): 1 error(s)" in done.stdout
