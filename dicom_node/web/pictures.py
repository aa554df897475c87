"""Pictures of received series, made in a process of its own with bounds: a stranger's file harms no page.

``python -P -m dicom_node.web.pictures FOLDER`` writes the middle plane of each series in a folder, as JSON.
"""

from __future__ import annotations

import base64
import io
import json
import resource
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from dicom_node.errors import NodeError
from dicom_node.studies.spool import Study

_MEMORY_BYTES: Final = 3 * 2**30
_CPU_S: Final = 60
_LONGEST_S: Final = 60.0
_SIDE: Final = 160
_MOST_SERIES: Final = 60
_MOST_KEPT: Final = 20


class NoPicture(NodeError):
    """A series cannot be shown."""

    code = "picture_unavailable"


class Pictures:
    """Makes the pictures of one study at a time, and keeps those of the last ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], Mapping[str, bytes]] = OrderedDict()

    def of(self, study: Study, series_uid: str) -> bytes:
        """Return the middle plane of a series as PNG.

        Raises
        ------
        NoPicture
            If it cannot be read within the bounds.
        """
        known = (study.uid, len(study.instances()))
        with self._lock:
            made = self._kept[known] = self._kept[known] if known in self._kept else _made(study.folder)
            self._kept.move_to_end(known)
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        if series_uid not in made:
            raise NoPicture("This series cannot be shown: its images are gone, or their pixels cannot be read.")
        return made[series_uid]


def _made(folder: Path) -> Mapping[str, bytes]:
    command = [sys.executable, "-P", "-m", __name__, str(folder / "instances")]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_LONGEST_S, check=True)
        return {uid: base64.b64decode(picture) for uid, picture in json.loads(done.stdout).items()}
    except (subprocess.SubprocessError, OSError, ValueError):
        return {}


def _bound() -> None:
    """Let this process neither take the machine nor write anything."""
    for what, most in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def _series(folder: Path) -> dict[str, list[tuple[float, Path]]]:
    from pydicom import dcmread  # noqa: PLC0415 - within the bounds

    found: dict[str, list[tuple[float, Path]]] = {}
    for path in sorted(folder.glob("*.dcm")):
        with suppress(Exception):  # whatever a stranger's file makes pydicom stumble over
            header = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "InstanceNumber"])
            place = float(header.get("InstanceNumber") or 0)
            found.setdefault(str(header.SeriesInstanceUID), []).append((place, path))
    return found


def _drawn(path: Path) -> bytes:
    import numpy as np  # noqa: PLC0415 - within the bounds
    from PIL import Image  # noqa: PLC0415

    from pipeline.dicom_file import open_dataset  # noqa: PLC0415
    from pipeline.pixels import decode  # noqa: PLC0415

    dataset, _ = open_dataset(path, pixels=True)
    frames = int(dataset.get("NumberOfFrames") or 1)
    plane: Any = next(iter(decode(dataset, [frames // 2]))).astype(np.float32)
    low, high = np.percentile(plane, (1, 99.5))
    grey = np.clip((plane - low) / max(float(high - low), 1e-6), 0, 1) * 255
    picture = Image.fromarray(grey.astype(np.uint8))
    picture.thumbnail((_SIDE, _SIDE))
    written = io.BytesIO()
    picture.save(written, "PNG")
    return written.getvalue()


def main() -> None:
    """Write the pictures of the series in a folder."""
    _bound()
    pictures = {}
    for uid, files in list(_series(Path(sys.argv[1])).items())[:_MOST_SERIES]:
        with suppress(Exception):  # as above
            pictures[uid] = base64.b64encode(_drawn(sorted(files)[len(files) // 2][1])).decode()
    sys.stdout.write(json.dumps(pictures))


if __name__ == "__main__":
    main()
