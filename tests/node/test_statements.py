"""Corrected and sent again: the order of receipt, what a human states, and that both survive and are repeated."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest

from dicom_node.config import Config, SelectionSection
from dicom_node.engine.worker import Worker
from dicom_node.errors import CommandError
from dicom_node.studies.copies import COPIES_FILE
from dicom_node.studies.inputs import pinned, present
from dicom_node.studies.spool import Outcome, Spool, Study
from dicom_node.studies.statements import (
    Statements,
    forget_statements,
    select_as_stated,
    state_identity,
    state_newest_copies,
    statements,
)
from dicom_node.studies.timeline import Event
from models.contrast import Contrast
from pipeline.select import BUILT_IN
from tests.support.studies import TRIPLET, receive_study

UID = "2.25.6201"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data")


@pytest.fixture
def study(spool: Spool, sent: Path) -> Study:
    return receive_study(spool, sent, UID, *TRIPLET)


def resend(spool: Spool, sent: Path, *numbers: int, **attributes: object) -> list[Outcome]:
    """Send series again, as the PACS has them now; all of them where none is named."""
    outcomes = []
    for path in sorted((sent / UID).rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        if numbers and dataset.SeriesNumber not in numbers:
            continue
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        changed = path.with_suffix(".changed")
        dataset.save_as(changed)
        outcomes.append(spool.store(UID, dataset.SOPInstanceUID, changed.read_bytes()).outcome)
        changed.unlink()
    return outcomes


def patient(study: Study) -> str:
    selection = select_as_stated(study, BUILT_IN)
    assert selection.held is None, selection.held
    assert selection.whose
    return str(pydicom.dcmread(selection.whose).PatientID)


@pytest.mark.parametrize("number", ["47", "X-0815", "zzz", "SEED-ID-4712", "1", "A B"])
def test_the_corrected_patient_wins_whatever_the_digests(study: Study, spool: Spool, sent: Path, number: str):
    assert set(resend(spool, sent, PatientID=number)) == {Outcome.CONFLICT}
    assert patient(study) == number


def test_back_and_forth_the_newest_counts_and_each_turn_is_read(study: Study, spool: Spool, sent: Path):
    digests = {study.digest()}
    inputs = {select_as_stated(study, BUILT_IN).digest}
    for turn, number in enumerate(("47", "SEED-ID-4711", "47", "SEED-ID-4711"), start=2):
        assert set(resend(spool, sent, PatientID=number)) == {Outcome.CONFLICT}
        assert set(resend(spool, sent, PatientID=number)) == {Outcome.SAME}
        assert patient(study) == number
        digests.add(study.digest())
        inputs.add(select_as_stated(study, BUILT_IN).digest)
        assert (len(digests), len(inputs)) == (turn, turn)


def test_the_order_survives_a_copy_of_the_data_folder_without_times(
    study: Study, spool: Spool, sent: Path, tmp_path: Path
):
    resend(spool, sent, PatientID="47")
    resend(spool, sent, PatientID="SEED-ID-4711")
    shutil.copytree(spool.data_dir, tmp_path / "restored", copy_function=shutil.copyfile)
    assert patient(Spool(tmp_path / "restored").study(UID)) == "SEED-ID-4711"


def test_without_the_record_nobody_guesses_and_sending_again_mends_it(study: Study, spool: Spool, sent: Path):
    resend(spool, sent, PatientID="47")
    (study.folder / COPIES_FILE).unlink()
    held = select_as_stated(study, BUILT_IN).held
    assert held is not None
    assert held.code == "identity_conflict"
    resend(spool, sent, PatientID="47")
    assert patient(study) == "47"


def test_a_line_that_a_power_failure_cut_off_is_written_again(study: Study, spool: Spool, sent: Path):
    resend(spool, sent, PatientID="47")
    record = study.folder / COPIES_FILE
    record.write_bytes(record.read_bytes()[:-9])
    assert resend(spool, sent, PatientID="47").count(Outcome.CONFLICT) == 1
    assert patient(study) == "47"


def test_a_correction_under_way_is_held_and_taken_up_when_it_is_whole(study: Study, spool: Spool, sent: Path):
    hands = Worker(Config.offline(), spool, models=None)
    first = hands.select(UID)
    resend(spool, sent, 2, PatientID="47")
    held = select_as_stated(study, BUILT_IN).held
    assert held is not None
    assert held.code == "identity_conflict"
    under_way = hands.select(UID)
    resend(spool, sent, 3, 4, PatientID="47")
    whole = hands.select(UID)
    assert len({found["input_digest"] for found in (first, under_way, whole)}) == 3
    noted = [entry for entry in study.timeline() if entry.event is Event.CORRECTED]
    assert [(entry.input_digest, entry.facts["attributes"]) for entry in noted] == [
        (whole["input_digest"], ["PatientID"])
    ]
    assert "47" not in {part for entry in noted for part in str(entry.as_json()).split('"')}


def test_a_run_keeps_to_the_order_that_it_was_begun_with(study: Study, spool: Spool, sent: Path):
    hands = Worker(Config.offline(), spool, models=None)
    resend(spool, sent, PatientID="47")
    digest = hands.select(UID)["input_digest"]
    resend(spool, sent, PatientID="SEED-ID-4711")
    assert pinned(study, digest).select().digest == digest
    assert present(study, SelectionSection()).select().digest != digest


# --- what a human states ----------------------------------------------------------------------------------------------


def test_a_human_names_the_series_that_is_right(study: Study, spool: Spool, sent: Path):
    resend(spool, sent, 4, PatientID="47")
    selection = state_identity(study, "4", BUILT_IN)
    assert selection.held is None
    assert patient(study) == "47"
    entry = study.timeline().entries[-1]
    assert (entry.event, entry.facts) == ("stated", {"identity": "4"})
    hands = Worker(Config.offline(), spool, models=None)
    digest = hands.select(UID)["input_digest"]
    again = pinned(study, digest).select()
    assert again.roles[Contrast.T1W].evidence[-1].endswith("the patient of Series 4")

    # About another patient nothing was stated.
    resend(spool, sent, 3, PatientID="48")
    held = select_as_stated(study, BUILT_IN).held
    assert held is not None
    assert held.code == "identity_conflict"
    forget_statements(study)
    assert statements(study) == Statements()


@pytest.mark.parametrize(("series", "code"), [("9", "series_unknown"), ("4", "identity_undisputed")])
def test_a_statement_that_says_nothing_is_refused(study: Study, spool: Spool, sent: Path, series: str, code: str):
    if code == "series_unknown":
        resend(spool, sent, 4, PatientID="47")
    with pytest.raises(CommandError) as caught:
        state_identity(study, series, BUILT_IN)
    assert caught.value.code == code
    assert statements(study) == Statements()


def test_the_newest_copies_are_right_until_others_come(study: Study, spool: Spool, sent: Path):
    resend(spool, sent, 3, BodyPartExamined="HEAD")
    held = select_as_stated(study, BUILT_IN).held
    assert held is not None
    assert held.code == "conflicting_instances"
    assert state_newest_copies(study, BUILT_IN).held is None
    assert select_as_stated(study, BUILT_IN).held is None
    resend(spool, sent, 3, BodyPartExamined="SKULL")
    assert select_as_stated(study, BUILT_IN).held is not None


def test_other_pixels_are_not_settled_by_a_statement(study: Study, spool: Spool, sent: Path):
    resend(spool, sent, 3, PixelData=bytes(16 * 20 * 2))
    selection = state_newest_copies(study, BUILT_IN)
    assert selection.held is not None
    assert selection.held.code == "conflicting_instances"
    assert statements(study) == Statements()


def test_two_reasons_are_settled_one_after_the_other(study: Study, spool: Spool, sent: Path):
    resend(spool, sent, 3, BodyPartExamined="HEAD", PatientID="47")
    assert state_newest_copies(study, BUILT_IN).held is not None
    assert state_identity(study, "3", BUILT_IN).held is None
    assert patient(study) == "47"
