from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from omniloop.core.contracts import ImageHistory, Plan, PolicySpec
from omniloop.core.errors import PluginError, PolicyError
from omniloop.core.motion import Trajectory
from omniloop.runner.policy_check import Finding, check_policy, plan_bytes
from tests.plugins import Straight

QUICK = ("sync.duration_s=1.6", "renderer.width=64", "renderer.height=48")


class Forgetful(Straight):
    """Counts its plans for all rollouts together, and drives faster with each."""

    plans = 0

    def plan(self, observation):
        Forgetful.plans += 1
        self.speed_mps = 5 + 0.01 * Forgetful.plans
        return super().plan(observation)


class Gambler(Straight):
    """Draws its speed from the global random state."""

    def plan(self, observation):
        self.speed_mps = 5 + np.random.random()  # noqa: NPY002
        return super().plan(observation)


class Late(Straight):
    """Plans begin half a second from now, where ego is not."""

    def plan(self, observation):
        path = super().plan(observation).local_to_rig
        return Plan(Trajectory(path.times_us[5:] - 500_000, path.poses[5:]))


class Short(Straight):
    """Declares 3 s and plans 1 s."""

    def plan(self, observation):
        path = super().plan(observation).local_to_rig
        return Plan(Trajectory(path.times_us[:11], path.poses[:11]))


class Looks(Straight):
    """Reads the size of its newest frame, and the motion of a second."""

    spec = PolicySpec(
        horizon_s=3.0, route=False, cameras=None, images=ImageHistory(2, 10.0), ego_history_s=1.0
    )

    def plan(self, observation):
        import cv2

        (frames,) = observation.frames.values()
        if not frames:
            raise PolicyError("there is no frame yet", remedy="warm up longer")
        image = cv2.imdecode(np.frombuffer(frames[-1].image, np.uint8), cv2.IMREAD_COLOR)
        self.speed_mps = 5 + image.mean() / 255
        return super().plan(observation)


class Impatient(Looks):
    """Takes for granted that there is a frame."""

    def plan(self, observation):
        (frames,) = observation.frames.values()
        assert frames[-1].image
        return super().plan(observation)


class Neighbourly(Straight):
    """Its plans depend on who shares the batch."""

    batch_size = 4

    def plan_batch(self, observations):
        self.speed_mps = 5 + len(observations)
        return [super(Neighbourly, self).plan(o) for o in observations]


def tried(policy: type, *settings: str) -> Iterator[Finding]:
    sys.modules.setdefault("policies_to_check", sys.modules[__name__])
    return check_policy(f"policies_to_check:{policy.__name__}", [*QUICK, *settings])


def broken(policy: type, check: str, *settings: str) -> str:
    """What a check says that a policy does not pass; later ones are not made."""
    (finding,) = islice((f for f in tried(policy, *settings) if f.check == check), 1)
    assert finding.good is False
    return finding.detail


def test_a_policy_that_keeps_the_contract_passes_every_check_and_leaves_no_file(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    findings = list(check_policy("route_follower", QUICK))
    assert list(tmp_path.iterdir()) == []
    assert [f.check for f in findings if f.good is False] == []
    assert {f.check for f in findings if f.good} >= {
        "determinism", "batch equals single", "little history", "close in mid-rollout",
    }  # fmt: skip


def test_a_policy_that_looks_is_shown_damaged_frames():
    found = {f.check: f for f in tried(Looks)}
    assert [f.check for f in found.values() if f.good is False] == []
    assert found["bad frames"].detail.startswith("cut off: refused: ")


@pytest.mark.parametrize(
    ("policy", "check"),
    [
        (Forgetful, "determinism"),
        (Gambler, "determinism"),
        (Late, "plans start at ego"),
        (Short, "plans reach their horizon"),
        (Impatient, "little history"),
        (Neighbourly, "batch equals single"),
    ],
)
def test_each_breach_is_found_by_its_check(policy, check):
    assert broken(policy, check)


def test_a_policy_that_fails_its_rollout_is_told_with_its_reason():
    assert "1000 m/s" in broken(Straight, "plans can be driven", "policy.speed_mps=1000")


def test_an_unknown_policy_cannot_be_tried():
    with pytest.raises(PluginError, match="nobody"):
        next(check_policy("nobody"))


def test_the_bytes_of_a_plan_tell_any_difference_apart():
    def plan(x=1.0, **more):
        pose = np.array([[x, 0, 0, 0, 0, 0, 1.0]])
        return Plan(Trajectory(np.array([0]), pose), **more)

    different = [plan(), plan(2.0), plan(reasoning="left"), plan(samples=(plan().local_to_rig,))]
    assert len({plan_bytes(p) for p in different}) == 4
    assert plan_bytes(plan()) == plan_bytes(plan())
