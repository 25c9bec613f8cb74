"""What a log holds beside the core's own messages, and the topics that it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from omniloop.core.contracts import Route
from omniloop.core.motion import ActorMotion, EgoMotion, Times
from omniloop.core.schedule import FrameTimes, Schedule

LOG_VERSION = 1
"""Version of the messages; a reader refuses a newer one."""

SCENE_ATTACHMENT = "scene.zip"
"""Name of the attachment that holds the scene bundle."""

PREFIX = "/omniloop/"
HEADER = PREFIX + "header"
OBSERVATION = PREFIX + "observation"
PLAN = PREFIX + "plan"
VEHICLE = PREFIX + "vehicle"
GROUND = PREFIX + "ground"
TRAFFIC = PREFIX + "traffic"
COMMIT = PREFIX + "commit"
RENDER_REQUEST = PREFIX + "render_request"
FRAME = PREFIX + "frame"
LOST_FRAME = PREFIX + "lost_frame"
NOTICE = PREFIX + "notice"
END = PREFIX + "end"

CAMERA_PREFIX = "/camera/"
"""``/camera/<camera_id>`` holds delivered images."""

VIEW_TRANSFORMS = "/view/transforms"
VIEW_SCENE = "/view/scene"
VIEW_PLAN = "/view/plan"
"""Topics below ``/view`` repeat committed states for a viewer; they carry nothing new."""


@dataclass(frozen=True, eq=False)
class LogHeader:
    """What a rollout's log begins with.

    Attributes:
        session_id: ``<scene>/<seed>``.
        seed: The rollout's seed.
        seeds: Each service's own seed, by name of service.
        plugins: Name of the plugin, by kind.
        privileged: What the policy may see beyond sensors.
        scene_sha256: SHA-256 of the scene bundle, in hexadecimal.
        config: JSON-able settings that decide what is simulated. The digest leaves
            them out. Values of keys that look like secrets are masked as they are written.
    """

    session_id: str
    scene_id: str
    seed: int
    schedule: Schedule
    seeds: Mapping[str, int]
    plugins: Mapping[str, str]
    privileged: tuple[str, ...]
    scene_sha256: str
    config: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Observed:
    """What the policy was told, but for images: frames are named by their times.

    Attributes:
        frames: Camera id to ``(capture_us, available_us)`` of each frame, oldest first.
        ego: Estimated states newer than those of the observation before.
        privileged: Which privileged inputs it held.
    """

    time_us: int
    next_decision_us: int
    frames: Mapping[str, tuple[tuple[int, int], ...]]
    ego: EgoMotion
    route: Route | None
    privileged: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FramesAsked:
    """A request to the renderer; states follow from the commits.

    Attributes:
        time_us: When it was made.
        times_us: ``(T,)`` all instants that the frames need.
        frames: ``(F,)`` which camera, shutter start and shutter end.
    """

    time_us: int
    times_us: Times
    frames: FrameTimes


@dataclass(frozen=True)
class FrameInfo:
    """The times of a delivered frame, see `omniloop.core.contracts.CameraFrame`."""

    camera_id: str
    start_us: int
    capture_us: int
    available_us: int


@dataclass(frozen=True)
class Notice:
    """Something that a reader of the log should know."""

    time_us: int
    text: str


@dataclass(frozen=True)
class End:
    """How the rollout ended; `stopped_by` is empty at the schedule's end."""

    frontier_us: int
    stopped_by: str


@dataclass(frozen=True, eq=False)
class Committed:
    """States that became part of the world; the frontier is the last of their times."""

    time_us: int
    ego_true: EgoMotion
    ego_estimated: EgoMotion
    actors: ActorMotion
