"""Answers in the order of their requests; within a window of operations, the requests are worked on at the same time.

Several operations that wait for the disk at once share its transactions: that is what makes a window worth more than
the delay it hides.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future

from dicom_node.net.upper_layer_transfer import Closed

Operation = Callable[[], bytes | None]
"""Does what was asked and returns the PDU that answers; None where there is no answer. Never raises."""


class Answers:
    """The operations of one association.

    Parameters
    ----------
    send
        Sends a PDU.
    width
        How many operations may be open at once (PS3.7 D.3.3.3); one is done by whoever hands it over.
    pool
        Does those of a wider window.
    """

    def __init__(self, send: Callable[[bytes], None], width: int, pool: Executor) -> None:
        self._send = send
        self._width = width
        self._pool = pool
        self._places = threading.Semaphore(width)
        self._open: deque[Future[bytes | None]] = deque()
        self._changed = threading.Condition()
        self._broken = False

    def perform(self, operation: Operation) -> None:
        """Have an operation done and answered; waits while the window is full.

        Raises
        ------
        Closed
            If the connection is gone.
        """
        if self._width == 1:
            self._answer(operation())
            return
        self._places.acquire()
        with self._changed:
            self._open.append(future := self._pool.submit(operation))
        future.add_done_callback(self._done)
        if self._broken:
            raise Closed

    def drain(self) -> None:
        """Wait until everything that was begun is done, and answered as far as there is a connection."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open)

    def _done(self, _future: Future[bytes | None]) -> None:
        with self._changed:
            while self._open and self._open[0].done():
                try:
                    self._answer(self._open[0].result())
                except Closed:
                    self._broken = True
                self._open.popleft()
                self._places.release()
            self._changed.notify_all()

    def _answer(self, pdu: bytes | None) -> None:
        if pdu is not None and not self._broken:
            self._send(pdu)
