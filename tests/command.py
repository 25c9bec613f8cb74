"""The command line, called in this process: what it prints and its exit code.

A new process costs two seconds of imports. Tests about processes (signals, pipes, two at once)
start them themselves.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from omniloop.cli.main import main

ROOT = Path(__file__).resolve().parents[1]

_PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    " from omniloop.cli.main import main; main()"
)


def interruptible(*arguments: str | Path) -> list[str]:
    """``omniloop ARGUMENTS`` as a process that Ctrl-C ends, whoever started the tests.

    What a shell starts in the background has SIGINT ignored, and its children inherit that.
    """
    return [sys.executable, "-c", _PROGRAM, *map(str, arguments)]


def omniloop(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``omniloop ARGUMENTS`` as its entry point does."""
    words = ["omniloop", *map(str, arguments)]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in "oe")
    code: object = 0
    with (
        contextlib.chdir(cwd),
        mock.patch.object(sys, "argv", words),
        mock.patch.object(sys, "path", list(sys.path)),
        mock.patch.dict(os.environ),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    said, complained = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    if isinstance(code, str):
        said, code = said + code, 1
    return subprocess.CompletedProcess(words, int(code or 0), said, complained)  # type: ignore[call-overload]
