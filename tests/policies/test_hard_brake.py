import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.contracts import Observation, SessionInfo
from omniloop.core.errors import PluginError, PolicyError
from omniloop.core.local import as_service
from omniloop.core.motion import EgoMotion
from omniloop.core.scene import Scene, Vehicle
from omniloop.physics.bicycle import BicycleController
from omniloop.policies.hard_brake import HardBrakePolicy
from tests.policies.hand_loop import bend, drive, straight

HANDOVER_US = 1_500_000  # of `drive`


def seconds_after_handover(driven):
    return (driven.ego.times_us - HANDOVER_US) / 1e6


def test_it_declares_that_it_knows_the_recording():
    assert as_service("policy", HardBrakePolicy()).spec.privileged == {"recording"}


def test_it_stops_where_the_formula_says_and_stays():
    driven = drive(Scene("s", "test", straight(12.0, 8.0)), HardBrakePolicy(6.0))
    t = np.clip(seconds_after_handover(driven), 0.0, 2.0)  # 12 m/s at 6 m/s^2
    expected = 12 * np.minimum(seconds_after_handover(driven) + 0.5, 0.5) + 12 * t - 3 * t * t
    np.testing.assert_allclose(driven.ego.local_to_rig[:, 0], expected, atol=1e-6)
    stopped = driven.ego.local_to_rig[seconds_after_handover(driven) >= 2.0]
    assert len(stopped) > 40
    np.testing.assert_allclose(stopped[:, 0], 6.0 + 12.0, atol=1e-6)


def test_it_drives_as_recorded_until_then():
    scene = Scene("s", "test", bend(10.0, 9.0, 30.0))
    driven = drive(scene, HardBrakePolicy(4.0, at_s=2.25))
    early = seconds_after_handover(driven) <= 2.2
    recorded = scene.ego.sample(driven.ego.times_us[early])
    np.testing.assert_allclose(driven.ego.local_to_rig[early], recorded, atol=1e-9)
    # 10 m/s are gone after 2.5 s and 12.5 m, counted from 2.75 s of the recording.
    gone = geometry.arc_length_m(driven.ego.local_to_rig[:, :2])[-1]
    assert gone == pytest.approx(27.5 + 12.5, abs=0.05)
    assert driven.speed_mps[seconds_after_handover(driven) > 4.9].max() < 1e-6


def test_it_stays_on_the_recorded_path():
    scene = Scene("s", "test", bend(10.0, 9.0, 20.0, straight_m=8.0))
    driven = drive(scene, HardBrakePolicy(3.0))
    off = geometry.project_on_polyline(driven.ego.local_to_rig[:, :2], scene.ego.poses[:, :2])[1]
    assert off.max() < 1e-6
    yaw = geometry.yaw_rad(driven.ego.local_to_rig[-1])
    assert yaw == pytest.approx((5 + 100 / 6 - 8) / 20, abs=0.02)


def test_a_vehicle_with_dynamics_brakes_about_as_hard():
    driven = drive(
        Scene("s", "test", straight(12.0, 8.0)), HardBrakePolicy(6.0), BicycleController()
    )
    assert driven.speed_mps[-1] == pytest.approx(0.0, abs=0.1)
    assert driven.ego.local_to_rig[-1, 0] == pytest.approx(18.0, abs=1.5)


def test_decisions_of_another_period_give_the_same_motion():
    scene = Scene("s", "test", straight(12.0, 8.0))
    often = drive(scene, HardBrakePolicy(6.0), until_us=7_500_000)
    seldom = drive(scene, HardBrakePolicy(6.0), until_us=7_500_000, period_us=500_000)
    np.testing.assert_allclose(seldom.ego.local_to_rig[-1], often.ego.local_to_rig[-1], atol=1e-6)


def test_it_brakes_on_straight_on_where_the_recording_ends():
    scene = Scene("s", "test", straight(12.0, 1.0))
    policy = HardBrakePolicy(6.0)
    here = scene.ego.sample(HANDOVER_US)
    session = policy.open(SessionInfo("s/0", scene, 0, Vehicle(), 0, HANDOVER_US, 9), ())
    plan = session.plan(observe(HANDOVER_US, here, scene.ego)).local_to_rig
    assert plan.poses[-1, 0] == pytest.approx(18.0)
    assert (np.diff(plan.poses[:, 0]) >= 0).all()


def test_it_stands_where_the_recording_stands():
    scene = Scene("s", "test", straight(0.0, 5.0))
    driven = drive(scene, HardBrakePolicy())
    assert np.ptp(driven.ego.local_to_rig[:, :3]) == 0.0


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"decel_mps2": 0.0}, "policy.decel_mps2"),
        ({"decel_mps2": float("nan")}, "policy.decel_mps2"),
        ({"at_s": -1.0}, "policy.at_s"),
        ({"at_s": float("inf")}, "policy.at_s"),
    ],
)
def test_senseless_settings_are_refused(settings, where):
    with pytest.raises(PluginError) as caught:
        HardBrakePolicy(**settings)
    assert caught.value.where == where


def test_without_a_recording_it_says_so():
    scene = Scene("s", "test", straight(5.0, 3.0))
    session = HardBrakePolicy().open(SessionInfo("s/0", scene, 0, Vehicle(), 0, HANDOVER_US, 9), ())
    here = geometry.IDENTITY[None]
    for recording, now in ((None, HANDOVER_US), (scene.ego, 0)):
        with pytest.raises(PolicyError, match="no recording"):
            session.plan(observe(now, here, recording))


def observe(now_us, local_to_rig, recording):
    ego = EgoMotion(np.array([now_us]), local_to_rig, np.zeros((1, 12)))
    return Observation(
        "s/0", "s", 0, now_us, now_us + 100_000, ego, {}, None, Vehicle(), recording=recording
    )
