"""A headless Chromium driven over a pipe by the DevTools protocol; nothing else is needed.

https://chromedevtools.github.io/devtools-protocol: messages are JSON that ends with a NUL byte.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_KEYS = {
    "Tab": ("Tab", 9, ""), "Enter": ("Enter", 13, "\r"), " ": ("Space", 32, " "),
    "ArrowRight": ("ArrowRight", 39, ""), "ArrowLeft": ("ArrowLeft", 37, ""),
    "End": ("End", 35, ""), "Home": ("Home", 36, ""),
}  # fmt: skip

_AT_3_AND_4 = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_chromium() -> str | None:
    """Path of a Chromium, or None."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


# Frames come when `tick` is told, 20 ms apart: what moves does so by the test's own clock.
_HELD_FRAMES = """
(function () {
  var waiting = [], now = 0;
  window.requestAnimationFrame = function (frame) { return waiting.push(frame); };
  window.tick = function (ms) {
    for (var end = now + ms; now < end;) {
      var due = waiting;
      waiting = [];
      now += 20;
      due.forEach(function (frame) { frame(now); });
    }
  };
})();
"""


class Browser:
    """One page in a headless Chromium.

    Attributes:
        problems: Errors on the page's console, exceptions, and requests that were refused.
    """

    def __init__(self, profile: Path, timeout_s: float = 120.0) -> None:
        chromium = find_chromium()
        assert chromium is not None
        self._timeout_s = timeout_s
        self._waiting = b""
        self._last = 0
        self.problems: list[str] = []
        (to_read, self._write), (self._read, to_write) = os.pipe(), os.pipe()
        # Out of the way of 3 and 4, which the child must have.
        far = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (to_read, to_write)]
        os.close(to_read)
        os.close(to_write)
        arguments = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--remote-debugging-pipe", "--window-size=1200,900",
            f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", _AT_3_AND_4, *map(str, far), chromium, *arguments], pass_fds=far,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for fd in far:
            os.close(fd)
        self._session = self._held = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        until = time.monotonic() + self._timeout_s
        while b"\0" not in self._waiting:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._read], [], [], left)[0]:
                raise TimeoutError("Chromium does not answer")
            part = os.read(self._read, 1 << 20)
            if not part:
                raise RuntimeError("Chromium ended")
            self._waiting += part
        first, _, self._waiting = self._waiting.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:500])
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])
        elif event.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.problems.append(json.dumps(params["args"])[:500])

    def open(self, path: Path, *, width: int = 1200, dark: bool = False, held: bool = True) -> None:
        """Open a file afresh, and wait until it is there.

        Args:
            held: Animation frames come by `tick` alone, else by the browser's own clock.
        """
        self.call("Page.navigate", url="about:blank")
        self.until("location.protocol === 'about:'")
        self.problems.clear()  # those of the page before have all come
        if self._held:
            self.call("Page.removeScriptToEvaluateOnNewDocument", identifier=self._held)
            self._held = ""
        if held:
            added = self.call("Page.addScriptToEvaluateOnNewDocument", source=_HELD_FRAMES)
            self._held = added["identifier"]
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.until("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, expression: str) -> Any:
        """The value of an expression in the page."""
        done = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in done:
            raise RuntimeError(f"{expression}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def tick(self, ms: int) -> None:
        """Let so much time of held animation frames pass."""
        self.run(f"tick({ms})")

    def until_problem(self, text: str) -> None:
        """Wait until a problem tells of `text`."""
        end = time.monotonic() + self._timeout_s
        while not any(text in problem for problem in self.problems):
            assert time.monotonic() < end, f"no problem tells of {text}: {self.problems}"
            self.run("0")
            time.sleep(0.02)

    def until(self, expression: str, timeout_s: float = 60.0) -> None:
        """Wait until an expression holds."""
        end = time.monotonic() + timeout_s
        while not self.run(expression):
            assert time.monotonic() < end, f"never: {expression}"
            time.sleep(0.02)

    def press(self, key: str, times: int = 1) -> None:
        """Press a key."""
        code, number, text = _KEYS[key]
        what = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        for _ in range(times):
            down = "keyDown" if text else "rawKeyDown"
            extra = {"text": text} if text else {}
            self.call("Input.dispatchKeyEvent", type=down, **what, **extra)
            self.call("Input.dispatchKeyEvent", type="keyUp", **what)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Save what is seen, or the whole page, as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)
