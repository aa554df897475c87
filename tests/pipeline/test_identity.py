"""Whose images they are: every selected instance is of one patient, or there is no score and no report."""

from __future__ import annotations

import shutil
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.sequence import Sequence as Items
from pydicom.uid import DeflatedExplicitVRLittleEndian, MRImageStorage, RLELossless

from models.contrast import Contrast
from pipeline.headers import Identity, Received, contradictions, identity_of
from pipeline.report import header_of_study
from pipeline.report.sources import read_sources
from pipeline.select import IdentityStatement, Selection, TwoPatients, select_study
from pipeline.synthetic import StudyTags, series_tags, write_series
from tests.support.dicom_files import edit, encode, item
from tests.support.services import SEEDED
from tests.support.studies import head

UID = "2.25.6101"
Files = dict[Contrast, list[Path]]


@pytest.fixture
def files(sent: Path) -> Files:
    tags = StudyTags(study_uid=UID, **SEEDED)
    series = {role: series_tags(role) for role in Contrast}
    return {role: list(write_series(head(one.number), sent, tags, one)) for role, one in series.items()}


def every(files: Files) -> list[Path]:
    return [path for paths in files.values() for path in paths]


def held(files: Files) -> str:
    selection = select_study(every(files))
    assert selection.held is not None
    return selection.held.code


# --- two patients -----------------------------------------------------------------------------------------------------

OTHERS = {
    "PatientID": ("SEED-ID-4712", "patient ID"),
    "PatientName": ("OTHER^PATIENT", "patient name"),
    "PatientBirthDate": ("19990103", "birth date"),
    "PatientSex": ("F", "sex"),
    "AccessionNumber": ("4712", "accession number"),
}


@pytest.mark.parametrize("keyword", OTHERS)
@pytest.mark.parametrize("role", Contrast)
def test_a_series_of_another_patient_holds_the_study(files: Files, keyword: str, role: Contrast):
    value, words = OTHERS[keyword]
    for path in every(files):
        edit(path, PatientSex="M", AccessionNumber="4711")
    for path in files[role]:
        edit(path, **{keyword: value})
    selection = select_study(every(files))
    assert selection.held is not None
    assert selection.held.code == "identity_conflict"
    assert selection.roles == {}
    number = series_tags(role).number
    assert f"Series {number}" in selection.held.sentence
    assert f"in {words}." in selection.held.sentence
    assert value not in selection.held.sentence
    assert not [seeded for seeded in SEEDED.values() if seeded in selection.held.sentence]


def test_not_only_the_first_instance_of_a_series_counts(files: Files):
    for at in (0, 11, -1):
        copied = {role: list(paths) for role, paths in files.items()}
        path = copied[Contrast.T2W][at]
        before = path.read_bytes()
        edit(path, PatientID="SEED-ID-4712")
        selection = select_study(every(copied))
        assert selection.held is not None
        assert selection.held.code == "identity_conflict"
        assert selection.held.sentence.startswith("The images of Series 3 differ among each other in patient ID.")
        path.write_bytes(before)


def test_another_issuer_of_the_same_number_is_another_patient(files: Files):
    for role, issuer in zip(Contrast, ("A", "A", "B"), strict=True):
        for path in files[role]:
            edit(path, IssuerOfPatientID=issuer)
    assert held(files) == "identity_conflict"


def test_another_universal_issuer_is_another_patient(files: Files):
    for role, issuer in zip(Contrast, ("1.2.3", "1.2.3", "1.2.4"), strict=True):
        for path in files[role]:
            qualifiers = Items([item(UniversalEntityID=issuer, UniversalEntityIDType="ISO")])
            edit(path, IssuerOfPatientIDQualifiersSequence=qualifiers)
    assert held(files) == "identity_conflict"


def test_two_patients_are_seen_before_a_missing_sequence(files: Files):
    for path in files[Contrast.T1W]:
        edit(path, PatientID="SEED-ID-4712")
    selection = select_study([*files[Contrast.T1W], *files[Contrast.T2W]])
    assert selection.held is not None
    assert (selection.held.code, selection.without) == ("identity_conflict", None)


def test_a_bystander_of_another_patient_holds_nothing(files: Files, sent: Path):
    other = StudyTags(study_uid=UID, **{**SEEDED, "patient_id": "SEED-ID-4712"})
    scout = write_series(head(9), sent, other, replace(series_tags(Contrast.T1W, number=9), description="localizer"))
    assert select_study([*every(files), *scout]).held is None
    assert header_of_study([*every(files), *scout], UID) is None


# --- no difference ----------------------------------------------------------------------------------------------------

LATIN, UTF8 = b"ISO_IR 100", b"ISO_IR 192"
SAME: dict[str, tuple[dict[str, bytes], dict[str, bytes]]] = {
    "padding": ({"PatientID": b"47"}, {"PatientID": b" 47 \0"}),
    "case": ({"PatientID": b"ab47", "PatientName": b"DOE^JANE"}, {"PatientID": b"AB47", "PatientName": b"Doe^Jane"}),
    "empty components": ({"PatientName": b"DOE^JANE"}, {"PatientName": b"DOE^JANE^^^"}),
    "empty groups": ({"PatientName": b"DOE^JANE"}, {"PatientName": b"DOE^JANE=="}),
    "a comma for a separator": ({"PatientName": b"DOE^JANE"}, {"PatientName": b"DOE, JANE"}),
    "a second script": (
        {"PatientName": b"WANG^WEI"},
        {"PatientName": "WANG^WEI=王^伟".encode(), "SpecificCharacterSet": UTF8},
    ),
    "absent": ({"PatientID": b"47", "PatientName": b"DOE"}, {"PatientID": b"47"}),
    "encodings": (
        {"PatientName": "Müller".encode("latin-1"), "SpecificCharacterSet": LATIN},
        {"PatientName": "Müller".encode(), "SpecificCharacterSet": UTF8},
    ),
    "labels": (
        {"PatientName": "王^伟".encode(), "SpecificCharacterSet": UTF8},
        {"PatientName": "王^伟".encode(), "SpecificCharacterSet": LATIN},
    ),
    "no label": (
        {"PatientName": "王^伟".encode("gb18030")},
        {"PatientName": "王^伟".encode(), "SpecificCharacterSet": UTF8},
    ),
    "escapes": (
        {"PatientName": b"Wang=\x1b$)A\xcd\xf5", "SpecificCharacterSet": b"\\ISO 2022 IR 58"},
        {"PatientName": "Wang=王".encode("gb18030"), "SpecificCharacterSet": b"GB18030"},
    ),
    "japanese": (
        {"PatientName": b"Yamada=\x1b$B;3ED\x1b(B", "SpecificCharacterSet": b"\\ISO 2022 IR 87"},
        {"PatientName": "Yamada=山田".encode(), "SpecificCharacterSet": UTF8},
    ),
    "full width": ({"PatientID": b"47"}, {"PatientID": "４７".encode(), "SpecificCharacterSet": UTF8}),
    "a date with dots": ({"PatientBirthDate": b"20100102"}, {"PatientBirthDate": b"2010.01.02"}),
    "no birth date": ({"PatientBirthDate": b"20100102"}, {"PatientBirthDate": b"00000000"}),
    "no sex": ({"PatientSex": b"F"}, {"PatientSex": b"U"}),
    "issuer in one": ({"PatientID": b"47", "IssuerOfPatientID": b"A"}, {"PatientID": b"47"}),
}
OTHER: dict[str, tuple[dict[str, bytes], dict[str, bytes]]] = {
    "a leading zero": ({"PatientID": b"47"}, {"PatientID": b"047"}),
    "half corrected": ({"PatientID": b"47", "PatientName": b"DOE"}, {"PatientID": b"47", "PatientName": b"ROE"}),
    "another number": ({"PatientID": b"47", "PatientName": b"DOE"}, {"PatientID": b"48", "PatientName": b"DOE"}),
    "another script": (
        {"PatientName": "Wang=王^伟".encode(), "SpecificCharacterSet": UTF8},
        {"PatientName": "Wang=王^芳".encode(), "SpecificCharacterSet": UTF8},
    ),
    "another birth date": ({"PatientBirthDate": b"20100102"}, {"PatientBirthDate": b"20100201"}),
    "another sex": ({"PatientSex": b"F"}, {"PatientSex": b"M"}),
    "another letter": (
        {"PatientName": "Müller".encode("latin-1"), "SpecificCharacterSet": LATIN},
        {"PatientName": "Möller".encode(), "SpecificCharacterSet": UTF8},
    ),
}


def stated(pair: tuple[dict[str, bytes], dict[str, bytes]]) -> list[Identity]:
    return [identity_of(raw) for raw in pair]


@pytest.mark.parametrize("what", SAME)
def test_what_is_no_difference(what: str):
    assert contradictions(stated(SAME[what])) == frozenset()


@pytest.mark.parametrize("what", OTHER)
def test_what_is_a_difference(what: str):
    assert len(contradictions(stated(OTHER[what]))) == 1


def test_what_one_leaves_open_hides_no_contradiction_of_others():
    pair = stated(OTHER["another number"])
    assert contradictions([pair[0], identity_of({}), pair[1]]) == {"patient ID"}


def test_both_readers_state_the_same_identity(files: Files):
    (path,) = files[Contrast.T1W][:1]
    edit(path, SpecificCharacterSet="ISO_IR 192", PatientName="王^伟", PatientID="ü47")
    before = select_study(every(files)).held
    for other in every(files):
        edit(other, SpecificCharacterSet="GB18030", PatientName="王^伟", PatientID="ü47")
    encode(path, pydicom.uid.DeflatedExplicitVRLittleEndian)
    assert before is not None
    assert select_study(every(files)).held is None


# --- what the report is copied from -----------------------------------------------------------------------------------


def copied(selection: Selection) -> Dataset:
    return read_sources(selection.roles, patient_file=selection.whose).header


def test_where_all_agree_the_first_instance_of_the_first_series_is_copied(files: Files):
    first = min(pydicom.dcmread(path).SOPInstanceUID for path in files[Contrast.T1W])
    assert copied(select_study(every(files))).SOPInstanceUID == first


def test_the_fullest_identity_is_copied(files: Files):
    for path in [*files[Contrast.T1W], *files[Contrast.FLAIR]]:
        edit(path, PatientID="", PatientBirthDate="")
    header = copied(select_study(every(files)))
    assert (header.PatientID, header.PatientBirthDate) == (SEEDED["patient_id"], SEEDED["birth_date"])
    assert header.SeriesNumber == series_tags(Contrast.T2W).number


def test_no_report_of_a_held_study_goes_to_one_of_two_patients(files: Files):
    paths = every(files)
    header = header_of_study(paths, UID)
    assert header is not None
    assert header.PatientID == SEEDED["patient_id"]
    edit(files[Contrast.FLAIR][3], PatientID="SEED-ID-4712")
    assert header_of_study(paths, UID) is None


def test_a_file_that_inflates_without_end_is_of_nobody(tmp_path: Path):
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = deflater.compress(b"\x09\x00\x01\x10OB\0\0\xf0\xff\xff\xff") + deflater.flush(zlib.Z_FULL_FLUSH)
    zeros = deflater.compress(bytes(2**20)) + deflater.flush(zlib.Z_FULL_FLUSH)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, MRImageStorage
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = tmp_path / "bomb.dcm"
    with path.open("wb") as file:
        file.write(bytes(128) + b"DICM")
        write_file_meta_info(file, meta)  # type: ignore[arg-type]
        file.write(start + zeros * 1200 + deflater.flush())
    tracemalloc.start()
    try:
        assert header_of_study([path], UID) is None
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


# --- what a human states ----------------------------------------------------------------------------------------------


def test_a_statement_settles_the_contradiction_that_was_seen(files: Files):
    for path in files[Contrast.FLAIR]:
        edit(path, PatientID="SEED-ID-4712")
    paths = every(files)
    seen = select_study(paths).held
    assert isinstance(seen, TwoPatients)
    series_uid = str(pydicom.dcmread(files[Contrast.FLAIR][0]).SeriesInstanceUID)
    selection = select_study(paths, statement=IdentityStatement(series_uid, seen.about))
    assert selection.held is None
    assert copied(selection).PatientID == "SEED-ID-4712"
    words = "a human stated that all series show the patient of Series 4"
    assert [series.evidence[-1] for series in selection.roles.values()] == [words] * 3

    # Nothing is stated about a third patient, who came later.
    edit(files[Contrast.T1W][0], PatientID="SEED-ID-4713")
    again = select_study(paths, statement=IdentityStatement(series_uid, seen.about)).held
    assert again is not None
    assert again.code == "identity_conflict"


# --- copies -----------------------------------------------------------------------------------------------------------


def resend(files: Files, folder: Path, **attributes: object) -> Files:
    """Return copies of the files with other attributes."""
    folder.mkdir()
    changed = {role: [Path(shutil.copy(path, folder)) for path in paths] for role, paths in files.items()}
    for path in every(changed):
        edit(path, **attributes)
    return changed


CORRECTIONS: dict[str, dict[str, object]] = {
    "PatientID": {"PatientID": "SEED-ID-4712"},
    "PatientName": {"PatientName": "OTHER^PATIENT"},
    "PatientBirthDate": {"PatientBirthDate": "20000101"},
    "PatientSex": {"PatientSex": "F"},
    "AccessionNumber": {"AccessionNumber": "ACC"},
    "StudyID": {"StudyID": "7"},
    "StudyDescription": {"StudyDescription": "other"},
    "ReferringPhysicianName": {"ReferringPhysicianName": "DOCTOR"},
    "PatientAge": {"PatientAge": "012Y"},
    "IssuerOfPatientID": {"IssuerOfPatientID": "A"},
    "RequestAttributesSequence": {"RequestAttributesSequence": Items([item(RequestedProcedureID="7")])},
}


@pytest.mark.parametrize("what", CORRECTIONS)
@pytest.mark.parametrize("newest", ["first", "second"])
def test_the_newest_identity_of_the_same_images_wins(files: Files, tmp_path: Path, what: str, newest: str):
    changed = resend(files, tmp_path / "changed", **CORRECTIONS[what])
    order = [*every(files), *every(changed)] if newest == "second" else [*every(changed), *every(files)]
    selection = select_study([*every(files), *every(changed)], received=Received(tuple(order)))
    assert selection.held is None
    right = changed if newest == "second" else files
    assert {path for series in selection.roles.values() for path in series.files} == set(every(right))
    assert what in selection.corrected
    assert selection.set_aside == set(every(files if newest == "second" else changed))


def test_without_an_order_a_difference_of_identity_is_held(files: Files, tmp_path: Path):
    changed = resend(files, tmp_path / "changed", PatientID="SEED-ID-4712")
    selection = select_study([*every(files), *every(changed)])
    assert selection.held is not None
    assert selection.held.code == "identity_conflict"
    assert "PatientID" in selection.held.sentence
    assert "nothing says which is newer" in selection.held.sentence


def test_a_correction_that_is_under_way_is_held_until_it_is_complete(files: Files, tmp_path: Path):
    changed = resend(files, tmp_path / "changed", PatientID="SEED-ID-4712")
    before, after = every(files), every(changed)
    for count in (1, 24, len(after) - 1):
        received = Received((*before, *after[:count]))
        selection = select_study([*before, *after[:count]], received=received)
        assert selection.held is not None
        assert selection.held.code == "identity_conflict"
    whole = select_study([*before, *after], received=Received((*before, *after)))
    assert whole.held is None
    assert copied(whole).PatientID == "SEED-ID-4712"


def test_back_to_the_first_identity_is_another_input(files: Files, tmp_path: Path):
    changed = resend(files, tmp_path / "changed", PatientID="SEED-ID-4712")
    a, b = every(files), every(changed)
    orders = ((*a, *b), (*a, *b, *a), (*a, *b, *a, *b))
    digests = [select_study(a).digest, *(select_study([*a, *b], received=Received(order)).digest for order in orders)]
    assert len(set(digests)) == 4
    back = select_study([*a, *b], received=Received((*a, *b, *a)))
    assert copied(back).PatientID == SEEDED["patient_id"]


def relabel(path: Path) -> None:
    edit(path, SpecificCharacterSet="ISO_IR 100")


def spell_the_date(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    content, date = path.read_bytes(), dataset.StudyDate.encode()
    spelt = date[:4] + b"." + date[4:6] + b"." + date[6:]
    at = content.index(b"\x08\x00\x20\x00DA") + 6
    path.write_bytes(content[:at] + b"\x0a\x00" + spelt + content[at + 2 + len(date) :])


MEANINGLESS: dict[str, Callable[[Path], object]] = {
    "label": relabel,
    "date": spell_the_date,
    "components": lambda path: edit(path, PatientName=f"{SEEDED['patient_name']}^^"),
    "time": lambda path: edit(path, StudyTime="120000.000"),
    "encoding": lambda path: encode(path, RLELossless),
    "private": lambda path: edit(path, InstanceCreationTime="010203"),
}


@pytest.mark.parametrize("what", MEANINGLESS)
@pytest.mark.parametrize("known", [True, False])
def test_differences_without_meaning_hold_and_change_nothing(files: Files, tmp_path: Path, what: str, known: bool):
    changed = resend(files, tmp_path / "changed")
    for path in every(changed):
        MEANINGLESS[what](path)
    before = select_study(every(files))
    paths = [*every(files), *every(changed)]
    after = select_study(paths, received=Received(tuple(paths) if known else ()))
    assert after.held is None
    assert after.corrected == frozenset()
    if known:
        assert after.digest == before.digest


@pytest.mark.parametrize("change", [{"BodyPartExamined": "HEAD"}, {"SeriesDescription": "t2_tse"}, {"EchoTime": 99.0}])
def test_differences_in_what_is_read_hold_until_a_human_states_the_newest(files: Files, tmp_path: Path, change: dict):
    changed = resend({Contrast.T2W: files[Contrast.T2W]}, tmp_path / "changed", **change)
    paths = [*every(files), *every(changed)]
    order = (*files[Contrast.T2W], *every(changed))
    seen = select_study(paths, received=Received(order)).held
    assert seen is not None
    assert seen.code == "conflicting_instances"
    assert next(iter(change)) in seen.sentence
    selection = select_study(paths, received=Received(order, frozenset(every(changed))))
    assert selection.held is None
    assert set(selection.roles[Contrast.T2W].files) == set(every(changed))
    assert selection.roles[Contrast.T2W].evidence[-1].startswith("a human stated that the newest copies")


@pytest.mark.parametrize("change", [{"PixelData": bytes(16 * 20 * 2)}, {"ImagePositionPatient": [0, 0, 77]}])
def test_no_statement_settles_which_of_two_images_is_right(files: Files, tmp_path: Path, change: dict):
    changed = resend({Contrast.T2W: files[Contrast.T2W][:1]}, tmp_path / "changed", **change, BodyPartExamined="HEAD")
    paths, order = [*every(files), *every(changed)], (files[Contrast.T2W][0], *every(changed))
    selection = select_study(paths, received=Received(order, frozenset(every(changed))))
    assert selection.held is not None
    assert selection.held.code == "conflicting_instances"
