"""Hands on a keyboard, and nothing else."""

from __future__ import annotations

from tests.viewers.chromium import Browser

_KEYS = {"\t": ("Tab", "Tab", 9, ""), "\r": ("Enter", "Enter", 13, "\r"), " ": (" ", "Space", 32, " ")}
_MOST_TABS = 300


def press(browser: Browser, text: str) -> None:
    """Press a key, or write a text."""
    if text not in _KEYS:
        browser.call("Input.insertText", text=text)
        return
    key, code, number, written = _KEYS[text]
    pressed = {"key": key, "code": code, "windowsVirtualKeyCode": number}
    browser.call("Input.dispatchKeyEvent", type="keyDown", text=written, **pressed)
    browser.call("Input.dispatchKeyEvent", type="keyUp", **pressed)


def tab_to(browser: Browser, expression: str) -> None:
    """Press the tabulator until the focus is where an expression says."""
    for _ in range(_MOST_TABS):
        if browser.evaluate(expression):
            return
        press(browser, "\t")
    raise AssertionError(f"the keyboard does not reach {expression}; the page says:\n{browser.text()}")
