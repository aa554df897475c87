"""What a DICOM unique identifier is (PS3.5 9.1), as senders write it."""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 64
# Components may have leading zeros, which the standard forbids and scanners write; "." and ".." never pass.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def is_uid(text: str) -> bool:
    """Return whether a text is a UID, and therefore safe as a file name.

    Parameters
    ----------
    text
        As a sender wrote it; nothing is stripped.
    """
    return len(text) <= LONGEST and _UID.fullmatch(text) is not None
