"""What goes on beside receiving: the index follows the spool. Nothing waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dicom_node.config import Config
from dicom_node.studies.index import Index, follow
from dicom_node.studies.spool import Spool

_END_S = 5.0


@contextmanager
def housekeeping(config: Config, spool: Spool) -> Iterator[None]:
    """Keep house for as long as the block lasts.

    Parameters
    ----------
    config
        Of the node.
    spool
        Of the process that receives.
    """
    stop, index = threading.Event(), Index.of(config)
    thread = threading.Thread(target=follow, args=(index, spool, stop), name="index", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_END_S)
        index.close()
