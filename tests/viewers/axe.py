"""axe-core in a page: what keeps people out of it, by the rules of WCAG 2.2 AA."""

from __future__ import annotations

import json
from typing import Any

from tests.viewers.chromium import Browser
from tests.viewers.ohif import VIEWERS

AXE = VIEWERS / "axe-core-4.10.3" / "axe.min.js"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_RUN = f"axe.run(document, {{runOnly: {json.dumps(_RULES)}, resultTypes: ['violations']}}).then(found => found)"


def violations(browser: Browser) -> list[str]:
    """Return what axe-core finds wrong in the page that is shown: rule, what it asks, and where."""
    browser.evaluate(AXE.read_text("utf-8"))
    found: dict[str, Any] = browser.evaluate(_RUN)
    return [
        f"{rule['id']}: {rule['help']}: {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
