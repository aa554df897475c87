"""What descriptions say, in the languages of the scanners' operators."""

from __future__ import annotations

import pytest

from models.contrast import Contrast
from pipeline.select.words import exclusions, names_contrast, read_description

NAMES = {
    Contrast.T1W: [
        "T1", "sT1W_3D_TFE", "eeT1W_TSE", "Sag T1W", "axT1 SE", "t1_mprage_sag", "MP-RAGE", "ir-fspgr",
        "3D BRAVO", "T1 FLAIR",
        "t1_tirm_tra_dark-fluid", "coupes axiales T1", "T1 gewichtet sag", "T1 ponderado axial", "T1加权 横断位",
        "T1強調 矢状断", "T1压水",
    ],
    Contrast.T2W: [
        "T2", "t2_tse_tra", "eeT2W SPAIR", "T2W_TSE", "axT2 FSE", "AX T2 PROPELLER", "coupes coronales T2",
        "T2 gewichtet tra",
        "T2 ponderado", "T2加权 轴位", "T2強調", "T2 AC-PC line",
    ],
    Contrast.FLAIR: [
        "FLAIR", "T2 FLAIR", "t2_tirm_tra_dark-fluid", "t2_spc_da-fl_sag", "Sag CUBE FLAIR", "T2压水", "T2 水抑制",
        "FLAIR tra", "t2_tse_cor_dark-fl", "T2 BLADE darkfl",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("role", "description"), [(role, text) for role, texts in NAMES.items() for text in texts])
def test_a_role_is_named(role, description):
    assert read_description(description)[0] is role
    assert exclusions(description) == []


@pytest.mark.parametrize(
    "description",
    [
        "", "Hirn", "3D SAG", "t2_tirm_cor", "T2 TRA NAV", "T1 T2 dual", "rest1", "part2", "T1000", "T2 IR tra",
        "t2_tir_cor", "irT2 SPACE", "IR T2 sag", "T2prep 3D", "T2-prep tra", "FLAIR AX T1", "T1 SAG FSE 3MM THIN FLAIR",
        "T2 AX RTr", "HASTE resp trig",
    ],
)  # fmt: skip
def test_no_role_is_named(description):
    assert read_description(description)[0] is None


@pytest.mark.parametrize(
    ("kind", "descriptions"),
    [
        ("diffusion", ["ep2d_diff_3scan_trace", "DWI b1000", "difusión", "弥散", "拡散強調", "ADC map", "FA"]),
        ("susceptibility", ["SWI", "T2*", "t2_fl2d_tra_hemo", "Ax SWAN", "T2 GRE", "T2 star", "磁敏感"]),
        ("angiography", ["TOF 3D", "MRA COW", "angio veineuse", "3D PC venc", "血管"]),
        ("perfusion", ["pCASL", "DSC perf", "sPWI", "AX PWI 40 phases", "relCBF", "灌注", "T1 dynamic"]),
        ("functional", ["BOLD rest", "resting state", "task-nback", "fMRI"]),
        ("scout", ["localizer", "3 plane loc", "Lokalisator", "repérage", "定位像", "survey", "AAHead_Scout"]),
        ("reformat", ["t1 mpr ax rek", "t1_mprage_MPR_Tra", "COR MPR", "<MPR Collection>", "MIP", "再構成", "重建"]),
        ("field map", ["gre_field_mapping", "B0 map", "SpinEchoFieldMap_AP", "topup"]),
        ("calculated map", ["T1 map", "MP2RAGE UNI", "MAGiC T1", "t1rho"]),
        ("subtraction", ["T1 SUB", "soustraction T1", "Subtraktion", "sustracción", "サブトラクション", "减影"]),
        ("proton density", ["PD TSE", "densité de protons", "Protonendichte", "dual echo T2", "AX T2 DE", "质子"]),
        ("magnetisation", ["2D GRE-MT", "T1 MTC", "neuromelanin"]),
        ("spectroscopy", ["MRS svs", "CSI", "波谱"]),
        ("double or short", ["SAG DIR", "COR T2 STIR"]),
        ("balanced", ["T2 Ax BASG 3D", "Ax COSMIC T2", "CISS", "FIESTA", "t2_ci3d_tra"]),
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
        "T2 different coil", "T2 difficult patient", "T1 MPRAGE WB", "WB space T2", "t1_mprage_Head_Neck_20",
        "MPRAGE eyes closed", "MPRAGE multi-echo", "T2 TSE MB2", "T1 orbitofrontal", "T1 Nuclear Medicine",
        "T1 Orange",
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
        "T1", "SAG T-1", "T1 KM-", "T1 Gd -", "T1 IV-", "preT1",
        "T1 w/o contrast", "T1 sans injection", "T1 ohne KM", "T1 ohne i.v. KM", "T1 sin contraste",
        "T1 senza mdc",
        "T1 sem contraste", "T1 平扫", "T1 単純", "T1 造影なし", "T1 non-enhanced", "T1 post-op", "T1 coronal",
        "utan gd T1",
    ],
)  # fmt: skip
def test_contrast_agent_is_not_named(description):
    assert not names_contrast(description)


AFTER_CONTRAST_AGENT = [
    "AX T1 WITH", "T1 w/", "T1 s KL", "T1 {C}", "T1 İKM", "T1 с контр.", "postT1", "T1 po k.",
    "AX T1 POS", "AX T1 DIXON VEIN_W", "T1 portal",
    "T1C", "T1c", "T1CE", "t1ce", "T1Gd", "T1-Gd", "T1GD SAG", "sPost Ax T1", "ssPost T1W", "sPOST T1 COR",
    "Ax T1+C", "Ax T1 +C", "AX T1 C+", "T1 FS C+", "T1w+Gd", "t1_mprage_gad", "T1 post", "T1Post1",
    "T1_Post_2", "T1 postgad", "T1 POSTCONTRAST", "T1 KM", "T1_mKM", "T1 m.KM", "T1 mit KM", "T1 n. KM",
    "T1 nach KM", "t1 fl2d tra +KM", "T1 SE tra KM", "T1 injecté", "T1 injectée 3D", "T1 INJECTE", "T1 inj",
    "T1 GADO", "T1 gado", "T1 après gado", "T1 avec injection", "T1 avec PDC", "T1 con contraste",
    "T1 con civ", "T1 c/civ", "T1 c/ contraste", "T1 CIV", "T1 poscontraste", "T1 pos contraste",
    "T1 POSTCONTRASTE", "T1 contrastado", "T1 con gd", "T1 com contraste", "T1 pós-contraste", "T1 pós gd",
    "T1 c/ gd", "T1 con mdc", "T1 dopo mdc", "T1 MDC", "T1 post-mdc", "T1 con m.d.c.", "T1 po kontraście",
    "T1 po kontr", "T1 po kontr.", "T1 z kontrastem", "T1 po KM", "T1 PO GD", "T1 kontrastlı", "T1 KONTRASTLI",
    "T1 KONTRASTLİ", "T1 IVKM", "T1 IV kontrast", "T1 kontrast sonrası", "T1 с контрастом", "T1 КОНТРАСТ",
    "Т1 контраст", "T1 с КУ", "T1 +КУ", "T1 после контраста", "T1 постконтраст", "T1 с в/в усилением", "T1 增强",
    "T1 增强扫描", "T1增强3D", "T1 增強", "T1 强化", "T1 造影", "T1 造影後",
    "造影T1", "T1 造影剤", "T1 Gd造影", "T1 조영", "T1 조영증강",
    "T1 조영 후", "조영후 T1", "T1 顯影", "T1 打藥", "T1 CE", "T1 vibe CE", "T1 enhanced", "T1 CONTRAST ENHANCED",
    "T1 Delayed", "T1 DELAY", "T1 w/ contrast", "T1 with gad", "T1 W/GAD", "T1 w/c", "T1 +gad", "T1 +K",
    "T1 +", "T1+", "T1w+", "T1 +С", "T1_C", "MPRAGE C", "MPRAGE +", "MPRAGE post", "3D BRAVO+C", "T1 GdDTPA",
    "T1 Dotarem", "nach Gadovist T1", "T1 med kontrast", "T1 efter kontrast", "T1 met contrast",
    "T1 na contrast", "T1 na gado", "T1 cu contrast", "T1 po KL", "T1 tehosteaine", "Ax T1 P0ST",
    "ce-T1 MPRAGE", "ceT1w", "T1 w/wo contrast", "T1 w & w/o", "AX T1 FS POST GAD", "t1_tse_tra_fs_Gd",
    "T1_SE_C_SENSE", "T1 C sag", "T1 tra p.c.", "T1 AX K", "T1 PST", "T1 high res contrast", "T1 post treatment gad",
    "T1 FLAIR +C", "SAG T1 CUBE +C", "T1 VISTA C+", "QS - Ax T1 post", "T1 gk", "GAD T1", "T1 MR C+ fs",
    "T1 GAD FS", "ax T1 post fs", "T1 Cont", "T1 CONTR", "T1 k.m.", "T1 i.v.", "T1 IV",
]  # fmt: skip
BEFORE_CONTRAST_AGENT = [
    "T1", "T1 w/o contrast", "T1 sans injection", "T1 sans gado", "T1 sans PDC", "T1 ohne KM", "T1 oKM",
    "T1 o. KM", "T1 vor KM", "T1 sin contraste", "T1 s/ contraste", "T1 s/c", "T1 sem contraste", "T1 sem gd",
    "T1 senza mdc", "T1 bez kontrastu", "T1 przed kontr", "T1 kontrastsız", "T1 KONTRASTSIZ",
    "T1 kontrast öncesi", "T1 без контраста", "T1 без КУ", "T1 до контраста", "T1 бесконтрастное", "T1 平扫",
    "T1 未增强", "T1 增强前", "T1 造影前", "T1 造影なし", "T1 単純",
    "T1 조영 전", "T1 조영전", "T1 비조영", "T1 C-", "T1 -C",
    "T1 non contrast", "T1 noncontrast", "T1 NO GAD", "T1 pre", "T1 PRE GAD", "T1 precontrast",
    "T1 pre-contrast", "T1 unenhanced", "T1 post-op", "T1 postop", "T1 post fossa", "T1 posterior fossa",
    "T1 coronal", "COR T1", "t1_mpr_sag_p2_iso", "t1_mpr", "T1 iso MPR", "T1W_ISO_mpr",
    "SAG T1 MPR", "3D MPR", "T1 3D MPR SAG",
    "sIP Ax T1W_mDIXON", "T1 dixon in", "T1 DIXON W", "t1_vibe_dixon_tra_W", "swater Ax T1W", "InPhase: Ax T1",
    "T1 FAT SAT", "COR T1 FATSAT", "T1 FAT SUP", "T1 FS", "ssT1W_3D_TFE", "T1 AIR Recon DL", "T1 memprage 4e",
    "t1_tse_r2", "T1 R2", "T1 SENSE R2", "T1 NATIVE", "T1 nativ", "T1 矢状位", "T1 横断位", "T1 矢状断", "T1 시상",
    "T1 сагиттальная", "T1 sagittale", "T1 axiale", "T1 Nachbar", "T1 hippocampus", "T1 temporal",
    "T1 high res", "T1 frontal", "T1 CRANEO", "T1 cabeza", "T1 cerveau", "T1 Kopf", "T1 Schädel", "T1 testa",
    "T1 głowa", "T1 baş", "T1 kafa", "T1 beyin", "T1 голова", "T1 головной мозг", "T1 头", "T1 颅脑", "T1 头颅",
    "T1 頭部", "T1 뇌", "T1 oral", "T1 high contrast", "MPRAGE_HighContrast", "T1 hi-contrast",
    "MPRAGE tissue contrast", "T1 post treatment", "MPRAGE_posttest", "T1 post-RADIATION", "T1 postictal",
]  # fmt: skip
PLAIN_T2W = [
    "T2", "T2 TSE r2", "t2_tse_tra_R2", "T2 GRASE", "T2 DIXON W", "sCor T2Water", "T2 FS", "T2 FAT SAT",
    "T2 BLADE", "T2 PROPELLER", "T2 CUBE", "ss T2", "ssT2W", "T2 横断位", "T2 축상", "T2 craneo", "T2 w/o",
    "T2 Air Recon DL", "T2 hippocampus", "SSFSE", "HASTE", "FRFSE ax", "T2prep SPACE T2", "OAxT2 FSE", "frfseT2",
]  # fmt: skip
NONE_OF_THE_THREE = [
    "T1 quantitation", "T1 quantification", "T1 map", "T1_MAP", "T1 Maps", "T2 map", "qT1", "T2 dual echo",
    "T2 dual TSE", "DE TSE", "T2 double écho", "T2 doble eco", "PD/T2 dual", "MRCP T2", "T2 MRCP",
    "MRCP 3D T2", "t1_mprage_sag_mpr", "t1_mprage_mpr", "T1 space mpr", "T1_post_mpr", "T2 SPACE_mpr",
    "COR T1 MPR", "T1 recon", "PosDisp T1", "T1 dixon FAT ONLY", "sfat Ax T1W_mDIXON", "t1_vibe_dixon_tra_F",
    "t1_vibe_dixon_opp", "FAT: Ax T1", "OutPhase: T1", "T1 out of phase", "T1 opposed phase",
    "ssT1 AX 3D DIXON FAT", "SyMRI T1", "SyntAc T1", "Synthetic T1", "MDME T2", "MAGiC T1", "STAGE T1", "SyT1",
    "SynT1", "synT2 FLAIR", "QALAS", "3D QALAS T1", "R2*", "R2 map", "R2star", "T1 SOUS", "SOUS",
    "T1 soustraction", "T1 sub", "T1 SUBS", "ssub T1", "T1 Subtr", "T1 Subtraktion", "T1 sustraccion",
    "T1 resta", "T1 subtração", "T1 sottrazione", "T1 odejmowanie", "T1 субтракция", "T1 çıkarma", "T1 减影",
    "T1 減影", "T1 差分", "T1 減算", "T1 감산", "T1 difference", "T1 post-pre", "T1 Differenz", "lumbar T1",
    "T2 Lspine", "T1 tsp", "T2 csp", "T2 c-sp", "T1 neck", "T2 knee", "T2 spine", "T1 breast", "T2 pelvis",
    "T2 liver", "T2 LEBER", "T2 foie", "T2 hígado", "T2 rachis", "T2 kręgosłup", "T2 omurga", "T2 boyun",
    "T2 servikal", "T2 lomber", "T2 позвоночник", "T2 шея", "T2 шейный", "T2 шейного отдела", "T2 поясничный",
    "T2 腰椎", "T2 颈椎", "T2 頚椎", "T2 骨盤", "T2 腹部", "T2 膝関節",
    "T2 경추", "T2 요추", "T2 무릎", "T2 orbit", "T2 IAC",
    "T2 pituitary", "T1 hipófisis", "T2 brachial plexus", "T2 prostate", "T2 fetal", "T2 shoulder", "T2 HIP",
    "T2 hüfte", "T2 L1-S1", "T2 thoracic", "T2 foramen magnum to T1", "T2 CISS", "T2 FIESTA", "T2 DRIVE",
    "T2 FL3D tra", "T1 mbh vibe", "t1_vibe_dixon_cor_F_REG", "T1 mDIXON opp_ND", "T1 iso MPR tra",
    "T1 cube iso mpr", "t2_me3d_sag", "T2 MPGR", "T2 FE cor", "T2 FISP", "FLASH T2", "T2 haemo", "CEST HASTE",
    "T2 APTw", "eSTIR T2", "T1 permeability", "T1 GRASP", "T1 bolus", "T2 C-OSAG", "L-Sag T1", "t-ax T2",
    "T2 C7-T4", "T2 T1-L2", "T2 T3 to T12", "T2 sacroiliac", "T2 neurography", "WB T1", "T1 hipofiz",
    "T1 przysadka", "T2 omuz", "T2 鼻咽", "PJN:T2 SPACE", "T1 fused", "T2_Images", "T2Star_Images", "T1 triplanar",
    "T2 Ubersicht", "T2 локалайзер", "T2 위치",
    "T1 vessel wall", "T2 cisternography", "T2 multi echo", "PD TSE", "T2*", "T2 star", "T2 GRE",
]  # fmt: skip


@pytest.mark.parametrize("description", AFTER_CONTRAST_AGENT)
def test_t1_after_contrast_agent_is_named_in_the_words_of_its_country(description):
    assert names_contrast(description)
    assert read_description(description)[0] is Contrast.T1W


@pytest.mark.parametrize("description", BEFORE_CONTRAST_AGENT)
def test_t1_is_named_where_its_words_say_nothing_of_contrast_agent_or_deny_it(description):
    assert exclusions(description) == []
    assert not names_contrast(description)
    assert read_description(description)[0] is Contrast.T1W


@pytest.mark.parametrize("description", PLAIN_T2W)
def test_t2_is_named_beside_words_that_look_like_others(description):
    assert exclusions(description) == []
    assert read_description(description)[0] is Contrast.T2W


@pytest.mark.parametrize("description", NONE_OF_THE_THREE)
def test_maps_reformats_parts_of_a_signal_and_other_body_parts_are_never_chosen(description):
    assert exclusions(description) != []


def test_a_word_of_an_alphabet_ends_where_no_letter_of_it_follows():
    assert names_contrast("T1 КУ")
    assert not names_contrast("T1 фокус")
