"""Headless Chromium, driven over its DevTools protocol: errors, dialogs and network requests are all recorded."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
           "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
           "--remote-debugging-port=0", "--remote-allow-origins=*")  # fmt: skip


def executable():
    """Path of a Chromium; skips the test where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    pytest.importorskip("websockets", reason="the tests of the page need websockets")
    return found


class Browser:
    """One tab. errors: exceptions, console errors and dialogs; requests: addresses that were asked for."""

    def __init__(self, width=1400, height=900):
        from websockets.sync.client import connect

        self.folder = tempfile.TemporaryDirectory(prefix="astrom3-chromium-")
        self.errors, self.requests, self.loaded, self.number = [], [], False, 0
        self.output = open(Path(self.folder.name) / "log", "w+")  # noqa: SIM115
        command = [
            executable(),
            *OPTIONS,
            f"--user-data-dir={self.folder.name}/profile",
            f"--window-size={width},{height}",
        ]
        self.process = subprocess.Popen([*command, "about:blank"], stdout=self.output, stderr=self.output)
        try:
            port = self._port()
            self.socket = connect(f"ws://127.0.0.1:{port[0]}{port[1]}", max_size=None, proxy=None, compression=None)
            (tab,) = [t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page"]
            attached = self.send("Target.attachToTarget", targetId=tab["targetId"], flatten=True)
            self.session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.send(f"{domain}.enable")
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            self.send("Emulation.setDeviceMetricsOverride", **metrics)
        except BaseException:
            self.close()
            raise

    def _port(self):
        path, end = Path(self.folder.name) / "profile" / "DevToolsActivePort", time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            if path.is_file() and len(lines := path.read_text().split()) == 2:
                return lines
            time.sleep(0.05)
        self.output.seek(0)
        raise RuntimeError(f"Chromium does not start: {self.output.read()[-2000:]}")

    def send(self, method, **parameters):
        """A command and its answer; events that come meanwhile are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if hasattr(self, "session"):
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv(timeout=120))
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._event(answer.get("method"), answer.get("params", {}))

    def _event(self, name, about):
        if name == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif name == "Network.webSocketCreated":
            self.requests.append(about["url"])
        elif name == "Page.loadEventFired":
            self.loaded = True
        elif name == "Page.javascriptDialogOpening":
            self.errors.append(f"dialog: {about['message']}")
        elif name == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif name == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in about["args"]))
        elif name == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.errors.append(about["entry"]["text"])

    def js(self, expression):
        """Value of an expression, awaited."""
        found = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"]["exception"].get("description"))
        return found["result"].get("value")

    def wait(self, expression, seconds=60):
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.js(expression):
            assert time.monotonic() < end, f"{expression} does not become true; {self.errors}"
            time.sleep(0.05)

    def open(self, path, ready="window.astrom3 !== undefined"):
        """A file, or an address."""
        address = path.resolve().as_uri() if isinstance(path, Path) else path
        self.errors.clear()
        self.requests.clear()
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=address)
        self.wait(f"location.href !== 'about:blank' && document.readyState === 'complete' && ({ready})")
        self.requests = [r for r in self.requests if r not in ("about:blank", address)]

    def click(self, x, y):
        """Of the mouse, in CSS pixels of the window."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def click_on(self, selector):
        """The middle of an element, scrolled into view."""
        box = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        self.click(*box)

    def key(self, key):
        """A named key or one character."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = {"Enter": 13, "Escape": 27, "ArrowDown": 40}.get(key, 0)
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, windowsVirtualKeyCode=code)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text):
        self.send("Input.insertText", text=text)

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def close(self):
        if hasattr(self, "socket"):
            self.socket.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.output.close()
        self.folder._rmtree(self.folder.name, ignore_errors=True)  # its helpers may still be writing there

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def outside(requests):
    """Those of a page's requests that go anywhere but the page itself."""
    return [r for r in requests if not re.match(r"(data|blob|about):", r)]
