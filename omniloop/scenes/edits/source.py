"""A scene source whose scenes are edited as they are loaded."""

from __future__ import annotations

from omniloop.core.contracts import SceneSource
from omniloop.core.scene import Scene
from omniloop.scenes.edits.apply import apply_edits
from omniloop.scenes.edits.files import EditList


def edited(scene: Scene, edits: EditList) -> Scene:
    """A scene after the edits of all files, in order.

    Raises:
        EditRefused: an edit does not fit the scene.
    """
    for where, part in edits.parts:
        scene = apply_edits(scene, part, where=where)
    return scene


class EditedScenes:
    """The scenes of another source, each edited after it is loaded.

    Args:
        source: Where scenes come from.
        edits: What is done to each.

    Attributes:
        unedited: The other source.
    """

    def __init__(self, source: SceneSource, edits: EditList) -> None:
        self.unedited = source
        self._edits = edits

    def ids(self) -> list[str]:
        """Scene ids of the source."""
        return self.unedited.ids()

    def load(self, scene_id: str) -> Scene:
        """Load one scene and edit it.

        Raises:
            SceneError: the source has none.
            EditRefused: an edit does not fit it.
        """
        return edited(self.unedited.load(scene_id), self._edits)
