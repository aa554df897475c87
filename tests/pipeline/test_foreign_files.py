"""A folder that holds something else than DICOM files is refused by what it holds, in one sentence."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from models.contrast import Contrast
from pipeline.headers import Foreign, read_headers
from pipeline.select import select_study
from pipeline.synthetic import StudyTags, derive_uid, series_tags, write_series
from tests.support.dicom_files import encode, files_in
from tests.support.services import SEEDED, real_data

STUDY = StudyTags(study_uid=derive_uid("test foreign files"), **SEEDED)


def write(folder: Path, role: Contrast) -> list[Path]:
    values = np.random.default_rng(1).integers(0, 900, (24, 6, 8)).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((9.0, 9.5, 5.0))
    return write_series(image, folder / role, STUDY, series_tags(role))


def zipped(file: Path) -> None:
    file.write_bytes(gzip.compress(file.read_bytes()))


def without_preamble(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[144 + int.from_bytes(content[140:144], "little") :])


def without_preamble_alone(file: Path) -> None:
    file.write_bytes(file.read_bytes()[132:])


def implicit_without_preamble(file: Path) -> None:
    without_preamble(encode(file, pydicom.uid.ImplicitVRLittleEndian))


def big_endian_without_preamble(file: Path) -> None:
    without_preamble(encode(file, pydicom.uid.ExplicitVRBigEndian))


def prefix_without_preamble(file: Path) -> None:
    file.write_bytes(file.read_bytes()[128:])


def zipped_data_set(file: Path) -> None:
    without_preamble(file)
    zipped(file)


def nifti(file: Path) -> None:
    sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkInt16), str(file) + ".nii")
    Path(str(file) + ".nii").rename(file)


def zipped_nifti(file: Path) -> None:
    nifti(file)
    zipped(file)


def tar(file: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(file, "a.dcm")
    file.write_bytes(buffer.getvalue())


def zipped_tar(file: Path) -> None:
    tar(file)
    zipped(file)


def zip_archive(file: Path) -> None:
    content = file.read_bytes()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.dcm", content)


def damaged_gzip(file: Path) -> None:
    file.write_bytes(gzip.compress(file.read_bytes())[:12])


def text(file: Path) -> None:
    file.write_text("nothing of an image " * 30)


def one_byte(file: Path) -> None:
    file.write_bytes(b"\x08")


KINDS: list[tuple[Callable[[Path], None], Foreign]] = [
    (zipped, Foreign.COMPRESSED_DICOM),
    (zipped_data_set, Foreign.COMPRESSED_DICOM),
    (without_preamble, Foreign.DATA_SET),
    (without_preamble_alone, Foreign.DATA_SET),
    (implicit_without_preamble, Foreign.DATA_SET),
    (big_endian_without_preamble, Foreign.DATA_SET),
    (prefix_without_preamble, Foreign.DATA_SET),
    (nifti, Foreign.NIFTI),
    (zipped_nifti, Foreign.NIFTI),
    (tar, Foreign.ARCHIVE),
    (zipped_tar, Foreign.ARCHIVE),
    (zip_archive, Foreign.ARCHIVE),
    (damaged_gzip, Foreign.ARCHIVE),
    (text, Foreign.OTHER),
    (one_byte, Foreign.OTHER),
]


@pytest.mark.parametrize(("change", "kind"), KINDS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_folder_is_refused_by_what_it_holds(sent, change, kind):
    files = [file for role in Contrast for file in write(sent, role)]
    for file in files:
        change(file)
    selection = select_study(files)
    assert {problem.foreign for problem in selection.problems} == {kind}
    assert {problem.code for problem in selection.problems} == {"file_not_dicom"}
    assert selection.held is not None
    assert selection.held.code == "no_dicom_files"
    assert f"{len(files)} {kind.many}. {kind.remedy}" in selection.held.sentence


def test_several_kinds_are_counted_one_by_one(sent):
    files = write(sent, Contrast.T1W)
    for file in files[:20]:
        zipped(file)
    nifti(files[20])
    text(files[21])
    files[22].write_bytes(b"")
    files[23].unlink()
    held = select_study(files[:23]).held
    assert held is not None
    assert held.sentence == (
        "There are no DICOM files here, but 20 DICOM files compressed by gzip and 1 NIfTI image and 1 file of another "
        "kind. Unpack them with gunzip. Export the study as DICOM: NIfTI holds neither patient nor sequence."
    )


def test_a_missing_series_that_lies_there_compressed_is_pointed_to(sent):
    files = {role: write(sent, role) for role in Contrast}
    assert select_study(files_in(sent)).held is None
    for file in files[Contrast.FLAIR]:
        zipped(file)
    selection = select_study(files_in(sent))
    assert selection.held is not None
    assert selection.held.code == "missing_role"
    assert "Beside the study lie 24 DICOM files compressed by gzip. Unpack" in selection.held.sentence
    assert selection.without is not None
    (sent / "note.txt").write_text("a note")
    assert "note" not in str(select_study(files_in(sent)).held)


def test_other_dicom_objects_are_dicom_files():
    selection = select_study(files_in(real_data("dicom2nifti", "generic-rgb-secondary-capture")))
    assert selection.held is not None
    assert selection.held.code == "missing_role"


def test_real_data_sets_without_preamble_are_known():
    names = ("ExplVR_BigEndNoMeta", "ExplVR_LitEndNoMeta")
    headers = read_headers(real_data("pydicom", "files", f"{name}.dcm") for name in names)
    assert [problem.foreign for problem in headers.problems] == [Foreign.DATA_SET] * 2


def test_real_nifti_is_known():
    problems = read_headers(path for path in files_in(real_data("open-ms")) if ".nii" in path.name).problems
    assert problems
    assert {problem.foreign for problem in problems} == {Foreign.NIFTI}
