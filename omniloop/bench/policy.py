"""What a decision costs: latency one at a time and in batches, and memory."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omniloop.core.contracts import PolicySession
from omniloop.runner.policy_tape import Tape, drive

_WARM_UP = 3
"""Decisions that are not timed: caches, compilers."""


def run(settings: Sequence[str], batch: int = 8, rounds: int = 3) -> dict[str, Any]:
    """Drive a policy once, then ask it the same again: alone, and in `batch` rollouts at once.

    Args:
        settings: Of a run: ``policy=NAME`` and so on.
        batch: Rollouts that ask at once.
        rounds: How often each is timed; the fastest round counts.

    Returns:
        ``single`` and ``batched``: p50_ms and p95_ms of a decision as its rollout waits for it, and
        plans_per_s; ``throughput_ratio`` of the two; memory of a fresh process in MiB before the policy was
        made, ready, and at its peak; ``device``.

    Raises:
        InputError: a setting is not right.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (list(settings), batch, rounds))


def _measure(settings: list[str], batch: int, rounds: int) -> dict[str, Any]:
    before = _rss_mib()
    with tempfile.TemporaryDirectory() as folder:
        driven = drive([*settings, "run.seeds=1"], Path(folder, "run"))
    ready = _rss_mib()
    tape = driven.tapes[0]
    single = _best(driven.policy, tape, 1, rounds)
    batched = _best(driven.policy, tape, batch, rounds)
    return {
        "policy": settings, "device": _device(), "decisions": len(tape.asked), "batch": batch,
        "single": single, "batched": batched,
        "throughput_ratio": round(batched["plans_per_s"] / single["plans_per_s"], 2),
        "rss_mib": {"before": before, "after_a_rollout": ready, "peak": _peak_mib()},
    }  # fmt: skip


def _best(policy: Any, tape: Tape, at_once: int, rounds: int) -> dict[str, float]:
    timed = [asyncio.run(_round(policy, tape, at_once)) for _ in range(rounds)]
    return max(timed, key=lambda told: told["plans_per_s"])


async def _round(policy: Any, tape: Tape, at_once: int) -> dict[str, float]:
    """Sessions ask in step, as rollouts that share a renderer do."""
    sessions = [await policy.open(*tape.opened) for _ in range(at_once)]
    took_s: list[float] = []
    total_s = 0.0
    for k, asked in enumerate(tape.asked):
        began = time.perf_counter()
        each = await asyncio.gather(*(_timed(session, asked) for session in sessions))
        if k >= _WARM_UP:
            total_s += time.perf_counter() - began
            took_s += each
    for session in sessions:
        await session.close()
    p50, p95 = np.percentile(took_s, [50, 95]) * 1e3
    return {
        "p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3),
        "plans_per_s": round(len(took_s) / total_s, 2),
    }  # fmt: skip


async def _timed(session: PolicySession, asked: Any) -> float:
    began = time.perf_counter()
    await session.plan(asked)
    return time.perf_counter() - began


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)


def _peak_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _device() -> str:
    """What the networks of a policy may run on."""
    try:
        import torch
    except ImportError:
        return "cpu, without torch"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
