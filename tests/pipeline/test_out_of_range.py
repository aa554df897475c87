"""A study unlike those that a model was made with is withheld or flagged, as the bundle says, check by check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from models.bundle import FeatureSpace, Range
from models.bundle_metadata import Action, Check
from models.contrast import Contrast
from pipeline.errors import StudyHeld
from pipeline.headers import Frame, Volume
from pipeline.out_of_range import check_brain_weights, check_features, check_headers
from pipeline.select import Candidate, Verdict
from tests.support.reports import mr_header, write_header

FLAG_ALL: dict[Check, Action] = {"age": "flag", "contrast": "flag", "field_strength": "flag", "features": "flag"}


def volume(path: Path, role: Contrast = Contrast.T1W, **facts: Any) -> Volume:
    """Return a volume of one image whose header is in `path`."""
    frame = Frame(path, 0, "1.2", None, None, None, 1, 1)
    plain = Volume(
        "1", role.value, 1, "", "", "MR", MRImageStorage, "", (), (), (), (), "2D", None, None, None, None, None,
        contrast_agent=False, samples_per_pixel=1, frames=(frame,), field_strength_t=3.0,
    )  # fmt: skip
    return replace(plain, **facts)


def candidate(of: Volume, *, contrast_given: bool = False) -> Candidate:
    return Candidate(of, Verdict.T1W, dict.fromkeys(Contrast, 0.0), (), contrast_given)


def codes(volumes: dict[Contrast, Volume], limits: Range, *candidates: Candidate) -> list[str]:
    return [doubt.code for doubt in check_headers(volumes, candidates, limits)]


@pytest.fixture
def header(tmp_path: Path):
    """Return what writes a header with some changes."""

    def write(name: str = "image", **values: object) -> Path:
        dataset: Dataset = mr_header(Contrast.T1W, 1)
        for keyword, value in {"PatientBirthDate": "20140301", "PatientAge": "010Y", **values}.items():
            setattr(dataset, keyword, value)
        return write_header(dataset, tmp_path / f"{name}.dcm")

    return write


def test_nothing_is_checked_that_the_bundle_does_not_limit(header):
    assert codes({Contrast.T1W: volume(header(), contrast_agent=True, field_strength_t=7.0)}, Range()) == []
    assert check_features({Contrast.T1W: 1e9}, Range()) == ()
    assert check_brain_weights("1" * 64, Range()) == ()


def test_masks_drawn_with_other_brain_weights_are_flagged_or_held():
    limits = Range(brain_weights_digest="0" * 64)
    assert check_brain_weights("0" * 64, limits) == ()
    (doubt,) = check_brain_weights("1" * 64, limits)
    assert doubt.code == "out_of_range_brain_weights"
    with pytest.raises(StudyHeld) as caught:
        check_brain_weights("1" * 64, limits.model_copy(update={"actions": {"brain_weights": "withhold"}}))
    assert caught.value.code == "out_of_range_brain_weights"


# --- age --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("birth", "age"), [("20230601", "009M"), ("20040101", "020Y")])
def test_an_age_outside_is_withheld_or_flagged(header, birth: str, age: str):
    volumes = {Contrast.T1W: volume(header(PatientBirthDate=birth, PatientAge=age))}
    with pytest.raises(StudyHeld) as caught:
        codes(volumes, Range(age_years=(1, 18)))
    assert caught.value.code == "out_of_range_age"
    assert "1 to 18 years" in caught.value.sentence
    assert codes(volumes, Range(age_years=(1, 18), actions={"age": "flag"})) == ["out_of_range_age"]
    assert codes(volumes, Range(age_years=(0, 21))) == []


def test_a_bound_belongs_to_the_range_and_no_sentence_tells_the_age(header):
    volumes = {Contrast.T1W: volume(header(PatientBirthDate="", PatientAge="007Y"))}
    assert codes(volumes, Range(age_years=(7, 12))) == codes(volumes, Range(age_years=(3, 7))) == []
    (doubt,) = check_headers(volumes, (), Range(age_years=(12, 18), actions={"age": "flag"}))
    assert "7" not in doubt.sentence


def test_an_age_that_no_header_tells_is_flagged_and_never_withheld(header):
    untold = volume(header("untold", PatientBirthDate="", PatientAge=""))
    assert codes({Contrast.T1W: untold}, Range(age_years=(1, 18))) == ["out_of_range_age_unknown"]
    told = volume(header("told"))
    assert codes({Contrast.T1W: untold, Contrast.FLAIR: told}, Range(age_years=(1, 18))) == []


# --- contrast agent ---------------------------------------------------------------------------------------------------


def test_contrast_agent_in_the_t1w_series(header):
    never = Range(contrast_agent="never")
    by_header, by_name = volume(header(), contrast_agent=True), volume(header())
    with pytest.raises(StudyHeld) as caught:
        codes({Contrast.T1W: by_header}, never)
    assert caught.value.code == "out_of_range_contrast"
    with pytest.raises(StudyHeld):
        codes({Contrast.T1W: by_name}, never, candidate(by_name, contrast_given=True))
    flagged = Range(contrast_agent="never", actions=FLAG_ALL)
    assert codes({Contrast.T1W: by_header}, flagged) == ["out_of_range_contrast"]


def test_contrast_agent_elsewhere_does_not_count(header):
    plain, other = volume(header()), volume(header(), series_uid="other", contrast_agent=True)
    never = Range(contrast_agent="never")
    assert codes({Contrast.T1W: plain, Contrast.T2W: other}, never, candidate(other, contrast_given=True)) == []
    assert codes({Contrast.T2W: other}, never) == []


# --- field strength ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tesla", [3.0, 2.89362, 1.5, 1.494, 30000.0, 15000.0])
def test_scanners_write_field_strengths_in_many_ways(header, tesla: float):
    limits = Range(field_strength_t=(1.5, 3.0))
    assert codes({Contrast.T1W: volume(header(), field_strength_t=tesla)}, limits) == []


@pytest.mark.parametrize("tesla", [0.35, 1.0, 7.0, 70000.0])
def test_another_field_strength_is_withheld_or_flagged(header, tesla: float):
    volumes = {role: volume(header(), role) for role in Contrast}
    volumes[Contrast.FLAIR] = replace(volumes[Contrast.FLAIR], field_strength_t=tesla)
    with pytest.raises(StudyHeld) as caught:
        codes(volumes, Range(field_strength_t=(1.5, 3.0)))
    assert caught.value.code == "out_of_range_field_strength"
    assert "FLAIR is not 1.5 or 3 T" in caught.value.sentence
    assert codes(volumes, Range(field_strength_t=(1.5, 3.0), actions=FLAG_ALL)) == ["out_of_range_field_strength"]


@pytest.mark.parametrize("tesla", [None, 0.0, -1.0])
def test_a_field_strength_that_no_header_tells_is_flagged(header, tesla: float | None):
    volumes = {Contrast.T1W: volume(header()), Contrast.T2W: volume(header(), Contrast.T2W, field_strength_t=tesla)}
    (doubt,) = check_headers(volumes, (), Range(field_strength_t=(3.0,)))
    assert doubt.code == "out_of_range_field_strength_unknown"
    assert "T2W" in doubt.sentence
    assert "T1W" not in doubt.sentence


def test_several_doubts_stand_side_by_side(header):
    volumes = {
        Contrast.T1W: volume(header(PatientAge="020Y", PatientBirthDate=""), field_strength_t=None, contrast_agent=True)
    }
    limits = Range(age_years=(1, 18), field_strength_t=(3.0,), contrast_agent="never", actions=FLAG_ALL)
    assert codes(volumes, limits) == [
        "out_of_range_age", "out_of_range_contrast", "out_of_range_field_strength_unknown",
    ]  # fmt: skip


# --- features ---------------------------------------------------------------------------------------------------------


def features(**more: object) -> Range:
    space = FeatureSpace(
        file="models/f.safetensors", limits=dict(zip(tuple(Contrast), (10.0, 20.0, 30.0), strict=True))
    )
    return Range.model_validate({"features": space, **more})


def test_features_beyond_the_limit_of_their_sequence_are_flagged_or_withheld():
    distances = {Contrast.T1W: 10.0, Contrast.T2W: 20.01, Contrast.FLAIR: 29.0}
    (doubt,) = check_features(distances, features())
    assert doubt.code == "out_of_range_features"
    assert "T2W 20.0 of at most 20.0" in doubt.sentence
    assert "FLAIR" not in doubt.sentence
    with pytest.raises(StudyHeld) as caught:
        check_features(distances, features(actions={"features": "withhold"}))
    assert caught.value.code == "out_of_range_features"
    assert check_features(dict.fromkeys(Contrast, 10.0), features()) == ()


def test_a_distance_that_is_no_number_is_outside():
    assert check_features({Contrast.T1W: float("nan")}, features())
