"""The adapter against stand-ins with the published modules, calls, shapes, types and quirks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from omniloop.configs.compose import compose
from omniloop.core import geometry
from omniloop.core.contracts import CameraFrame, Observation, Route
from omniloop.core.errors import PluginError, PolicyError
from omniloop.core.motion import EgoMotion
from omniloop.core.scene import Vehicle
from omniloop.policies.alpamayo.inputs import model_input
from omniloop.policies.alpamayo.loading import RELEASES, find_weights, memory_gib, requirements
from omniloop.policies.alpamayo.policy import AlpamayoPolicy, AlpamayoSession
from omniloop.runlog.folder import LOG_NAME, rollout_dir
from omniloop.runlog.record import read_record
from omniloop.runner.run import execute

torch = pytest.importorskip("torch", reason="needs the extra `models`")

STANDIN = Path(__file__).parent / "standin"
STANDINS = ("alpamayo_r1", "alpamayo1_5", "standin_parts", "transformers")
NOW_US = 3_000_000
WIDE, TELE = "camera_front_wide_120fov", "camera_front_tele_30fov"
ALL = ("camera_cross_left_120fov", WIDE, "camera_cross_right_120fov", TELE)


@pytest.fixture(autouse=True)
def standin(monkeypatch):
    monkeypatch.syspath_prepend(str(STANDIN))

    def imported():
        return [name for name in sys.modules if name.split(".")[0] in STANDINS]

    held = {name: sys.modules.pop(name) for name in imported()}  # the real ones, of other tests
    yield
    for name in imported():
        del sys.modules[name]
    sys.modules.update(held)


@pytest.fixture
def weights(tmp_path) -> str:
    (tmp_path / "config.json").write_text("{}")
    return str(tmp_path)


def policy(weights: str, **settings) -> AlpamayoPolicy:
    return AlpamayoPolicy(**{"weights": weights, "device": "cpu", **settings})


def picture(level: int, size=(32, 16)) -> bytes:
    return cv2.imencode(".png", np.full((size[1], size[0], 3), level, np.uint8))[1].tobytes()


def frames(camera: str, level=40, *, age_us=0, count=4, size=(32, 16), step_us=100_000):
    captures = [NOW_US - age_us - step_us * k for k in range(count - 1, -1, -1)]
    return tuple(
        CameraFrame(camera, picture(level + k, size), t, t, t) for k, t in enumerate(captures)
    )


def observation(cameras=ALL, *, seconds=2.0, speed=10.0, route=None, **more) -> Observation:
    """Ego drives along y of `local` at a constant speed."""
    times = np.arange(NOW_US - round(seconds * 1e6), NOW_US + 1, 50_000)
    poses = np.stack([geometry.pose(5.0, speed * t / 1e6, 1.0, np.pi / 2) for t in times])
    dynamics = np.zeros((len(times), 12))
    dynamics[:, 0] = speed
    held = {camera: frames(camera, **more) for camera in cameras}
    return Observation(
        "s/0", "s", 0, NOW_US, NOW_US + 100_000, EgoMotion(times, poses, dynamics), held, route,
        Vehicle(),
    )  # fmt: skip


def plan(made: AlpamayoPolicy, seen: Observation, seed=7, handover_us=0):
    return made.plan_batch([seen], [AlpamayoSession(seed, handover_us)])[0]


@pytest.mark.parametrize(("version", "told"), [("1", "16 images"), ("1.5", "[0,1,2,6 ]")])
def test_waypoints_in_the_rig_become_a_plan_in_local(weights, version, told):
    made = plan(policy(weights, version=version), observation())
    path = made.local_to_rig
    assert path.times_us.tolist() == [NOW_US + 100_000 * k for k in range(65)]
    np.testing.assert_allclose(path.poses[0], observation().ego.local_to_rig[-1])
    # 10 m/s along y: bf16 keeps 8 bits, and the lane is kept to some centimetres a second.
    np.testing.assert_allclose(path.poses[1:, 1], 30.0 + 10 * np.arange(1, 65) / 10, rtol=0.01)
    assert abs(path.poses[:, 0] - 5.0).max() < 0.5
    np.testing.assert_allclose(path.poses[:, 2], 1.0, atol=1e-6)
    np.testing.assert_allclose(geometry.yaw_rad(path.poses), np.pi / 2, atol=1e-6)
    assert told in made.reasoning
    assert made.reasoning.endswith("it is free")


@pytest.mark.parametrize(
    ("cameras", "indices", "ids"),
    [(1, "1", (WIDE,)), (2, "1,6", (WIDE, TELE)), (4, "0,1,2,6", ALL)],
)
def test_any_subset_of_cameras_is_told_by_its_indices(weights, cameras, indices, ids):
    made = policy(weights, cameras=cameras)
    assert made.spec.cameras == ids
    assert f"[{indices} ]" in plan(made, observation(ids)).reasoning


def test_images_are_given_camera_by_camera_oldest_first():
    held = {WIDE: frames(WIDE, 10), TELE: frames(TELE, 100)}
    seen = Observation(**{**vars(observation()), "frames": held})
    given = model_input(seen, (WIDE, TELE), "none")
    assert given.images.shape == (8, 3, 16, 32)
    assert given.images.dtype == np.uint8
    assert given.images.mean(axis=(1, 2, 3)).tolist() == [10, 11, 12, 13, 100, 101, 102, 103]


def test_history_is_in_the_rig_of_the_newest_frame():
    given = model_input(observation(), ALL, "none")
    expected = np.stack([np.arange(-15, 1) * 1.0, *np.zeros((2, 16))], axis=1)
    np.testing.assert_allclose(given.history_m, expected, atol=1e-9)
    np.testing.assert_allclose(given.history_rotation, np.tile(np.eye(3), (16, 1, 1)), atol=1e-9)


def test_an_old_frame_moves_the_origin_and_the_plan_still_starts_at_ego(weights):
    seen = observation(age_us=50_000)
    assert model_input(seen, ALL, "none").time_us == NOW_US - 50_000
    path = plan(policy(weights), seen).local_to_rig
    assert path.times_us[:3].tolist() == [NOW_US, NOW_US + 50_000, NOW_US + 150_000]
    # Where the model said to be 100 ms after the frame, so 0.5 m ahead of ego now.
    np.testing.assert_allclose(path.poses[1, 1], 30.5, atol=0.02)


def test_samples_differ_and_the_first_is_the_plan(weights):
    made = plan(policy(weights, samples=3), observation())
    assert len(made.samples) == 3
    np.testing.assert_array_equal(made.samples[0].poses, made.local_to_rig.poses)
    ends = [sample.poses[-1, 0] for sample in made.samples]
    assert len(set(ends)) == 3


def test_the_same_seed_gives_the_same_bytes_and_leaves_the_global_state_alone(weights):
    made = policy(weights)
    state = torch.random.get_rng_state()
    first, again, other = (plan(made, observation(), seed) for seed in (7, 7, 8))
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(first.local_to_rig.poses, again.local_to_rig.poses)
    assert (first.local_to_rig.poses != other.local_to_rig.poses).any()


def test_reasoning_is_cut_at_the_length_that_is_asked_for(weights):
    made = plan(policy(weights, max_generation_length=2), observation())
    assert made.reasoning == "keep the"


def left_turn():
    bend = [[30 + 4 * np.sin(a), 4 - 4 * np.cos(a), 0] for a in np.linspace(0.2, np.pi / 2, 6)]
    return Route(NOW_US, np.array([[0, 0, 0], [30.0, 0, 0], *bend, [34, 40, 0]]))


def test_navigation_comes_from_the_route_or_is_given(weights):
    seen = observation(route=left_turn())
    made = plan(policy(weights, navigation="route"), seen)
    assert "<|route_start|>Turn left in 31m<|route_end|>" in made.reasoning
    made = plan(policy(weights, navigation="Turn right in 9m"), seen)
    assert "Turn right in 9m" in made.reasoning
    straight = Route(NOW_US, np.array([[0, 0, 0], [80.0, 0, 0]]))
    made = plan(policy(weights, navigation="route"), observation(route=straight))
    assert "route_start" not in made.reasoning


def test_guidance_is_used_only_where_there_is_something_to_follow(weights):
    made = policy(weights, navigation="route", nav_guidance=1.5)
    assert plan(made, observation(route=left_turn())).reasoning.endswith("guided 1.5")
    assert "guided" not in plan(made, observation()).reasoning


@pytest.mark.parametrize(
    "too_little",
    [
        {"cameras": (WIDE,)},
        {"count": 3},
        {"seconds": 1.0},
        {"step_us": 0},
    ],
)
def test_too_little_history_waits_in_warm_up_and_is_an_error_later(weights, too_little):
    made, seen = policy(weights), observation(**too_little)
    assert len(plan(made, seen, handover_us=NOW_US + 1).local_to_rig) == 0
    failed = plan(made, seen, handover_us=NOW_US)
    assert isinstance(failed, PolicyError)
    assert "sync.warmup_s" in str(failed)


def test_what_fails_fails_alone(weights):
    made = policy(weights)
    bad = observation()
    spoilt = frames(WIDE)[:3] + (CameraFrame(WIDE, b"no image", NOW_US, NOW_US, NOW_US),)
    bad = Observation(**{**vars(bad), "frames": {**bad.frames, WIDE: spoilt}})
    mixed = observation()
    mixed = Observation(
        **{**vars(mixed), "frames": {**mixed.frames, TELE: frames(TELE, size=(20, 10))}}
    )
    sessions = [AlpamayoSession(7, 0) for _ in range(3)]
    answers = made.plan_batch([bad, observation(), mixed], sessions)
    assert "no image that can be decoded" in str(answers[0])
    assert len(answers[1].local_to_rig) == 65
    assert "different sizes: 20 x 10, 32 x 16" in str(answers[2])


@pytest.mark.parametrize(
    ("config", "words"),
    [({"nan": True}, "not finite"), ({"waypoints": 50}, "instead of (1, 1, 1, 64, 3)")],
)
def test_an_output_that_is_no_trajectory_fails_the_plan(tmp_path, config, words):
    (tmp_path / "config.json").write_text(json.dumps(config))
    failed = plan(policy(str(tmp_path)), observation())
    assert isinstance(failed, PolicyError)
    assert words in str(failed)


def test_a_model_that_does_not_fit_is_an_error_before_anything_starts(tmp_path):
    (tmp_path / "config.json").write_text('{"too_large": true}')
    with pytest.raises(PluginError, match="does not fit the GPU: CUDA out of memory"):
        policy(str(tmp_path)).connect()


def test_weights_that_are_not_here_are_named():
    with pytest.raises(PluginError, match=r"weights cannot be loaded.*couldn't connect"):
        policy("nvidia/Alpamayo-1.5-10B").connect()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_told_before_anything_is_loaded(weights):
    with pytest.raises(PluginError, match="no GPU here"):
        policy(weights, device="cuda").connect()


def test_a_missing_package_is_named_with_where_it_comes_from(weights, monkeypatch):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(STANDIN)])
    with pytest.raises(PluginError, match=r"(transformers|alpamayo1_5)' is not installed") as told:
        policy(weights).connect()
    assert "NVlabs/alpamayo1.5" in told.value.remedy


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"version": "2"}, "version is 2"),
        ({"cameras": 3}, "cameras is 3"),
        ({"samples": 0}, "samples is 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"max_generation_length": 0}, "max_generation_length is 0"),
        ({"version": "1", "navigation": "route"}, "takes no navigation"),
        ({"nav_guidance": 1.5}, "guidance needs navigation"),
        ({"cameras": 2, "camera_ids": "CAM_FRONT"}, "1 camera names for 2 cameras"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(PluginError, match=words):
        AlpamayoPolicy(**settings)


def test_requirements_tell_package_weights_and_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    release = RELEASES["1.5"]
    found = {r.name: r for r in requirements(release, release.weights, "cpu", 16, False)}
    assert found["package alpamayo1_5"].good
    assert not found[f"weights {release.weights}"].good
    assert "hf download nvidia/Alpamayo-1.5-10B" in found[f"weights {release.weights}"].detail
    assert "of 40 GiB" in found["memory on cpu"].detail
    snapshot = tmp_path / "models--nvidia--Alpamayo-1.5-10B/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"0" * 1000)
    assert find_weights(release.weights) == snapshot
    half = {r.name: r for r in requirements(release, release.weights, "cpu", 1, False)}
    assert "the download is not complete" in half[f"weights {release.weights}"].detail
    assert memory_gib(1, True) == 60.0


def test_doctor_says_in_one_screen_what_is_missing(tmp_path):
    bare = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_CACHE": str(tmp_path), "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, "-m", "omniloop.cli.main", "doctor", "policy=alpamayo"],
        capture_output=True, text=True, check=False, env={**os.environ, **bare},
    )  # fmt: skip
    assert done.returncode == 1
    for words in ("package alpamayo1_5", "weights nvidia/Alpamayo-1.5-10B", "memory on cuda"):
        assert f"FAIL  {words}" in done.stdout
    assert len(done.stdout.splitlines()) < 24


def test_it_drives_in_closed_loop_with_its_reasoning_in_the_log(weights, tmp_path):
    config = compose([
        "policy=alpamayo", f"policy.weights={weights}", "policy.device=cpu", "policy.cameras=1",
        "policy.samples=3", "scenes.ids=straight_road", "sync.duration_s=4", "renderer.width=320",
        "renderer.height=176", f"run.dir={tmp_path}", "run.name=run", "run.seeds=2",
    ])  # fmt: skip
    results = execute(config).results
    assert [r.outcome for r in results] == ["completed"] * 2
    log = rollout_dir(tmp_path / "run", "straight_road", 0) / LOG_NAME
    decided = [d for d in read_record(log).decisions if len(d.plan.local_to_rig)]
    assert all(len(d.plan.samples) == 3 for d in decided)
    assert "[1 ]" in decided[-1].plan.reasoning
    near = [m.value for n, m in results[0].metrics.items() if n.startswith("plan_min_ade_")]
    assert any(value is not None for value in near)
