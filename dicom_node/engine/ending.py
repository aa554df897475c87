"""How a process of the node ends: when it is asked to, at once when it is asked twice, and with its supervisor."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

SUPERVISOR = "DICOM_NODE_SUPERVISOR"
"""Environment variable in which a supervisor hands its process id to those that it starts."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# linux/prctl.h
_PR_SET_PDEATHSIG = 1


def end_at_once(number: int) -> NoReturn:
    """End the process with the exit status of a signal; threads and open work are left as a crash leaves them."""
    os._exit(128 + number)


def end_now() -> NoReturn:
    """End the process with success, and wait for no thread of it."""
    logging.shutdown()
    os._exit(0)


def end_with_supervisor() -> None:
    """Have the system end this process when the supervisor that started it ends, in whatever way that ends."""
    supervisor = os.environ.pop(SUPERVISOR, None)
    if supervisor is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # It may have ended before its death was to be told.
    if os.getppid() != int(supervisor):
        end_at_once(signal.SIGKILL)


def end_on_signals() -> None:
    """Let SIGTERM and SIGINT end the process at once: while it starts it has nothing to finish."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def until_signal(on_second: Callable[[int], None] = end_at_once) -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set.

    Parameters
    ----------
    on_second
        Called with the number of every further signal.
    """
    stop = threading.Event()

    def on_signal(number: int, _frame: object) -> None:
        if stop.is_set():
            on_second(number)
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
