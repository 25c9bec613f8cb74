"""Keeps ``budget.json`` in the run's folder: at every start an entry, renewed while it goes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from omniloop.core.errors import RunFolderError
from omniloop.live.events import Event, RunStarted
from omniloop.live.totals import Totals
from omniloop.runlog.budget import BUDGET_NAME, Sitting, read_budget, write_budget

_PERIOD_S = 10.0


class BudgetFile:
    """Writes where the time goes; the run neither waits for the disk nor fails by it.

    What earlier starts of the run left in the file stays.

    Args:
        notice: Told in a line what goes wrong.
        period_s: The time from one writing to the next.
    """

    def __init__(self, notice: Callable[[str], None], period_s: float = _PERIOD_S) -> None:
        self._notice = notice
        self._period_s = period_s
        self._totals = Totals()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed = False

    def tell(self, event: Event) -> None:
        """Take note of an event; returns at once and raises nothing."""
        self._totals.take(event)
        if self._thread is None and isinstance(event, RunStarted):
            run_dir = Path(event.run_dir)
            self._thread = threading.Thread(
                target=self._work, args=(run_dir,), name="omniloop-budget", daemon=True
            )
            self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write it for the last time, waiting for the disk at most so long."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _work(self, run_dir: Path) -> None:
        try:
            earlier = self._earlier(run_dir)
            ended = False
            while not ended:
                ended = self._closing.wait(self._period_s)
                self._write(run_dir, earlier)
        except Exception as error:  # the run goes on whatever happens here
            self._notice(f"{BUDGET_NAME} is not kept any more: {type(error).__name__}: {error}")

    def _earlier(self, run_dir: Path) -> tuple[Sitting, ...]:
        try:
            return read_budget(run_dir) or ()
        except RunFolderError as error:
            self._notice(f"{error.where} is begun anew: {error.what}")
            return ()

    def _write(self, run_dir: Path, earlier: tuple[Sitting, ...]) -> None:
        sitting = self._totals.sitting()
        assert sitting is not None  # the start was told
        try:
            write_budget(run_dir, (*earlier, sitting))
        except RunFolderError as error:
            if not self._failed:
                self._failed = True
                self._notice(f"{error.where} cannot be written, the run goes on: {error.what}")
