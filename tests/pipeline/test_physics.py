"""What sequence timing says, and where it says too little."""

from __future__ import annotations

from typing import Any

import pytest

from models.contrast import Contrast
from pipeline.select import Verdict, judge
from pipeline.select.physics import read_physics
from tests.pipeline.test_select import text, volume

SE, GR, IR = ("SE",), ("GR",), ("SE", "IR")
EVERY = set(Contrast)


@pytest.mark.parametrize(
    ("tr_ms", "te_ms", "ti_ms", "sequence", "role", "certain", "against"),
    [
        # one of each vendor's usual protocols
        (2300, 2.3, 900, ("GR", "IR"), Contrast.T1W, True, {Contrast.T2W, Contrast.FLAIR}),
        (8.2, 3.2, 450, GR, Contrast.T1W, True, {Contrast.T2W, Contrast.FLAIR}),
        (6.7, 3.1, None, GR, Contrast.T1W, True, {Contrast.T2W, Contrast.FLAIR}),
        (550, 14, None, SE, Contrast.T1W, True, {Contrast.T2W, Contrast.FLAIR}),
        (2200, 9, 860, IR, Contrast.T1W, True, {Contrast.T2W, Contrast.FLAIR}),
        (4100, 8.5, 1600, IR, Contrast.T1W, False, {Contrast.T2W, Contrast.FLAIR}),
        (4500, 100, None, SE, Contrast.T2W, True, {Contrast.T1W, Contrast.FLAIR}),
        (3200, 565, None, SE, Contrast.T2W, True, {Contrast.T1W, Contrast.FLAIR}),
        (9000, 120, 2500, IR, Contrast.FLAIR, True, {Contrast.T1W, Contrast.T2W}),
        (4800, 387, 1650, IR, Contrast.FLAIR, True, {Contrast.T1W, Contrast.T2W}),
        (4000, 194, 1400, SE, Contrast.FLAIR, True, {Contrast.T1W, Contrast.T2W}),
        (12000, 95, 2850, IR, Contrast.FLAIR, True, {Contrast.T1W, Contrast.T2W}),
        # times that other series share: they do not decide alone
        (600, 5, None, GR, Contrast.T1W, False, {Contrast.T2W, Contrast.FLAIR}),
        (22, 3.5, None, GR, Contrast.T1W, False, {Contrast.T2W, Contrast.FLAIR}),
        (520, 23, None, (), Contrast.T1W, False, {Contrast.T2W, Contrast.FLAIR}),
        (7000, 90, None, (), Contrast.T2W, False, {Contrast.T1W}),
        (2500, 80, None, (), Contrast.T2W, False, {Contrast.T1W, Contrast.FLAIR}),
        (7500, 320, 3000, IR, Contrast.FLAIR, False, {Contrast.T1W, Contrast.T2W}),
        # none of the three
        (700, 20, None, GR, None, False, EVERY),
        (4000, 60, 160, IR, None, False, EVERY),
        (2300, 22, None, SE, None, False, {Contrast.T2W, Contrast.FLAIR}),
        (8000, 110, None, IR, None, False, {Contrast.T1W}),
        (1500, 90, None, SE, None, False, {Contrast.T1W}),
        (9000, 20, 2500, IR, None, False, {Contrast.T2W, Contrast.FLAIR}),
    ],
)
def test_timing_speaks_for_a_role_or_against_it(tr_ms, te_ms, ti_ms, sequence, role, certain, against):
    reading = read_physics(volume(tr_ms=tr_ms, te_ms=te_ms, ti_ms=ti_ms, scanning_sequence=sequence))
    assert (reading.role, reading.certain, reading.against) == (role, certain, against)
    assert f"TR {tr_ms:g} ms, TE {te_ms:g} ms" in str(reading.clue)


@pytest.mark.parametrize("missing", ["tr_ms", "te_ms"])
def test_without_its_times_a_volume_says_nothing(missing):
    reading = read_physics(volume(**({"tr_ms": 4500.0, "te_ms": 95.0} | {missing: None})))
    assert (reading.role, reading.against) == (None, frozenset())
    assert "unknown" in str(reading.clue)


@pytest.mark.parametrize(
    ("description", "facts"),
    [
        ("T2 TSE", {"tr_ms": 2300.0, "te_ms": 22.0, "scanning_sequence": SE}),
        ("t1_fl2d", {"tr_ms": 700.0, "te_ms": 20.0, "scanning_sequence": GR}),
        ("FLAIR", {"tr_ms": 4000.0, "te_ms": 60.0, "ti_ms": 160.0, "scanning_sequence": IR}),
        ("T2 FLAIR", {"tr_ms": 9000.0, "te_ms": 120.0, "scanning_sequence": SE}),
    ],
)
def test_a_description_that_its_timing_rules_out_is_ambiguous(description, facts):
    candidate = judge(volume(description, **facts))
    assert candidate.verdict is Verdict.AMBIGUOUS, text(candidate)
    assert "physics" in candidate.evidence[0]


@pytest.mark.parametrize(
    "facts",
    [
        {"tr_ms": 500.0, "te_ms": 4.9, "scanning_sequence": GR},
        {"tr_ms": 7500.0, "te_ms": 88.0},
        {"tr_ms": 800.0, "te_ms": 30.0},
    ],
)
def test_times_that_field_maps_and_echo_planar_series_share_decide_nothing_alone(facts):
    mute = judge(volume("ImageMRSERIES", **facts))
    assert mute.verdict is Verdict.AMBIGUOUS
    assert "nothing else speaks for it" in mute.evidence[0]


def test_the_protocol_speaks_where_the_description_names_nothing():
    spin_echo: dict[str, Any] = {"tr_ms": 550.0, "te_ms": 12.0, "scanning_sequence": SE}
    named = judge(volume("Kopf", protocol="t1_se_tra", **spin_echo))
    assert named.scores[Contrast.T1W] == 1.0
    assert "protocol names T1W" in text(named)
    assert judge(volume("t2_tse", protocol="t1_se_tra", **spin_echo)).verdict is Verdict.AMBIGUOUS


@pytest.mark.parametrize("protocol", ["t1 localizer", "ABDOMEN T1", "HWS", "BRAIN PERFUSION", "T2 L-Spine"])
def test_a_protocol_that_names_what_is_never_chosen_leaves_a_doubt_where_physics_would_decide_alone(protocol):
    spin_echo: dict[str, Any] = {"tr_ms": 550.0, "te_ms": 12.0, "scanning_sequence": SE}
    mute = judge(volume("AX", protocol=protocol, **spin_echo))
    assert mute.verdict is Verdict.AMBIGUOUS
    assert "but the protocol names" in mute.evidence[0]
    assert judge(volume("AX T1", protocol=protocol, **spin_echo)).verdict is Verdict.T1W
    assert judge(volume("AX", protocol="BRAIN W/WO", **spin_echo)).verdict is Verdict.T1W


@pytest.mark.parametrize(("flip_deg", "verdict"), [(2.0, "ambiguous"), (4.0, "ambiguous"), (8.0, "T1W"), (None, "T1W")])
def test_a_fast_gradient_echo_of_a_small_flip_angle_is_not_t1_weighted(flip_deg, verdict):
    fast: dict[str, Any] = {"tr_ms": 6.0, "te_ms": 2.0, "scanning_sequence": GR, "flip_deg": flip_deg}
    assert judge(volume("3D SPGR", **fast)).verdict.value == verdict
    assert judge(volume("3D SPGR", **(fast | {"ti_ms": 450.0}))).verdict is Verdict.T1W


@pytest.mark.parametrize(
    "term",
    [
        "FAT",
        "F",
        "FF",
        "FAT_FRACTION",
        "OUT_PHASE",
        "OPP_PHASE",
        "OPPOSED_PHASE",
        "OP",
        "T1_MAP",
        "R2_STAR MAP",
        "RESAMPLED",
    ],
)
def test_parts_of_a_dixon_and_maps_are_never_chosen_whatever_they_are_called(term):
    spin_echo: dict[str, Any] = {"tr_ms": 550.0, "te_ms": 12.0, "scanning_sequence": SE}
    assert judge(volume("t1_tse_dixon", image_type=("ORIGINAL", "PRIMARY", term), **spin_echo)).verdict is Verdict.NONE
    for part in ("WATER", "W", "IN_PHASE", "IP", "FIL", "FM"):
        water = judge(volume("t1_tse_dixon", image_type=("ORIGINAL", "PRIMARY", part), **spin_echo))
        assert water.verdict is Verdict.T1W


def test_another_body_part_is_never_chosen():
    spin_echo: dict[str, Any] = {"tr_ms": 550.0, "te_ms": 12.0, "scanning_sequence": SE}
    assert judge(volume("t1_tse_sag", body_part="CSPINE", **spin_echo)).verdict is Verdict.NONE
    assert judge(volume("t1_tse_sag", body_part="HEAD", **spin_echo)).verdict is Verdict.T1W


@pytest.mark.parametrize("component", ["PHASE", "REAL", "IMAGINARY"])
def test_only_magnitude_images_are_chosen(component):
    assert judge(volume("t1_se", complex_component=component)).verdict is Verdict.NONE
    assert judge(volume("t1_se", complex_component="MAGNITUDE")).verdict is Verdict.T1W
