"""The configuration file changed by the node: comments stay, nothing invalid is written, and there is a way back.

::

    <data_dir>/configurations/2026-11-29T08-15-00.123456.json      who, when, what, and the file before and after
"""

from __future__ import annotations

import difflib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import tomlkit
from tomlkit.exceptions import TOMLKitError

from dicom_node.config.file import parse
from dicom_node.config.sections import Config
from dicom_node.errors import ConfigError
from models.whole_files import make_folder, open_own, write_json, write_whole

FOLDER: Final = "configurations"
_NAME: Final = "%Y-%m-%dT%H-%M-%S.%f"


@dataclass(frozen=True, slots=True)
class Change:
    """What somebody changed.

    Attributes
    ----------
    when, who, what
        In ISO 8601; a user; in words.
    before, after
        The whole file.
    """

    when: str
    who: str
    what: str
    before: str
    after: str

    @property
    def diff(self) -> str:
        """What is another line now."""
        lines = (self.before.splitlines(), self.after.splitlines())
        return "\n".join(difflib.unified_diff(*lines, "before", "after", lineterm="", n=1))


def change(file: Path, data_dir: Path, who: str, what: str, edit: Callable[[Any], None]) -> Config:
    """Change the configuration file, and return the new configuration.

    Parameters
    ----------
    file, data_dir
        Of the node.
    who, what
        For the history.
    edit
        Changes a document of tomlkit, which keeps comments.

    Raises
    ------
    ConfigError
        If the file would be refused, or cannot be written (``config_not_written``).
    """
    with _alone(data_dir):
        before = _read(file)
        return _put(file, data_dir, Change(_now(), who, what, before, _edited(file, before, edit)))


def tried(file: Path, edit: Callable[[Any], None]) -> Config:
    """Return the configuration that a change would make; nothing is written.

    Raises
    ------
    ConfigError
        As `change`.
    """
    return _parsed(file, _edited(file, _read(file), edit))


def go_back(file: Path, data_dir: Path, who: str, name: str) -> Config:
    """Put the file back as it was before a change, which is a change again.

    Raises
    ------
    ConfigError
        As `change`; or if there is no such change (``change_unknown``).
    """
    with _alone(data_dir):
        told = changes(data_dir).get(name)
        if told is None:
            raise ConfigError("There is no such change of the configuration: look at the list.", "change_unknown")
        back = Change(_now(), who, f"back to before {told.when}", _read(file), told.before)
        return _put(file, data_dir, back)


def changes(data_dir: Path) -> Mapping[str, Change]:
    """Return what was changed by name, the last first."""
    found = {}
    for path in sorted((data_dir / FOLDER).glob("*.json"), reverse=True):
        with suppress(OSError, ValueError, TypeError):
            found[path.stem] = Change(**json.loads(path.read_text("utf-8")))
    return found


def put_peer(document: Any, name: str, values: Mapping[str, Any]) -> None:
    """Give a peer of a document new values; one that is not there is added. None takes a key away."""
    peers = document.setdefault("peers", tomlkit.aot())
    peer = next((each for each in peers if each.get("name") == name), None)
    if peer is None:
        peer = tomlkit.table()
        peers.append(peer)
        peer = peers[-1]
    for key, value in values.items():
        if value is None:
            peer.pop(key, None)
        elif peer.get(key) != value:
            peer[key] = value


def remove_peer(document: Any, name: str) -> None:
    """Take a peer out of a document."""
    peers = document.get("peers", [])
    for place in reversed([place for place, each in enumerate(peers) if each.get("name") == name]):
        del peers[place]


def put_section(document: Any, name: str, values: Mapping[str, Any]) -> None:
    """Give keys of a section new values; a section that is not there is added. None takes a key away."""
    section = document.setdefault(name, tomlkit.table())
    for key, value in values.items():
        if value is None:
            section.pop(key, None)
        elif section.get(key) != value:
            section[key] = value


def _put(file: Path, data_dir: Path, made: Change) -> Config:
    config = _parsed(file, made.after)
    if made.after == made.before:
        return config
    try:
        kept = data_dir / FOLDER
        make_folder(kept)
        write_json(kept / f"{datetime.now(UTC).strftime(_NAME)}.json", asdict(made))
        write_whole(file.resolve(), made.after.encode(), file.stat().st_mode & 0o777)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written ({error.strerror}): let the node's user write it and its folder, or edit it.",
            "config_not_written",
        ) from None
    return config


def _parsed(file: Path, text: str) -> Config:
    return parse(text, source="The changed configuration", folder=file.resolve().parent)


def _edited(file: Path, before: str, edit: Callable[[Any], None]) -> str:
    try:
        document = tomlkit.parse(before)
        edit(document)
        return tomlkit.dumps(document)
    except TOMLKitError as error:
        raise ConfigError(
            f"{file} cannot be changed ({type(error).__name__}): edit it by hand.", "config_not_written"
        ) from None


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read ({type(error).__name__}).", "config_unreadable") from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Let one process or thread at a time change the file."""
    make_folder(data_dir)
    descriptor = open_own(data_dir / f"{FOLDER}.lock", os.O_WRONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
