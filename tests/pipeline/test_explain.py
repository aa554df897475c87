"""The table that says what was selected and why."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from models.contrast import Contrast
from pipeline.explain import SelectionTable, explain
from pipeline.select import select_study
from pipeline.synthetic import StudyTags, derive_uid, series_tags, write_series
from tests.support.services import SEEDED, real_data

STUDY = StudyTags(study_uid=derive_uid("test explain"), **SEEDED)
CONTRACT = {"study_uid", "state", "reason", "roles", "series"}
ROLE_CONTRACT = {"series_uid", "series_number", "description", "evidence"}
SERIES_CONTRACT = {"series_uid", "series_number", "description", "volumes", "verdict", "scores", "evidence"}
VERDICTS = {"T1W", "T2W", "FLAIR", "none", "ambiguous"}


def explained(files: Iterable[Path]) -> dict[str, Any]:
    """Return the table of some files as JSON."""
    return explain(select_study(files)).as_json()


@pytest.fixture(scope="module")
def table(quick_study) -> dict:
    return explained(quick_study.all_files)


def write(folder: Path, role: Contrast, slices: int = 24, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), **place) -> list[Path]:
    values = np.random.default_rng(1).integers(0, 900, (slices, 16, 20)).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((9.0, 9.5, 5.0))
    image.SetDirection(direction)
    return write_series(image, folder, STUDY, series_tags(role), **place)


def test_every_key_of_the_contract_is_there(table):
    assert table.keys() >= CONTRACT
    assert table["roles"].keys() == set(Contrast)
    assert all(role.keys() == ROLE_CONTRACT for role in table["roles"].values())
    assert all(series.keys() == SERIES_CONTRACT for series in table["series"])
    assert all(series["scores"].keys() == set(Contrast) for series in table["series"])
    assert {series["verdict"] for series in table["series"]} <= VERDICTS


def test_table_is_json_as_it_is(table):
    assert json.loads(json.dumps(table)) == table
    assert [type(key) for key in table["roles"]] == [str] * 3


def test_a_stored_table_is_read_as_it_was(table, sent):
    for told in (table, explained(write(sent, Contrast.T2W))):
        assert SelectionTable.from_json(json.loads(json.dumps(told))).as_json() == told


def test_a_table_of_another_kind_is_refused(table):
    with pytest.raises(ValueError, match="bad_luck"):
        SelectionTable.from_json(table | {"reason": "bad_luck"})


def test_ready_study_names_the_series_of_each_role(table, quick_study):
    assert (table["state"], table["reason"], table["sentence"]) == ("ready", None, None)
    assert table["study_uid"] == quick_study.study_uid
    rows = {series["series_uid"]: series for series in table["series"]}
    for role in Contrast:
        chosen = table["roles"][role]
        row = rows[chosen["series_uid"]]
        assert row["verdict"] == role
        assert row["scores"][role] == max(row["scores"].values()) > 0
        assert row["evidence"] == chosen["evidence"] != []
        assert chosen["series_number"] == series_tags(role).number
    assert table["ignored_files"] == []


def test_three_planes_of_the_localizer_are_one_row(table):
    (localizer,) = [series for series in table["series"] if series["description"] == "localizer"]
    assert (localizer["volumes"], localizer["verdict"]) == (3, "none")
    assert localizer["scores"] == dict.fromkeys(Contrast, 0.0)
    assert any("scout" in reason for reason in localizer["evidence"])
    assert len(table["series"]) == 4


def test_the_whole_volume_speaks_for_a_series_of_several(sent):
    coronal = (1, 0, 0, 0, 0, 1, 0, -1, 0)
    files = write(sent, Contrast.T2W) + write(sent, Contrast.T2W, slices=2, direction=coronal, first_instance=100)
    (series,) = explained(files)["series"]
    assert (series["volumes"], series["verdict"]) == (2, "T2W")
    assert series["scores"]["T2W"] > 0


def test_held_study_says_why_and_names_no_role(sent):
    table = explained(write(sent, Contrast.T2W))
    assert (table["state"], table["reason"]) == ("held", "missing_role")
    assert table["sentence"].endswith(".")
    assert table["roles"] == {}
    assert [series["verdict"] for series in table["series"]] == ["T2W"]


def test_ignored_files_are_listed_with_a_code(sent):
    files = write(sent, Contrast.T2W)
    note = sent / "note.txt"
    note.write_text("no image")
    (ignored,) = explained([*files, note])["ignored_files"]
    assert (ignored["file"], ignored["code"]) == ("note.txt", "file_not_dicom")
    assert ignored["sentence"].endswith(".")


def test_no_patient_attribute_is_told(table):
    assert not any(value in json.dumps(table) for value in SEEDED.values())


@pytest.mark.filterwarnings("ignore")
def test_real_study_of_derived_series_is_explained():
    table = explained(real_data("xa30-enhanced").iterdir())
    assert (table["state"], table["reason"]) == ("held", "missing_role")
    assert [series["verdict"] for series in table["series"]].count("T1W") == 1
    assert all(series["evidence"] for series in table["series"])
    assert {file["code"] for file in table["ignored_files"]} == {"not_mr_image"}
