"""Where an MQTT broker is and how to be let in: ``mqtt[s]://[user[:password]@]host[:port]/prefix``.

After ``?`` may stand ``ca=``, ``cert=``, ``key=`` (PEM files, with ``mqtts``) and
``password_file=``. A user and password that the address does not hold are taken from the
environment. `Broker.shown` is the address as it may be printed.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from omniloop.core.errors import ConfigError, nearest
from omniloop.runlog.redact import MASK

if TYPE_CHECKING:
    import aiomqtt

USER, PASSWORD = "OMNILOOP_MQTT_USER", "OMNILOOP_MQTT_PASSWORD"
"""Variables of the environment that hold the credentials."""

DEFAULT_PREFIX = "omniloop"
KEEPALIVE_S = 15
"""A broker that hears nothing for one and a half times as long tells the last will."""

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_FILES = ("ca", "cert", "key")
_QUERY = (*_FILES, "password_file")
_EXAMPLE = "write mqtt://host:1883/prefix, or mqtts://host:8883/prefix?ca=FILE for TLS"
_CREDENTIALS = f"give them by {USER} and {PASSWORD} in the environment, or ?password_file=FILE"
_CREDENTIAL_PART = re.compile(r"^([a-z]+://)?.*@", re.IGNORECASE | re.DOTALL)
_QUIET = logging.getLogger("omniloop.live.aiomqtt")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False  # what goes wrong is said once, in words, by who uses the client


@dataclass(frozen=True)
class Broker:
    """A broker, the prefix of all topics, and how to connect.

    Attributes:
        shown: The address without its credentials.
        where: The setting that the address is of.
    """

    host: str
    port: int
    prefix: str
    shown: str
    where: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def parse(
        cls, url: str, where: str = "run.mqtt", environment: Mapping[str, str] | None = None
    ) -> Broker:
        """Read an address; files that it names are read too.

        Args:
            environment: Where `USER` and `PASSWORD` are looked up; this process's by default.

        Raises:
            ConfigError: it is no such address, a file cannot be used, or aiomqtt is missing.
        """
        shown = _CREDENTIAL_PART.sub(lambda m: f"{m[1] or ''}{MASK}@", url)
        try:
            parts = urlsplit(url)
            port = parts.port
            host = parts.hostname
        except ValueError as error:
            # The error may hold what stands before the host, a password with a slash in it.
            what = "its port is no number from 1 to 65535" if "ort" in str(error) else "no address"
            raise _wrong(f"'{shown}' cannot be read: {what}", where, _EXAMPLE) from None
        if parts.scheme not in _PORTS:
            raise _wrong(f"'{shown}' is no mqtt:// or mqtts:// address", where, _EXAMPLE)
        if not host or port == 0:
            raise _wrong(f"'{shown}' names no {'port' if host else 'host'}", where, _EXAMPLE)
        if parts.fragment:
            raise _wrong(f"'{shown}' holds a '#'", where, "write # in a password or file as %23")
        options = _options(parts, shown, where)
        user, password = _credentials(
            parts, options, shown, where, os.environ if environment is None else environment
        )
        _require_aiomqtt(where)
        return cls(
            host, port or _PORTS[parts.scheme], _prefix(parts, shown, where), shown, where,
            user, password, _tls(parts, options, shown, where),
        )  # fmt: skip

    def client(self, **settings: Any) -> aiomqtt.Client:
        """A client of the broker, not connected yet; within a running event loop."""
        import aiomqtt

        return aiomqtt.Client(
            self.host, self.port, username=self.user, password=self.password,
            tls_context=self.tls, keepalive=KEEPALIVE_S, logger=_QUIET, **settings,
        )  # fmt: skip


def explain(error: BaseException, broker: Broker) -> tuple[str, bool]:
    """What hinders a connection, in words, and whether trying again soon can help."""
    from aiomqtt.exceptions import MqttConnectError

    words = str(error) or type(error).__name__
    if isinstance(error, MqttConnectError):
        code = getattr(error.rc, "value", error.rc)
        if code in (4, 5, 134, 135):  # MQTT 3.1.1 table 3.1; MQTT 5 table 3.1
            who = f"user '{broker.user}'" if broker.user else "a client without a user"
            return f"the broker {broker.shown} does not let in {who}; {_CREDENTIALS}", False
        return f"the broker {broker.shown} refuses the connection: {words}", True
    if "[SSL: " in words and "EOF" not in words:  # an end in mid-handshake is a broker that stops
        remedy = "name the broker's authority by ?ca=FILE, and host and port as in its certificate"
        return f"no TLS connection to the broker {broker.shown}: {words}; {remedy}", False
    return f"the broker {broker.shown} cannot be reached: {words}", True


def _options(parts: SplitResult, shown: str, where: str) -> dict[str, str]:
    try:
        found = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _wrong(f"'{shown}': what follows ? is not KEY=VALUE", where, _EXAMPLE) from None
    for key, values in found.items():
        if key not in _QUERY:
            raise _wrong(
                f"'{shown}': '{key}' is unknown.{nearest(key, _QUERY)}", where,
                f"after ? may stand {', '.join(_QUERY)}",
            )  # fmt: skip
        if len(values) > 1 or not values[0]:
            raise _wrong(f"'{shown}': {key} must be given once and not be empty", where, _EXAMPLE)
    return {key: values[0] for key, values in found.items()}


def _prefix(parts: SplitResult, shown: str, where: str) -> str:
    prefix = unquote(parts.path.strip("/")) or DEFAULT_PREFIX
    if "@" in parts.path:  # then what stands before it may be a password that held a slash
        raise _wrong(
            f"'{shown}' holds a '/' before '@'", where, f"write it as %2F, or {_CREDENTIALS}"
        )
    bad = next((c for c in prefix if c in "+#" or not c.isprintable()), None)
    if bad is not None or "//" in prefix or prefix.startswith("$"):
        fault = f"holds {bad!r}" if bad else "has an empty level, or begins with $"
        raise _wrong(
            f"'{shown}': the prefix '{prefix}' {fault}",
            where,
            "choose plain words, as in team/eval",
        )
    return prefix


def _credentials(
    parts: SplitResult, options: Mapping[str, str], shown: str, where: str,
    environment: Mapping[str, str],
) -> tuple[str | None, str | None]:  # fmt: skip
    user = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    if user == MASK:  # the address as a run's folder keeps it
        user = password = None
        if USER not in environment:
            raise _wrong(f"'{shown}' holds no credentials but a mask", where, _CREDENTIALS)
    if "password_file" in options:
        if password:
            raise _wrong(
                f"'{shown}' holds a password and a password_file", where, "give one of them"
            )
        path = Path(options["password_file"])
        try:
            password = path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise _wrong(f"the password file {path} cannot be read: {error}", where, "") from error
    user = user or environment.get(USER) or None
    password = password or (environment.get(PASSWORD) if user else None) or None
    if password and not user:
        raise _wrong(f"'{shown}': there is a password but no user", where, _CREDENTIALS)
    return user, password


def _tls(
    parts: SplitResult, options: Mapping[str, str], shown: str, where: str
) -> ssl.SSLContext | None:
    files = {key: options[key] for key in _FILES if key in options}
    if parts.scheme == "mqtt":
        if files:
            raise _wrong(
                f"'{shown}': {', '.join(files)} are of TLS",
                where,
                "write mqtts:// instead of mqtt://",
            )
        return None
    if "key" in files and "cert" not in files:
        raise _wrong(f"'{shown}': there is a key but no cert", where, "give ?cert=FILE&key=FILE")
    try:
        context = ssl.create_default_context(cafile=files.get("ca"))
    except (OSError, ssl.SSLError) as error:
        raise _wrong(
            f"ca={files.get('ca')} cannot be used: {error}", where, "a PEM file"
        ) from error
    if "cert" in files:
        try:
            context.load_cert_chain(files["cert"], files.get("key"))
        except (OSError, ssl.SSLError) as error:
            named = " ".join(f"{key}={files[key]}" for key in ("cert", "key") if key in files)
            raise _wrong(f"{named} cannot be used: {error}", where, "PEM files") from error
    return context


def _require_aiomqtt(where: str) -> None:
    try:
        import aiomqtt  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"MQTT needs the package aiomqtt: {error}", where=where,
            remedy="pip install 'omniloop[mqtt]'",
        ) from error  # fmt: skip


def _wrong(what: str, where: str, remedy: str) -> ConfigError:
    return ConfigError(what, where=where, remedy=remedy)
