"""Which scenes of a batch can be run: one that cannot leaves the others alone."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from omniloop.core.cameras import Camera
from omniloop.core.errors import ConfigError, InputError, OmniloopError, PluginError, SceneError
from omniloop.core.scene import Scene
from omniloop.core.schedule import Schedule
from omniloop.runlog.writer import LATEST_US
from omniloop.scenes.edits.apply import EditRefused

_MOST_DECISIONS = 10_000_000
"""Of one rollout: at 10 Hz more than eleven days."""

_SHORTEST_INTERVAL_US = 1_000
"""Of a camera's frames, as of `omniloop.core.time.frame_interval_us`."""

_MEND_TIMES = "mend the recording's times, or leave the scene out"


class SceneUnfit(SceneError):
    """A scene does not fit renderer, policy or another service; others may.

    Its cause is the error about the setting that it does not fit.
    """


@dataclass(frozen=True)
class Exclusion:
    """A scene that is not run, and why."""

    scene_id: str
    reason: str


@contextmanager
def about_the_scene() -> Iterator[None]:
    """Turn errors about settings into errors about the scene that does not fit them.

    Raises:
        SceneUnfit: instead of a ConfigError or PluginError.
    """
    try:
        yield
    except (ConfigError, PluginError) as error:
        raise SceneUnfit(error.what, where=error.where, remedy=error.remedy) from error


def check_recording(scene: Scene, cameras: tuple[Camera, ...]) -> None:
    """Refuse times that no rollout can have.

    Raises:
        SceneError: it has no ego, starts before time 0, or a camera's frames begin after its end.
    """
    where = f"scene {scene.id}"
    if len(scene.ego) == 0:
        raise SceneError("the scene has no ego pose", where=where, remedy=_MEND_TIMES)
    if scene.start_us < 0:
        raise SceneError(
            f"the recording starts at {scene.start_us} us; a log holds no time before 0",
            where=where, remedy="shift the recording's times so that they start at 0 or later",
        )  # fmt: skip
    for camera in cameras:
        first_us = camera.first_frame_end_us
        if first_us is not None and first_us > scene.end_us:
            raise SceneError(
                f"camera '{camera.id}' has its first frame at {first_us} us, after the recording's end"
                f" at {scene.end_us} us", where=where, remedy=_MEND_TIMES,
            )  # fmt: skip


def check_extent(scene: Scene, schedule: Schedule) -> None:
    """Refuse a rollout without end.

    Raises:
        SceneError: it ends after the last time of a log, has millions of decisions, or a
            camera has more than 1000 frames in a second.
    """
    where = f"scene {scene.id}"
    if schedule.end_us > LATEST_US:
        raise SceneError(
            f"the rollout ends at {schedule.end_us} us; a log holds no time after {LATEST_US}",
            where=where, remedy="shift the recording's times to earlier ones",
        )  # fmt: skip
    if schedule.n_decisions > _MOST_DECISIONS:
        raise SceneError(
            f"the recording of {(scene.end_us - scene.start_us) / 1e6:.1f} s makes {schedule.n_decisions}"
            f" decisions, and {_MOST_DECISIONS} may be", where=where,
            remedy=f"{_MEND_TIMES}, or set sync.duration_s",
        )  # fmt: skip
    for clock in schedule.clocks:
        if clock.interval_us < _SHORTEST_INTERVAL_US or clock.shutter_us < 0:
            raise SceneError(
                f"camera '{clock.camera_id}' has a frame every {clock.interval_us} us with a shutter of"
                f" {clock.shutter_us} us", where=where,
                remedy=f"give intervals of {_SHORTEST_INTERVAL_US} us or more and a shutter of 0 or more",
            )  # fmt: skip


@dataclass
class Admission:
    """Takes scenes in one by one; what is wrong with one of several excludes it.

    Whether any scene fits a setting is known when all are read, which takes minutes for a
    thousand: who mistyped the setting is told at once that the first one does not.

    Attributes:
        of: How many scenes are to be taken in; the error of a single one is raised.
        notice: Told, once, of a setting that a scene does not fit, if none was taken in before.
        exclusions: Those that were not, in order.
        errors: Why not.
    """

    of: int
    notice: Callable[[str], None] = lambda line: None
    exclusions: list[Exclusion] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    _is_settled: bool = False

    def take(self, scene_id: str, admit: Callable[[str], object]) -> bool:
        """Take a scene in; return whether it could be.

        Raises:
            InputError: a setting is wrong, whatever the scene, or this is the only scene.
        """
        try:
            admit(scene_id)
        except SceneError as error:
            self._exclude(scene_id, _told(scene_id, error), error)
            if isinstance(error, SceneUnfit) and not self._is_settled:
                self._is_settled = True
                self._warn(scene_id, error)
        except OmniloopError:
            raise
        except Exception as error:  # a reader's mistake, which may be a stranger's plugin
            if self.of == 1:
                raise
            reason = f"its reader broke down: {type(error).__name__}: {error} ({_place(error)})"
            self._exclude(scene_id, reason, error)
        else:
            self._is_settled = True
            return True
        return False

    def _warn(self, scene_id: str, error: SceneUnfit) -> None:
        left = self.of - len(self.exclusions)
        if left:
            remedy = f" ({error.remedy})" if error.remedy else ""
            self.notice(
                f"scene {scene_id} is excluded: {error.what}{remedy}; {left} more scene(s) are read"
                " to see which can be run"
            )

    def _exclude(self, scene_id: str, reason: str, error: Exception) -> None:
        self.exclusions.append(Exclusion(scene_id, reason))
        self.errors.append(error)

    def refuse_damage(self) -> None:
        """Raise the error of the latest scene that was excluded, unless edits do not fit it.

        Raises:
            SceneError: it is damaged.
        """
        if not isinstance(self.errors[-1], EditRefused):
            raise self.errors[-1]

    def nothing_left(self) -> InputError:
        """The error for a batch of which every scene is excluded: the first one's reason."""
        first, told = self.errors[0], self.exclusions[0]
        error = first.__cause__ if isinstance(first, SceneUnfit) else first
        if not isinstance(error, InputError):
            error = SceneError(told.reason, where=f"scene {told.scene_id}", remedy="mend it")
        if self.of == 1:
            return error
        return type(error)(
            f"every scene is excluded; {told.scene_id}: {error.what}",
            where=f"{error.where}; {self.of} scenes" if error.where else f"{self.of} scenes",
            remedy=error.remedy,
        )


def _told(scene_id: str, error: SceneError) -> str:
    if isinstance(error, EditRefused):
        return f"edit refused: {error.what}"
    place = error.where if error.where != f"scene {scene_id}" else ""
    return f"{error.what} ({place})" if place else error.what


def _place(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"
