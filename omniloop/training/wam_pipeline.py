"""From nothing to a trained world-action model: collect, train, and again with its own driving."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omniloop.core.errors import ConfigError, RunFolderError
from omniloop.core.seeds import derive_seed
from omniloop.scenes.rig import FRONT_TELE, FRONT_WIDE
from omniloop.training.collect import CollectConfig, Collected, Work, collect
from omniloop.training.scenes_for_training import plan_work

STATE = "pipeline.json"
COLLECT_SHARE = 0.3
"""At most this share of the minutes is spent on data."""

Say = Callable[[str, float, dict[str, Any]], None]
"""Told of a stage, its share that is done, and numbers of it."""


@dataclass(frozen=True)
class PipelineConfig:
    """What `omniloop train wam` is told.

    Attributes:
        minutes: Of wall-clock time in all, over all starts.
        rollouts: To make data of.
        scenes: Families; all if empty.
        real: Folders of recorded scenes to train on too.
        dagger: How many times the trained model drives, labelled by the expert, and is
            trained on with what it came to.
        seed: Chooses scenes; also the training's.
        threads: Processes and threads; None for one per core.
        size: Of the model, see `omniloop.policies.wam.config.SIZES`.
        device: To train on: "auto", "cpu" or "cuda".
        vae: Folder of a VAE of diffusers that makes the latents; None for an autoencoder that
            is trained too.
    """

    minutes: float = 60.0
    rollouts: int = 900
    scenes: tuple[str, ...] = ()
    real: tuple[str, ...] = ()
    dagger: int = 0
    seed: int = 0
    threads: int | None = None
    size: str = "small"
    device: str = "auto"
    vae: str | None = None

    def __post_init__(self) -> None:
        for name, value, least in (
            ("minutes", self.minutes, 0.1), ("rollouts", self.rollouts, 1),
            ("dagger", self.dagger, 0), ("seed", self.seed, 0),
            ("threads", 1 if self.threads is None else self.threads, 1),
        ):  # fmt: skip
            if value < least:
                raise ConfigError(
                    f"--{name} is {value}", where=f"--{name}", remedy=f"give at least {least:g}"
                )


def require_torch() -> None:
    """Check that PyTorch is there, without importing it.

    Raises:
        ConfigError: it is not.
    """
    if find_spec("torch") is None:
        raise ConfigError(
            "training needs PyTorch, which is not installed", where="omniloop train",
            remedy="pip install 'omniloop[models]', or torch's own build for your accelerator",
        )  # fmt: skip


def run_pipeline(
    out: Path, config: PipelineConfig, say: Say | None = None, *, resume: bool = False
) -> Path:
    """Collect, train and, if asked for, repeat with the model's own driving.

    The folder holds ``data/`` (shards), ``model/`` (checkpoints, card) and `STATE`: what was
    asked for and the seconds that each stage took. With `resume` shards and checkpoints that are
    there are used, and the seconds spent count.

    Returns:
        The checkpoint.

    Raises:
        ConfigError: PyTorch is missing, the folder is in use and `resume` is off, or it is on
            and something else is asked for than before.
        PluginError: the VAE cannot be used.
        InputError: scenes are unknown or unusable.
        RunFolderError: the folder cannot be written.
    """
    require_torch()
    from omniloop.training.wam_train import TrainConfig, train

    device, _ = (
        _device(config.device),
        TrainConfig.of_size(config.size, vae=config.vae),
    )  # wrong ones now, not later
    tell: Say = say or (lambda stage, share, facts: None)
    state = _begin(out, config, resume)
    work = plan_work(config.rollouts, config.scenes, [Path(p) for p in config.real], config.seed)
    data, model = out / "data", out / "model"
    threads = config.threads or os.cpu_count() or 1
    checkpoint = model / "wam.pt"
    rounds = config.dagger + 1
    for number in range(rounds):
        stage = "collect" if number == 0 else f"collect {number}"
        settings = CollectConfig(
            processes=threads, most_s=60 * config.minutes * COLLECT_SHARE / rounds
        )
        todo = work
        if number > 0:
            todo = _own_driving(work, number, rounds)
            settings = replace(settings, policy=_driven_by(checkpoint, config.vae))
        if stage not in state.done:
            with state.stage(stage):
                found = collect(todo, data, settings, _collecting(tell, stage))
            tell(stage, 1.0, _facts(found))
            state.finish(stage)
        stage = "train" if number == 0 else f"train {number}"
        if stage in state.done:
            continue
        left = config.minutes - state.minutes_of("collect")
        share = (number + 1) / rounds
        minutes = max(left * share, 0.1)
        with state.stage(stage):
            checkpoint = train(
                data, model, TrainConfig.of_size(
                    config.size, minutes=minutes, seed=config.seed, threads=threads,
                    device=device, vae=config.vae,
                ),
                progress=tell, resume=resume or number > 0,
            )  # fmt: skip
        state.finish(stage)
    return checkpoint


def _device(wish: str) -> str:
    import torch

    there = torch.cuda.is_available()
    if wish not in ("auto", "cpu", "cuda") or (wish == "cuda" and not there):
        raise ConfigError(
            f"device is {wish!r}" + ("; torch sees no GPU" if wish == "cuda" else ""),
            where="--device", remedy="choose auto, cpu or cuda",
        )  # fmt: skip
    return wish if wish != "auto" else "cuda" if there else "cpu"


def _own_driving(work: Sequence[Work], number: int, rounds: int) -> list[Work]:
    """Rollouts of a round that the model drives: every so many of the training ones."""
    training = [w for w in work if w.split == "train"][number - 1 :: max(rounds, 2)]
    return [
        replace(w, seed=derive_seed(w.seed, "dagger", number) % 2**31, label=f"dagger{number}")
        for w in training
    ]


def _driven_by(checkpoint: Path, vae: str | None) -> dict[str, Any]:
    arguments = {
        "checkpoint": str(checkpoint.resolve()), "route_token": True,
        "camera": FRONT_WIDE, "tele_camera": FRONT_TELE, "vae": vae,
    }  # fmt: skip
    return {"driver": "wam", "driver_arguments": arguments, "pause_s": 6.0, "start_share": 0.3}


def _facts(found: Collected) -> dict[str, Any]:
    return {
        "rollouts": found.rollouts + found.kept, "new_frames": found.frames,
        "seconds": round(found.wall_s, 1), "skipped": sum(found.skipped.values()),
        "reasons": dict(found.skipped.most_common(3)),
    }  # fmt: skip


def _collecting(tell: Say, stage: str) -> Callable[[Collected, int], None]:
    def progress(found: Collected, total: int) -> None:
        there = found.rollouts + found.kept + sum(found.skipped.values())
        tell(stage, there / max(total, 1), _facts(found))

    return progress


# ------------------------------------------------------------------------------ state


@dataclass
class _State:
    """What is done, and the seconds of each stage, in a file that is replaced as a whole."""

    path: Path
    asked: dict[str, Any]
    done: list[str]
    seconds: dict[str, float]

    def minutes_of(self, word: str) -> float:
        """Minutes spent in stages of that name."""
        return sum(s for name, s in self.seconds.items() if name.startswith(word)) / 60

    def stage(self, name: str) -> _Timed:
        """Count the seconds of a stage, also if it is interrupted."""
        return _Timed(self, name)

    def finish(self, name: str) -> None:
        """A stage is done."""
        self.done.append(name)
        self.write()

    def write(self) -> None:
        """Replace the file.

        Raises:
            RunFolderError: it cannot be written.
        """
        text = {"asked": self.asked, "done": self.done, "seconds": self.seconds}
        unfinished = self.path.with_suffix(".tmp")
        try:
            unfinished.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
            unfinished.replace(self.path)
        except OSError as error:
            raise RunFolderError(
                f"cannot write {self.path}: {error.strerror}", remedy="choose another --out"
            ) from error


@dataclass
class _Timed:
    state: _State
    name: str
    began: float = 0.0

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        spent = time.perf_counter() - self.began
        self.state.seconds[self.name] = round(self.state.seconds.get(self.name, 0.0) + spent, 1)
        self.state.write()


def _begin(out: Path, config: PipelineConfig, resume: bool) -> _State:
    """The folder's state, new or of before."""
    path = out / STATE
    asked = json.loads(json.dumps(asdict(config)))
    if not path.exists():
        if out.exists() and any(out.iterdir()):
            raise ConfigError(
                "the folder holds something else", where=f"--out {out}",
                remedy="give a new or empty folder",
            )  # fmt: skip
        state = _State(path, asked, [], {})
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(
                f"cannot make {out}: {error.strerror}", remedy="choose another --out"
            ) from error
        state.write()
        return state
    if not resume:
        raise ConfigError(
            "the folder holds a training", where=f"--out {out}",
            remedy="go on with it by --resume, or give a new folder",
        )  # fmt: skip
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        state = _State(path, dict(held["asked"]), list(held["done"]), dict(held["seconds"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{path} cannot be read: {error}", remedy="delete the folder and start again"
        ) from error
    for key, value in asked.items():
        if state.asked.get(key) != value:
            raise ConfigError(
                f"--{key} was {state.asked.get(key)!r} and is {value!r} now", where=f"--out {out}",
                remedy=f"give --{key} as before, or a new folder",
            )  # fmt: skip
    return state
