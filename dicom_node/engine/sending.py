"""The part of a worker that delivers: it takes what is due from the outbox, some at a time for each destination."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dicom_node.config import Config
from dicom_node.engine.addressing import Addressing
from dicom_node.engine.delivery import Deliveries
from dicom_node.engine.outbox import HELD_S, Outbox
from dicom_node.engine.outbox_tables import Due
from dicom_node.engine.taking_over import taking_over
from dicom_node.errors import NodeError
from dicom_node.log import say
from dicom_node.studies.spool import Spool

logger = logging.getLogger(__name__)

DELIVERIES_AT_ONCE = 4
_FAILING_AT_ONCE = DELIVERIES_AT_ONCE // 2
"""What failed before may take long again: it never takes all places of a destination."""
_LOOK_S = 0.5
_TROUBLE_PAUSE_S = 5.0
_UNNOTED_PAUSE_S = 60.0
_HOLD_EVERY_S = HELD_S / 8
GRACE_S = 5.0
"""How long attempts under way are waited for at the end; what is cut off is safe to repeat."""


@contextmanager
def sending(config: Config, spool: Spool, holder: str, file: Path | None = None) -> Iterator[Addressing]:
    """Deliver what is due until the block ends; yield who takes what is to be delivered.

    Parameters
    ----------
    config
        Of the node.
    spool
        The received studies.
    holder
        Name of the worker: what it was about when it ended last is due at once.
    file
        Of the configuration, which takes effect when it becomes another one.
    """
    with Outbox(config.node.engine_url) as outbox:
        outbox.release(holder)
        addressing = Addressing(config, spool, outbox)
        loop = _Sending(Deliveries(config, spool, outbox), outbox, config, holder)

        def take(changed: Config) -> None:
            addressing.reconfigure(changed)
            loop.reconfigure(changed)

        threading.Thread(target=addressing.begin, name="take-over", daemon=True).start()
        loop.start()
        try:
            with taking_over(file, config, take):
                yield addressing
        finally:
            loop.stop()


class _Sending:
    """A thread that takes, and one for each attempt."""

    def __init__(self, deliveries: Deliveries, outbox: Outbox, config: Config, holder: str) -> None:
        self._deliveries = deliveries
        self._outbox = outbox
        self._peers = [peer.name for peer in config.receivers]
        self._holder = holder
        self._stopping = threading.Event()
        self._free = threading.Event()
        self._lock = threading.Lock()
        self._working: list[Due] = []
        self._hold_s = 0.0
        self._thread = threading.Thread(target=self._run, name="deliveries", daemon=True)

    def reconfigure(self, config: Config) -> None:
        self._deliveries.reconfigure(config)
        self._peers = [peer.name for peer in config.receivers]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._free.set()
        until_s = time.monotonic() + GRACE_S
        self._thread.join(GRACE_S)
        while self._working and time.monotonic() < until_s:
            time.sleep(0.05)

    def _run(self) -> None:
        trouble = False
        while not self._stopping.is_set():
            try:
                self._turn()
                trouble = False
            except Exception as error:
                # What was taken, and not heard of, is let go as soon as the database answers.
                self._hold_s = 0.0
                if not trouble:
                    say(logger, "deliveries wait", level=logging.ERROR, cause=type(error).__name__)
                trouble = True
            if trouble:
                self._stopping.wait(_TROUBLE_PAUSE_S)
            self._free.wait(_LOOK_S)
            self._free.clear()

    def _turn(self) -> None:
        self._hold()
        self._deliveries.take_results()
        for peer in self._peers:
            while len(running := self._under_way(peer)) < DELIVERIES_AT_ONCE and not self._stopping.is_set():
                failing = sum(due.failures > 0 for due in running)
                due = self._outbox.take(peer, self._holder, fresh=failing >= _FAILING_AT_ONCE)
                if due is None:
                    break
                with self._lock:
                    self._working.append(due)
                threading.Thread(target=self._attempt, args=(due,), name="delivery", daemon=True).start()

    def _attempt(self, due: Due) -> None:
        try:
            self._deliveries.attempt(due)
        except Exception as error:
            say(logger, "delivery not noted", level=logging.ERROR, study=due.item.study_uid, cause=type(error).__name__)
            # Where this is in vain too, the row comes free when nobody works on it.
            with suppress(NodeError):
                self._outbox.again(due, _UNNOTED_PAUSE_S)
        finally:
            with self._lock:
                self._working.remove(due)
            self._free.set()

    def _hold(self) -> None:
        """Keep other workers, for a while, from what attempts run for."""
        if time.monotonic() >= self._hold_s:
            self._outbox.hold(self._holder, self._under_way())
            self._hold_s = time.monotonic() + _HOLD_EVERY_S

    def _under_way(self, peer: str | None = None) -> list[Due]:
        with self._lock:
            return [due for due in self._working if peer in (None, due.item.peer)]
