"""Scenes that requests to the daemon prepare for one another."""

from __future__ import annotations

from collections import OrderedDict

from omniloop.core.contracts import PolicySpec, RendererSpec
from omniloop.core.scene import Scene
from omniloop.runner.assemble import PreparedScene, Setup
from omniloop.services.runtime_codec import SceneFacts

_PREPARED = 32
_BUNDLE_BYTES = 256 << 20

_Declared = tuple[PolicySpec, RendererSpec | None]
"""What, besides the daemon's settings, decides how a scene is prepared."""


def facts_of(scene: Scene, sha256: str) -> SceneFacts:
    """What clients are told of a scene; `sha256` is its bundle's."""
    cameras = tuple(camera.id for camera in scene.cameras)
    return SceneFacts(sha256, cameras, scene.start_us, scene.end_us)


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
