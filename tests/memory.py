"""How much memory something takes, counted by Python itself."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Peak:
    """The most memory at once [bytes], once the block has ended."""

    size: int = 0


@contextmanager
def traced_peak() -> Iterator[Peak]:
    """Count what the block allocates; what it imports counts too, so import it before."""
    found = Peak()
    tracemalloc.start()
    try:
        yield found
    finally:
        found.size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
