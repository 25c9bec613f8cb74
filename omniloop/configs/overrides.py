"""A config back as the command line takes it: what differs from the defaults, and no more."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from omniloop.configs.compose import default_choices, is_verbatim, options
from omniloop.configs.schema import GROUP_NAMES, RunConfig, validate
from omniloop.core.registry import GROUPS
from omniloop.runlog.redact import without_secrets

_NO_RESULT = ("run.name", "run.concurrency", "run.video", "run.resume")
"""Settings that say where a run is kept and how it is carried out, not what comes out."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./:@-]*")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_NOT_TEXT = {"null", "none", "true", "false", "on", "off", "yes", "no", "inf", "nan"}
_ABSENT = object()


class _NoWordsError(Exception):
    """No command line can say this."""


def overrides_of(config: RunConfig) -> list[str] | None:
    """``KEY=VALUE`` words that compose to `config`, secrets masked.

    A suite stands for all that it pins. Left out are `run.name`, and what does not decide the
    result: `run.concurrency`, `run.video` and `run.resume`.

    Returns:
        None if no command line can say it, such as a plugin's setting that is gone from its
        group's file.
    """
    wanted = without_secrets(config.model_dump(mode="json"))
    pinned: tuple[str, ...] = ()
    words: list[str] = []
    if config.suite is not None:
        pinned = ("scenes", "metrics", "run.seeds", *config.suite.settings)
        words.append(f"suite={config.suite.file or config.suite.name}")
    try:
        for group in GROUP_NAMES:
            if not _is_of(group, pinned):
                words += _of_group(group, wanted[group], pinned)
    except _NoWordsError:
        return None
    return words


def _is_of(key: str, groups: Sequence[str]) -> bool:
    """Whether a key is one of these, or below one."""
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def _of_group(group: str, wanted: Mapping[str, Any], pinned: Sequence[str]) -> list[str]:
    """Words for a group: the choice of a file, if it is not the default, with fewest others."""
    found: list[list[str]] = []
    usual = default_choices()[group]
    for choice in [usual, *(name for name in options(group) if name != usual)]:
        base = _base(group, choice, wanted.get("name"))
        if base is None:
            continue
        chosen = "" if choice == usual else choice if choice != "external" else wanted["name"]
        try:
            rest = list(_differences(group, wanted, base, wanted.get("name"), pinned))
        except _NoWordsError:
            continue
        found.append([f"{group}={chosen}", *rest] if chosen else rest)
    if not found:
        raise _NoWordsError
    return min(found, key=lambda words: sum("." in word.partition("=")[0] for word in words))


def _base(group: str, choice: str, name: str | None) -> Mapping[str, Any] | None:
    """What a file of a group comes to; None if it is another plugin's."""
    raw = dict(_file(group, choice))
    if group in GROUPS and group != "metrics":
        if choice == "external":
            if name in options(group):
                return None
            raw["name"] = name
        if raw["name"] != name:
            return None
    whole: Mapping[str, Any] = validate({**_defaults(), group: raw}).model_dump(mode="json")
    base: Mapping[str, Any] = whole[group]
    return base


@functools.cache
def _defaults() -> dict[str, Any]:
    return {group: _file(group, choice) for group, choice in default_choices().items()}


@functools.cache
def _file(group: str, choice: str) -> dict[str, Any]:
    """A file of a group with the files that it takes in, the later ones on top."""
    import yaml  # type: ignore[import-untyped]

    text = (resources.files("omniloop.configs") / group / f"{choice}.yaml").read_text("utf-8")
    own: dict[str, Any] = yaml.safe_load(text) or {}
    below = [entry for entry in own.pop("defaults", ()) if entry != "_self_"]
    return {key: value for part in [*(_file(group, b) for b in below), own] for key, value in part.items()}  # fmt: skip


def _differences(
    prefix: str, wanted: Any, base: Any, plugin: str | None, pinned: Sequence[str]
) -> Iterator[str]:
    """Words that turn `base` into `wanted`.

    Raises:
        _NoWordsError: something would have to be taken away, or cannot be written.
    """
    if wanted == base or prefix in _NO_RESULT or _is_of(prefix, pinned):
        return
    if isinstance(wanted, Mapping) and (wanted or isinstance(base, Mapping)):
        under = base if isinstance(base, Mapping) else {}
        gone = [key for key in under if key not in wanted]
        if gone and prefix != "metrics":
            raise _NoWordsError
        yield from (f"metrics.{key}=false" for key in gone)
        for key, value in wanted.items():
            below = under.get(key, _ABSENT)
            yield from _differences(f"{prefix}.{key}", value, below, plugin, pinned)
        return
    if not _KEY.fullmatch(prefix):
        raise _NoWordsError
    yield f"{prefix}={_value(prefix, wanted, plugin)}"


def _value(key: str, value: Any, plugin: str | None) -> str:
    if key == "run.seeds" and value == list(range(len(value))):
        return str(len(value))
    if not is_verbatim(key, plugin or "none"):
        return _in_grammar(value)
    if value is None:
        return "null"
    if not isinstance(value, list):
        text = str(value)
        if text in ("", "null", "None"):
            raise _NoWordsError
        return text
    parts = [str(part) for part in value]
    if not parts or any(p != p.strip(" []") or "," in p or not p for p in parts):
        raise _NoWordsError
    return ",".join(parts)


def _in_grammar(value: Any) -> str:
    """A value in Hydra's grammar of overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_in_grammar(str(k))}:{_in_grammar(v)}" for k, v in value.items()) + "}"  # fmt: skip
    if isinstance(value, list):
        return "[" + ",".join(_in_grammar(item) for item in value) + "]"
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    if "${" in text:
        raise _NoWordsError
    quoted = re.sub(r'(\\*)"', r'\1\1\\"', text)
    return '"' + re.sub(r"(\\+)$", r"\1\1", quoted) + '"'
