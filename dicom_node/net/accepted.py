"""An association that was accepted: its messages, its time-outs and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final, Protocol

from dicom_node.net.answers import Answers
from dicom_node.net.callers import Caller
from dicom_node.net.contexts import AcceptedContext, RefusedContext
from dicom_node.net.dimse import LONGEST_COMMAND_BYTES, Request, Status, read_command, response
from dicom_node.net.upper_layer import TABLE, Abort, AbortReason, Action, Incoming, State, data, release_response
from dicom_node.net.upper_layer_transfer import Fragment, TimedOut, Transfer, fragments
from dicom_node.studies.timeline import Ending

IDLE_TIMEOUT_S: Final = 1800.0
"""Modalities hold an association open between the series of an examination."""
MESSAGE_TIMEOUT_S: Final = 120.0
SLOWEST_BYTES_PER_S: Final = 10_000.0
"""What a message may take beyond `MESSAGE_TIMEOUT_S`: an analogue line is faster, and who drips is not waited for."""


class Operation(Protocol):
    """What a request asks for, while its data set comes."""

    def write(self, piece: memoryview) -> None:
        """Take a piece of the data set; does not raise."""

    def perform(self) -> tuple[Status, str] | None:
        """Do what was asked, once the data set is whole; return status and comment, None for no answer."""

    def discard(self) -> None:
        """Let go of what was taken."""


@dataclass(slots=True, eq=False)
class AcceptedAssociation:
    """An open association.

    Attributes
    ----------
    number
        Of its own in this process.
    caller
        Who opened it.
    contexts
        Accepted ones by number.
    refused
        Other ones that were proposed.
    """

    number: int
    caller: Caller
    contexts: Mapping[int, AcceptedContext]
    refused: tuple[RefusedContext, ...]
    noted: set[str] = field(default_factory=set)


Begin = Callable[[AcceptedAssociation, AcceptedContext, Request], Operation]


class Conversation:
    """The messages of an association, one behind the other.

    Parameters
    ----------
    association
        Just accepted.
    transfer
        Its connection.
    begin
        Returns the operation for a request.
    width
        Operations at once.
    pool
        Does those of a window wider than one.
    longest_bytes
        Of a message; behind it the association is aborted.
    """

    def __init__(
        self,
        association: AcceptedAssociation,
        transfer: Transfer,
        begin: Begin,
        *,
        width: int,
        pool: Executor,
        longest_bytes: int,
    ) -> None:
        self._association = association
        self._transfer = transfer
        self._begin = begin
        self._longest_bytes = longest_bytes
        self._answers = Answers(transfer.send, width, pool)
        self._command = bytearray()
        self._context = 0
        self._request: Request | None = None
        self._operation: Operation | None = None
        self._began_s = 0.0
        self._bytes = 0

    def run(self) -> Ending:
        """Serve requests until the peer ends the association, and return how it did.

        Raises
        ------
        Abort, TimedOut
            If the node has to end it.
        Closed
            If the connection is gone, or the node stops.
        """
        try:
            while True:
                incoming, content = self._transfer.next_pdu(self._wait_s())
                match TABLE[State.ESTABLISHED][incoming]:
                    case Action.TAKE_DATA:
                        for fragment in fragments(content):
                            self._take(fragment)
                    case Action.ANSWER_RELEASE:
                        self._release()
                        return Ending.RELEASED
                    case Action.NOTE_ABORT:
                        return Ending.ABORTED
                    case _:
                        raise _unexpected(incoming)
        finally:
            if self._operation:
                self._operation.discard()
            self._answers.drain()

    def _wait_s(self) -> float:
        """Return how long the next PDU is waited for."""
        if not self._command and not self._operation:
            return IDLE_TIMEOUT_S
        allowed_s = MESSAGE_TIMEOUT_S + self._bytes / SLOWEST_BYTES_PER_S
        left_s = self._began_s + allowed_s - time.monotonic()
        if left_s <= 0:
            raise TimedOut
        return min(MESSAGE_TIMEOUT_S, left_s)

    def _release(self) -> None:
        if self._command or self._operation:
            raise Abort(AbortReason.UNEXPECTED_PDU, "release was asked for within a message")
        self._answers.drain()
        self._transfer.send(release_response())

    def _take(self, fragment: Fragment) -> None:
        if fragment.context not in self._association.contexts:
            raise Abort(AbortReason.INVALID_PARAMETER, "a message came in a context that was not accepted")
        if self._operation or self._command:
            if fragment.context != self._context or fragment.is_command == bool(self._operation):
                raise Abort(AbortReason.UNEXPECTED_PARAMETER, "a message came within another one")
        elif not fragment.is_command:
            raise Abort(AbortReason.UNEXPECTED_PARAMETER, "a data set came without a command")
        else:
            self._context, self._began_s, self._bytes = fragment.context, time.monotonic(), 0
        self._bytes += len(fragment.content)
        if self._operation:
            self._take_data(self._operation, fragment)
        else:
            self._take_command(fragment)

    def _take_command(self, fragment: Fragment) -> None:
        self._command += fragment.content
        if len(self._command) > LONGEST_COMMAND_BYTES:
            raise Abort(AbortReason.INVALID_PARAMETER, "a command set has no end")
        if not fragment.is_last:
            return
        self._request = read_command(self._command)
        self._command.clear()
        self._operation = self._begin(self._association, self._association.contexts[self._context], self._request)
        if not self._request.has_data_set:
            self._finish()

    def _take_data(self, operation: Operation, fragment: Fragment) -> None:
        if self._bytes > self._longest_bytes:
            raise Abort(AbortReason.NOT_SPECIFIED, "a data set has no end")
        operation.write(fragment.content)
        if fragment.is_last:
            self._finish()

    def _finish(self) -> None:
        operation, request, context = self._operation, self._request, self._context
        self._operation = self._request = None
        assert operation is not None
        assert request is not None

        def answer() -> bytes | None:
            result = operation.perform()
            return None if result is None else data(context, response(request, *result))

        self._answers.perform(answer)


def _unexpected(incoming: Incoming) -> Abort:
    if incoming is Incoming.UNKNOWN:
        return Abort(AbortReason.UNRECOGNISED_PDU, "something came that is no PDU")
    return Abort(AbortReason.UNEXPECTED_PDU, "a PDU came that does not belong into an open association")
