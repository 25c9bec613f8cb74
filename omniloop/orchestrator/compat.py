"""Checks that renderer, policy and scene fit each other, before anything starts."""

from __future__ import annotations

from dataclasses import replace

from omniloop.core.cameras import Camera, FThetaCamera, select_cameras
from omniloop.core.contracts import PolicySpec, RendererSpec
from omniloop.core.errors import ConfigError, PluginError
from omniloop.core.scene import Scene
from omniloop.core.schedule import Schedule
from omniloop.core.time import US_PER_S, seconds_to_us

PRIVILEGES = ("actors", "map", "recording")


def check_specs(policy: PolicySpec, renderer: RendererSpec | None) -> None:
    """Check what does not depend on a scene.

    Raises:
        ConfigError: the policy needs images and nothing renders, or not those cameras;
            the renderer's size breaks its own rule.
        PluginError: the policy declares something impossible.
    """
    unknown = [p for p in sorted(policy.privileged) if p not in PRIVILEGES]
    if unknown:
        raise PluginError(
            f"the policy asks for the privilege '{unknown[0]}'",
            remedy=f"known: {', '.join(PRIVILEGES)}",
        )
    if policy.images.count < 1 or policy.images.rate_hz <= 0 or policy.horizon_s <= 0:
        raise PluginError(
            f"the policy declares {policy.images} and a horizon of {policy.horizon_s} s"
        )
    if renderer is None:
        if policy.cameras:
            raise ConfigError(
                f"the policy looks at {', '.join(policy.cameras)}, but nothing renders",
                where="renderer=none", remedy="choose a renderer, such as renderer=rasterizer",
            )  # fmt: skip
        return
    width, height = renderer.size
    if min(width, height) < 16:
        raise ConfigError(
            f"image size {width}x{height} is smaller than 16x16", where="renderer.width, renderer.height",
            remedy="give at least 16 pixels each way",
        )  # fmt: skip
    if width % renderer.size_multiple or height % renderer.size_multiple:
        raise ConfigError(
            f"image size {width}x{height} is not a multiple of {renderer.size_multiple}",
            where="renderer.width, renderer.height",
        )
    if renderer.cameras is not None:
        missing = [c for c in policy.cameras or () if c not in renderer.cameras]
        if missing:
            raise ConfigError(
                f"the policy looks at camera '{missing[0]}', which is not rendered",
                where=f"renderer.cameras={list(renderer.cameras)}", remedy=f"add {missing[0]} to renderer.cameras",
            )  # fmt: skip


def cameras_for(
    scene: Scene, policy: PolicySpec, renderer: RendererSpec | None
) -> tuple[Camera, ...]:
    """The cameras to render in a scene, at the size that the renderer delivers.

    They are the renderer's if it names some, else those that the policy looks at, else
    the most forward one.

    Raises:
        ConfigError: the scene lacks a camera or its first frame, or the renderer cannot
            render its model.
    """
    if renderer is None:
        return ()
    wanted = renderer.cameras or policy.cameras or None
    chosen = select_cameras(scene.cameras, wanted, scene.id)
    for camera in chosen:
        model = "ftheta" if isinstance(camera.model, FThetaCamera) else "pinhole"
        if model not in renderer.camera_models:
            raise ConfigError(
                f"camera '{camera.id}' is a {model} camera, which the renderer cannot render",
                where=f"scene {scene.id}", remedy=f"it renders {', '.join(renderer.camera_models)}",
            )  # fmt: skip
        if renderer.needs_first_frame and camera.id not in {
            f.camera_id for f in scene.first_frames
        }:
            raise ConfigError(
                f"the renderer starts from an image of camera '{camera.id}', which the scene lacks",
                where=f"scene {scene.id}",
                remedy="set renderer.first_frame=raster to start from a drawing, or choose a scene with"
                " first frames (`omniloop scenes show`)",
            )
    return tuple(replace(c, model=c.model.resized(*renderer.size)) for c in chosen)


def check_schedule(policy: PolicySpec, schedule: Schedule, latency_us: int) -> None:
    """Check that plans reach the next decision.

    Raises:
        ConfigError: the policy's horizon is too short for the decision period and latency.
    """
    period_us = schedule.decision_period_us
    # A plan takes over at the first decision by which it is available, and drives to the next.
    need_us = (-(-latency_us // period_us) + 1) * period_us
    if seconds_to_us(policy.horizon_s) < need_us:
        raise ConfigError(
            f"the policy plans {policy.horizon_s} s ahead, but must reach {need_us / US_PER_S} s",
            where="renderer.chunk, sync.decision_period_us, sync.decision_latency_us, imperfection.latency",
            remedy="choose a smaller chunk or decision period, or a policy that plans further",
        )


def throttled(policy: PolicySpec, schedule: Schedule) -> dict[str, float] | None:
    """The declared and the actual rate, if the decision grid is coarser than the policy's."""
    actual_hz = US_PER_S / schedule.decision_period_us
    if policy.rate_hz is None or policy.rate_hz <= actual_hz * (1 + 1e-9):
        return None
    return {"declared_hz": policy.rate_hz, "actual_hz": round(actual_hz, 6)}
