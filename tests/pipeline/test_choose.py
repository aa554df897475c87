"""Several candidates, one role: the better one by stated rules, or a human's choice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.contrast import Contrast
from pipeline.errors import StudyHeld
from pipeline.headers import Volume
from pipeline.select import Candidate, SiteRules, judge, select_roles
from tests.pipeline.test_select import FLAIR, T1, T1_SPIN_ECHO, T2, UNKNOWN, volume

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def series(number: int, description: str = "", *, slices: int = 30, step_mm: float = 5.0, **facts) -> Volume:
    """Return a volume of a series of its own."""
    return volume(description, slices, step_mm, series_uid=f"1.{number}", series_number=number, **facts)


def sagittal(whole: Volume) -> Volume:
    """Return a volume with its planes turned."""
    frames = tuple(
        replace(frame, position_mm=(frame.position_mm[2], 0.0, 0.0), orientation=SAGITTAL) for frame in whole.frames
    )
    return replace(whole, frames=frames)


def with_pixels(whole: Volume, spacing_mm: float) -> Volume:
    """Return a volume with pixels of another size."""
    return replace(whole, frames=tuple(replace(f, pixel_spacing_mm=(spacing_mm, spacing_mm)) for f in whole.frames))


OTHERS = (series(101, "t2_tse_tra", **T2), series(102, "t2_flair", **FLAIR))


def choose(*volumes: Volume, rules: SiteRules = SiteRules(), choices=None) -> Candidate:  # noqa: B008 - frozen
    """Return what is chosen as T1W beside a sound T2W and FLAIR."""
    candidates = [judge(each, rules) for each in (*volumes, *OTHERS)]
    return select_roles(candidates, rules, choices)[Contrast.T1W]


def refused(*volumes: Volume, **options) -> StudyHeld:
    with pytest.raises(StudyHeld) as caught:
        choose(*volumes, **options)
    assert caught.value.sentence.endswith(".")
    return caught.value


# --- the better one ---------------------------------------------------------------------------------------------------

PLAIN = series(2, "t1_se_tra", **T1_SPIN_ECHO)


@pytest.mark.parametrize(
    ("better", "reason"),
    [
        (series(5, "t1_mprage", slices=160, step_mm=1.0, **(T1 | {"acquisition_type": "3D"})), "three-dimensional"),
        (series(5, "t1_se_tra", slices=36, **T1_SPIN_ECHO), "covers more of the head"),
        (with_pixels(series(5, "t1_se_tra", **T1_SPIN_ECHO), 0.6), "finer voxels"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_better_series_is_chosen_and_says_why(better, reason, order):
    worse = series(2, "t1_se_tra", slices=26, **T1_SPIN_ECHO) if "covers" in reason else PLAIN
    chosen = choose(*(worse, better)[::order])
    assert chosen.volume == better
    assert chosen.evidence[-1] == f"rather than Series 2: {reason}"


def test_agreement_of_both_readings_comes_before_everything_else():
    words_only = series(5, "t1_space", slices=160, step_mm=1.0, **(UNKNOWN | {"acquisition_type": "3D"}))
    assert choose(PLAIN, words_only).volume == PLAIN


@pytest.mark.parametrize(("plane", "expected"), [("axial", 2), ("sagittal", 3)])
def test_the_preferred_plane_decides_between_two_dimensional_series(plane, expected):
    chosen = choose(PLAIN, sagittal(series(3, "t1_se_sag", **T1_SPIN_ECHO)), rules=SiteRules(plane=plane))
    assert chosen.volume.series_number == expected
    assert f"{plane} slices" in chosen.evidence[-1]


def test_without_a_preferred_plane_two_planes_are_a_tie():
    held = refused(PLAIN, sagittal(series(3, "t1_se_sag", **T1_SPIN_ECHO)), rules=SiteRules(plane="any"))
    assert held.code == "ambiguous_role"


def test_the_plane_says_nothing_of_three_dimensional_series():
    coarse = series(2, "t1_3d", slices=80, step_mm=2.0, **(T1 | {"acquisition_type": "3D"}))
    fine = sagittal(series(3, "t1_mprage", slices=160, step_mm=1.0, **(T1 | {"acquisition_type": "3D"})))
    assert choose(coarse, fine).volume == fine


def test_a_repeated_series_is_a_tie_for_a_human():
    held = refused(PLAIN, replace(PLAIN, series_uid="1.9", series_number=9))
    assert held.code == "ambiguous_role"
    assert "Series 2 and Series 9" in held.sentence


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_tie_of_lesser_series_is_none_of_the_best(order):
    best = series(
        5, "t1_mprage", slices=160, step_mm=1.0, acquired="20260101115500", **(T1 | {"acquisition_type": "3D"})
    )
    tied = replace(PLAIN, acquired="20260101120000")
    volumes = (tied, replace(tied, series_uid="1.9", series_number=9), best)
    chosen = choose(*(volumes[place] for place in order))
    assert chosen.volume == best
    assert {"rather than Series 2: three-dimensional", "rather than Series 9: three-dimensional"} <= set(
        chosen.evidence
    )


def test_of_one_acquisition_the_corrected_images_are_chosen():
    raw = replace(PLAIN, acquired="20260101120000", image_type=("ORIGINAL", "PRIMARY", "M", "ND"))
    corrected = replace(
        raw, series_uid="1.3", series_number=3, image_type=("ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D")
    )
    assert choose(raw, corrected).volume == corrected
    another = replace(corrected, acquired="20260101120500")
    assert refused(raw, another).code == "ambiguous_role"


def test_derived_images_come_second():
    derived = replace(PLAIN, series_uid="1.3", series_number=3, image_type=("DERIVED", "SECONDARY"))
    assert choose(derived, PLAIN).volume == PLAIN
    assert choose(derived).volume == derived
    assert refused(replace(derived, description="")).code == "ambiguous_role"


# --- contrast agent ---------------------------------------------------------------------------------------------------

EARLY = replace(PLAIN, acquired="20260101120000")
LATE = replace(PLAIN, series_uid="1.8", series_number=8, acquired="20260101122000")


def test_of_two_equal_series_the_one_before_the_injection_is_chosen():
    injected = series(6, "ep2d_perf", contrast_agent=True, acquired="20260101121000")
    chosen = choose(LATE, EARLY, injected)
    assert chosen.volume == EARLY
    assert "acquired before the contrast agent" in chosen.evidence


def test_a_series_after_the_injection_alone_is_left_to_a_human():
    injected = series(6, "t2_flair", contrast_agent=True, acquired="20260101121000", **FLAIR)
    held = refused(LATE, injected)
    assert held.code == "ambiguous_role"
    assert "Series 8" in held.sentence
    assert "Series 6 had contrast agent earlier" in held.sentence


def test_a_marked_series_needs_no_time():
    marked = series(6, "t1_se_tra +C", **T1_SPIN_ECHO)
    assert choose(PLAIN, marked).volume == PLAIN


def test_beside_a_subtraction_the_first_of_two_is_chosen_with_a_reason():
    subtraction = series(9, "T1 SUB", **T1_SPIN_ECHO)
    chosen = choose(LATE, EARLY, subtraction)
    assert chosen.volume == EARLY
    assert chosen.evidence[-1] == "earliest T1 weighted series of a study with a subtraction (Series 9)"


@pytest.mark.parametrize("ones", [(LATE,), (PLAIN, replace(LATE, acquired=None))])
def test_beside_a_subtraction_what_cannot_be_ordered_is_left_to_a_human(ones):
    held = refused(*ones, series(9, "T1 SUB", **T1_SPIN_ECHO))
    assert held.code == "ambiguous_role"
    assert "Series 9 is a subtraction" in held.sentence


def test_a_subtraction_of_perfusion_says_nothing_of_contrast_agent():
    perfusion = series(9, "ASL subtraction", image_type=("DERIVED", "PRIMARY", "ASL", "SUBTRACTION"))
    assert choose(PLAIN, perfusion).volume == PLAIN


def test_a_site_may_allow_contrast_agent_and_still_prefers_none():
    allowed = SiteRules(contrast="allow")
    marked = series(6, "t1_se_tra +C", **T1_SPIN_ECHO)
    held = refused(marked)
    assert held.code == "missing_role"
    assert "after contrast agent" in held.sentence
    assert choose(marked, rules=allowed).volume == marked
    assert choose(marked, PLAIN, rules=allowed).volume == PLAIN


# --- the site's own rules ---------------------------------------------------------------------------------------------


def test_a_site_names_its_own_series():
    local = series(5, "Kopf Programm 7", **T1_SPIN_ECHO)
    rules = SiteRules(names={Contrast.T1W: ("programm 7$",)})
    assert choose(local, rules=rules).scores[Contrast.T1W] == 1.0
    assert "at this site ('Programm 7')" in "; ".join(choose(local, rules=rules).evidence)


def test_a_sites_own_name_outranks_the_built_in_words_but_not_the_physics():
    rules = SiteRules(names={Contrast.T1W: ("^dti anat$",)})
    assert refused(series(5, "DTI anat", **T1_SPIN_ECHO)).code == "missing_role"
    assert choose(series(5, "DTI anat", **T1_SPIN_ECHO), rules=rules).volume.series_number == 5
    assert refused(series(5, "DTI anat", **T2), rules=rules).code == "ambiguous_role"


def test_a_site_excludes_a_series():
    rules = SiteRules(never=("research",))
    assert choose(PLAIN, series(5, "t1_se_tra research", **T1_SPIN_ECHO), rules=rules).volume == PLAIN


def test_a_site_asks_for_more_slices():
    held = refused(PLAIN, rules=SiteRules(min_slices=40))
    assert held.code == "geometry_too_few"
    assert "40" in held.sentence


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_a_human_choice_ends_a_tie():
    twin = replace(PLAIN, series_uid="1.9", series_number=9)
    chosen = choose(PLAIN, twin, choices={Contrast.T1W: "1.9"})
    assert chosen.volume == twin
    assert chosen.evidence[0] == "chosen by hand"


def test_a_human_choice_outranks_a_verdict():
    after = series(6, "t1_se_tra +C", **T1_SPIN_ECHO)
    assert choose(PLAIN, after, choices={Contrast.T1W: "1.6"}).volume == after


def test_of_a_dual_echo_series_the_volume_that_fits_is_taken():
    first = series(6, "Axial PD-T2 TSE", **(T2 | {"te_ms": 12.0}))
    second = series(6, "Axial PD-T2 TSE", **T2)
    candidates = [judge(each) for each in (PLAIN, first, second, OTHERS[1])]
    with pytest.raises(StudyHeld, match="missing_role"):
        select_roles(candidates)
    assert select_roles(candidates, choices={Contrast.T2W: "1.6"})[Contrast.T2W].volume == second


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({Contrast.T1W: "9.9"}, "not in the study"),
        ({Contrast.T1W: "1.101"}, "chosen for T1W and T2W"),
        ({Contrast.T1W: "1.5"}, "15"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(choices, words):
    short = series(5, "t1_se_tra", slices=4, **T1_SPIN_ECHO)
    held = refused(PLAIN, short, choices=choices)
    assert held.code == "choice_unusable"
    assert words in held.sentence


# --- why there is none ------------------------------------------------------------------------------------------------


def test_a_series_that_only_its_geometry_refuses_is_named():
    held = refused(series(5, "t1_se_tra", slices=4, **T1_SPIN_ECHO))
    assert held.code == "geometry_too_few"
    assert held.sentence.startswith("Series 5 would be T1W: 4 slices")


def test_a_series_that_its_geometry_refuses_gives_way_to_a_sound_one():
    assert choose(series(5, "t1_mprage", slices=4, **(T1 | {"acquisition_type": "3D"})), PLAIN).volume == PLAIN


def test_every_missing_role_is_named():
    with pytest.raises(StudyHeld) as caught:
        select_roles([judge(PLAIN)])
    assert caught.value.code == "missing_role"
    assert "is T2W" in caught.value.sentence
    assert "is FLAIR" in caught.value.sentence
