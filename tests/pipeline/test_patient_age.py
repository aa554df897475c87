"""An age is read where it is credible, and nowhere else; illegal values are common."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from pipeline.patient_age import read_age_years
from tests.support.services import real_data


def written(folder: Path, age: str | None, birth: str | None, study: str | None) -> Path:
    """Write a header with values as they are, legal or not."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, MRImageStorage
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    header = FileDataset(str(folder / "a.dcm"), Dataset(), file_meta=meta, preamble=b"\0" * 128)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in (("StudyDate", study), ("PatientBirthDate", birth), ("PatientAge", age)):
            if value is not None:
                setattr(header, keyword, value)
        header.save_as(folder / "a.dcm", enforce_file_format=True)
    return folder / "a.dcm"


@pytest.mark.parametrize(
    ("age", "birth", "study", "years"),
    [
        ("034Y", None, None, 34),
        ("006M", None, None, 0.5),
        ("003W", None, None, 0.06),
        ("001D", "", "", 0.003),
        (None, "20200101", "20250101", 5),
        ("004Y", "20200601", "20250101", 4.6),
        ("000Y", "20240101", "20250101", 1),
        ("***", "20200101", "20250101", 5),
        ("000Y", None, None, None),
        ("122Y", None, None, None),
        ("***", None, None, None),
        ("34Y", None, None, None),
        ("034Y", "19000101", "20250101", 34),
        ("034Y", "20200101", "20250101", None),
        (None, "20250101", "20200101", None),
        (None, "20259999", "20260101", None),
        (None, "***", "20250101", None),
        (None, None, None, None),
    ],
)
def test_age(tmp_path: Path, age, birth, study, years):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_age_years(written(tmp_path, age, birth, study))
    assert found == (None if years is None else pytest.approx(years, abs=0.02))


def test_a_file_that_is_no_dicom_has_no_age(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"not dicom")
    assert read_age_years(tmp_path / "x") is None
    assert read_age_years(tmp_path / "none") is None


@pytest.mark.parametrize("folder", ["uih-dti", "ge-localizer"])
def test_illegal_ages_of_real_files_count_as_absent(folder: str):
    path = next(iter(sorted(real_data(folder).glob("*"))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stated = str(dcmread(path, stop_before_pixels=True).get("PatientAge"))
    assert stated in ("***", "000Y")
    assert read_age_years(path) is None
