"""What this machine has: cores and memory, as far as this process may use them."""

from __future__ import annotations

import os
from pathlib import Path

_MIB = 1 << 20
_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return max(len(os.sched_getaffinity(0)), 1)
    return os.cpu_count() or 1


def resident_mib(pid: int | None = None) -> float:
    """Resident memory of a process, this one by default; 0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / _MIB, 1)


def memory_mib() -> tuple[float, float] | None:
    """Memory in all and what of it is free, the control group's if that is less.

    None where the system does not tell.
    """
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        total, free = (float(lines[k].split()[0]) / 1024 for k in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        return None
    limit = _number(_CGROUP / "memory.max")
    used = _number(_CGROUP / "memory.current")
    if limit is not None and used is not None and limit / _MIB < total:
        # Pages of files count as used, though they go when memory is wanted.
        held = used - (_file_pages(_CGROUP / "memory.stat") or 0)
        total, free = limit / _MIB, min(free, (limit - held) / _MIB)
    return total, free


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max", or no control group
        return None


def _file_pages(path: Path) -> int | None:
    try:
        lines = dict(line.split() for line in path.read_text().splitlines())
        return int(lines["inactive_file"])
    except (OSError, KeyError, ValueError):
        return None
