"""The schema of a run's config: validated once, unknown keys are errors."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from omniloop.core.errors import ConfigError, nearest
from omniloop.core.registry import RUN_KINDS
from omniloop.imperfection.settings import ImperfectionSettings


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PluginConfig(BaseModel):
    """A plugin's name; every other key is an argument of its constructor."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """Constructor arguments."""
        return dict(self.__pydantic_extra__ or {})


class ScenesConfig(PluginConfig):
    """Where scenes come from and which of them to run."""

    path: str | None = None
    """Folder or file of the recordings."""
    ids: list[str] | None = None
    """Scenes to run, in this order; all if null."""
    limit: int | None = Field(default=None, ge=1)
    """Run at most this many."""
    edit: list[str] | None = None
    """Edit files, or recipe:NAME, applied to every scene in this order."""
    set: dict[str, float | int | str | bool | None] = Field(default_factory=dict)
    """Parameters of the edit files."""

    @field_validator("ids", "edit", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.strip("[]").split(",") if part.strip()]
        return value


class SyncConfig(_Strict):
    """When the policy decides and when frames reach it."""

    strategy: Literal["prefetch", "postfetch"] = "prefetch"
    decision_period_us: int = Field(default=100_000, ge=1_000)
    first_decision_us: int = Field(default=0, ge=0)
    """After render start; with a chunk rule the first chunk sets it."""
    warmup_s: float | Literal["auto"] = "auto"
    duration_s: float | None = Field(default=None, gt=0)
    decisions_per_chunk: int = Field(default=1, ge=1)
    decision_latency_us: int = Field(default=0, ge=0)
    skip_services_in_warmup: bool = False


class RunSettings(_Strict):
    """What to run, where to, and when to stop."""

    dir: str = "runs"
    name: str | None = None
    seeds: list[int] = [0]
    root_seed: int = Field(default=0, ge=0)
    concurrency: int | Literal["auto"] = "auto"
    """Rollouts at once over all workers; auto follows cores, services and memory."""
    executor: Literal["local", "ray"] = "local"
    workers: int | Literal["auto"] = "auto"
    """Processes that run rollouts: 1 is the run's own; auto is one per core for long runs."""
    ray_address: str | None = None
    """A Ray cluster's; null starts one here, or takes RAY_ADDRESS."""
    retries: int = Field(default=2, ge=0)
    """How often a rollout whose infrastructure failed is tried again."""
    hang_s: float | None = Field(default=900.0, gt=0)
    """A rollout none of whose services answers for so long is ended; null waits for ever."""
    mqtt: str | None = None
    """A broker to tell how the run goes: mqtt://host:1883/prefix."""
    prometheus: int | None = Field(default=None, ge=0, le=65535)
    """A port on which timings can be scraped; 0 takes a free one."""
    video: bool = False
    resume: bool = False
    force_new: bool = False
    """Resume though settings or scenes differ: rollouts of other content are run anew."""
    asl: bool = False
    """Write AlpaSim's log beside ours."""
    stop_on: list[Literal["collision", "offroad"]] = []
    route: Literal["recorded", "lanes", "none"] = "recorded"
    wire_precision: Literal["float32"] | None = None
    """Round what services in this process are told and answer, exactly as the wire does."""

    @field_validator("seeds", mode="before")
    @classmethod
    def _count(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            if value < 1:
                raise ValueError("give a count of at least 1, or a list of seeds")
            return list(range(value))
        return value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: list[int]) -> list[int]:
        if not value or len(set(value)) != len(value) or min(value) < 0:
            raise ValueError("seeds must be distinct, not negative, and at least one")
        return value

    @field_validator("stop_on", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        if value is None:
            return []
        return [value] if isinstance(value, str) else value

    @field_validator("concurrency", "workers")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("give at least 1, or auto")
        return value

    @field_validator("name")
    @classmethod
    def _folder(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or "/" in value or value in (".", "..")):
            raise ValueError("a run's name is one folder's name; the folder above it is run.dir")
        return value


class SuiteConfig(_Strict):
    """The suite that a run is of; what it pins stands in the other groups."""

    name: str
    version: int
    file: str | None = None
    """Its path; null if it comes with the package."""
    description: str = ""
    settings: list[str] = []
    """Keys that it pins besides scenes, seeds and metrics."""


class RunConfig(_Strict):
    """Everything that `omniloop run` can be told."""

    scenes: ScenesConfig
    policy: PluginConfig
    traffic: PluginConfig
    controller: PluginConfig
    ground: PluginConfig
    renderer: PluginConfig
    sync: SyncConfig
    imperfection: ImperfectionSettings = ImperfectionSettings()
    metrics: dict[str, dict[str, Any]]
    run: RunSettings
    suite: SuiteConfig | None = None

    @field_validator("metrics", mode="before")
    @classmethod
    def _empty_settings(cls, value: object) -> object:
        if isinstance(value, dict):
            return {k: v or {} for k, v in value.items() if v is not False}
        return value


def _known_keys(location: tuple[str | int, ...]) -> list[str]:
    model: type[BaseModel] = RunConfig
    for part in location[:-1]:
        annotation = (
            model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        )
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def validate(raw: dict[str, Any]) -> RunConfig:
    """Validate a composed config.

    Raises:
        ConfigError: for the first wrong key, with the nearest known one where there is.
    """
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        location = tuple(first["loc"])
        key = ".".join(str(part) for part in location)
        known = _known_keys(location)
        if first["type"] == "extra_forbidden":
            raise ConfigError(
                f"unknown setting '{key}'.{nearest(str(location[-1]), known)}",
                where=f"{key}={first['input']!r}",
                remedy=f"known here: {', '.join(known)}",
            ) from None
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(
            f"{key}={first['input']!r} is not usable: {message}", where=key,
            remedy="`omniloop run --help` shows examples; `omniloop run --show` prints all settings",
        ) from None  # fmt: skip


GROUP_NAMES = (*RUN_KINDS, "sync", "imperfection", "run")
"""Config groups: each has a folder of YAML files."""
