"""What a reader is told where torch is not installed."""

from __future__ import annotations

import sys

import pytest

from omniloop.core.errors import ConfigError
from omniloop.report.image_metrics.choosing import choose


def test_weights_without_torch_say_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it fails
    (tmp_path / "w.pt").write_bytes(b"")
    with pytest.raises(ConfigError, match="inception needs torch, which is not installed") as found:
        choose(weights=[f"inception={tmp_path / 'w.pt'}"])
    assert found.value.remedy == "pip install 'omniloop[models]'"


def test_scores_that_need_no_weights_need_no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    used, absent = choose()
    assert list(used) == ["difference"]
    assert len(absent) == 2
