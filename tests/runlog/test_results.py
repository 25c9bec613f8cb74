"""result.json: a round trip, atomic, no NaN, and what is refused."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from omniloop.core.contracts import MetricValue
from omniloop.core.errors import RunFolderError
from omniloop.runlog.results import (
    OUTCOMES,
    RolloutResult,
    find_results,
    jsonable,
    read_result,
    read_results,
    write_result,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=6)
metrics = st.dictionaries(
    words,
    st.tuples(
        st.none() | finite,
        words,
        st.dictionaries(words, st.lists(finite | st.none() | words, max_size=3)),
    ),
    max_size=4,
)


def result(**changes: Any) -> RolloutResult:
    return RolloutResult(
        **{"scene": "line", "seed": 3, "session_id": "line/3", "outcome": "completed", **changes}
    )


def full() -> RolloutResult:
    return result(
        outcome="policy_failed",
        error={"type": "PolicyError", "what": "a plan → too short", "where": "line/3", "remedy": ""},
        metrics={
            "progress": MetricValue("progress", 0.25, details={"s_m": [1.5, 2.0]}),
            "offroad": MetricValue("offroad", None, "the scene has no map"),
        },
        plugins={"policy": "log_replay", "renderer": "none"}, privileged=["recording"],
        throttled={"declared_hz": 10.0, "actual_hz": 3.75}, warmup_s=0.5, handover_us=1_700_000_000_000_000,
        end_us=5, stopped_by="policy", decisions=4, decision_period_us=266_664, frames={"front": 12},
        seeds={"policy": 2**63 - 1}, attempts=2, notices=["dropped a frame"],
        timings={"services": {"policy.plan": {"calls": 3, "total_s": 0.5, "longest_s": 0.25}}, "wall_s": 1.0},
    )  # fmt: skip


def test_a_result_comes_back() -> None:
    for r in (result(), full()):
        assert RolloutResult.from_json(r.to_json()) == r


@given(metrics)
def test_any_scores_come_back(values: dict[str, Any]) -> None:
    r = result(
        metrics={n: MetricValue(n, v, why, details) for n, (v, why, details) in values.items()}
    )
    text = r.to_json().encode("utf-8", "backslashreplace").decode()
    read = RolloutResult.from_json(text)
    assert {n: m.value for n, m in read.metrics.items()} == {
        n: m.value for n, m in r.metrics.items()
    }
    assert read == r


def test_the_document_is_plain_json_with_schema_and_version() -> None:
    document = json.loads(full().to_json())
    assert (document["schema"], document["version"]) == ("omniloop-result", 1)
    assert document["metrics"]["offroad"] == {
        "value": None,
        "valid": False,
        "reason": "the scene has no map",
    }
    assert document["metrics"]["progress"] == {
        "value": 0.25, "valid": True, "reason": "", "details": {"s_m": [1.5, 2.0]},
    }  # fmt: skip


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_a_number_that_is_none_becomes_null_with_a_reason(value: float) -> None:
    r = result(
        metrics={"x": MetricValue("x", value, details={"at": [1.0, value]})},
        timings={"wall_s": value},
    )
    text = r.to_json()
    assert "NaN" not in text
    assert "Infinity" not in text
    read = RolloutResult.from_json(text)
    assert read.metrics["x"] == MetricValue(
        "x", None, f"the value is {float(value)}", {"at": [1.0, None]}
    )
    assert read.timings == {"wall_s": None}


def test_numpy_values_become_plain_ones() -> None:
    value = {"a": np.float64(1.5), "b": np.arange(2), "c": (np.bool_(True), np.int64(7)), 3: None}
    assert jsonable(value) == {"a": 1.5, "b": [0, 1], "c": [True, 7], "3": None}
    with pytest.raises(ValueError, match="cannot be JSON"):
        jsonable({"a": object()})


def test_an_unknown_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="outcome is 'fine'"):
        result(outcome="fine")
    assert [result(outcome=o).outcome for o in OUTCOMES] == list(OUTCOMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "other"}, "schema is 'other'"),
        ({"version": 2}, "version is 2, not 1"),
        ({"outcome": "fine"}, "outcome is 'fine'"),
        ({"seed": "x"}, "seed: "),
        ({"seed": None}, "seed: "),
        ({"metrics": []}, "metrics: an object"),
        ({"metrics": {"a": 1.0}}, r"metrics\.a: an object with 'value'"),
        (
            {"metrics": {"a": {"value": 1.0, "valid": False}}},
            r"metrics\.a: valid is False, value is 1\.0",
        ),
        ({"metrics": {"a": {"value": "x", "valid": True}}}, r"metrics\.a"),
        ({"timings": 3}, "timings: "),
    ],
)
def test_a_wrong_key_is_named(change: dict[str, Any], message: str) -> None:
    document = {**json.loads(full().to_json()), **change}
    with pytest.raises(RunFolderError, match=message) as caught:
        RolloutResult.from_json(json.dumps(document), "somewhere")
    assert caught.value.where == "somewhere"


ODD = st.sampled_from(
    [None, 0, 7, True, 1.5, 10**400, "1.5", "x", "", [], ["b"], {}, {"a": [1, None]}]
)  # fmt: skip


@given(
    st.sampled_from([None, 1.5]) | ODD,
    st.none() | st.booleans(),
    st.dictionaries(st.sampled_from(["reason", "details", "name", "other"]), ODD),
)
def test_a_score_is_refused_or_taken_as_the_schema_says(
    value: Any, valid: bool | None, more: dict[str, Any]
) -> None:
    valid = value is not None if valid is None else valid
    document = json.loads(result().to_json())
    document["metrics"] = {"x": {"value": value, "valid": valid, **more}}
    try:
        expected = TypeAdapter(MetricValue).validate_python({"name": "x", "value": value, **more})
    except ValidationError:
        expected = None
    if valid is not (value is not None):
        expected = None
    try:
        found = RolloutResult.from_json(json.dumps(document)).metrics["x"]
    except RunFolderError:
        found = None
    assert found == expected
    assert found is None or type(found.value) in (float, type(None))


def test_a_missing_key_is_named() -> None:
    document = json.loads(full().to_json())
    del document["session_id"]
    with pytest.raises(RunFolderError, match="session_id"):
        RolloutResult.from_json(json.dumps(document))


def test_unknown_keys_are_ignored() -> None:
    document = {**json.loads(full().to_json()), "added_later": [1]}
    assert RolloutResult.from_json(json.dumps(document)) == full()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '{"schema": NaN}', "\x00\x01"])
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(RunFolderError):
        RolloutResult.from_json(text)


def test_every_cut_off_result_is_refused() -> None:
    text = full().to_json()
    for size in range(len(text.rstrip()) - 1):
        with pytest.raises(RunFolderError, match="not JSON"):
            RolloutResult.from_json(text[:size])


def test_a_written_result_replaces_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    write_result(path, result())

    def power_cut(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", power_cut)
        with pytest.raises(RunFolderError, match="No space left"):
            write_result(path, full())
    assert read_result(path) == result()
    assert os.listdir(tmp_path) == ["result.json"]
    write_result(path, full())
    assert read_result(path) == full()
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_result_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), sync(fd))[1])
    monkeypatch.setattr(Path, "replace", lambda a, b: (order.append("replace"), replace(a, b))[1])
    write_result(tmp_path / "result.json", result())
    assert order == ["fsync", "replace"]


def test_an_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"result\.json cannot be written: Not a directory"):
        write_result(tmp_path / "file" / "result.json", result())


def place(run_dir: Path, scene: str, seed: int, text: str) -> Path:
    path = run_dir / "rollouts" / scene / str(seed) / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_results_that_are_known_are_not_read_again_but_must_be_there(tmp_path: Path) -> None:
    for seed in range(4):
        place(tmp_path, "a", seed, result(scene="a", seed=seed).to_json())
    first = find_results(tmp_path)
    again = result(scene="a", seed=1, attempts=2)
    (tmp_path / "rollouts/a/0/result.json").write_text("not read")
    (tmp_path / "rollouts/a/1/result.json").write_text(again.to_json())
    (tmp_path / "rollouts/a/2/result.json").unlink()
    (tmp_path / "rollouts/a/3/result.json").write_text("read, and damaged")
    found = find_results(tmp_path, [r for r in first.results if r.seed in (0, 2)])
    assert found.results == [first.results[0], again]
    assert found.results[0] is first.results[0]
    assert [line.split(" is ignored")[0] for line in found.damaged] == [
        str(tmp_path / "rollouts/a/3/result.json")
    ]


def test_results_are_given_in_the_order_in_which_they_are_wanted(tmp_path: Path) -> None:
    for seed in range(3):
        place(tmp_path, "a", seed, result(scene="a", seed=seed).to_json())
    found = find_results(tmp_path)
    assert [r.seed for r in found.of([("a", 2), ("a", 0), ("z", 0)])] == [2, 0]


def test_reading_results_leaves_the_garbage_collector_as_it_was(tmp_path: Path) -> None:
    for was in (True, False):
        (gc.enable if was else gc.disable)()
        try:
            find_results(tmp_path)
            assert gc.isenabled() is was
        finally:
            gc.enable()


def test_results_are_found_by_scene_and_seed_and_damaged_ones_named(tmp_path: Path) -> None:
    for scene, seed in (("b", 1), ("a", 10), ("a", 2)):
        place(tmp_path, scene, seed, result(scene=scene, seed=seed).to_json())
    cut = place(tmp_path, "a", 3, result(scene="a", seed=3).to_json()[:50])
    moved = place(tmp_path, "a", 4, result(scene="a", seed=2).to_json())
    (tmp_path / "rollouts" / "a" / "5").mkdir()
    found = find_results(tmp_path)
    assert [r.key for r in found.results] == [("a", 2), ("a", 10), ("b", 1)]
    assert [r.key for r in read_results(tmp_path)] == [("a", 2), ("a", 10), ("b", 1)]
    assert len(found.damaged) == 2
    assert found.damaged[0].startswith(f"{cut} is ignored: not JSON")
    assert found.damaged[1] == f"{moved} is ignored: it is of rollout a/2"


def test_a_run_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no result"):
        read_results(tmp_path)
    place(tmp_path, "a", 3, "{")
    with pytest.raises(RunFolderError, match=r"holds no result: .*is ignored"):
        read_results(tmp_path)
