"""JSON lines on stderr that never hold a study UID or a patient attribute.

A line has ``time`` (UTC), ``level``, ``logger``, ``event`` (a short constant message) and facts. A study appears as a
keyed pseudonym only. Three guards hold whatever a caller does: UIDs are replaced in the finished line; of an exception
only the type and the frames are kept, and its message where we or the operating system wrote it; of libraries and
`warnings`, whose texts may quote element values, only warnings and errors are kept, and of these only the location.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import sys
import threading
import traceback
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from dicom_node.errors import ConfigError, NodeError
from models.visible_text import visible_json
from models.whole_files import make_folder, write_new

KEY_BYTES = 32
PSEUDONYM_KEY = "pseudonym.key"
# Dotted digits of a length only instance UIDs have; UIDs the standard registers say nothing about a patient.
_INSTANCE_UID = re.compile(r"(?<![\d.])(?!1\.2\.840\.10008\.)(?=[\d.]{21})[0-2]\.\d+\.[\d.]*\d")
_PSEUDONYM = re.compile(r"[0-9a-f]{12}")
_OURS = ("dicom_node", "pipeline", "models", "warnings")
_OWN_MESSAGES = (NodeError, OSError)


def is_pseudonym(text: str) -> bool:
    """Return whether a text may be a `Pseudonym` of something."""
    return _PSEUDONYM.fullmatch(text) is not None


class Pseudonym:
    """A keyed pseudonym of a UID: the first 12 hex digits of its HMAC-SHA-256.

    Parameters
    ----------
    key
        32 secret bytes; the same key gives the same pseudonyms.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, uid: str) -> str:
        """Return the pseudonym of `uid`."""
        return hmac.new(self._key, uid.encode(), hashlib.sha256).hexdigest()[:12]

    def guard(self, text: str) -> str:
        """Return `text` with every instance UID replaced by its pseudonym."""
        return _INSTANCE_UID.sub(lambda match: self(match.group()), text)


def read_key(data_dir: Path) -> bytes:
    """Return the pseudonym key in `data_dir`, made once with mode 0600 whoever comes first.

    Raises
    ------
    ConfigError
        If the file is not 32 bytes long (``pseudonym_key_invalid``).
    """
    path = data_dir / PSEUDONYM_KEY
    if not path.exists():
        make_folder(data_dir)
        write_new(path, secrets.token_bytes(KEY_BYTES))  # If another process was first, its key counts.
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{path} is not {KEY_BYTES} bytes: restore it, or delete it.", "pseudonym_key_invalid")
    return key


def configure(stream: TextIO | None = None, key: bytes | None = None, level: int = logging.INFO) -> Pseudonym:
    """Send all logging, warnings and uncaught thread errors to `stream` (stderr) as JSON lines.

    Parameters
    ----------
    stream
        Where the lines go; stderr by default.
    key
        Key of the pseudonyms, see `read_key`; without one they hold for this process only.
    level
        Lowest level of our own lines.

    Returns
    -------
    Pseudonym
        What the lines use, for metrics and pages.
    """
    pseudonym = Pseudonym(key or secrets.token_bytes(KEY_BYTES))
    output = logging.StreamHandler(stream or sys.stderr)
    output.setFormatter(_JsonLines(pseudonym))
    output.addFilter(_is_wanted)
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(level)
    _quieten()
    return pseudonym


def also_to(handler: logging.Handler) -> None:
    """Send the lines that go to stderr elsewhere too, as they are there.

    Parameters
    ----------
    handler
        Of the other place; `configure` was called before.
    """
    root = logging.getLogger()
    handler.setFormatter(root.handlers[0].formatter)
    root.addHandler(handler)


def say(logger: logging.Logger, event: str, /, *, level: int = logging.INFO, **facts: object) -> None:
    """Log the constant `event` with `facts`; a fact named ``study`` is a Study Instance UID and is pseudonymised."""
    failed = sys.exc_info()[0] is not None and level >= logging.ERROR
    logger.log(level, event, exc_info=failed, extra={"facts": facts})


class _JsonLines(logging.Formatter):
    """One guarded JSON object per record."""

    def __init__(self, pseudonym: Pseudonym) -> None:
        super().__init__()
        self._pseudonym = pseudonym

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _event(record),
        }
        facts = getattr(record, "facts", {}) if _is_ours(record) else {}
        line |= {key: value for key, value in facts.items() if key not in line}
        if "study" in facts:
            line["study"] = self._pseudonym(str(facts["study"]))
        if record.exc_info and record.exc_info[1]:
            line["error"] = _describe(record.exc_info[1])
        return self._pseudonym.guard(visible_json(line, default=str))


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.split(".")[0] in _OURS


def _is_wanted(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or _is_ours(record)


def _event(record: logging.LogRecord) -> str:
    if not _is_ours(record):
        return f"{record.name} {record.levelname.lower()} at {record.module}:{record.lineno}"
    if isinstance(record.msg, BaseException):
        return type(record.msg).__name__
    return record.getMessage()


def _describe(error: BaseException) -> dict[str, object]:
    """Return type, frames and, where it cannot quote a data set, message of `error` and of what caused it."""
    description: dict[str, object] = {"type": type(error).__name__}
    if isinstance(error, _OWN_MESSAGES):
        description["message"] = str(error)
    frames = traceback.extract_tb(error.__traceback__)
    description["frames"] = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        description["cause"] = _describe(cause)
    return description


def _quieten() -> None:
    """Hold the libraries at WARNING and bring their side channels into the log."""
    for name in ("pydicom", "pynetdicom", "highdicom"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)
    warnings.showwarning = _log_warning
    threading.excepthook = _log_thread_error


def _log_warning(  # The signature of warnings.showwarning.
    message: Warning | str,  # noqa: ARG001
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    facts = {"category": category.__name__, "location": f"{Path(filename).name}:{lineno}"}
    logging.getLogger("warnings").warning("warning", extra={"facts": facts})


def _log_thread_error(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is not None and not isinstance(failure.exc_value, SystemExit):
        logging.getLogger(__name__).error("thread failed", exc_info=failure.exc_value)
