"""Whether consecutive plans agree."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from omniloop.core.contracts import MetricValue
from omniloop.core.errors import ConfigError
from omniloop.core.record import RolloutRecord
from omniloop.metrics.definition import MetricDefinition
from omniloop.metrics.plans import LONGEST_US, NO_PLANS, deviation_m, plans_of, steps_of
from omniloop.metrics.samples import score_samples
from omniloop.metrics.values import NEVER_DRIVEN, NOTHING_DRIVEN, own, threshold, undefined

HORIZON_S = 2.0

_TOO_SHORT = "no two consecutive plans reach the horizon"
_UNDEFINED = f"{NEVER_DRIVEN}; {NO_PLANS}; {_TOO_SHORT}"
_SETTINGS = (("horizon_s", HORIZON_S),)


def horizon(setting: str, value: float) -> float:
    """A horizon over which plans are compared.

    Raises:
        ConfigError: it is less than 100 ms or more than 5 s.
    """
    out = threshold(setting, value)
    if steps_of(out) < 1 or out * 1e6 > LONGEST_US:
        raise ConfigError(f"{setting} is {value}", remedy="give 0.1 to 5 seconds")
    return out


class PlanConsistencyMetric:
    """How far each plan departs from the one before it.

    The mean distance of the rig origin between two consecutive plans at the same times, every
    100 ms from 0.1 s after the later decision up to `horizon_s`. Pairs of which a plan does not
    reach the horizon are left out. The plans of a policy that keeps to what it planned are 0 m
    apart; the score does not say whether the plan was good. All times weigh alike (AlpaSim's
    `plan_deviation` weighs them by a decay).

    Args:
        horizon_s: At most 5 s.
    """

    definitions: ClassVar[tuple[MetricDefinition, ...]] = (
        own(
            "plan_deviation_m", "m", "mean over pairs of consecutive plans of their mean distance",
            "mean over pairs", undefined=_UNDEFINED, settings=_SETTINGS,
        ),
        own(
            "plan_deviation_max_m", "m", "max over pairs of consecutive plans of their mean distance",
            "greatest pair", undefined=_UNDEFINED, settings=_SETTINGS,
        ),
    )  # fmt: skip
    names = tuple(d.name for d in definitions)

    def __init__(self, horizon_s: float = HORIZON_S) -> None:
        self.horizon_s = horizon("metrics.plan_consistency.horizon_s", horizon_s)

    def compute(self, record: RolloutRecord) -> list[MetricValue]:
        """See `Metric`; when the plans were farthest apart is in the details."""
        if score_samples(record) is None:
            return undefined(self.names, NOTHING_DRIVEN)
        plans = plans_of(record)
        if plans is None:
            return undefined(self.names, NO_PLANS)
        apart = deviation_m(plans, self.horizon_s)
        pairs = np.flatnonzero(~np.isnan(apart))
        if not len(pairs):
            return undefined(self.names, _TOO_SHORT)
        most = pairs[np.argmax(apart[pairs])]
        details: dict[str, object] = {"at_us": int(plans.times_us[most + 1]), "pairs": len(pairs)}
        return [
            MetricValue("plan_deviation_m", float(apart[pairs].mean())),
            MetricValue("plan_deviation_max_m", float(apart[most]), details=details),
        ]
