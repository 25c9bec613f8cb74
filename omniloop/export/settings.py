"""What is exported, and how it is cut into files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from omniloop.core.errors import ConfigError
from omniloop.runlog.results import OUTCOMES

FORMS = ("frames", "parquet", "webdataset")

_OPTIONS = {"after_handover_only": "after-handover-only", "form": "to", "outcomes": "outcome"}


def option(key: str) -> str:
    """The command line's name of a setting."""
    return f"--{_OPTIONS.get(key, key.replace('_', '-').removesuffix('-s'))}"


@dataclass(frozen=True)
class ExportSettings:
    """The choices of an export; an export goes on only with those that it began with.

    Attributes:
        form: One of `FORMS`.
        scenes: Ids of scenes, with ``*`` for any letters; all if empty.
        outcomes: Rollouts that ended so.
        cameras: Ids of cameras; all of a rollout if empty.
        every: Every so-manieth decision; of `frames`, every so-manieth frame of a camera.
        after_handover_only: Leave out warm-up, in which the recording drives.
        until_incident: Leave out what comes at and after the start of a rollout's first incident.
        history: Images per camera in a sample of `webdataset`, the newest and those before it.
        incident_within_s: How far ahead ``incident_ahead`` looks.
        shard_mib: No file of `parquet` or `webdataset` grows larger, unless one sample does.
        shard_samples: Nor does it hold more decisions.

    Raises:
        ConfigError: a value is impossible, or of no use in this form.
    """

    form: str
    scenes: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ("completed", "policy_failed")
    cameras: tuple[str, ...] = ()
    every: int = 1
    after_handover_only: bool = False
    until_incident: bool = False
    history: int = 1
    incident_within_s: float = 3.0
    shard_mib: int = 128
    shard_samples: int = 10_000

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise _wrong("form", self.form, f"one of {', '.join(FORMS)}")
        for outcome in self.outcomes:
            if outcome not in OUTCOMES:
                raise _wrong("outcomes", outcome, f"one of {', '.join(OUTCOMES)}")
        if not self.outcomes:
            raise _wrong("outcomes", "nothing", f"one of {', '.join(OUTCOMES)}")
        for key in ("every", "history", "shard_mib", "shard_samples"):
            if getattr(self, key) < 1:
                raise _wrong(key, getattr(self, key), "at least 1")
        if not 0 < self.incident_within_s <= 3600:
            raise _wrong("incident_within_s", self.incident_within_s, "above 0, at most 3600 s")
        if self.history > 1 and self.form != "webdataset":
            raise ConfigError(
                f"--history {self.history} is of no use to --to {self.form}", where="--history",
                remedy="leave it out, or export --to webdataset",
            )  # fmt: skip

    @property
    def shard_bytes(self) -> int:
        """`shard_mib` in bytes."""
        return self.shard_mib << 20

    def document(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }


def differences(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One phrase for each setting that differs from those that an export was begun with."""
    return [
        f"{option(key)} is {_shown(now.get(key))}, the export has {_shown(begun.get(key))}"
        for key in sorted({*begun, *now})
        if begun.get(key) != now.get(key)
    ]


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "not given"
    return str(value)


def _wrong(key: str, value: object, expected: str) -> ConfigError:
    return ConfigError(
        f"{option(key)} cannot be '{value}'", where=option(key), remedy=f"give {expected}"
    )
