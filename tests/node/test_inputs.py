"""What a selection was made from is written down once, and repeats the same selection whatever changed since."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dicom_node.config import Config, SelectionSection
from dicom_node.engine import worker
from dicom_node.engine.contract import Value
from dicom_node.studies import inputs
from dicom_node.studies.spool import Spool, Study
from models.contrast import Contrast
from pipeline.result import Outcome
from pipeline.select import Selection, select_study
from pipeline.synthetic import localizer_tags
from tests.support.services import SEEDED
from tests.support.studies import SECOND_T2W, T2_SPACE, TRIPLET, receive_study, series_uid

UID = "2.25.4001"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data")


def hands(spool: Spool, **rules) -> worker.Worker:
    config = Config.offline().model_copy(update={"selection": SelectionSection(**rules)})
    models = SimpleNamespace(bundle=SimpleNamespace(metadata=SimpleNamespace(two_sequences=())))
    return worker.Worker(config, spool, models)  # type: ignore[arg-type]


def repeated(study: Study, digest: str):
    """Select again as the worker does after a restart, from what was pinned."""
    return inputs.pinned(study, digest).select()


def test_a_selection_is_repeated_by_the_rules_that_it_was_made_by(spool: Spool, sent: Path):
    study = receive_study(spool, sent, UID, *TRIPLET, T2_SPACE)
    space = hands(spool).select(UID)["input_digest"]
    plain = hands(spool, never=("t2_space",), t1w=("^t1_mprage",)).select(UID)["input_digest"]
    assert space != plain
    for digest, number in ((space, 5), (plain, 3)):
        again = repeated(study, digest)
        assert again.digest == digest
        assert again.roles[Contrast.T2W].series_number == number
    assert inputs.pinned(study, plain).rules == SelectionSection(never=("t2_space",), t1w=("^t1_mprage",))


def test_the_same_selection_keeps_its_first_pin(spool: Spool, sent: Path):
    study = receive_study(spool, sent, UID, *TRIPLET)
    digest = hands(spool).select(UID)["input_digest"]
    first = inputs.pinned(study, digest)
    assert hands(spool, never=("nothing of this name",)).select(UID)["input_digest"] == digest
    assert inputs.pinned(study, digest) == first


def test_another_reason_to_hold_is_another_run(spool: Spool, sent: Path):
    study = receive_study(spool, sent, UID, *TRIPLET, SECOND_T2W)
    tie = hands(spool).select(UID)["input_digest"]
    none = hands(spool, never=("t2_tse",)).select(UID)["input_digest"]
    reasons = [repeated(study, digest).held.code for digest in (tie, none)]
    assert reasons == ["ambiguous_role", "missing_role"]
    assert tie != none


def test_choices_are_pinned_and_hold_for_every_later_selection(spool: Spool, sent: Path):
    study = receive_study(spool, sent, UID, *TRIPLET, SECOND_T2W)
    study.choose({Contrast.T2W: series_uid(UID, 5)})
    digest = hands(spool).select(UID)["input_digest"]
    study.choose({})
    assert inputs.last_choices(study) == {Contrast.T2W: series_uid(UID, 5)}
    assert repeated(study, digest).roles[Contrast.T2W].series_number == 5
    assert repeated(study, digest).roles[Contrast.T2W].evidence[0] == "chosen by hand"


def test_the_table_lies_beside_the_inputs_without_the_patient(spool: Spool, sent: Path):
    study = receive_study(spool, sent, UID, *TRIPLET, SECOND_T2W)
    digest = hands(spool).select(UID)["input_digest"]
    text = (study.run_folder(digest) / inputs.EXPLAIN_FILE).read_text()
    table = inputs.last_table(study)
    assert table is not None
    assert table.as_json() == json.loads(text)
    assert table.reason == "ambiguous_role"
    assert not any(value in text for value in SEEDED.values())


def test_inputs_of_an_older_version_are_read(spool: Spool, sent: Path):
    study = receive_study(spool, sent, UID, *TRIPLET)
    digest = hands(spool).select(UID)["input_digest"]
    file = study.run_folder(digest) / inputs.INPUTS_FILE
    old = {key: value for key, value in json.loads(file.read_text()).items() if key in ("files", "started")}
    file.write_text(json.dumps(old))
    (study.run_folder(digest) / inputs.EXPLAIN_FILE).unlink()
    assert repeated(study, digest).digest == digest
    assert inputs.last_table(study) is None
    assert inputs.last_choices(study) == {}


def test_a_study_that_was_never_selected_has_no_table(spool: Spool, sent: Path):
    study = receive_study(spool, sent, UID, TRIPLET[0])
    assert inputs.last_table(study) is None
    assert inputs.last_choices(study) == {}


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Selection]:
    """Return the selections that are given to be read; nothing is scored."""
    given: list[Selection] = []

    def read(selection: Selection, *_: object, **__: object) -> SimpleNamespace:
        given.append(selection)
        return SimpleNamespace(held=None, outcome=Outcome.SCORED, out_of_range=False)

    monkeypatch.setattr(worker, "run_study", read)
    return given


def at_once(name: str, function: Callable[[], Value]) -> Value:
    """Run a step and remember nothing."""
    return function()


def test_a_study_is_selected_once_and_again_after_a_restart(
    spool: Spool, sent: Path, readings: list[Selection], monkeypatch: pytest.MonkeyPatch
):
    receive_study(spool, sent, UID, *TRIPLET)
    selected: list[object] = []

    def select(*given: Any) -> Selection:
        selected.append(given)
        return select_study(*given)

    monkeypatch.setattr(inputs, "select_study", select)
    one = hands(spool)
    digest = one.select(UID)["input_digest"]
    one.read(UID, digest, at_once)
    assert len(selected) == 1
    hands(spool).read(UID, digest, at_once)
    assert len(selected) == 2
    assert readings[0] == readings[1]
    assert readings[0].digest == digest


def test_a_late_bystander_does_not_replace_what_was_pinned(spool: Spool, sent: Path, readings: list[Selection]):
    study = receive_study(spool, sent, UID, *TRIPLET)
    one = hands(spool)
    digest = one.select(UID)["input_digest"]
    files = tuple(study.instances())
    receive_study(spool, sent, UID, localizer_tags(22))
    assert one.select(UID)["input_digest"] == digest
    one.read(UID, digest, at_once)
    assert readings[0].files == files
