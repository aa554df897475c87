"""An association spoken byte by byte: faster than any library, and free to break the rules."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

MR = "1.2.840.10008.5.1.4.1.1.4"
VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
RELEASE_RQ, RELEASE_RP, ABORT = (bytes((kind, 0, 0, 0, 0, 4, 0, 0, 0, 0)) for kind in (5, 6, 7))
ACCEPTED, REJECTED, DATA, RELEASED, ABORTED = 2, 3, 4, 6, 7


def pdu(kind: int, content: bytes, length: int | None = None) -> bytes:
    """Return a PDU, which may lie about its length."""
    return struct.pack(">BxI", kind, len(content) if length is None else length) + content


def item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def context(number: int, abstract_syntax: str, *transfer_syntaxes: str) -> bytes:
    names = item(0x30, abstract_syntax.encode()) + b"".join(item(0x40, name.encode()) for name in transfer_syntaxes)
    return item(0x20, bytes((number, 0, 0, 0)) + names)


def request(
    calling: str = "PACS",
    called: str = "TSCNODE",
    contexts: Sequence[bytes] = (),
    *,
    window: int | None = None,
    more: bytes = b"",
) -> bytes:
    """Return an A-ASSOCIATE-RQ for MR images and for verification, unless other contexts are named."""
    contexts = contexts or (context(1, MR, EXPLICIT), context(3, VERIFICATION, "1.2.840.10008.1.2"))
    user = item(0x51, (16384).to_bytes(4, "big")) + item(0x52, b"1.2.3.4") + more
    if window is not None:
        user += item(0x53, struct.pack(">HH", window, 1))
    titles = called.encode().ljust(16) + calling.encode().ljust(16) + bytes(32)
    name = item(0x10, b"1.2.840.10008.3.1.1.1")
    return pdu(1, b"\0\1\0\0" + titles + name + b"".join(contexts) + item(0x50, user))


def command(*elements: tuple[int, int | str]) -> bytes:
    """Return a command set: numbers are US, texts are UIDs."""
    parts = []
    for number, value in elements:
        encoded = value.to_bytes(2, "little") if isinstance(value, int) else value.encode() + b"\0" * (len(value) % 2)
        parts.append(struct.pack("<HHI", 0, number, len(encoded)) + encoded)
    whole = b"".join(parts)
    return struct.pack("<HHI", 0, 0, 4) + len(whole).to_bytes(4, "little") + whole


def store_command(message: int, instance_uid: str, sop_class: str = MR) -> bytes:
    return command((0x2, sop_class), (0x100, 1), (0x110, message), (0x700, 0), (0x800, 1), (0x1000, instance_uid))


def echo_command(message: int = 1) -> bytes:
    return command((0x2, VERIFICATION), (0x100, 0x30), (0x110, message), (0x800, 0x101))


def pdv(number: int, control: int, content: bytes) -> bytes:
    """Return a presentation data value; control is 1 for a command and 2 for the last fragment."""
    return struct.pack(">IBB", len(content) + 2, number, control) + content


def message(number: int, command_set: bytes, data_set: bytes = b"", piece_bytes: int = 100_000) -> bytes:
    """Return the PDUs of a message, its data set in pieces."""
    parts = [pdu(4, pdv(number, 3, command_set))]
    for at in range(0, len(data_set), piece_bytes):
        last = 2 if at + piece_bytes >= len(data_set) else 0
        parts.append(pdu(4, pdv(number, last, data_set[at : at + piece_bytes])))
    return b"".join(parts)


def data_set(study_uid: str, instance_uid: str, pixels: bytes = bytes(512)) -> bytes:
    """Return a small data set in explicit VR little endian."""

    def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HH2sH", group, number, vr, len(value)) + value

    return (
        element(8, 0x16, b"UI", MR.encode())
        + element(8, 0x18, b"UI", instance_uid.encode())
        + element(0x20, 0xD, b"UI", study_uid.encode())
        + element(0x20, 0xE, b"UI", b"1.2.3")
        + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, len(pixels))
        + pixels
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    kind: int
    content: bytes

    @property
    def reason(self) -> int:
        """Of an abort, or of a rejection."""
        return self.content[3]

    def value(self, number: int) -> int:
        """Return a number of a command set."""
        at = 6
        while at < len(self.content):
            element, length = struct.unpack_from("<xxHI", self.content, at)
            if element == number:
                return int.from_bytes(self.content[at + 8 : at + 8 + length], "little")
            at += 8 + length
        raise KeyError(number)

    @property
    def status(self) -> int:
        return self.value(0x900)

    @property
    def responds_to(self) -> int:
        return self.value(0x120)


class RawAssociation:
    """A connection to a receiver."""

    def __init__(self, port: int, *, source: str = "127.0.0.1", timeout_s: float = 60) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s, source_address=(source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self.socket.makefile("rb")

    @classmethod
    def accepted(cls, port: int, *, source: str = "127.0.0.1", timeout_s: float = 60, **asked: object) -> Self:
        """Return an association that was accepted."""
        association = cls(port, source=source, timeout_s=timeout_s)
        association.send(request(**asked))  # type: ignore[arg-type]
        answer = association.read()
        assert answer is not None
        assert answer.kind == ACCEPTED, answer
        return association

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def read(self) -> Answer | None:
        """Return the next PDU, None at the end of the connection."""
        try:
            head = self._reader.read(6)
            if len(head) < 6:
                return None
            kind, length = struct.unpack(">BxI", head)
            return Answer(kind, self._reader.read(length))
        except ConnectionError:
            return None

    def echo(self) -> int:
        """Return the status of a C-ECHO."""
        self.send(message(3, echo_command()))
        answer = self.read()
        assert answer is not None
        return answer.status

    def store(self, number: int, study_uid: str, instance_uid: str, pixels: bytes = bytes(512)) -> int:
        """Return the status of a C-STORE."""
        self.send(message(1, store_command(number, instance_uid), data_set(study_uid, instance_uid, pixels)))
        answer = self.read()
        assert answer is not None
        return answer.status

    def release(self) -> None:
        self.send(RELEASE_RQ)
        answer = self.read()
        assert answer is not None
        assert answer.kind == RELEASED
        self.close()

    def close(self) -> None:
        self._reader.close()
        self.socket.close()
