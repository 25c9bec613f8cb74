"""The error taxonomy: every error names the value, the place and the remedy.

OmniloopError
|- InputError            the user can mend it; found before anything starts
|  |- ConfigError        a setting
|  |- SceneError         recorded or authored data
|  `- PluginError        a plugin name, class or constructor argument
|- PolicyError           the policy broke its contract: outcome `policy_failed`
|- ServiceError          any other service broke: outcome `infrastructure_failed`
|  |- RolloutHung        of nothing that answered for long: not tried again within a run
|  |- TransientError     of a cause known to be passing: the same call may succeed later
|  `- SessionLost        the peer no longer knows the session: restarted, or idle too long
|     `- SessionEvicted  a renderer's: another client took its place
`- RunFolderError        the run folder cannot be used or written
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OmniloopError(Exception):
    """Base of all errors that Omniloop raises on purpose.

    Attributes:
        what: What is wrong, with the offending value in it.
        where: File, key, track or time at which it is wrong; may be empty.
        remedy: What the user can do about it; may be empty.
        address: Of the service that failed, if it is elsewhere; may be empty.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what, where, remedy)
        self.what = what
        self.where = where
        self.remedy = remedy
        self.address = ""

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"  where: {self.where}")
        if self.remedy:
            parts.append(f"  remedy: {self.remedy}")
        return "\n".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.remedy))


def _rebuild(kind: type[OmniloopError], what: str, where: str, remedy: str) -> OmniloopError:
    return kind(what, where=where, remedy=remedy)


class InputError(OmniloopError):
    """Something the user gave is wrong and can be mended by the user."""


class ConfigError(InputError):
    """A setting is unknown, of the wrong type, or does not fit another one."""


class SceneError(InputError):
    """Scene data are missing, damaged or impossible."""


class PluginError(InputError):
    """A plugin is unknown, cannot be imported or refuses its arguments."""


class PolicyError(OmniloopError):
    """The policy broke its contract (an unusable plan, an exception in `plan`)."""


class ServiceError(OmniloopError):
    """A service other than the policy broke its contract or failed."""


class RolloutHung(ServiceError):
    """No service of a rollout answered for so long that it was ended."""


class TransientError(ServiceError):
    """A service cannot be reached or answers too late: the same call may succeed later."""


class SessionLost(ServiceError):
    """A service no longer knows the rollout's session; only a new rollout can go on."""


class SessionEvicted(SessionLost):
    """A renderer of few sessions gave this one's place to another client."""


class RunFolderError(OmniloopError):
    """The run folder exists already, is damaged, or cannot be written."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known name, else ``""``."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
