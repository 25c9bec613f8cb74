"""Rollouts whose states stay as they were driven, and which renderer can draw them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omniloop.configs.compose import compose
from omniloop.configs.schema import PluginConfig
from omniloop.core import registry
from omniloop.core.contracts import RendererSpec
from omniloop.core.errors import ConfigError, RunFolderError
from omniloop.core.scene import Scene
from omniloop.core.schedule import Schedule
from omniloop.runlog import messages as topics
from omniloop.runlog.messages import LogHeader
from omniloop.runlog.reader import LogReader
from omniloop.runlog.results import RolloutResult
from omniloop.scenes.native import scene_from_bytes

FRAME_SETTINGS = ("chunk", "fps", "width", "height", "cameras", "shutter_us", "jpeg_quality")
"""Settings of the run's renderer that another one takes over unless it is told otherwise."""


def renderer_settings(before: PluginConfig, settings: Sequence[str]) -> PluginConfig:
    """The settings of the renderer to draw with.

    Raises:
        ConfigError: one is not the renderer's, or cannot be read.
        PluginError: there is no such renderer.
    """
    keys = [setting.partition("=")[0].lstrip("+").strip() for setting in settings]
    for key, setting in zip(keys, settings, strict=True):
        if key != "renderer" and not key.startswith("renderer."):
            raise ConfigError(
                f"'{setting}' is not of the renderer", where="command line",
                remedy="states stay as they were driven: give renderer=NAME and renderer.KEY=VALUE only",
            )  # fmt: skip
    own = "renderer" not in keys
    given = [f"renderer={before.name}", *settings] if own else settings
    chosen = compose(list(given)).renderer
    if chosen.name == "none":
        raise ConfigError(
            "there is nothing to draw with", where="renderer=none",
            remedy="choose a renderer, such as renderer=rasterizer",
        )  # fmt: skip
    known = registry.parameters("renderer", chosen.name)
    kept = {
        key: value
        for key, value in before.arguments.items()
        if key in known and f"renderer.{key}" not in keys and (own or key in FRAME_SETTINGS)
    }
    return PluginConfig(name=chosen.name, **{**chosen.arguments, **kept})


class LoggedScenes:
    """The scenes that logs carry, as a source.

    Args:
        logs: Scene id to a log of it.
    """

    def __init__(self, logs: dict[str, Path]) -> None:
        self._logs = logs

    def ids(self) -> list[str]:
        """See `omniloop.core.contracts.SceneSource`."""
        return sorted(self._logs)

    def load(self, scene_id: str) -> Scene:
        """See `omniloop.core.contracts.SceneSource`."""
        log = self._logs[scene_id]
        where = f"{log}, {topics.SCENE_ATTACHMENT}"
        return scene_from_bytes(LogReader(log).scene_bundle(), where)


@dataclass(frozen=True)
class Frozen:
    """A rollout whose states stay."""

    result: RolloutResult
    log: Path
    header: LogHeader

    @classmethod
    def of(cls, result: RolloutResult, log: Path) -> Frozen:
        """Look at a log.

        Raises:
            RunFolderError: it is missing, damaged or cut off, or holds no frames.
        """
        reader = LogReader(log)
        if reader.problem:
            raise reader.error("the log is incomplete")
        header = reader.header()
        if not header.schedule.clocks:
            raise RunFolderError(
                f"{result.session_id} holds no frames: nothing was rendered", where=str(log),
                remedy="run it with a renderer, such as renderer=rasterizer",
            )  # fmt: skip
        return cls(result, log, header)


def fitting(spec: RendererSpec, schedule: Schedule, where: str) -> RendererSpec:
    """A renderer's spec with the cameras of a log, if it can draw the frames of that log.

    Raises:
        ConfigError: it makes other chunks, or is told to render other cameras.
    """
    if spec.chunk is not None and spec.chunk != schedule.chunk:
        there = schedule.chunk
        asked = f"in chunks of {there.frames} at {there.fps} Hz" if there else "frame by frame"
        settings = f"renderer.chunk={there.frames} renderer.fps={there.fps}" if there else "chunk=0"
        raise ConfigError(
            f"the renderer makes chunks of {spec.chunk.frames} frames at {spec.chunk.fps} Hz, the frames"
            f" were asked for {asked}", where=where,
            remedy=f"give {settings}, a renderer that draws frame by frame, or a run with such chunks",
        )  # fmt: skip
    ids = tuple(clock.camera_id for clock in schedule.clocks)
    if spec.cameras is not None and set(spec.cameras) != set(ids):
        raise ConfigError(
            f"the renderer is told to render {', '.join(spec.cameras)}, the log has frames of {', '.join(ids)}",
            where=where, remedy="leave renderer.cameras out, or choose a run with these cameras",
        )  # fmt: skip
    return replace(spec, cameras=ids)
