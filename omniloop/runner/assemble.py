"""Turn a config into plugins, services and prepared scenes; find bad input before a start."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from omniloop.configs.schema import PluginConfig, RunConfig, ScenesConfig
from omniloop.core import registry
from omniloop.core.cameras import Camera
from omniloop.core.contracts import PolicySpec, RendererSpec, SceneSource
from omniloop.core.load import Load
from omniloop.core.local import as_service
from omniloop.core.record import Metric
from omniloop.core.replay import RecordedActors
from omniloop.core.route import RouteLine, route_from_lanes, route_from_recording
from omniloop.core.scene import Scene
from omniloop.core.schedule import Schedule, build_schedule
from omniloop.imperfection.service import imperfect
from omniloop.metrics.scoring import check_names
from omniloop.orchestrator.compat import cameras_for, check_schedule, check_specs
from omniloop.orchestrator.services import Services
from omniloop.runner.fitness import (
    Admission,
    Exclusion,
    about_the_scene,
    check_extent,
    check_recording,
)
from omniloop.runner.suite import ResolvedSuite, SceneContent, resolve
from omniloop.scenes.native import scene_from_bytes, scene_to_bytes
from omniloop.scenes.opening import check_ids, open_scenes, with_edits

_SCENES_IN_MEMORY = 8
_BUNDLE_BYTES = 64 << 20
"""Scenes wait for their rollouts as bundles up to this size in all, beyond it in their files."""


@dataclass(frozen=True, eq=False)
class PreparedScene:
    """A loaded scene with all that its rollouts share."""

    scene: Scene
    bundle: bytes
    sha256: str
    cameras: tuple[Camera, ...]
    schedule: Schedule
    recorded_actors: RecordedActors
    route: RouteLine | None


def open_source(config: ScenesConfig) -> SceneSource:
    """Construct the scene source of a config; with `scenes.edit` its scenes are edited.

    Raises:
        InputError: the source or an edit file is unknown or unusable.
    """
    source = open_scenes(config.name, config.arguments, config.path)
    return with_edits(source, config.edit, config.set)


def chosen_ids(config: ScenesConfig, source: SceneSource) -> list[str]:
    """Scene ids to run, in order.

    Raises:
        SceneError: a wanted id is unknown, or there is no scene at all.
    """
    have = source.ids()
    where = f"scenes={config.name}" + (f" scenes.path={config.path}" if config.path else "")
    check_ids(config.ids or (), have, where)
    ids = config.ids if config.ids else have
    return list(dict.fromkeys(ids))[: config.limit]


def create_metrics(settings: dict[str, dict[str, Any]]) -> list[Metric]:
    """Construct the metric plugins of a config, in its order.

    Raises:
        ConfigError: two of them give a score of the same name.
    """
    metrics: list[Metric] = [
        registry.create("metrics", name, arguments) for name, arguments in settings.items()
    ]
    check_names(metrics)
    return metrics


def create_services(config: RunConfig, like: Setup | None = None) -> Services:
    """Construct policy, traffic, controller, ground and renderer as services.

    Args:
        like: Another setup of this process: what it has of the same settings is shared, but for
            a remote policy, of which every setup has its own sessions.
    """

    def service(kind: str, plugin: PluginConfig) -> Any:
        if (
            like is not None
            and getattr(like.config, kind) == plugin
            and (kind, plugin.name) != ("policy", "remote")
        ):
            return getattr(like.here, kind)
        return as_service(kind, registry.create(kind, plugin.name, plugin.arguments))

    return Services(
        policy=service("policy", config.policy),
        traffic=service("traffic", config.traffic),
        controller=service("controller", config.controller),
        ground=service("ground", config.ground),
        renderer=None if config.renderer.name == "none" else service("renderer", config.renderer),
    )


def at_wire_precision(services: Services, source: SceneSource) -> Services:
    """Put every service of this process behind its own wire protocol, without a socket."""
    from omniloop.services.roles import looped_back
    from omniloop.services.shelf import SceneShelf

    shelf = SceneShelf(source)
    return Services(**{name: looped_back(name, service, shelf) for name, service in services})


def with_imperfections(services: Services, config: RunConfig) -> Services:
    """Disturb what services are told and answer, outside of the wire."""
    return Services(
        **{
            name: imperfect(name, service, config.imperfection, config.run.root_seed)
            for name, service in services
        }
    )


async def first_contact(services: Services) -> None:
    """Meet services that are elsewhere, in an event loop that ends after it."""
    try:
        await services.connect()
    finally:
        await services.disconnect()


@dataclass(eq=False)
class Setup:
    """Everything a run needs, constructed and checked.

    Attributes:
        here: The services as they are, before wires and imperfections are put around them.
        ids: Scenes that will run, in order.
        hashes: Scene id to the SHA-256 of its bundle.
        edits: Scene id to what was edited in it, of scenes that were.
        tags: Scene id to its words to filter by.
        exclusions: Scenes that will not run.
        contents: What each loaded scene is, excluded ones too.
        suite: The suite that the run is of, if it is of one.
        drawing: Held while a video is drawn.
        loads: How busy services are, by name and address (empty in this process).
        bundles: Scenes that wait for their rollouts.
        shared: Names of the services that another setup has constructed, and met.
        prepared: The last few scenes that were prepared, the latest last.
    """

    config: RunConfig
    source: SceneSource
    services: Services
    here: Services
    metrics: list[Metric]
    ids: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    edits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tags: dict[str, tuple[str, ...]] = field(default_factory=dict)
    exclusions: list[Exclusion] = field(default_factory=list)
    contents: dict[str, SceneContent] = field(default_factory=dict)
    suite: ResolvedSuite | None = None
    drawing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    loads: dict[tuple[str, str], Load] = field(default_factory=dict)
    bundles: dict[str, bytes] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    prepared: OrderedDict[str, PreparedScene] = field(default_factory=OrderedDict)

    @property
    def policy_spec(self) -> PolicySpec:
        """The policy's declaration."""
        return self.services.policy.spec

    @property
    def renderer_spec(self) -> RendererSpec | None:
        """The renderer's declaration."""
        return None if self.services.renderer is None else self.services.renderer.spec

    def loads_at(self, addresses: Mapping[str, str]) -> dict[str, Load]:
        """The loads of the services of a rollout, by name."""
        return {
            name: self.loads.setdefault((name, addresses.get(name, "")), Load())
            for name, _ in self.services
        }

    async def connect(self) -> None:
        """First contact with services elsewhere, but for those that another setup has met.

        Raises:
            InputError: one cannot be reached, or speaks another version.
        """
        own = [s for name, s in self.services if name not in self.shared and hasattr(s, "connect")]
        try:
            await asyncio.gather(*(service.connect() for service in own))
        except BaseException:
            await self.leave()
            raise

    async def leave(self) -> None:
        """Let go of what no other setup can share: a remote policy."""
        if self.config.policy.name == "remote":
            await self.here.policy.disconnect()  # type: ignore[attr-defined]

    def bundle(self, scene_id: str) -> bytes:
        """A scene's bundle, from memory or its source.

        Raises:
            InputError: it is damaged.
        """
        known = self.bundles.get(scene_id)
        return scene_to_bytes(self.source.load(scene_id)) if known is None else known

    def prepare(self, scene_id: str) -> PreparedScene:
        """Load a scene and compute its schedule; the last few stay in memory.

        Raises:
            SceneError: it is damaged, its times are impossible (SceneTooShort: it leaves no
                closed-loop decision), or it does not fit a service (SceneUnfit).
            ConfigError: a setting is wrong, whatever the scene.
        """
        if scene_id in self.prepared:
            self.prepared.move_to_end(scene_id)
            return self.prepared[scene_id]
        bundle = self.bundles.get(scene_id)
        if bundle is None:
            scene = self.source.load(scene_id)
            bundle = scene_to_bytes(scene)
        else:  # the same to the bit, and read ten times faster than most recordings
            scene = scene_from_bytes(bundle, scene_id)
        content = SceneContent.of(scene, bundle)
        self.contents[scene_id] = content
        prepared = self._prepare(scene, bundle, content.sha256)
        if sum(map(len, self.bundles.values())) + len(bundle) <= _BUNDLE_BYTES:
            self.bundles[scene_id] = bundle
        self.prepared[scene_id] = prepared
        if len(self.prepared) > _SCENES_IN_MEMORY:
            self.prepared.popitem(last=False)
        return prepared

    def admit(self, scene_id: str) -> PreparedScene:
        """Prepare a scene and count it among those that will run.

        Raises:
            SceneError: as of `prepare`; EditRefused: an edit does not fit it.
            ConfigError: a setting is wrong, whatever the scene.
        """
        prepared = self.prepare(scene_id)
        self.hashes[scene_id] = prepared.sha256
        self.tags[scene_id] = prepared.scene.tags
        if prepared.scene.edits:
            self.edits[scene_id] = prepared.scene.edits
        self.ids.append(scene_id)
        return prepared

    def _prepare(self, scene: Scene, bundle: bytes, sha256: str) -> PreparedScene:
        config, sync = self.config, self.config.sync
        with about_the_scene():
            cameras = cameras_for(scene, self.policy_spec, self.renderer_spec)
        check_recording(scene, cameras)
        schedule = build_schedule(
            scene, cameras, self.renderer_spec, self.policy_spec,
            decision_period_us=sync.decision_period_us,
            first_decision_us=sync.first_decision_us,
            warmup_s=None if sync.warmup_s == "auto" else sync.warmup_s,
            duration_s=sync.duration_s,
            decisions_per_chunk=sync.decisions_per_chunk,
            postfetch=sync.strategy == "postfetch",
        )  # fmt: skip
        latency_us = sync.decision_latency_us + config.imperfection.latency.longest_us
        check_schedule(self.policy_spec, schedule, latency_us)
        check_extent(scene, schedule)
        with about_the_scene():
            check_services(self.services, self.here, scene, cameras)
        return PreparedScene(
            scene=scene, bundle=bundle, sha256=sha256, cameras=cameras,
            schedule=schedule, recorded_actors=RecordedActors(scene),
            route=route_of(config, self.policy_spec, scene),
        )  # fmt: skip


def check_services(
    services: Services, here: Services, scene: Scene, cameras: tuple[Camera, ...]
) -> None:
    """Let every service refuse the scene, and who makes or sees images the cameras.

    Args:
        here: The services as they are, before wires and imperfections are put around them.

    Raises:
        InputError: one of them does.
    """
    for service in (services.renderer, services.policy):
        check_cameras = getattr(service, "check_cameras", None)
        if check_cameras is not None:
            check_cameras(cameras)
    for kind in ("ground", "controller", "traffic", "renderer", "policy"):
        # A wire does not carry the check of a service behind it.
        for service in dict.fromkeys((getattr(services, kind), getattr(here, kind))):
            check = getattr(service, "check_scene", None)
            if check is not None:
                check(scene)


def route_of(config: RunConfig, policy: PolicySpec, scene: Scene) -> RouteLine | None:
    """The way ahead that a policy is told in a scene; None if it is told none."""
    if config.run.route == "none" or not policy.route:
        return None
    if config.run.route == "lanes":
        return route_from_lanes(scene.map, scene.ego)
    return route_from_recording(scene.ego, scene.map)


def construct(config: RunConfig, source: SceneSource, like: Setup | None = None) -> Setup:
    """Construct services and metrics; first contact with services elsewhere is the caller's.

    Args:
        like: See `create_services`.

    Raises:
        InputError: a plugin is unknown or refuses its arguments.
    """
    services = here = create_services(config, like)
    if config.run.wire_precision is not None:
        services = at_wire_precision(services, source)
    services = with_imperfections(services, config)
    theirs = {} if like is None else dict(like.services)
    shared = frozenset(name for name, service in services if theirs.get(name) is service)
    metrics = create_metrics(config.metrics)
    return Setup(config, source, services, here, metrics, shared=shared)


def assemble(config: RunConfig, notice: Callable[[str], None] = lambda line: None) -> Setup:
    """Construct and check everything, loading each scene once.

    Args:
        notice: See `Admission`.

    Raises:
        InputError: anything the user gave is wrong, or no scene is left to run.
    """
    if config.run.video:
        from omniloop.report.video import require_pyav

        require_pyav()
    setup = construct(config, open_source(config.scenes))
    source = setup.source
    asyncio.run(first_contact(setup.services))
    check_specs(setup.policy_spec, setup.renderer_spec)
    ids = chosen_ids(config.scenes, source)
    admission = Admission(len(ids), notice)
    for scene_id in ids:
        taken = admission.take(scene_id, setup.admit)
        if not taken and config.suite is not None and scene_id not in setup.contents:
            admission.refuse_damage()  # a suite measures the same scenes or none
    setup.exclusions = admission.exclusions
    if not setup.ids:
        raise admission.nothing_left()
    setup.suite = resolve(config, {scene_id: setup.contents.get(scene_id) for scene_id in ids})
    return setup
