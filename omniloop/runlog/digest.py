"""One SHA-256 per rollout over what was simulated.

Hashed are the messages below ``/omniloop/`` and the images, in order, each with its topic
and simulated time. Left out are the header's settings and names of plugins, what only serves a viewer, and
everything of the container (chunks, compression, the writer's name). So two runs of
the same simulation agree whatever their names, folders and concurrency, and wherever
their services run.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from omniloop.core.errors import RunFolderError
from omniloop.runlog import messages as topics
from omniloop.runlog.codec import without_config
from omniloop.runlog.folder import LOG_NAME, open_existing
from omniloop.runlog.reader import LogReader

_SIMULATED = (topics.PREFIX, topics.CAMERA_PREFIX)


def digest(path: Path) -> str:
    """Return the SHA-256, in hexadecimal, of a log's simulated content.

    Raises:
        RunFolderError: the log cannot be read or is cut off: half a rollout has no digest.
    """
    reader = LogReader(path)
    sha256 = hashlib.sha256(b"omniloop.log.v1\n")
    for message in reader.messages():
        if not message.topic.startswith(_SIMULATED):
            continue
        data = without_config(message.data) if message.topic == topics.HEADER else message.data
        name = message.topic.encode()
        for number in (len(name), message.time_us, len(data)):
            sha256.update(number.to_bytes(8, "little"))
        sha256.update(name)
        sha256.update(data)
    if reader.problem:
        raise reader.error("the log is incomplete")
    return sha256.hexdigest()


def digest_run(run_dir: Path) -> list[tuple[str, str]]:
    """Return ``(sha256, "<scene>/<seed>")`` of every rollout, sorted by scene and seed.

    Raises:
        RunFolderError: the folder is no run or holds no log, or a log cannot be read.
    """
    folder = open_existing(run_dir)
    found = []
    for path in folder.glob(f"rollouts/*/*/{LOG_NAME}"):
        header = LogReader(path).header()
        found.append((header.scene_id, header.seed, path))
    if not found:
        raise RunFolderError("the run holds no log", where=str(run_dir), remedy="run it first")
    return [(digest(path), f"{scene}/{seed}") for scene, seed, path in sorted(found)]
