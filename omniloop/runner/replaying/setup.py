"""What a replay runs with: a log's own settings, schedule and scene, recorded and live services."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omniloop.configs.compose import compose
from omniloop.configs.schema import PluginConfig, RunConfig, validate
from omniloop.core import registry
from omniloop.core.contracts import RendererSpec
from omniloop.core.errors import ConfigError, RunFolderError, nearest
from omniloop.core.local import as_service
from omniloop.core.replay import RecordedActors
from omniloop.core.scene import Scene
from omniloop.imperfection.service import imperfect
from omniloop.orchestrator.compat import cameras_for, check_specs
from omniloop.orchestrator.services import SERVICES, Services
from omniloop.runlog.redact import MASK
from omniloop.runner.assemble import PreparedScene, Setup, check_services, route_of
from omniloop.runner.frozen import fitting, renderer_settings
from omniloop.runner.replaying.recorded import RecordedService
from omniloop.runner.replaying.recording import Recording
from omniloop.services.shelf import SceneShelf

KINDS = ("policy", "traffic", "controller", "ground", "renderer")

SOURCE = "log"
"""Name of the source of scenes in the config of a replay."""


def live_kinds(settings: Sequence[str]) -> set[str]:
    """The services that settings are of.

    Raises:
        ConfigError: one is of no service.
    """
    found = set()
    for setting in settings:
        kind = setting.partition("=")[0].lstrip("+").strip().partition(".")[0]
        if kind not in KINDS or "=" not in setting:
            raise ConfigError(
                f"'{setting}' is no setting of a service.{nearest(kind, KINDS)}", where="command line",
                remedy=f"all else is as recorded: give KIND=NAME and KIND.KEY=VALUE of {', '.join(KINDS)}",
            )  # fmt: skip
        found.add(kind)
    return found


def config_of(recording: Recording, settings: Sequence[str] = ()) -> RunConfig:
    """The settings that a log was recorded with, and those given over them.

    Raises:
        InputError: a setting is wrong.
        RunFolderError: the log does not tell its settings.
    """
    told = recording.header.config
    lacking = [kind for kind in (*KINDS, "sync", "run") if not isinstance(told.get(kind), Mapping)]
    if lacking:
        raise RunFolderError(
            f"the header does not tell the settings of {lacking[0]}", where=str(recording.path),
            remedy="give a log that `omniloop run` wrote",
        )  # fmt: skip
    raw: dict[str, Any] = {key: told[key] for key in (*KINDS, "sync", "run")}
    raw["imperfection"] = told.get("imperfection", {})
    raw["scenes"] = {"name": SOURCE}
    raw["metrics"] = told.get("metrics", {})
    config = validate(raw)
    chosen = {kind: _chosen(kind, getattr(config, kind), settings) for kind in live_kinds(settings)}
    return config.model_copy(update=chosen)


def _chosen(kind: str, before: PluginConfig, settings: Sequence[str]) -> PluginConfig:
    """A plugin's settings, with those of its kind over them."""
    own = [s for s in settings if s.partition("=")[0].lstrip("+").strip().partition(".")[0] == kind]
    if kind == "renderer":
        return renderer_settings(before, own)
    keys = [s.partition("=")[0].lstrip("+").strip() for s in own]
    if kind in keys:
        chosen: PluginConfig = getattr(compose(own), kind)
        return chosen
    chosen = getattr(compose([f"{kind}={before.name}", *own]), kind)
    given = {key: chosen.arguments[key] for key in chosen.arguments if f"{kind}.{key}" in keys}
    return PluginConfig(name=before.name, **{**before.arguments, **given})


@dataclass
class ReplaySetup(Setup):
    """Everything a replay of some logs of one config needs.

    Attributes:
        recordings: Logs by session id.
        recorded: Kinds of services that answer from them.
    """

    recorded: frozenset[str] = frozenset()
    recordings: dict[str, Recording] = field(default_factory=dict)
    _prepared: dict[str, PreparedScene] = field(default_factory=dict)

    def prepare(self, scene_id: str) -> PreparedScene:
        """The scene of a log with the log's own schedule.

        Raises:
            InputError: it is damaged, or does not fit a live service.
            RunFolderError: the log does not hold it.
        """
        if scene_id not in self._prepared:
            found = next(r for r in self.recordings.values() if r.header.scene_id == scene_id)
            self._prepared[scene_id] = self._of(found)
        return self._prepared[scene_id]

    def tells_alike(self, recording: Recording) -> bool:
        """Whether the policy declares what the recorded one did, and so is told the same."""
        if "policy" in self.recorded:
            return True
        try:
            return self.policy_spec == recording.policy_spec()
        except RunFolderError:  # of an earlier version, and its plugin is not here
            return False

    def _of(self, recording: Recording) -> PreparedScene:
        scene, schedule = recording.scene(), recording.header.schedule
        renderer: RendererSpec | None = None
        if self.renderer_spec is not None:
            renderer = fitting(self.renderer_spec, schedule, str(recording.path))
        check_specs(self.policy_spec, renderer)
        cameras = cameras_for(scene, self.policy_spec, renderer)
        check_services(self.services, self.here, scene, cameras)
        return PreparedScene(
            scene=scene, bundle=recording.bundle, sha256=recording.header.scene_sha256,
            cameras=cameras, schedule=schedule, recorded_actors=RecordedActors(scene),
            route=route_of(self.config, self.policy_spec, scene),
        )  # fmt: skip


class RecordedScenes:
    """The scenes that logs carry, as a source."""

    def __init__(self, recordings: Mapping[str, Recording]) -> None:
        self._found = {r.header.scene_id: r for r in recordings.values()}

    def ids(self) -> list[str]:
        """See `omniloop.core.contracts.SceneSource`."""
        return sorted(self._found)

    def load(self, scene_id: str) -> Scene:
        """See `omniloop.core.contracts.SceneSource`."""
        return self._found[scene_id].scene()


def replay_setup(
    config: RunConfig, recordings: Mapping[str, Recording], recorded: Collection[str]
) -> ReplaySetup:
    """Services from logs and live ones, as wires and imperfections change them.

    Args:
        recordings: By session id, of one config.
        recorded: Kinds of services that answer from the logs.

    Raises:
        InputError: a live service cannot be constructed, or renders what the logs do not hold.
        RunFolderError: the logs do not tell what a recorded service declared.
    """
    source = RecordedScenes(recordings)
    first = next(iter(recordings.values()))
    _check_renderer(config, first)
    live = [kind for kind in KINDS if kind not in recorded]
    here: dict[str, Any] = {}
    services: dict[str, Any] = {}
    for kind in SERVICES:
        plugin: PluginConfig = getattr(config, kind)
        if plugin.name == "none":
            continue
        if kind in live:
            _check_masks(kind, plugin.arguments, f"{kind}")
            here[kind] = as_service(kind, registry.create(kind, plugin.name, plugin.arguments))
            services[kind] = _wrapped(kind, here[kind], config, source)
        else:
            here[kind] = services[kind] = RecordedService(kind, recordings, _spec(kind, first))
    return ReplaySetup(
        config=config, source=source, services=Services(**services), here=Services(**here),
        metrics=[], ids=source.ids(), recordings=dict(recordings), recorded=frozenset(recorded),
    )  # fmt: skip


def _spec(kind: str, recording: Recording) -> Any:
    if kind == "policy":
        return recording.policy_spec()
    return recording.renderer_spec() if kind == "renderer" else None


def _wrapped(kind: str, service: Any, config: RunConfig, source: RecordedScenes) -> Any:
    if config.run.wire_precision is not None:
        from omniloop.services.roles import looped_back

        service = looped_back(kind, service, SceneShelf(source))
    return imperfect(kind, service, config.imperfection, config.run.root_seed)


def _check_renderer(config: RunConfig, recording: Recording) -> None:
    rendered = bool(recording.header.schedule.clocks)
    if rendered == (config.renderer.name != "none"):
        return
    what = "frames were" if rendered else "nothing was"
    raise ConfigError(
        f"{what} rendered when {recording.session_id} was recorded",
        where=f"renderer={config.renderer.name}", remedy="leave the renderer as it was",
    )  # fmt: skip


def _check_masks(kind: str, value: Any, key: str) -> None:
    """Refuse settings whose secrets a log does not hold."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check_masks(kind, item, f"{key}.{name}")
    elif isinstance(value, str) and MASK in value:
        raise ConfigError(
            "the log does not hold this secret", where=key,
            remedy=f"give {key}=..., or --service with {kind} to have its answers from the log",
        )  # fmt: skip
