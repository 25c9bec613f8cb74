"""Training a world-action model from shards: autoencoder, latents, transformer and head."""

from __future__ import annotations

import copy
import json
import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import omniloop
from omniloop.core.errors import ConfigError, RunFolderError
from omniloop.core.seeds import derive_seed
from omniloop.policies.wam import checkpoint as files
from omniloop.policies.wam.autoencoder import Autoencoder, LatentFrames
from omniloop.policies.wam.config import SIZES, WamConfig
from omniloop.policies.wam.losses import Batch, losses
from omniloop.policies.wam.model import Ego, WorldActionModel
from omniloop.policies.wam.vae import reference_of
from omniloop.training.wam_autoencoder import digest, fitted_vae, train_autoencoder
from omniloop.training.wam_card import write_card
from omniloop.training.wam_dataset import Augment, Sampler, Sequences, encode, shard_files
from omniloop.training.wam_eval import evaluate

STATE, WEIGHTS, METRICS, AUTOENCODER = "state.pt", "wam.pt", "metrics.json", "autoencoder.pt"

_SHARE_OF_AUTOENCODER = 0.1
_SAY_EVERY = 10

Progress = Callable[[str, float, dict[str, Any]], None]
"""Told of a stage, its share that is done, and numbers of it."""


_BY_SIZE: dict[str, dict[str, Any]] = {
    "large": {"batch": 64, "frames": 8, "learning_rate": 3e-4, "warmup_steps": 500, "ema": 0.9995}
}


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        minutes: Wall-clock time in all, earlier parts of a resumed training included; the
            learning rate comes to its end with it. None to go by `steps`.
        steps: Steps of the transformer, if `minutes` is None.
        seed: Of weights, draws and noise.
        threads: Torch's, while training.
        device: "cpu" or "cuda".
        batch, frames: Sequences of a step and frames of a sequence.
        learning_rate: At its highest, after `warmup_steps`.
        weight_decay, clip_norm: Of AdamW, and of the gradient.
        ema: Decay of the weights' average, which is what drives.
        plan_weight: Of the plan's loss beside the video's.
        plan_draws: Flow times per target.
        floor_m: Least deviation of a plan's component, see `Whitening.fit`.
        autoencoder_images, autoencoder_steps: Images that it is trained on, and its steps at
            most; it takes at most a tenth of `minutes`.
        checkpoint_s: Seconds between checkpoints.
        evaluate_sequences: Validation sequences at most.
        model: Sizes.
        augment: What is hidden from sequences.
        vae: Folder of a VAE that makes the latents; `model` is made to fit it. None for an
            autoencoder that is trained here.
    """

    minutes: float | None = 40.0
    steps: int = 2000
    seed: int = 0
    threads: int = 2
    device: str = "cpu"
    batch: int = 12
    frames: int = 6
    learning_rate: float = 1.2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.02
    clip_norm: float = 1.0
    ema: float = 0.998
    plan_weight: float = 4.0
    plan_draws: int = 4
    floor_m: float = 1.0
    autoencoder_images: int = 3000
    autoencoder_steps: int = 2000
    checkpoint_s: float = 180.0
    evaluate_sequences: int = 256
    model: WamConfig = field(default_factory=WamConfig)
    augment: Augment = field(default_factory=Augment)
    vae: str | None = None

    @classmethod
    def of_size(cls, size: str, **settings: Any) -> TrainConfig:
        """The settings that suit a size of model.

        Raises:
            ConfigError: there is no such size.
            PluginError: the VAE cannot be used.
        """
        if size not in SIZES:
            raise ConfigError(
                f"size is {size!r}", where="--size", remedy=f"choose {' or '.join(SIZES)}"
            )
        return cls(model=SIZES[size], **{**_BY_SIZE.get(size, {}), **settings})

    def __post_init__(self) -> None:
        positive = (
            "steps", "threads", "batch", "learning_rate", "clip_norm", "plan_draws", "floor_m",
            "autoencoder_images", "autoencoder_steps", "evaluate_sequences",
        )  # fmt: skip
        for name in positive:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", where=f"train.{name}",
                                  remedy="give a positive number")  # fmt: skip
        if self.minutes is not None and not self.minutes > 0:
            raise ConfigError(f"minutes is {self.minutes}", where="train.minutes",
                              remedy="give more than 0")  # fmt: skip
        if self.frames < 2:
            raise ConfigError(f"frames is {self.frames}", where="train.frames",
                              remedy="give 2 or more")  # fmt: skip
        if self.vae is not None:
            found = reference_of(Path(self.vae), f"--vae {self.vae}")
            object.__setattr__(self, "model", self.model.with_vae(found))
        elif self.model.vae is not None:
            raise ConfigError("the model's VAE has no folder", where="train.vae",
                              remedy="name it")  # fmt: skip

    @property
    def kept(self) -> dict[str, Any]:
        """What a resumed training must have in common with the one before."""
        out = asdict(self) | {"model": self.model.as_dict()}
        for name in (
            "minutes", "steps", "threads", "device", "checkpoint_s", "evaluate_sequences", "vae",
        ):  # fmt: skip
            del out[name]
        return out


def train(
    data_dir: Path,
    out_dir: Path,
    config: TrainConfig | None = None,
    progress: Progress | None = None,
    resume: bool = False,
) -> Path:
    """Train on ``data_dir/train``, evaluate on ``data_dir/val``.

    `out_dir` gets ``wam.pt`` (averaged weights), ``model_card.md``, ``metrics.json`` and
    ``state.pt``, from which `resume` goes on to the very weights of an undisturbed training by
    steps; shards may have been added meanwhile. On the CPU only algorithms are used that give the
    same result twice.

    Returns:
        The path of ``wam.pt``.

    Raises:
        ConfigError: a setting is out of range, or differs from that of the training resumed.
        RunFolderError: there are no shards, a shard is damaged, or `out_dir` holds a training
            and `resume` is off.
    """
    config = config or TrainConfig()
    say: Progress = progress or (lambda stage, share, facts: None)
    if (out_dir / STATE).exists() and not resume:
        raise RunFolderError(
            "the folder holds a training already", where=str(out_dir),
            remedy="resume it, or train into another folder",
        )  # fmt: skip
    out_dir.mkdir(parents=True, exist_ok=True)
    with _torch_set_up(config):
        return _Training(data_dir, out_dir, config, say).run()


class _Training:
    """One training: its modules, its optimizer and how far it is."""

    def __init__(self, data: Path, out: Path, config: TrainConfig, say: Progress) -> None:
        self._data, self._out, self._config, self._say = data, out, config, say
        self._began_s = time.perf_counter()
        self._state = self._held()
        self._earlier_s = float(self._state.get("elapsed_s", 0.0))
        self._device = torch.device(config.device)

    def run(self) -> Path:
        """All stages."""
        config, out = self._config, self._out
        training, validation = (shard_files(self._data / name) for name in ("train", "val"))
        autoencoder = self._autoencoder(training)
        key = digest(autoencoder)
        parts = []
        for name, shards in (("train", training), ("val", validation)):
            stage = f"encode {name}"
            parts.append(
                encode(
                    shards, out / "latents" / name, autoencoder, config.frames, key,
                    lambda share, stage=stage: self._say(stage, share, {}),  # type: ignore[misc]
                )
            )  # fmt: skip
        autoencoder = autoencoder.cpu()
        sequences, held_out = parts
        torch.manual_seed(derive_seed(config.seed, "weights"))
        model = WorldActionModel(config.model)
        _fit_whitening(model, sequences, config.floor_m)
        averaged, history, steps = self._optimise(model, sequences)
        averaged = averaged.cpu().eval()
        self._say("evaluate", 0.0, {})
        with torch.inference_mode():
            scores = evaluate(
                averaged, autoencoder, held_out, config.frames, config.evaluate_sequences,
                config.plan_draws, derive_seed(config.seed, "validation"),
            )  # fmt: skip
        self._say("evaluate", 1.0, scores)
        facts = {
            "omniloop": omniloop.__version__, "torch": str(torch.__version__),
            "numpy": np.__version__, "machine": platform.machine(), "seed": config.seed,
            "steps": steps, "sequences": steps * config.batch,
            "minutes": round(self._elapsed_s() / 60, 2), "device": config.device,
            "training_rollouts": len(sequences.first), "training_decisions": len(sequences),
            "validation_rollouts": len(held_out.first), "validation_decisions": len(held_out),
            "parameters": sum(p.numel() for m in (model, autoencoder) for p in m.parameters()),
            "settings": config.kept,
        }  # fmt: skip
        path = out / WEIGHTS
        files.save(path, files.Checkpoint(autoencoder, averaged, facts))
        metrics = {"facts": facts, "validation": scores, "training": history}
        (out / METRICS).write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        write_card(out / "model_card.md", facts, scores, history, path.stat().st_size)
        return path

    def _held(self) -> dict[str, Any]:
        """The state of an earlier part, empty if there is none."""
        path = self._out / STATE
        if not path.is_file():
            return {}
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        wanted = json.loads(json.dumps(self._config.kept))
        for name, value in wanted.items():
            if state["settings"].get(name) != value:
                raise ConfigError(
                    f"{name} is {value}, the training before had {state['settings'].get(name)}",
                    where=str(path), remedy="resume with the settings that it began with",
                )  # fmt: skip
        return state

    def _elapsed_s(self) -> float:
        return self._earlier_s + time.perf_counter() - self._began_s

    def _share(self, step: int) -> float:
        """How much of the training is done."""
        if self._config.minutes is None:
            return step / self._config.steps
        return self._elapsed_s() / (60 * self._config.minutes)

    def _autoencoder(self, shards: list[Path]) -> LatentFrames:
        """The trained autoencoder, that of an earlier part if there is one; or the VAE."""
        config, path = self._config, self._out / AUTOENCODER
        if config.vae is not None and config.model.vae is not None:
            return fitted_vae(
                Path(config.vae), config.model.vae, self._out, shards, config.seed, self._device
            )
        torch.manual_seed(derive_seed(config.seed, "autoencoder"))
        autoencoder = Autoencoder(config.model.latent_channels, config.model.latent_stride)
        if self._state or path.is_file():
            autoencoder.load_state_dict(torch.load(path, weights_only=True))
        else:
            most_s = None if config.minutes is None else 60 * config.minutes * _SHARE_OF_AUTOENCODER
            train_autoencoder(
                autoencoder, shards, config.autoencoder_images, config.autoencoder_steps, most_s,
                config.seed, lambda share, facts: self._say("autoencoder", share, facts),
            )  # fmt: skip
            files.save_atomically(path, autoencoder.kept())
        return autoencoder.eval().requires_grad_(False)

    def _optimise(
        self, model: WorldActionModel, sequences: Sequences
    ) -> tuple[WorldActionModel, list[dict[str, float]], int]:
        """Train backbone and head; return the averaged model, the losses on the way, the steps."""
        config = self._config
        model = model.to(self._device).train()
        averaged = copy.deepcopy(model).requires_grad_(False)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98),
            weight_decay=config.weight_decay, fused=True,
        )  # fmt: skip
        step, history = 0, []
        if self._state:
            model.load_state_dict(self._state["model"])
            averaged.load_state_dict(self._state["averaged"])
            optimizer.load_state_dict(self._state["optimizer"])
            step, history = self._state["step"], self._state["history"]
        sampler = Sampler(sequences, config.batch, config.frames, config.seed, config.augment)
        saved_s, said, sums = time.perf_counter(), time.perf_counter(), torch.zeros(2)
        if step == 0 and self._share(step) >= 1:
            raise RunFolderError(
                "encoding the images took all of the time", where=str(self._out),
                remedy="give more minutes, fewer rollouts or a smaller VAE",
            )  # fmt: skip
        while (share := self._share(step)) < 1:
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * _schedule(share, step, config.warmup_steps)
            # Flow times and noise follow from the step alone: a resumed training draws the same.
            draws = torch.Generator(self._device).manual_seed(
                derive_seed(config.seed, "noise", step) % 2**63
            )
            batch = _moved(sampler(step), self._device)
            video, plan = losses(model, batch, draws, config.plan_draws)
            optimizer.zero_grad(set_to_none=True)
            (video + config.plan_weight * plan).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            step += 1
            _average(averaged, model, min(config.ema, step / (step + 10)))
            sums += torch.tensor([video.item(), plan.item()])
            if not bool(torch.isfinite(sums).all()):
                raise RunFolderError(
                    f"the loss is not finite at step {step}", where=str(self._out),
                    remedy="lower the learning rate, or look for damaged shards",
                )  # fmt: skip
            now = time.perf_counter()
            if step % _SAY_EVERY == 0:
                rate = _SAY_EVERY * config.batch / (now - said)
                video_loss, plan_loss = (sums / _SAY_EVERY).tolist()
                facts = {
                    "step": step, "video_loss": video_loss, "plan_loss": plan_loss,
                    "sequences_per_s": rate,
                }  # fmt: skip
                history.append({k: round(float(v), 6) for k, v in facts.items()})
                self._say("train", min(self._share(step), 1.0), facts)
                sums.zero_()
                said = now
            if now - saved_s > config.checkpoint_s:
                self._save(model, averaged, optimizer, step, history)
                saved_s = now
        self._save(model, averaged, optimizer, step, history)
        return averaged, history, step

    def _save(
        self, model: WorldActionModel, averaged: WorldActionModel,
        optimizer: torch.optim.Optimizer, step: int, history: list[dict[str, float]],
    ) -> None:  # fmt: skip
        content = {
            "settings": json.loads(json.dumps(self._config.kept)), "step": step,
            "elapsed_s": self._elapsed_s(), "history": history, "model": model.state_dict(),
            "averaged": averaged.state_dict(), "optimizer": optimizer.state_dict(),
        }  # fmt: skip
        files.save_atomically(self._out / STATE, content)


def _schedule(share: float, step: int, warmup_steps: int) -> float:
    """Factor of the learning rate: up in `warmup_steps`, then down a cosine to 2 per cent."""
    cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    return min((step + 1) / max(warmup_steps, 1), 1.0) * cosine


def _average(averaged: WorldActionModel, model: WorldActionModel, decay: float) -> None:
    with torch.no_grad():
        torch._foreach_lerp_(
            list(averaged.parameters()), [p.detach() for p in model.parameters()], 1 - decay
        )


def _fit_whitening(model: WorldActionModel, sequences: Sequences, floor_m: float) -> None:
    """From the plans of the training set; a resumed training has those of its state."""
    valid = sequences.tables["valid"]
    plans, speed = (torch.from_numpy(sequences.tables[n][valid]) for n in ("target", "speed"))
    model.whitening.fit(plans, speed, floor_m)


def _moved(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    put = {
        name: value.to(device, non_blocking=True)
        for name, value in vars(batch).items()
        if isinstance(value, torch.Tensor)
    }
    ego = Ego(**{name: value.to(device) for name, value in vars(batch.ego).items()})
    return Batch(**{**vars(batch), **put, "ego": ego})


@contextmanager
def _torch_set_up(config: TrainConfig) -> Iterator[None]:
    """Threads, deterministic algorithms and the global draws: as they were once it is over."""
    threads, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(config.device == "cpu")
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(exact)
