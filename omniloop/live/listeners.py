"""Who is told of a run, by its settings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from omniloop.live.budget_file import BudgetFile
from omniloop.live.events import Control, Listener
from omniloop.live.mqtt import MqttPublisher
from omniloop.live.prometheus import endpoint_for
from omniloop.live.status_file import StatusFile


@contextlib.contextmanager
def listeners_for(
    mqtt: str | None,
    status_file: bool,
    control: Control,
    notice: Callable[[str], None],
    close_s: float = 5.0,
    prometheus: int | None = None,
) -> Iterator[tuple[Listener, ...]]:
    """The listeners that a run's settings ask for; at the end each has so long to finish.

    Args:
        mqtt: The setting `run.mqtt`; `Broker.parse` checks it without a run.
        status_file: Whether ``status.json`` and ``budget.json`` are kept.
        notice: Told in a line what goes wrong with them; called from their threads.
        prometheus: The setting `run.prometheus`; `check_port` checks it without a run.

    Raises:
        ConfigError: `run.mqtt` cannot be used.
    """
    publisher = MqttPublisher(mqtt, control, notice) if mqtt else None
    files = (StatusFile(notice), BudgetFile(notice)) if status_file else ()
    endpoint = endpoint_for(prometheus, notice)
    listeners = (*files, endpoint, publisher)
    try:
        yield tuple(listener for listener in listeners if listener is not None)
    finally:
        for listener in listeners:
            if listener is not None:
                listener.close(close_s)
