import asyncio
import dataclasses
import subprocess
import sys

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from omniloop.core import geometry  # noqa: E402
from omniloop.core.cameras import default_camera  # noqa: E402
from omniloop.core.contracts import CameraFrame, Observation, Route, SessionInfo  # noqa: E402
from omniloop.core.errors import ConfigError, PluginError, PolicyError  # noqa: E402
from omniloop.core.motion import EgoMotion  # noqa: E402
from omniloop.core.registry import create  # noqa: E402
from omniloop.core.scene import Vehicle  # noqa: E402
from omniloop.policies.wam.policy import WamPolicy  # noqa: E402
from omniloop.scenes.embedded import EmbeddedScenes  # noqa: E402
from tests.policies.wam.toy import random_checkpoint  # noqa: E402

FRONT = "camera_front_wide_120fov"
SCENE = EmbeddedScenes().load("curve")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(random_checkpoint(tmp_path_factory.mktemp("wam") / "wam.pt"))


def picture(number):
    rng = np.random.default_rng(number)
    pixels = np.zeros((128, 256, 3), dtype=np.uint8)
    cv2.line(pixels, *rng.integers(0, 128, (2, 2)).tolist(), (255, 255, 255), 3)
    return cv2.imencode(".png", pixels)[1].tobytes()


def frame(time_us, number=None):
    image = picture(time_us // 1000 if number is None else number)
    return CameraFrame(FRONT, image, time_us, time_us, time_us)


def observed(time_us, frame_times, *, speed=6.0, route=None, numbers=None):
    times = np.arange(time_us - 1_600_000, time_us + 1, 100_000)
    pose = geometry.poses_from_xyz_yaw(
        np.stack([speed * times / 1e6, 0 * times, 0 * times], 1), 0.0 * times
    )
    dynamics = np.zeros((len(times), 12))
    dynamics[:, 0] = speed
    frames = tuple(frame(t, None if numbers is None else numbers[t]) for t in frame_times)
    return Observation(
        "s/0", "s", 1, time_us, time_us + 100_000, EgoMotion(times, pose, dynamics),
        {FRONT: frames}, route, Vehicle(),
    )  # fmt: skip


def session(policy, seed=1, handover_us=2_000_000):
    info = SessionInfo("s/0", SCENE, seed, Vehicle(), 0, handover_us, 9_000_000)
    return policy.open(info, (default_camera(),))


def stream(period_us, until_us=5_000_000, from_us=2_000_000):
    """Observations with the four frames that a history of 5 Hz holds, frames every period."""
    for now in range(from_us, until_us, period_us):
        captured = np.arange(from_us - 800_000, now + 1, period_us)
        wished = now - 200_000 * np.arange(3, -1, -1)
        held = captured[np.maximum(np.searchsorted(captured, wished, side="right") - 1, 0)]
        yield observed(now, held.tolist())


def drive(policy, observations, **kwargs):
    run = session(policy, **kwargs)
    return [run.plan(o).local_to_rig.poses for o in observations]


def test_a_plan_begins_at_egos_own_pose_and_reaches_64_tenths_of_a_second(weights):
    policy = WamPolicy(weights, samples=3)
    observation = next(stream(200_000))
    plan = session(policy).plan(observation)
    np.testing.assert_array_equal(plan.local_to_rig.poses[0], observation.ego.local_to_rig[-1])
    np.testing.assert_array_equal(
        plan.local_to_rig.times_us, observation.time_us + 100_000 * np.arange(65)
    )
    assert len(plan.samples) == 3
    assert not np.array_equal(plan.samples[0].poses, plan.samples[1].poses)


def test_the_plan_depends_on_the_frames_before_and_on_nothing_hidden(weights):
    policy = WamPolicy(weights)
    first = drive(policy, stream(200_000))
    again = drive(policy, stream(200_000))
    np.testing.assert_array_equal(first, again)
    other = list(stream(200_000))
    black = cv2.imencode(".png", np.zeros((128, 256, 3), np.uint8))[1].tobytes()
    early = other[0].frames[FRONT][-1].capture_us
    for k, o in enumerate(other):
        frames = tuple(
            dataclasses.replace(f, image=black) if f.capture_us == early else f
            for f in o.frames[FRONT]
        )
        other[k] = dataclasses.replace(o, frames={FRONT: frames})
    assert not np.array_equal(first[2], drive(policy, other)[2])


def kept(policy, observations):
    """Capture times of the frames in the cache at each decision, by counting."""
    run = session(policy)
    out = []
    for o in observations:
        run.plan(o)
        out.append((int(run._cache.count[0]), run._kept_us, run._newest[0]))
    return out


def test_frames_are_kept_at_5_hz_and_the_newest_is_always_looked_at(weights):
    policy = WamPolicy(weights)
    seen = kept(policy, stream(100_000, until_us=2_700_000))
    assert [newest for _, _, newest in seen] == list(range(2_000_000, 2_700_000, 100_000))
    # Of the frames before the newest one, those 200 ms apart are in the cache.
    tenths = [18, 20, 20, 22, 22, 24, 24]
    assert [us for _, us, _ in seen] == [100_000 * k for k in tenths]
    assert [count for count, _, _ in seen] == [3, 4, 4, 5, 5, 6, 6]


def test_a_frame_in_between_leaves_no_trace(weights):
    """Decisions at 10 Hz and at 5 Hz agree where both decide."""
    policy = WamPolicy(weights)
    fast = drive(policy, stream(100_000, until_us=3_400_000))
    slow = drive(policy, list(stream(100_000, until_us=3_400_000))[::2])
    np.testing.assert_array_equal(fast[::2], slow)


def test_a_decision_without_a_new_frame_looks_at_the_last_one_again(weights):
    policy = WamPolicy(weights)
    run = session(policy)
    times = [2_400_000, 2_600_000, 2_800_000, 3_000_000]
    before = run.plan(observed(3_000_000, times)).local_to_rig.poses
    count = int(run._cache.count[0])
    run.plan(observed(3_100_000, times))
    again = run.plan(observed(3_000_000, times)).local_to_rig.poses
    np.testing.assert_array_equal(before, again)
    assert int(run._cache.count[0]) == count


@pytest.mark.parametrize("batch", [1, 3])
def test_a_rollout_gets_the_same_plans_alone_and_beside_others(weights, batch):
    policy = WamPolicy(weights, batch=batch)
    alone = drive(policy, stream(200_000, until_us=3_000_000))
    runs = [session(policy, seed=s) for s in (1, 2, 3, 4)]
    together = []
    for o in stream(200_000, until_us=3_000_000):
        others = [
            observed(o.time_us, [f.capture_us for f in o.frames[FRONT]], speed=1.0 + k,
                     numbers={f.capture_us: 90 * k + f.capture_us // 200_000 for f in o.frames[FRONT]})
            for k in range(3)
        ]  # fmt: skip
        order = [others[0], others[1], o, others[2]]
        plans = policy.plan_batch(order, [runs[1], runs[2], runs[0], runs[3]])
        together.append(plans[2].local_to_rig.poses)
    np.testing.assert_array_equal(alone, together)


def test_a_bad_frame_or_none_at_all_fails_that_rollout_alone(weights):
    policy = WamPolicy(weights)
    times = [1_400_000, 1_600_000, 1_800_000, 2_000_000]
    good = observed(2_000_000, times)
    spoilt = tuple(dataclasses.replace(frame, image=b"no image") for frame in good.frames[FRONT])
    bad = dataclasses.replace(good, frames={FRONT: spoilt})
    blind = dataclasses.replace(good, frames={FRONT: ()})
    plans = policy.plan_batch([bad, good, blind], [session(policy) for _ in range(3)])
    assert isinstance(plans[0], PolicyError)
    assert isinstance(plans[2], PolicyError)
    alone = session(policy).plan(good).local_to_rig
    np.testing.assert_array_equal(plans[1].local_to_rig.poses, alone.poses)


def test_the_route_is_seen_only_if_asked_for(weights):
    way = Route(
        2_000_000, np.stack([np.linspace(0, 80, 20), np.linspace(0, 30, 20), np.zeros(20)], 1)
    )
    times = [1_400_000, 1_600_000, 1_800_000, 2_000_000]
    plain, routed = WamPolicy(weights), WamPolicy(weights, route_token=True)
    assert not plain.spec.route
    assert routed.spec.route
    with_way, without = observed(2_000_000, times, route=way), observed(2_000_000, times)
    poses = [
        session(p).plan(o).local_to_rig.poses for p in (plain, routed) for o in (with_way, without)
    ]
    np.testing.assert_array_equal(poses[0], poses[1])
    assert not np.array_equal(poses[2], poses[3])
    np.testing.assert_array_equal(poses[1], poses[3])


def test_history_can_be_cut_down_to_the_present_speed(weights):
    policy = WamPolicy(weights, history="speed")
    times = [1_400_000, 1_600_000, 1_800_000, 2_000_000]
    o = observed(2_000_000, times)
    faster = dataclasses.replace(
        o, ego=EgoMotion(o.ego.times_us, o.ego.local_to_rig + np.linspace(-1, 0, 17)[:, None]
                         * [1, 0, 0, 0, 0, 0, 0], o.ego.dynamics)
    )  # fmt: skip
    a, b = (session(policy).plan(x).local_to_rig.poses for x in (o, faster))
    np.testing.assert_array_equal(a, b)
    full = WamPolicy(weights)
    a, b = (session(full).plan(x).local_to_rig.poses for x in (o, faster))
    assert not np.array_equal(a, b)


def test_black_images_are_an_ablation_of_the_frames_alone(weights):
    times = [1_400_000, 1_600_000, 1_800_000, 2_000_000]
    policy = WamPolicy(weights, ablate="black")
    a, b = (
        session(policy).plan(observed(2_000_000, times, numbers=dict(zip(times, n, strict=True))))
        for n in ((1, 2, 3, 4), (5, 6, 7, 8))
    )
    np.testing.assert_array_equal(a.local_to_rig.poses, b.local_to_rig.poses)


def test_shuffled_images_come_from_a_folder_and_follow_one_another(weights, tmp_path):
    times = [1_400_000, 1_600_000, 1_800_000, 2_000_000]
    for k in range(5):
        (tmp_path / f"{k}.png").write_bytes(picture(50 + k))
    policy = WamPolicy(weights, ablate="shuffled", ablate_images=str(tmp_path))
    shown = session(policy).plan(observed(2_000_000, times)).local_to_rig.poses
    numbers = dict(zip(times, range(50, 54), strict=True))
    wanted = session(WamPolicy(weights)).plan(observed(2_000_000, times, numbers=numbers))
    np.testing.assert_array_equal(shown, wanted.local_to_rig.poses)


def test_a_file_that_is_no_image_is_named_before_a_start(weights, tmp_path):
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(PluginError, match=r"a\.png"):
        WamPolicy(weights, ablate="shuffled", ablate_images=str(tmp_path))


def test_a_pass_is_one_graph_that_can_be_compiled_whole(weights):
    """What CUDA graphs need; the eager backend traces it without a compiler."""
    network = WamPolicy(weights).network
    run = session(WamPolicy(weights))
    o = observed(2_000_000, [1_800_000, 2_000_000])
    run.begin(o)
    arguments = network._tensors([run.query(o, o.frames[FRONT][-1])])
    compiled = torch.compile(network._run, fullgraph=True, dynamic=False, backend="eager")
    with torch.no_grad():
        for a, b in zip(compiled(*arguments), network._run(*arguments), strict=True):
            assert torch.equal(a, b)


def test_the_second_camera_is_looked_at_if_it_is_named(weights):
    policy = WamPolicy(weights, camera=FRONT, tele_camera="tele")
    o = observed(2_000_000, [1_800_000, 2_000_000])
    both = [
        dataclasses.replace(o, frames={**o.frames, "tele": (frame(1_800_000, k), frame(2_000_000, k))})
        for k in (3, 4)
    ]  # fmt: skip
    poses = [session(policy).plan(x).local_to_rig.poses for x in (o, *both)]
    assert len({p.tobytes() for p in poses}) == 3


def test_the_medoid_is_the_most_central_of_the_samples(weights):
    from omniloop.policies.wam.network import medoid

    plans = np.zeros((5, 64, 3))
    plans[:, :, 1] = np.array([0.0, 1.0, 1.2, 1.3, 9.0])[:, None]
    assert medoid(plans) == 2
    plan = session(WamPolicy(weights, plan="medoid", samples=5)).plan(next(stream(200_000)))
    assert any(np.array_equal(plan.local_to_rig.poses, s.poses) for s in plan.samples)


def test_without_frames_it_waits_in_warm_up_and_fails_after(weights):
    policy = WamPolicy(weights)
    assert len(session(policy).plan(observed(1_000_000, [])).local_to_rig) == 0
    with pytest.raises(PolicyError, match="no frame of camera"):
        session(policy).plan(observed(2_000_000, []))


def test_numbers_that_are_not_finite_fail_that_rollout_only(weights):
    policy = WamPolicy(weights)
    times = [1_400_000, 1_600_000, 1_800_000, 2_000_000]
    with pytest.raises(PolicyError, match="not finite"):
        session(policy).plan(observed(2_000_000, times, speed=float("nan")))
    assert len(session(policy).plan(observed(2_000_000, times)).local_to_rig) == 65


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"plan": "best"}, ("plan", "zero or medoid")), ({"samples": -1}, ("samples", "at least 0")),
     ({"plan": "medoid"}, ("samples", "at least 3")), ({"device": "tpu"}, ("device", "auto")),
     ({"ablate": "white"}, ("ablate", "black")), ({"ablate": "shuffled"}, ("ablate_images",)),
     ({"ablate_images": "x"}, ("ablate_images",)), ({"history": "long"}, ("history", "speed")),
     ({"ablate": "shuffled", "ablate_images": "/nowhere"}, ("/nowhere", "no JPEG or PNG")),
     ({"tele_camera": "t"}, ("tele_camera", "policy.camera=ID")), ({"batch": 0}, ("batch",)),
     ({"compiled": True, "device": "cpu"}, ("compiled", "cuda"))],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused_by_name(weights, settings, words):
    with pytest.raises(PluginError) as caught:
        create("policy", "wam", {"checkpoint": weights, **settings})
    for word in words:
        assert word in str(caught.value)


def test_cuda_that_is_absent_is_refused(weights, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PluginError, match="no CUDA device"):
        WamPolicy(weights, device="cuda")


def test_the_widest_of_the_forward_cameras_is_chosen(weights):
    wide = default_camera()
    narrow = dataclasses.replace(
        wide, id="tele", model=type(wide.model).equidistant(1280, 704, np.deg2rad(30))
    )
    back = dataclasses.replace(wide, id="back", rig_to_camera=geometry.compose(
        geometry.pose(yaw_rad=np.pi), wide.rig_to_camera))  # fmt: skip
    policy = WamPolicy(weights)
    info = SessionInfo("s/0", SCENE, 1, Vehicle(), 0, 1, 2)
    assert policy.open(info, (back, narrow, wide))._camera == FRONT
    with pytest.raises(ConfigError, match=r"looks forward[\s\S]*back"):
        policy.open(info, (back,))
    with pytest.raises(ConfigError, match="nothing is rendered"):
        policy.open(info, ())


def test_a_run_without_a_camera_is_refused_before_it_starts(weights):
    from omniloop.configs.compose import compose
    from omniloop.runner.assemble import assemble

    config = compose([
        "policy=wam", f"policy.checkpoint={weights}", "renderer=none", "scenes.ids=curve",
    ])  # fmt: skip
    with pytest.raises(ConfigError, match="nothing is rendered"):
        assemble(config)


def test_a_named_camera_is_checked_against_the_scene_before_a_start(weights):
    from omniloop.core.contracts import RendererSpec
    from omniloop.orchestrator.compat import cameras_for

    policy = WamPolicy(weights, camera="front", tele_camera="tele")
    assert policy.spec.cameras == ("front", "tele")
    with pytest.raises(ConfigError, match=FRONT):
        cameras_for(SCENE, policy.spec, RendererSpec(None))


@pytest.fixture
def set_threads():
    """Torch's threads, as they were once the test is over."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_rollout_completes_and_its_bytes_do_not_depend_on_concurrency_or_threads(
    weights, tmp_path, set_threads
):
    from omniloop.configs.compose import compose
    from omniloop.runner.run import execute

    digests = []
    for concurrency, threads in ((1, 1), (3, 2)):
        set_threads(threads)
        folder = tmp_path / str(concurrency)
        config = compose([
            "policy=wam", f"policy.checkpoint={weights}", "renderer.chunk=0", "renderer.fps=5",
            "renderer.width=256", "renderer.height=128", "scenes.ids=[curve,cut_in]",
            "run.seeds=2", "sync.duration_s=2", f"run.concurrency={concurrency}", f"run.dir={folder}",
        ])  # fmt: skip
        execute(config)
        digests.append({
            f.parts[-3:]: f.read_bytes() for f in sorted(folder.rglob("log.mcap"))
        })  # fmt: skip
    assert len(digests[0]) == 4
    assert digests[0] == digests[1]


def test_the_package_and_its_plugins_are_listed_without_torch():
    code = (
        "import sys; import omniloop.policies.wam.policy, omniloop.policies.wam.config;"
        "from omniloop.core.registry import available, parameters;"
        "assert 'wam' in available('policy'); parameters('policy', 'wam');"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_is_a_plain_class_that_the_wrapping_makes_a_service_of(weights):
    from omniloop.core.local import as_service

    service = as_service("policy", WamPolicy(weights))
    info = SessionInfo("s/0", SCENE, 1, Vehicle(), 0, 2_000_000, 9_000_000)

    async def once():
        opened = await service.open(info, (default_camera(),))
        return await opened.plan(observed(2_000_000, [2_000_000]))

    assert len(asyncio.run(once()).local_to_rig) == 65
