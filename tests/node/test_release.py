"""A human's choice: what it is checked for, where it is kept, and that a refusal changes nothing."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID as DicomUID  # noqa: N811 - UID is that of the study here

from dicom_node.cli.explained import shown
from dicom_node.config import Config, SelectionSection
from dicom_node.engine.worker import Worker
from dicom_node.errors import CommandError
from dicom_node.studies.choices import forget, read_choices, release
from dicom_node.studies.spool import Spool, Study
from models.contrast import Contrast
from pipeline.explain import explain
from pipeline.select import BUILT_IN, select_study
from pipeline.synthetic import derive_uid, series_tags
from tests.support.studies import SECOND_T2W, TRIPLET, receive_study, series_uid

UID = "2.25.6001"


@pytest.fixture
def study(tmp_path: Path, sent: Path) -> Study:
    return receive_study(Spool(tmp_path / "data"), sent, UID, *TRIPLET, SECOND_T2W)


def test_choices_are_read():
    assert read_choices(["FLAIR=1.2.3", "T2W=1.2.4"]) == {Contrast.FLAIR: "1.2.3", Contrast.T2W: "1.2.4"}
    assert read_choices(["T1W=2:echo1", "T2W=5"]) == {Contrast.T1W: "2:echo1", Contrast.T2W: "5"}
    assert read_choices(["T1W=1.2.3:W:te4.92"]) == {Contrast.T1W: "1.2.3:W:te4.92"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["FLAIR"],
        ["flair=1.2"],
        ["T2W="],
        ["T2W=../x"],
        ["PD=1.2"],
        ["T2W=1.2", "T2W=1.3"],
        ["T2W=2:"],
        ["T2W=2:a/b"],
        ["T2W=echo1"],
        ["T2W=-2"],
        ["T2W=2 3"],
    ],
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


def test_a_number_is_kept_as_the_uid_of_its_series(study: Study):
    assert release(study, {Contrast.T2W: "5"}, BUILT_IN).held is None
    assert study.choices() == {Contrast.T2W: series_uid(UID, 5)}


def another_echo(study: Study, number: int, echo: int, te_ms: float, **attributes: object) -> None:
    """Add to a series of a study what a second echo adds: the same places under other instances."""
    for path in study.instances():
        dataset = pydicom.dcmread(path)
        if dataset.SeriesNumber != number or dataset.EchoNumbers not in (None, 1):
            continue
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = DicomUID(
            derive_uid(dataset.SOPInstanceUID, f"{echo} {te_ms} {attributes}")
        )
        dataset.EchoNumbers, dataset.EchoTime = echo, te_ms
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        file = BytesIO()
        dataset.save_as(file)
        study.folder.joinpath("instances", f"{dataset.SOPInstanceUID}.dcm").write_bytes(file.getvalue())


def test_a_volume_of_a_series_is_chosen_and_kept(study: Study):
    another_echo(study, 2, 2, 4.0)
    table = explain(release(study, {Contrast.T2W: "5"}, BUILT_IN))
    assert table.reason == "ambiguous_role"
    assert table.sentence is not None
    volumes = [volume for row in table.series if row.series.series_number == 2 for volume in row.by_volume]
    assert len({volume.argument for volume in volumes}) == len(volumes) == 2
    assert all(f"Series {volume.argument}" in table.sentence for volume in volumes)
    assert all(volume.slices == 24 and volume.time == "12:00:00" for volume in volumes)
    for volume in volumes:
        chosen = {Contrast.T2W: "5", Contrast.T1W: volume.argument}
        selection = release(study, chosen, BUILT_IN)
        assert selection.held is None, selection.held
        assert selection.volumes[Contrast.T1W].te_ms == volume.te_ms
        kept = study.choices()
        assert kept[Contrast.T1W].startswith(f"{series_uid(UID, 2)}:")
        again = select_study(study.instances(), BUILT_IN, kept)
        assert again.digest == selection.digest
    refused = release(study, {Contrast.T2W: "5", Contrast.T1W: "2"}, BUILT_IN).held
    assert refused is not None
    assert refused.code == "choice_unusable"
    assert all(f"T1W={volume.argument}" in refused.sentence for volume in volumes)
    no_such = release(study, {Contrast.T2W: "5", Contrast.T1W: "2:echo9"}, BUILT_IN).held
    assert no_such is not None
    assert all(f"T1W={volume.argument}" in no_such.sentence for volume in volumes)
    # What comes later changes neither the name nor the choice.
    another_echo(study, 2, 3, 9.0)
    late = select_study(study.instances(), BUILT_IN, study.choices())
    assert late.held is None
    assert late.digest == selection.digest


def test_what_is_chosen_is_printed_with_what_tells_it_from_others(study: Study):
    another_echo(study, 2, 2, 4.0)
    lines = " ".join(shown(explain(select_study(study.instances())), (), 100)).split()
    text = " ".join(lines)
    for words in ("24 slices, 12:00:00, TR", "TE 4 ms", "--role ROLE=2:echo2", "--role ROLE=5", "--role ROLE=3"):
        assert words in text


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
