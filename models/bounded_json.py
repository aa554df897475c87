"""JSON that others wrote, read within bounds: of its size, of its depth, of its numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

MOST_BYTES: Final = 16 * 2**20
"""Of any JSON file that comes with a model or a cohort; the largest that were seen have a tenth of it."""


def read_json(file: Path, most_bytes: int = MOST_BYTES) -> Any:
    """Return the content of a JSON file.

    Parameters
    ----------
    file
        In UTF-8.
    most_bytes
        A larger file is not read.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is too large, nested too deeply, or not JSON.
    """
    with file.open("rb") as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"{file.name} has more than {most_bytes} bytes")
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError(f"{file.name} is nested too deeply") from None
