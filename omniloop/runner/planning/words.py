"""What a plan is asked for: words KEY=VALUE, and the times that a run measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from omniloop.core.errors import ConfigError, nearest
from omniloop.runlog.folder import open_existing, read_run_yaml
from omniloop.runlog.results import RolloutResult, read_results
from omniloop.runner.planning.plan import Service, Workload

ORDER = ("renderer", "policy", "controller", "ground", "traffic")
"""Services, in the order in which a step calls them: renderer and policy lead."""
METHODS = {
    "renderer": "render", "policy": "plan", "controller": "step", "ground": "correct",
    "traffic": "step",
}  # fmt: skip
"""The call of each that a step makes; what else is called of them is part of it."""

_TIMES = {"loop": "loop_s", "start": "start_s", "scoring": "scoring_s"}
_COUNTS = ("rollouts", "steps", "workers", "cores", "concurrency")
_SERVICE = ("time", "calls", "addresses", "sessions", "at_once", "batch", "gpus")
_ON_GPU = ("renderer", "policy")
_UNITS = {"us": "0.000001", "ms": "0.001", "s": "1", "min": "60", "h": "3600"}


@dataclass(frozen=True)
class Measured:
    """What a run took.

    Attributes:
        batch: The run itself, with its services elsewhere.
        own_s: CPU time of a worker in a step, by the service in its process that took it.
    """

    batch: Workload
    own_s: Mapping[str, float]


def batch_from_words(words: Sequence[str], measured: Measured | None = None) -> Workload:
    """A batch as words describe it: ``rollouts=10000 renderer=118ms,addresses=2 policy=80ms``.

    ``NAME=TIME,KEY=VALUE`` is short for ``NAME.time=TIME NAME.KEY=VALUE``. Times have units: us, ms,
    s, min, h.

    Args:
        measured: What words change; all of it must be said without.

    Raises:
        ConfigError: a key is unknown or comes twice, or a value is none that it can have.
    """
    given = _split(words)
    names = [name for name in ORDER if any(_service_of(key) == name for key in given)]
    there = () if measured is None else measured.batch.services
    services = []
    for name in ORDER:
        old = next((s for s in there if s.name == name), None)
        if old is not None or name in names:
            mine = {k.partition(".")[2]: v for k, v in given.items() if _service_of(k) == name}
            services.append(_service(name, mine, old))
    own: dict[str, Any] = {
        field: seconds_of(given[key], key) for key, field in _TIMES.items() if key in given
    }
    own |= {key: _whole(given[key], key) for key in _COUNTS if key in given}
    if measured is None:
        for key in ("rollouts", "steps"):
            if key not in own:
                raise ConfigError(
                    f"{key} is not given", remedy=f"add {key}=NUMBER, or give a run's folder first"
                )
        return Workload(services=tuple(services), **own)
    moved = sum(measured.own_s.get(name, 0.0) for name in names)
    if "loop_s" not in own:  # what is elsewhere now takes nothing of the worker
        own["loop_s"] = max(measured.batch.loop_s - moved, 0.0)
    return replace(measured.batch, services=tuple(services), **own)


def read_measured(run_dir: Path) -> Measured:
    """What a run measured: means over its completed rollouts; of a service, the least of them.

    The number of rollouts at once is that of a new run, not this one's.

    Raises:
        RunFolderError: the folder is no run's, or holds no result.
        ConfigError: no rollout completed.
    """
    open_existing(run_dir)
    config = read_run_yaml(run_dir).get("config") or {}
    found = read_results(run_dir)
    results = [r for r in found if r.outcome == "completed" and r.timings.get("services")]
    if not results:
        raise ConfigError(
            "no rollout of the run completed, so nothing is known of its times",
            where=str(run_dir), remedy="give a run with a completed rollout, or times as words",
        )  # fmt: skip
    steps = max(round(sum(r.decisions or 0 for r in results) / len(results)), 1)
    services, local, notes = [], {}, []
    for name in ORDER:
        arguments = config.get(name) or {}
        spent_s, calls = _spent(results, name)
        if not calls:
            continue
        if arguments.get("address"):
            services.append(_elsewhere(name, arguments, results, steps))
        else:
            local[name] = spent_s / steps / len(results)
    run = config.get("run") or {}
    in_flight = run.get("concurrency")
    own_s = _mean(
        r.timings["rollout_s"]
        - _timed_s(r, services, ("open", "close"))
        - sum(_timed_s(r, [s], (METHODS[s.name],)) for s in services)
        for r in results
    )
    if services and in_flight != 1 and len(results) > 1:
        notes.append(
            "calls were timed with several rollouts at once, so that waits at the services may be in "
            "them: a run with run.concurrency=1 tells them alone"
        )
    notes += [
        f"{s.name} is taken to work on one call at a time: say {s.name}.at_once or {s.name}.batch"
        for s in services
    ]
    batch = Workload(
        rollouts=len(found),
        steps=steps,
        services=tuple(services),
        loop_s=max(own_s, 0.0) / steps,
        start_s=_mean(_timed_s(r, services, ("open", "close")) for r in results),
        scoring_s=_mean(r.timings["wall_s"] - r.timings["rollout_s"] for r in results),
        workers=_number(run.get("workers")) or 1,
        notes=tuple(notes),
    )
    return Measured(batch, local)


def seconds_of(text: str, key: str) -> float:
    """A time such as ``118ms``, in seconds.

    Raises:
        ConfigError: it has no unit, or is none.
    """
    found = re.fullmatch(r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*([a-z]+)\s*", text)
    if found is not None and found[2] in _UNITS:
        return float(Decimal(found[1]) * Decimal(_UNITS[found[2]]))
    raise ConfigError(
        f"{key} is '{text}', which is no time", where=key,
        remedy=f"give a number of 0 or more and its unit ({', '.join(_UNITS)}), such as 118ms",
    )  # fmt: skip


# ---------------------------------------------------------------------------- words


def _split(words: Sequence[str]) -> dict[str, str]:
    """Key to text, the short form of services written out."""
    given: dict[str, str] = {}

    def add(key: str, value: str) -> None:
        _check(key)
        if key in given:
            raise ConfigError(f"{key} comes twice", where=key, remedy="give it once")
        given[key] = value.strip()

    for word in words:
        key, has_value, value = word.partition("=")
        if not has_value:
            raise ConfigError(f"'{word}' is no KEY=VALUE", remedy="such as rollouts=10000")
        if key not in ORDER:
            add(key, value)
            continue
        first, *rest = value.split(",")
        if first.strip():
            add(f"{key}.time", first)
        for part in rest:
            name, has_value, text = part.partition("=")
            if not has_value:
                raise ConfigError(f"'{part}' is no KEY=VALUE", where=word)
            add(f"{key}.{name.strip()}", text)
    return given


def _check(key: str) -> None:
    known = [*_COUNTS, *_TIMES, *(f"{name}.{each}" for name in ORDER for each in _SERVICE)]
    if key not in known:
        raise ConfigError(
            f"there is no '{key}'.{nearest(key, [*known, *ORDER])}",
            remedy=f"keys: {', '.join([*_COUNTS, *_TIMES])}; services: {', '.join(ORDER)}, "
            f"each with {', '.join(_SERVICE)}",
        )


def _service_of(key: str) -> str:
    return key.partition(".")[0] if "." in key else ""


def _service(name: str, given: Mapping[str, str], old: Service | None) -> Service:
    new: dict[str, Any] = {}
    for key, text in given.items():
        where = f"{name}.{key}"
        if key == "time":
            new["call_s"] = seconds_of(text, where)
        elif key == "gpus":
            new["gpus"] = _decimal(text, where)
        else:
            new[key] = _whole(text, where)
    if old is not None:
        return replace(old, **new)
    if "call_s" not in new:
        raise ConfigError(
            f"how long a call of {name} takes is not given", where=name,
            remedy=f"add {name}=TIME, such as {name}=118ms",
        )  # fmt: skip
    return Service(name, **{"gpus": float(name in _ON_GPU), **new})


def _whole(text: str, key: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or not int(text):
        raise ConfigError(f"{key} is '{text}'", where=key, remedy="give a whole number, 1 or more")
    return int(text)


def _decimal(text: str, key: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]*)?", text):
        raise ConfigError(f"{key} is '{text}'", where=key, remedy="give a number, 0 or more")
    return float(text)


# ------------------------------------------------------------------------------ run


def _spent(results: Sequence[RolloutResult], name: str) -> tuple[float, int]:
    """Seconds and calls of a service's part in steps, over rollouts."""
    method = f"{name}.{METHODS[name]}"
    found = [r.timings["services"][method] for r in results if method in r.timings["services"]]
    return sum(f["total_s"] for f in found), sum(f["calls"] for f in found)


def _elsewhere(
    name: str, arguments: Mapping[str, Any], results: Sequence[RolloutResult], steps: int
) -> Service:
    addresses = [a for a in str(arguments["address"]).split(",") if a.strip()]
    sessions = arguments.get("sessions")
    if isinstance(sessions, list | tuple):
        sessions = max(sum(sessions) // len(addresses), 1)
    each = [_spent([r], name) for r in results]
    call_s = min(spent_s / calls for spent_s, calls in each if calls)
    per_step = sum(calls for _, calls in each) / len(results) / steps
    calls = max(int(per_step), 1)
    return Service(
        name, call_s * max(per_step - (name == "renderer") / steps, 1.0) / calls, calls,
        len(addresses), _number(sessions), gpus=float(name in _ON_GPU),
    )  # fmt: skip


def _timed_s(result: RolloutResult, services: Sequence[Service], methods: Sequence[str]) -> float:
    """What a rollout waited for answers of services [s]."""
    timed = result.timings["services"]
    asked = [f"{service.name}.{method}" for service in services for method in methods]
    return float(sum(timed[name]["total_s"] for name in asked if name in timed))


def _mean(values: Any) -> float:
    numbers = list(values)
    return float(sum(numbers) / len(numbers))


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
