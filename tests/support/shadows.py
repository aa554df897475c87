"""A folder where somebody's own work has the names of our packages."""

from __future__ import annotations

from pathlib import Path

OURS = ("dicom_node", "pipeline", "models")


def write_shadows(folder: Path) -> Path:
    """Write packages that may not be imported, and return the folder that a program is started in."""
    for name in OURS:
        package = folder / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f'raise ImportError("{name} of the current folder was imported")\n')
    return folder
