"""The web pages of a node that has nothing else running, and somebody who asks for them."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from dicom_node.net.held_port import held_port
from tests.support.services import started

SETTINGS = """
[node]
bind = "127.0.0.1"
port = {port}
data_dir = "data"
[receive]
accept = "any"
disk_reserve_gb = 0.1
[web]
port = {web}
{extra}
"""


@dataclass(frozen=True)
class Answer:
    """What the pages answered."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def place(self) -> str:
        """Where the answer leads to."""
        return self.headers.get("location", "")


@dataclass
class Site:
    """Pages on a port."""

    folder: Path
    port: int
    log: Path
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **headers: str) -> Answer:
        """Return an answer; nothing is followed."""
        return self.ask("GET", path, None, **headers)

    def ask(self, method: str, path: str, fields: dict[str, str] | None, **headers: str) -> Answer:
        """Send a form, or nothing; of what has no end the first line is returned."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        form = urlencode(fields) if fields is not None else None
        kind = {"Content-Type": "application/x-www-form-urlencoded"} if form is not None else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, form, self.headers | kind | named)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            endless = told.get("content-type", "").startswith("text/event-stream")
            body = answer.readline() if endless else answer.read()
            return Answer(answer.status, told, body.decode("utf-8", "replace"))
        finally:
            connection.close()


@contextmanager
def site(folder: Path, extra: str = "") -> Iterator[Site]:
    """Yield pages of a node in `folder`, whose data may be there already."""
    with held_port() as port, held_port() as web:
        file = folder / "node.toml"
        file.write_text(SETTINGS.format(port=port, web=web, extra=extra))
        command = [sys.executable, "-P", "-m", "dicom_node", "web", "--config", str(file)]
        with started(command, folder / "node.log", web):
            yield Site(folder, web, folder / "node.log")
