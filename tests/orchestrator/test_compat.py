from __future__ import annotations

from dataclasses import replace

import pytest

from omniloop.core.cameras import Camera, PinholeCamera, default_camera
from omniloop.core.contracts import ChunkRule, ImageHistory, PolicySpec, RendererSpec
from omniloop.core.errors import ConfigError, PluginError
from omniloop.core.scene import FirstFrame
from omniloop.core.schedule import build_schedule
from omniloop.orchestrator.compat import cameras_for, check_schedule, check_specs, throttled
from tests.orchestrator.harness import make_scene

RENDERER = RendererSpec(chunk=None, size=(640, 352))
FRONT = default_camera()
PINHOLE = Camera("tele", PinholeCamera(1000, 500, 800, 800, 500, 250), FRONT.rig_to_camera)


@pytest.mark.parametrize(
    ("policy", "renderer", "kind", "message"),
    [
        (PolicySpec(cameras=("front",)), None, ConfigError, "nothing renders"),
        (
            PolicySpec(cameras=("front",)),
            replace(RENDERER, cameras=("rear",)),
            ConfigError,
            "not rendered",
        ),
        (PolicySpec(privileged=frozenset({"future"})), None, PluginError, "privilege 'future'"),
        (PolicySpec(horizon_s=0.0), None, PluginError, "horizon"),
        (PolicySpec(images=ImageHistory(0)), None, PluginError, "count=0"),
        (PolicySpec(), replace(RENDERER, size=(641, 352)), ConfigError, "641x352"),
        (
            PolicySpec(),
            replace(RENDERER, size=(640, 360), size_multiple=16),
            ConfigError,
            "multiple of 16",
        ),
    ],
)
def test_specs_that_do_not_fit_are_refused(policy, renderer, kind, message):
    with pytest.raises(kind, match=message):
        check_specs(policy, renderer)


def test_a_policy_without_eyes_needs_no_renderer():
    check_specs(PolicySpec(), None)
    check_specs(PolicySpec(cameras=None), None)


def test_cameras_come_scaled_to_the_delivered_size_with_the_same_rays():
    scene = make_scene(cameras=(PINHOLE,))
    (camera,) = cameras_for(scene, PolicySpec(), RENDERER)
    assert (camera.model.width, camera.model.height) == (640, 352)
    centre = camera.model.unproject(
        camera.model.project(PINHOLE.model.unproject([500.0, 250.0]))[0]
    )
    assert centre == pytest.approx(PINHOLE.model.unproject([500.0, 250.0]))


def test_the_policys_cameras_are_rendered_where_the_renderer_names_none():
    scene = make_scene(cameras=(FRONT, PINHOLE))
    assert [c.id for c in cameras_for(scene, PolicySpec(cameras=("tele",)), RENDERER)] == ["tele"]
    both = replace(RENDERER, cameras=("tele", FRONT.id))
    assert [c.id for c in cameras_for(scene, PolicySpec(), both)] == ["tele", FRONT.id]
    assert [c.id for c in cameras_for(make_scene(), PolicySpec(), RENDERER)] == [FRONT.id]


def test_a_renderer_that_knows_only_ftheta_refuses_a_pinhole_camera():
    scene = make_scene(cameras=(PINHOLE,))
    with pytest.raises(ConfigError, match="pinhole camera"):
        cameras_for(scene, PolicySpec(), replace(RENDERER, camera_models=("ftheta",)))


def test_a_renderer_that_needs_a_first_frame_says_so():
    needs = replace(RENDERER, needs_first_frame=True)
    scene = make_scene(cameras=(FRONT,))
    with pytest.raises(ConfigError, match="starts from an image"):
        cameras_for(scene, PolicySpec(), needs)
    assert cameras_for(
        replace(scene, first_frames=(FirstFrame(FRONT.id, 0, b"jpeg"),)), PolicySpec(), needs
    )


def schedule(policy, chunk=None):
    renderer = RendererSpec(chunk=ChunkRule(chunk, 30) if chunk else None)
    return build_schedule(
        make_scene(8.0), (FRONT,), renderer, policy,
        decision_period_us=100_000, warmup_s=0.0, duration_s=None,
    )  # fmt: skip


def test_a_horizon_must_reach_the_next_decision_and_the_latency():
    policy = PolicySpec(horizon_s=0.5)
    check_schedule(policy, schedule(policy, 8), 0)
    with pytest.raises(ConfigError, match=r"plans 0\.5 s ahead, but must reach 0\.533328 s"):
        check_schedule(policy, schedule(policy, 16), 0)
    with pytest.raises(ConfigError, match=r"must reach 0\.533328 s"):
        check_schedule(policy, schedule(policy, 8), 1)
    with pytest.raises(ConfigError, match=r"must reach 0\.799992 s"):
        check_schedule(policy, schedule(policy, 8), 300_000)


def test_a_faster_policy_is_throttled_and_a_slower_one_is_not():
    fast, slow = PolicySpec(rate_hz=10.0), PolicySpec(rate_hz=2.0)
    assert throttled(fast, schedule(fast, 8)) == {"declared_hz": 10.0, "actual_hz": 3.750038}
    assert throttled(slow, schedule(slow, 8)) is None
    assert throttled(fast, schedule(fast)) is None
