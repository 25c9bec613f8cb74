"""What all tests share: the real recordings beside the checkout, and repeatable properties."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # as the command line has it

settings.register_profile(
    "repeatable", deadline=None, derandomize=True, max_examples=40, database=None
)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings, `shared/data` beside the checkout."""
    folder = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"there are no recordings in {folder}")
    return folder.resolve()
