"""The address of a broker: what it may be, and that a password shows nowhere."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from omniloop.core.errors import ConfigError
from omniloop.live.broker import PASSWORD, USER, Broker


def parse(url: str, **environment: str) -> Broker:
    return Broker.parse(url, "run.mqtt", environment)


def test_host_port_prefix_and_their_defaults() -> None:
    broker = parse("mqtt://broker.lab:2883/team/eval/")
    assert (broker.host, broker.port, broker.prefix) == ("broker.lab", 2883, "team/eval")
    broker = parse("mqtt://[::1]")
    assert (broker.host, broker.port, broker.prefix) == ("::1", 1883, "omniloop")
    assert parse("mqtts://h").port == 8883
    assert parse("mqtts://h").tls is not None
    assert parse("mqtt://h").tls is None
    assert parse("mqtt://h/a%20b").prefix == "a b"


def test_credentials_come_from_the_address_the_environment_or_a_file(tmp_path: Path) -> None:
    told = {USER: "env", PASSWORD: "env-pw"}
    assert (parse("mqtt://h").user, parse("mqtt://h").password) == (None, None)
    assert (parse("mqtt://h", **told).user, parse("mqtt://h", **told).password) == ("env", "env-pw")
    both = parse("mqtt://eva:p%40ss@h", **told)
    assert (both.user, both.password) == ("eva", "p@ss")
    assert parse("mqtt://eva@h", **{PASSWORD: "env-pw"}).password == "env-pw"
    (tmp_path / "pw").write_text("from file\n")
    filed = parse(f"mqtt://eva@h/x?password_file={tmp_path}/pw", **told)
    assert (filed.user, filed.password) == ("eva", "from file")


def test_an_address_that_a_run_keeps_masked_needs_the_environment() -> None:
    with pytest.raises(ConfigError, match="mask"):
        parse("mqtt://***@h/x")
    again = parse("mqtt://***@h/x", **{USER: "eva", PASSWORD: "pw"})
    assert (again.user, again.password) == ("eva", "pw")


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("host:1883/x", "no mqtt://"),
        ("http://host/x", "no mqtt://"),
        ("", "no mqtt://"),
        ("mqtt:///x", "names no host"),
        ("mqtt://host:99999/x", "port is no number"),
        ("mqtt://host:0/x", "names no port"),
        ("mqtt://host:abc/x", "port is no number"),
        ("mqtt://[::1/x", "cannot be read"),
        ("mqtt://host/a+b", r"holds '\+'"),
        ("mqtt://host/a%23b", "holds '#'"),
        ("mqtt://host/a#b", "'#'"),
        ("mqtt://host/a//b", "empty level"),
        ("mqtt://host/$SYS", "begins with"),
        ("mqtt://host/x?cca=1", "'cca' is unknown. Did you mean 'ca'"),
        ("mqtt://host/x?ca", "not KEY=VALUE"),
        ("mqtt://host/x?ca=a.pem", "of TLS"),
        ("mqtts://host/x?ca=/none.pem", "cannot be used"),
        ("mqtts://host/x?key=k.pem", "no cert"),
        ("mqtts://host/x?cert=/none.pem", "cannot be used"),
        ("mqtt://eva@host/x?password_file=/none", "cannot be read"),
        ("mqtt://eva:pw@host/x?password_file=/none", "a password and a password_file"),
        ("mqtt://:pw@host/x", "no user"),
    ],
)
def test_a_wrong_address_is_refused_with_its_place(url: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as caught:
        parse(url)
    assert caught.value.where == "run.mqtt"


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://eva:s3cret@host:x/p", "mqtt://eva:s3/s3cret@host", "mqtt://eva:12/s3cret@host/p",
        "eva:s3cret@host", "mqtt://eva:s3cret@host/a+b", "http://eva:s3cret@host",
        "mqtt://eva:s3@s3cret@host:x/p", "mqtt://eva:s3cret#@host/p",
    ],
)  # fmt: skip
def test_no_error_shows_a_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(url)
    assert "s3cret" not in str(caught.value)


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "aiomqtt":
            raise ImportError("No module named 'aiomqtt'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="aiomqtt") as caught:
        parse("mqtt://host/x")
    assert "omniloop[mqtt]" in caught.value.remedy
