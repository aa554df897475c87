"""What all pages share: the configuration as it is now, the index, the spool, and the pseudonyms of the log."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from dicom_node import log
from dicom_node.config import Config
from dicom_node.log import Pseudonym, say
from dicom_node.studies.index import Index
from dicom_node.studies.spool import Spool
from dicom_node.web.pictures import Pictures
from dicom_node.web.sessions import Sessions

logger = logging.getLogger(__name__)


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

    @classmethod
    def of(cls, config: Config, config_file: Path) -> Self:
        """Return the site of a node."""
        data_dir = config.node.data_dir
        return cls(config, config_file, Index.of(config), Spool(data_dir), Pseudonym(log.read_key(data_dir)))

    def take(self, config: Config) -> None:
        """Show another configuration from now on."""
        self.config = config

    def say_listening(self) -> None:
        """Log where the pages are."""
        web = self.config.web
        say(logger, "pages listening", address=web.bind, port=web.port)
