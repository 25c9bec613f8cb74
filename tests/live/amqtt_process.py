"""amqtt as a process: python amqtt_process.py -c CONFIG.

amqtt 0.12 walks through its subscriptions while clients add to them; whoever connects meanwhile
is then never answered. Here it walks through a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from amqtt.broker import Broker
from amqtt.scripts import broker_script


class Steady(dict[str, Any]):
    """May change while it is walked through."""

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.keys()))

    def items(self) -> Any:
        return list(super().items())


class SteadyBroker(Broker):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        assert isinstance(self._subscriptions, dict), "another make of amqtt"
        self._subscriptions = Steady()


if __name__ == "__main__":
    broker_script.Broker = SteadyBroker  # type: ignore[misc]
    broker_script.main()
