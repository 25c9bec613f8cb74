"""Writing a rollout's log, `log.mcap`, as an ASL log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omniloop.core.cameras import select_cameras
from omniloop.core.record import RolloutRecord
from omniloop.runlog import messages as topics
from omniloop.runlog.messages import LogHeader
from omniloop.runlog.reader import LogReader, iter_frames
from omniloop.runlog.record import read_record
from omniloop.services.asl_file import AslWriter
from omniloop.services.asl_opening import Entry, Told, opening, session_uuid
from omniloop.services.asl_steps import Steps
from omniloop.services.protos.egodriver_pb2 import RolloutCameraImage
from omniloop.services.protos.video_model_pb2 import VideoChunkRequest, VideoChunkReturn
from omniloop.services.video_requests import images_to_wire

ASL_NAME = "rollout.asl"
"""Name of the file in a rollout's folder, as AlpaSim has it."""


def write_asl(log: Path, target: Path) -> tuple[str, ...]:
    """Write a log as an ASL log; readers see all of it, or what was there before.

    The same log gives the same bytes. Poses become float32.

    Args:
        log: The MCAP log; of one that is cut off, what is there is written.
        target: The file; one that is there is replaced.

    Returns:
        What a user should know, such as what could not be written.

    Raises:
        RunFolderError: the log cannot be read, or the file cannot be written.
        SceneError: the scene in the log cannot be read.
    """
    reader = LogReader(log)
    told = _told(reader, read_record(log, allow_cut_off=True))
    if reader.problem:
        told.notes.append(f"the log is {reader.problem}; the ASL log ends there")
    with AslWriter(target) as writer:
        for name, message in _answered(_entries(reader, told), told):
            writer.write(name, message)
    return tuple(told.notes)


def _told(reader: LogReader, record: RolloutRecord) -> Told:
    message = next(iter(reader.messages((topics.HEADER,))))
    header: LogHeader = reader.header()
    ids = tuple(clock.camera_id for clock in record.schedule.clocks)
    cameras = select_cameras(record.scene.cameras, ids, record.scene.id) if ids else ()
    return Told(header, record, session_uuid(header, message.data), cameras)


def _entries(reader: LogReader, told: Told) -> Iterator[Entry]:
    yield from opening(told)
    steps = Steps(told, _samples(reader.path, {c.id for c in told.cameras}))
    images = iter_frames(reader.path)
    for event in reader.events():
        if event.topic == topics.FRAME:
            frame = next(images, None)  # in a log that is cut off, the image may be missing
            if frame is not None:
                yield steps.image(frame)
        else:
            yield from steps.entries(event)


def _answered(entries: Iterator[Entry], told: Told) -> Iterator[Entry]:
    """Entries with the answer of a video model after each request for a chunk.

    Our log has the images where they were delivered. So what follows a request is held back until
    all of them have come; those that never come, or come after the next request, are left out.
    """
    ids = [camera.id for camera in told.cameras]
    wanted: dict[tuple[str, int], bytes | None] = {}
    held: list[Entry] = []

    def release() -> Iterator[Entry]:
        if wanted:
            yield "video_model_chunk_return", _chunk_return(ids, wanted)
        yield from held
        wanted.clear()
        held.clear()

    for name, message in entries:
        if isinstance(message, VideoChunkRequest):
            yield from release()
            times = [p.timestamp_us for p in message.rig_trajectory.poses]
            wanted.update({(camera, t): None for camera in ids for t in times})
            yield name, message
            continue
        if isinstance(message, RolloutCameraImage):
            image = message.camera_image
            if (image.logical_id, image.frame_end_us) in wanted:
                wanted[image.logical_id, image.frame_end_us] = image.image_bytes
        held.append((name, message))
        if None not in wanted.values():
            yield from release()
    yield from release()


def _chunk_return(ids: list[str], images: dict[tuple[str, int], bytes | None]) -> VideoChunkReturn:
    reply = VideoChunkReturn()
    for camera in ids:
        frames = [image for (name, _), image in images.items() if name == camera and image]
        reply.camera_outputs.add(camera_logical_id=camera, rgb_frames=images_to_wire(frames))
    return reply


def _samples(log: Path, cameras: set[str]) -> dict[str, bytes]:
    """The first image of each camera; there may be none."""
    found: dict[str, bytes] = {}
    if not cameras:
        return found
    for frame in iter_frames(log):
        found.setdefault(frame.camera_id, frame.image)
        if cameras <= found.keys():
            break
    return found
