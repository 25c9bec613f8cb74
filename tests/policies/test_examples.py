import runpy
from pathlib import Path

import numpy as np
import pytest

from omniloop.core.local import as_service
from omniloop.core.scene import Scene
from omniloop.scenes.embedded import EmbeddedScenes
from tests.policies.hand_loop import bend, drive

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "lane_keeper.py"


@pytest.fixture
def lane_keeper():
    return runpy.run_path(str(EXAMPLE))["LaneKeeper"]()


def test_the_example_is_a_policy_without_privileges(lane_keeper):
    assert as_service("policy", lane_keeper).spec.privileged == frozenset()


def test_the_example_keeps_its_lane(lane_keeper):
    bent = drive(Scene("s", "test", bend(8.0, 15.0, 40.0)), lane_keeper)
    assert bent.off_route_m().max() < 0.6
    np.testing.assert_allclose(bent.speed_mps, 8.0, atol=0.1)
    curve = drive(EmbeddedScenes().load("curve"), lane_keeper)
    assert curve.off_route_m().max() < 0.6
