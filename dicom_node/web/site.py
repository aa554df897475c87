"""What all pages share: the configuration as it is now, the index, the spool, and the pseudonyms of the log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from dicom_node import log
from dicom_node.config import Config
from dicom_node.log import Pseudonym, say
from dicom_node.studies.index import Index
from dicom_node.studies.listing import count, last_change
from dicom_node.studies.spool import Spool
from dicom_node.web.pictures import Pictures
from dicom_node.web.sessions import Sessions

logger = logging.getLogger(__name__)

_KEPT: Final = 8
"""Connections to the index; more are opened for as long as more ask at the same time."""
_COUNTED_S: Final = 2.0
_LOOKED_S: Final = 0.8
MOST_STREAMS: Final = 50
"""Live pages at the same time; others work as without JavaScript."""


@dataclass(slots=True)
class Site:
    """What the pages are about.

    Attributes
    ----------
    config, config_file
        Of the node.
    index, spool
        Its studies.
    pseudonym
        What the log, and addresses of pages, call a study.
    sessions
        Who is signed in.
    hashing
        Held while a password is looked at, which takes memory.
    selecting
        Held while a study is selected anew, which takes the processor.
    pictures
        Of received series.
    stop
        Set when the pages end: whatever streams ends then.
    streams
        Places of live pages.
    """

    config: Config
    config_file: Path
    index: Index
    spool: Spool
    pseudonym: Pseudonym
    sessions: Sessions = field(default_factory=Sessions)
    hashing: threading.Lock = field(default_factory=threading.Lock)
    selecting: threading.Lock = field(default_factory=threading.Lock)
    pictures: Pictures = field(default_factory=Pictures)
    stop: threading.Event = field(default_factory=threading.Event)
    streams: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(MOST_STREAMS))
    _counting: threading.Lock = field(default_factory=threading.Lock)
    _counted: tuple[float, Mapping[str, int]] = (-_COUNTED_S, {})
    _changed: tuple[float, object] = (-_LOOKED_S, None)

    @classmethod
    def of(cls, config: Config, config_file: Path) -> Self:
        """Return the site of a node."""
        data_dir = config.node.data_dir
        index, pseudonym = Index.of(config, keeps=_KEPT), Pseudonym(log.read_key(data_dir))
        return cls(config, config_file, index, Spool(data_dir), pseudonym)

    def counts(self) -> Mapping[str, int]:
        """Return how many studies there are in each state, a moment ago: whoever looks meanwhile waits for one count.

        Raises
        ------
        IndexUnavailable
            If the index cannot be read.
        """
        with self._counting:
            if time.monotonic() - self._counted[0] >= _COUNTED_S:
                self._counted = (time.monotonic(), count(self.index))
            return self._counted[1]

    def last_change(self) -> object:
        """Return what is another value after each change of the list, a moment ago; all who wait share one look.

        Raises
        ------
        IndexUnavailable
            If the index cannot be read.
        """
        with self._counting:
            if time.monotonic() - self._changed[0] >= _LOOKED_S:
                self._changed = (time.monotonic(), last_change(self.index))
            return self._changed[1]

    def take(self, config: Config) -> None:
        """Show another configuration from now on."""
        self.config = config

    def say_listening(self) -> None:
        """Log where the pages are."""
        web = self.config.web
        say(logger, "pages listening", address=web.bind, port=web.port)
