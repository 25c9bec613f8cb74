"""The picture of an instant: what was edited stands out, and where it was and will be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omniloop.report.palette import EDITED, LIGHT
from omniloop.report.scene_moment import moment_image
from omniloop.scenes.edits.files import load_edits
from omniloop.scenes.edits.source import edited
from omniloop.scenes.embedded import EmbeddedScenes

SCENE = EmbeddedScenes().load("straight_road")
TITLE_PX = 34


def near(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns below the title where a colour is."""
    there = np.abs(image[TITLE_PX:].astype(int) - color).sum(axis=2) < 30
    return np.argwhere(there)


def test_only_edited_actors_are_outlined():
    assert len(near(moment_image(SCENE, 4.3), EDITED)) == 0
    made = edited(SCENE, load_edits(["recipe:cut_in"]))
    pink = near(moment_image(made, 4.3), EDITED)
    ego = near(moment_image(made, 4.3), LIGHT.ego)
    assert pink[:, 1].mean() > ego[:, 1].mean()  # ahead of ego is to the right
    assert pink[:, 0].min() < ego[:, 0].min()  # and left of it is up


def test_a_moved_ego_is_drawn_beside_where_it_was():
    made = edited(SCENE, load_edits(["recipe:fast_start"]))
    alone, both = moment_image(made, 3.0), moment_image(made, 3.0, SCENE)
    black = len(near(both, LIGHT.text)) - len(near(alone, LIGHT.text))
    assert black > 300
    same = moment_image(SCENE, 3.0, SCENE)
    np.testing.assert_array_equal(same, moment_image(SCENE, 3.0))


def test_times_outside_the_recording_show_its_ends():
    np.testing.assert_array_equal(moment_image(SCENE, 99.0), moment_image(SCENE, 16.0))
    assert moment_image(replace(SCENE, tracks=()), 0.0).shape == (304, 960, 3)
