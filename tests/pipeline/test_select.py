"""The right series, or the reason why there is none."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import ImplicitVRLittleEndian

from models.contrast import Contrast
from pipeline.geometry import MIN_SLICES
from pipeline.headers import Frame, Volume
from pipeline.select import Candidate, Selection, Verdict, input_digest, judge, select_study
from pipeline.synthetic import SeriesTags, StudyTags, derive_uid, localizer_tags, series_tags, write_series
from tests.benchmarks.selection import ROLES, measure, read_rows
from tests.support.services import SEEDED, real_data

STUDY = StudyTags(study_uid=derive_uid("test select"), **SEEDED)
Facts = dict[str, Any]
T1: Facts = {"tr_ms": 2300.0, "te_ms": 2.9, "ti_ms": 900.0, "scanning_sequence": ("GR", "IR")}
T2: Facts = {"tr_ms": 4500.0, "te_ms": 95.0, "scanning_sequence": ("SE",)}
FLAIR: Facts = {"tr_ms": 9000.0, "te_ms": 120.0, "ti_ms": 2500.0, "scanning_sequence": ("SE", "IR")}
UNKNOWN: Facts = {}
T1_SPIN_ECHO: Facts = {"tr_ms": 550.0, "te_ms": 12.0, "scanning_sequence": ("SE",)}
T1_FLAIR: Facts = {"tr_ms": 2200.0, "te_ms": 12.0, "ti_ms": 860.0, "scanning_sequence": ("SE", "IR")}


def volume(description: str = "", slices: int = 30, step_mm: float = 5.0, **facts) -> Volume:
    """Return an axial volume of a whole head."""
    frames = tuple(
        Frame(Path(f"{i}"), 0, f"1.{i}", (0.0, 0.0, i * step_mm), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (1.0, 1.0), 256, 256)
        for i in range(slices)
    )
    unknown: Facts = {
        "study_uid": "1", "series_uid": "1.1", "series_number": 1, "protocol": "", "modality": "MR",
        "sop_class_uid": "", "manufacturer": "", "image_type": ("ORIGINAL", "PRIMARY"), "scanning_sequence": (),
        "sequence_variant": (), "scan_options": (), "acquisition_type": "2D", "tr_ms": None, "te_ms": None,
        "ti_ms": None, "flip_deg": None, "b_value": None, "contrast_agent": False, "samples_per_pixel": 1,
    }  # fmt: skip
    return Volume(description=description, frames=frames, **(unknown | facts))


def noise(seed: int) -> sitk.Image:
    """Return a stack that covers a head, of meaningless values."""
    image = sitk.GetImageFromArray(np.random.default_rng(seed).integers(0, 900, (24, 16, 20)).astype(np.int16))
    image.SetSpacing((9.0, 9.5, 5.0))
    return image


def write(folder: Path, tags: SeriesTags, *, seed: int | None = None, study: StudyTags = STUDY) -> list[Path]:
    return write_series(noise(tags.number if seed is None else seed), folder / f"{tags.number}", study, tags)


def triplet(folder: Path, *, without: Contrast | None = None) -> dict[Contrast, list[Path]]:
    return {role: write(folder, series_tags(role)) for role in Contrast if role is not without}


def flat(files: dict[Contrast, list[Path]]) -> list[Path]:
    return [path for paths in files.values() for path in paths]


def edit(path: Path, **attributes) -> Path:
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def held(selection: Selection) -> str:
    assert selection.held is not None
    assert selection.held.sentence.endswith(".")
    assert selection.roles == {}
    return selection.held.code


def text(candidate: Candidate) -> str:
    return "; ".join(candidate.evidence)


# --- one series -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("description", "facts", "verdict"),
    [
        # agreement of both readings
        ("t1_mprage_sag", T1, Verdict.T1W),
        ("Ax T1 SE", T1_SPIN_ECHO, Verdict.T1W),
        ("t2_tse_tra", T2, Verdict.T2W),
        ("AX T2 FLAIR", FLAIR, Verdict.FLAIR),
        # FLAIR before T2
        ("t2_flair_cor", UNKNOWN, Verdict.FLAIR),
        ("t2_tirm_tra_dark-fluid", FLAIR, Verdict.FLAIR),
        ("t2_spc_da-fl_sag", FLAIR, Verdict.FLAIR),
        ("T2 dark fluid", UNKNOWN, Verdict.FLAIR),
        # T1 weighted inversion recovery is not FLAIR
        ("t1_tirm_tra_dark-fluid", T1_FLAIR, Verdict.T1W),
        ("Sag T1 FLAIR", T1_FLAIR, Verdict.T1W),
        ("OAx T1 FLAIR", UNKNOWN, Verdict.T1W),
        ("FLAIR T1", UNKNOWN, Verdict.T1W),
        # vendors' names for T1 weighted volumes
        ("Sag 3D BRAVO", UNKNOWN, Verdict.T1W),
        ("FSPGR 3D", UNKNOWN, Verdict.T1W),
        ("3D TFE", UNKNOWN, Verdict.T1W),
        # physics alone
        ("", T1, Verdict.T1W),
        ("Hirn", T1_SPIN_ECHO, Verdict.T1W),
        ("", T2, Verdict.T2W),
        ("brain", FLAIR, Verdict.FLAIR),
        ("", UNKNOWN, Verdict.NONE),
        # neither of the three
        ("PD TSE", {"tr_ms": 3000.0, "te_ms": 15.0}, Verdict.NONE),
        ("", {"tr_ms": 3000.0, "te_ms": 15.0}, Verdict.NONE),
        ("", T2 | {"scanning_sequence": ("SE", "IR")}, Verdict.NONE),
        ("ep2d_diff_3scan_trace", T2, Verdict.NONE),
        ("ADC", T2, Verdict.NONE),
        ("t2_fl2d_tra_hemo", {"tr_ms": 620.0, "te_ms": 20.0}, Verdict.NONE),
        ("T2*", UNKNOWN, Verdict.NONE),
        ("t1_mprage_sag_MPR_Tra", T1, Verdict.NONE),
        ("T1 localizer", UNKNOWN, Verdict.NONE),
        ("anat-scout T1", T1, Verdict.NONE),
        ("TOF 3D", {"tr_ms": 22.0, "te_ms": 3.5}, Verdict.NONE),
        ("pcasl T1", UNKNOWN, Verdict.NONE),
        ("T2 lumbar spine", T2, Verdict.NONE),
        ("dual echo PD T2", T2, Verdict.NONE),
        ("t1_mp2rage_UNI", T1, Verdict.NONE),
        ("T1 subtract", T1, Verdict.NONE),
    ],
)
def test_series_is_called_what_it_is(description, facts, verdict):
    candidate = judge(volume(description, **facts))
    assert candidate.verdict is verdict, text(candidate)
    assert candidate.evidence
    positive = {role.value for role in Contrast if candidate.scores[role] > 0}
    assert positive == ({verdict.value} & set(ROLES))


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"image_type": ("DERIVED", "SECONDARY", "MPR")}, "reformat"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "P", "ND")}, "phase image"),
        ({"image_type": ("DERIVED", "SECONDARY", "SUBTRACTION")}, "subtraction"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC")}, "mosaic"),
        ({"samples_per_pixel": 3}, "colour"),
        ({"b_value": 1000.0}, "b = 1000"),
        ({"scanning_sequence": ("SE", "EP")}, "echo-planar"),
        ({"slices": MIN_SLICES - 1}, f"at least {MIN_SLICES}"),
    ],
)
def test_series_that_can_play_no_role_says_why(facts, reason):
    assert judge(volume("t2_tse_tra", **T2)).verdict is Verdict.T2W
    candidate = judge(volume("t2_tse_tra", **(T2 | facts)))
    assert candidate.verdict is Verdict.NONE
    assert reason in text(candidate)


def test_planes_without_a_position_play_no_role():
    whole = volume("t2_tse_tra", **T2)
    lost = replace(whole, frames=(*whole.frames[:-1], replace(whole.frames[-1], position_mm=None)))
    candidate = judge(lost)
    assert candidate.verdict is Verdict.NONE
    assert "ImagePositionPatient" in text(candidate)


@pytest.mark.parametrize(
    "description",
    [
        "T1 +C", "T1 C+", "t1_mprage_tra_KM", "T1 post gd", "T1 GD", "3D T1 GADO", "T1 SE après gado", "Ax T1 post",
        "MPRAGE POST", "T1 con contraste", "T1 mit Kontrastmittel", "t1_ce", "T1 sans et avec inj", "T1 增强",
        "T1 造影", "T1 pre/post contrast", "T1_POSTCON",
    ],
)  # fmt: skip
def test_t1_after_contrast_agent_is_not_t1w(description):
    candidate = judge(volume(description, **T1))
    assert candidate.verdict is Verdict.NONE
    assert "contrast" in candidate.evidence[0]


@pytest.mark.parametrize(
    "description",
    [
        "T1", "T1 pre contrast", "T1 W/O", "T1 without contrast", "T1 sans inj", "T1 ohne KM", "T1 sin contraste",
        "T1 non-contrast", "T1 posterior fossa", "T1 非增强", "T1 造影前",
    ],
)  # fmt: skip
def test_t1_before_contrast_agent_is_t1w(description):
    assert judge(volume(description, **T1)).verdict is Verdict.T1W


def test_contrast_agent_in_the_header_rules_out_t1w_only():
    assert judge(volume("t1_mprage", contrast_agent=True, **T1)).verdict is Verdict.NONE
    assert judge(volume("t2_tse", contrast_agent=True, **T2)).verdict is Verdict.T2W
    assert judge(volume("t2_flair", contrast_agent=True, **FLAIR)).verdict is Verdict.FLAIR


@pytest.mark.parametrize(
    ("description", "facts", "roles"),
    [
        ("t1_mprage", T2, {Contrast.T1W, Contrast.T2W}),
        ("t2_tse", FLAIR, {Contrast.T2W, Contrast.FLAIR}),
        ("t2_flair", T2, {Contrast.T2W, Contrast.FLAIR}),
        ("flair", T1, {Contrast.T1W, Contrast.FLAIR}),
    ],
)
def test_description_against_physics_is_ambiguous(description, facts, roles):
    candidate = judge(volume(description, **facts))
    assert candidate.verdict is Verdict.AMBIGUOUS
    assert {role for role in Contrast if candidate.scores[role] > 0} == roles
    assert "physics speaks for" in candidate.evidence[0]


def test_agreement_counts_more_than_either_reading():
    both, physics, words = (
        judge(volume(description, **facts)).scores[Contrast.T2W]
        for description, facts in (("t2_tse", T2), ("", T2), ("t2_tse", UNKNOWN))
    )
    assert both > physics > words > 0


# --- real strings -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures() -> dict:
    return measure(read_rows(real_data("strings", "series-strings.tsv")))


def test_real_strings_with_physics(figures):
    assert figures["details"]["with_physics"]["rows"] == 893
    for role in ROLES:
        assert figures["with_physics"][role]["precision"] >= 0.995
        assert figures["with_physics"][role]["recall"] >= 0.98


def test_real_strings_by_description_alone(figures):
    for role in ROLES:
        assert figures["description_only"][role]["precision"] >= 0.99
        assert figures["description_only"][role]["recall"] >= 0.96


def test_traps_fool_nobody(figures):
    for reading in ("description_only", "with_physics"):
        traps = figures["details"][reading]["traps"]
        assert {role: traps[role]["precision"] for role in ROLES} == dict.fromkeys(ROLES, 1.0)


def test_strings_without_information_are_declined_without_physics(figures):
    mute = figures["details"]["description_only"]["no_information"]
    assert mute == {"rows": 21, "wrong_role": 0, "declined": 21}


def test_benchmark_prints_its_figures_as_json_and_as_text(tmp_path):
    table = tmp_path / "few.tsv"
    columns = ["string", "label", "manufacturer", "tr_ms", "te_ms", "ti_ms", "image_type", "source", "quality", "trap"]
    rows = [
        ['t1 "mprage', "T1W", "Siemens", "2300", "2.9", "900", "ORIGINAL\\PRIMARY", "", "source", ""],
        ["t1_mprage", "T2W", "Siemens", "", "", "", "", "", "source", "wrong on purpose"],
        ["brain", "FLAIR", "GE", "9000", "120", "2500", "", "", "source", ""],
        ["PPMI 2.0", "DWI", "GE", "", "", "", "", "", "no-information", ""],
    ]
    table.write_text("\n".join("\t".join(row) for row in [columns, *rows]) + "\n", "utf-8")
    run = [sys.executable, "-m", "tests.benchmarks.selection", str(table)]
    folder = Path(__file__).parents[2]
    printed = subprocess.run([*run, "--json"], capture_output=True, text=True, check=True, cwd=folder).stdout
    result = json.loads(printed)
    assert result["description_only"] == {
        "T1W": {"precision": 0.5, "recall": 1.0},
        "T2W": {"precision": None, "recall": 0.0},
        "FLAIR": {"precision": None, "recall": 0.0},
    }
    assert result["with_physics"]["FLAIR"] == {"precision": 1.0, "recall": 1.0}
    details = result["details"]["description_only"]
    assert [error["string"] for error in details["errors"]] == ["t1_mprage", "brain"]
    assert details["confusion"]["Siemens"] == {"T1W": {"T1W": 1}, "T2W": {"T1W": 1}}
    assert details["no_information"] == {"rows": 1, "wrong_role": 0, "declined": 1}
    shown = subprocess.run(run, capture_output=True, text=True, check=True, cwd=folder).stdout
    assert "T2W -> T1W: 't1_mprage'" in shown


# --- one study --------------------------------------------------------------------------------------------------------


def test_whole_study_is_selected(quick_study):
    selection = select_study(quick_study.all_files)
    assert selection.held is None
    assert selection.study_uid == quick_study.study_uid
    assert selection.problems == ()
    for role in Contrast:
        assert set(selection.roles[role].files) == set(quick_study.files[role])
        assert selection.roles[role].series_number == series_tags(role).number
        assert selection.roles[role].evidence
        assert set(selection.volumes[role].files) == set(quick_study.files[role])


@pytest.mark.parametrize("role", list(Contrast))
def test_missing_role(sent, role):
    files = triplet(sent, without=role)
    selection = select_study(flat(files))
    assert held(selection) == "missing_role"
    assert role in selection.held.sentence


def test_nothing_at_all_is_no_study(sent):
    assert held(select_study([])) == "missing_role"
    (sent / "note.txt").write_text("no image")
    selection = select_study([sent / "note.txt"])
    assert held(selection) == "no_dicom_files"
    assert [problem.code for problem in selection.problems] == ["file_not_dicom"]


def test_two_series_that_fit_equally_are_an_ambiguous_role(sent):
    files = triplet(sent)
    twin = write(sent, series_tags(Contrast.T2W, number=12))
    selection = select_study([*flat(files), *twin])
    assert held(selection) == "ambiguous_role"
    assert "Series 12" in selection.held.sentence


def test_only_candidate_that_contradicts_itself_is_an_ambiguous_role(sent):
    files = triplet(sent, without=Contrast.T2W)
    odd = write(sent, replace(series_tags(Contrast.FLAIR, number=12), description="t2_tse_tra", protocol="t2_tse_tra"))
    selection = select_study([*flat(files), *odd])
    assert held(selection) == "ambiguous_role"
    assert "Series 12" in selection.held.sentence


def test_three_dimensional_series_is_preferred(sent):
    files = triplet(sent)
    tags = series_tags(Contrast.T2W, number=12)
    space = write(sent, replace(tags, description="t2_space", protocol="t2_space", mr_acquisition_type="3D"))
    selection = select_study([*flat(files), *space])
    assert selection.held is None
    assert set(selection.roles[Contrast.T2W].files) == set(space)


def test_bystanders_change_nothing(sent):
    files = triplet(sent)
    before = select_study(flat(files))
    bystanders = [
        *write(sent, replace(series_tags(Contrast.T1W, number=20), contrast_agent="Gadobutrol")),
        *write(sent, replace(series_tags(Contrast.T2W, number=21), description="ep2d_diff", protocol="ep2d_diff")),
        *write(sent, localizer_tags(22)),
    ]
    after = select_study([*flat(files), *bystanders])
    assert after.held is None
    assert after.digest == before.digest
    assert {r: set(s.files) for r, s in after.roles.items()} == {r: set(s.files) for r, s in before.roles.items()}
    assert [c.verdict for c in after.candidates if c.volume.series_number >= 20] == [Verdict.NONE] * 3


def test_files_of_two_studies_are_held(sent):
    files = flat(triplet(sent))
    other = replace(STUDY, study_uid=derive_uid("another study"))
    stray = write(sent / "other", series_tags(Contrast.T1W), study=other)
    selection = select_study([*files, *stray])
    assert held(selection) == "several_studies"
    assert selection.study_uid == ""


@pytest.mark.parametrize("name", ["0.dcm", "z.dcm"])
def test_selected_instance_with_two_contents_is_held(sent, name):
    files = triplet(sent)
    other = edit(Path(shutil.copy(files[Contrast.FLAIR][0], sent / name)), PixelData=bytes(16 * 20 * 2))
    selection = select_study([*flat(files), other])
    assert held(selection) == "conflicting_instances"
    assert "FLAIR" in selection.held.sentence


@pytest.mark.parametrize("name", ["0.dcm", "z.dcm"])
def test_selected_instance_that_another_series_claims_too_is_held(sent, name):
    files = triplet(sent)
    stray = Path(shutil.copy(files[Contrast.FLAIR][0], sent / name))
    edit(stray, SeriesInstanceUID=derive_uid("another series"), SeriesNumber=99)
    assert held(select_study([*flat(files), stray])) == "conflicting_instances"


def test_conflict_in_a_bystander_is_no_reason(sent):
    files = triplet(sent)
    localizer = write(sent, localizer_tags(9))
    other = edit(Path(shutil.copy(localizer[0], sent / "other.dcm")), PixelData=bytes(16 * 20 * 2))
    assert select_study([*flat(files), *localizer, other]).held is None


@pytest.mark.parametrize("role", list(Contrast))
def test_damaged_file_of_a_selected_series_is_held(sent, role):
    files = triplet(sent)
    damaged = files[role][-1]
    damaged.write_bytes(damaged.read_bytes()[:-20])
    selection = select_study(flat(files))
    assert held(selection) == "pixel_data_damaged"
    assert role in selection.held.sentence
    assert [problem.path for problem in selection.problems] == [damaged]


def test_an_instance_that_came_damaged_and_then_whole_is_whole(sent):
    files = triplet(sent)
    whole = select_study(flat(files))
    damaged = sent / "damaged.dcm"
    damaged.write_bytes(files[Contrast.T2W][-1].read_bytes()[:-20])
    selection = select_study([*flat(files), damaged])
    assert selection.held is None
    assert selection.digest == whole.digest
    assert [problem.path for problem in selection.problems] == [damaged]


PRIVATE = ("1.3.46.670589.11.0.0.12.1", "1.3.12.2.1107.5.9.1", "1.2.840.113619.4.30")


def private_object(like: Path, kind: str) -> Path:
    """Write what a scanner puts among the images of a series: an object of a private class without pixels."""
    dataset = pydicom.dcmread(like)
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(dataset, keyword)
    dataset.SOPClassUID = kind
    dataset.SOPInstanceUID = derive_uid(dataset.SOPInstanceUID, kind)
    path = like.with_name(f"{like.stem}-{kind}.dcm")
    dataset.save_as(path)
    return path


def test_private_objects_among_the_images_of_the_selected_series_are_bystanders(sent):
    files = triplet(sent)
    whole = select_study(flat(files))
    private = [private_object(paths[3], kind) for paths in files.values() for kind in PRIVATE]
    selection = select_study([*flat(files), *private])
    assert selection.held is None
    assert selection.digest == whole.digest
    assert {problem.path for problem in selection.problems} == set(private)
    assert {problem.code for problem in selection.problems} == {"not_mr_image"}


@pytest.mark.parametrize(
    "changed", [{"SOPClassUID": PRIVATE[0]}, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, {"Modality": "CT"}]
)
@pytest.mark.parametrize("at", [0, 3, -1])
def test_a_slice_that_calls_itself_something_else_is_missed(sent, changed, at):
    files = triplet(sent)
    edit(files[Contrast.FLAIR][at], **changed)
    assert held(select_study(flat(files))) == "pixel_data_damaged"


def test_damaged_file_of_a_bystander_is_only_listed(sent):
    files = triplet(sent)
    localizer = write(sent, localizer_tags(9))
    localizer[0].write_bytes(localizer[0].read_bytes()[:-20])
    selection = select_study([*flat(files), *localizer])
    assert selection.held is None
    assert [problem.code for problem in selection.problems] == ["pixel_data_truncated"]


# --- digest -----------------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_names_order_and_folders_do_not_change_the_selection(sent, seed):
    shutil.rmtree(sent)
    files = flat(triplet(sent))
    before = select_study(files)
    dice = random.Random(seed)
    names = dice.sample(range(10**6), len(files))
    moved = []
    for file, name in zip(files, names, strict=True):
        folder = sent / f"part{name % 3}"
        folder.mkdir(exist_ok=True)
        moved.append(file.rename(folder / f"{name}"))
    dice.shuffle(moved)
    after = select_study(moved)
    assert after.held is None
    assert after.digest == before.digest
    assert {r: s.series_uid for r, s in after.roles.items()} == {r: s.series_uid for r, s in before.roles.items()}


def test_digest_follows_the_content(sent):
    files = triplet(sent)
    digests = {select_study(flat(files)).digest}
    for role in Contrast:
        content = bytearray(files[role][3].read_bytes())
        content[-1] ^= 1
        files[role][3].write_bytes(content)
        digests.add(select_study(flat(files)).digest)
    files[Contrast.T1W].pop().unlink()
    digests.add(select_study(flat(files)).digest)
    assert len(digests) == 5


@pytest.mark.parametrize("role", list(Contrast))
def test_the_digest_of_two_sequences_is_that_of_their_content(sent, role):
    files = triplet(sent, without=role)
    held_one = select_study(flat(files))
    two = held_one.without
    late = select_study([*flat(files), *write(sent, localizer_tags(22))])
    assert late.digest != held_one.digest
    assert late.without.digest == two.digest != held_one.digest
    changed = files[next(iter(files))][3]
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    assert select_study(flat(files)).without.digest != two.digest


def test_the_digest_of_two_sequences_says_which_is_missing(sent):
    roles = select_study(flat(triplet(sent))).roles
    digests = {input_digest({r: s for r, s in roles.items() if r is not missing}) for missing in (*Contrast, None)}
    assert len(digests) == 4


def test_digest_ignores_copies_and_file_meta(sent):
    files = flat(triplet(sent))
    before = select_study(files).digest
    copy = Path(shutil.copy(files[0], sent / "copy.dcm"))
    assert select_study([*files, copy]).digest == before
    dataset = pydicom.dcmread(files[1])
    dataset.file_meta.SourceApplicationEntityTitle = "ANOTHER"
    dataset.save_as(files[1])
    assert select_study(files).digest == before


def test_encoding_does_not_change_what_is_selected(sent):
    files = flat(triplet(sent))
    before = select_study(files)
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.save_as(file)
    after = select_study(files)
    assert after.held is None
    assert after.roles == before.roles


# --- real folders -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("folder", "role", "verdicts"),
    [
        ("philips-mprage", "T1W", 1),
        ("siemens-decubitus", "T1W", 1),
        ("xa30-enhanced", "T1W", 1),
        ("jpeg-fragments", None, 0),
        ("transfer-syntaxes", None, 0),
        ("philips-enhanced", None, 0),
        ("uih-dti", None, 0),
        ("canon-enhanced", None, 0),
        ("toshiba-dti", None, 0),
        ("ge-pd", None, 0),
        ("ge-localizer", None, 0),
        ("siemens-scouts", None, 0),
        ("pydicom", None, 0),
    ],
)
def test_real_folder_holds_what_its_readme_says(folder, role, verdicts):
    selection = select_study(path for path in real_data(folder).rglob("*") if path.is_file())
    assert held(selection) in {"missing_role", "several_studies", "geometry_coverage"}
    chosen = [candidate.verdict.value for candidate in selection.candidates if candidate.verdict is not Verdict.NONE]
    assert chosen == [role] * verdicts


@pytest.mark.filterwarnings("ignore")
def test_no_case_of_few_slices_is_selected():
    for case in real_data("dicom2nifti").iterdir():
        selection = select_study(case.iterdir())
        assert held(selection) in {"missing_role", "geometry_too_few", "geometry_duplicate"}, case.name
        assert {candidate.verdict for candidate in selection.candidates} <= {Verdict.NONE}, case.name
