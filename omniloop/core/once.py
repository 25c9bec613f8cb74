"""Derived values that many share, computed once for each record, scene or map."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Hashable
from typing import Concatenate, ParamSpec, TypeVar

SourceT = TypeVar("SourceT")
ValueT = TypeVar("ValueT")
P = ParamSpec("P")


def once_per_object(
    function: Callable[Concatenate[SourceT, P], ValueT],
) -> Callable[Concatenate[SourceT, P], ValueT]:
    """Remember what a function gives for an object, for as long as the object lives.

    The object is the first argument; it is told apart by identity and held weakly, so
    its values go with it. They must not refer back to it. The other arguments must be
    hashable, and each set of them is remembered apart.
    """
    held: weakref.WeakKeyDictionary[SourceT, dict[Hashable, ValueT]] = weakref.WeakKeyDictionary()

    @functools.wraps(function)
    def remembering(source: SourceT, /, *args: P.args, **kwargs: P.kwargs) -> ValueT:
        values = held.setdefault(source, {})
        key = (args, tuple(sorted(kwargs.items())))
        if key not in values:
            values[key] = function(source, *args, **kwargs)
        return values[key]

    return remembering
