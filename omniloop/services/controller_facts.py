"""What a controller's client tells its server beside the messages, if both are Omniloop's.

AlpaSim's start_session carries a uuid only; a controller plugin has a seed and a vehicle.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from omniloop.core.contracts import SessionInfo
from omniloop.core.scene import Vehicle

FACTS_KEY = "omniloop-controller-session"
"""With start_session: the plugin's seed and the ego vehicle, as JSON."""


def facts_to_text(session: SessionInfo) -> str:
    """Seed and vehicle of a rollout."""
    return json.dumps({"seed": session.seed, "vehicle": asdict(session.vehicle)})


def facts_from_text(text: str) -> tuple[int, Vehicle]:
    """Seed and vehicle of a rollout.

    Raises:
        ValueError: the text does not hold them.
    """
    try:
        told = json.loads(text)
        vehicle = Vehicle(**{k: float(v) for k, v in told["vehicle"].items()})
        return int(told["seed"]), vehicle
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{text!r} holds no seed and vehicle: {error}") from error
