"""What all tests share: the real recordings beside the checkout, and repeatable properties."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # as the command line has it

# Examples are few and the same each time; how long they take to draw is the machine's affair.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, max_examples=40, database=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings, `shared/data` beside the checkout."""
    folder = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"there are no recordings in {folder}")
    return folder.resolve()
