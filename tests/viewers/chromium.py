"""Debian's headless Chromium, driven over its debugging pipe: no port, no driver of its own."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.services import end, first_true

CHROMIUM = Path("/usr/bin/chromium")
WINDOW = (1400, 900)
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # root in a container; the pages are our own
    "--remote-debugging-pipe",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    f"--window-size={WINDOW[0]},{WINDOW[1]}",
)
_ANSWER_S = 60.0
_POLL_S = 0.2


class Browser:
    """A running Chromium with one page; commands and events are those of the Chrome DevTools Protocol."""

    def __init__(self, folder: Path) -> None:
        commands_in, self._commands = os.pipe()
        self._answers, answers_out = os.pipe()
        # The protocol's pipes are file descriptors 3 and 4 of the browser.
        start = f'exec "$0" "$@" 3<&{commands_in} 4>&{answers_out}'
        flags = (*_FLAGS, f"--user-data-dir={folder / 'profile'}")
        with (folder / "chromium.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["/bin/bash", "-c", start, str(CHROMIUM), *flags, "about:blank"],
                stdout=log,
                stderr=log,
                pass_fds=(commands_in, answers_out),
            )
        os.close(commands_in)
        os.close(answers_out)
        self._results: dict[int, dict[str, Any]] = {}
        self._arrived = threading.Condition()
        self._number = 0
        self._session: str | None = None
        self.errors: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> Iterator[Self]:
        """Yield a browser that runs as long as the block."""
        browser = cls(folder)
        try:
            browser._attach()
            yield browser
        finally:
            end(browser.process)
            os.close(browser._commands)

    def open(self, url: str) -> None:
        """Show a page; errors of earlier pages are forgotten."""
        self.errors.clear()
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)[
            "result"
        ].get("value")

    def text(self) -> str:
        """Return the text that the page shows."""
        return str(self.evaluate("document.body ? document.body.innerText : ''") or "")

    def first(self, expression: str, timeout_s: float) -> Any:
        """Return the first true value of an expression; None after `timeout_s`."""
        return first_true(partial(self.evaluate, expression), timeout_s, _POLL_S)

    def wait(self, expression: str, timeout_s: float, what: str) -> None:
        """Wait until an expression is true; fail with the page's text after `timeout_s`."""
        if not self.first(expression, timeout_s):
            pytest.fail(f"{what} did not come within {timeout_s:g} s; the page says:\n{self.text()}\n{self.errors}")

    def double_click(self, x: float, y: float) -> None:
        """Double-click a point of the page, as a hand does."""
        for count in (1, 2):
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=count)

    def screenshot(self) -> bytes:
        """Return the page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the result of a command."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        with self._arrived:
            assert self._arrived.wait_for(lambda: number in self._results, _ANSWER_S), f"no answer to {method}"
            answer = self._results.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return dict(answer["result"])

    def _attach(self) -> None:
        pages = [target for target in self.call("Target.getTargets")["targetInfos"] if target["type"] == "page"]
        target = pages[0]["targetId"] if pages else self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def _listen(self) -> None:
        rest = b""
        while chunk := os.read(self._answers, 1 << 20):
            *messages, rest = (rest + chunk).split(b"\0")
            for message in messages:
                self._take(json.loads(message))
        os.close(self._answers)

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            with self._arrived:
                self._results[message["id"]] = message
                self._arrived.notify_all()
            return
        said = _complaint(message["method"], message.get("params", {}))
        if said:
            self.errors.append(said)


def _complaint(event: str, facts: dict[str, Any]) -> str | None:
    """Return what an event complains of, if it does."""
    if event == "Runtime.exceptionThrown":
        details = facts["exceptionDetails"]
        return str(details.get("exception", {}).get("description") or details["text"])
    if event == "Runtime.consoleAPICalled" and facts["type"] == "error":
        return " ".join(str(value.get("value", value.get("description", ""))) for value in facts["args"])
    if event == "Log.entryAdded" and facts["entry"]["level"] == "error":
        return f"{facts['entry']['text']} {facts['entry'].get('url', '')}"
    return None
