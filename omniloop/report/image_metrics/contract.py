"""What a score of pictures is: a plugin of `omniloop backends`.

A plugin sees clips of pairs of pictures, the reference renderer's and another's of the same
moments. It keeps of each clip what it needs, and scores sets of clips: those of a bin. Scores
of pairs (SSIM) and of distributions (FID) are the same kind of plugin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from omniloop.report.intervals import Interval, no_interval

NO_INTERVAL = no_interval("")


@dataclass(frozen=True)
class FramePair:
    """Two encoded pictures (JPEG or PNG) of one camera at one instant.

    Attributes:
        reference: The reference renderer's.
        other: The other's.
    """

    camera_id: str
    capture_us: int
    reference: bytes
    other: bytes

    @property
    def place(self) -> str:
        """Where it is, for a message."""
        return f"{self.camera_id} at {self.capture_us} us"


@dataclass(frozen=True)
class ImageScore:
    """A column of the table of backends.

    Attributes:
        name: A word for a file's column, with its unit where it has one.
        heading: As a reader sees it.
        unit: "" for a number without one.
        has_interval: Whether an interval can be given.
        in_chart: Whether it is drawn over the deviation.
    """

    name: str
    heading: str
    unit: str = ""
    has_interval: bool = False
    in_chart: bool = True


@dataclass(frozen=True)
class Estimate:
    """A score of a set of clips.

    Attributes:
        value: None if it is undefined.
        reason: Why it is; a few words that fit a table's cell.
        interval: Of 95 %, over scenes, where the score can have one.
    """

    value: float | None
    reason: str = ""
    interval: Interval = NO_INTERVAL


class ImageMetric(Protocol):
    """A plugin of the kind ``image_metric``; its constructor arguments are its settings."""

    @property
    def scores(self) -> tuple[ImageScore, ...]:
        """What it gives, in this order."""

    @property
    def absent(self) -> str:
        """Why it gives no scores with these settings; empty if it does."""

    def measure(self, clip: Sequence[FramePair]) -> Any:
        """Keep of a clip what the scores need.

        Args:
            clip: Of all cameras, by camera and then by capture time; never empty.

        Raises:
            ConfigError: pictures cannot be used.
        """

    def score(self, measured: Sequence[Any], scenes: NDArray[np.str_]) -> Sequence[Estimate]:
        """Score a set of clips, an estimate for each of `scores`.

        Args:
            measured: What `measure` gave for each clip; never empty.
            scenes: ``(N,)`` the clips' scenes.
        """

    def notes(self, measured: Sequence[Any]) -> Sequence[str]:
        """What a reader should know of the scores of a backend, given all its clips."""
