"""What policy and renderer declared of themselves, as JSON-able settings of a log's header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from omniloop.core.messages import ChunkRule, ImageHistory, PolicySpec, RendererSpec

DECLARED = "declared"
"""Under this key of `LogHeader.config` they stand; logs of earlier versions lack it."""


def declared(policy: PolicySpec, renderer: RendererSpec | None) -> dict[str, Any]:
    """What stands under `DECLARED`."""
    told: dict[str, Any] = {"policy": policy_document(policy)}
    return told if renderer is None else {**told, "renderer": asdict(renderer)}


def policy_document(spec: PolicySpec) -> dict[str, Any]:
    """A policy's declaration."""
    return {**asdict(spec), "privileged": sorted(spec.privileged)}


def policy_from_document(told: Mapping[str, Any]) -> PolicySpec:
    """Read a policy's declaration; what a later version adds is left out.

    Raises:
        ValueError: it is none.
    """
    try:
        known = {f.name: told[f.name] for f in fields(PolicySpec) if f.name in told}
        known["cameras"] = _names(known["cameras"])
        known["images"] = ImageHistory(**known["images"])
        known["privileged"] = frozenset(known["privileged"])
        return PolicySpec(**known)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def renderer_from_document(told: Mapping[str, Any]) -> RendererSpec:
    """Read a renderer's declaration; what a later version adds is left out.

    Raises:
        ValueError: it is none.
    """
    try:
        known = {f.name: told[f.name] for f in fields(RendererSpec) if f.name in told}
        known["chunk"] = None if known["chunk"] is None else ChunkRule(**known["chunk"])
        known["cameras"] = _names(known["cameras"])
        known["size"] = tuple(known["size"])
        known["camera_models"] = tuple(known["camera_models"])
        return RendererSpec(**known)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _names(told: Any) -> tuple[str, ...] | None:
    return None if told is None else tuple(told)
