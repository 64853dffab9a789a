"""Headless Chromium, driven over a pair of pipes in the DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/.  Messages are JSON, each ended by a zero byte: with
`--remote-debugging-pipe` Chromium reads them from descriptor 3 and writes them to 4.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

SECONDS = 60.0
"""How long an answer, or something on the page, may take."""

_KEYS = {"Enter": ("\r", 13), "Escape": ("", 27), "ArrowDown": ("", 40), "ArrowUp": ("", 38), "End": ("", 35)}

Message = dict[str, Any]


class BrowserError(AssertionError):
    """The browser, or a script in the page, says that it cannot be done."""


class Browser:
    """A Chromium that has been started."""

    def __init__(self, process: subprocess.Popen[bytes], reads: int, writes: int) -> None:
        self._process = process
        self._reads = reads
        self._writes = writes
        self._buffer = b""
        self._last = 0
        self.events: list[Message] = []
        """What the browser told of itself, and nobody has asked for."""

    def call(self, method: str, session: str | None = None, **parameters: object) -> Message:
        """One command; its result."""
        self._last += 1
        message: Message = {"id": self._last, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") != self._last:
                self.events.append(answer)
            elif "error" in answer:
                raise BrowserError(f"{method}: {answer['error']['message']}")
            else:
                return cast("Message", answer["result"])

    def _receive(self) -> Message:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reads], [], [], max(deadline - time.monotonic(), 0))
            data = os.read(self._reads, 1 << 20) if ready else b""
            if not data:
                raise BrowserError(f"Chromium gives no answer; its status is {self._process.poll()}")
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        return cast("Message", json.loads(text))

    def open(self, page: Path, fragment: str = "", *, size: tuple[int, int] = (1400, 900)) -> Tab:
        """Open a page in a tab of its own, and wait until it says that it is ready."""
        target: str = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session, target)
        for domain in ("Runtime", "Log", "Page"):
            tab.call(f"{domain}.enable")
        tab.resize(*size)
        tab.call("Page.navigate", url=page.as_uri() + fragment)
        tab.wait("document.documentElement && 'ready' in document.documentElement.dataset")
        return tab


class Tab:
    """One page."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser = browser
        self._session = session
        self._target = target

    def call(self, method: str, **parameters: object) -> Message:
        """One command about this page."""
        return self._browser.call(method, self._session, **parameters)

    def get(self, expression: str) -> Any:
        """The value of a JavaScript expression, which may be a promise."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description", details["text"]))
        return result["result"].get("value")

    def text(self, selector: str) -> str:
        """What can be read in the first element that `selector` finds."""
        return cast("str", self.get(f"document.querySelector({json.dumps(selector)}).innerText"))

    def wait(self, expression: str) -> Any:
        """Return when an expression is true, with its value."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            value = self.get(expression)
            if value:
                return value
            self.painted()
        raise BrowserError(f"never true: {expression}")

    def painted(self) -> None:
        """Return when what has changed has been painted."""
        self.get("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def click(self, selector: str, *, index: int = 0) -> None:
        """Click with the mouse into the middle of an element, which has to be in sight."""
        found = f"document.querySelectorAll({json.dumps(selector)})[{index}]"
        box = self.get(
            f"(() => {{ const box = {found}; box.scrollIntoView({{block: 'nearest'}});"
            " const {x, y, width, height} = box.getBoundingClientRect();"
            " return [x + width / 2, y + height / 2]; })()"
        )
        self.click_at(*box)

    def move_to(self, x: float, y: float) -> None:
        """Move the mouse to a place of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.painted()

    def click_at(self, x: float, y: float, *, times: int = 1) -> None:
        """Click with the mouse at a place of the window."""
        self.move_to(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=times)
        self.painted()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at `start`, move it and let it go at `end`."""
        where = {"button": "left", "buttons": 1, "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], **where)
        for share in (0.5, 1.0):
            x, y = (a + (b - a) * share for a, b in zip(start, end, strict=True))
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, **where)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], **where)
        self.painted()

    def wheel(self, x: float, y: float, by: float) -> None:
        """Turn the wheel at a place of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=by)
        self.painted()

    def key(self, key: str) -> None:
        """Press and release a key, by its name or its character."""
        text, code = _KEYS.get(key, (key, ord(key[0])))
        what: Mapping[str, object] = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **what)
        self.call("Input.dispatchKeyEvent", type="keyUp", **what)
        self.painted()

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)
        self.painted()

    def resize(self, width: int, height: int) -> None:
        """Give the window another size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def dark(self, on: bool) -> None:
        """The system's colours."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.painted()

    def screenshot(self, path: Path) -> None:
        """What the window shows, as PNG."""
        self.painted()
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", targetId=self._target)

    @property
    def errors(self) -> list[str]:
        """What went wrong in the page: exceptions, and errors on its console."""
        self.get("1")
        mine = (each for each in self._browser.events if each.get("sessionId") == self._session)
        return [text for each in mine if (text := _error(each["method"], each["params"])) is not None]


def _error(method: str, parameters: Message) -> str | None:
    if method == "Runtime.exceptionThrown":
        return str(parameters["exceptionDetails"])
    if method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert", "warning"):
        return str(parameters["args"])
    if method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
        return str(parameters["entry"])
    return None


@contextmanager
def chromium(program: str, folder: Path) -> Iterator[Browser]:
    """A browser with a profile in `folder`, until the block ends."""
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--no-first-run",
        "--remote-debugging-pipe",
        f"--user-data-dir={folder}",
    ]
    # The shell puts the pipes where the browser looks for them.
    shell = 'in=$1 out=$2; shift 2; eval "exec \\"\\$@\\" 3<&$in 4>&$out"'
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", str(to_browser), str(from_browser), program, *options],
        pass_fds=(to_browser, from_browser),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Browser(process, answers, commands)
    finally:
        _end(process, lambda: Browser(process, answers, commands).call("Browser.close"))
        os.close(answers)
        os.close(commands)


def _end(process: subprocess.Popen[bytes], ask: Callable[[], object]) -> None:
    with suppress(BrowserError, OSError):
        ask()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
