"""``dicom-node air-sample``: the sample package of an IHE AIR Evidence Creator, made from a synthetic study."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.uid import UID

from dicom_node.errors import CommandError
from models.whole_files import make_folder, write_whole
from pipeline.report import Title, render_tree
from pipeline.report.result_files import (
    DOCUMENT_FILE,
    KEY_FILES,
    OVERLAY_PICTURE,
    REPORT_FILES,
    SALIENCY_FILE,
    SALIENCY_FILES,
    SALIENCY_PICTURE,
    SUMMARY_FILE,
    SUMMARY_PICTURE,
)
from pipeline.result import Result
from pipeline.select import select_study
from pipeline.study import Models, run_study
from pipeline.synthetic import write_study

IMAGES: Final = "images"
_SEED: Final = 1
_TAKEN: Final = {
    REPORT_FILES[0]: "structured report: measurements, qualitative findings, tracking identifiers, image references",
    SUMMARY_FILE: "page of the result as an image",
    KEY_FILES[0]: "points to report and page",
    DOCUMENT_FILE: "the page as a document",
    SALIENCY_FILE: "page of what the scores depend on; no localisation",
    **{
        name: "parametric map of what a score depends on"
        for (name,) in SALIENCY_FILES.values()
        if name != SALIENCY_FILE
    },
    SUMMARY_PICTURE: "screenshot: the page as it is shown",
    OVERLAY_PICTURE: "screenshot: what was read, with the outline of the brain masks",
    SALIENCY_PICTURE: "screenshot: what the scores depend on",
}
"""Files of the package, in the order of its list; a run leaves some of them only where they can be made."""


def write_sample(out: Path, models: Models, title: Title, tell: Callable[[str], None]) -> Result:
    """Write a synthetic study with its results, as for a connectathon, and return the result.

    Parameters
    ----------
    out
        New or empty folder; gets the source images, the result objects, screenshots, the report as text and a list.
    models
        Loaded ones.
    title
        Document title of the report.
    tell
        Told what is going on.

    Raises
    ------
    CommandError
        If the folder is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise CommandError(f"{out} is not empty: name a new folder for the sample.")
    make_folder(out)
    tell("drawing a synthetic head with tubers as T1W, T2W and FLAIR")
    study = write_study(out / IMAGES, seed=_SEED, quick=True)
    files = [path for paths in study.files.values() for path in paths]
    with tempfile.TemporaryDirectory(prefix="dicom-node-air-") as temporary:
        run = Path(temporary)
        tell("reading the study")
        result = run_study(select_study(files), run, models, title=title, saliency=True)
        left = [name for name in _TAKEN if (run / name).exists()]
        for name in left:
            shutil.copyfile(run / name, out / name)
    if result.scored:
        write_whole(out / "report.txt", render_tree(dcmread(out / REPORT_FILES[0])).encode())
        write_whole(out / "README.txt", "\n".join(_list(out, left, result)).encode())
    return result


def _list(out: Path, names: Iterable[str], result: Result) -> Iterator[str]:
    yield f"Sample of an IHE AIR Evidence Creator: {result.software}, {result.model.name} {result.model.version}"
    yield f"{result.model.notice}. Synthetic images; nothing here comes from a patient."
    yield "The capabilities behind it stand in the conformance statement, section 4.3."
    yield ""
    yield f"Study {result.selection.study_uid}"
    for role, series in result.selection.roles.items():
        yield f"{IMAGES}/{role}: series {series.series_number}, {len(series.files)} images, source of the result"
    yield f"{IMAGES}, other folders: series of the study that were not used"
    for name in names:
        yield f"{name}: {_TAKEN[name]}{_identity(out / name)}"
    yield "report.txt: the structured report as text"


def _identity(path: Path) -> str:
    if path.suffix != ".dcm":
        return ""
    header = dcmread(path, stop_before_pixels=True)
    return f"; {UID(header.SOPClassUID).name} {header.SOPInstanceUID}"
