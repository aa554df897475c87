"""What is done at a request that stores nothing: an answer, or the result of a storage commitment."""

from __future__ import annotations

import logging
from io import BytesIO
from pathlib import Path
from typing import Final

from pydicom.filereader import read_dataset

from dicom_node.log import say
from dicom_node.net.commitments import write_commitment
from dicom_node.net.contexts import AcceptedContext
from dicom_node.net.dimse import Status

logger = logging.getLogger(__name__)

LONGEST_REPORT_BYTES: Final = 2**24
"""Of a storage commitment result: some 100,000 instances."""


class AnswerOnly:
    """An operation that does nothing; a data set that comes with it is dropped.

    Parameters
    ----------
    status, comment
        Of the answer; None where there is none.
    """

    def __init__(self, status: Status | None, comment: str = "") -> None:
        self._answer = None if status is None else (status, comment)

    def write(self, piece: memoryview) -> None:
        """Drop a piece."""

    def perform(self) -> tuple[Status, str] | None:
        """Return the answer."""
        return self._answer

    def discard(self) -> None:
        """Nothing was taken."""


class CommitmentReport:
    """An N-EVENT-REPORT of the Storage Commitment Push Model.

    Parameters
    ----------
    data_dir
        Where results are kept.
    context
        In which it comes.
    """

    def __init__(self, data_dir: Path, context: AcceptedContext) -> None:
        self._data_dir = data_dir
        self._syntax = context.transfer_syntax
        self._information = bytearray()

    def write(self, piece: memoryview) -> None:
        """Take a piece, as far as a result may be long."""
        if len(self._information) <= LONGEST_REPORT_BYTES:
            self._information += piece

    def perform(self) -> tuple[Status, str]:
        """Keep the result, and return status and comment."""
        try:
            if len(self._information) > LONGEST_REPORT_BYTES:
                return Status.PROCESSING_FAILURE, "longer than any result"
            implicit, little = self._syntax.is_implicit_VR, self._syntax.is_little_endian
            write_commitment(self._data_dir, read_dataset(BytesIO(self._information), implicit, little))
        except Exception:
            say(logger, "storage commitment result not kept", level=logging.ERROR)
            return Status.PROCESSING_FAILURE, ""
        return Status.SUCCESS, ""

    def discard(self) -> None:
        """Forget what was taken."""
        self._information.clear()
