"""Sizes of a world-action model: data that a checkpoint carries, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from omniloop.core.errors import ConfigError
from omniloop.policies.wam.inputs import IMAGE_HEIGHT, IMAGE_WIDTH


@dataclass(frozen=True)
class VaeReference:
    """A VAE that a checkpoint was trained with and does not hold.

    Attributes:
        name: Of its folder then.
        channels: Of its latents.
        stride: Pixels of the image per latent pixel.
        scaling_factor: What it multiplies latents by.
        sha256: Of the file of its weights.
    """

    name: str
    channels: int
    stride: int
    scaling_factor: float
    sha256: str


@dataclass(frozen=True)
class WamConfig:
    """The architecture, after `seeds/omnidreams.txt` section 7.1, at a compact scale.

    Attributes:
        dim: Width of the transformer.
        layers, heads: Its depth and attention heads.
        mlp_ratio: Width of its feed-forward layers over `dim`.
        window: A frame looks at so many frames, itself included, and at the first one (sink).
        patch: Side of a video token in latent pixels.
        latent_channels: Of a latent frame ``(channels, height, width)``.
        latent_stride: Pixels of the image per latent pixel.
        head_widths: Widths of the six layers down the U-Net-shaped head; up they are reversed.
        context_noise: Largest flow time of the frames in the half of the training sequences that
            resemble inference, where it is half of this.
        plan_steps: Euler steps from noise to a plan.
        vae: What makes the latents instead of the autoencoder trained here, see `with_vae`.
    """

    dim: int = 160
    layers: int = 4
    heads: int = 5
    mlp_ratio: int = 2
    window: int = 4
    patch: int = 4
    latent_channels: int = 8
    latent_stride: int = 8
    head_widths: tuple[int, ...] = (384, 320, 256, 192, 128, 96)
    context_noise: float = 0.05
    plan_steps: int = 4
    vae: VaeReference | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "head_widths", tuple(self.head_widths))
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "vae":
                continue
            for number in value if isinstance(value, tuple) else (value,):
                if not number > 0:
                    raise self._error(field.name, value, "give positive numbers")
        if self.dim % (4 * self.heads):
            raise self._error("dim", self.dim, f"give a multiple of 4 x heads = {4 * self.heads}")
        if self.vae is None:
            if self.latent_stride not in (4, 8, 16):
                raise self._error("latent_stride", self.latent_stride, "choose 4, 8 or 16")
        elif (self.latent_channels, self.latent_stride) != (self.vae.channels, self.vae.stride):
            raise self._error("vae", self.vae, "its channels and stride are the latents'")
        elif IMAGE_HEIGHT % self.latent_stride or IMAGE_WIDTH % self.latent_stride:
            raise self._error(
                "latent_stride", self.latent_stride,
                f"choose a VAE whose stride divides {IMAGE_WIDTH} x {IMAGE_HEIGHT} pixels",
            )  # fmt: skip
        if self.latent_height % self.patch or self.latent_width % self.patch:
            raise self._error("patch", self.patch, "choose a divisor of the latent frame's sides")
        if not self.context_noise < 1:
            raise self._error("context_noise", self.context_noise, "give less than 1")

    def _error(self, name: str, value: object, remedy: str) -> ConfigError:
        return ConfigError(f"{name} is {value}", where=f"model.{name}", remedy=remedy)

    @property
    def latent_height(self) -> int:
        """Rows of a latent frame."""
        return IMAGE_HEIGHT // self.latent_stride

    @property
    def latent_width(self) -> int:
        """Columns of a latent frame."""
        return IMAGE_WIDTH // self.latent_stride

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent frame."""
        return self.latent_channels, self.latent_height, self.latent_width

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of video tokens."""
        return self.latent_height // self.patch, self.latent_width // self.patch

    @property
    def tokens(self) -> int:
        """Video tokens of a frame."""
        return self.grid[0] * self.grid[1]

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.heads

    def as_dict(self) -> dict[str, Any]:
        """Plain data; without a VAE there is no key of it."""
        out = asdict(self) | {"head_widths": list(self.head_widths)}
        if self.vae is None:
            del out["vae"]
        return out

    def with_vae(self, vae: VaeReference) -> WamConfig:
        """The same on the latents of a VAE.

        Raises:
            ConfigError: its stride does not divide the image, or its latents the patch.
        """
        return replace(self, vae=vae, latent_channels=vae.channels, latent_stride=vae.stride)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WamConfig:
        """The inverse of `as_dict`.

        Raises:
            ConfigError: a key is unknown or missing, or a value is impossible.
        """
        _same_keys(cls, {"vae": None, **data}, "")
        given = dict(data)
        if given.get("vae") is not None:
            _same_keys(VaeReference, given["vae"], "vae.")
            given["vae"] = VaeReference(**given["vae"])
        return cls(**given)


def _same_keys(kind: type[Any], data: Mapping[str, Any], prefix: str) -> None:
    known = {field.name for field in fields(kind)}
    for key in sorted(known ^ set(data)):
        word = "missing" if key in known else "unknown"
        raise ConfigError(f"the model's setting '{prefix}{key}' is {word}", where="model")


SIZES = {
    "small": WamConfig(),
    "large": WamConfig(
        dim=512, layers=12, heads=8, mlp_ratio=4, head_widths=(1024, 768, 512, 384, 256, 192)
    ),
}
"""By name: one for a few CPU cores, one for a GPU."""
