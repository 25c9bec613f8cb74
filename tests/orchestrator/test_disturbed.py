"""What the loop does with frames that are lost or late, and with estimates and latencies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omniloop.core.contracts import CameraFrame, ImageHistory, PolicySpec
from omniloop.core.errors import ServiceError
from omniloop.core.motion import EgoMotion
from omniloop.orchestrator.observe import FrameBuffer
from tests.orchestrator.harness import FollowPlan, FramePolicy, StampRenderer, drive, make_scene


class Disturbed(StampRenderer):
    """Loses every fifth frame and delays every third, the initial request left out."""

    def __init__(self, late_us: int = 70_000) -> None:
        super().__init__(0, fps=10)
        self.late_us = late_us

    def render(self, request):
        result = super().render(request)
        if len(self.requests) == 1:
            return result
        tick = request.times_us[request.end_index] // 100_000
        return replace(result, lost=tick % 5 == 0, late_us=np.where(tick % 3 == 0, self.late_us, 0))


def test_lost_frames_never_reach_the_policy_and_are_logged_at_their_time():
    watched = drive(make_scene(4.0), renderer=Disturbed(0), warmup_s=0.5)
    lost = [frame for (frame,) in watched.recorder.of("lost_frame")]
    assert len(lost) >= 5
    assert {f.capture_us // 100_000 % 5 for f in lost} == {0}
    assert all(f.available_us == f.capture_us for f in lost)
    gone = {f.capture_us for f in lost}
    seen = {f.capture_us for o in watched.policy.seen for fs in o.frames.values() for f in fs}
    delivered = {f.capture_us for (f,) in watched.recorder.of("frame")}
    assert not gone & seen
    assert not gone & delivered
    asked = sum(len(r) for r in watched.renderer.requests)
    assert asked == len(gone) + len(delivered)


@pytest.mark.parametrize("late_us", [70_000, 100_000, 250_000])
def test_late_frames_arrive_in_the_order_of_arrival_and_are_seen_only_then(late_us):
    watched = drive(make_scene(4.0), renderer=Disturbed(late_us), warmup_s=0.5)
    frames = [frame for (frame,) in watched.recorder.of("frame")]
    assert [f.available_us for f in frames] == sorted(f.available_us for f in frames)
    late = [f for f in frames if f.available_us > f.capture_us]
    assert late
    assert {f.available_us - f.capture_us for f in late} == {late_us}
    for observation in watched.policy.seen:
        for held in observation.frames.values():
            assert all(f.available_us <= observation.time_us for f in held)
            captures = [f.capture_us for f in held]
            assert captures == sorted(captures)


def test_a_late_frame_takes_its_place_by_capture_time():
    buffer = FrameBuffer(PolicySpec(cameras=None, images=ImageHistory(3, 10.0)), ("front",))
    for capture_us in (0, 200_000, 100_000):
        buffer.add(CameraFrame("front", b"x", capture_us, capture_us, 200_000))
    assert [f.capture_us for f in buffer.history(200_000)["front"]] == [0, 100_000, 200_000]


def test_an_empty_image_that_no_fault_explains_is_an_infrastructure_failure():
    class Blind(StampRenderer):
        def render(self, request):
            result = super().render(request)
            return replace(result, images=(b"", *result.images[1:]))

    with pytest.raises(ServiceError, match="images for"):
        drive(make_scene(3.0), renderer=Blind(0, fps=10))


def test_the_policy_sees_the_estimate_and_everyone_else_the_truth():
    def beside():
        def estimate(ego):
            poses = ego.local_to_rig.copy()
            poses[:, 1] += 0.5
            return EgoMotion(ego.times_us, poses, ego.dynamics)

        return estimate

    renderer = StampRenderer(0, fps=10)
    watched = drive(make_scene(4.0), renderer=renderer, estimator=beside, warmup_s=0.5)
    straight = drive(
        make_scene(4.0), policy=FramePolicy(), renderer=StampRenderer(0, fps=10), warmup_s=0.5
    )
    assert {float(o.ego.local_to_rig[-1, 1]) for o in watched.policy.seen} == {0.5}
    assert all((r.local_to_rig[:, 1] == 0).all() for r in renderer.requests)
    # A plan is relative to where the policy believes ego to be: an offset in the estimate
    # moves the plan with it, and ego does not step aside.
    assert np.abs(watched.record.ego.local_to_rig[:, 1]).max() < 1e-9
    assert np.allclose(watched.record.ego_estimated.local_to_rig[:, 1], 0.5)
    assert np.allclose(watched.record.ego.local_to_rig, straight.record.ego.local_to_rig, atol=1e-9)


def test_each_rollout_has_its_own_estimator():
    made = []

    def counting():
        made.append(0)

        def estimate(ego):
            made[-1] += 1
            return ego

        return estimate

    watched = drive(make_scene(3.0), estimator=counting)
    drive(make_scene(3.0), estimator=counting)
    assert made == [watched.schedule.n_decisions + 1] * 2


def test_a_later_decision_that_is_ready_first_drives_until_a_newer_one_is():
    controller = FollowPlan()
    extra = np.zeros(60, dtype=np.int64)
    extra[1::3] = 250_000
    watched = drive(make_scene(5.0), controller=controller, extra_latency_us=extra, warmup_s=0.0)
    by_start = {d.time_us: d for d in watched.record.decisions}
    late = 0
    for request in controller.requests:
        ready = [d for d in watched.record.decisions if d.available_us <= request.time_us]
        if not ready:
            continue
        assert request.plan_local_to_rig.start_us == ready[-1].time_us
        late += by_start[request.time_us].available_us > request.time_us
    assert late >= 10
