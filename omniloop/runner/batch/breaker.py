"""How failures are answered: a task waits before it is tried again, an address is avoided.

Both wait longer each time. Nothing here reads a clock; time is given, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from omniloop.core.errors import ConfigError

STATES = ("closed", "open", "half_open")
"""Of a breaker: in use; avoided until a time; on trial with one session."""


@dataclass(frozen=True)
class Backoff:
    """Waits that grow by a factor up to a longest one.

    Attributes:
        first_s: The first wait.
        factor: From one to the next.
        most_s: The longest.
    """

    first_s: float = 1.0
    factor: float = 2.0
    most_s: float = 60.0

    def __post_init__(self) -> None:
        if not (0 <= self.first_s <= self.most_s and self.factor >= 1):
            raise ConfigError(
                f"waits begin at {self.first_s} s, grow by {self.factor} and end at {self.most_s} s",
                remedy="a factor of 1 or more, and a first wait between 0 and the longest",
            )

    def after(self, times: int) -> float:
        """The wait after something happened `times` times, 1 or more [s]."""
        if self.factor == 1 or not self.first_s:
            return self.first_s
        wait_s = self.first_s
        for _ in range(times - 1):
            wait_s *= self.factor
            if wait_s >= self.most_s:
                return self.most_s
        return wait_s


AVOIDED = Backoff(5.0, 2.0, 120.0)
"""How long an address is avoided."""


@dataclass
class Breaker:
    """Whether an address gets sessions (the circuit breaker of M. Nygard, Release It!, 5.2).

    Closed until it failed `threshold` times in a row; then open for a while; then half open:
    one session tries it. If that fails it is open again, for longer; an answer closes it.

    Attributes:
        threshold: Failures in a row.
        waits: How long it stays open the first time, the second time, ...
        failures: In a row, so far.
        opened: How often it opened since it last answered.
        until_s: When a trial may begin; None while closed.
        trial: Whether a trial is under way.
    """

    threshold: int = 3
    waits: Backoff = field(default=AVOIDED)
    failures: int = 0
    opened: int = 0
    until_s: float | None = None
    trial: bool = False

    @property
    def state(self) -> str:
        """One of `STATES`."""
        if self.until_s is None:
            return "closed"
        return "half_open" if self.trial else "open"

    def admits(self, now_s: float) -> bool:
        """Whether a session may begin."""
        return self.until_s is None or (not self.trial and now_s >= self.until_s)

    def begin(self) -> bool:
        """A session begins; return whether it is a trial."""
        self.trial = self.until_s is not None
        return self.trial

    def trial_over(self) -> None:
        """The trial's session ended; if nobody judged it, another may begin."""
        self.trial = False

    def failed(self, now_s: float) -> None:
        """It failed; what fails while it is avoided, of sessions begun before, changes nothing."""
        self.failures += 1
        if self.until_s is None:
            if self.failures < self.threshold:
                return
        elif now_s < self.until_s:
            return
        self.opened += 1
        self.until_s = now_s + self.waits.after(self.opened)
        self.trial = False

    def answered(self) -> None:
        """It answered."""
        self.failures = self.opened = 0
        self.until_s = None
        self.trial = False
