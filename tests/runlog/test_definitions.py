from __future__ import annotations

import pytest

from omniloop.core.errors import RunFolderError
from omniloop.runlog.definitions import (
    DEFINITIONS_NAME,
    forget_definitions,
    read_definitions,
    write_definitions,
)

METRICS = {"größe": {"package": "p 1", "settings": {"a": 1}, "scores": {"x": None}}}


def test_what_is_written_is_read(tmp_path):
    write_definitions(tmp_path, METRICS)
    assert read_definitions(tmp_path) == METRICS
    forget_definitions(tmp_path)
    assert read_definitions(tmp_path) is None
    forget_definitions(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "it is not 'omniloop-definitions' of version 1"),
        ('{"schema": "omniloop-definitions", "version": 2}', "of version 1"),
        (
            '{"schema": "omniloop-definitions", "version": 1, "metrics": [1]}',
            "no object of objects",
        ),
    ],
)
def test_a_damaged_file_is_refused_with_its_remedy(tmp_path, text, message):
    (tmp_path / DEFINITIONS_NAME).write_text(text)
    with pytest.raises(RunFolderError, match=message) as caught:
        read_definitions(tmp_path)
    assert "omniloop score" in str(caught.value)
