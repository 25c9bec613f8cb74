from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.brokers import BrokerProcess

pytest.importorskip("aiomqtt")


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[Callable[..., BrokerProcess]]:
    made: list[BrokerProcess] = []

    def start(**settings: Any) -> BrokerProcess:
        broker = BrokerProcess(tmp_path / f"broker{len(made)}", **settings)
        made.append(broker)
        return broker.start()

    yield start
    for broker in made:
        broker.stop()


@pytest.fixture
def broker(start_broker: Callable[..., BrokerProcess]) -> BrokerProcess:
    return start_broker()
