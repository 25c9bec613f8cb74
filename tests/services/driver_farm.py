"""carla-driver-interface's drivers, several in one process, each on a port of its own.

Run as ``python driver_farm.py DRIVERS`` where DRIVERS is a JSON list of [policy, mode, arguments].
It must not import Omniloop: two copies of the protobuf messages clash. Prints the ports, then
serves until SIGTERM.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from contextlib import ExitStack

from carla_driver_interface.policies import load_policy
from carla_driver_interface.server import serving

if __name__ == "__main__":
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    with ExitStack() as running:
        ports = [
            running.enter_context(
                serving(load_policy(policy, **given), port=0, host="127.0.0.1", mode=mode)
            )
            for policy, mode, given in json.loads(sys.argv[1])
        ]
        print(json.dumps(ports), flush=True)
        stop.wait()
