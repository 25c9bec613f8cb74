"""Definitions of scores agree with the plugins, and the pages made from them are current."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from omniloop.cli.metrics import app
from omniloop.core import registry
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.documentation import definitions_of, pages, registered
from omniloop.metrics.scoring import names_of
from tests.metrics.records import moving, record

DOCS = Path(__file__).resolve().parents[2] / "docs" / "metrics"
BUILT_IN = {n: p for n, p in registered().items() if p.__module__.startswith("omniloop.")}


def test_every_built_in_metric_defines_its_scores_and_names_are_unique() -> None:
    found = [(d.name, n) for n, plugin in BUILT_IN.items() for d in definitions_of(plugin)]
    assert len({name for name, _ in found}) == len(found)
    for name, plugin in BUILT_IN.items():
        assert definitions_of(plugin), name
        assert names_of(plugin()) == tuple(d.name for d in definitions_of(plugin)), name


@pytest.mark.parametrize("name", BUILT_IN)
def test_definitions_are_complete(name: str) -> None:
    for d in definitions_of(BUILT_IN[name]):
        assert d.unit, d.name
        assert d.formula, d.name
        assert d.source, d.name
        for text in (d.formula, d.source, d.undefined):
            assert not text.endswith("."), d.name


@pytest.mark.parametrize("name", BUILT_IN)
def test_settings_and_defaults_are_those_of_the_constructor(name: str) -> None:
    parameters = registry.parameters("metrics", name)
    defaults = {key: p.default for key, p in parameters.items() if p.default is not None}
    stated = {key: value for d in definitions_of(BUILT_IN[name]) for key, value in d.settings}
    for key, value in stated.items():
        if key in parameters:
            assert defaults[key] == value, key
    if BUILT_IN[name].definitions[0].family == "omniloop":
        assert set(stated) == set(parameters)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_declared_score_is_computed_or_has_a_reason(name: str) -> None:
    plugin: Any = BUILT_IN[name]()
    for made in (record(moving(0, 0, 10)), record(moving(0, 0, 10), driven_s=0.0)):
        values = plugin.compute(made)
        assert [v.name for v in values] == list(names_of(plugin))
        for value in values:
            assert (value.value is None) == bool(value.reason), value


def test_the_pages_in_the_repository_are_current() -> None:
    for family, text in pages(BUILT_IN).items():
        path = DOCS / f"{family}.md"
        assert path.is_file(), "run `omniloop metrics docs`"
        assert path.read_text(encoding="utf-8") == text, f"{path}: run `omniloop metrics docs`"
    assert {p.stem for p in DOCS.glob("*.md")} == {"README", *pages(BUILT_IN)}


def test_links_of_the_general_page_lead_somewhere() -> None:
    for path in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (DOCS / target).exists(), f"{path.name}: {target}"


class Own:
    """Counts something.

    Two | words.

    Args:
        many: How many are
            too many.
    """

    definitions = (
        MetricDefinition(
            "own_count", "mine", "1", "count | of things", "sum", "mean", "lower", "", "me",
            (("many", 3.0),),
        ),
    )  # fmt: skip

    def __init__(self, many: float = 3.0) -> None:
        self.many = many


def test_a_plugin_of_another_family_has_a_page_of_its_own() -> None:
    assert inspect.getdoc(Own)
    page = pages({"own": Own})["mine"]
    assert "## own\n\nCounts something.\n\nTwo | words.\n" in page
    assert "| `own_count` | 1 | count \\| of things | sum | mean | lower |" in page
    assert "| `many` | 3 | How many are too many. |" in page
    assert "*Undefined*: never." in page
    assert pages({"bare": object}) == {}


def test_the_command_writes_checks_and_lists(tmp_path: Path) -> None:
    runner = CliRunner()
    missing = runner.invoke(app, ["docs", "--check", "--out", str(tmp_path)])
    assert missing.exit_code == 1
    assert "not current" in missing.output
    assert runner.invoke(app, ["docs", "--out", str(tmp_path)]).exit_code == 0
    assert runner.invoke(app, ["docs", "--check", "--out", str(tmp_path)]).exit_code == 0
    (tmp_path / "omniloop.md").write_text("old")
    assert runner.invoke(app, ["docs", "--check", "--out", str(tmp_path)]).exit_code == 1
    listed = runner.invoke(app, ["list", "omniloop"]).output
    assert re.search(r"^ttc_min_s +s +omniloop +ttc$", listed, re.MULTILINE)
    assert runner.invoke(app, ["list", "nothing"]).exit_code != 0
