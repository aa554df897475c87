"""A receiver of HL7 v2 under our control: it parses what it takes, and answers as a test wants."""

from __future__ import annotations

import socketserver
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from hl7apy.core import Message
from hl7apy.parser import parse_message

from tests.support.services import serving

BEGIN, END = b"\x0b", b"\x1c\r"


class Answer(StrEnum):
    """How it answers."""

    TAKEN = "AA"
    ERROR = "AE"
    REJECTED = "AR"
    LOST = "lost"
    """It takes the message, and ends the connection without a word."""
    GARBLED = "garbled"
    """It takes the message, and answers with bytes."""
    OF_ANOTHER = "of another"
    """It takes the message, and acknowledges another one."""


@dataclass
class Inbox:
    """What a receiver does now, and what it got.

    Attributes
    ----------
    answer
        How it answers.
    came
        Control IDs of all that came.
    messages
        What it took, by control ID.
    """

    answer: Answer = Answer.TAKEN
    came: list[str] = field(default_factory=list)
    messages: dict[str, Message] = field(default_factory=dict)

    def take(self, frame: bytes) -> bytes:
        """Return the answer to a message."""
        message = parse_message(frame.decode("utf-8"), find_groups=True)
        control = message.msh.msh_10.value
        self.came.append(control)
        if self.answer not in (Answer.ERROR, Answer.REJECTED):
            self.messages[control] = message
        if self.answer is Answer.LOST:
            return b""
        if self.answer is Answer.GARBLED:
            return BEGIN + b"\xff\x00MSA" + END
        code = "AA" if self.answer is Answer.OF_ANOTHER else self.answer
        about = "1" if self.answer is Answer.OF_ANOTHER else control
        head = "MSH|^~\\&|RIS||DICOM-NODE||20240304||ACK^R01|7|P|2.3"
        return BEGIN + f"{head}\rMSA|{code}|{about}\r".encode() + END


class _Handler(socketserver.BaseRequestHandler):
    inbox: Inbox

    def handle(self) -> None:
        content = b""
        while END not in content:
            chunk = self.request.recv(65536)
            if not chunk:
                return
            content += chunk
        self.request.sendall(self.inbox.take(content.partition(END)[0].removeprefix(BEGIN)))


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def mllp_receiver(inbox: Inbox, port: int = 0, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Yield the port of a receiver on loopback, up for as long as the block lasts.

    Parameters
    ----------
    inbox
        What it does and got.
    port
        Of an earlier one; 0: a free one.
    context
        For TLS.
    """
    server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"inbox": inbox}))
    with serving(server, context) as taken:
        yield taken
