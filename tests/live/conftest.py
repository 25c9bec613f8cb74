from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
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


_PREFIXES = itertools.count()


@pytest.fixture(scope="session")
def one_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path_factory.mktemp("broker")).start()
    yield process
    process.stop()


@pytest.fixture
def broker(one_broker: BrokerProcess) -> BrokerProcess:
    """A broker for tests that leave it as it is, with a prefix of the test's own."""
    return replace(one_broker, prefix=f"test{next(_PREFIXES)}")
