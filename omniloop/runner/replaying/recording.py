"""The log of one rollout as it went: what was asked and answered, and how it ended."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omniloop.core import errors, registry
from omniloop.core.contracts import PolicySpec, RendererSpec
from omniloop.core.errors import OmniloopError, PluginError, RunFolderError, ServiceError
from omniloop.core.scene import Scene
from omniloop.runlog import messages as topics
from omniloop.runlog.codec import decode
from omniloop.runlog.declared import DECLARED, policy_from_document, renderer_from_document
from omniloop.runlog.difference import is_failure
from omniloop.runlog.messages import LogHeader, Observed
from omniloop.runlog.reader import LogEvent, LogReader, iter_frames
from omniloop.scenes.native import scene_from_bytes

FrameKey = tuple[str, int]
"""Camera and capture time."""


class RecordingEnds(ServiceError):
    """The log of a rollout that was interrupted holds no more answers."""


@dataclass(frozen=True)
class Course:
    """How a rollout went, as its log tells.

    Attributes:
        events: Messages of the topics asked for, decoded.
        seen: Topic and time of every message.
        commits_us: From when on each commit holds: the first is that of the context.
        last: Topic of the last message before a failure.
        failure: Why the rollout failed; None if it did not.
        is_whole: Whether it ended: neither the log nor the rollout was cut off.
    """

    events: list[LogEvent]
    seen: frozenset[tuple[str, int]]
    commits_us: tuple[int, ...]
    last: str
    failure: OmniloopError | None
    is_whole: bool


class Recording:
    """The log of one rollout as a source of answers.

    Raises:
        RunFolderError: it cannot be read, or is of a newer version.

    Attributes:
        header: What it begins with.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = LogReader(path)
        self.header: LogHeader = self._reader.header()
        self.images = Images(path)

    @property
    def session_id(self) -> str:
        """``<scene>/<seed>``."""
        return self.header.session_id

    @functools.cached_property
    def bundle(self) -> bytes:
        """The scene that it carries.

        Raises:
            RunFolderError: it carries none, or one that is damaged.
        """
        return self._reader.scene_bundle()

    def scene(self) -> Scene:
        """The scene that it carries.

        Raises:
            RunFolderError: it carries none, or one that is damaged.
            SceneError: it cannot be read.
        """
        return scene_from_bytes(self.bundle, f"{self.path}, {topics.SCENE_ATTACHMENT}")

    def course(self, wanted: Iterable[str] = ()) -> Course:
        """Read the log once.

        Raises:
            RunFolderError: a message cannot be read.
        """
        keep = set(wanted)
        events, seen, commits_us = [], set(), []
        last, before = None, None
        for message in self._reader.messages():
            if message.topic.startswith(topics.PREFIX):
                seen.add((message.topic, message.time_us))
                if message.topic == topics.COMMIT:
                    commits_us.append(message.time_us)
                before, last = last, message
        if keep:
            events = list(self._reader.events(tuple(keep)))
        failed = last is not None and is_failure(last)
        end_us = self.header.schedule.end_us
        failure = None
        if last is not None and failed and last.time_us == end_us:
            failure = _error(decode(topics.NOTICE, last.data).text)
        shown = before if failure is not None else last
        whole = failure is not None or (last is not None and last.topic == topics.END)
        topic = "" if shown is None else shown.topic
        return Course(events, frozenset(seen), tuple(commits_us), topic, failure, whole)

    def lacks(self, course: Course, service: str, time_us: int) -> OmniloopError:
        """What becomes of a request that the log holds no answer to.

        Where the rollout failed, the service fails as it did then.
        """
        if course.failure is not None:
            return course.failure
        if not course.is_whole:
            return RecordingEnds(
                f"the log ends before {service} answered at {time_us} us", where=str(self.path)
            )
        return ServiceError(
            f"the log holds no answer of {service} to a request at {time_us} us",
            where=str(self.path), remedy="the rollout went on otherwise when it was recorded",
        )  # fmt: skip

    # --------------------------------------------------------------- what was declared

    def policy_spec(self) -> PolicySpec:
        """What the policy declared.

        Raises:
            RunFolderError: the log, of an earlier version, does not tell, nor does the plugin.
        """
        told = self._declared("policy")
        spec: PolicySpec
        if told is not None:
            spec = self._read(policy_from_document, told)
            return spec
        spec = self._of_plugin("policy").spec
        observed = [
            e.value for e in self._reader.events((topics.OBSERVATION,)) if isinstance(e.value, Observed)
        ]  # fmt: skip
        return replace(
            spec,
            privileged=frozenset(self.header.privileged),
            cameras=tuple(observed[0].frames) if observed else spec.cameras,
            route=any(o.route is not None for o in observed),
        )

    def renderer_spec(self) -> RendererSpec | None:
        """What the renderer declared, with the cameras of the log; None if nothing was rendered.

        Raises:
            RunFolderError: the log, of an earlier version, does not tell, nor does the plugin.
        """
        clocks = self.header.schedule.clocks
        if not clocks:
            return None
        told = self._declared("renderer")
        spec: RendererSpec
        if told is None:
            spec = self._of_plugin("renderer").spec
        else:
            spec = self._read(renderer_from_document, told)
        ids = tuple(clock.camera_id for clock in clocks)
        return replace(spec, cameras=ids, max_sessions=None, needs_first_frame=False)

    def _declared(self, kind: str) -> Any:
        declared = self.header.config.get(DECLARED)
        return declared.get(kind) if isinstance(declared, Mapping) else None

    def _read(self, reader: Any, told: Any) -> Any:
        try:
            return reader(told)
        except ValueError as error:
            raise RunFolderError(
                f"the header's settings cannot be read: {error}", where=str(self.path),
                remedy="read the log with the version of omniloop that wrote it",
            ) from error  # fmt: skip

    def _of_plugin(self, kind: str) -> Any:
        told = self.header.config.get(kind)
        settings = dict(told) if isinstance(told, Mapping) else {}
        name = str(settings.pop("name", ""))
        try:
            return registry.create(kind, name, settings)
        except PluginError as error:
            raise RunFolderError(
                f"the log does not tell what the {kind} declared, and its plugin cannot be asked:"
                f" {error.what}", where=str(self.path),
                remedy=f"install the plugin '{name}', or give {kind}=NAME of another to run live",
            ) from error  # fmt: skip


def _error(text: str) -> OmniloopError:
    """A failure as it is noted at the end of a log: ``PolicyError: ...``."""
    name, _, what = text.partition(": ")
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, OmniloopError):
        return kind(what)
    return ServiceError(what)


class Images:
    """The delivered images of a log, read once from its start to its end where they are asked for
    in the order of their delivery, or nearly so."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.forget()

    def forget(self) -> None:
        """Let go of what was read."""
        self._waiting: dict[FrameKey, bytes] = {}
        self._frames = iter_frames(self._path)

    def get(self, key: FrameKey) -> bytes:
        """The image of a frame that was delivered.

        Raises:
            RunFolderError: the log does not hold it.
        """
        for attempt in range(2):
            if key in self._waiting:
                return self._waiting.pop(key)
            for frame in self._frames:
                here = (frame.camera_id, frame.capture_us)
                if here == key:
                    return frame.image
                self._waiting[here] = frame.image
            if not attempt:
                self.forget()
        raise RunFolderError(
            f"the image of {key[0]} captured at {key[1]} us is missing", where=str(self._path),
            remedy="ask for the whole log",
        )  # fmt: skip
