"""Whether ego passes traffic lights on red."""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

from omniloop.core.contracts import MetricValue
from omniloop.core.record import RolloutRecord
from omniloop.metrics.crossings import crossings, light_lines
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import FLAG, NEVER_DRIVEN, NOTHING_DRIVEN, own, undefined

NO_LIGHTS = "the map has no traffic light with known states and a lane"
_UNDEFINED = f"{NEVER_DRIVEN}; the map has no traffic light with known states and a lane"


class RedLightMetric:
    """Whether ego passes stop lines on red, and whether it then goes on through.

    A line of a light is a stop line of the map that shares a lane with it, else the end of a
    lane that the light rules. Ego passes it where the middle of its front edge moves over it in
    the direction of the lane; times between score samples are interpolated. A line is red while
    one of its lights is red or red and yellow and none is green. `stop_line_on_red` is an ego
    whose front passes on red, if only by a hand's breadth; `red_light` one whose rig origin
    follows while the line is still red. Who has passed on yellow may clear the junction.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        own(
            "red_light", FLAG, "1 if ego's front passes a line on red and the rig origin follows on red",
            "any line", "rate", undefined=_UNDEFINED,
            source="Omniloop; that the rear must pass too is CARLA's (`RunningRedLightTest`)",
        ),
        own(
            "stop_line_on_red", FLAG, "1 if ego's front passes a line on red",
            "any line", "rate", undefined=_UNDEFINED,
        ),
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; the crossings are in the details of `red_light`."""
        if score_samples(record) is None:
            return undefined(self.names, NOTHING_DRIVEN)
        if not light_lines(record.scene.map):
            return undefined(self.names, NO_LIGHTS)
        found = crossings(record)
        details: dict[str, object] = {"crossings": [asdict(crossing) for crossing in found]}
        through = any(c.front_red and c.rig_red for c in found)
        over = any(c.front_red for c in found)
        return [
            MetricValue("red_light", float(through), details=details),
            MetricValue("stop_line_on_red", float(over)),
        ]
