"""The process that tells when something stops: it looks at the facts of the node, and nothing waits for it."""

from __future__ import annotations

import logging
import socket
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Final

from dicom_node.config import Config
from dicom_node.engine.ending import end_now, until_signal
from dicom_node.engine.held_name import held_name
from dicom_node.engine.survey import survey
from dicom_node.engine.taking_over import taking_over
from dicom_node.errors import AlreadyRunningError, NodeError
from dicom_node.log import say
from dicom_node.watch.alarm_rules import causes
from dicom_node.watch.alarm_sending import Lines, addresses
from dicom_node.watch.alarms import Alarms, Message, digest, read_alarms, write_alarms

logger = logging.getLogger(__name__)

LOOK_S: Final = 20.0


def watch(config: Config, file: Path | None = None) -> None:
    """Look after the node, and tell, until a signal.

    Parameters
    ----------
    config, file
        Of the node; peers of the file count as soon as it becomes another one.

    Raises
    ------
    AlreadyRunningError
        If another process does so for this data folder.
    ConfigError
        If an address cannot be used.
    """
    taken = AlreadyRunningError("The alarms of this data folder are running: stop them first.", "alarms_running")
    with held_name(config.node.data_dir, "alarms", taken):
        watcher = Watcher(config)
        with taking_over(file, config, watcher.take), until_signal() as stop:
            say(logger, "watching", addresses=watcher.count)
            while not stop.is_set():
                watcher.turn()
                stop.wait(LOOK_S)
        end_now()


def name_of(config: Config) -> str:
    """Return what the node is called in messages."""
    return f"{config.node.ae_title} on {socket.gethostname()}"


class Watcher:
    """Looks, keeps and sends; what an address took is noted by the thread that sent it.

    Parameters
    ----------
    config
        Of the node.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._addresses = addresses(config.alarms)
        self._lock = threading.Lock()
        self._lines = Lines(self._taken)
        self._alarms: Alarms = read_alarms(self._data_dir, time.time())
        self._trouble = False

    def take(self, config: Config) -> None:
        """Look after a changed node from now on; whom it tells stays."""
        self._config = config

    @property
    def count(self) -> int:
        """How many are told."""
        return len(self._addresses)

    @property
    def _data_dir(self) -> Path:
        return self._config.node.data_dir

    def turn(self) -> None:
        """Look once; what is wrong with looking is said once, and looked at again."""
        try:
            self._look()
            self._trouble = False
        except Exception as error:
            if not self._trouble:
                sentence = str(error) if isinstance(error, NodeError) else type(error).__name__
                say(logger, "alarms wait", level=logging.ERROR, sentence=sentence)
            self._trouble = True
        for address in self._addresses:
            if messages := self._alarms.waiting.get(digest(address)):
                self._lines.serve(address, messages[0])

    def _look(self) -> None:
        facts, section = survey(self._config), self._config.alarms
        with self._lock:
            self._alarms.look(causes(facts, section, self._alarms.began_s), facts.now_s)
            self._alarms.write(section, self._addresses, name_of(self._config), datetime.now().astimezone())
            write_alarms(self._data_dir, self._alarms)

    def _taken(self, name: str, message: Message) -> None:
        with self._lock:
            waiting = self._alarms.waiting.get(name, [])
            if message in waiting:
                waiting.remove(message)
            try:
                write_alarms(self._data_dir, self._alarms)
            except OSError as error:
                say(logger, "alarms wait", level=logging.ERROR, sentence=type(error).__name__)
