from __future__ import annotations

import pytest

from omniloop.core.errors import ConfigError, InputError, PluginError, SceneError
from omniloop.scenes.edits.apply import EditRefused
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.scenes.joined import JoinedScenes
from omniloop.scenes.native import scene_hash

CURVE = {"source": "embedded", "ids": ["curve"]}
CUT_IN = {**CURVE, "edit": ["recipe:cut_in"], "rename": "{scene}-cut_in"}


def test_entries_keep_their_order_and_scenes_their_content():
    joined = JoinedScenes([{"source": "embedded", "ids": ["junction", "curve"]}, CUT_IN])
    assert joined.ids() == ["junction", "curve", "curve-cut_in"]
    assert scene_hash(joined.load("curve")) == scene_hash(EmbeddedScenes().load("curve"))


def test_an_entry_without_ids_is_all_of_its_source():
    assert JoinedScenes([{"source": "embedded"}]).ids() == EmbeddedScenes().ids()


def test_a_renamed_scene_is_edited_and_the_plain_one_beside_it_is_not():
    joined = JoinedScenes([CURVE, CUT_IN])
    edited = joined.load("curve-cut_in")
    assert edited.id == "curve-cut_in"
    assert edited.edits
    assert not joined.load("curve").edits
    before = joined.unedited.load("curve-cut_in")
    assert (before.id, before.edits) == ("curve-cut_in", ())
    assert len(before.tracks) < len(edited.tracks)


def test_parameters_reach_the_edit():
    near, far = (
        {**CUT_IN, "set": {"gap_s": gap}, "rename": f"{{scene}}-{gap}"} for gap in (0.5, 2.0)
    )
    joined = JoinedScenes([near, far])
    assert "gap 0.5 s" in joined.load("curve-0.5").edits[0]
    assert "gap 2 s" in joined.load("curve-2.0").edits[0]


def test_entries_of_one_source_share_its_reader():
    parts = JoinedScenes([CURVE, {"source": "embedded", "ids": ["junction"]}])._parts
    assert parts[0].source is parts[1].source


@pytest.mark.parametrize(
    "entries", [[CURVE, CURVE], [{"source": "embedded", "ids": ["curve", "curve"]}],
    [{"source": "embedded", "rename": "same"}], [{**CUT_IN, "rename": None}, CURVE]],
)  # fmt: skip
def test_two_scenes_of_one_id_are_refused(entries):
    with pytest.raises(SceneError, match="two scenes have the id") as caught:
        JoinedScenes(entries).ids()
    assert "rename" in caught.value.remedy
    assert "scenes.entries[0]" in caught.value.where


def test_duplicates_name_both_places():
    with pytest.raises(SceneError) as caught:
        JoinedScenes([CURVE, CURVE], ["a.yaml, line 2", "a.yaml, line 9"]).ids()
    assert caught.value.where == "a.yaml, line 2 and a.yaml, line 9"


def test_an_unknown_scene_is_refused_with_place_and_nearest():
    with pytest.raises(SceneError, match=r"'curv'\. Did you mean 'curve'\?") as caught:
        JoinedScenes([{"source": "embedded", "ids": ["curv"]}], ["a.yaml, line 2"]).ids()
    assert "a.yaml, line 2" in caught.value.where
    with pytest.raises(SceneError, match="no scene 'curvy'"):
        JoinedScenes([CURVE]).load("curvy")


@pytest.mark.parametrize(
    ("entries", "kind", "message"),
    [
        ([], SceneError, "at least one"),
        ("embedded", SceneError, "at least one"),
        ([{"sorce": "embedded"}], SceneError, "not permitted|required"),
        (["embedded"], SceneError, "valid dictionary"),
        ([{"source": "embeded"}], PluginError, "Did you mean 'embedded'?"),
        ([{"source": "av2"}], SceneError, "needs a path"),
        ([{"source": "av2", "path": "/not/there"}], SceneError, "nothing at '/not/there'"),
        ([{**CURVE, "arguments": {"path": "x"}}], SceneError, "key of its own"),
        ([{**CURVE, "arguments": {"x": 1}}], PluginError, "has no setting 'x'"),
        ([{**CURVE, "edit": ["recipe:cut_inn"]}], SceneError, "Did you mean 'cut_in'?"),
        ([{**CUT_IN, "set": {"gap": 1}}], ConfigError, "Did you mean 'gap_s'?"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_place(entries, kind, message):
    with pytest.raises(InputError, match=message) as caught:
        JoinedScenes(entries)
    assert isinstance(caught.value, kind)
    assert "entries" in caught.value.where


@pytest.mark.parametrize("rename", ["{id}", "a/b", "", "{scene} wet"])
def test_a_name_that_is_no_folder_name_is_refused(rename):
    with pytest.raises(SceneError, match="cannot be a folder name"):
        JoinedScenes([{**CURVE, "rename": rename}]).ids()


def test_an_edit_that_does_not_fit_says_so_when_the_scene_is_loaded(tmp_path):
    edit = tmp_path / "edit.yaml"
    edit.write_text("edits:\n  - {kind: remove, actors: [nobody]}\n")
    joined = JoinedScenes([{**CURVE, "edit": [str(edit)]}])
    assert joined.ids() == ["curve"]
    with pytest.raises(EditRefused):
        joined.load("curve")
