from __future__ import annotations

import asyncio
import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.cameras import Camera, default_camera
from omniloop.core.contracts import Plan, PolicySpec
from omniloop.core.errors import PolicyError, ServiceError
from omniloop.core.motion import ActorMotion, Trajectory
from tests.orchestrator.harness import (
    FramePolicy,
    ReplayTraffic,
    StampRenderer,
    drive,
    make_scene,
    straight_plan,
)

FI = 33_333


def camera(name="front", first_end_us=None, interval_us=None, shutter_us=0):
    base = default_camera()
    return Camera(name, base.model, base.rig_to_camera, first_end_us, interval_us, shutter_us)


def plans_of(watched):
    return [
        (d.time_us, d.plan.local_to_rig.times_us, d.plan.local_to_rig.poses)
        for d in watched.record.decisions
    ]


# --------------------------------------------------------------------------- order


def test_one_step_calls_services_in_the_specified_order():
    watched = drive(make_scene(3.0), renderer=StampRenderer(0, fps=10), warmup_s=0.0)
    names = [name for name, _ in watched.recorder.messages]
    step = names[names.index("observation") :][:9]
    assert step == [
        "observation", "plan", "vehicle", "ground", "traffic", "ground", "commit", "render_request", "frame",
    ]  # fmt: skip


def test_frames_of_the_decision_instant_arrive_before_it():
    watched = drive(make_scene(2.0), renderer=StampRenderer(0, fps=10), warmup_s=0.0)
    for observation in watched.policy.seen:
        assert observation.frame_age_us == {"camera_front_wide_120fov": 0}


def test_frames_at_the_end_are_delivered_and_nothing_is_decided_there():
    watched = drive(make_scene(2.0), renderer=StampRenderer(0, fps=10), warmup_s=0.0)
    captures = [frame.capture_us for (frame,) in watched.recorder.of("frame")]
    assert captures[-1] == watched.schedule.end_us
    assert watched.policy.seen[-1].time_us == watched.schedule.end_us - 100_000


# ------------------------------------------------------------------------- chunks


@pytest.mark.parametrize(("chunk", "first"), [(8, 5), (12, 9), (16, 13)])
def test_chunks_ask_for_exactly_the_frames_of_their_rule(chunk, first):
    renderer = StampRenderer(chunk)
    watched = drive(make_scene(6.0), renderer=renderer, warmup_s=0.0)
    assert [len(r) for r in renderer.requests] == [first] + [chunk] * watched.schedule.n_decisions
    asked = np.concatenate([r.times_us[r.end_index] for r in renderer.requests])
    start = watched.schedule.render_start_us
    assert np.array_equal(asked, start + FI * np.arange(1, len(asked) + 1))


def test_golden_8frame_timeline_of_the_reference():
    watched = drive(make_scene(6.0), renderer=StampRenderer(8), warmup_s=2.033313)
    decisions = [d.time_us for d in watched.record.decisions]
    assert decisions[:3] == [166_665, 433_329, 699_993]
    assert watched.schedule.handover_us == 2_033_313
    assert [d.dropped for d in watched.record.decisions[:8]] == [True] * 7 + [False]


def test_no_frame_shows_a_state_that_was_not_committed():
    watched = drive(make_scene(4.0), renderer=StampRenderer(8), warmup_s=0.0)
    committed = None
    for name, arguments in watched.recorder.messages:
        if name == "commit":
            committed = int(arguments[1].times_us[-1])
        if name == "render_request":
            assert arguments[1].times_us[-1] <= committed


def test_what_a_frame_showed_is_what_stayed_committed():
    watched = drive(make_scene(4.0), renderer=StampRenderer(8), warmup_s=0.0)
    path = watched.record.ego.trajectory
    for (frame,) in watched.recorder.of("frame"):
        assert json.loads(frame.image)["x_m"] == path.sample(frame.capture_us)[0, 0]


rates = st.integers(20_000, 250_000)


@settings(max_examples=20)
@given(
    st.lists(st.tuples(rates, st.integers(0, 60_000)), min_size=1, max_size=3),
    st.integers(40_000, 300_000),
)
def test_each_frame_is_delivered_once_at_its_time_whatever_the_camera_rates(cameras, period_us):
    rig = tuple(
        camera(f"c{i}", shutter + 10_000 * i, interval, shutter)
        for i, (interval, shutter) in enumerate(cameras)
    )
    renderer = StampRenderer(0, cameras=tuple(c.id for c in rig))
    watched = drive(
        make_scene(2.5, cameras=rig), renderer=renderer, decision_period_us=period_us, warmup_s=0.0
    )
    schedule = watched.schedule
    frames = [frame for (frame,) in watched.recorder.of("frame")]
    seen = [(f.camera_id, f.capture_us) for f in frames]
    assert len(seen) == len(set(seen))
    expected = {
        (c.camera_id, end)
        for c in schedule.clocks
        for end in range(c.first_end_us, schedule.end_us + 1, c.interval_us)
        if end - c.shutter_us >= schedule.context_start_us
    }
    assert set(seen) == expected
    assert [f.available_us for f in frames] == sorted(f.available_us for f in frames)
    assert all(f.available_us == f.capture_us for f in frames)


# --------------------------------------------------------- pre-fetch and post-fetch


@settings(max_examples=10)
@given(st.sampled_from([8, 12, 16]), st.integers(1, 3), st.sampled_from([0.0, 1.2, None]))
def test_postfetch_gives_the_same_plans_as_prefetch_at_one_decision_per_chunk(
    chunk, count, warmup_s
):
    scene = make_scene(5.0)
    pre = drive(scene, FramePolicy(count=count), StampRenderer(chunk), warmup_s=warmup_s)
    post = drive(
        scene, FramePolicy(count=count), StampRenderer(chunk), warmup_s=warmup_s, postfetch=True
    )
    assert len(pre.record.decisions) == len(post.record.decisions) > 0
    for (t0, times0, poses0), (t1, times1, poses1) in zip(
        plans_of(pre), plans_of(post), strict=True
    ):
        assert t0 == t1
        assert np.array_equal(times0, times1)
        assert np.array_equal(poses0, poses1)


def test_postfetch_runs_several_decisions_on_the_last_frames_it_has():
    watched = drive(
        make_scene(5.0),
        FramePolicy(count=1),
        StampRenderer(8),
        postfetch=True,
        decisions_per_chunk=4,
        warmup_s=0.0,
    )
    assert watched.schedule.decision_period_us == 2 * FI
    newest = [o.frames["camera_front_wide_120fov"][-1].capture_us for o in watched.policy.seen]
    for k in range(0, len(newest), 4):
        assert len(set(newest[k : k + 4])) == 1
        assert newest[k] == watched.policy.seen[k].time_us
    assert [len(r) for r in watched.renderer.requests[1:]] == [8] * (
        watched.schedule.n_decisions // 4
    )
    for (frame,) in watched.recorder.of("frame"):
        assert frame.available_us >= frame.capture_us


# ------------------------------------------------------------- warm-up and handover


def test_the_recording_moves_ego_until_handover_and_the_policy_after_it():
    watched = drive(make_scene(5.0), warmup_s=1.7)
    ego, handover = watched.record.ego.trajectory, watched.schedule.handover_us
    before = ego.times_us[ego.times_us <= handover]
    assert np.array_equal(ego.sample(before), watched.record.scene.ego.sample(before))
    after = ego.sample(handover + 1_000_000)[0, 0] - ego.sample(handover)[0, 0]
    assert after < 9.99  # the policy drives 5 to 9 m/s, the recording 10


def test_the_controller_is_given_the_recorded_velocity_in_warm_up_never_zero():
    watched = drive(make_scene(4.0), warmup_s=1.7)
    warm = [r for r in watched.controller.requests if r.coerce]
    assert len(warm) == 17
    for request in warm:
        assert request.dynamics[0] == pytest.approx(10.0, abs=1e-6)


def test_warm_up_can_skip_the_services():
    called = drive(make_scene(4.0), warmup_s=1.0)
    skipped = drive(make_scene(4.0), warmup_s=1.0, skip=True)
    assert len(called.policy.seen) == len(skipped.policy.seen) + 10
    assert skipped.policy.seen[0].time_us == skipped.schedule.handover_us


def test_epoch_sized_times_drive_the_same():
    near = drive(make_scene(4.0), renderer=StampRenderer(8))
    far = drive(make_scene(4.0, start_us=1_600_000_000_000_000), renderer=StampRenderer(8))
    assert np.array_equal(near.record.ego.times_us, far.record.ego.times_us - 1_600_000_000_000_000)
    assert far.controller.requests[-1].dynamics[0] > 4.0


# ------------------------------------------------------------------ decision latency


class Numbered:
    """Returns plans that stand at a height which says when they were made."""

    spec = PolicySpec(horizon_s=4.0)

    def plan(self, observation):
        plan = straight_plan(observation, 8.0, 4.0)
        poses = plan.local_to_rig.poses.copy()
        poses[:, 2] = observation.time_us / 1e6
        return Plan(Trajectory(plan.local_to_rig.times_us, poses))


@pytest.mark.parametrize("latency_us", [0, 50_000, 100_000, 250_000])
def test_the_controller_uses_the_newest_plan_whose_time_has_come(latency_us):
    watched = drive(make_scene(4.0), Numbered(), latency_us=latency_us, warmup_s=0.5)
    for request in watched.controller.requests:
        made_us = round(request.plan_local_to_rig.poses[-1, 2] * 1e6)
        if request.coerce or request.time_us < watched.schedule.handover_us + latency_us:
            assert made_us == 0  # the recording, which lies at height 0
        else:
            whole_steps = -(-latency_us // 100_000) * 100_000
            assert made_us == request.time_us - whole_steps


# --------------------------------------------------------------- broken services


class Bad:
    spec = PolicySpec()

    def __init__(self, plan):
        self._plan = plan

    def plan(self, observation):
        return self._plan(observation)


def test_a_policy_that_raises_fails_as_a_policy_with_its_own_words():
    with pytest.raises(PolicyError, match="policy raised ZeroDivisionError") as caught:
        drive(make_scene(3.0), Bad(lambda o: 1 / 0))
    assert "line/0, policy.plan at 0 us" in str(caught.value)


def test_a_policy_that_exits_fails_alone():
    def leave(observation):
        raise SystemExit(3)

    with pytest.raises(PolicyError, match="policy raised SystemExit: 3"):
        drive(make_scene(3.0), Bad(leave))


def test_a_plan_that_does_not_reach_the_next_decision_fails_the_policy():
    with pytest.raises(PolicyError, match="ends at 0 us, before the next decision at 100000 us"):
        drive(make_scene(3.0), Bad(lambda o: straight_plan(o, 5.0, 0.05)), warmup_s=0.0)


def test_an_answer_that_is_no_plan_fails_the_policy():
    with pytest.raises(PolicyError, match="returned a list"):
        drive(make_scene(3.0), Bad(lambda o: [1, 2]))


def test_an_empty_plan_is_accepted_in_warm_up_only():
    watched = drive(
        make_scene(3.0),
        Bad(lambda o: Plan() if o.time_us < 500_000 else straight_plan(o, 5, 2)),
        warmup_s=0.5,
    )
    assert watched.record.decisions[0].dropped
    with pytest.raises(PolicyError, match="no plan after handover"):
        drive(make_scene(3.0), Bad(lambda o: Plan()), warmup_s=0.5)


def test_a_rollout_that_is_cancelled_ends_after_the_decision_of_a_slow_policy():
    asked = []

    def slow(observation):
        asked.append(observation.time_us)
        if len(asked) == 2:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        time.sleep(0.025)  # never gives way, as most policies in Python
        return straight_plan(observation, 5, 2)

    with pytest.raises(asyncio.CancelledError):
        drive(make_scene(3.0), Bad(slow))
    assert len(asked) == 2


def test_a_policy_may_end_the_rollout():
    watched = drive(
        make_scene(3.0),
        Bad(
            lambda o: Plan(
                terminate=o.time_us >= 300_000, local_to_rig=straight_plan(o, 5, 2).local_to_rig
            )
        ),
    )
    assert watched.record.stopped_by == "policy"
    assert watched.record.frontier_us == 300_000


def test_a_policy_cannot_end_the_rollout_in_warmup():
    plan = Bad(lambda o: Plan(straight_plan(o, 5, 2).local_to_rig, terminate=o.time_us <= 400_000))
    watched = drive(make_scene(3.0), plan, warmup_s=0.5)
    assert watched.record.stopped_by == ""
    assert watched.record.frontier_us == 3_000_000


def test_a_plan_without_an_anchor_starts_at_ego():
    def late(observation):
        plan = straight_plan(observation, 8.0, 3.0).local_to_rig
        return Plan(Trajectory(plan.times_us[1:], plan.poses[1:]))

    with_anchor = drive(make_scene(3.0), Bad(lambda o: straight_plan(o, 8.0, 3.0)), warmup_s=0.0)
    without = drive(make_scene(3.0), Bad(late), warmup_s=0.0)
    assert np.allclose(
        with_anchor.record.ego.local_to_rig, without.record.ego.local_to_rig, atol=1e-12
    )


def test_traffic_that_forgets_an_actor_is_an_infrastructure_failure():
    class Forgetful(ReplayTraffic):
        def step(self, request):
            whole = super().step(request)
            return ActorMotion(whole.times_us, whole.local_to_aabb[:1], whole.valid[:1])

    with pytest.raises(ServiceError, match="answer for every actor"):
        drive(make_scene(3.0), traffic=Forgetful())


def test_a_renderer_that_returns_too_few_images_is_an_infrastructure_failure():
    class Short(StampRenderer):
        def render(self, request):
            result = super().render(request)
            return type(result)(result.images[:-1])

    with pytest.raises(ServiceError, match="4 images for 5 frames"):
        drive(make_scene(3.0), renderer=Short(8))


def test_a_watch_ends_the_rollout_at_the_interval_it_names():
    watched = drive(
        make_scene(4.0), warmup_s=0.0,
        watch=lambda ego, actors: "collision" if ego.times_us[-1] >= 700_000 else "",
    )  # fmt: skip
    assert watched.record.stopped_by == "collision"
    assert watched.record.frontier_us == 700_000


# ----------------------------------------------------------------- what is observed


def test_privileged_inputs_are_seen_only_if_declared():
    plain = drive(make_scene(2.0)).policy.seen[0]
    assert plain.actors is None
    assert plain.map is None
    assert plain.recording is None

    class Privileged(FramePolicy):
        def __init__(self):
            super().__init__()
            self.spec = PolicySpec(privileged=frozenset({"actors", "map", "recording"}))

    watched = drive(make_scene(2.0), Privileged())
    for observation in watched.policy.seen:
        assert observation.actor_motion.times_us[-1] == observation.time_us
        assert observation.recording is watched.record.scene.ego
    assert watched.record.privileged == ("actors", "map", "recording")


class Anticipating(FramePolicy):
    """Is told what comes; one that is elsewhere, since only then is there time to spare."""

    def __init__(self):
        super().__init__()
        self.told = {}

    async def open(self, session, cameras):
        return self

    def anticipate(self, time_us, ego, route):
        assert time_us not in self.told
        self.told[time_us] = (ego, route)

    async def plan(self, observation):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return super().plan(observation)

    async def close(self):
        pass


class SlowRenderer(StampRenderer):
    """Takes some turns of the event loop, as one that is elsewhere does."""

    async def render(self, request):
        for _ in range(5):
            await asyncio.sleep(0)
        return super().render(request)


@pytest.mark.parametrize("postfetch", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_a_policy_is_told_ahead_just_what_its_observation_will_hold(postfetch, skip):
    policy = Anticipating()
    drive(make_scene(3.0), policy, SlowRenderer(8), postfetch=postfetch, skip=skip)
    seen = {o.time_us: o for o in policy.seen}
    assert set(policy.told) <= set(seen)
    assert len(policy.told) >= len(seen) - 1  # nobody is asked before the first decision
    for time_us, (ego, route) in policy.told.items():
        assert ego is seen[time_us].ego
        assert route is seen[time_us].route


def test_the_route_begins_at_ego_and_is_finite():
    for observation in drive(make_scene(3.0)).policy.seen:
        waypoints = observation.route.waypoints_rig
        assert np.isfinite(waypoints).all()
        assert abs(waypoints[0, 0]) < 0.25
        assert len(waypoints) >= 2


def test_an_actor_that_appears_late_is_absent_before():
    record = drive(make_scene(4.0)).record
    seen_from = record.actors.times_us[np.argmax(record.actors.valid[1])]
    assert seen_from == 1_500_000
    assert geometry.yaw_rad(record.actors.local_to_aabb[1, -1]) == 0.0
