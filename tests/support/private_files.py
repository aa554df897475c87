"""Who may read what a program wrote."""

from __future__ import annotations

import stat
from pathlib import Path


def open_to_others(folder: Path) -> list[str]:
    """Return the files and folders in a folder, and itself, that are not their owner's alone, with their modes."""
    found = []
    for path in (folder, *folder.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode != (0o700 if path.is_dir() else 0o600) and not path.is_symlink():
            found.append(f"{path.relative_to(folder)} {mode:o}")
    return found
