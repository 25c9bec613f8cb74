from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.contracts import Observation
from omniloop.core.errors import PluginError
from omniloop.core.motion import EgoMotion
from omniloop.core.registry import create
from omniloop.core.scene import Vehicle
from omniloop.policies.brake_to_stop import BrakeToStopPolicy


def plan(policy: BrakeToStopPolicy, speed_mps: float, pose=None):
    pose = geometry.pose(3.0, -1.0, 0.5, 0.7) if pose is None else pose
    dynamics = np.zeros((1, 12))
    dynamics[0, 0] = speed_mps
    ego = EgoMotion(np.array([7]), pose[None], dynamics)
    told = Observation("s/0", "s", 0, 7, 100_007, ego, {}, None, Vehicle())
    out = policy.plan(told).local_to_rig
    return out, geometry.transform_points(geometry.inverse(pose), out.poses[:, :3])


def test_it_stops_after_the_square_of_its_speed_over_twice_its_deceleration():
    out, in_rig = plan(BrakeToStopPolicy(horizon_s=10.0), 8.0)
    np.testing.assert_allclose(in_rig[10], [8.0 - 1.0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(in_rig[-1], [16.0, 0, 0], atol=1e-9)
    assert out.end_us == 10_000_007


@given(st.floats(0, 40), st.floats(0.1, 10))
def test_it_never_goes_back_nor_aside(speed, decel):
    _, in_rig = plan(BrakeToStopPolicy(decel_mps2=decel), speed)
    assert (np.diff(in_rig[:, 0]) >= -1e-9).all()
    np.testing.assert_allclose(in_rig[:, 1:], 0, atol=1e-9)


def test_who_stands_or_rolls_back_stays():
    for speed in (0.0, -0.3):
        _, in_rig = plan(BrakeToStopPolicy(), speed)
        np.testing.assert_allclose(in_rig, 0, atol=1e-9)


def test_it_needs_nothing_and_is_not_privileged():
    spec = create("policy", "brake_to_stop", {}).spec
    assert (spec.privileged, spec.route, spec.cameras) == (frozenset(), False, ())


@pytest.mark.parametrize("arguments", [{"decel_mps2": 0.0}, {"horizon_s": 100}])
def test_a_setting_out_of_range_is_refused(arguments):
    with pytest.raises(PluginError, match=next(iter(arguments))):
        BrakeToStopPolicy(**arguments)
