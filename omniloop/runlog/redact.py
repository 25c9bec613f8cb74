"""Secrets never reach a file of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"

_SECRET = {
    "password",
    "passwd",
    "passphrase",
    "secret",
    "secrets",
    "token",
    "apikey",
    "credential",
    "credentials",
}
_SECRET_KEYS = {("api", "key"), ("access", "key"), ("private", "key"), ("secret", "key")}
_URL_USER = re.compile(r"(?<=://)[^/\s]+@")  # up to the last @: a password may hold one
_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


def names_secret(key: str) -> bool:
    """Whether a setting's name says that its value is a secret: ``api_key``, ``hfToken``.

    A name that ends in another word is none: ``token_file``, ``max_tokens``.
    """
    words = tuple(word.lower() for word in _WORDS.findall(key))
    return bool(words) and (words[-1] in _SECRET or words[-2:] in _SECRET_KEYS)


def without_secrets(value: Any) -> Any:
    """A copy of JSON-able settings with secrets masked.

    Masked are values of keys that name a secret, unless empty, and the user part of
    addresses (``https://user:password@host``).
    """
    if isinstance(value, Mapping):
        return {
            key: MASK
            if names_secret(str(key)) and item not in (None, "")
            else without_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return _URL_USER.sub(f"{MASK}@", value) if isinstance(value, str) else value


def without_secret(override: str) -> str:
    """A word ``KEY=VALUE`` of a command line with its secret masked."""
    key, separator, value = override.partition("=")
    if separator and value and names_secret(key):
        return f"{key}={MASK}"
    return key + separator + str(without_secrets(value))
