"""The sample package of an IHE AIR Evidence Creator, before the judges that are installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from pipeline.report import codes
from tests.support.reports import check_object, check_report, named, pointed_at, template_complaints
from tests.support.services import command

# In the standard since the parametric maps themselves, not in the tool's list of terms.
QUANTITY = re.compile(r"(ImageType|FrameType).*Unrecognized defined term = <QUANTITY>")


def evidence_of(report: Dataset) -> set[str]:
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    return {
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def test_the_sample_is_whole_and_no_judge_finds_an_error(tmp_path: Path):
    out = tmp_path / "sent"
    said = command("air-sample", str(out))
    assert "README.txt" in said
    told = (out / "README.txt").read_text()
    files = {path.name for path in out.iterdir() if path.is_file()} - {"README.txt"}
    assert {"report.dcm", "summary.dcm", "key.dcm", "document.dcm", "saliency.dcm", "summary.png"} <= files
    assert all(f"{name}: " in told for name in files)
    assert "SYNTHETIC" in told

    report = dcmread(out / "report.dcm")
    images = [dcmread(path, stop_before_pixels=True) for path in sorted((out / "images").rglob("*.dcm"))]
    used = [image.SOPInstanceUID for image in images if "localizer" not in image.SeriesDescription.casefold()]
    assert evidence_of(report) == set(used)
    assert {image.StudyInstanceUID for image in images} == {report.StudyInstanceUID}
    assert report.ConceptNameCodeSequence[0].CodeValue == "126000"
    # The primitives of section 4.3: numbers, codes, tracking identifiers.
    assert len(named(report, codes.MEASUREMENT_GROUP)) == len(named(report, codes.TRACKING_UID)) == 4
    assert named(report, codes.OUTPUT_CATEGORY)
    page = dcmread(out / "summary.dcm")
    assert pointed_at(dcmread(out / "key.dcm")) == [report.SOPInstanceUID, page.SOPInstanceUID]
    with Image.open(out / "summary.png") as screenshot:
        assert screenshot.size == (page.Columns, page.Rows)

    for name in sorted(files):
        if name.endswith(".dcm"):
            check_object(out / name, QUANTITY)
    check_report(out / "report.dcm")
    assert template_complaints(out / "report.dcm") == []

    again = [sys.executable, "-P", "-m", "dicom_node", "air-sample", str(out)]
    refused = subprocess.run(again, capture_output=True, text=True, check=False, timeout=120)
    assert refused.returncode == 2
    assert refused.stderr.startswith("command_invalid: ")
    assert len(refused.stderr.splitlines()) == 1
