"""The audit trail to a collector: syslog over TLS (RFC 5425), from the files and in their order.

The files are the spool: a mark says how far they are sent, so that an unreachable collector delays nothing and loses
nothing that the trail still keeps. The transport acknowledges no message: what was on its way when a connection broke
is sent again from the last mark, so that a collector may see some messages twice.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from dicom_node.config import AuditSection, Config
from dicom_node.log import say
from dicom_node.watch.audit_trail import FOLDER, days
from dicom_node.watch.audit_xml import as_frame
from models.whole_files import make_folder, open_own, write_json

logger = logging.getLogger(__name__)

_MARK: Final = "sent.json"
_AT_ONCE: Final = 100
_LOOK_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_ANSWER_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the trail is sent: the file of a day, and the bytes of it."""

    day: str = ""
    offset_bytes: int = 0


class Forwarder:
    """Sends what is in the trail, and what comes to it, until it is stopped.

    Parameters
    ----------
    config
        Of the node, with a collector.
    """

    def __init__(self, config: Config) -> None:
        self._section = config.audit
        self._data_dir = config.node.data_dir
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-syslog", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        make_folder(self._data_dir / FOLDER)
        self._thread.start()

    def stop(self) -> None:
        """End; what is not sent is sent after the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_ANSWER_S)

    def _run(self) -> None:
        lock = open_own(self._data_dir / FOLDER / "sent.lock", os.O_RDWR)
        try:
            while not self._stop.is_set():
                with suppress(BlockingIOError):  # Another process sends.
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._send_until_stopped()
                self._stop.wait(_LOOK_S)
        finally:
            os.close(lock)

    def _send_until_stopped(self) -> None:
        pause_s = _LOOK_S
        while not self._stop.wait(pause_s):
            try:
                with connection(self._section) as collector:
                    while not self._stop.is_set():
                        pause_s = _LOOK_S
                        if not self._send_some(collector):
                            self._stop.wait(_LOOK_S)
            except (OSError, ValueError) as error:
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                facts = {"cause": type(error).__name__, "again_in_s": pause_s}
                say(logger, "audit collector not reached", level=logging.WARNING, **facts)

    def _send_some(self, collector: ssl.SSLSocket) -> int:
        """Send what is next of the trail, and mark it as sent."""
        _refuse_closed(collector)
        count, mark, host = 0, read_mark(self._data_dir), socket.gethostname()
        for line, behind in following(self._data_dir, mark):
            with suppress(ValueError, KeyError, TypeError):  # a line that a power failure cut off
                collector.sendall(as_frame(json.loads(line), host))
            count, mark = count + 1, behind
            if count == _AT_ONCE:
                break
        if count:
            write_json(self._data_dir / FOLDER / _MARK, asdict(mark))
        return count


@contextmanager
def forwarding(config: Config) -> Iterator[None]:
    """Send the audit trail to the configured collector, if there is one, for as long as the block runs."""
    if not config.audit.syslog_host:
        yield
        return
    forwarder = Forwarder(config)
    forwarder.start()
    try:
        yield
    finally:
        forwarder.stop()


def connection(section: AuditSection) -> ssl.SSLSocket:
    """Return a connection to the collector, whose certificate names it and is signed by the configured authority.

    Raises
    ------
    OSError
        If it is not reached, or is not the one.
    """
    context = ssl.create_default_context(cafile=section.syslog_ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if section.syslog_certificate:
        context.load_cert_chain(section.syslog_certificate)
    plain = socket.create_connection((section.syslog_host, section.syslog_port), timeout=_ANSWER_S)
    try:
        return context.wrap_socket(plain, server_hostname=section.syslog_host)
    except BaseException:
        plain.close()
        raise


def read_mark(data_dir: Path) -> Mark:
    """Return how far the trail of a data folder is sent."""
    try:
        return Mark(**json.loads((data_dir / FOLDER / _MARK).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return Mark()


def following(data_dir: Path, mark: Mark) -> Iterator[tuple[bytes, Mark]]:
    """Yield the whole lines of the trail behind a mark, each with the mark behind it."""
    for file in days(data_dir):
        if file.stem < mark.day:
            continue
        at = mark.offset_bytes if file.stem == mark.day else 0
        with suppress(FileNotFoundError), file.open("rb") as stream:
            stream.seek(at)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                at += len(line)
                yield line, Mark(file.stem, at)


def _refuse_closed(collector: ssl.SSLSocket) -> None:
    """Raise if the collector has closed the connection; it never says anything else."""
    collector.settimeout(0.0)
    try:
        if not collector.recv(1):
            raise ConnectionResetError("closed by the collector")
    except (ssl.SSLWantReadError, BlockingIOError):
        pass
    finally:
        collector.settimeout(_ANSWER_S)
