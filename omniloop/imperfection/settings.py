"""What can be disturbed, and how much: the config group `imperfection`."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("give a number")
        return value


class EgoMotionSettings(_Strict):
    """Errors of the ego motion that the policy is told.

    Each of the four errors is the sum of a first-order Gauss-Markov process (standard
    deviation, common correlation time) and of white noise on a grid of 100 ms.
    """

    delay_us: int = Field(default=0, ge=0, le=5_000_000)
    along_m: float = Field(default=0.0, ge=0, le=100)
    across_m: float = Field(default=0.0, ge=0, le=100)
    yaw_rad: float = Field(default=0.0, ge=0, le=math.pi)
    speed_mps: float = Field(default=0.0, ge=0, le=100)
    correlation_s: float = Field(default=5.0, ge=0.001, le=1e6)
    white_along_m: float = Field(default=0.0, ge=0, le=100)
    white_across_m: float = Field(default=0.0, ge=0, le=100)
    white_yaw_rad: float = Field(default=0.0, ge=0, le=math.pi)
    white_speed_mps: float = Field(default=0.0, ge=0, le=100)

    @property
    def slow(self) -> tuple[float, float, float, float]:
        """Standard deviations of the Gauss-Markov processes: along, across, yaw, speed."""
        return self.along_m, self.across_m, self.yaw_rad, self.speed_mps

    @property
    def white(self) -> tuple[float, float, float, float]:
        """Standard deviations of the white noise: along, across, yaw, speed."""
        return self.white_along_m, self.white_across_m, self.white_yaw_rad, self.white_speed_mps

    @property
    def is_noisy(self) -> bool:
        """Whether there is an error besides the delay."""
        return any(self.slow) or any(self.white)

    @property
    def is_on(self) -> bool:
        """Whether the estimate differs from the truth."""
        return self.delay_us > 0 or self.is_noisy


class LatencySettings(_Strict):
    """Time from a decision to its plan's effect, beyond `sync.decision_latency_us`."""

    extra_us: int = Field(default=0, ge=0, le=60_000_000)
    jitter_us: int = Field(default=0, ge=0, le=60_000_000)

    @property
    def is_on(self) -> bool:
        """Whether any decision takes effect later."""
        return self.longest_us > 0

    @property
    def longest_us(self) -> int:
        """The most that it can be."""
        return self.extra_us + self.jitter_us


class FrameSettings(_Strict):
    """Frames that are lost or arrive late."""

    loss: float = Field(default=0.0, ge=0, le=1)
    burst_frames: float | None = Field(default=None, ge=1, le=100_000)
    delay_us: int = Field(default=0, ge=0, le=60_000_000)
    jitter_us: int = Field(default=0, ge=0, le=60_000_000)

    @model_validator(mode="after")
    def _bursts_fit_the_loss(self) -> FrameSettings:
        if self.burst_frames is not None and self.loss > 0:
            least = math.inf if self.loss == 1 else self.loss / (1 - self.loss)
            if self.burst_frames < least * (1 - 1e-9):
                raise ValueError(
                    f"bursts of {self.burst_frames:g} frames cannot lose {self.loss:g} of all:"
                    f" give burst_frames of at least {least:g}, or null for independent losses"
                )
        return self

    @property
    def is_on(self) -> bool:
        """Whether any frame can be lost or late."""
        return self.loss > 0 or self.delay_us > 0 or self.jitter_us > 0


class ImageSettings(_Strict):
    """Changes of the pictures themselves."""

    gain: tuple[float, float] = (1.0, 1.0)
    gain_period_s: float = Field(default=5.0, ge=0.001, le=1e6)
    blur_px: float = Field(default=0.0, ge=0, le=50)
    noise_levels: float = Field(default=0.0, ge=0, le=255)
    jpeg_quality: int = Field(default=90, ge=1, le=100)

    @model_validator(mode="after")
    def _gain_is_a_range(self) -> ImageSettings:
        least, most = self.gain
        if not 0 < least <= most <= 100:
            raise ValueError(
                f"gain {list(self.gain)} is no range: give [LEAST,MOST] with 0 < LEAST <= MOST <= 100"
            )
        return self

    @property
    def is_on(self) -> bool:
        """Whether any picture can change."""
        return self.gain != (1.0, 1.0) or self.blur_px > 0 or self.noise_levels > 0


class ActorDropoutSettings(_Strict):
    """Spells in which an actor is not sensed, of each actor by itself."""

    spells_per_s: float = Field(default=0.0, ge=0, le=1000)
    mean_s: float = Field(default=0.5, ge=0.001, le=1e6)

    @property
    def is_on(self) -> bool:
        """Whether any actor can vanish."""
        return self.spells_per_s > 0


class ImperfectionSettings(_Strict):
    """The config group `imperfection`."""

    ego_motion: EgoMotionSettings = EgoMotionSettings()
    latency: LatencySettings = LatencySettings()
    frames: FrameSettings = FrameSettings()
    image: ImageSettings = ImageSettings()
    actor_dropout: ActorDropoutSettings = ActorDropoutSettings()

    @property
    def kinds_on(self) -> tuple[str, ...]:
        """Names of the kinds that are on, in the order above."""
        return tuple(k for k in type(self).model_fields if getattr(self, k).is_on)
