"""Names of files and samples: any id becomes one that paths, tars and WebDataset take."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

_LONGEST = 120
"""Letters of an encoded id: file systems hold 255 in a name, and a name holds two ids."""


def safe_name(name: str) -> str:
    """Percent-encode all but letters, digits, ``_``, ``-`` and ``~``.

    A dot is encoded too: WebDataset takes what stands before a file name's first dot as its
    sample's key. Names that grow too long end in a hash of the whole.
    """
    encoded = quote(name, safe="", errors="backslashreplace").replace(".", "%2E")
    if len(encoded) <= _LONGEST:
        return encoded or "%"
    sha256 = hashlib.sha256(encoded.encode()).hexdigest()
    return f"{encoded[: _LONGEST - 17]}~{sha256[:16]}"


def sample_key(scene: str, seed: int, index: int) -> str:
    """``<scene>-<seed>-<decision>``: unique in a run and sorted in time."""
    return f"{safe_name(scene)}-{seed}-{index:06d}"
