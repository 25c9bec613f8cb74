"""A process that publishes a run until it is killed: python publishing.py URL RUN."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from omniloop.live.mqtt import MqttPublisher
from tests.live.made_run import Spy, progress, rollouts, started

publisher = MqttPublisher(sys.argv[1], Spy())
publisher.tell(started(sys.argv[2]))
for event in rollouts(3):
    publisher.tell(event)
for second in range(600):
    publisher.tell(progress(3, elapsed_s=float(second + 1)))
    time.sleep(0.2)
