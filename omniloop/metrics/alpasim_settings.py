"""Settings of the `alpasim` family, and which of AlpaSim's defects each mode has.

The definitions are those of AlpaSim's evaluation at commit 3032e0c (NVlabs/alpasim,
``src/eval/src/eval/scorers`` and ``aggregation``; defaults of its ``eval-config.yaml``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omniloop.core.errors import ConfigError
from omniloop.metrics.values import threshold

Compat = Literal["corrected", "strict"]

CAMERA = "camera_front_wide_120fov"
"""The camera whose frames `img_is_black` looks at."""

HORIZONS_S = (0.5, 1.0, 2.5, 5.0)
"""Of ``min_ade@<horizon>s``."""

OPEN_LOOP_US = 3_000_000
"""`open_loop_collision` looks at a plan this far ahead."""


@dataclass(frozen=True)
class Settings:
    """Everything that the series and their aggregation depend on.

    Attributes:
        compat: "strict" has AlpaSim's known defects, "corrected" has none of them.
        max_dist_to_gt_trajectory: Rows after the first at this distance do not count [m].
        vehicle_shrink_factor: Boxes lose this share of length and width.
        vehicle_corner_roundness: Radius of corners over half the shorter side.
        plan_decay: Of the weights ``exp(-plan_decay i)`` in `plan_deviation`.
        plan_min_timesteps: Fewest common times of two plans; "strict" does not look at it.
        progress_saturation: Share of the recorded path that earns the full scene score.
        min_gt_distance_m: Below it the scene score does not look at progress.
        camera: The camera of `img_is_black`.
    """

    compat: Compat = "corrected"
    max_dist_to_gt_trajectory: float = 4.0
    vehicle_shrink_factor: float = 0.02
    vehicle_corner_roundness: float = 0.5
    plan_decay: float = 0.1
    plan_min_timesteps: int = 5
    progress_saturation: float = 0.8
    min_gt_distance_m: float = 5.0
    camera: str = CAMERA

    @property
    def strict(self) -> bool:
        """Whether the defects are in."""
        return self.compat == "strict"

    def checked(self) -> Settings:
        """Return the settings with floats for numbers.

        Raises:
            ConfigError: one cannot be used.
        """
        where = "metrics.alpasim."
        if self.compat not in ("corrected", "strict"):
            raise ConfigError(
                f"{where}compat is {self.compat!r}", remedy="choose corrected or strict"
            )
        for name, least, below in (
            ("vehicle_shrink_factor", 0.0, 1.0),
            ("vehicle_corner_roundness", 0.0, 1.0),
            ("progress_saturation", 0.0, 1.0),
        ):
            value = threshold(where + name, getattr(self, name))
            too_much = value >= below if name == "vehicle_shrink_factor" else value > below
            too_little = value <= least if name == "progress_saturation" else value < least
            if too_much or too_little:
                raise ConfigError(
                    f"{where}{name} is {value:g}", remedy="give a share between 0 and 1"
                )
        for name in ("max_dist_to_gt_trajectory", "plan_decay", "min_gt_distance_m"):
            threshold(where + name, getattr(self, name))
        steps = self.plan_min_timesteps
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ConfigError(
                f"{where}plan_min_timesteps is {steps!r}", remedy="give a whole number, 1 or more"
            )
        if not isinstance(self.camera, str) or not self.camera:
            raise ConfigError(f"{where}camera is {self.camera!r}", remedy="give a camera's id")
        return self
