"""Where messages of a node end in a test: a mail server and a web server that keep what they get."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

from dicom_node.net.held_port import held_port


class Webhook:
    """A web server that keeps what is posted to it."""

    def __init__(self, port: int = 0) -> None:
        self.posted: list[dict[str, Any]] = []
        keep = self.posted.append

        class Taking(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                keep(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Taking)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def webhook(port: int = 0) -> Iterator[Webhook]:
    sink = Webhook(port)
    try:
        yield sink
    finally:
        sink.close()


class Mails:
    """Keeps the mails that an SMTP server takes."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802
        message = message_from_bytes(envelope.content)
        parts = [part.get_payload(decode=True) for part in message.walk() if not part.is_multipart()]
        self.taken.append(
            f"{message['Subject']}\n" + "\n".join(part.decode() for part in parts if isinstance(part, bytes))
        )
        return "250 OK"


@contextmanager
def smtp() -> Iterator[tuple[int, Mails]]:
    mails = Mails()
    with held_port() as port:
        server = Controller(mails, hostname="127.0.0.1", port=port)
        server.start()
        try:
            yield port, mails
        finally:
            server.stop()


def mail(port: int) -> str:
    return f"mailto://127.0.0.1:{port}?from=node@a.example&to=it@a.example&mode=insecure"
