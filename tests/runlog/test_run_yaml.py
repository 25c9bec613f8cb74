"""run.yaml: settings without secrets, the machine, and what a resumed run may not change."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from omniloop.core.errors import RunFolderError
from omniloop.runlog import run_yaml
from omniloop.runlog.environment import describe_environment, differences, environment_changes
from omniloop.runlog.redact import names_secret, without_secret, without_secrets
from omniloop.runlog.run_yaml import read_run_yaml, to_yaml, write_run_yaml

DOCUMENT: dict[str, Any] = {
    "config": {
        "policy": {"name": "my:Policy", "horizon_s": 5.0, "address": "gpu1:50051"},
        "sync": {"strategy": "prefetch", "warmup_s": "auto"},
        "metrics": {"collision": {}},
        "scenes": {"name": "av2", "path": "/data/a(1)/1e5"},
        "run": {"name": "demo", "seeds": [0, 1], "root_seed": 0, "resume": False, "stop_on": []},
    },
    "root_seed": 0,
    "scenes": {"a": "00", "b": "11"},
    "exclusions": [{"scene": "c", "reason": "too short"}],
}


def changed(path: str, value: object) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    *parents, last = path.split(".")
    at = document
    for key in parents:
        at = at[key]
    at[last] = value
    return document


def test_it_holds_what_was_given_and_the_machine(tmp_path: Path) -> None:
    assert write_run_yaml(tmp_path, DOCUMENT) == []
    read = read_run_yaml(tmp_path)
    assert {key: read[key] for key in DOCUMENT} == DOCUMENT
    assert list(read) == [*DOCUMENT, "environment"]
    environment = read["environment"]
    assert environment == describe_environment()
    assert {"omniloop", "numpy", "protobuf", "mcap"} <= set(environment["versions"])
    assert environment["cpu"]["machine"]
    assert environment["blas"]["name"]


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="there is no /proc/cpuinfo here")
def test_cpu_features_are_those_of_the_machine() -> None:
    features = set(describe_environment()["cpu"]["features"].split())
    assert features & {"sse2", "asimd", "fp"}


def test_secrets_do_not_reach_it(tmp_path: Path) -> None:
    write_run_yaml(tmp_path, changed("config.policy.api_key", "hunter2"))
    text = (tmp_path / "run.yaml").read_text()
    assert "hunter2" not in text
    assert "api_key: '***'" in text
    assert write_run_yaml(tmp_path, changed("config.policy.api_key", "rotated")) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("config.policy.horizon_s", 6.0),
        ("config.policy.name", "log_replay"),
        ("config.policy.extra", None),
        ("config.sync.warmup_s", 1.0),
        ("config.metrics", {}),
        ("config.run.stop_on", ["collision"]),
        ("root_seed", 1),
        ("scenes.a", "22"),
    ],
)
def test_a_resumed_run_must_simulate_the_same(tmp_path: Path, path: str, value: object) -> None:
    write_run_yaml(tmp_path, DOCUMENT)
    with pytest.raises(RunFolderError, match="begun with other settings") as caught:
        write_run_yaml(tmp_path, changed(path, value))
    assert path.rpartition(".")[2] in caught.value.what
    assert "run.name=" in caught.value.remedy
    assert read_run_yaml(tmp_path)["config"] == DOCUMENT["config"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("config.policy.address", "gpu2:50051"),
        ("config.run.seeds", [0, 1, 2, 3]),
        ("config.run.resume", True),
        ("config.run.concurrency", 4),
        ("config.scenes.limit", 5),
        ("scenes", {"b": "11", "d": "33"}),
        ("exclusions", []),
    ],
)
def test_a_resumed_run_may_do_more_or_elsewhere(tmp_path: Path, path: str, value: object) -> None:
    write_run_yaml(tmp_path, DOCUMENT)
    document = changed(path, value)
    assert write_run_yaml(tmp_path, document) == []
    assert {key: read_run_yaml(tmp_path)[key] for key in document} == document


def test_another_machine_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run_yaml(tmp_path, DOCUMENT)
    here = describe_environment()
    there = {**here, "versions": {**here["versions"], "numpy": "9.9"}}
    monkeypatch.setattr(run_yaml, "describe_environment", lambda: there)
    (warning,) = write_run_yaml(tmp_path, DOCUMENT)
    assert f"versions.numpy: {here['versions']['numpy']} -> 9.9" in warning
    assert read_run_yaml(tmp_path)["environment"] == {**here, "resumed_on": there}


def test_instruction_sets_are_compared_by_name() -> None:
    before = {"cpu": {"features": "avx avx2 sse"}, "python": "3.11.1"}
    now = {"cpu": {"features": "avx sse vnni"}, "python": "3.11.1"}
    assert environment_changes(before, now) == ["cpu.features: lacks avx2; adds vnni"]
    assert environment_changes(before, before) == []


def test_differences_name_nested_keys() -> None:
    before = {"a": {"b": 1, "c": {}}, "d": [1]}
    now = {"a": {"b": 2, "c": {"e": 3}}, "d": [1]}
    assert differences(before, now) == ["a.b: 1 -> 2", "a.c: {} -> absent", "a.c.e: absent -> 3"]


@pytest.mark.parametrize("text", ["", "- a list", "a: [1", "\x00", "&a [*a"])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(RunFolderError) as caught:
        read_run_yaml(tmp_path)
    assert caught.value.where.endswith("run.yaml")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="No such file"):
        read_run_yaml(tmp_path)


def test_yaml_keeps_order_and_text() -> None:
    settings = {"z": 1e-5, "a": "1e5", "path": "a(1)/${x}: #é", "none": None}
    assert list(yaml.safe_load(to_yaml(settings)).items()) == list(settings.items())


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "api_key",
        "API_KEY",
        "hfToken",
        "token",
        "secret",
        "aws_secret_key",
        "client-secret",
    ],
)
def test_a_key_that_names_a_secret_is_known(key: str) -> None:
    assert names_secret(key)


@pytest.mark.parametrize(
    "key", ["", "token_file", "max_tokens", "seed", "key", "keyframe", "passes", "author"]
)
def test_other_keys_are_left_alone(key: str) -> None:
    assert not names_secret(key)


def test_secrets_are_masked_at_any_depth() -> None:
    settings = {
        "a": [{"token": "x"}, "https://u:p@h/path", ("s3://k@b",)], "password": "", "secret": None,
        "credentials": {"user": "x"}, "mail": "me@host", "plain": "https://h/p@th",
    }  # fmt: skip
    assert without_secrets(settings) == {
        "a": [{"token": "***"}, "https://***@h/path", ["s3://***@b"]], "password": "", "secret": None,
        "credentials": "***", "mail": "me@host", "plain": "https://h/p@th",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("word", "masked"),
    [
        ("renderer.api_key=hush", "renderer.api_key=***"),
        ("renderer.api_key=", "renderer.api_key="),
        ("policy.url=https://me:hush@host/x", "policy.url=https://***@host/x"),
        ("renderer=degraded", "renderer=degraded"),
        ("renderer", "renderer"),
    ],
)
def test_words_of_a_command_hold_no_secret(word: str, masked: str) -> None:
    assert without_secret(word) == masked
