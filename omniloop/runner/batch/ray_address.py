"""Whether a Ray cluster may be at an address."""

from __future__ import annotations

import os
import socket

from omniloop.core.errors import ConfigError

_ANSWER_S = 8.0
_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
"""A call that the head of a cluster answers; its request is an empty message."""


def check_reachable(address: str | None) -> None:
    """Find out within seconds what Ray would try for minutes.

    Args:
        address: See `omniloop.runner.batch.ray_workers.connect`; only a ``HOST:PORT`` is checked.

    Raises:
        ConfigError: nothing listens at a ``HOST:PORT``, or something that is no Ray.
    """
    is_client = (address or "").startswith("ray://")
    place = (address or "").removeprefix("ray://")
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
        why = "" if _uses_tls() else _foreign(place, is_client)
    except OSError as error:
        why = f"nothing answers at {address}: {error.strerror or error}"
    if why:
        raise ConfigError(
            f"no Ray cluster can be used: {why}", where=f"run.ray_address={address}",
            remedy="start one with `ray start --head`, or mend the address",
        )  # fmt: skip


def _uses_tls() -> bool:
    """Whether Ray is told to: then only Ray itself has the certificates."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def _foreign(place: str, is_client: bool) -> str:
    """What tells that the listener at a ``HOST:PORT`` is no Ray; empty if it may be one.

    Args:
        is_client: The port is for ``ray://``, of which only gRPC is asked.
    """
    import grpc

    with grpc.insecure_channel(place, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_ALIVE)(b"", timeout=_ANSWER_S)
        except grpc.RpcError as error:
            code = error.code()
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"what listens at {place} gives no answer within {_ANSWER_S:g} s"
            if code is grpc.StatusCode.UNAVAILABLE:
                return f"what listens at {place} does not speak gRPC"
            if code is grpc.StatusCode.UNIMPLEMENTED and not is_client:
                return f"what listens at {place} is another gRPC service"
    return ""  # any other refusal, such as of a token, is Ray's own to explain
