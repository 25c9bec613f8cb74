"""Servers that misbehave towards some rollouts and serve the others well.

FAULTS are an object from a rollout's seed (from its scene, where the protocol has no sessions;
from "*" for any) to ``[fault, after]``: the fault happens from the call `after` on (0: the first)
of the rollout's main method.

Run as a process, ``python misbehaving.py SERVERS`` with a JSON list of ``[KIND, FAULTS, PORT]``:
each is a process of its own, forked after the imports, so that it can die. Prints the ports.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import cv2
import grpc
import numpy as np
from grpc import StatusCode, aio

from omniloop.configs.compose import compose
from omniloop.core import registry
from omniloop.core.local import as_service
from omniloop.runner.assemble import open_source
from omniloop.services.roles import servicers
from omniloop.services.rpc import MIB, Caller, Refusal, methods_of
from omniloop.services.serving import Servicer
from omniloop.services.shelf import SceneShelf

MAIN = {
    "policy": "drive",
    "traffic": "simulate",
    "controller": "run_controller_and_vehicle",
    "ground": "ground_intersection",
    "omnidreams": "render_video_chunk",
    "nurec": "render_rgb",
}
HUGE_BYTES = 112 * MIB
"""More than any client of ours takes unless it is told to."""
NAN = float("nan")
STARTS_ANEW = 75
"""The exit code of a server that wants to be started again, without faults."""


class Misbehaving(Servicer):
    """Passes every call on to a servicer, and spoils some."""

    def __init__(self, kind: str, inner: Servicer, faults: dict[str, list[Any]]) -> None:
        self.service = inner.service  # type: ignore[misc]
        self._main = MAIN[kind]
        self._inner = inner
        self._faults = faults
        self._keys: dict[str, str] = {}
        self._calls: dict[str, int] = {}

    async def answer(self, method: str, request: Any, caller: Caller) -> Any:
        key = self._key(request)
        found = self._faults.get(key, self._faults.get("*"))
        if method == self._main and found is not None:
            self._calls[key] = self._calls.get(key, 0) + 1
            fault, after = found
            if self._calls[key] > after:
                return await self._spoiled(fault, method, request, caller)
        reply = await self._inner.answer(method, request, caller)
        if method == "start_session" and caller.session_name:
            uuid = getattr(request, "session_uuid", "") or reply.session_id
            self._keys[uuid] = caller.session_name.rpartition("/")[2]
        return reply

    def _key(self, request: Any) -> str:
        uuid = getattr(request, "session_uuid", "") or getattr(request, "session_id", "")
        uuid = uuid if isinstance(uuid, str) else uuid.session_id
        return self._keys.get(uuid) or getattr(request, "scene_id", "")

    async def _spoiled(self, fault: str, method: str, request: Any, caller: Caller) -> Any:
        if fault == "kill":
            os._exit(1)
        if fault == "restart":
            os._exit(STARTS_ANEW)
        if fault == "forget":  # as a server that was restarted between two calls
            await self._inner.aclose()
            return await self._inner.answer(method, request, caller)
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "slow":
            await asyncio.sleep(0.3)
        if fault == "garbage":
            return b"\xff\xff\xff\xff this is no message"
        if fault == "raise":
            raise Refusal(StatusCode.UNKNOWN, "Exception calling application: boom")
        reply = await self._inner.answer(method, request, caller)
        if fault != "slow":
            SPOIL[fault](reply)
        return reply


# ------------------------------------------------------------------- spoiled replies


def _nan_plan(reply: Any) -> None:
    reply.trajectory.poses[3].pose.vec.x = NAN


def _unsorted_plan(reply: Any) -> None:
    reply.trajectory.poses[3].timestamp_us = reply.trajectory.poses[1].timestamp_us


def _plan_elsewhere(reply: Any) -> None:
    for pose in reply.trajectory.poses:
        pose.pose.vec.y += 50.0


def _no_plan(reply: Any) -> None:
    del reply.trajectory.poses[:]


def _short_plan(reply: Any) -> None:
    del reply.trajectory.poses[1:]


def _huge_plan(reply: Any) -> None:
    reply.debug_info.unstructured_debug_info = bytes(HUGE_BYTES)


def _terminate(reply: Any) -> None:
    reply.terminate_session = True


def _unknown_actor(reply: Any) -> None:
    reply.object_trajectory_updates[0].object_id = "nobody"


def _missing_actor(reply: Any) -> None:
    del reply.object_trajectory_updates[0]


def _nan_actor(reply: Any) -> None:
    reply.object_trajectory_updates[0].trajectory.poses[0].pose.vec.x = NAN


def _nan_state(reply: Any) -> None:
    reply.states[-1].pose_local_to_rig.vec.y = NAN


def _no_state(reply: Any) -> None:
    del reply.states[:]


def _late_state(reply: Any) -> None:
    reply.states[-1].timestamp_us += 5


def _one_box_less(reply: Any) -> None:
    if reply.ego_trajectory_aabb.poses:
        del reply.ego_trajectory_aabb.poses[-1]
    else:
        del reply.other_poses[-1]


def _images(reply: Any) -> list[Any]:
    return [image for output in reply.camera_outputs for image in output.rgb_frames]


def _one_frame_less(reply: Any) -> None:
    del reply.camera_outputs[0].rgb_frames[-1]


def _other_camera(reply: Any) -> None:
    reply.camera_outputs[0].camera_logical_id = "camera_of_nobody"


def _small_frame(reply: Any) -> None:
    _images(reply)[-1].data = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()


def _broken_frame(reply: Any) -> None:
    _images(reply)[-1].data = b"no image"


def _broken_image(reply: Any) -> None:
    reply.image_bytes = b"no image"


def _empty_image(reply: Any) -> None:
    reply.image_bytes = b""


def _huge_image(reply: Any) -> None:
    reply.image_bytes = bytes(HUGE_BYTES)


def _huge_frame(reply: Any) -> None:
    _images(reply)[-1].data = bytes(HUGE_BYTES)


SPOIL: dict[str, Callable[[Any], None]] = {
    name.removeprefix("_"): value
    for name, value in list(globals().items())
    if name.startswith("_") and callable(value) and name.count("__") == 0 and name != "_images"
}


# -------------------------------------------------------------------------- servers


def _serialised(reply: Any) -> bytes:
    return reply if isinstance(reply, bytes) else reply.SerializeToString()


@asynccontextmanager
async def misbehaving(
    kind: str, faults: dict[str, list[Any]], *settings: str, port: int = 0
) -> AsyncIterator[str]:
    """The address of such a server."""
    config = compose([*settings])
    role = "renderer" if kind in ("omnidreams", "nurec") else kind
    plugin = getattr(config, role)
    service = as_service(role, registry.create(role, plugin.name, plugin.arguments))
    # More sessions than rollouts, so that a video model evicts nobody.
    served = servicers(role, service, SceneShelf(open_source(config.scenes)), max_sessions=64)
    inner = next(s for s in served if any(m.name == MAIN[kind] for m in s.service.methods))
    options = [("grpc.max_send_message_length", 2 * HUGE_BYTES), ("grpc.so_reuseport", 0)]
    server = aio.server(options=options)
    spoiling = Misbehaving(kind, inner, faults)

    def handler(name: str) -> Any:
        async def handle(request: Any, context: Any) -> Any:
            caller = Caller({str(k): str(v) for k, v in context.invocation_metadata() or ()})
            try:
                reply = await spoiling.answer(name, request, caller)
            except Refusal as refusal:
                await context.abort(refusal.code, refusal.details)
            if caller.reply_metadata:
                await context.send_initial_metadata(tuple(caller.reply_metadata.items()))
            return reply

        method = methods_of(inner.service)[name]
        return grpc.unary_unary_rpc_method_handler(handle, method.request.FromString, _serialised)

    handlers = {name: handler(name) for name in methods_of(inner.service)}
    generic = grpc.method_handlers_generic_handler(inner.service.full_name, handlers)
    server.add_generic_rpc_handlers((generic,))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(None)
        await inner.aclose()


async def _serve(kind: str, faults: dict[str, list[Any]], port: int) -> None:
    async with misbehaving(kind, faults, port=port):
        print(port, flush=True)
        await asyncio.sleep(3600)


def _forked(kind: str, faults: dict[str, list[Any]], port: int) -> int:
    child = os.fork()
    if not child:
        asyncio.run(_serve(kind, faults, port))
        os._exit(0)
    return child


def _supervise(servers: list[list[Any]]) -> None:
    running = {_forked(*server): server for server in servers}
    while running:
        child, status = os.wait()
        kind, _, port = running.pop(child)
        if os.waitstatus_to_exitcode(status) == STARTS_ANEW:
            again = [kind, {}, port]
            running[_forked(*again)] = again


if __name__ == "__main__":
    _supervise(json.loads(sys.argv[1]))
