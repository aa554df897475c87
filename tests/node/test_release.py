"""A human's choice: what it is checked for, where it is kept, and that a refusal changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.config import Config, SelectionSection
from dicom_node.engine.worker import Worker
from dicom_node.errors import CommandError
from dicom_node.studies.choices import forget, read_choices, release
from dicom_node.studies.spool import Spool, Study
from models.contrast import Contrast
from pipeline.select import BUILT_IN
from pipeline.synthetic import series_tags
from tests.support.studies import SECOND_T2W, TRIPLET, receive_study, series_uid

UID = "2.25.6001"


@pytest.fixture
def study(tmp_path: Path, sent: Path) -> Study:
    return receive_study(Spool(tmp_path / "data"), sent, UID, *TRIPLET, SECOND_T2W)


def test_choices_are_read():
    assert read_choices(["FLAIR=1.2.3", "T2W=1.2.4"]) == {Contrast.FLAIR: "1.2.3", Contrast.T2W: "1.2.4"}


@pytest.mark.parametrize(
    "arguments", [["FLAIR"], ["flair=1.2"], ["T2W="], ["T2W=../x"], ["PD=1.2"], ["T2W=1.2", "T2W=1.3"]]
)
def test_what_is_no_choice_is_refused(arguments: list[str]):
    with pytest.raises(CommandError) as caught:
        read_choices(arguments)
    assert (caught.value.code, caught.value.exit_code) == ("role_invalid", 2)


def test_a_choice_is_kept_and_noted_without_uids(study: Study):
    selection = release(study, {Contrast.T2W: series_uid(UID, 5)}, BUILT_IN)
    assert selection.held is None
    assert selection.roles[Contrast.T2W].series_number == 5
    assert study.choices() == {Contrast.T2W: series_uid(UID, 5)}
    (entry,) = study.timeline()
    assert (entry.event, entry.facts["series_numbers"]) == ("released", {"T2W": 5})
    assert set(entry.as_json()) == {"time", "event", "series_numbers"}


def test_later_choices_are_added_or_start_anew(study: Study):
    t1w, t2w = series_uid(UID, 2), series_uid(UID, 5)
    release(study, {Contrast.T2W: t2w}, BUILT_IN)
    release(study, {Contrast.T1W: t1w}, BUILT_IN)
    assert study.choices() == {Contrast.T1W: t1w, Contrast.T2W: t2w}
    release(study, {Contrast.T2W: series_uid(UID, 3)}, BUILT_IN, anew=True)
    assert study.choices() == {Contrast.T2W: series_uid(UID, 3)}
    forget(study)
    assert study.choices() == {}
    assert study.timeline().entries[-1].facts["series_numbers"] == {}


@pytest.mark.parametrize(
    ("chosen", "code", "words"),
    [
        ({Contrast.T2W: "1.2.3"}, "choice_unusable", "not in the study"),
        ({Contrast.T2W: series_uid(UID, 2)}, "choice_unusable", "T1W and T2W"),
        ({Contrast.T1W: series_uid(UID, 2)}, "ambiguous_role", "T2W"),
    ],
)
def test_a_choice_that_does_not_complete_the_selection_changes_nothing(
    study: Study, chosen: dict[Contrast, str], code: str, words: str
):
    selection = release(study, chosen, BUILT_IN)
    assert selection.held.code == code
    assert words in selection.held.sentence
    assert study.choices() == {}
    assert study.timeline().events == []


def test_a_choice_outranks_the_rules_of_the_site(study: Study):
    never = SelectionSection(never=("t2_tse",)).rules()
    assert release(study, {Contrast.T2W: series_uid(UID, 3)}, never).held is None


def test_the_worker_holds_to_a_choice_when_other_series_come_late(study: Study, sent: Path):
    spool = Spool(study.folder.parents[1])
    hands = Worker(Config.offline(), spool, models=None)
    held = hands.select(UID)
    release(study, {Contrast.T2W: series_uid(UID, 5)}, BUILT_IN)
    released = hands.select(UID)
    receive_study(spool, sent, UID, series_tags(Contrast.T2W, number=6))
    assert hands.select(UID) == released != held
    forget(study)
    assert hands.select(UID) != released
