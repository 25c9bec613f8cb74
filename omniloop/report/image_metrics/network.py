"""Feature networks: TorchScript files that the user gives; nothing is downloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omniloop.core.errors import ConfigError

Samples = NDArray[Any]
"""``(N, ...)`` what a network takes."""
Features = NDArray[np.float32]
"""``(N, D)`` what it gives."""


def check_least(plugin: str, settings: Mapping[str, tuple[int, int]]) -> None:
    """Refuse a setting below its least value; `settings` holds value and least by name.

    Raises:
        ConfigError: one is.
    """
    for key, (value, least) in settings.items():
        if value < least:
            raise ConfigError(
                f"{plugin}.{key} is {value}", where=f"--set {plugin}.{key}={value}",
                remedy=f"give {least} or more",
            )  # fmt: skip


class FeatureNetwork:
    """A TorchScript module that maps samples to feature vectors.

    Args:
        name: The plugin's name, for messages and settings.
        weights: The file.
        probe: A sample ``(1, ...)`` to try it on.
        keywords: Keyword arguments of each call.
        batch: Samples of a call.
        device: As torch names it, such as cpu or cuda:0.

    Attributes:
        width: Features of a sample.
        digest: SHA-256 of the file, in hex.

    Raises:
        ConfigError: torch is missing, the file is no such module, or it gives no features.
    """

    def __init__(
        self, name: str, weights: str, *, probe: Samples, keywords: Mapping[str, bool], batch: int,
        device: str,
    ) -> None:  # fmt: skip
        self._name, self._batch, self._device = name, batch, device
        self._where = f"--weights {name}={weights}"
        self._keywords = dict(keywords)
        self._known: dict[bytes, Features] = {}
        self._torch = self._import_torch()
        self.digest, self._module = self._load(Path(weights))
        self.width = 0
        self.width = self._call(probe, ["its first call"]).shape[1]

    def features(
        self, keys: Sequence[bytes], places: Sequence[str], sample: Callable[[int], Samples]
    ) -> Features:
        """Features ``(N, D)`` of samples; those of a key that was seen are not computed again.

        Args:
            keys: ``N`` digests of what the samples are made of.
            places: ``N`` names of the samples, for messages.
            sample: Makes one, by its number, without the first axis.

        Raises:
            ConfigError: out of memory, features that are not finite, or another failure.
        """
        first = {key: k for k, key in reversed(list(enumerate(keys)))}
        new = sorted(k for key, k in first.items() if key not in self._known)
        for start in range(0, len(new), self._batch):
            part = new[start : start + self._batch]
            shapes: dict[tuple[int, ...], list[int]] = {}
            made = {k: self._made(sample, k, places[k]) for k in part}
            for k in part:  # cameras differ in size; a batch has one
                shapes.setdefault(made[k].shape, []).append(k)
            for alike in shapes.values():
                rows = self._call(np.stack([made[k] for k in alike]), [places[k] for k in alike])
                self._known.update(zip((keys[k] for k in alike), rows, strict=True))
        return np.array([self._known[key] for key in keys], np.float32).reshape(-1, self.width)

    def _made(self, sample: Callable[[int], Samples], k: int, place: str) -> Samples:
        try:
            return sample(k)
        except ValueError as error:
            raise ConfigError(
                f"{self._name} cannot read a frame: {error}", where=place,
                remedy="draw the frames again: omniloop rerender",
            ) from error  # fmt: skip

    def _call(self, samples: Samples, places: Sequence[str]) -> Features:
        torch = self._torch
        try:
            # An optimising run-time would compile after the first calls and change the last bits.
            with torch.inference_mode(), torch.jit.optimized_execution(False):
                taken = torch.from_numpy(samples).to(self._device)
                found = self._module(taken, **self._keywords).float().cpu().numpy()
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise self._no_memory(samples) from error
        except Exception as error:  # whatever is in the file may fail in any way
            if "can't allocate memory" in str(error) or "out of memory" in str(error):
                raise self._no_memory(samples) from error
            raise self._unusable(_last_line(error)) from error
        if found.ndim != 2 or len(found) != len(samples) or self.width not in (0, found.shape[1]):
            raise self._unusable(
                f"it gives {found.shape} for {samples.shape}, not {len(samples)} rows of features"
            )
        bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(bad):
            raise ConfigError(
                f"{self._name} gives features that are not finite for {places[bad[0]]}",
                where=self._where, remedy="give weights that are whole; check the frames of that time",
            )  # fmt: skip
        return np.asarray(found)

    def _import_torch(self) -> Any:
        try:
            import torch
        except ImportError as error:
            raise ConfigError(
                f"{self._name} needs torch, which is not installed: {error}", where=self._where,
                remedy="pip install 'omniloop[models]'",
            ) from error  # fmt: skip
        return torch

    def _load(self, path: Path) -> tuple[str, Any]:
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            module = self._torch.jit.load(str(path), map_location=self._device).eval()
        except OSError as error:
            raise ConfigError(
                f"the weights cannot be read: {error.strerror}", where=self._where,
                remedy=f"give the file: --weights {self._name}=PATH",
            ) from error  # fmt: skip
        except (RuntimeError, ValueError, AssertionError) as error:
            raise self._unusable(_last_line(error)) from error
        return digest, module

    def _unusable(self, why: str) -> ConfigError:
        call = ", ".join(f"{key}={value}" for key, value in self._keywords.items())
        return ConfigError(
            f"{self._name} cannot use the file: {why}", where=self._where,
            remedy=f"give a TorchScript module that is called as (samples, {call}), on a device that"
            f" there is ({self._name}.device={self._device}); docs/backends.md names such files",
        )  # fmt: skip

    def _no_memory(self, samples: Samples) -> ConfigError:
        return ConfigError(
            f"{self._name} needs more memory than {self._device} has, for {len(samples)} samples of"
            f" {samples.shape[1:]}", where=self._where,
            remedy=f"make calls smaller: --set {self._name}.batch={max(self._batch // 4, 1)} (now {self._batch})",
        )  # fmt: skip


def _last_line(error: BaseException) -> str:
    """What went wrong, without the trace of the script's lines and torch's advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in reversed(lines) if "Error:" in line), lines[0] if lines else "")
    return (told or type(error).__name__).split(". This is an internal")[0][:300]
