"""Studies that are not for the node: which rule filters what, what is never filtered, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicom_node.config import Config, Missing, RoutingSection, load
from dicom_node.engine.housekeeping import expired_now
from dicom_node.engine.survey import survey
from dicom_node.studies.index import Index
from dicom_node.studies.retention import What
from dicom_node.studies.routing import judge, turned_away
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.timeline import Event, State
from dicom_node.watch import health
from tests.faults.crash import make_study
from tests.support.dicom_files import edit, overwrite
from tests.support.quick import QuickNode
from tests.support.services import command, wait_for

UID = "2.25.6001"
KNEE = {"StudyDescription": "MR Knee left", "BodyPartExamined": "KNEE", "InstitutionName": "St. Elsewhere"}
CHILD = {"PatientAge": "007Y", "PatientBirthDate": "20190310", "StudyDate": "20260601"}
PEERS = """
[[peers]]
name = "mr-a"
ae_title = "MR"
host = "10.0.0.1"
roles = ["source"]
[[peers]]
name = "mr-b"
ae_title = "MR"
host = "10.0.0.2"
roles = ["source"]
[[peers]]
name = "ct"
ae_title = "CT"
host = "10.0.0.3"
roles = ["source"]
"""


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data")


def received(spool: Spool, tmp_path: Path, *series: dict[str, Any], uid: str = UID) -> Study:
    """Return a study with one file for each of some sets of attributes."""
    for number, attributes in enumerate(series):
        for path in make_study(tmp_path / f"sent-{uid}-{number}", uid, 10 * number)[:1]:
            instance = edit(path, **attributes)
            spool.store(uid, pydicom.dcmread(instance).SOPInstanceUID, instance.read_bytes())
    return spool.study(uid)


def config(**rules: Any) -> Config:
    return Config.offline().model_copy(update={"routing": RoutingSection(**rules)})


def reason(study: Study, **rules: Any) -> str | None:
    found = judge(study, config(**rules))
    return found.reason if found else None


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, None),
        ({"never_study_description": ("^mr knee",)}, "filtered_study_description"),
        ({"never_study_description": ("head", "hip")}, None),
        ({"only_study_description": ("epilep", "tsc")}, "filtered_study_description"),
        ({"only_study_description": ("epilep", "knee")}, None),
        ({"never_body_part": ("^knee$",)}, "filtered_body_part"),
        ({"only_body_part": ("^(head|brain)$",)}, "filtered_body_part"),
        ({"only_institution": ("elsewhere",), "only_body_part": ("knee",)}, None),
        ({"never_institution": ("elsewhere",)}, "filtered_institution"),
        ({"min_age_years": 7.0, "max_age_years": 7.0}, None),
        ({"min_age_years": 7.5}, "filtered_age"),
        ({"max_age_years": 6.0}, "filtered_age"),
        ({"only_body_part": ("knee",), "max_age_years": 6.0}, "filtered_age"),
    ],
)
def test_a_rule_filters_what_it_says(spool: Spool, tmp_path: Path, rules: dict[str, Any], expected: str | None):
    assert reason(received(spool, tmp_path, KNEE | CHILD), **rules) == expected


ASKING = [
    {"only_study_description": ("epilep",)},
    {"only_body_part": ("head",)},
    {"only_institution": ("here",)},
    {"min_age_years": 20.0},
    {"max_age_years": 1.0},
    {"only_peers": ("elsewhere",)},
]


@pytest.mark.parametrize("rules", ASKING)
def test_what_is_missing_filters_only_where_that_is_said(spool: Spool, tmp_path: Path, rules: dict[str, Any]):
    study = received(spool, tmp_path, {"StudyDescription": "unknown", "InstitutionName": "--", "PatientAge": ""})
    assert reason(study, **rules) is None
    assert reason(study, **rules, missing=Missing.FILTER) is not None
    assert reason(study, never_study_description=("knee",), never_peers=("x",), missing=Missing.FILTER) is None


def test_one_series_that_may_be_meant_keeps_a_study(spool: Spool, tmp_path: Path):
    study = received(spool, tmp_path, KNEE | CHILD, {"BodyPartExamined": "HEAD"})
    assert reason(study, only_body_part=("^head$",)) is None
    assert reason(study, never_body_part=("^knee$",)) is None
    assert reason(study, never_body_part=("^knee$", "^head$")) == "filtered_body_part"
    # The second file says nothing of the description and of the age.
    assert reason(study, never_study_description=("knee",)) is None
    assert reason(study, max_age_years=3.0) is None


def test_objects_beside_the_images_do_not_speak(spool: Spool, tmp_path: Path):
    study = received(spool, tmp_path, KNEE, {"Modality": "PR"})
    assert reason(study, never_body_part=("knee",)) == "filtered_body_part"


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "rules"),
    [
        ("StudyDescription", "LO", b"\xff\xfe\x81kn ", {"only_study_description": ("epilep",)}),
        ("StudyDescription", "LO", b"???????? ", {"only_study_description": ("epilep",)}),
        ("InstitutionName", "LO", b"\xef\xbf\xbd\xef\xbf\xbd", {"only_institution": ("here",)}),
        ("PatientAge", "AS", b"***Y", {"max_age_years": 3.0}),
        ("PatientAge", "AS", b"000Y", {"min_age_years": 3.0}),
        ("PatientAge", "AS", b"064Y", {"max_age_years": 18.0}),  # the dates say seven
    ],
)
def test_what_cannot_be_read_never_filters(
    spool: Spool, tmp_path: Path, keyword: str, vr: str, value: bytes, rules: dict[str, Any]
):
    (path,) = make_study(tmp_path / "sent", UID)[:1]
    edit(path, **KNEE, **(CHILD if value == b"064Y" else {}))
    spool.store(UID, pydicom.dcmread(path).SOPInstanceUID, overwrite(path, keyword, vr, value).read_bytes())
    assert reason(spool.study(UID), **rules, missing=Missing.FILTER) is None


def test_a_text_under_a_wrong_label_counts_as_all_that_it_may_say(spool: Spool, tmp_path: Path):
    (path,) = make_study(tmp_path / "sent", UID)[:1]
    edit(path, SpecificCharacterSet="ISO_IR 100")
    spool.store(UID, "1.2.3", overwrite(path, "StudyDescription", "LO", "头颅平扫".encode("gb18030")).read_bytes())
    assert reason(spool.study(UID), only_study_description=("头颅",)) is None
    assert reason(spool.study(UID), never_study_description=("头颅",)) is None


def test_a_file_that_cannot_be_read_keeps_a_study(spool: Spool, tmp_path: Path):
    study = received(spool, tmp_path, KNEE)
    assert reason(study, never_body_part=("knee",)) == "filtered_body_part"
    spool.store(UID, "1.2.4", b"not DICOM")
    assert reason(study, never_body_part=("knee",)) is None


def test_a_sender_is_known_by_its_title_and_in_doubt_keeps_a_study(spool: Spool, tmp_path: Path):
    def by(rules: str) -> str | None:
        (tmp_path / "node.toml").write_text(PEERS + "[routing]\n" + rules)
        found = judge(study, load(tmp_path / "node.toml"))
        return found.key if found else None

    study = received(spool, tmp_path, KNEE)
    assert by('never_peers = ["ct"]') is None
    study.note(Event.ASSOCIATION, calling="CT", address="10.0.0.3")
    assert by('never_peers = ["ct"]') == "never_peers"
    assert by('only_peers = ["mr-a"]') == "only_peers"
    study.note(Event.ASSOCIATION, calling="MR", address="10.0.0.1")
    # One of two peers of the same title.
    assert by('never_peers = ["ct", "mr-a"]') is None
    assert by('never_peers = ["ct", "mr-a", "mr-b"]') == "never_peers"
    study.note(Event.ASSOCIATION, calling="OTHER", address="10.0.0.9")
    assert by('never_peers = ["ct", "mr-a", "mr-b"]') is None


@pytest.mark.parametrize("event", [Event.SELECTED, Event.RETRIED, Event.RELEASED, Event.STATED])
def test_what_was_selected_or_taken_up_by_hand_is_never_filtered(spool: Spool, tmp_path: Path, event: Event):
    study = received(spool, tmp_path, KNEE)
    study.note(event)
    assert not turned_away(study, config(never_body_part=("knee",)))
    assert study.state() == State.RECEIVING


def test_a_filtered_study_says_so_and_nothing_of_itself(spool: Spool, tmp_path: Path):
    study = received(spool, tmp_path, KNEE)
    assert turned_away(study, config(never_body_part=("knee",)))
    turn = study.timeline().turn
    assert turn
    assert turn.as_json() | {"time": ""} == {
        "time": "",
        "event": "filtered",
        "state": "filtered",
        "code": "filtered_body_part",
        "sentence": "routing.never_body_part says that it is not for this node: `dicom-node retry` reads it "
        "nevertheless.",
    }


def test_all_of_a_filtered_study_goes_early(spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rules = config(never_body_part=("knee",), keep_days=2.0)
    rules = rules.model_copy(update={"node": rules.node.model_copy(update={"data_dir": spool.data_dir})})
    filtered = received(spool, tmp_path, KNEE)
    again = received(spool, tmp_path, KNEE, uid="2.25.6002")
    for study in (filtered, again):
        study.note(Event.QUEUED, State.QUEUED)
        assert turned_away(study, rules)
        spool.unfinished.finish(study.uid, spool.unfinished.latest(study.uid))
    again.note(Event.RETRIED, attempt=1)
    with_index = Index(spool.data_dir)
    assert with_index.catch_up(spool)
    assert survey(rules).studies.filtered == {"filtered_body_part": 2}
    assert list(expired_now(rules, spool, with_index)) == []
    monkeypatch.setattr("dicom_node.engine.housekeeping.datetime", _Later)
    (gone,) = expired_now(rules, spool, with_index)
    assert (gone.study_uid, gone.what, gone.state) == (UID, What.STUDY, "filtered")


class _Later(datetime):
    """The clock in three days."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(UTC) + timedelta(days=3)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[QuickNode]:
    with QuickNode.made(tmp_path) as quick:
        file = quick.node.config
        file.write_text(file.read_text() + '[routing]\nnever_body_part = ["^knee$"]\n')
        yield quick


def test_a_filtered_study_is_counted_rehearsed_and_brought_back(node: QuickNode, tmp_path: Path):
    sent = tmp_path / "sent"
    for path in make_study(sent, UID):
        edit(path, **KNEE)
    node.start()
    node.node.wait_listening()
    node.node.send(sent)
    node.node.wait_state(UID, "filtered")
    asked = ("--config", str(node.node.config))
    listed = lambda: json.loads(command("studies", "--state", "filtered", "--json", *asked))  # noqa: E731
    (row,) = wait_for(listed, 60, "the index")
    assert row["code"] == "filtered_body_part"
    replayed = tmp_path / "node-more.toml"
    replayed.write_text(node.node.config.read_text().replace("knee", "hip"))
    text = command("explain", "--replay", "5", "--config", str(replayed), code=3)
    assert text.splitlines()[:2] == [f"{UID}: changed", "  routing: filtered_body_part -> none"]
    assert "unchanged" in command("explain", "--replay", "5", *asked)
    status = health.status(survey(load(node.node.config)))
    assert "1 filtered" in [line.sentence for line in status if line.what == "studies"]
    command("retry", UID, *asked)
    node.node.wait_state(UID, "scored", "sending")
    # Late series of it are not filtered either.
    late = tmp_path / "late"
    for path in make_study(late, UID, 20):
        edit(path, **KNEE)
    node.node.send(late)
    node.node.wait_event(UID, "selected", 2)
    assert node.node.events(UID).count("filtered") == 1
    assert node.said("study filtered", reason="filtered_body_part") == 1
    assert "KNEE" not in node.node.log.read_text()
