"""A headless Chromium for a test, spoken to over a pipe: no port that could clash, no package beside Python's own."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-breakpad"),
    "--remote-debugging-pipe",
)
PATIENCE_S = 60.0
"""For one answer. A machine may be slow; a browser that is silent for so long is dead."""


def find_chromium() -> str | None:
    """The first browser of the Chromium family on the path."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class PageError(Exception):
    """What a page threw, or an answer that never came."""


class Tab:
    """One tab of the browser, and what its console and its exceptions said since it was opened."""

    def __init__(self, commands: int, events: int) -> None:
        self._commands, self._events = commands, events
        self._unread = b""
        self._calls = 0
        self._session: str | None = None
        self._is_loaded = False
        self.complaints: list[str] = []

    def open(self) -> None:
        """Attach to a fresh tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events that come before it are noted."""
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while (answer := self._read(deadline)).get("id") != self._calls:
            self._note(answer)
        if "error" in answer:
            raise PageError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def visit(self, url: str) -> None:
        """Open an address in a new document and wait until it is loaded: its scripts have run."""
        for address in ("about:blank", url):  # from the same address with another fragment nothing would be loaded
            self._is_loaded = False
            self.call("Page.navigate", url=address)
            deadline = time.monotonic() + PATIENCE_S
            while not self._is_loaded:
                self._note(self._read(deadline))

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise PageError(details.get("exception", {}).get("description", details["text"]))
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Look at each turn of the page's own loop until the condition holds; fail if it never does."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.evaluate(f"new Promise(done => setTimeout(() => done(Boolean({condition}))))"):
            if time.monotonic() > deadline:
                raise PageError(f"never true: {condition}")

    def press(self, key: str, code: int) -> None:
        """A key, as the keyboard sends it."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def resize(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def _read(self, deadline: float) -> dict[str, Any]:
        """The next message; messages end in a NUL."""
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._events], [], [], max(0.0, deadline - time.monotonic()))
            got = os.read(self._events, 1 << 16) if ready else b""
            if not got:
                raise PageError("the browser does not answer")
            self._unread += got
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        method, about = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self._is_loaded = True
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(about["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(about["args"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.complaints.append(about["entry"]["text"])
        elif method == "Network.requestWillBeSent" and about["request"]["url"].startswith(("http", "ws", "ftp")):
            self.complaints.append(f"asks the network for {about['request']['url']}")


@contextmanager
def browsing(chromium: str) -> Iterator[Tab]:
    """A tab of a browser with a profile of its own; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="gradrace-browser-", ignore_cleanup_errors=True) as home:
        process, commands, events = _start(chromium, home)
        tab = Tab(commands, events)
        try:
            tab.open()
            yield tab
        finally:
            os.close(commands)  # at the end of its pipe the browser leaves
            os.close(events)
            _end(process)


def _start(chromium: str, home: str) -> tuple[int, int, int]:
    """The process, the end where commands are written, the end where answers are read."""
    theirs_in, commands = map(_above_the_standard, os.pipe())
    events, theirs_out = map(_above_the_standard, os.pipe())
    nothing = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in (0, 1, 2)]
    ends = [(os.POSIX_SPAWN_DUP2, theirs_in, 3), (os.POSIX_SPAWN_DUP2, theirs_out, 4)]
    environment = {**os.environ, "HOME": home, "TMPDIR": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
    arguments: Sequence[str] = (chromium, *SWITCHES, f"--user-data-dir={Path(home) / 'profile'}", "about:blank")
    process = os.posix_spawn(chromium, arguments, environment, file_actions=[*nothing, *ends], setpgroup=0)
    os.close(theirs_in)
    os.close(theirs_out)
    return process, commands, events


def _above_the_standard(descriptor: int) -> int:
    """The same pipe under a number that is none of the browser's 0 to 4, and closed in every child."""
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return copy


def _end(process: int) -> None:
    """Wait for the browser to leave, and end its own group of processes if it does not."""
    deadline = time.monotonic() + PATIENCE_S / 6
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return
        select.select([], [], [], 0.02)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
