"""Reading an ASL log into a log of ours, `log.mcap`."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omniloop.core.contracts import SceneSource
from omniloop.core.errors import OmniloopError, RunFolderError
from omniloop.core.scene import Scene
from omniloop.runlog.files import usable
from omniloop.runlog.messages import LogHeader
from omniloop.runlog.writer import LogWriter
from omniloop.scenes.native import scene_to_bytes
from omniloop.services.asl_file import AslReader
from omniloop.services.asl_gather import Gathered, gather
from omniloop.services.asl_opening import ORIGIN_KEY
from omniloop.services.asl_replay import Replay
from omniloop.services.asl_scene import AslWorld, world_of
from omniloop.services.asl_states import plugins_of

_MOST = 2**63 - 1


@dataclass(frozen=True)
class AslRead:
    """What an ASL log was read into.

    Attributes:
        header: The new log's.
        frames: How many were delivered, by camera.
        notes: What a user should know: what is missing, and what was left out.
    """

    header: LogHeader
    frames: Mapping[str, int]
    notes: tuple[str, ...]


def mcap_from_asl(
    asl: Path, target: Path, scenes: SceneSource | None = None, seed: int | None = None
) -> AslRead:
    """Write an ASL log as a log of ours; readers see all of it, or what was there before.

    Args:
        asl: The ASL log; of one that is cut off, what is there is written.
        target: The file; one that is there is replaced.
        scenes: Where the scene is: it brings the map, the ground and gaps in tracks, which an ASL
            log does not hold.
        seed: The rollout's seed; None for AlpaSim's number of the rollout.

    Raises:
        RunFolderError: the file is no ASL log, cannot be used, or the target cannot be written.
        SceneError: `scenes` does not have the scene, or what it has is another one.
    """
    reader = AslReader(asl)
    found = gather(reader)
    world = world_of(found, reader, _own_scene(found, scenes))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with LogWriter(temporary) as log:
            bundle = scene_to_bytes(world.scene)
            log.scene(bundle)
            header = _header(found, world, hashlib.sha256(bundle).hexdigest(), seed)
            log.header(header, world.scene)
            for note in found.notes:
                log.notice(world.schedule.context_start_us, note)
            replay = Replay(log, header, world, found)
            for entry in reader:
                replay.take(entry)
            replay.finish()
        with usable(target, "written"):
            temporary.replace(target)
    except OmniloopError:
        raise
    except ValueError as error:
        raise reader.error(f"the log cannot be used: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return AslRead(header, dict(log.frame_counts), (*found.notes, *replay.notes))


def rollout_of(asl: Path) -> tuple[str, int]:
    """Scene and seed of an ASL log, by its first entry; AlpaSim's seed is the rollout's number.

    Raises:
        RunFolderError: the file is no ASL log.
    """
    reader = AslReader(asl)
    entry = next(iter(reader), None)
    if entry is None or entry.WhichOneof("log_entry") != "rollout_metadata":
        raise reader.error("the first entry is no rollout_metadata")
    metadata = entry.rollout_metadata
    return metadata.session_metadata.scene_id, max(metadata.rollout_index, 0)


def _own_scene(found: Gathered, scenes: SceneSource | None) -> Scene | None:
    scene_id = found.metadata.session_metadata.scene_id
    if not scene_id:
        raise RunFolderError("the ASL log names no scene", where="rollout_metadata")
    return None if scenes is None else scenes.load(scene_id)


def _header(found: Gathered, world: AslWorld, scene_sha256: str, seed: int | None) -> LogHeader:
    session = found.metadata.session_metadata
    seed = max(found.metadata.rollout_index, 0) if seed is None else seed
    plugins, privileged = plugins_of(found)
    seeds = dict.fromkeys(("controller", "ground", "policy", "renderer", "traffic"), 0)
    for name, kind in (
        ("driver_session_request", "policy"), ("traffic_session_request", "traffic"),
        ("video_model_session_request", "renderer"),
    ):  # fmt: skip
        if name in found.sessions:
            seeds[kind] = found.sessions[name].random_seed & _MOST
    return LogHeader(
        session_id=f"{world.scene.id}/{seed}", scene_id=world.scene.id, seed=seed,
        schedule=world.schedule, seeds=seeds, plugins=plugins, privileged=privileged,
        scene_sha256=scene_sha256, config={ORIGIN_KEY: {"session_uuid": session.session_uuid}},
    )  # fmt: skip
