"""What is masked before it reaches a file."""

from __future__ import annotations

import pytest

from omniloop.runlog.redact import without_secret, without_secrets


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("mqtt://eva:s3cret@host:1883/x", "mqtt://***@host:1883/x"),
        ("mqtts://eva@host/x", "mqtts://***@host/x"),
        ("mqtt://eva:p@s3cret@host/x", "mqtt://***@host/x"),
        ("mqtt://host/x", "mqtt://host/x"),
    ],
)
def test_the_user_part_of_an_address_is_masked(url: str, masked: str) -> None:
    assert without_secrets({"run": {"mqtt": url}}) == {"run": {"mqtt": masked}}
    assert without_secret(f"run.mqtt={url}") == f"run.mqtt={masked}"
