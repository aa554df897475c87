"""A changed configuration file takes effect in a running process: peers, rules, what is sent, without a restart."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dicom_node.config import Config, load
from dicom_node.errors import ConfigError
from dicom_node.log import say
from dicom_node.watch import audit

logger = logging.getLogger(__name__)

TAKEN_OVER: Final = ("peers", "fhir_servers", "hl7_receivers", "routing", "selection", "report", "delivery")
"""Sections that take effect at once, as `receive.accept` does; the others need a restart."""
_LOOK_S: Final = 1.0
_END_S: Final = 2.0


@contextmanager
def taking_over(file: Path | None, config: Config, take: Callable[[Config], None] | None) -> Iterator[None]:
    """Hand over the configuration whenever its file becomes another one, for as long as the block lasts.

    Parameters
    ----------
    file
        Of the configuration.
    config
        As the process began with it.
    take
        Called with what holds from then on: what cannot be taken over is as it was. Without it, or without a file,
        nothing is looked at.
    """
    if file is None or take is None:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_look, args=(file, config, take, stop), name="configuration", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_END_S)


def _look(file: Path, config: Config, take: Callable[[Config], None], stop: threading.Event) -> None:
    seen = _stamp(file)
    while not stop.wait(_LOOK_S):
        stamp = _stamp(file)
        if stamp in (seen, None):
            continue
        seen = stamp
        try:
            changed = load(file)
        except ConfigError as error:
            say(logger, "configuration refused", level=logging.ERROR, code=error.code, sentence=str(error))
            continue
        config = _taken(config, changed)
        take(config)
        audit.configure(config)
        say(logger, "configuration taken over", restart_needed_for=_others(config, changed))


def _taken(config: Config, changed: Config) -> Config:
    receive = config.receive.model_copy(update={"accept": changed.receive.accept})
    return config.model_copy(update={"receive": receive} | {name: getattr(changed, name) for name in TAKEN_OVER})


def _others(config: Config, changed: Config) -> list[str]:
    return [name for name in Config.model_fields if getattr(config, name) != getattr(changed, name)]


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
