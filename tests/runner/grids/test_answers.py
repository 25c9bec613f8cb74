"""A grid whose answer is known beforehand: who leaves the road under which renderer, and why."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from omniloop.cli.grid import compare_grid
from omniloop.core.errors import ConfigError
from omniloop.report.runs import read_run
from omniloop.runner.grids.answers import answer
from omniloop.runner.grids.grid import read_grid

pytestmark = pytest.mark.timeout(900)  # whoever is first makes twelve runs

PLUGINS = "tests.runner.grids.grid_plugins"
POLICIES = (
    "policy=outside,looker,inside", f"outside={PLUGINS}:Beside", "outside.offset_m=7",
    f"looker={PLUGINS}:Looker", f"inside={PLUGINS}:Beside",
)  # fmt: skip
RENDERERS = (
    "renderer=rasterizer,same,mild,strong", "same=rasterizer", "mild=degraded", "strong=degraded",
    "mild.blur_px_per_m=0.1", "mild.warp_px_per_m=0.2", "mild.noise_levels_per_m=0.1",
    "strong.blur_px_per_m=0", "strong.warp_px_per_m=3", "strong.noise_levels_per_m=150",
)  # fmt: skip
COMMON = (
    "renderer.width=64", "renderer.height=48", "scenes.ids=curve,straight_road", "sync.duration_s=4", "sync.warmup_s=1.3",
)  # fmt: skip
WHOLE = (*POLICIES, *RENDERERS, *COMMON)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("grids") / "known"
    assert compare_grid(WHOLE, out=out) == 0
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def taus(grid: Path, first: str, second: str) -> dict[str, float | None]:
    return {
        row["score"]: float(row["tau"]) if row["tau"] else None
        for row in rows(grid / "ranking.csv")
        if (row["first"], row["second"]) == (first, second)
    }


def value(grid: Path, cell: str, score: str) -> float:
    results = read_run(grid / cell).results
    return sum(r.metrics[score].value for r in results) / len(results)


def test_the_one_who_looks_leaves_the_road_under_the_strong_degradation_only(grid):
    for renderer, offroad in (("rasterizer", 0), ("same", 0), ("mild", 0), ("strong", 1)):
        assert value(grid, f"looker-{renderer}", "offroad") == offroad
        assert value(grid, f"inside-{renderer}", "offroad") == 0
        assert value(grid, f"outside-{renderer}", "offroad") == 1


def test_tau_falls_below_1_where_the_ranking_changes_and_nowhere_else(grid):
    changed = taus(grid, "rasterizer", "strong")
    # Before: looker = inside < outside; after: inside < looker = outside.
    assert changed["offroad"] == pytest.approx(0.5)
    assert changed["incident"] == pytest.approx(0.5)
    # Before: inside, looker, outside; after: inside, outside, looker.
    assert changed["path_distance_max_m"] == pytest.approx(1 / 3)
    for pair in (("rasterizer", "same"), ("rasterizer", "mild"), ("same", "mild")):
        found = taus(grid, *pair)
        assert found["offroad"] == found["incident"] == found["path_distance_max_m"] == 1
    assert {t for t in taus(grid, "rasterizer", "same").values() if t is not None} == {1.0}
    assert {"collision_front", "collision_lateral", "collision_rear", "incident_at_fault"} <= set(
        changed
    )


def test_differences_are_from_the_first_policy_within_each_renderer(grid):
    found = rows(grid / "differences.csv")
    pairs = {(row["first"], row["second"]) for row in found}
    assert pairs == {
        (f"outside-{renderer}", f"{policy}-{renderer}")
        for policy in ("looker", "inside")
        for renderer in ("rasterizer", "same", "mild", "strong")
    }
    offroad = {r["second"]: float(r["difference"]) for r in found if r["score"] == "offroad"}
    assert (offroad["looker-rasterizer"], offroad["looker-strong"]) == (-1, 0)


def test_curves_of_the_degradations_part_off_the_path_and_agree_on_it(grid):
    bins: dict[str, list[dict[str, float]]] = {}
    for row in rows(grid / "backends.csv"):
        known = ("from_m", "ssim", "ssim_low", "ssim_high", "scenes", "gradient_error",
                 "gradient_error_low", "gradient_error_high")  # fmt: skip
        numbers = {k: float(row[k]) for k in known if row[k]}
        bins.setdefault(row["backend"], []).append(numbers)
    assert set(bins) == {"same", "mild", "strong"}
    assert all(b["ssim"] == 1 and b["gradient_error"] == 0 for b in bins["same"])
    near, far = ({name: found[k] for name, found in bins.items()} for k in (0, -1))
    assert near["mild"]["from_m"] == 0
    assert far["mild"]["from_m"] == 4
    assert near["mild"]["ssim"] == near["strong"]["ssim"] == 1  # the recording drives
    assert far["mild"]["scenes"] == far["strong"]["scenes"] == 2
    assert far["strong"]["ssim_high"] < far["mild"]["ssim_low"] < 1
    assert far["strong"]["gradient_error_low"] > far["mild"]["gradient_error_high"] > 0
    picture = ET.parse(grid / "backends.svg").getroot()
    assert len([e for e in picture.iter() if e.tag.endswith("polyline")]) >= 6


def test_all_cells_ran_on_one_decision_grid_and_the_page_says_so(grid):
    page = (grid / "grid.md").read_text()
    assert "one decision grid: 12 cell(s) agree in handover, decision period (0.266664 s)" in page
    assert "backends.svg" in page
    for title in (
        "Scores of the policies", "Paired differences from outside", "Rankings of the policies",
        "Frames on the same states, compared with rasterizer",
    ):  # fmt: skip
        assert title in page
    assert r"\begin{tabular}" in (grid / "grid.tex").read_text()
    assert {p.name for p in grid.iterdir() if p.is_dir()} == {
        "frozen",
        *(
            f"{policy}-{renderer}"
            for policy in ("outside", "looker", "inside")
            for renderer in ("rasterizer", "same", "mild", "strong")
        ),
    }
    assert (grid / "looker-mild" / "report.html").is_file()
    assert (grid / "looker-mild" / "scores.csv").is_file()


def test_other_scores_can_be_chosen(grid):
    asked = read_grid(WHOLE)
    runs = {cell.name: read_run(grid / cell.name) for cell in asked.cells}
    found = answer(asked, runs, ["offroad*"])
    assert [row[0] for row in found.brief[-1].rows] == ["offroad", "offroad_depth_m"]
    with pytest.raises(ConfigError, match="no score is called 'nope'"):
        answer(asked, runs, ["nope"])
    alone = answer(asked, {name: run for name, run in runs.items() if "strong" in name}, None)
    assert any(
        note.startswith("no rankings: all runs have the same setting") for note in alone.notes
    )
