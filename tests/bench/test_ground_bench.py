"""The benchmark of grounds measures what it says."""

from __future__ import annotations

import json

import pytest

from omniloop.bench.ground import run
from omniloop.core.errors import ConfigError


def test_it_reports_the_mesh_and_every_ground() -> None:
    result = run(triangles=20_000, actors=5, repeat=2)
    assert json.loads(json.dumps(result)) == result
    assert result["mesh"]["triangles"] == pytest.approx(20_000, rel=0.02)
    assert result["mesh"]["rays_per_s"] > 0
    assert 0 < result["mesh"]["arrays_mib"] < 20
    assert set(result["ms_per_call"]) == {"flat", "raster", "mesh"}
    assert all(v > 0 for ms in result["ms_per_call"].values() for v in ms.values())


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"triangles": 10}, {"actors": 0}, {"repeat": 0}):
        with pytest.raises(ConfigError, match="at least 20000 triangles"):
            run(**wrong)
