"""A headless Chromium that tests drive through its DevTools protocol, over a pipe: no port, no driver, no package.

The protocol: https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60  # seconds after which an answer of the browser is overdue, however busy the machine is
INSTALL = "apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium"


def find_chromium() -> str:
    """The browser's command; installed as root in CI on Debian; without one the test is skipped."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    wanted = os.environ.get("HEADATLAS_CHROMIUM") or os.environ.get("CI")
    if found is None and wanted and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(INSTALL, shell=True, check=True, env=quiet, stdout=subprocess.DEVNULL, timeout=900)
        found = shutil.which("chromium")
    return found or pytest.skip(f"no Chromium here: {INSTALL}")


class Browser:
    """A browser with its own profile; `with` ends it and removes that."""

    def __init__(self, *options: str):
        self._folder = tempfile.TemporaryDirectory(prefix="headatlas-chromium-", ignore_cleanup_errors=True)
        (ours, to_browser), (from_browser, theirs) = os.pipe(), os.pipe()
        theirs, ours = (_above(descriptor) for descriptor in (theirs, ours))
        command = [
            find_chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
            "--disable-background-networking", "--no-first-run", f"--user-data-dir={self._folder.name}", *options,
        ]  # fmt: skip
        # Chromium reads commands from descriptor 3 and writes answers to 4; bash puts the pipes there.
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{ours} 4>&{theirs}', "bash", *command],
            pass_fds=(ours, theirs), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(ours)
        os.close(theirs)
        self._to, self._from, self._rest, self._number = to_browser, from_browser, b"", 0
        self.events: list[dict] = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(PATIENCE)
        os.close(self._to)
        os.close(self._from)
        self._folder.cleanup()

    def call(self, method: str, session: str | None = None, **params) -> dict:
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(PATIENCE)
            assert answer is not None, f"{method}: no answer"
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.events.append(answer)

    def collect(self) -> None:
        """Add the events that have come by now to `events`."""
        while (event := self._next(0)) is not None:
            self.events.append(event)

    def _next(self, patience: float) -> dict | None:
        until = time.monotonic() + patience
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0, until - time.monotonic()))
            if not ready:
                return None
            read = os.read(self._from, 1 << 20)
            assert read, "Chromium has ended"
            self._rest += read
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)


def _above(descriptor: int) -> int:
    """The same pipe under a number that is neither 3 nor 4."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10)
    os.close(descriptor)
    return moved


class Tab:
    """A page in the browser."""

    def __init__(self, browser: Browser, width: int = 1400, height: int = 1000):
        self.browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.size(width, height)

    def call(self, method: str, **params) -> dict:
        return self.browser.call(method, self.session, **params)

    def size(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, scheme: str) -> None:
        """What the system prefers: light or dark."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, url: str) -> None:
        """Go to an address and wait until the page and its scripts have loaded."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    def run(self, code: str):
        """The value of an expression in the page; of a promise, what it resolves to."""
        done = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, condition: str):
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + PATIENCE
        while not (value := self.run(condition)):
            assert time.monotonic() < end, f"never: {condition}"
            time.sleep(0.02)
        return value

    def text(self, selector: str) -> str:
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def key(self, name: str, modifiers: int = 0) -> None:
        text = {"Enter": "\r"}.get(name, name if len(name) == 1 else "")
        event = {"key": name, "code": name, "modifiers": modifiers, "windowsVirtualKeyCode": {"Enter": 13}.get(name, 0)}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def point(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float, modifiers: int = 0) -> None:
        self.point(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            button = {"button": "left", "clickCount": 1, "modifiers": modifiers}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def press(self, selector: str) -> None:
        """Click the middle of an element, scrolled into view."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{found}.scrollIntoView({{block: 'center'}})")
        box = self.run(f"{found}.getBoundingClientRect().toJSON()")
        self.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def screenshot(self, path: Path) -> None:
        """The whole page, as far as 4,000 pixels down."""
        height = min(4000, self.run("document.documentElement.scrollHeight"))
        width = self.run("window.innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def troubles(self) -> list[str]:
        """Everything that the console showed as an error or a warning, and exceptions."""
        self.browser.collect()
        said = []
        for event in self._events():
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                said.append(params["exceptionDetails"].get("exception", {}).get("description", "exception"))
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                said.append(" ".join(str(each.get("value", each.get("description"))) for each in params["args"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                said.append(params["entry"]["text"])
        return said

    def requests(self) -> list[str]:
        """The addresses that the page asked for, its own included."""
        self.browser.collect()
        return [
            event["params"]["request"]["url"]
            for event in self._events()
            if event["method"] == "Network.requestWillBeSent"
        ]

    def _events(self) -> list[dict]:
        return [event for event in self.browser.events if event.get("sessionId") == self.session]
