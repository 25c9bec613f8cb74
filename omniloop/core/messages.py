"""The messages of the contracts: frozen dataclasses over numpy arrays.

Frames of reference and units stand in the names; times are integers of microseconds.
`omniloop.core.contracts` holds the services that exchange them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from omniloop.core.calls import CallFunnel
from omniloop.core.errors import ConfigError
from omniloop.core.geometry import Array
from omniloop.core.motion import (
    EMPTY_TRAJECTORY,
    ActorMotion,
    EgoMotion,
    Mask,
    Times,
    Trajectory,
)
from omniloop.core.scene import Actor, Scene, VectorMap, Vehicle
from omniloop.core.time import frame_interval_us

# --------------------------------------------------------------------------- policy


@dataclass(frozen=True)
class ImageHistory:
    """Frames per camera that a policy looks at: `count` frames at `rate_hz`, newest last.

    They are chosen by time: for each wished instant ``t - k / rate_hz`` the newest
    delivered frame at or before it, or the oldest there is.
    """

    count: int = 1
    rate_hz: float = 10.0


@dataclass(frozen=True)
class PolicySpec:
    """What a policy needs and gives, declared as data and checked before a run starts.

    Attributes:
        cameras: Camera ids it needs; empty if it looks at none; None for whatever the
            renderer delivers.
        images: Image history per camera.
        ego_history_s: How far back its ego history reaches.
        ego_history_hz: Ego history resampled at this rate, ending at t; None for the
            states as they were committed.
        rate_hz: The rate at which it wants to plan; None for any. A coarser decision
            grid throttles it, and the result says so.
        horizon_s: How far its plans reach; must cover a decision period.
        route: Whether it takes a route.
        privileged: Any of "actors", "map" and "recording".
        everything: It is told every delivered frame and every ego state since the decision
            before, as a driver that is pushed its observations; `images` and `ego_history_s`
            then only say how much it must have seen by handover.
    """

    cameras: tuple[str, ...] | None = ()
    images: ImageHistory = ImageHistory()
    ego_history_s: float = 0.0
    ego_history_hz: float | None = None
    rate_hz: float | None = None
    horizon_s: float = 5.0
    route: bool = True
    privileged: frozenset[str] = frozenset()
    everything: bool = False


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """An encoded image with its times.

    Attributes:
        image: JPEG or PNG bytes.
        start_us: Start of the shutter.
        capture_us: End of the shutter: the frame's logical time.
        available_us: When it reaches the policy, never before `capture_us`.
    """

    camera_id: str
    image: bytes
    start_us: int
    capture_us: int
    available_us: int

    @property
    def is_lost(self) -> bool:
        """Whether an injected fault took its image: it is logged, not delivered."""
        return not self.image


@dataclass(frozen=True, eq=False)
class Route:
    """The way ahead.

    Attributes:
        time_us: The instant whose rig frame holds the waypoints.
        waypoints_rig: ``(N, 3)``, N >= 2, finite, never padded; the first is the ego's
            projection on the route.
    """

    time_us: int
    waypoints_rig: Array


@dataclass(frozen=True, eq=False)
class Observation:
    """All that a policy sees at a decision.

    Attributes:
        session_id: One rollout's name; the same through its life.
        scene_id: The scene's name.
        seed: The policy's seed in this rollout.
        time_us: The decision's time t.
        next_decision_us: The next decision: a plan must reach it.
        ego: Estimated ego states up to t, newest last, as far back as declared.
        frames: Camera id to frames delivered up to t, newest last.
        route: If declared and known.
        vehicle: The ego vehicle.
        actors: Privileged: who the actors are, and `actor_motion` their committed motion.
        actor_motion: Privileged: committed motion up to and at t.
        map: Privileged: the vector map.
        recording: Privileged: the recorded ego motion, ``local_to_rig``, whole.
    """

    session_id: str
    scene_id: str
    seed: int
    time_us: int
    next_decision_us: int
    ego: EgoMotion
    frames: dict[str, tuple[CameraFrame, ...]]
    route: Route | None
    vehicle: Vehicle
    actors: tuple[Actor, ...] | None = None
    actor_motion: ActorMotion | None = None
    map: VectorMap | None = None
    recording: Trajectory | None = None

    @property
    def frame_age_us(self) -> dict[str, int]:
        """Age of the newest frame of each camera: t minus its capture time."""
        return {c: self.time_us - f[-1].capture_us for c, f in self.frames.items() if f}


@dataclass(frozen=True, eq=False)
class Plan:
    """What a policy returns.

    Attributes:
        local_to_rig: Future poses; the first is the anchor, normally ego at t. Empty
            means "not ready yet", which is accepted during warm-up only.
        samples: Further sampled trajectories, if the policy has them.
        reasoning: Text that explains the plan; may be empty.
        terminate: Ask the rollout to end here; dropped in warm-up with the rest of the plan.
    """

    local_to_rig: Trajectory = EMPTY_TRAJECTORY
    samples: tuple[Trajectory, ...] = ()
    reasoning: str = ""
    terminate: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.local_to_rig, Trajectory):
            raise TypeError(
                f"a plan's local_to_rig is a Trajectory, not a {type(self.local_to_rig).__name__}"
            )


@dataclass(frozen=True)
class SessionInfo:
    """Which rollout a session serves.

    Attributes:
        session_id: The same string in every service: ``<scene>/<seed>``.
        seed: This service's own seed, derived from the root seed by name.
        handover_us: When ego and traffic leave the recording.
        call: The rollout's funnel, for services that make calls of their own.
        address: Where a service that is elsewhere shall open the session; empty if it may choose.
        wire_uuid: What a driver that is elsewhere shall know the session by; empty if its client
            may choose.
        is_retry: Whether an earlier attempt may have left a session of `wire_uuid` open there.
    """

    session_id: str
    scene: Scene
    seed: int
    vehicle: Vehicle
    start_us: int
    handover_us: int
    end_us: int
    call: CallFunnel = field(default_factory=lambda: CallFunnel(""), compare=False)
    address: str = ""
    wire_uuid: str = ""
    is_retry: bool = False


# -------------------------------------------------------------------------- traffic


@dataclass(frozen=True, eq=False)
class TrafficRequest:
    """Ask for every actor's motion through ``(time_us, target_us]``.

    Attributes:
        ego_local_to_aabb: Ego's box centre at its states in ``(time_us, target_us]``.
        current: Every actor's committed state at `time_us` (one time).
    """

    time_us: int
    target_us: int
    ego_local_to_aabb: Trajectory
    current: ActorMotion


# ------------------------------------------------------------- controller and ground


@dataclass(frozen=True, eq=False)
class VehicleRequest:
    """Ask for ego's motion through ``(time_us, target_us]``.

    Attributes:
        local_to_rig: ``(7,)`` true pose at `time_us`.
        dynamics: ``(12,)`` motion at `time_us`, see `EgoMotion`.
        plan_local_to_rig: The plan in force, in the true local frame. It is relative to
            ego's own pose at the plan's first timestamp.
        coerce: Warm-up: take `dynamics` as the state; the answer will be dropped.
    """

    time_us: int
    target_us: int
    local_to_rig: Array
    dynamics: Array
    plan_local_to_rig: Trajectory
    coerce: bool = False


class GroundStatus(Enum):
    """How a pose was grounded; numbers of AlpaSim's physics service."""

    SUCCESSFUL_UPDATE = 0
    UNKNOWN = 1
    INSUFFICIENT_POINTS_FITPLANE = 2
    HIGH_TRANSLATION = 3
    HIGH_ROTATION = 4


@dataclass(frozen=True, eq=False)
class GroundRequest:
    """Ask for boxes to be set on the ground.

    Attributes:
        local_to_aabb: ``(N, 7)`` box centres.
        sizes_m: ``(N, 3)``.
        times_us: ``(N,)`` when each box is there.
        time_us: The decision; the boxes are those of the interval after it.
        target_us: The end of the interval.
        is_ego: Whether they are ego's states, else those of other actors.
    """

    local_to_aabb: Array
    sizes_m: Array
    times_us: Times
    time_us: int
    target_us: int
    is_ego: bool


@dataclass(frozen=True, eq=False)
class GroundResult:
    """Poses ``(N, 7)`` in the request's order with a status ``(N,)`` of `GroundStatus` values."""

    local_to_aabb: Array
    status: np.ndarray


# ------------------------------------------------------------------------- renderer


@dataclass(frozen=True)
class ChunkRule:
    """How many frames a chunked renderer makes at a time.

    The first chunk has ``1 + 4 (m - 1)`` frames and the rest ``4 m``: 5/8, 9/12, 13/16
    (OmniDreams, `seeds/omnidreams.txt` section 6.4).

    Raises:
        ConfigError: `frames` is not a positive multiple of 4.
    """

    frames: int
    fps: int

    def __post_init__(self) -> None:
        if self.frames < 4 or self.frames % 4:
            raise ConfigError(
                f"a chunk of {self.frames} frames is not a multiple of 4",
                remedy="choose 4, 8, 12 or 16 frames",
            )

    @property
    def first_frames(self) -> int:
        """Frames in the first chunk."""
        return self.frames - 3

    @property
    def frame_interval_us(self) -> int:
        """``1_000_000 // fps``."""
        return frame_interval_us(self.fps)

    @property
    def duration_us(self) -> int:
        """Time from one regular chunk to the next."""
        return self.frames * self.frame_interval_us


@dataclass(frozen=True)
class RendererSpec:
    """What a renderer can do, declared as data.

    Attributes:
        chunk: Its chunk rule, or None for a per-frame renderer.
        fps: Frame rate of cameras that declare no interval of their own (per frame).
        size: Delivered ``(width, height)``.
        cameras: Camera ids to render; None for the default of `select_cameras`.
        shutter_us: Shutter of cameras that declare none.
        stateful: Whether a session carries state from one call to the next.
        max_sessions: Sessions at once; None for any number.
        camera_models: Camera models it understands: "ftheta", "pinhole".
        size_multiple: Width and height must be multiples of this.
        needs_first_frame: It starts from a recorded image of every camera.
    """

    chunk: ChunkRule | None
    fps: int = 30
    size: tuple[int, int] = (1280, 704)
    cameras: tuple[str, ...] | None = None
    shutter_us: int = 0
    stateful: bool = False
    max_sessions: int | None = None
    camera_models: tuple[str, ...] = ("ftheta", "pinhole")
    size_multiple: int = 2
    needs_first_frame: bool = False


@dataclass(frozen=True, eq=False)
class RenderRequest:
    """Ask for frames; every state it holds is committed.

    Attributes:
        times_us: ``(T,)`` all instants that the frames need, strictly increasing.
        local_to_rig: ``(T, 7)`` true ego poses at those instants.
        actors: Who the other actors are.
        actor_motion: Their motion at exactly `times_us`.
        camera_index: ``(F,)`` which session camera each frame is of.
        start_index: ``(F,)`` index into `times_us` of the shutter start.
        end_index: ``(F,)`` index into `times_us` of the shutter end (capture time).

    Frames are in order of capture time, then camera.
    """

    times_us: Times
    local_to_rig: Array
    actors: tuple[Actor, ...]
    actor_motion: ActorMotion
    camera_index: np.ndarray
    start_index: np.ndarray
    end_index: np.ndarray

    def __len__(self) -> int:
        return len(self.camera_index)


@dataclass(frozen=True, eq=False)
class RenderResult:
    """Encoded images in the request's order.

    Attributes:
        images: One JPEG or PNG per frame.
        condition_images: What the model was conditioned on, one per frame, if asked for.
        lost: ``(F,)`` frames that an injected fault takes: they never reach the policy.
        late_us: ``(F,)`` injected delays, not negative; None for none.
    """

    images: tuple[bytes, ...]
    condition_images: tuple[bytes, ...] = ()
    lost: Mask | None = None
    late_us: Times | None = None
