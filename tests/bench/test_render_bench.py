"""The rendering benchmark measures what it says."""

from __future__ import annotations

import json

import pytest

from omniloop.bench.render import run
from omniloop.core.errors import ConfigError
from omniloop.scenes.embedded import EmbeddedScenes


def test_it_reports_times_per_frame_and_what_was_drawn() -> None:
    scene = EmbeddedScenes().load("straight_road")
    result = run(scene, frames=10, repeat=2)
    assert json.loads(json.dumps(result)) == result
    assert result["frames"] == 16
    assert all(result[f"{what}_ms"] > 0 for what in ("frame", "bare", "single_frame", "jpeg"))
    assert result["ratio"] == pytest.approx(result["frame_ms"] / result["bare_ms"], rel=0.02)
    assert result["segments"] > 20
    assert result["polygons"] > 5


def test_impossible_settings_are_refused() -> None:
    scene = EmbeddedScenes().load("straight_road")
    with pytest.raises(ConfigError, match="frames is 0"):
        run(scene, frames=0)
    with pytest.raises(ConfigError, match="camera 'rear'"):
        run(scene, frames=8, repeat=1, camera="rear")
