"""Writing a rollout's log: MCAP, in place, one method per event.

The file holds simulated values only. The same calls write the same bytes: channels,
schemas, compression and the library's name are fixed, and times are simulated.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from mcap.writer import CompressionType

from omniloop.core.contracts import (
    CameraFrame,
    GroundResult,
    Observation,
    RenderRequest,
    Route,
    VehicleRequest,
)
from omniloop.core.errors import ConfigError, RunFolderError, SceneError
from omniloop.core.motion import ActorMotion, EgoMotion
from omniloop.core.record import Decision
from omniloop.core.scene import Scene
from omniloop.runlog import codec, views
from omniloop.runlog import messages as topics
from omniloop.runlog.channels import ALL_TOPICS, schema_of
from omniloop.runlog.messages import LogHeader
from omniloop.runlog.quick_mcap import QuickWriter
from omniloop.runlog.redact import without_secrets

LIBRARY = "omniloop"
"""The writer's name in the file; without a version, which would change the bytes."""

CHUNK_BYTES = 1 << 20

LATEST_US = (2**63 - 1) // 1000
"""A log's times are nanoseconds, and readers of MCAP take them as 63 bits."""


class LogWriter:
    """Writes ``log.mcap``; a recorder of the loop.

    Call `scene` and `header` first, then the loop's methods in simulated order, then
    `close`. What is written becomes readable chunk by chunk, so a log that is cut off
    loses at most the last megabyte; `result.json`, not the log, tells that a rollout is
    complete.

    Args:
        path: The file; one that is there is replaced.

    Attributes:
        frame_counts: Frames delivered so far, by camera.
        notices: Texts noted so far.

    Raises:
        RunFolderError: by any method, if the file cannot be written. Later calls do nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failed = False
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._scene_view: views.SceneView | None = None
        self._told_until_us: int | None = None
        self._observed: Route | None = None
        self.frame_counts: dict[str, int] = {}
        self.notices: list[str] = []
        self._do(self._open)

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---------------------------------------------------------------- beginning

    def scene(self, bundle: bytes) -> None:
        """Store the scene bundle, so that the log alone is enough to score again."""
        self._do(
            lambda: self._writer.add_attachment(
                0, 0, topics.SCENE_ATTACHMENT, "application/zip", bundle
            )
        )

    def header(self, header: LogHeader, scene: Scene) -> None:
        """Write what the rollout is.

        Args:
            scene: Whose actors and vehicle the viewer's boxes are.

        Raises:
            SceneError: the rollout starts before time 0 or ends after `LATEST_US`.
            ConfigError: a seed does not fit 63 bits, or a setting is not JSON-able.
        """
        start_us = header.schedule.context_start_us
        if start_us < 0:
            raise SceneError(
                f"the recording starts at {start_us} us; a log holds no time before 0",
                where=f"scene {header.scene_id}",
                remedy="shift the recording's times so that they start at 0 or later",
            )
        if header.schedule.end_us > LATEST_US:
            raise SceneError(
                f"the recording ends at {header.schedule.end_us} us; a log holds no time after {LATEST_US}",
                where=f"scene {header.scene_id}", remedy="shift the recording's times to earlier ones",
            )  # fmt: skip
        if not 0 <= header.seed < 2**63:
            raise ConfigError(
                f"seed is {header.seed}", where="run.seeds", remedy="give seeds from 0 to 2^63 - 1"
            )
        try:
            config = json.dumps(without_secrets(header.config), sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"the settings are not JSON: {error}", where=header.session_id
            ) from error
        self._scene_view = views.SceneView(scene.actors, scene.vehicle)
        self._add(topics.HEADER, start_us, codec.encode_header(header, config))

    # ----------------------------------------------------------------- the loop

    def observation(self, observation: Observation) -> None:
        """The policy is told this."""
        data = codec.encode_observation(observation, self._told_until_us)
        if len(observation.ego):
            self._told_until_us = int(observation.ego.times_us[-1])
        self._observed = observation.route
        self._add(topics.OBSERVATION, observation.time_us, data)

    def plan(self, decision: Decision) -> None:
        """The policy answered."""
        self._add(topics.PLAN, decision.time_us, codec.encode_plan(decision, self._observed))
        view = views.encode_plan_view(decision.time_us, decision.plan.local_to_rig)
        self._add(topics.VIEW_PLAN, decision.time_us, view)

    def vehicle(self, request: VehicleRequest, answer: EgoMotion) -> None:
        """The controller answered."""
        self._add(topics.VEHICLE, request.time_us, codec.encode_vehicle(request, answer))

    def ground(self, time_us: int, subject: str, result: GroundResult) -> None:
        """The ground corrected "ego" or "actors"."""
        self._add(topics.GROUND, time_us, codec.encode_ground(time_us, subject, result))

    def traffic(self, time_us: int, answer: ActorMotion) -> None:
        """The traffic answered."""
        self._add(topics.TRAFFIC, time_us, codec.encode_traffic(time_us, answer))

    def commit(
        self, time_us: int, ego_true: EgoMotion, ego_estimated: EgoMotion, actors: ActorMotion
    ) -> None:
        """States were committed; the frontier is the last of them."""
        data = codec.encode_commit(time_us, ego_true, ego_estimated, actors)
        self._add(topics.COMMIT, time_us, data)
        self._add(
            topics.VIEW_TRANSFORMS, int(ego_true.times_us[0]), views.encode_transforms(ego_true)
        )
        if self._scene_view is not None:
            self._add(topics.VIEW_SCENE, int(actors.times_us[-1]), self._scene_view.encode(actors))

    def render_request(self, time_us: int, request: RenderRequest) -> None:
        """Frames were asked for."""
        self._add(topics.RENDER_REQUEST, time_us, codec.encode_render_request(time_us, request))

    def frame(self, frame: CameraFrame) -> None:
        """A frame was delivered."""
        self.frame_counts[frame.camera_id] = self.frame_counts.get(frame.camera_id, 0) + 1
        self._add(topics.FRAME, frame.available_us, codec.encode_frame(frame))
        self._add(
            topics.CAMERA_PREFIX + frame.camera_id, frame.available_us, views.encode_image(frame)
        )

    def lost_frame(self, frame: CameraFrame) -> None:
        """A frame was not delivered, as a fault was injected."""
        self._add(topics.LOST_FRAME, frame.available_us, codec.encode_frame(frame))

    def notice(self, time_us: int, text: str) -> None:
        """Something that a reader of the log should know."""
        self.notices.append(text)
        self._add(topics.NOTICE, time_us, codec.encode_notice(time_us, text))

    def end(self, time_us: int, stopped_by: str) -> None:
        """The rollout ended with its frontier at `time_us`; `stopped_by` is empty at the
        schedule's end."""
        self._add(topics.END, time_us, codec.encode_end(time_us, stopped_by))

    def copy(self, topic: str, time_us: int, data: bytes) -> None:
        """Write a message as it is in another log."""
        self._add(topic, time_us, data)

    def close(self) -> None:
        """Finish the file; a second call does nothing."""
        if self._file.closed:
            return
        self._do(self._finish)

    # ------------------------------------------------------------------- output

    def _open(self) -> None:
        self._file = self._path.open("wb")
        self._writer = QuickWriter(
            self._file, chunk_size=CHUNK_BYTES, compression=CompressionType.LZ4
        )
        self._writer.start(profile="", library=LIBRARY)
        for topic in ALL_TOPICS:
            self._channel(topic)

    def _channel(self, topic: str) -> int:
        if topic not in self._channels:
            name, schema = schema_of(topic)
            if name not in self._schemas:
                self._schemas[name] = self._writer.register_schema(name, "protobuf", schema)
            self._channels[topic] = self._writer.register_channel(
                topic, "protobuf", self._schemas[name]
            )
        return self._channels[topic]

    def _add(self, topic: str, time_us: int, data: bytes) -> None:
        if self._failed:
            return
        time_ns = int(time_us) * 1000
        try:
            self._writer.add_message(self._channel(topic), time_ns, data, time_ns)
        except OSError as error:
            raise self._failure(error) from error

    def _finish(self) -> None:
        self._writer.finish()
        self._file.close()

    def _do(self, write: Callable[[], object]) -> None:
        """Run one piece of output; after a failure the file is closed and left as it is."""
        if self._failed:
            return
        try:
            write()
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> RunFolderError:
        """Close the file for good and say why."""
        self._failed = True
        file = getattr(self, "_file", None)
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()  # it flushes, which fails once more
        return RunFolderError(
            f"the log cannot be written: {error.strerror or error}",
            where=str(self._path),
            remedy="free some space, make it writable, or choose another run.dir; then run.resume=true",
        )
