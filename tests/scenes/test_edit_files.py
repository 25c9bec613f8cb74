"""Edit files: what is refused, where, and what is suggested; parameters and recipes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core.errors import ConfigError, SceneError
from omniloop.scenes.edits.apply import _APPLY, apply_edits
from omniloop.scenes.edits.files import (
    load_edits,
    parse_edit_file,
    read_edit_file,
    recipe_names,
)
from omniloop.scenes.edits.schema import EDITS
from omniloop.scenes.embedded import EmbeddedScenes

HEAD = """\
description: A test.
parameters:
  gap_s: {default: 0.8, range: [0.2, 2.0], help: the gap}
  name: a car
edits:
"""
CUT_IN = "  - kind: cut_in\n    at_s: 3\n    gap_s: ${gap_s}\n"


_BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 12)
)


def parsed(edits: str):
    return parse_edit_file(HEAD + edits, "test", "test.yaml")


def test_a_placeholder_alone_keeps_the_type_of_its_value():
    edit = parsed(CUT_IN).resolve()[0]
    assert (edit.gap_s, edit.at_s, edit.from_lane) == (0.8, 3.0, "auto")
    assert parsed(CUT_IN).resolve({"gap_s": 1.5})[0].gap_s == 1.5


def test_a_placeholder_inside_a_text_is_written_into_it():
    edit = parsed('  - {kind: prompt, add: "It is ${name}, ${gap_s} s ahead."}\n').resolve()[0]
    assert edit.add == "It is a car, 0.8 s ahead."


@pytest.mark.parametrize(
    ("edits", "what", "line"),
    [
        ("  - kind: cut_in\n    at_s: 3\n    gapp_s: 1\n", "'gapp_s'. Did you mean 'gap_s'?", 8),
        ("  - kind: cutin\n    at_s: 3\n", "'cutin'. Did you mean 'cut_in'?", 6),
        ("  - kind: cut_in\n    at_s: soon\n    gap_s: 1\n", "'soon' is not usable", 7),
        ("  - kind: cut_in\n    at_s: 3\n    gap_s: 99\n", "99 is not usable", 8),
        ("  - kind: cut_in\n    at_s: 3\n", "'gap_s' is missing", 6),
        (CUT_IN + "    from: ${gapp_s}\n", "'${gapp_s}'. Did you mean 'gap_s'?", 9),
        ("  - at_s: 3\n", "an edit is a mapping with a 'kind'", 6),
        ("  - kind: insert\n    place: {ahead_m: 3, lan: left}\n", "'lan'. Did you mean 'lane'?", 7),
        ("  - kind: insert\n    place: {ahead_m: 3, x_m: 1}\n", "needs x_m, y_m and yaw_deg", 7),
        ("  - kind: insert\n    place: {lane: left}\n", "one of ahead_m and ahead_s", 7),
        ("  - kind: ego_start\n", "give speed_mps, speed_change_mps, ahead_m or left_m", 6),
        ("  - {kind: hard_brake, at_s: 2, when_ego_within_m: 3}\n", "at_s or when_ego_within_m", 6),
        ("  - {kind: insert, place: {ahead_m: 3}, motion: drive}\n", "speed_mps belongs to", 6),
        ("  - {kind: close_lane, from_m: 30, to_m: 31}\n", "at least from_m + taper_m", 6),
        ("  - {kind: remove}\n", "give actors, class, within_m or moving", 6),
        ("  - {kind: insert, id: '', place: {ahead_m: 3}}\n", "at least 1 character", 6),
    ],
)  # fmt: skip
def test_a_wrong_edit_is_refused_with_its_line_and_the_nearest_key(edits, what, line):
    with pytest.raises(SceneError) as caught:
        parsed(edits).resolve()
    assert what in caught.value.what
    assert caught.value.where.startswith(f"test.yaml, line {line}, edits[0]")
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("edits: [", "is not YAML"),
        ("- kind: cut_in", "a mapping with a list 'edits'"),
        ("edit:\n  - kind: cut_in", "a mapping with a list 'edits'"),
        ("edits: []\nparamters: {}", "'paramters'. Did you mean 'parameters'?"),
        ("edits: []\nparameters: {a: {default: 1, rang: [0, 1]}}", "'rang'. Did you mean 'range'?"),
        ("edits: []\nparameters: {a: {default: 1, range: [1, 0]}}", "from a lower to a higher"),
        ("edits: []\nparameters: {a: {default: c, choices: [a, b]}}", "none of the choices"),
        ("edits: []\nparameters: {a: '${b}', b: 1}", "cannot refer to a parameter"),
        ("edits: []\nedits: []", "'edits' is given twice"),
        ("edits:\n  - {kind: prompt, add: a, add: b}", "'add' is given twice"),
        ("edits: &a\n  - {kind: insert, place: *a}", "values inside values without end"),
        ("parameters: &p {x: {default: *p}}\nedits: []", "values inside values without end"),
        ("edits: " + "[" * 5000, "is not YAML"),
        (_BOMB, "too many values"),
    ],
)
def test_a_wrong_head_is_refused(text, what):
    with pytest.raises(SceneError) as caught:
        parse_edit_file(text, "test", "test.yaml")
    assert what in caught.value.what
    assert caught.value.where.startswith("test.yaml")


def test_values_are_refused_by_name_and_by_choice():
    with pytest.raises(
        ConfigError, match=r"no edit file has a parameter 'gap'. Did you mean 'gap_s'"
    ):
        load_edits(["recipe:cut_in"], {"gap": 1})  # fmt: skip
    with pytest.raises(ConfigError, match="none of its choices"):
        load_edits(["recipe:cut_in"], {"from": "above"})
    with pytest.raises(ConfigError, match="no edit file has a parameter"):
        load_edits([], {"gap_s": 1})


def test_a_value_goes_to_every_file_that_declares_it():
    parts = load_edits(["recipe:night_rain", "recipe:jaywalk", "recipe:cut_in"], {"gap_s": 1.1})
    assert [where for where, _ in parts.parts] == [
        "recipe:night_rain", "recipe:jaywalk", "recipe:cut_in"
    ]  # fmt: skip
    assert [part[0].gap_s for _, part in parts.parts[1:]] == [1.1, 1.1]


def test_a_missing_file_and_an_unknown_recipe_name_the_remedy(tmp_path):
    with pytest.raises(SceneError, match=r"unknown recipe 'cutin'. Did you mean 'cut_in'"):
        read_edit_file("recipe:cutin")
    with pytest.raises(SceneError, match="cannot be read") as caught:
        read_edit_file(str(tmp_path / "cut_in.yaml"))
    assert "recipe:cut_in" in caught.value.what


def test_recipes_are_whole_and_each_has_a_description_and_help():
    assert len(recipe_names()) >= 8
    for name in recipe_names():
        file = read_edit_file(f"recipe:{name}")
        assert file.resolve()
        assert 20 < len(file.description) < 100
        assert all(p.help or p.choices for p in file.parameters.values()), name


def test_the_example_of_the_documentation_applies():
    docs = Path(__file__).resolve().parents[2] / "docs/editing.md"
    example = docs.read_text().split("```yaml")[1].split("```")[0]
    made = apply_edits(
        EmbeddedScenes().load("straight_road"),
        parse_edit_file(example, "example", "docs").resolve({"class": "truck"}),
    )
    assert made.prompt.endswith("A truck stands at the right kerb.")
    assert "'lead' (lead) brakes at 4.00 s" in made.edits[1]


def test_the_documentation_has_every_kind_and_key_and_recipe():
    text = (Path(__file__).resolve().parents[2] / "docs/editing.md").read_text()
    for kind, model in EDITS.items():
        assert f"| `{kind}` |" in text
        for name, field in model.model_fields.items():
            key = field.alias or name
            assert f"`{key}`" in text or f"`{key}:" in text or key == "kind", (kind, key)
    assert all(f"**{name}**" in text for name in recipe_names())


def test_every_kind_of_edit_can_be_applied():
    assert set(_APPLY) == set(EDITS)


def problem_of(text: str) -> SceneError | ConfigError | None:
    try:
        parse_edit_file(text, "test", "test.yaml").resolve()
    except (SceneError, ConfigError) as error:
        return error
    return None


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused_with_a_scene_error(text):
    problem = problem_of(text)
    assert problem is None or problem.remedy


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
            ["kind", "at_s", "place", "gap_s", "actor", "class", "parameters", "edits", "lane"]
        ) | st.text(max_size=5), inner, max_size=4),
        max_leaves=12,
    ),
    st.sampled_from(sorted(EDITS)),
)  # fmt: skip
def test_any_document_is_resolved_or_refused_with_a_scene_error(value, kind):
    import yaml

    document = {"edits": [{**(value if isinstance(value, dict) else {}), "kind": kind}]}
    problem = problem_of(yaml.safe_dump(document))
    assert problem is None or (problem.where.startswith("test.yaml") and problem.remedy)
