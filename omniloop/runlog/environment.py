"""What besides seeds and inputs decides the bits of a result: versions, CPU, BLAS."""

from __future__ import annotations

import functools
import platform
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")


def describe_environment() -> dict[str, Any]:
    """Versions of this package and of all that it may use, CPU features and BLAS."""
    return {
        "python": platform.python_version(),
        "versions": dict(_versions()),
        "cpu": _cpu(),
        "blas": _blas(),
    }


@functools.cache
def _versions() -> dict[str, str]:
    names = {
        re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in requires("omniloop") or ()
    }
    found = {}
    for name in ("omniloop", *sorted(names - {"omniloop"})):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # of an extra that is not installed
    return found


def _cpu() -> dict[str, str]:
    """Machine, model and instruction sets of the first processor."""
    facts = {"machine": platform.machine(), "system": platform.system()}
    if not _CPUINFO.is_file():
        return facts
    for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "model name":
            facts.setdefault("model", value)
        elif key in ("flags", "Features"):
            facts.setdefault("features", " ".join(sorted(value.split())))
    return facts


def _blas() -> dict[str, str]:
    import numpy as np

    built: Any = np.show_config(mode="dicts")
    blas = built.get("Build Dependencies", {}).get("blas", {})
    return {key: str(blas[key]) for key in ("name", "version") if key in blas}


def environment_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two environments, a line each; instruction sets by name."""
    changes = []
    for change in differences(before, now):
        if not change.startswith("cpu.features: "):
            changes.append(change)
            continue
        old, new = (set(str(e.get("cpu", {}).get("features", "")).split()) for e in (before, now))
        parts = [("lacks", old - new), ("adds", new - old)]
        listed = "; ".join(f"{word} {' '.join(sorted(names))}" for word, names in parts if names)
        changes.append(f"cpu.features: {listed}")
    return changes


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two nested mappings, as ``key: old -> new``, sorted by key."""
    old, new = dict(_flat(before)), dict(_flat(now))
    changed = [k for k in sorted({*old, *new}) if k not in old or k not in new or old[k] != new[k]]
    return [f"{k}: {old.get(k, 'absent')} -> {new.get(k, 'absent')}" for k in changed]


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            yield from _flat(item, f"{name}.")
        else:
            yield name, item
