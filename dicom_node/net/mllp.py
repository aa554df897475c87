"""A result at a receiver of HL7 v2: a message in a frame of MLLP, and the acknowledgement as proof.

A message that comes again, as after an acknowledgement that was lost, has the same control ID and the same order
number: it is no second result.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dicom_node.config import Hl7Receiver
from dicom_node.errors import DeliveryError, ObjectRefused, PeerAway
from pipeline.hl7_text import escaped

TIMEOUT_S: Final = 30.0
_BEGIN, _END = b"\x0b", b"\x1c\r"
_MAX_BYTES: Final = 2**16
_TAKEN: Final = frozenset({"AA", "CA"})
_ERROR: Final = frozenset({"AE", "CE"})
_REJECTED: Final = frozenset({"AR", "CR"})


def send(receiver: Hl7Receiver, file: Path) -> None:
    """Have a receiver take a message, and acknowledge it.

    Parameters
    ----------
    receiver
        As configured.
    file
        Of a message in UTF-8.

    Raises
    ------
    PeerAway
        If there is no connection, or no answer.
    ObjectRefused
        If the receiver finds an error in the message.
    DeliveryError
        If it does not take it now, or its answer cannot be read.
    """
    message = _addressed(file.read_bytes().decode(), receiver)
    answer = _call(receiver, _BEGIN + message.encode() + _END)
    code, control = _acknowledgement(answer)
    if control != message.split("|", 10)[9] or code not in _TAKEN | _ERROR | _REJECTED:
        raise DeliveryError(f'The answer of "{receiver.name}" is no acknowledgement: look at its log.', "ack_garbled")
    if code in _ERROR:
        raise ObjectRefused(f'"{receiver.name}" finds an error in the message ({code}): see its log.', "ack_error")
    if code in _REJECTED:
        raise DeliveryError(f'"{receiver.name}" does not take the message ({code}): see its log.', "ack_rejected")


def _addressed(message: str, receiver: Hl7Receiver) -> str:
    """Return a message with the names of its receiver, the only ones that a stored one lacks."""
    fields = message.split("|", 6)
    fields[4:6] = [escaped(receiver.application), escaped(receiver.facility)]
    return "|".join(fields)


def _acknowledgement(answer: bytes) -> tuple[str, str]:
    """Return code and control ID of the message that an answer is about; empty where it does not say so."""
    for segment in answer.decode("utf-8", "replace").replace("\n", "\r").split("\r"):
        if segment.startswith("MSA"):
            fields = [*segment.strip().split(segment[3:4] or "|"), "", ""]
            return fields[1], fields[2]
    return "", ""


def _call(receiver: Hl7Receiver, frame: bytes) -> bytes:
    try:
        with _connected(receiver) as connection:
            connection.sendall(frame)
            return _read(connection)
    except OSError as error:
        raise PeerAway(
            f'"{receiver.name}" cannot be reached, or does not answer ({type(error).__name__}): look at its host, port '
            "and certificate, and at the network.",
            "mllp_unreachable",
        ) from None


@contextmanager
def _connected(receiver: Hl7Receiver) -> Iterator[socket.socket]:
    with socket.create_connection((receiver.host, receiver.port), TIMEOUT_S) as plain:
        if not receiver.tls:
            yield plain
            return
        context = ssl.create_default_context(cafile=receiver.ca_file)
        with context.wrap_socket(plain, server_hostname=receiver.host) as secure:
            yield secure


def _read(connection: socket.socket) -> bytes:
    """Return what comes until a frame ends, the connection does, or it becomes too much or takes too long."""
    content, until_s = bytearray(), time.monotonic() + TIMEOUT_S
    while _END not in content and len(content) < _MAX_BYTES:
        if time.monotonic() > until_s:
            raise TimeoutError
        chunk = connection.recv(_MAX_BYTES)
        if not chunk:
            break
        content += chunk
    return bytes(content).partition(_END)[0].removeprefix(_BEGIN)
