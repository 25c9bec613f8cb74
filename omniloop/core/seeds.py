"""Named seeds: every component's seed follows from one root seed and its name."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(root: int, *names: str | int) -> int:
    """Return a seed in [1, 2**63) for the component that `names` address.

    The seed is BLAKE2b over the root and the names, each with its length, so that
    ``("a", "bc")`` and ``("ab", "c")`` differ. It is never 0, which a video model's
    protocol reads as "choose one yourself".
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in (root, *names):
        raw = str(part).encode()
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return int.from_bytes(digest.digest(), "big") % (2**63 - 1) + 1


def generator(root: int, *names: str | int) -> np.random.Generator:
    """Return a PCG64 generator seeded by `derive_seed`."""
    return np.random.Generator(np.random.PCG64(derive_seed(root, *names)))
