"""A name that one process holds for as long as it lives: two of one name would do the same work twice."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dicom_node.errors import AlreadyRunningError, SpoolError
from dicom_node.studies.data_folder import unusable
from models.whole_files import make_folder, open_own

PATIENCE_S = 2.0
"""A process that was killed a moment ago still holds its name until the system has taken its memory back."""
_LOOK_S = 0.1


@contextmanager
def held_name(folder: Path, name: str, taken: AlreadyRunningError) -> Iterator[None]:
    """Hold a name for as long as the block runs; the system gives it back however the process ends.

    Parameters
    ----------
    folder
        Of the node's data; made if it is missing.
    name
        Of a worker or a receiver.
    taken
        Raised if another process holds the name.

    Raises
    ------
    SpoolError
        If the folder cannot be used (``spool_unusable``).
    """
    try:
        make_folder(folder)
        lock = open_own(folder / f"{name}.lock", os.O_WRONLY)
    except OSError as error:
        raise SpoolError(unusable(folder, error), "spool_unusable") from None
    with os.fdopen(lock, "w") as file:
        if not _locked(file):
            raise taken
        yield


def _locked(file: IO[str]) -> bool:
    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until_s:
                return False
            time.sleep(_LOOK_S)
        else:
            return True
