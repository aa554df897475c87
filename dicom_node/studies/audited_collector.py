"""A collector whose arrivals are audited: at the end of an association, what it brought of each study."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict

from dicom_node.studies.collect import Collector, End
from dicom_node.studies.spool import Outcome, Spool
from dicom_node.studies.timeline import Ending
from dicom_node.watch import audit

_REFUSED = "refused"


class AuditedCollector:
    """Hands arrivals on to a collector and counts them; calls come from many threads.

    Parameters
    ----------
    collector
        What is told of arrivals.
    spool
        Where the studies are.
    """

    def __init__(self, collector: Collector, spool: Spool) -> None:
        self._collector = collector
        self._spool = spool
        self._lock = threading.Lock()
        self._brought: defaultdict[int, defaultdict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))

    def stored(self, association: int, study_uid: str, outcome: Outcome) -> None:
        """Take note that an instance is in the spool."""
        self._count(association, study_uid, outcome.value)
        self._collector.stored(association, study_uid, outcome)

    def refused(self, association: int, study_uid: str | None) -> None:
        """Take note that an instance was not stored; None if its study cannot be read."""
        if study_uid:
            self._count(association, study_uid, _REFUSED)
        self._collector.refused(association, study_uid)

    def closed(self, association: int, end: End) -> None:
        """Take note that the association is over, and record what it brought."""
        self._collector.closed(association, end)
        with self._lock:
            brought = dict(self._brought.pop(association, defaultdict(Counter)))
        whole = end.ending is Ending.RELEASED
        for study_uid, instances in brought.items():
            folder = self._spool.folder(study_uid)
            audit.received(study_uid, folder, end.calling, end.address, instances, whole=whole)

    def _count(self, association: int, study_uid: str, what: str) -> None:
        with self._lock:
            self._brought[association][study_uid][what] += 1
