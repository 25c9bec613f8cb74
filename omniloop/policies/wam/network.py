"""The networks as one call on a batch of decisions: what the policy asks, numpy in and out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omniloop.policies.wam.backbone import Cache
from omniloop.policies.wam.checkpoint import Checkpoint
from omniloop.policies.wam.inputs import PLAN_STEPS, Floats, Image
from omniloop.policies.wam.model import Ego


@dataclass(frozen=True, eq=False)
class Query:
    """One row: a frame to look at, and a decision to make on it.

    Attributes:
        cache: The frames kept before it, one row.
        image: ``(128, 256, 3)`` RGB of the wide camera.
        tele: Likewise of the second camera, if there is one.
        capture_s, decision_s: Seconds from the session's first frame.
        frame_noise: ``(C, h, w)`` standard normal.
        plan_noise: ``(S, 192)`` where the flows of S plans start.
        history, speed, has_motion, route, has_route: See `model.Ego`.
    """

    cache: Cache
    image: Image
    tele: Image | None
    capture_s: float
    decision_s: float
    frame_noise: Floats
    plan_noise: Floats
    history: Floats
    speed: float
    has_motion: bool
    route: Floats
    has_route: bool


@dataclass(frozen=True, eq=False)
class Answer:
    """Plans ``(S, 64, 3)`` and the cache that also holds the frame."""

    plans: NDArray[np.float64]
    cache: Cache


class Network:
    """A checkpoint on a device.

    Every pass has the same shapes: rows that are missing from a batch are copies of the last. On
    the CPU a pass has one row, since matrix products round by a row's place in a batch: a row's
    answer is the same bytes whatever the other rows are. It runs on one thread of the process,
    since sums round by how many share them: the bytes are the same on any number of cores.

    Args:
        checkpoint: What `checkpoint.load` gave, on `device`.
        device: "cpu" or "cuda".
        batch: Rows of a pass on cuda; more queries take several passes.
        compiled: Compile with static shapes and CUDA graphs.
    """

    def __init__(self, checkpoint: Checkpoint, device: str, batch: int, compiled: bool) -> None:
        self.config = checkpoint.config
        self.device = torch.device(device)
        self.batch = batch if self.device.type == "cuda" else 1
        self._autoencoder, self._model = checkpoint.autoencoder, checkpoint.model
        self._pass = self._run
        if compiled:
            self._pass = torch.compile(self._run, mode="reduce-overhead", dynamic=False)

    def empty(self) -> Cache:
        """The cache of a session that has seen nothing."""
        return Cache.empty(self.config, 1, self.device)

    @torch.inference_mode()
    def decide(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer queries, in their order."""
        answers: list[Answer] = []
        if self.device.type == "cpu" and torch.get_num_threads() != 1:
            torch.set_num_threads(1)
        for first in range(0, len(queries), self.batch):
            rows = list(queries[first : first + self.batch])
            padded = rows + rows[-1:] * (self.batch - len(rows))
            plans, kept, filled, count = self._pass(*self._tensors(padded))
            cache = Cache(kept, filled, count)
            held = plans.double().cpu().numpy()
            answers += [Answer(held[k], cache.row(k)) for k in range(len(rows))]
        return answers

    def _tensors(self, rows: list[Query]) -> tuple[Any, ...]:
        """The arguments of `_run`."""
        put = functools.partial(_put, device=self.device)
        cache = Cache.stack([q.cache for q in rows])
        black = np.zeros_like(rows[0].image)
        return (
            cache.kept, cache.filled, cache.count,
            put([q.image for q in rows]),
            put([black if q.tele is None else q.tele for q in rows]),
            put([q.tele is not None for q in rows]),
            put([[q.capture_s, q.decision_s, q.speed] for q in rows], np.float32),
            put([q.frame_noise for q in rows]), put([q.plan_noise for q in rows]),
            put([q.history for q in rows]), put([q.has_motion for q in rows]),
            put([q.route for q in rows]), put([q.has_route for q in rows]),
        )  # fmt: skip

    def _run(
        self, kept: Tensor, filled: Tensor, count: Tensor, image: Tensor, tele: Tensor,
        has_tele: Tensor, scalars: Tensor, frame_noise: Tensor, plan_noise: Tensor,
        history: Tensor, has_motion: Tensor, route: Tensor, has_route: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        capture_s, decision_s, speed = scalars.unbind(dim=1)
        ego = Ego(history, speed, has_motion, route, has_route)
        h, cache = self._model.look(
            Cache(kept, filled, count), self._autoencoder.encode(image), capture_s, ego,
            decision_s, frame_noise, tele, has_tele,
        )  # fmt: skip
        return self._model.act(h, speed, plan_noise), cache.kept, cache.filled, cache.count


def medoid(plans: NDArray[np.float64]) -> int:
    """Which of plans ``(S, 64, 3)`` is nearest to all others in mean distance."""
    xy = plans[:, :PLAN_STEPS, :2]
    gap = np.linalg.norm(xy[:, None] - xy[None], axis=-1).mean(axis=-1)
    return int(np.argmin(gap.sum(axis=1)))


def _put(values: Any, dtype: Any = None, *, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(values), dtype=dtype)).to(device)
