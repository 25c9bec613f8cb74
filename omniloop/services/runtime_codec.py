"""RuntimeService messages: what a client asks for, checked, and what it is told."""

from __future__ import annotations

import math
import re
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grpc import StatusCode

from omniloop.metrics.alpasim_steps import StepMetric, summed_up
from omniloop.services.protos import runtime_pb2 as pb
from omniloop.services.protos.common_pb2 import VersionId
from omniloop.services.rpc import Refusal, own_version

MOST_ROLLOUTS = 10_000
"""Rollouts of one request; their replies go into one message."""

FIRST_SEED_KEY = "omniloop-first-seed"
"""Metadata of a request: the seed of the first rollout of each scene, 0 if it is absent."""

_MOST_SEED = 2**53
_LONGEST_UUID = 256
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_SKIPPED = VersionId(version_id="<skip>", git_hash="<skip>")
_OVER_TIME = {
    "mean": pb.TIME_AGGREGATION_MEAN,
    "max": pb.TIME_AGGREGATION_MAX,
    "min": pb.TIME_AGGREGATION_MIN,
    "last": pb.TIME_AGGREGATION_LAST,
}


@dataclass(frozen=True)
class AskedRollout:
    """One rollout that a client wants.

    Attributes:
        spec: Index of the specification that it is of.
        seed: Rollouts of a scene count up from the first seed.
        uuid: The client's name for it, or one made here; drivers know the session by it.
    """

    spec: int
    scene_id: str
    seed: int
    uuid: str


@dataclass(frozen=True)
class Asked:
    """A request, checked.

    Attributes:
        rollouts: In the order of the reply.
        drivers: Addresses, ``HOST:PORT``; empty for the policy of the server's own settings.
        sessions: Rollouts at once at each of them.
    """

    rollouts: tuple[AskedRollout, ...]
    drivers: tuple[str, ...]
    sessions: int

    @property
    def scene_ids(self) -> list[str]:
        """Every scene once, in the order asked for."""
        return list(dict.fromkeys(rollout.scene_id for rollout in self.rollouts))


@dataclass(frozen=True)
class RolloutAnswer:
    """How a rollout ended.

    Attributes:
        error: Why it failed; empty if it did not.
        is_scene_invalid: Whether its scene is to blame, so that it did not begin.
        steps: Scores over time, if there are any.
    """

    rollout: AskedRollout
    error: str = ""
    is_scene_invalid: bool = False
    steps: tuple[StepMetric, ...] = ()


Versions = Mapping[str, VersionId]
"""By kind of service: "driver", "nre", "video_model", "physics", "traffic"."""


@dataclass(frozen=True)
class SceneFacts:
    """What is told of a scene that was loaded before.

    Attributes:
        sha256: Of its bundle.
        start_us, end_us: The recorded time range.
        published: What an archive says of itself, of AlpaSim's `SceneMetadata`: texts under
            ``uuid``, ``dataset_hash``, ``version_string`` and ``training_date``. Where it says
            nothing, the scene's id and `sha256` stand in for the first two.
        lidar_ids: Also of the archive.
    """

    sha256: str
    camera_ids: tuple[str, ...]
    start_us: int
    end_us: int
    published: Mapping[str, str] = field(default_factory=dict)
    lidar_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class RuntimeFacts:
    """What is told of a server.

    Attributes:
        concurrency: Rollouts at once.
        renderer_type: "sensorsim", "video_model" or "none".
        provider: Where scenes come from.
        scenes: Every scene; None of those that were not loaded yet.
        capacities: Rollouts at once by service; None of one that is left out.
    """

    concurrency: int
    workers: int
    renderer_type: str
    provider: str
    scenes: Mapping[str, SceneFacts | None]
    capacities: Mapping[str, int | None]
    versions: Versions


# -------------------------------------------------------------------------- requests


def asked_of(request: pb.SimulationRequest, metadata: Mapping[str, str]) -> Asked:
    """Check a request.

    A specification of no rollouts is dropped, as AlpaSim does.

    Raises:
        Refusal: it asks for nothing, too much, or what cannot be (INVALID_ARGUMENT).
    """
    count = sum(spec.nr_rollouts for spec in request.rollout_specs)
    if not 0 < count <= MOST_ROLLOUTS:
        raise _refusal(f"the request asks for {count} rollouts; ask for 1 to {MOST_ROLLOUTS}")
    seeds = Counter[str]()
    first_seed = _first_seed(metadata.get(FIRST_SEED_KEY, "0"))
    rollouts: list[AskedRollout] = []
    for index, spec in enumerate(request.rollout_specs):
        scene_id = spec.scenario_id
        for name in _uuids(spec, f"rollout_specs[{index}]"):
            rollouts.append(AskedRollout(index, scene_id, first_seed + seeds[scene_id], name))
            seeds[scene_id] += 1
    twice = [name for name, times in Counter(r.uuid for r in rollouts).items() if times > 1]
    if twice:
        raise _refusal(f"the session uuid {twice[0]!r} comes twice")
    drivers = tuple(_address(d.ip, d.port) for d in request.available_drivers)
    twice = [address for address, times in Counter(drivers).items() if times > 1]
    if twice:
        raise _refusal(f"the driver {twice[0]} comes twice; raise n_concurrent_per_driver instead")
    if drivers and request.n_concurrent_per_driver < 1:
        raise _refusal("n_concurrent_per_driver is 0; give 1 or more with available_drivers")
    return Asked(tuple(rollouts), drivers, request.n_concurrent_per_driver)


def _refusal(what: str) -> Refusal:
    return Refusal(StatusCode.INVALID_ARGUMENT, what)


def _first_seed(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 16 or int(text) > _MOST_SEED:
        raise _refusal(f"{FIRST_SEED_KEY} is {text!r:.40}; give a whole number from 0 to 2**53")
    return int(text)


def _uuids(spec: pb.RolloutSpec, where: str) -> list[str]:
    given = list(spec.session_uuids)
    if not given:
        return [str(uuid.uuid4()) for _ in range(spec.nr_rollouts)]
    if len(given) != spec.nr_rollouts:
        raise _refusal(
            f"{where} has {len(given)} session_uuids for {spec.nr_rollouts} rollouts; give as many"
            " or none"
        )
    for name in given:
        if not name.strip() or len(name) > _LONGEST_UUID or not name.isprintable():
            raise _refusal(
                f"{where} has the session uuid {name!r:.40}; give 1 to {_LONGEST_UUID} printable"
                " characters"
            )
    return given


def _address(ip: str, port: int) -> str:
    if not _HOST.fullmatch(ip) or not 0 < port < 65536:
        raise _refusal(
            f"{ip!r:.80} port {port} is no address of a driver; give a host and 1 to 65535"
        )
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


# -------------------------------------------------------------------------- answers


def version_id(facts: Mapping[str, str] | None, served: str) -> VersionId:
    """The version of a service.

    Args:
        facts: What its first contact told; None in this process.
        served: The plugin's name; empty if there is none.
    """
    if not served:
        return _SKIPPED
    if facts is None:
        return own_version(served)
    major, minor, patch = (int(part) for part in facts["api"].split("."))
    api = VersionId.APIVersion(major=major, minor=minor, patch=patch)
    return VersionId(
        version_id=facts["version_id"], git_hash=facts["git_hash"], grpc_api_version=api
    )


def simulation_return(
    request: pb.SimulationRequest, answers: Sequence[RolloutAnswer], versions: Versions
) -> pb.SimulationReturn:
    """The reply: a return for each rollout, in the order asked for."""
    reply = pb.SimulationReturn(**_versions(versions))
    for answer in answers:
        returned = reply.rollout_returns.add(
            rollout_spec=request.rollout_specs[answer.rollout.spec], success=not answer.error,
            rollout_uuid=answer.rollout.uuid, error=answer.error, error_code=_code(answer),
        )  # fmt: skip
        for step in answer.steps:
            returned.timestep_metrics.add(
                name=step.name, timestamps_us=step.times_us.tolist(), values=step.values.tolist(),
                valid=step.valid.tolist(), time_aggregation=_OVER_TIME[step.over_time],
            )  # fmt: skip
        for name, value in summed_up(answer.steps).items():
            if math.isfinite(value):
                returned.aggregated_metrics[name] = value
    return reply


def _code(answer: RolloutAnswer) -> pb.RolloutErrorCode:
    if answer.is_scene_invalid:
        return pb.ROLLOUT_ERROR_CODE_INVALID_SCENE
    return pb.ROLLOUT_ERROR_CODE_UNSPECIFIED if answer.error else pb.ROLLOUT_ERROR_CODE_NONE


def runtime_info(facts: RuntimeFacts) -> pb.RuntimeInfo:
    """The reply; what is told of a scene is left out of those that were not loaded yet."""
    reply = pb.RuntimeInfo(
        max_supported_concurrent_rollouts=facts.concurrency, nr_workers=facts.workers,
        renderer_type=facts.renderer_type, **_versions(facts.versions),
    )  # fmt: skip
    for scene_id, scene in facts.scenes.items():
        told = reply.scenes.add(scene_id=scene_id, provider_kind=facts.provider)
        if scene is not None:
            told.metadata.MergeFrom(
                pb.SceneMetadata(
                    **{"uuid": scene_id, "dataset_hash": scene.sha256, **scene.published},
                    camera_ids=scene.camera_ids, lidar_ids=scene.lidar_ids,
                    start_time_us=scene.start_us, end_time_us=scene.end_us,
                )
            )  # fmt: skip
    for name, capacity in sorted(facts.capacities.items()):
        reply.service_capacities.add(
            service_name=name, total_capacity=capacity or 0, skipped=capacity is None
        )
    return reply


def _versions(versions: Versions) -> dict[str, Any]:
    told = {f"{kind}_version": version for kind, version in versions.items()}
    return {"runtime_version": own_version("daemon"), **told}
