"""Load an Alpamayo model, or say what it takes."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omniloop.core.errors import PluginError
from omniloop.core.requirement import Requirement

GIB = 1 << 30


@dataclass(frozen=True)
class Release:
    """One published model.

    Attributes:
        package: Its Python package.
        module: Where its class is.
        model_class: The class.
        weights: Its name on Hugging Face.
        weights_gib: What its weights take on disk and, loaded, in memory.
        repository: Where the package comes from.
        any_cameras: Whether it was trained on subsets of its cameras, and takes their indices.
    """

    package: str
    module: str
    model_class: str
    weights: str
    weights_gib: float
    repository: str
    any_cameras: bool


RELEASES = {
    "1": Release(
        "alpamayo_r1", "alpamayo_r1.models.alpamayo_r1", "AlpamayoR1", "nvidia/Alpamayo-R1-10B",
        22.0, "https://github.com/NVlabs/alpamayo", False,
    ),
    "1.5": Release(
        "alpamayo1_5", "alpamayo1_5.models.alpamayo1_5", "Alpamayo1_5", "nvidia/Alpamayo-1.5-10B",
        22.0, "https://github.com/NVlabs/alpamayo1.5", True,
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model ready to be asked.

    Attributes:
        helper: The package's own module that makes prompts.
    """

    model: Any
    processor: Any
    helper: Any


def memory_gib(samples: int, guided: bool) -> float:
    """GPU memory that inference takes (Alpamayo 1.5's README: 1 sample, 16, 16 with guidance)."""
    if guided:
        return 60.0
    return 24.0 + (samples - 1) * (40.0 - 24.0) / 15


def load(release: Release, weights: str, device: str, attention: str, download: bool) -> Loaded:
    """Load package, weights and processor.

    Raises:
        PluginError: something of it is missing or does not fit; the message says what.
    """
    for name in ("torch", "transformers", release.package):
        _need(name, release)
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise PluginError(
            "there is no GPU here", where=f"policy.device={device}",
            remedy="run the policy where one is and name its address: policy=remote; or, slow as it"
            " is, policy.device=cpu",
        )  # fmt: skip
    if not download:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    helper = importlib.import_module(f"{release.package}.helper")
    model_class = getattr(importlib.import_module(release.module), release.model_class)
    try:
        model = model_class.from_pretrained(
            weights,
            dtype=torch.bfloat16,
            **({"attn_implementation": attention} if attention else {}),
        ).to(device)
        model.eval()
        processor = helper.get_processor(model.tokenizer)
    except torch.cuda.OutOfMemoryError as error:
        raise PluginError(
            f"the model does not fit the GPU: {str(error).splitlines()[0]}", where=device,
            remedy=f"it takes {memory_gib(1, False):.0f} GiB with one sample; free the GPU of others",
        ) from error  # fmt: skip
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        raise PluginError(
            f"the weights cannot be loaded: {type(error).__name__}: {str(error).splitlines()[0]}",
            where=f"policy.weights={weights}",
            remedy="give the folder of the weights, or policy.download=true once;"
            " `omniloop doctor policy=alpamayo` says what is missing",
        ) from error
    return Loaded(model, processor, helper)


def _need(name: str, release: Release) -> None:
    if importlib.util.find_spec(name) is None:
        raise PluginError(
            f"the package '{name}' is not installed", where="policy=alpamayo",
            remedy=f"install {release.repository} (Python 3.12, torch 2.8, transformers 4.57) into this"
            " environment, or serve the policy from its own: omniloop serve policy policy=alpamayo",
        )  # fmt: skip


def requirements(
    release: Release, weights: str, device: str, samples: int, guided: bool
) -> Iterator[Requirement]:
    """What inference needs, each with what is here."""
    for name in ("torch", "transformers", release.package):
        found = importlib.util.find_spec(name) is not None
        detail = "installed" if found else f"not installed: see {release.repository}"
        yield Requirement(found, f"package {name}", detail)
    place = find_weights(weights)
    if place is None:
        yield Requirement(
            False, f"weights {weights}", f"not here: {release.weights_gib:.0f} GiB, fetch them with"
            f" `hf download {release.weights}` (non-commercial licence)",
        )  # fmt: skip
    else:
        size_gib = sum(f.stat().st_size for f in place.rglob("*.safetensors")) / GIB
        good = size_gib >= 0.9 * release.weights_gib
        word = "" if good else f", of {release.weights_gib:.0f}: the download is not complete"
        yield Requirement(good, f"weights {weights}", f"{size_gib:.1f} GiB in {place}{word}")
    needed = memory_gib(samples, guided)
    yield _memory(device, needed)


def find_weights(weights: str) -> Path | None:
    """The folder that holds weights: itself, or the newest snapshot in Hugging Face's cache."""
    folder = Path(weights).expanduser()
    if folder.is_dir():
        return folder
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", str(home / "hub"))).expanduser()
    snapshots = cache / f"models--{weights.replace('/', '--')}" / "snapshots"
    found = sorted(snapshots.glob("*")) if snapshots.is_dir() else []
    return found[-1] if found else None


def _memory(device: str, needed_gib: float) -> Requirement:
    name = f"memory on {device}"
    if importlib.util.find_spec("torch") is None:
        return Requirement(False, name, f"{needed_gib:.0f} GiB needed; unknown without torch")
    import torch

    if not device.startswith("cuda"):
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
        return Requirement(pages >= needed_gib, name, f"{pages:.0f} of {needed_gib:.0f} GiB")
    if not torch.cuda.is_available():
        return Requirement(False, name, f"{needed_gib:.0f} GiB needed; there is no GPU here")
    free, total = (n / GIB for n in torch.cuda.mem_get_info(device))
    told = f"{free:.0f} GiB free of {total:.0f}; {needed_gib:.0f} needed"
    return Requirement(free >= needed_gib, name, told)
