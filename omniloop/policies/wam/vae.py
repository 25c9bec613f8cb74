"""A VAE of diffusers, from a local folder, in place of the autoencoder that is trained here."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omniloop.core.errors import PluginError
from omniloop.policies.wam.autoencoder import LatentFrames
from omniloop.policies.wam.config import VaeReference
from omniloop.policies.wam.inputs import IMAGE_HEIGHT, IMAGE_WIDTH

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"

_WIDTHS = {
    "AutoencoderKL": "block_out_channels",
    "AutoencoderTiny": "encoder_block_out_channels",
}
"""Classes of diffusers, and the setting whose items have a stride of 2 between them."""

_REMEDY = f"give a folder with {CONFIG} and {WEIGHTS}, as diffusers' save_pretrained writes it"


class DiffusersVae(LatentFrames):
    """A frozen VAE of diffusers; latents are the mode of its posterior, nothing is drawn.

    Args:
        vae: The module, of float32.
        reference: What it is.
    """

    vae: Any

    def __init__(self, vae: Any, reference: VaeReference) -> None:
        super().__init__(reference.channels)
        self.vae, self.scaling_factor = vae, reference.scaling_factor

    def kept(self) -> dict[str, Tensor]:
        """The statistics; the weights stay in their folder."""
        return {"mean": self.mean, "deviation": self.deviation}

    def raw(self, pixels: Tensor) -> Tensor:
        """Latents times the scaling factor; a shift of the VAE's own goes into the mean."""
        out = self.vae.encode(2 * pixels - 1)
        latents = out.latent_dist.mode() if hasattr(out, "latent_dist") else out.latents
        scaled: Tensor = latents * self.scaling_factor
        return scaled

    def pixels(self, raw: Tensor) -> Tensor:
        """The inverse of `raw`, about."""
        out: Tensor = (self.vae.decode(raw / self.scaling_factor).sample + 1) / 2
        return out


def reference_of(folder: Path, where: str) -> VaeReference:
    """What a folder's VAE is, without loading its weights.

    Args:
        folder: With ``config.json`` and ``diffusion_pytorch_model.safetensors``.
        where: For errors: what named the folder.

    Raises:
        PluginError: diffusers is missing, the folder or a file in it is, it holds another kind
            of model, a setting is unusable, or its stride does not divide the image.
    """
    kind, settings = _described(folder, where)
    widths = settings[_WIDTHS[kind.__name__]]
    channels, scaling = settings["latent_channels"], settings["scaling_factor"]
    for name, value, good in (
        (_WIDTHS[kind.__name__], widths, isinstance(widths, list | tuple) and len(widths) > 0),
        ("latent_channels", channels, type(channels) is int and channels > 0),
        ("scaling_factor", scaling,
         type(scaling) in (int, float) and math.isfinite(scaling) and scaling > 0),
        ("in_channels", settings["in_channels"], settings["in_channels"] == 3),
    ):  # fmt: skip
        if not good:
            raise PluginError(f"{name} is {value!r}", where=f"{where}, {CONFIG}", remedy=_REMEDY)
    stride = 2 ** (len(widths) - 1)
    if IMAGE_HEIGHT % stride or IMAGE_WIDTH % stride:
        raise PluginError(
            f"the VAE's stride of {stride} does not divide {IMAGE_WIDTH} x {IMAGE_HEIGHT} pixels",
            where=where, remedy="give a VAE of a smaller stride",
        )  # fmt: skip
    with (folder / WEIGHTS).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return VaeReference(folder.resolve().name, channels, stride, float(scaling), sha256)


def load_vae(folder: Path, where: str, wanted: VaeReference) -> DiffusersVae:
    """Load a folder's VAE as float32; nothing is ever downloaded.

    Args:
        folder: See `reference_of`.
        where: For errors: what named the folder.
        wanted: What it must be; its name may be another one.

    Raises:
        PluginError: see `reference_of`; or it is another VAE, it cannot be loaded, a weight is
            missing, or one is not finite.
    """
    found = reference_of(folder, where)
    if replace(found, name=wanted.name) != wanted:
        raise PluginError(
            f"the VAE is another one than '{wanted.name}', which the checkpoint was trained with:"
            f" {_words(found)} instead of {_words(wanted)}",
            where=where, remedy="give the folder of that one",
        )  # fmt: skip
    kind, _ = _described(folder, where)
    try:
        vae, report = kind.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False,
            torch_dtype=torch.float32, output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # a foreign file fails in many ways
        raise PluginError(
            f"the VAE cannot be loaded: {type(error).__name__}: {(str(error) or ' ').splitlines()[0]}",
            where=where, remedy=_REMEDY,
        ) from error  # fmt: skip
    # diffusers leaves weights that a file does not have at random numbers.
    for key in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if report[key]:
            raise PluginError(
                f"the weights do not fit {CONFIG}: {key.replace('_', ' ')}, such as"
                f" {sorted(map(str, report[key]))[0]}",
                where=where, remedy=_REMEDY,
            )  # fmt: skip
    for name, weight in vae.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise PluginError(
                f"{name} holds a number that is not finite", where=where,
                remedy="give undamaged weights",
            )  # fmt: skip
    return DiffusersVae(vae, found)


def _words(vae: VaeReference) -> str:
    return (
        f"{vae.channels} channels, stride {vae.stride}, scaling factor {vae.scaling_factor:g},"
        f" SHA-256 {vae.sha256}"
    )


def _described(folder: Path, where: str) -> tuple[Any, dict[str, Any]]:
    """The class of a folder's VAE and its settings, those left out as the class has them."""
    if importlib.util.find_spec("diffusers") is None:
        raise PluginError(
            "a VAE needs diffusers, which is not installed", where=where,
            remedy="pip install 'omniloop[vae]'",
        )  # fmt: skip
    if not folder.is_dir():
        raise PluginError("there is no such folder", where=where, remedy=_REMEDY)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise PluginError(f"the folder has no {name}", where=where, remedy=_REMEDY)
    try:
        given = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise PluginError(
            f"{CONFIG} cannot be read: {error}", where=where, remedy=_REMEDY
        ) from error
    class_name = given.get("_class_name") if isinstance(given, dict) else None
    if class_name not in _WIDTHS:
        raise PluginError(
            f"the folder holds {class_name!r}", where=f"{where}, {CONFIG}",
            remedy=f"give a VAE of diffusers' class {' or '.join(_WIDTHS)}",
        )  # fmt: skip
    kind = getattr(importlib.import_module("diffusers"), class_name)
    defaults = {key: p.default for key, p in inspect.signature(kind.__init__).parameters.items()}
    return kind, defaults | given
