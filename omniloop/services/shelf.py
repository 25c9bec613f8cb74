"""The scenes that a server has: the wire carries only their ids."""

from __future__ import annotations

from collections import OrderedDict

from omniloop.core.contracts import SceneSource
from omniloop.core.errors import SceneError, nearest
from omniloop.core.scene import Scene

_HELD = 8


class SceneShelf:
    """Scenes by id, loaded when asked for; the last few stay in memory."""

    def __init__(self, source: SceneSource) -> None:
        self._source = source
        self._ids = source.ids()
        self._known = frozenset(self._ids)
        self._held: OrderedDict[str, Scene] = OrderedDict()

    @property
    def ids(self) -> list[str]:
        """All ids, sorted."""
        return self._ids

    @property
    def loaded(self) -> list[str]:
        """Ids in memory."""
        return list(self._held)

    @property
    def capacity(self) -> int:
        """How many stay in memory."""
        return _HELD

    def get(self, scene_id: str) -> Scene:
        """Return a scene.

        Raises:
            SceneError: it is unknown, or cannot be loaded.
        """
        found = self._held.get(scene_id)
        if found is None:
            if scene_id not in self._known:
                raise SceneError(
                    f"Unknown scene '{scene_id}'.{nearest(scene_id, self._ids)}",
                    remedy="serve it: omniloop serve ... scenes=... scenes.path=...",
                )
            found = self._held[scene_id] = self._source.load(scene_id)
        self._held.move_to_end(scene_id)
        if len(self._held) > _HELD:
            self._held.popitem(last=False)
        return found
