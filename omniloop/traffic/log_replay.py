"""Traffic that does what was recorded."""

from __future__ import annotations

from omniloop.core.contracts import SessionInfo, TrafficRequest
from omniloop.core.motion import ActorMotion
from omniloop.core.replay import RecordedActors


class LogReplayTraffic:
    """Replays the recorded actors and does not react to ego.

    Motion passes through the recorded poses at the recorded times. An actor is absent
    where it was not observed; after the recording's end all are, but for static ones.
    """

    def open(self, session: SessionInfo) -> LogReplaySession:
        """Begin a rollout."""
        return LogReplaySession(RecordedActors(session.scene))


class LogReplaySession:
    """One rollout's replay."""

    def __init__(self, recorded: RecordedActors) -> None:
        self._recorded = recorded

    def step(self, request: TrafficRequest) -> ActorMotion:
        """Return the recorded motion through ``(time_us, target_us]``."""
        return self._recorded.between(request.time_us, request.target_us)
