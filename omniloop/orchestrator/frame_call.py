"""One call of the renderer: frames at committed states, and what comes back as frames."""

from __future__ import annotations

import numpy as np

from omniloop.core.calls import CallFunnel
from omniloop.core.contracts import CameraFrame, RenderRequest, RenderResult, RenderSession
from omniloop.core.errors import ServiceError
from omniloop.core.motion import ActorMotion, EgoMotion
from omniloop.core.scene import Scene
from omniloop.core.schedule import Schedule
from omniloop.orchestrator.fetch import Fetch
from omniloop.orchestrator.recorder import Recorder


async def render_frames(
    renderer: RenderSession,
    fetch: Fetch,
    time_us: int,
    *,
    scene: Scene,
    schedule: Schedule,
    ego: EgoMotion,
    actors: ActorMotion,
    recorder: Recorder,
    call: CallFunnel,
) -> list[CameraFrame]:
    """Ask for frames at poses interpolated between committed states.

    Args:
        fetch: What to ask for; not empty.
        time_us: When it is asked for, for the log and for messages.
        ego: Committed true states around every shutter.
        actors: Committed motion around every shutter.

    Returns:
        One for each frame asked for, in order; a lost one has no image.

    Raises:
        ServiceError: the renderer failed, or did not return exactly the frames asked for.
    """
    frames = fetch.frames
    times = np.unique(np.concatenate([frames.start_us, frames.capture_us]))
    request = RenderRequest(
        times_us=times,
        local_to_rig=ego.trajectory.sample(times),
        actors=scene.actors,
        actor_motion=actors.sample(times),
        camera_index=frames.camera_index,
        start_index=np.searchsorted(times, frames.start_us),
        end_index=np.searchsorted(times, frames.capture_us),
    )
    recorder.render_request(time_us, request)
    result = await call("renderer", "render", renderer.render(request), time_us, RenderResult)
    images = sum(map(bool, result.images))
    if images != len(request) or len(result.images) != images:
        raise ServiceError(
            f"the renderer returned {images} images for {len(request)} frames",
            where=f"{call.where} at {time_us} us",
            remedy="a renderer must return exactly the frames asked for, in order",
        )
    late_us = np.zeros(len(request), np.int64) if result.late_us is None else result.late_us
    lost = np.zeros(len(request), np.bool_) if result.lost is None else result.lost
    return [
        CameraFrame(
            camera_id=schedule.clocks[int(frames.camera_index[i])].camera_id,
            image=b"" if lost[i] else image,
            start_us=int(frames.start_us[i]),
            capture_us=int(frames.capture_us[i]),
            available_us=int(fetch.available_us[i] + late_us[i]),
        )
        for i, image in enumerate(result.images)
    ]
