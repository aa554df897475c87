"""A FHIR R4 server under our control: it validates what it takes, keeps it under its ids, and fails as a test wants."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fhir.resources.R4B import get_fhir_model_class

from tests.support.services import serving


class Fault(StrEnum):
    """What goes wrong with a transaction."""

    LOST_ANSWER = "lost_answer"
    """It is taken, and the connection ends without a word."""
    SILENT = "silent"
    """It is not answered, and not taken."""
    FORGETS = "forgets"
    """It is answered as taken, and is not."""


@dataclass
class FhirStore:
    """What a server does now, and what it holds.

    Attributes
    ----------
    status
        That it answers with in place of taking a transaction.
    fault
        Besides.
    token
        That it asks for.
    resources
        By type and id.
    versions
        How often each was put.
    posts, reads
        How often it was called.
    """

    status: int | None = None
    fault: Fault | None = None
    token: str = ""
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    posts: int = 0
    reads: int = 0
    silent_s: float = 5.0

    def take(self, bundle: dict[str, Any]) -> list[dict[str, Any]]:
        """Keep a transaction as a whole, references between its entries resolved; raise ValueError if it is invalid."""
        get_fhir_model_class("Bundle").model_validate(bundle)
        if bundle["type"] != "transaction":
            raise ValueError("no transaction")
        places = {entry["fullUrl"]: entry["request"]["url"] for entry in bundle["entry"]}
        text = json.dumps([entry["resource"] for entry in bundle["entry"]])
        for full, url in places.items():
            text = text.replace(f'"{full}"', f'"{url}"')
        if '"urn:uuid:' in text:
            raise ValueError("a reference to nothing")
        for entry, resource in zip(bundle["entry"], json.loads(text), strict=True):
            url = f"{resource['resourceType']}/{resource['id']}"
            if entry["request"] != {"method": "PUT", "url": url}:
                raise ValueError("another request than PUT under the own id")
            self.resources[url] = resource
            self.versions[url] = self.versions.get(url, 0) + 1
        return [{"response": {"status": "200 OK"}} for _ in bundle["entry"]]

    def of_type(self, name: str) -> list[dict[str, Any]]:
        return [resource for resource in self.resources.values() if resource["resourceType"] == name]


_CAPABILITIES = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}


class _Handler(BaseHTTPRequestHandler):
    store: FhirStore

    def do_POST(self) -> None:
        self.store.posts += 1
        bundle = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._refused():
            return
        if self.store.fault is Fault.SILENT:
            time.sleep(self.store.silent_s)
            self.close_connection = True
            return
        try:
            entries = [] if self.store.fault is Fault.FORGETS else self.store.take(bundle)
        except ValueError:
            self._answer(422, {"resourceType": "OperationOutcome"})
            return
        if self.store.fault is Fault.LOST_ANSWER:
            self.close_connection = True
            return
        self._answer(200, {"resourceType": "Bundle", "type": "transaction-response", "entry": entries})

    def do_GET(self) -> None:
        self.store.reads += 1
        if self._refused():
            return
        asked = self.path.removeprefix("/r4/")
        found = _CAPABILITIES if asked == "metadata" else self.store.resources.get(asked)
        self._answer(200 if found else 404, found or {"resourceType": "OperationOutcome"})

    def _refused(self) -> bool:
        status = self.store.status
        if self.store.token and self.headers.get("Authorization") != f"Bearer {self.store.token}":
            status = 401
        if status:
            self._answer(status, {"resourceType": "OperationOutcome"})
        return status is not None

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        if status in (301, 302, 307, 308):
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def fhir_server(store: FhirStore, port: int = 0, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Yield the port of a server on loopback, up for as long as the block lasts.

    Parameters
    ----------
    store
        What it holds and does.
    port
        Of an earlier one; 0: a free one.
    context
        For https.
    """
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"store": store}))
    server.daemon_threads = True
    with serving(server, context) as taken:
        yield taken
