"""Every volume has a name that a sentence says and a choice takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.contrast import Contrast
from pipeline.errors import StudyHeld
from pipeline.headers import Volume
from pipeline.select import durable_choice, is_choice, judge, select_roles
from pipeline.select.naming import meant_by, name, with_names
from tests.pipeline.test_choose import OTHERS, PLAIN, sagittal, series
from tests.pipeline.test_select import T1_SPIN_ECHO


def arguments(*volumes: Volume) -> list[str]:
    return [candidate.argument for candidate in with_names(map(judge, volumes))]


ECHOES = (replace(PLAIN, te_ms=8.0, echo_number=1), replace(PLAIN, te_ms=12.0, echo_number=2))
DIXON = tuple(replace(PLAIN, image_type=("ORIGINAL", "PRIMARY", "M", part)) for part in ("W", "F", "IP"))


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        ((PLAIN, *OTHERS), ["2", "101", "102"]),
        (ECHOES, ["2:echo1", "2:echo2"]),
        ([replace(one, echo_number=None) for one in ECHOES], ["2:te8", "2:te12"]),
        (DIXON, ["2:W", "2:F", "2:IP"]),
        ([replace(PLAIN, acquired=f"20260101{clock}.5") for clock in ("120000", "121000")], ["2:120000", "2:121000"]),
        ((PLAIN, sagittal(PLAIN)), ["2:axial", "2:sagittal"]),
        ([replace(PLAIN, ti_ms=ti) for ti in (400.0, 900.0)], ["2:ti400", "2:ti900"]),
        ((PLAIN, replace(PLAIN, series_uid="1.9")), ["1.2", "1.9"]),
        ([replace(one, series_number=None) for one in (PLAIN, *ECHOES)], ["1.2:i?", "1.2:echo1", "1.2:echo2"]),
    ],
)
def test_an_argument_is_short_and_unique(volumes, expected):
    found = arguments(*volumes)
    assert len(set(found)) == len(found)
    assert [one if wanted[-1] != "?" else wanted for one, wanted in zip(found, expected, strict=True)] == expected
    assert all(map(is_choice, found))


def test_volumes_that_nothing_tells_apart_are_told_apart_by_their_instances():
    moved = replace(PLAIN, frames=tuple(replace(f, sop_instance_uid=f"9{f.sop_instance_uid}") for f in PLAIN.frames))
    found = arguments(PLAIN, moved)
    assert len(set(found)) == 2
    assert found == arguments(PLAIN, moved)


@pytest.mark.parametrize(
    ("volumes", "words"),
    [
        ((PLAIN,), ["Series 2"]),
        (ECHOES, ["Series 2:echo1", "Series 2:echo2"]),
        ((PLAIN, replace(PLAIN, series_uid="1.9")), ["Series 2 (1.2)", "Series 2 (1.9)"]),
        ((replace(PLAIN, series_number=None),), ["A series without a number (1.2)"]),
    ],
)
def test_a_sentence_names_what_release_takes(volumes, words):
    assert [name(candidate) for candidate in with_names(map(judge, volumes))] == words


@pytest.mark.parametrize(
    "volumes", [ECHOES, DIXON, (PLAIN, replace(PLAIN, series_uid="1.9")), (PLAIN, sagittal(PLAIN))]
)
def test_every_argument_is_honoured_and_lasts(volumes):
    candidates = with_names(map(judge, (*volumes, *OTHERS)))
    for wanted in candidates[: len(volumes)]:
        for choice in (wanted.argument, durable_choice(wanted)):
            (meant,) = meant_by(choice, candidates)
            assert meant.volume is wanted.volume
            assert select_roles(candidates, choices={Contrast.T1W: choice})[Contrast.T1W].volume is wanted.volume
        later = with_names([*candidates, judge(series(2, "late", **T1_SPIN_ECHO))])
        assert [c.volume for c in meant_by(durable_choice(wanted), later) if c.volume.description != "late"] == [
            wanted.volume
        ]


def test_a_number_of_several_series_is_refused_with_what_to_write():
    candidates = [judge(each) for each in (PLAIN, replace(PLAIN, series_uid="1.9"), *OTHERS)]
    with pytest.raises(StudyHeld) as caught:
        select_roles(candidates, choices={Contrast.T1W: "2"})
    assert caught.value.code == "choice_unusable"
    assert "T1W=1.2, T1W=1.9" in caught.value.sentence


# --- what came closest ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("closest", "words"),
    [
        (replace(PLAIN, body_part="KNEE"), "Series 2 came close, but: BodyPartExamined KNEE: another body part."),
        (replace(PLAIN, description="", body_part="KNEE"), "BodyPartExamined KNEE"),
        (replace(PLAIN, image_type=("DERIVED", "MPR")), "ImageType MPR: reformat"),
        (replace(PLAIN, description="T1 localizer"), "scout"),
        (replace(PLAIN, description="t1_se_tra +C"), "Series 2 is T1 weighted, but after contrast agent."),
    ],
)
def test_a_sentence_about_a_missing_role_names_what_came_closest(closest, words):
    with pytest.raises(StudyHeld) as caught:
        select_roles([judge(each) for each in (closest, *OTHERS)])
    assert caught.value.code == "missing_role"
    assert words in caught.value.sentence


def test_what_is_far_from_a_role_is_not_named():
    diffusion = replace(PLAIN, description="ep2d_diff", tr_ms=4500.0, te_ms=95.0)
    with pytest.raises(StudyHeld) as caught:
        select_roles([judge(each) for each in (diffusion, *OTHERS)])
    assert "close" not in caught.value.sentence
