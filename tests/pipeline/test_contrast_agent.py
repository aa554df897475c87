"""T1 after contrast agent that no tag marks: never chosen; in doubt the study is held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from models.contrast import Contrast
from pipeline.errors import StudyHeld
from pipeline.headers import Volume
from pipeline.select import Candidate, SiteRules, judge, select_roles, select_study
from pipeline.select.difference import shows_difference
from pipeline.synthetic import StudyTags, series_tags, write_series
from tests.pipeline.test_choose import OTHERS, choose, refused, sagittal, series, with_pixels
from tests.pipeline.test_select import STUDY, T1, T2, edit, flat, triplet

DAY = "20260101"
OF_A: dict[str, Any] = {"tr_ms": 450.0, "te_ms": 10.0, "scanning_sequence": ("SE",)}
A = series(2, "t1_se_tra", acquired=DAY + "120000", **OF_A)
B = replace(A, series_uid="1.5", series_number=5, acquired=DAY + "122000")
SUBTRACTION = replace(B, series_uid="1.6", series_number=6, description="SOUS")
C = series(
    7, "t1_mprage", slices=160, step_mm=1.0, tr_ms=15.0, te_ms=4.2, scanning_sequence=("GR",), acquisition_type="3D",
    acquired=DAY + "122500",
)  # fmt: skip
OTHERS_AT = tuple(replace(one, acquired=DAY + "120500") for one in OTHERS)


def at(volume: Volume, clock: str | None) -> Volume:
    return replace(volume, acquired=clock and DAY + clock)


def chosen(*volumes: Volume, others: tuple[Volume, ...] = OTHERS_AT) -> Candidate:
    return select_roles([judge(each) for each in (*volumes, *others)])[Contrast.T1W]


def held(*volumes: Volume, others: tuple[Volume, ...] = OTHERS_AT) -> StudyHeld:
    with pytest.raises(StudyHeld) as caught:
        chosen(*volumes, others=others)
    assert caught.value.sentence.endswith(".")
    return caught.value


@pytest.mark.parametrize("order", [1, -1])
def test_of_four_the_first_of_two_alike_is_chosen(order):
    assert chosen(*(A, B, SUBTRACTION, C)[::order]).volume == A


@pytest.mark.parametrize("name", ["SOUS", "Sbt", "XYZ", "t1 minus", "B-A", ""])
@pytest.mark.parametrize("with_c", [True, False])
def test_a_subtraction_of_any_name_is_never_chosen(name, with_c):
    subtraction = replace(SUBTRACTION, description=name)
    assert chosen(A, B, subtraction, *((C,) if with_c else ())).volume == A
    assert held(B, subtraction).code == "ambiguous_role"


def test_without_the_first_of_two_what_a_subtraction_was_made_of_is_left_to_a_human():
    assert held(B, SUBTRACTION, C).code == "ambiguous_role"
    assert held(C, at(SUBTRACTION, "121000"), at(B, "123000")).code == "ambiguous_role"
    assert chosen(A, B, at(SUBTRACTION, "120000")).volume == A


def test_without_times_only_what_is_alike_but_for_the_mark_came_before():
    marked = at(replace(B, contrast_agent=True), None)
    assert chosen(at(A, None), marked, at(C, None)).volume.series_number == 2
    assert held(marked, at(C, None)).code == "ambiguous_role"


def test_a_subtraction_alone_is_no_t1w():
    assert held(SUBTRACTION).code in {"missing_role", "ambiguous_role"}


def test_what_came_after_two_alike_is_not_chosen_without_a_subtraction():
    assert chosen(A, B, C).volume == A
    assert chosen(A, B, at(C, "121000")).volume == A
    assert chosen(A, B).evidence[-1] == "acquired before a T1 weighted series was repeated"


def test_what_came_before_two_alike_is_chosen():
    assert chosen(A, B, at(C, "115000")).volume.series_number == 7


@pytest.mark.parametrize(
    "second",
    [
        replace(B, description="t1_se_tra_2"), replace(B, description="T1 SE TRA"), replace(B, tr_ms=451.0),
        replace(B, description="t1_se_tra rep"), replace(with_pixels(B, 0.9)),
        replace(B, description="t1_se_tra_fs"), replace(B, description="fs tra T1 SE"), replace(B, tr_ms=520.0),
        replace(B, te_ms=10.4),
    ],
)  # fmt: skip
def test_alike_is_what_was_acquired_alike(second):
    assert chosen(A, second, C).volume == A


@pytest.mark.parametrize(
    "second",
    [replace(B, te_ms=17.0), sagittal(B), at(B, "120000"), replace(B, description="t1_se_tra +C")],
)
def test_other_settings_planes_or_one_acquisition_are_no_repetition(second):
    assert chosen(A, second, at(C, "121000")).volume.series_number == 7


def test_an_orientation_that_is_none_is_alike_to_nothing():
    lost = replace(B, frames=tuple(replace(frame, orientation=(0.0,) * 6) for frame in B.frames))
    assert chosen(A, lost, at(C, "121000")).volume.series_number == 7


def test_two_alike_of_unknown_times_put_every_t1_weighted_series_in_doubt():
    assert held(at(A, None), at(B, None), C).code == "ambiguous_role"
    assert held(at(A, None), B, C).code == "ambiguous_role"
    assert held(A, at(B, None)).code == "ambiguous_role"


def test_clocks_that_all_show_the_same_order_nothing():
    same = tuple(at(one, "120000") for one in (A, B, C, *OTHERS))
    assert held(*same[:3], others=same[3:]).code == "ambiguous_role"


def test_a_clock_that_ran_past_midnight_on_one_date_orders_nothing():
    assert held(at(A, "235500"), at(B, "000500"), at(C, "001000"), others=OTHERS).code == "ambiguous_role"
    after = [replace(one, acquired="20260102" + one.acquired[8:]) for one in (at(B, "000500"), at(C, "001000"))]
    assert chosen(at(A, "235500"), *after, others=OTHERS).volume.series_number == 2


@pytest.mark.parametrize("denied", ["t1 pre contrast", "T1 sans inj", "T1 PRE", "T1 nativ"])
def test_a_name_that_denies_contrast_agent_settles_a_doubt(denied):
    early = series(9, denied, acquired=None, **(T1 | {"acquisition_type": "3D"}), slices=160, step_mm=1.0)
    assert chosen(A, B, early).volume.series_number == 9
    by_header = replace(early, description="t1_mprage", agent_denied=True)
    assert chosen(A, B, by_header).volume.series_number == 9


# --- what shows contrast agent without a tag --------------------------------------------------------------------------

PERFUSION = series(8, "ep2d_perf", acquired=DAY + "121000", **T2)


@pytest.mark.parametrize(
    "injected",
    [
        PERFUSION, replace(PERFUSION, description="DSC"), replace(PERFUSION, description="DCE"),
        replace(PERFUSION, description="AX PWI"),
        replace(PERFUSION, description="rCBV"), replace(PERFUSION, description="", image_type=("DERIVED", "PERFUSION")),
        replace(PERFUSION, description="TWIST"), replace(PERFUSION, description="CE-MRA carotid"),
        replace(PERFUSION, description="t2_flair", contrast_agent=True),
    ],
)  # fmt: skip
def test_what_came_after_an_injection_is_late(injected):
    assert chosen(A, C, injected).volume == A
    late = held(C, injected)
    assert late.code == "ambiguous_role"
    assert "Series 8 had contrast agent earlier" in late.sentence
    unknown = held(at(C, None), injected)
    assert "no time says which came first" in unknown.sentence


@pytest.mark.parametrize(
    "bystander",
    [
        replace(PERFUSION, description="pCASL perfusion"), replace(PERFUSION, description="tof 3d"),
        replace(PERFUSION, description="", image_type=("DERIVED", "PRIMARY", "ASL")),
        replace(PERFUSION, agent_denied=True),
        replace(PERFUSION, description="3D ASL CBF"),
    ],
)  # fmt: skip
def test_what_needs_no_injection_says_nothing(bystander):
    assert chosen(C, bystander).volume == C


def test_of_one_acquisition_with_a_marked_series_all_images_show_the_agent():
    marked = series(9, "t1_mprage_sag KM", acquired=C.acquired, **T1)
    assert held(C, marked).code == "ambiguous_role"
    assert chosen(A, C, marked).volume == A


@pytest.mark.parametrize("protocol", ["t1_mprage_sag_KM", "T1W 3D TFE post gd", "T1+C"])
def test_the_protocol_of_a_series_names_contrast_agent_too(protocol):
    late = replace(C, protocol=protocol)
    assert chosen(A, late).volume == A
    assert held(late).code == "missing_role"
    assert chosen(replace(late, description="t1_mprage pre")).volume.series_number == 7


@pytest.mark.parametrize("protocol", ["BRAIN W/WO CONTRAST", "Kopf KM", "MR CEREBRAL +GADO"])
def test_the_protocol_of_an_examination_names_contrast_agent_of_no_series(protocol):
    assert chosen(A, replace(C, protocol=protocol)).volume.series_number == 7


def test_a_site_that_allows_contrast_agent_is_not_asked():
    assert choose(B, SUBTRACTION, C, rules=SiteRules(contrast="allow")).volume == C


def test_corrected_images_of_two_acquisitions_are_those_of_the_first():
    raw, corrected = ("ORIGINAL", "PRIMARY", "M", "ND"), ("ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D")
    early = replace(A, image_type=raw), replace(A, image_type=corrected, series_uid="1.3", series_number=3)
    late = replace(B, image_type=raw), replace(B, image_type=corrected, series_uid="1.9", series_number=9)
    assert chosen(*late, *early, C).volume == early[1]
    assert refused(early[0], late[1]).code == "ambiguous_role"


def test_corrected_images_under_a_name_that_says_nothing_are_no_subtraction():
    raw = replace(A, description="Kopf", image_type=("ORIGINAL", "PRIMARY", "M", "ND"))
    corrected = replace(
        raw, description="Kopf DIS", image_type=("ORIGINAL", "PRIMARY", "M", "DIS2D"), series_uid="1.3", series_number=3
    )
    assert chosen(raw, corrected).volume == corrected


# --- pixels of a difference -------------------------------------------------------------------------------------------


def heads() -> tuple[np.ndarray, np.ndarray]:
    """Return planes of a head before and after contrast agent, with the noise of each."""
    dice = np.random.default_rng(3)
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    head = np.where(y**2 + x**2 < 0.6, 400 + 200 * np.cos(6 * x) * np.sin(5 * y), 0.0)
    vessels = np.where(((x - 0.2) ** 2 + (y + 0.1) ** 2 < 0.02) | (np.abs(y**2 + x**2 - 0.5) < 0.03), 300.0, 0.0)
    before, after = (np.abs(np.stack([image] * 3) + dice.normal(0, 8, (3, 64, 64))) for image in (head, head + vessels))
    return before.astype(np.float32), np.roll(after, 1, axis=2).astype(np.float32)


@pytest.mark.parametrize("made", ["signed", "offset", "without sign", "positive", "backwards"])
def test_pixels_of_a_difference_are_known(made):
    before, after = heads()
    difference = after - before
    shown = {
        "signed": difference, "offset": difference + 2048, "without sign": np.abs(difference),
        "positive": np.clip(difference, 0, None), "backwards": -difference,
    }[made]  # fmt: skip
    assert shows_difference(shown)


@pytest.mark.parametrize("change", [lambda a: a, lambda a: a + 1000, lambda a: a - 1024, lambda a: 0 * a + 5])
def test_pixels_of_a_head_are_no_difference(change):
    before, after = heads()
    assert not shows_difference(change(before))
    assert not shows_difference(change(after))
    noise = np.random.default_rng(0).integers(0, 900, (3, 16, 20)).astype(np.float32)
    assert not shows_difference(noise)


def write_pixels(
    folder: Path, planes: np.ndarray, number: int, description: str, study: StudyTags = STUDY
) -> list[Path]:
    image = sitk.GetImageFromArray(np.repeat(planes[:1], 30, axis=0).astype(np.int16))
    image.SetSpacing((3.5, 3.5, 5.0))
    tags = series_tags(Contrast.T1W, number=number)
    return write_series(
        image, folder / str(number), study, replace(tags, description=description, protocol=description)
    )


@pytest.mark.parametrize("description", ["Kopf", "SOUS", "", "PG-SG"])
def test_a_difference_under_any_name_is_no_t1w(sent, description):
    before, after = heads()
    others = flat(triplet(sent, without=Contrast.T1W))
    difference = write_pixels(sent, after - before + 1000, 30, description)
    selection = select_study([*others, *difference])
    assert selection.held is not None
    assert selection.held.code == "missing_role"
    head = write_pixels(sent, before, 31, "Kopf")
    beside = select_study([*others, *difference, *head])
    assert beside.held is not None
    assert "Series 30 is a subtraction, so Series 31 may show contrast agent" in beside.held.sentence
    early = write_pixels(sent, before, 32, "Kopf t1 pre")
    selection = select_study([*others, *difference, *head, *early])
    assert selection.held is None
    assert selection.roles[Contrast.T1W].series_number == 32


def test_a_derived_difference_under_the_name_of_its_series_is_no_t1w(sent):
    before, after = heads()
    difference = write_pixels(sent, np.abs(after - before), 30, "t1_se_tra")
    for file in difference:
        edit(file, ImageType=["DERIVED", "SECONDARY"])
    selection = select_study([*flat(triplet(sent, without=Contrast.T1W)), *difference])
    assert selection.held is not None
    assert "difference of two images" in selection.held.sentence
