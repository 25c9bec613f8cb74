"""The checkpoint file: sizes, weights and what they were trained with; never unpickled code."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from omniloop.core.errors import ConfigError, PluginError
from omniloop.policies.wam.autoencoder import Autoencoder, LatentFrames
from omniloop.policies.wam.config import WamConfig
from omniloop.policies.wam.model import WorldActionModel
from omniloop.policies.wam.vae import load_vae

FORMAT, VERSION = "omniloop-wam", 1
PACKAGED = Path(__file__).parent / "weights" / "wam-small.pt"

_REMEDY = "give a file that `omniloop train wam` wrote, or leave policy.checkpoint out"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained model, ready to drive.

    Attributes:
        autoencoder: Images to latent frames.
        model: Backbone and head.
        facts: Plain data: versions, training set, losses.
    """

    autoencoder: LatentFrames
    model: WorldActionModel
    facts: dict[str, Any]

    @property
    def config(self) -> WamConfig:
        """Its sizes."""
        return self.model.config


def build(config: WamConfig) -> tuple[Autoencoder, WorldActionModel]:
    """Untrained modules of a config that has no VAE."""
    return Autoencoder(config.latent_channels, config.latent_stride), WorldActionModel(config)


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, weights as float16; the file appears whole or not at all.

    Of a VAE it holds the reference and the statistics of its latents, not the weights.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": checkpoint.config.as_dict(),
        "autoencoder": _halved(checkpoint.autoencoder, checkpoint.autoencoder.kept()),
        "model": _halved(checkpoint.model, checkpoint.model.state_dict()),
        "facts": checkpoint.facts,
    }
    save_atomically(path, content)


def save_atomically(path: Path, content: dict[str, Any]) -> None:
    """`torch.save` into a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    torch.save(content, unfinished)
    unfinished.replace(path)


def load(path: Path, device: str = "cpu", vae: Path | None = None) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: The file.
        device: Where the modules go.
        vae: Folder of the VAE that it was trained with, if it was with one.

    Raises:
        PluginError: the file is missing, no checkpoint of this kind, of another version, its
            weights do not fit its sizes (the first such key is named), there is no room, or the
            VAE is missing, not wanted or another one.
    """
    where = f"policy.checkpoint={path}"
    if not path.is_file():
        raise PluginError("there is no such checkpoint", where=where, remedy=_REMEDY)
    try:
        # weights_only: tensors and plain data; a file that holds code is refused.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file fails in many ways
        raise PluginError(
            f"the checkpoint cannot be read: {type(error).__name__}: {_first_line(error)}",
            where=where, remedy=_REMEDY,
        ) from error  # fmt: skip
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise PluginError(
            "the file is no checkpoint of a world-action model", where=where, remedy=_REMEDY
        )
    if content.get("version") != VERSION:
        raise PluginError(
            f"the checkpoint has version {content.get('version')}, this package reads {VERSION}",
            where=where, remedy="train again, or install the package that it is of",
        )  # fmt: skip
    try:
        config = WamConfig.from_dict(content["config"])
        autoencoder, model = _frames(config, vae, where), WorldActionModel(config)
        fill(autoencoder.kept(), content["autoencoder"], "autoencoder")
        fill(model.state_dict(), content["model"], "model")
        autoencoder, model = autoencoder.to(device).eval(), model.to(device).eval()
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        what = error.what if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        raise PluginError(
            f"the checkpoint does not fit the model: {what}", where=where, remedy=_REMEDY
        ) from error
    except (MemoryError, RuntimeError) as error:  # torch has no class of its own on the CPU
        raise PluginError(
            f"the model cannot be put on {device}: {_first_line(error)}", where=where,
            remedy="free memory there, or set policy.device=cpu",
        ) from error  # fmt: skip
    for module in (autoencoder, model):
        module.requires_grad_(False)
    return Checkpoint(autoencoder, model, dict(content.get("facts", {})))


def _frames(config: WamConfig, vae: Path | None, where: str) -> LatentFrames:
    """What makes the latents of a config: an untrained autoencoder, or the VAE."""
    if config.vae is None:
        if vae is not None:
            raise PluginError(
                "the checkpoint has an autoencoder of its own", where=f"policy.vae={vae}",
                remedy="leave policy.vae out, or give the checkpoint trained with the VAE",
            )  # fmt: skip
        return Autoencoder(config.latent_channels, config.latent_stride)
    if vae is None:
        raise PluginError(
            f"the checkpoint was trained with the VAE '{config.vae.name}', which it does not hold",
            where=where,
            remedy="give its folder: policy.vae=FOLDER; its weights have the SHA-256"
            f" {config.vae.sha256}",
        )
    return load_vae(vae, f"policy.vae={vae}", config.vae)


def fill(wanted: dict[str, Tensor], state: dict[str, Tensor], name: str) -> None:
    """Copy tensors into those of a module, in place.

    Raises:
        ValueError: a key is missing or unknown, of another shape or not finite; it is named.
    """
    for key in sorted(wanted.keys() ^ state.keys()):
        word = "is missing" if key in wanted else "is not part of the model"
        raise ValueError(f"{name}.{key} {word}")
    for key, target in wanted.items():
        if state[key].shape != target.shape:
            raise ValueError(
                f"{name}.{key} has shape {tuple(state[key].shape)}, wanted {tuple(target.shape)}"
            )
        if not bool(torch.isfinite(state[key]).all()):
            raise ValueError(f"{name}.{key} holds a number that is not finite")
    for key, target in wanted.items():
        target.copy_(state[key])


def _halved(module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as float16; buffers, which are statistics, stay as they are."""
    parameters = {name for name, _ in module.named_parameters()}
    return {
        key: (value.half() if key in parameters else value).detach().cpu().clone()
        for key, value in state.items()
    }


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
