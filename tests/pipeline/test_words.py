"""What descriptions say, in the languages of the scanners' operators."""

from __future__ import annotations

import pytest

from models.contrast import Contrast
from pipeline.select.words import exclusions, names_contrast, read_description

NAMES = {
    Contrast.T1W: [
        "T1", "sT1W_3D_TFE", "Sag T1W", "axT1 SE", "t1_mprage_sag", "MP-RAGE", "ir-fspgr", "3D BRAVO", "T1 FLAIR",
        "t1_tirm_tra_dark-fluid", "coupes axiales T1", "T1 gewichtet sag", "T1 ponderado axial", "T1加权 横断位",
        "T1強調 矢状断", "T1压水",
    ],
    Contrast.T2W: [
        "T2", "t2_tse_tra", "T2W_TSE", "axT2 FSE", "AX T2 PROPELLER", "coupes coronales T2", "T2 gewichtet tra",
        "T2 ponderado", "T2加权 轴位", "T2強調", "T2 AC-PC line",
    ],
    Contrast.FLAIR: [
        "FLAIR", "T2 FLAIR", "t2_tirm_tra_dark-fluid", "t2_spc_da-fl_sag", "Sag CUBE FLAIR", "T2压水", "T2 水抑制",
        "FLAIR tra",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("role", "description"), [(role, text) for role, texts in NAMES.items() for text in texts])
def test_a_role_is_named(role, description):
    assert read_description(description)[0] is role
    assert exclusions(description) == []


@pytest.mark.parametrize("description", ["", "Hirn", "3D SAG", "t2_tirm_cor", "T1 T2 dual", "rest1", "part2", "T1000"])
def test_no_role_is_named(description):
    assert read_description(description)[0] is None


@pytest.mark.parametrize(
    ("kind", "descriptions"),
    [
        ("diffusion", ["ep2d_diff_3scan_trace", "DWI b1000", "difusión", "弥散", "拡散強調", "ADC map", "FA"]),
        ("susceptibility", ["SWI", "T2*", "t2_fl2d_tra_hemo", "Ax SWAN", "T2 GRE", "T2 star", "磁敏感"]),
        ("angiography", ["TOF 3D", "MRA COW", "angio veineuse", "3D PC venc", "血管"]),
        ("perfusion", ["pCASL", "DSC perf", "relCBF", "灌注", "T1 dynamic"]),
        ("functional", ["BOLD rest", "resting state", "task-nback", "fMRI"]),
        ("scout", ["localizer", "3 plane loc", "Lokalisator", "repérage", "定位像", "survey", "AAHead_Scout"]),
        ("reformat", ["t1_mprage_MPR_Tra", "COR MPR", "<MPR Collection>", "MIP", "再構成", "重建"]),
        ("field map", ["gre_field_mapping", "B0 map", "SpinEchoFieldMap_AP", "topup"]),
        ("calculated map", ["T1 map", "MP2RAGE UNI", "MAGiC T1", "t1rho"]),
        ("subtraction", ["T1 SUB", "soustraction T1", "Subtraktion", "sustracción", "サブトラクション", "减影"]),
        ("proton density", ["PD TSE", "densité de protons", "Protonendichte", "dual echo T2", "AX T2 DE", "质子"]),
        ("magnetisation", ["2D GRE-MT", "T1 MTC", "neuromelanin"]),
        ("spectroscopy", ["MRS svs", "CSI", "波谱"]),
        ("double or short", ["SAG DIR", "COR T2 STIR"]),
        ("balanced", ["CISS", "FIESTA", "t2_ci3d_tra"]),
        ("another body part", ["T2 lumbar spine", "HWS sag T2", "rachis cervical", "columna T1", "Csp T2", "颈椎 T2"]),
    ],
)  # fmt: skip
def test_what_is_never_chosen_is_named(kind, descriptions):
    for description in descriptions:
        assert any(kind in str(clue) for clue in exclusions(description)), description


@pytest.mark.parametrize(
    "description",
    [
        "MPRage_(Subject_doing_task)", "T2-weighted traceons ac-pc", "t1_mpr_sag_p2_iso", "T1 posterior fossa",
        "T1 sub-01",
        "T1 de craneo", "3D_AX_T1_precontrast", "AX T2 AC-PC LINE", "T1 AIR Recon DL", "t1_fl3d_fa15",
        "T2 different coil",
    ],
)  # fmt: skip
def test_innocent_words_exclude_nothing(description):
    assert exclusions(description) == []


@pytest.mark.parametrize(
    "description",
    [
        "T1 +C", "T1 post gd", "T1 après injection", "T1 mit KM", "nach Gadovist T1", "T1 con contraste", "T1 con mdc",
        "T1 pós gad", "T1 增强", "造影T1", "T1_FS_COR_C", "T1AXgado", "T1 sans et avec inj", "ax t1 +k",
    ],
)  # fmt: skip
def test_contrast_agent_is_named(description):
    assert names_contrast(description)


@pytest.mark.parametrize(
    "description",
    [
        "T1", "T1 w/o contrast", "T1 sans injection", "T1 ohne KM", "T1 ohne i.v. KM", "T1 sin contraste",
        "T1 senza mdc",
        "T1 sem contraste", "T1 平扫", "T1 単純", "T1 造影なし", "T1 non-enhanced", "T1 post-op", "T1 coronal",
        "utan gd T1",
    ],
)  # fmt: skip
def test_contrast_agent_is_not_named(description):
    assert not names_contrast(description)
