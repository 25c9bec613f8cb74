"""The tasks of a request that could begin, by scene."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Task:
    """One rollout of a request."""

    request: str
    scene: str
    seed: int

    @property
    def name(self) -> str:
        """``<scene>/<seed>``."""
        return f"{self.scene}/{self.seed}"


@dataclass(eq=False)
class SceneQueues:
    """The tasks of one request that could begin, grouped by scene.

    Attributes:
        having: How many places have a scene at hand, of the kind that matters to this request.
        count: Tasks in all.
    """

    having: Counter[str]
    count: int = 0
    _tasks: dict[str, deque[tuple[Task, int]]] = field(default_factory=dict)
    _fresh: dict[str, None] = field(default_factory=dict)
    _known: dict[str, None] = field(default_factory=dict)

    def __contains__(self, scene: str) -> bool:
        return scene in self._tasks

    def push(self, task: Task, attempt: int) -> None:
        """Add a task; one that is tried again goes before the others of its scene."""
        queue = self._tasks.get(task.scene)
        if queue is None:
            queue = self._tasks[task.scene] = deque()
            (self._known if task.scene in self.having else self._fresh)[task.scene] = None
        if attempt > 1:
            queue.appendleft((task, attempt))
        else:
            queue.append((task, attempt))
        self.count += 1

    def pop(self, scene: str) -> tuple[Task, int]:
        """Take the next task of a scene, and which attempt it will be."""
        queue = self._tasks[scene]
        found = queue.popleft()
        self.count -= 1
        if not queue:
            del self._tasks[scene]
            self._fresh.pop(scene, None)
            self._known.pop(scene, None)
        return found

    def cold(self) -> str:
        """The scene for a place that has none of those queued.

        It is the first that no place has; else the one with the most tasks, so that a second
        place helps where most is left.
        """
        while self._fresh:
            scene = next(iter(self._fresh))
            if scene not in self.having:
                return scene
            del self._fresh[scene]
            self._known[scene] = None
        return max(self._known, key=lambda s: (s not in self.having, len(self._tasks[s])))

    def clear(self) -> list[Task]:
        """Drop everything; return it."""
        dropped = [task for queue in self._tasks.values() for task, _ in queue]
        self._tasks.clear()
        self._fresh.clear()
        self._known.clear()
        self.count = 0
        return dropped
