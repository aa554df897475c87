"""Bundles of the tests: those that ship, changed."""

from __future__ import annotations

import json
from pathlib import Path

from models.bundle import METADATA, write_checksums


def change_metadata(bundle: Path, **facts: object) -> None:
    """Change the metadata of a bundle, None takes a key away, and make its checksums right again."""
    file = bundle / METADATA
    metadata = json.loads(file.read_text("utf-8")) | facts
    file.write_text(json.dumps({key: value for key, value in metadata.items() if value is not None}))
    write_checksums(bundle)
