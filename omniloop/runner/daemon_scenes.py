"""Scenes that requests to the daemon prepare for one another."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

from omniloop.core.contracts import PolicySpec, RendererSpec, SceneSource
from omniloop.core.scene import Scene
from omniloop.runner.assemble import PreparedScene, Setup
from omniloop.scenes.usdz import UsdzScenes
from omniloop.services.runtime_codec import SceneFacts

_PREPARED = 32
_BUNDLE_BYTES = 256 << 20
_PUBLISHED = ("uuid", "dataset_hash", "version_string", "training_date")

_Declared = tuple[PolicySpec, RendererSpec | None]
"""What, besides the daemon's settings, decides how a scene is prepared."""


def facts_of(scene: Scene, sha256: str, source: SceneSource) -> SceneFacts:
    """What clients are told of a scene.

    Args:
        sha256: Of its bundle.
        source: Where it is from; one of archives also says what these publish of themselves.

    Raises:
        SceneError: the archive is gone, or damaged by now.
    """
    cameras = tuple(camera.id for camera in scene.cameras)
    facts = SceneFacts(sha256, cameras, scene.start_us, scene.end_us)
    if not isinstance(source, UsdzScenes):
        return facts
    found = source.metadata(scene.id)
    sensors = found.get("sensors")
    lidars = sensors.get("lidar_ids") if isinstance(sensors, Mapping) else None
    return replace(
        facts,
        published={key: _text(found[key]) for key in _PUBLISHED if found.get(key) is not None},
        lidar_ids=tuple(map(_text, lidars)) if isinstance(lidars, list) else (),
    )


def _text(value: object) -> str:
    """As a message can hold it: YAML knows dates, and halves of characters."""
    return str(value).encode("utf-8", "replace").decode()


class SharedScenes:
    """The latest prepared scenes, up to 32, and bundles, up to 256 MiB; used in one thread.

    Attributes:
        facts: Of every scene that was ever loaded here.
    """

    def __init__(self) -> None:
        self.facts: dict[str, SceneFacts] = {}
        self._prepared: OrderedDict[tuple[_Declared, str], PreparedScene] = OrderedDict()
        self._bundles: OrderedDict[str, bytes] = OrderedDict()

    def lend(self, setup: Setup) -> None:
        """Give a new setup what is known."""
        declared = (setup.policy_spec, setup.renderer_spec)
        wanted = setup.config.scenes.ids or ()
        for scene_id in wanted:
            prepared = self._prepared.get((declared, scene_id))
            if prepared is not None:
                setup.prepared[scene_id] = prepared
            if scene_id in self._bundles:
                setup.bundles[scene_id] = self._bundles[scene_id]

    def keep(self, setup: Setup) -> None:
        """Take what a setup has prepared."""
        declared = (setup.policy_spec, setup.renderer_spec)
        for scene_id, prepared in setup.prepared.items():
            self._prepared[declared, scene_id] = prepared
            self._prepared.move_to_end((declared, scene_id))
        for scene_id, bundle in setup.bundles.items():
            self._bundles[scene_id] = bundle
            self._bundles.move_to_end(scene_id)
        while len(self._prepared) > _PREPARED:
            self._prepared.popitem(last=False)
        while sum(map(len, self._bundles.values())) > _BUNDLE_BYTES and len(self._bundles) > 1:
            self._bundles.popitem(last=False)
