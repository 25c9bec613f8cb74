"""A plan's reasoning in a driver's debug bytes, as AlpaSim's own drivers put it there.

They pickle a dict whose ``reasoning_text`` AlpaSim's videos show (alpasim.md 1.3). It is written
so, but never unpickled: that would run the code of whoever wrote the log. `pickletools` lists
the instructions of a pickle without following any.
"""

from __future__ import annotations

import pickle
import pickletools

from omniloop.services.driver_reply import reasoning_of

_KEY = "reasoning_text"
_PROTOCOL = 4
_LONGEST = 1 << 20
_TEXTS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"})
_BETWEEN = frozenset({"MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "FRAME"})


def reasoning_to_debug(reasoning: str) -> bytes:
    """Debug bytes that AlpaSim's tools read; none for no reasoning."""
    if not reasoning:
        return b""
    text = reasoning.encode("utf-8", "backslashreplace").decode("utf-8")
    return pickle.dumps({_KEY: text}, protocol=_PROTOCOL)


def reasoning_from_debug(debug: bytes) -> str:
    """The reasoning in debug bytes of any driver; empty if they hold none."""
    if not debug.startswith(b"\x80") or len(debug) > _LONGEST:
        return reasoning_of(debug)
    after_key = False
    try:
        for instruction, argument, _ in pickletools.genops(debug):
            if instruction.name in _TEXTS:
                if after_key:
                    return str(argument)
                after_key = argument == _KEY
            elif instruction.name not in _BETWEEN:
                after_key = False
    except Exception:  # pickletools raises whatever a damaged pickle makes it raise
        return ""
    return ""
