"""``result.json``: how a rollout ended, written last and atomically.

A rollout is complete when its ``result.json`` is there and valid. Schema
``omniloop-result``, version 1; ``docs/run_folder.md`` describes every key.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from omniloop.core.contracts import MetricValue
from omniloop.core.errors import RunFolderError
from omniloop.runlog.files import usable, write_atomic

SCHEMA = "omniloop-result"
VERSION = 1
RESULT_NAME = "result.json"

OUTCOMES = ("completed", "policy_failed", "infrastructure_failed")
"""How a rollout can end; only the last says nothing about the policy."""

_REMEDY = "run the rollout again with run.resume=true"


@dataclass(frozen=True)
class RolloutResult:
    """What is known of a rollout after its end.

    Attributes:
        scene: The scene's id.
        seed: The rollout's seed.
        session_id: ``<scene>/<seed>``.
        outcome: One of `OUTCOMES`.
        error: Why it failed ("type", "what", "where", "remedy"); None if it completed.
        metrics: Scores by name, each with its validity.
        plugins: Name of the plugin, by kind.
        privileged: What the policy may see beyond sensors.
        throttled: "declared_hz" and "actual_hz" of a policy that decided less often than
            it declared, else None.
        warmup_s: From render start to handover.
        handover_us: When ego and traffic leave the recording.
        end_us: The last committed time.
        stopped_by: Why it ended before the schedule's end; empty if it did not.
        decisions: Decisions in the schedule.
        decision_period_us: From one to the next.
        frames: Delivered frames by camera.
        facts: What each service's session told of itself, by service and subject;
            "imperfection" also stands beside the services, for what no session can tell.
        seeds: Each service's own seed.
        timings: Wall-clock times [s]; "services" holds calls, total_s and longest_s by
            ``service.method``.
        attempts: How often the rollout was started, the last one included.
        notices: What a reader should know, such as injected faults.
        suite: "name" and "sha256" (of its content) of the suite that it is of, else None.
        content_sha256: Hash of all that decides the result, see
            `omniloop.runner.batch.content`; empty in results of earlier versions.
        addresses: Where its services were, by name, of those that are elsewhere.
    """

    scene: str
    seed: int
    session_id: str
    outcome: str
    error: dict[str, str] | None = None
    metrics: dict[str, MetricValue] = field(default_factory=dict)
    plugins: dict[str, str] = field(default_factory=dict)
    privileged: list[str] = field(default_factory=list)
    throttled: dict[str, float] | None = None
    warmup_s: float | None = None
    handover_us: int | None = None
    end_us: int | None = None
    stopped_by: str = ""
    decisions: int | None = None
    decision_period_us: int | None = None
    frames: dict[str, int] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)
    attempts: int = 1
    notices: list[str] = field(default_factory=list)
    suite: dict[str, str] | None = None
    content_sha256: str = ""
    addresses: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(
                f"outcome is '{self.outcome}'; it must be one of {', '.join(OUTCOMES)}"
            )

    @property
    def key(self) -> tuple[str, int]:
        """Scene and seed."""
        return self.scene, self.seed

    def to_json(self) -> str:
        """Return the document; a NaN or an infinity becomes null, a score of it not valid.

        Raises:
            ValueError: a score's detail cannot be JSON.
        """
        document = {
            "schema": SCHEMA,
            "version": VERSION,
            **asdict(self),
            "metrics": {name: _metric_document(metric) for name, metric in self.metrics.items()},
        }
        return json.dumps(jsonable(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "") -> RolloutResult:
        """Read a document; keys that are not known are ignored.

        Raises:
            RunFolderError: it is cut off, not this schema, of another version, or a key
                is missing or wrong.
        """
        try:
            document = json.loads(text, parse_constant=_refuse)
        except ValueError as error:
            raise RunFolderError(f"not JSON: {error}", where=where, remedy=_REMEDY) from error
        schema = document.get("schema") if isinstance(document, dict) else None
        if schema != SCHEMA:
            raise RunFolderError(
                f"schema is {schema!r}, not '{SCHEMA}'", where=where, remedy=_REMEDY
            )
        if document.get("version") != VERSION:
            raise RunFolderError(
                f"schema version is {document.get('version')!r}, not {VERSION}", where=where,
                remedy="read it with the version of omniloop that wrote it, or run the rollout again",
            )  # fmt: skip
        try:
            return _ADAPTER.validate_python(
                {**document, "metrics": _metrics(document.get("metrics", {}))}
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"]) or "the document"
            raise RunFolderError(
                f"{key}: {first['msg']}, not {first['input']!r:.80}", where=where, remedy=_REMEDY
            ) from error
        except ValueError as error:
            raise RunFolderError(str(error), where=where, remedy=_REMEDY) from error


_ADAPTER = TypeAdapter(RolloutResult)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _metric_document(metric: MetricValue) -> dict[str, object]:
    value, reason = metric.value, metric.reason
    if value is not None and not math.isfinite(value):
        reason, value = f"the value is {float(value)}", None
    out: dict[str, object] = {"value": value, "valid": value is not None, "reason": reason}
    if metric.details:
        out["details"] = metric.details
    return out


def _metrics(documents: object) -> dict[str, object]:
    """Reshape scores to what the adapter takes.

    A score that is written as `RolloutResult.to_json` writes it needs no adapter, which would
    accept it unchanged. Any other is left to it.
    """
    if not isinstance(documents, dict):
        raise ValueError(f"metrics: an object is expected, not {documents!r:.80}")
    out: dict[str, object] = {}
    for name, item in documents.items():
        if not isinstance(item, dict) or "value" not in item:
            raise ValueError(
                f"metrics.{name}: an object with 'value' is expected, not {item!r:.80}"
            )
        value, reason, details = item["value"], item.get("reason", ""), item.get("details", {})
        if isinstance(value, float) and not math.isfinite(value):  # such as 1e999
            raise ValueError(f"metrics.{name}: the value is {value}")
        if item.get("valid") is not (value is not None):
            raise ValueError(f"metrics.{name}: valid is {item.get('valid')!r}, value is {value!r}")
        usual = value is None or type(value) is float
        if usual and type(reason) is str and type(details) is dict and "name" not in item:
            out[name] = MetricValue(name, value, reason, details)
        else:
            out[name] = {"name": name, **{k: v for k, v in item.items() if k != "valid"}}
    return out


def jsonable(value: Any) -> Any:
    """A copy that JSON can hold: numpy values become Python's, NaN and infinities null.

    Raises:
        ValueError: it holds something else.
    """
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    raise ValueError(f"{value!r:.80} of type {type(value).__name__} cannot be JSON")


def write_result(path: Path, result: RolloutResult) -> None:
    """Write ``result.json`` atomically.

    Raises:
        RunFolderError: it cannot be written.
        ValueError: see `RolloutResult.to_json`.
    """
    write_atomic(path, result.to_json().encode("utf-8", "backslashreplace"))


def read_result(path: Path) -> RolloutResult:
    """Read one ``result.json``.

    Raises:
        RunFolderError: it is missing, cut off or not valid.
    """
    with usable(path, "read", _REMEDY):
        data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RunFolderError(f"not UTF-8: {error}", where=str(path), remedy=_REMEDY) from error
    return RolloutResult.from_json(text, str(path))


@dataclass(frozen=True)
class FoundResults:
    """The results in a run folder.

    Attributes:
        results: Valid ones, sorted by scene and seed.
        damaged: One line for each that is not valid: path and fault.
    """

    results: list[RolloutResult]
    damaged: list[str]

    def of(self, wanted: Iterable[tuple[str, int]]) -> list[RolloutResult]:
        """Results of the rollouts wanted, by scene and seed, in their order."""
        by_key = {result.key: result for result in self.results}
        return [by_key[key] for key in wanted if key in by_key]


def find_results(run_dir: Path, known: Iterable[RolloutResult] = ()) -> FoundResults:
    """Read every ``result.json`` of a run; one that is damaged counts as absent.

    Args:
        known: Results found before that cannot have changed since: if they are still there they
            are not read again.
    """
    before = {(result.scene, str(result.seed)): result for result in known}
    results: list[RolloutResult] = []
    damaged: list[str] = []
    with _uncollected():
        for path in sorted(run_dir.glob(f"rollouts/*/*/{RESULT_NAME}")):
            place = path.parts[-3], path.parts[-2]
            result = before.get(place)
            if result is None:
                try:
                    result = read_result(path)
                except RunFolderError as error:
                    damaged.append(f"{path} is ignored: {error.what}")
                    continue
            if place != (result.scene, str(result.seed)):
                damaged.append(f"{path} is ignored: it is of rollout {result.scene}/{result.seed}")
                continue
            results.append(result)
    return FoundResults(sorted(results, key=lambda r: r.key), damaged)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Hold the cyclic garbage collector, which would walk all results read so far many times over.

    They have no cycles: there is nothing for it to find. Without it reading takes half the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_results(run_dir: Path) -> list[RolloutResult]:
    """Valid results of a run, sorted by scene and seed.

    Raises:
        RunFolderError: there is none.
    """
    found = find_results(run_dir)
    if not found.results:
        detail = f": {found.damaged[0]}" if found.damaged else ""
        raise RunFolderError(
            f"the run holds no result{detail}",
            where=str(run_dir),
            remedy="go on with run.resume=true",
        )
    return found.results
