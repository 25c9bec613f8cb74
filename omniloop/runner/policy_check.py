"""Try a policy against its contract, in rollouts and by asking its sessions again."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from omniloop.core.contracts import Observation, Plan, Policy, PolicySession
from omniloop.core.errors import OmniloopError
from omniloop.core.motion import Trajectory
from omniloop.runner.policy_tape import Driven, Tape, drive

PERIODS = {
    "every 100 ms": ("renderer.chunk=0", "renderer.fps=10", "sync.decision_period_us=100000"),
    "every 266 ms, in chunks of 8 frames": ("renderer.chunk=8", "renderer.fps=30"),
    "every 500 ms": ("renderer.chunk=0", "renderer.fps=10", "sync.decision_period_us=500000"),
}
"""Decision grids that a policy is driven on, with the settings that make them."""

_ANCHOR_M = 0.1
_ANSWER_S, _CHECK_S = 30.0, 300.0
_FASTEST_MPS = 100.0


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        good: Whether the policy keeps this part of the contract; None if it does not apply.
    """

    check: str
    good: bool | None
    detail: str


def check_policy(name: str, settings: Sequence[str] = ()) -> Iterator[Finding]:
    """Drive a policy and ask it again; findings come as they are made.

    Args:
        name: Its name or ``module:Class``.
        settings: ``KEY=VALUE`` as of a run, such as the policy's own settings.

    Raises:
        InputError: the policy or a setting is unknown or unusable, so that nothing can be tried.
    """
    given = [f"policy={name}", *settings]
    with tempfile.TemporaryDirectory() as folder:
        driven: dict[str, Driven] = {}
        for grid, overrides in PERIODS.items():
            driven[grid] = drive([*given, *overrides], Path(folder, str(len(driven))))
            yield _completed(grid, driven[grid])
        grid, overrides = next(iter(PERIODS.items()))
        first = driven[grid]
        yield from _plans(first)
        if any(r.outcome != "completed" for r in first.results):
            yield Finding("the rest", None, "needs rollouts that complete")
            return
        random.seed(17)
        np.random.seed(17)  # noqa: NPY002  (whoever draws from it is found out)
        again = drive([*given, *overrides], Path(folder, "again"), at_once=2)
        yield _same("determinism", first, again)
        # Asked without a run from here on: the same services, one session at a time.
        yield from asyncio.run(_asked_again(first))
        yield _latency(first)


def _completed(grid: str, driven: Driven) -> Finding:
    failed = [r for r in driven.results if r.outcome != "completed"]
    if failed:
        why = (failed[0].error or {}).get("what", "")
        return Finding(
            f"decisions {grid}", False, f"{failed[0].session_id} {failed[0].outcome}: {why}"
        )
    plans = sum(len(tape.answers) for tape in driven.tapes)
    return Finding(f"decisions {grid}", True, f"{plans} plans in {len(driven.results)} rollouts")


def _plans(driven: Driven) -> Iterator[Finding]:
    """Where plans start, how far they reach, how fast they are."""
    spec = driven.policy.spec
    off, short, fast = [], [], []
    for tape in driven.tapes:
        for asked, plan in zip(tape.asked, tape.answers, strict=True):
            path = plan.local_to_rig
            if len(path.times_us) == 0:
                continue
            at = f"{asked.session_id} at {asked.time_us} us"
            gap_m = float(np.linalg.norm(path.poses[0, :3] - asked.ego.local_to_rig[-1, :3]))
            if path.times_us[0] != asked.time_us or gap_m > _ANCHOR_M:
                off.append(
                    f"{at}: {path.times_us[0] - asked.time_us} us and {gap_m:.2f} m from ego"
                )
            reach_s = (path.times_us[-1] - asked.time_us) / 1e6
            if reach_s < spec.horizon_s - 0.15:
                short.append(f"{at}: {reach_s:.1f} of the {spec.horizon_s} s that it declares")
            if len(path.times_us) > 1:
                step_m = np.linalg.norm(np.diff(path.poses[:, :2], axis=0), axis=1)
                speed = float((step_m / (np.diff(path.times_us) / 1e6)).max())
                if speed > _FASTEST_MPS:
                    fast.append(f"{at}: {speed:.0f} m/s")
    for check, wrong, fine in (
        ("plans start at ego", off, "the first pose is ego's own, at the decision"),
        ("plans reach their horizon", short, f"{spec.horizon_s} s"),
        ("plans can be driven", fast, f"none faster than {_FASTEST_MPS:.0f} m/s"),
    ):
        yield Finding(check, not wrong, _first(wrong) if wrong else fine)


def _first(wrong: Sequence[str]) -> str:
    return wrong[0] + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")


def _same(check: str, first: Driven, again: Driven) -> Finding:
    differing = [a[1] for a, b in zip(first.digests, again.digests, strict=False) if a != b]
    if differing or len(first.digests) != len(again.digests):
        return Finding(
            check, False, f"{', '.join(differing) or 'a rollout'} differs when run again beside"
            " another: draw at random from session.seed, keep state in the session",
        )  # fmt: skip
    return Finding(check, True, "the same bytes when run again, two rollouts at once")


async def _asked_again(driven: Driven) -> list[Finding]:
    policy, tape = driven.policy, driven.tapes[0]
    await _contact(policy, "connect")
    try:
        return [
            await _check("batch equals single", _together(policy, driven.tapes)),
            await _check("little history", _little_history(policy, tape)),
            await _check("bad frames", _bad_frames(policy, tape)),
            await _check("close in mid-rollout", _close_early(policy, tape)),
        ]
    finally:
        await _contact(policy, "disconnect")


async def _contact(policy: Policy, method: str) -> None:
    call = getattr(policy, method, None)
    if call is not None:
        await call()


async def _check(name: str, found: Awaitable[str]) -> Finding:
    try:
        return Finding(name, True, await asyncio.wait_for(found, _CHECK_S))
    except _Wrong as wrong:
        return Finding(name, False, str(wrong))
    except _NotApplicable as reason:
        return Finding(name, None, str(reason))
    except TimeoutError:
        return Finding(name, False, f"not done within {_CHECK_S:.0f} s")


class _Wrong(Exception):
    """The policy breaks its contract."""


class _NotApplicable(Exception):
    """A check that says nothing of this policy."""


async def _replay(policy: Policy, tape: Tape, count: int | None = None) -> list[bytes]:
    """Ask a new session the first questions of a tape."""
    return await _answers(await policy.open(*tape.opened), tape, count)


async def _answers(session: PolicySession, tape: Tape, count: int | None = None) -> list[bytes]:
    try:
        plans = []
        for asked in tape.asked[:count]:
            plans.append(plan_bytes(await session.plan(asked)))
        return plans
    except OmniloopError as error:
        raise _Wrong(f"a session that is asked again fails: {error.what}") from error
    finally:
        await session.close()


def plan_bytes(plan: Plan) -> bytes:
    """All of a plan as bytes, so that two plans can be compared to the last bit."""

    def of(path: Trajectory) -> bytes:
        return path.times_us.tobytes() + path.poses.tobytes()

    words = f"{plan.reasoning}|{plan.terminate}".encode()
    return b"|".join([of(plan.local_to_rig), *map(of, plan.samples), words])


async def _together(policy: Policy, tapes: Sequence[Tape]) -> str:
    alone = await _replay(policy, tapes[0])
    size = max(4, len(tapes))
    company = [tapes[k % len(tapes)] for k in range(size)]
    sessions = [await policy.open(*tape.opened) for tape in company]
    shared = await asyncio.gather(*map(_answers, sessions, company))
    for k, (one, other) in enumerate(zip(alone, shared[0], strict=True)):
        if one != other:
            raise _Wrong(
                f"plan {k} differs when {size} sessions ask at once: keep state in the session,"
                " and pad batches to one size"
            )
    return f"{len(alone)} plans are the same bytes alone and among {size} sessions"


async def _little_history(policy: Policy, tape: Tape) -> str:
    asked = tape.asked[0]
    ego = asked.ego
    bare = replace(
        asked,
        ego=replace(
            ego, times_us=ego.times_us[-1:], local_to_rig=ego.local_to_rig[-1:],
            dynamics=ego.dynamics[-1:],
        ),
        frames={camera: frames[-1:] for camera, frames in asked.frames.items()},
    )  # fmt: skip
    said = [await _one(policy, tape, bare)]
    if asked.frames:
        said.append(await _one(policy, tape, replace(bare, frames=dict.fromkeys(bare.frames, ()))))
    return "; ".join(said)


async def _one(
    policy: Policy, tape: Tape, observation: Observation, *, any_error: bool = False
) -> str:
    """What a new session does with one strange observation."""
    session = await policy.open(*tape.opened)
    try:
        plan = await asyncio.wait_for(session.plan(observation), _ANSWER_S)
    except OmniloopError as error:
        return f"refused: {error.what}"
    except TimeoutError:
        raise _Wrong(f"no answer within {_ANSWER_S:.0f} s") from None
    except Exception as error:
        if any_error:  # it fails that rollout alone, with these words
            return f"refused: {type(error).__name__}: {error}"
        raise _Wrong(
            f"{type(error).__name__}: {error}: raise PolicyError(what, remedy=...), or return an"
            " empty plan while there is too little to go by"
        ) from error
    finally:
        await session.close()
    path = plan.local_to_rig
    if len(path.times_us) == 0:
        return "an empty plan"
    if not np.isfinite(path.poses).all():
        raise _Wrong("a plan with numbers that are not finite")
    return "a plan"


async def _bad_frames(policy: Policy, tape: Tape) -> str:
    if not any(asked.frames for asked in tape.asked):
        raise _NotApplicable("it looks at no frames")
    before = await _replay(policy, tape, 3)
    asked = tape.asked[-1]
    said = []
    for what, spoil in (
        ("cut off", lambda image: image[: len(image) // 2]),
        ("not an image", lambda image: b"not an image"),
    ):
        frames = {
            camera: tuple(replace(f, image=spoil(f.image)) for f in held)
            for camera, held in asked.frames.items()
        }
        spoilt = replace(asked, frames=frames)
        said.append(f"{what}: {await _one(policy, tape, spoilt, any_error=True)}")
    if await _replay(policy, tape, 3) != before:
        raise _Wrong("other sessions plan otherwise after a bad frame")
    return "; ".join(said)


async def _close_early(policy: Policy, tape: Tape) -> str:
    whole = await _replay(policy, tape)
    await _replay(policy, tape, len(tape.asked) // 2)
    await (await policy.open(*tape.opened)).close()  # opened, never asked
    if await _replay(policy, tape) != whole:
        raise _Wrong("a session that ended early changes the plans of the next")
    return "the next session plans as if nothing had happened"


def _latency(driven: Driven) -> Finding:
    took = np.array([s for tape in driven.tapes for s in tape.took_s]) * 1e3
    p50, p95 = np.percentile(took, [50, 95])
    return Finding("time of a plan", None, f"median {p50:.2f} ms, 95th percentile {p95:.2f} ms")
