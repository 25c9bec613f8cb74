"""What scores cost: families, contacts against brute force, the page, during a rollout."""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from omniloop.bench import report
from omniloop.bench.loop import spread
from omniloop.bench.metrics_contacts import by_metrics, in_arrays, one_by_one
from omniloop.bench.metrics_scenes import Rolled, roll
from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError, OmniloopError
from omniloop.core.motion import ActorMotion, EgoMotion
from omniloop.core.record import Metric, RolloutRecord
from omniloop.metrics.contacts import (
    PER_STEP,
    STOPPED_MPS,
    VERTICAL_TOLERANCE_M,
    contacts,
    find_overlaps,
)
from omniloop.metrics.excursions import TOLERANCE_M, excursions
from omniloop.metrics.online import IncidentWatch
from omniloop.metrics.samples import score_samples
from omniloop.metrics.scoring import score
from omniloop.runlog.record import read_record
from omniloop.runlog.results import RolloutResult
from omniloop.runner.assemble import create_metrics

_Spent = tuple[float, float]
"""Milliseconds by the wall's clock, and of this process's CPU time."""

_BRUTE_REPEATS = 3
_PAGE_ROLLOUTS = 1000
_WORTH_NAMING_MS = 0.5


class Differs(OmniloopError):
    """Two ways to the same scores do not agree."""


@dataclass
class _Bench:
    """What the parts share: the rollouts, simulated when the first asks for them."""

    folder: Path
    settings: Sequence[str]
    actors: int
    seconds: float
    repeat: int

    @cached_property
    def rolled(self) -> dict[str, Rolled]:
        """Rollouts by scene."""
        return roll(self.folder, self.settings, self.actors, self.seconds)


def run(
    parts: Sequence[str],
    settings: Sequence[str] = (),
    actors: int = 60,
    seconds: float = 20.0,
    repeat: int = 15,
) -> dict[str, Any]:
    """Measure the parts named.

    Args:
        parts: Names of `PARTS`.
        settings: Scenes to drive, as for `omniloop run`; without any, two made ones.
        actors, seconds: Of the made ones.
        repeat: How often scores are made.

    Raises:
        InputError: a part is unknown, a number too small, or a scene wrong.
        Differs: brute force finds other contacts, or the log gives other scores.
    """
    unknown = [p for p in parts if p not in PARTS]
    if unknown or repeat < 1:
        raise ConfigError(
            f"unknown part '{unknown[0]}'" if unknown else f"repeat is {repeat}",
            remedy=f"parts: {', '.join(PARTS)}; repeat at least once",
        )
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(Path(folder), settings, actors, seconds, repeat)
        return {name: PARTS[name](bench) for name in parts}


# ----------------------------------------------------------------------------- parts


def _families(bench: _Bench) -> dict[str, Any]:
    """Each family by itself, and one after the other on one record, which share much."""
    families = _by_family()
    out: dict[str, Any] = {"target": "omniloop and alpasim <= 40 ms, nuplan adds <= 80 ms"}
    for name, rolled in bench.rolled.items():
        alone = {}
        for family, metrics in families.items():
            # Read with its scene, so that nothing is known of the map yet.
            first_ms = _timed(score, read_record(rolled.log), metrics)[0]
            times = [_timed(score, record, metrics) for record in _fresh(bench, rolled)]
            alone[family] = {"first_ms": round(first_ms, 2), **_spreads(times)}
        added = _one_after_the_other(bench, rolled, families)
        out[name] = {
            "rollout": _facts(rolled.record),
            "alone": alone,
            "one_after_the_other": {
                "omniloop_and_alpasim": _spreads(_sums(added["omniloop"], added["alpasim"])),
                "nuplan_adds": _spreads(added["nuplan"]),
                "navsim_adds": _spreads(added["navsim"]),
                "all": _spreads(_sums(*added.values())),
            },
            "by_metric_ms": _by_metric(bench, rolled, families),
        }
    return out


def _contacts(bench: _Bench) -> dict[str, Any]:
    """The same contacts by the metrics and by shapely, in turn."""
    out: dict[str, Any] = {"target": "one by one / ours >= 20"}
    for name, rolled in bench.rolled.items():
        found = {look: look(rolled.record) for look in (by_metrics, one_by_one, in_arrays)}
        for look in (one_by_one, in_arrays):
            if found[look] != found[by_metrics]:
                raise Differs(
                    f"contacts differ: the metrics find {found[by_metrics]}, "
                    f"shapely {found[look]}", where=name,
                    remedy="see whether boxes touch within a micrometre; else it is a defect",
                )  # fmt: skip
        times: dict[str, list[_Spent]] = {"ours": [], "one_by_one": [], "in_arrays": []}
        for k, record in enumerate(_fresh(bench, rolled)):
            times["ours"].append(_timed(by_metrics, record))
            if k < _BRUTE_REPEATS:
                times["in_arrays"].append(_timed(in_arrays, record))
                times["one_by_one"].append(_timed(one_by_one, record))
        best = {way: min(cpu_ms for _, cpu_ms in spent) for way, spent in times.items()}
        out[name] = {
            "rollout": _facts(rolled.record),
            "contacts": len(found[by_metrics].contacts),
            "ignored_since_handover": len(found[by_metrics].ignored),
            **{way: _spreads(spent) for way, spent in times.items()},
            "one_by_one_to_ours": round(best["one_by_one"] / best["ours"], 1),
            "in_arrays_to_ours": round(best["in_arrays"] / best["ours"], 1),
        }
    return out


def _report(bench: _Bench) -> dict[str, Any]:
    """The page of many rollouts; see `bench.report`."""
    return {
        "target": "1000 rollouts in <= 20 s and <= 500 MB",
        **report.run(_PAGE_ROLLOUTS, bench.actors, bench.seconds),
    }


def _online(bench: _Bench) -> dict[str, Any]:
    """Scores made as a rollout ends and from its log, and the watch that can stop it."""
    out: dict[str, Any] = {}
    metrics = create_metrics(compose(["metrics=all"]).metrics)
    for name, rolled in bench.rolled.items():
        from_log = {value.name: value for value in score(rolled.record, metrics)}
        for result in rolled.results:
            _same_scores(result, replace(result, metrics=from_log))
        watched, steps = _watch(bench, rolled.record)
        watch_ms = min(ms for ms, _ in watched)
        read = [_timed(_read_with_scene, rolled) for _ in range(bench.repeat)]
        again = [_timed(score, record, metrics) for record in _fresh(bench, rolled)]
        loop_ms = 1e3 * min(float(r.timings["rollout_s"]) for r in rolled.results)
        scoring_ms = 1e3 * min(float(r.timings["scoring_s"]) for r in rolled.results)
        out[name] = {
            "scores": len(from_log),
            "scores_with_a_value": sum(value.valid for value in from_log.values()),
            "identical": True,
            "loop_ms": round(loop_ms, 1),
            "scoring_at_its_end_ms": round(scoring_ms, 1),
            "scoring_share": round(scoring_ms / (loop_ms + scoring_ms), 3),
            "watch": _spreads(watched),
            "watch_ms_per_step": round(watch_ms / steps, 4),
            "watch_share_of_loop": round(watch_ms / loop_ms, 3),
            "from_log": {"read": _spreads(read), "score": _spreads(again)},
        }
    return out


PARTS: dict[str, Callable[[_Bench], dict[str, Any]]] = {
    "families": _families,
    "contacts": _contacts,
    "online": _online,
    "report": _report,
}


# ----------------------------------------------------------------------------- helpers


def _by_family() -> dict[str, list[Metric]]:
    """Metrics by the group of settings that turns them on."""
    own = compose([]).metrics
    families = {"omniloop": create_metrics(own)}
    for family in ("alpasim", "nuplan", "navsim"):
        more = compose([f"metrics={family}"]).metrics
        families[family] = create_metrics({k: v for k, v in more.items() if k not in own})
    return families


def _fresh(bench: _Bench, rolled: Rolled) -> list[RolloutRecord]:
    """Records of which nothing is known yet, of a scene that is; no old rubbish to collect."""
    gc.collect()
    return [replace(rolled.record) for _ in range(bench.repeat)]


def _timed(function: Callable[..., object], *args: Any) -> _Spent:
    """What a call takes."""
    began, began_cpu = time.perf_counter(), time.process_time()
    function(*args)
    spent, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    return 1e3 * spent, 1e3 * cpu


def _sums(*series: list[_Spent]) -> list[_Spent]:
    return [
        (sum(ms for ms, _ in spent), sum(cpu_ms for _, cpu_ms in spent))
        for spent in zip(*series, strict=True)
    ]


def _spreads(times: list[_Spent]) -> dict[str, dict[str, float]]:
    return {"ms": spread([ms for ms, _ in times]), "cpu_ms": spread([cpu for _, cpu in times])}


def _one_after_the_other(
    bench: _Bench, rolled: Rolled, families: dict[str, list[Metric]]
) -> dict[str, list[_Spent]]:
    """What each family adds on one record, every time."""
    added: dict[str, list[_Spent]] = {family: [] for family in families}
    for record in _fresh(bench, rolled):
        for family, metrics in families.items():
            added[family].append(_timed(score, record, metrics))
    return added


def _by_metric(
    bench: _Bench, rolled: Rolled, families: dict[str, list[Metric]]
) -> dict[str, float]:
    """Median milliseconds that each costly metric adds on one record, the costliest first."""
    times: dict[str, list[float]] = {}
    for record in _fresh(bench, rolled):
        for metric in (m for metrics in families.values() for m in metrics):
            ms = _timed(score, record, [metric])[0]
            times.setdefault(type(metric).__name__, []).append(ms)
    medians = {name: spread(ms)["median"] for name, ms in times.items()}
    costly = sorted(medians, key=lambda name: -medians[name])
    return {name: medians[name] for name in costly if medians[name] >= _WORTH_NAMING_MS}


def _facts(record: RolloutRecord) -> dict[str, Any]:
    """What there is to score."""
    scene, samples = record.scene, score_samples(record)
    if samples is None:
        raise ConfigError("nothing was driven", where=record.session_id, remedy="drive longer")
    seen = find_overlaps(
        record.ego, record.actors, scene.vehicle, scene.actor_sizes_m, samples.times_us
    ).seen
    between = np.arange(seen.shape[1]) % PER_STEP != 0
    return {
        "simulated_s": round(float(samples.times_us[-1] - samples.times_us[0]) / 1e6, 1),
        "actors": len(scene.tracks),
        "lanes": len(scene.map.lanes),
        "plans": len(record.decisions),
        "near_actors_a_step": round(float(seen[:, between].sum() / max(between.sum(), 1)), 1),
    }


def _read_with_scene(rolled: Rolled) -> RolloutRecord:
    return read_record(rolled.log, scene=rolled.record.scene)


def _same_scores(made: RolloutResult, from_log: RolloutResult) -> None:
    one, other = (json.loads(result.to_json())["metrics"] for result in (made, from_log))
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    if names:
        raise Differs(
            f"scores made at the end and from the log differ: {', '.join(names)}",
            where=made.session_id, remedy="this is a defect",
        )  # fmt: skip


def _watch(bench: _Bench, record: RolloutRecord) -> tuple[list[_Spent], int]:
    """What `IncidentWatch` takes over all steps of a rollout, every time, and how many there are.

    Raises:
        Differs: it finds other incidents than the metrics.
    """
    schedule = record.schedule
    cuts = [
        *range(schedule.handover_us, record.frontier_us, schedule.decision_period_us),
        record.frontier_us,
    ]
    steps = [
        (_ego_between(record.ego, after, until), record.actors.between(after, until))
        for after, until in pairwise([schedule.context_start_us - 1, *cuts])
    ]
    spent = []
    for _ in range(bench.repeat):
        watch = IncidentWatch(record.scene, schedule)
        spent.append(_timed(_advance, watch, steps))
    touched = contacts(record, STOPPED_MPS, VERTICAL_TOLERANCE_M).contacts
    left = excursions(record, TOLERANCE_M).excursions
    wanted = {"collision": touched[0].start_us} if touched else {}
    wanted |= {"offroad": left[0].start_us} if left else {}
    if watch.first_us != wanted:
        raise Differs(
            f"the watch finds {watch.first_us}, the metrics {wanted}",
            where=record.session_id, remedy="this is a defect",
        )  # fmt: skip
    return spent, len(steps)


def _advance(watch: IncidentWatch, steps: list[tuple[EgoMotion, ActorMotion]]) -> None:
    for ego, actors in steps:
        watch.advance(ego, actors)


def _ego_between(ego: EgoMotion, after_us: int, until_us: int) -> EgoMotion:
    lo, hi = np.searchsorted(ego.times_us, [after_us, until_us], side="right")
    return EgoMotion(ego.times_us[lo:hi], ego.local_to_rig[lo:hi], ego.dynamics[lo:hi])
