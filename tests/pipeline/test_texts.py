"""Descriptions in any character set under any label: what they may say is asked, and silence is never assumed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from models.contrast import Contrast
from pipeline.headers import Frame, Volume, read_headers
from pipeline.headers.quick import read_quickly
from pipeline.headers.texts import read_text
from pipeline.select import Verdict, judge, select_study
from pipeline.select.clues import ClueKind
from pipeline.select.words import is_certain, names_contrast
from pipeline.synthetic import StudyTags, derive_uid, series_tags, write_series
from tests.support.dicom_files import edit, overwrite
from tests.support.services import SEEDED

STUDY = StudyTags(study_uid=derive_uid("test texts"), **SEEDED)
LABELS = [
    b"", b"ISO_IR 100", b"ISO_IR 192", b"\\ISO 2022 IR 58 ", b"GB18030 ", b"GBK ", b"ISO_IR 13 ", b"ISO_IR 144",
    b"ISO_IR 126", b"ISO 2022 IR 13\\ISO 2022 IR 87", b"\\ISO 2022 IR 149", b"ISO_IR 6", b"NO SUCH SET ",
]  # fmt: skip
AFTER_CONTRAST_AGENT = {
    "gbk": ["T1 增强 3D", "增强T1"],
    "gb18030": ["T1 增强 3D", "T1造影", "T1 强化", "T1 注药后"],
    "utf_8": ["T1 增强 3D", "T1 조영", "T1 контраст", "T1 injecté", "T1 après", "T1 kontrastlı", "T1 造影"],
    "big5": ["T1 增強 3D", "T1 顯影"],
    "shift_jis": ["T1 造影 3D", "造影T1", "T1 ガドリニウム", "T1 ｿﾞｳｴｲ"],
    "euc_jp": ["T1 造影"],
    "iso2022_jp": ["T1 造影 3D"],
    "euc_kr": ["T1 조영 3D", "T1 조영증강", "조영후 T1"],
    "iso2022_kr": ["T1 조영"],
    "koi8_r": ["T1 контраст", "T1 с КУ", "T1 КОНТРАСТ"],
    "cp1251": ["T1 контраст", "T1 с КУ", "T1 после КВ"],
    "iso8859_5": ["T1 контраст", "T1 с КУ"],
    "cp866": ["T1 контраст"],
    "latin_1": ["T1 injecté", "T1 après", "T1 verstärkt", "T1 pós"],
    "iso8859_2": ["T1 po kontraście"],
    "cp1254": ["T1 kontrastlı"],
    "iso8859_7": ["T1 σκιαγραφικό"],
    "utf_16": ["T1 增强 3D"],
}
PLAIN = [
    ("gb18030", b"GB18030 ", "T1 矢状位"), ("gb18030", b"GB18030 ", "头颅平扫 T1"), ("gb18030", b"", "T1 横断位 3D"),
    ("gb18030", b"ISO_IR 100", "脑 T1 薄层"), ("gb18030", b"\\ISO 2022 IR 58 ", "T1 冠状位"),
    ("shift_jis", b"ISO_IR 13 ", "T1 矢状断"), ("shift_jis", b"", "頭部 T1"),
    ("euc_kr", b"\\ISO 2022 IR 149", "T1 시상"), ("iso8859_5", b"ISO_IR 144", "T1 сагиттальная"),
    ("cp1251", b"ISO_IR 100", "T1 сагиттальная"), ("latin_1", b"ISO_IR 100", "T1 Schädel"),
    ("latin_1", b"", "tête T1"), ("utf_8", b"ISO_IR 192", "T1 矢状位"), ("utf_8", b"", "T1 시상"),
    ("utf_8", b"ISO_IR 100", "tête T1"), ("iso8859_2", b"ISO_IR 101", "głowa T1"),
    ("iso8859_7", b"ISO_IR 126", "T1 εγκεφάλου"),
    ("big5", b"", "T1 矢狀位"),
]  # fmt: skip
NOBODY_READS = [
    b"T1 \x81\xff\xfe\x90", b"T1 \xc7\xbf\xff\xa0\x9f", "????", "T1 ????", "T1 \ufffd\ufffd", b"T1 $B@8;R(B 3D",
    "T1 &#22686;&#24378;",
    b"T1 \x1b$B\xff\xff", "T1 ï¿½ï¿½",
]  # fmt: skip
"""Random bytes, and texts whose characters were lost on the way."""


@pytest.fixture
def file(tmp_path) -> Path:
    image = sitk.GetImageFromArray(np.zeros((4, 6, 8), np.int16))
    return write_series(image, tmp_path, STUDY, series_tags(Contrast.T1W))[0]


def described(original: Path, label: bytes, description: bytes, agent: bytes = b"") -> Volume:
    """Return a volume of a whole head with the header of a copy."""
    file = Path(shutil.copy(original, original.with_suffix(".copy")))
    overwrite(file, "SpecificCharacterSet", "CS", label + b" " * (len(label) % 2))
    overwrite(file, "ProtocolName", "LO", b"")
    overwrite(file, "SeriesDescription", "LO", description + b" " * (len(description) % 2))
    if agent:
        overwrite(file, "ContrastBolusAgent", "LO", agent + b" " * (len(agent) % 2))
    (volume,) = read_headers([file]).volumes
    frames = tuple(
        Frame(file, 0, f"1.{i}", (0.0, 0.0, i * 5.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (1.0, 1.0), 256, 256)
        for i in range(30)
    )
    return replace(volume, frames=frames)


@pytest.mark.filterwarnings("ignore:Unknown encoding")
@pytest.mark.parametrize("label", LABELS)
def test_contrast_agent_is_never_overlooked_whatever_the_character_set_is_said_to_be(file, label):
    for codec, texts in AFTER_CONTRAST_AGENT.items():
        for text in texts:
            candidate = judge(described(file, label, text.encode(codec)))
            assert candidate.verdict in {Verdict.NONE, Verdict.AMBIGUOUS}, (codec, text)
            assert candidate.contrast_given or candidate.noticed(ClueKind.UNREADABLE), (codec, text)


@pytest.mark.parametrize(
    ("codec", "label", "text"),
    [
        ("gb18030", b"GB18030 ", "T1 增强 3D"), ("gb18030", b"", "T1 增强 3D"),
        ("gb18030", b"ISO_IR 100", "T1 增强 3D"),
        ("utf_8", b"ISO_IR 192", "T1 增强 3D"), ("utf_8", b"", "T1 增强 3D"), ("utf_8", b"GB18030 ", "T1 조영"),
        ("shift_jis", b"ISO_IR 13 ", "T1 造影"), ("iso2022_jp", b"\\ISO 2022 IR 87 ", "T1 造影"),
        ("euc_kr", b"\\ISO 2022 IR 149", "T1 조영"), ("iso8859_5", b"ISO_IR 144", "T1 контраст"),
        ("latin_1", b"ISO_IR 100", "T1 injecté"), ("latin_1", b"", "T1 après"),
    ],
)  # fmt: skip
def test_contrast_agent_is_read_where_the_label_or_the_bytes_say_how(file, codec, label, text):
    volume = described(file, label, text.encode(codec))
    assert volume.description == text
    assert judge(volume).contrast_given


@pytest.mark.parametrize(("codec", "label", "text"), PLAIN)
def test_a_description_without_contrast_agent_is_no_doubt(file, codec, label, text):
    volume = described(file, label, text.encode(codec))
    assert volume.description == text
    assert judge(volume).verdict is Verdict.T1W


@pytest.mark.parametrize("description", NOBODY_READS)
def test_t1_is_in_doubt_where_nobody_can_read_its_description(file, description):
    raw = description if isinstance(description, bytes) else description.encode()
    volume = described(file, b"ISO_IR 192", raw)
    assert volume.description_readings == ()
    candidate = judge(volume)
    assert candidate.verdict is Verdict.AMBIGUOUS
    assert candidate.clues[0].kind is ClueKind.UNREADABLE


@pytest.mark.parametrize(
    ("words", "facts", "verdict"),
    [
        ("T2", {"tr_ms": 4500.0, "te_ms": 95.0, "ti_ms": None, "scanning_sequence": ("SE",)}, Verdict.T2W),
        ("", {"tr_ms": 9000.0, "te_ms": 120.0, "ti_ms": 2500.0, "scanning_sequence": ("SE", "IR")}, Verdict.FLAIR),
        ("T2", {"tr_ms": None, "te_ms": None, "ti_ms": None, "scanning_sequence": ()}, Verdict.AMBIGUOUS),
    ],
)
def test_physics_decides_alone_where_nobody_can_read_the_description(file, words, facts, verdict):
    volume = described(file, b"ISO_IR 192", words.encode() + b" \x81\xff\xfe")
    assert judge(replace(volume, **facts)).verdict is verdict


def test_another_reading_that_names_another_body_part_is_a_doubt(file):
    t2: dict[str, Any] = {"tr_ms": 4500.0, "te_ms": 95.0, "ti_ms": None, "scanning_sequence": ("SE",)}
    volume = described(file, b"", "T2 경추".encode("euc_kr"))
    assert judge(replace(volume, **t2)).verdict is Verdict.AMBIGUOUS


def test_a_protocol_that_cannot_be_read_counts_where_the_description_names_no_role(file):
    volume = described(file, b"ISO_IR 192", b"SAG 3D")
    assert judge(volume).verdict is Verdict.T1W
    assert judge(replace(volume, protocol="T1 ?", protocol_readings=())).verdict is Verdict.AMBIGUOUS
    assert judge(replace(volume, protocol="T1 +C")).verdict is Verdict.NONE
    named = replace(volume, description="T1 SAG", protocol="T1 ?", protocol_readings=())
    assert judge(named).verdict is Verdict.T1W


def test_a_study_is_held_where_only_an_unreadable_t1_is_there(tmp_path):
    image = sitk.GetImageFromArray(np.random.default_rng(1).integers(0, 900, (24, 16, 20)).astype(np.int16))
    image.SetSpacing((9.0, 9.5, 5.0))
    files = {role: write_series(image, tmp_path / role, STUDY, series_tags(role)) for role in Contrast}
    for path in files[Contrast.T1W]:
        overwrite(path, "SeriesDescription", "LO", b"T1 \x81\xff\xfe\x90 ")
    selection = select_study(path for paths in files.values() for path in paths)
    assert selection.held is not None
    assert selection.held.code == "ambiguous_role"
    assert "the description cannot be read" in selection.held.sentence


@pytest.mark.parametrize(("clock", "reason"), [("101500", None), ("103000", "ambiguous_role")])
def test_t1_behind_one_that_may_show_contrast_agent_is_in_doubt_too(tmp_path, clock, reason):
    image = sitk.GetImageFromArray(np.random.default_rng(1).integers(0, 900, (24, 16, 20)).astype(np.int16))
    image.SetSpacing((9.0, 9.5, 5.0))
    every = {role: write_series(image, tmp_path / role, STUDY, series_tags(role)) for role in Contrast}
    for path in every[Contrast.T1W]:
        edit(path, AcquisitionTime=clock)
    unread = write_series(image, tmp_path / "unread", STUDY, replace(series_tags(Contrast.T1W), number=9))
    for path in unread:
        edit(path, AcquisitionTime="102000", RepetitionTime="500", EchoTime="10", InversionTime="")
        overwrite(path, "SeriesDescription", "LO", b"T1 \x81\xff\xfe\x90 ")
    selection = select_study([*unread, *(path for paths in every.values() for path in paths)])
    assert (selection.held and selection.held.code) == reason
    if reason is None:
        assert selection.volumes[Contrast.T1W].series_number != 9


def test_plain_files_alone_are_read_quickly(file):
    assert read_quickly(file) is not None
    described(file, b"", "T1 增强".encode("gbk"))
    assert read_quickly(file.with_suffix(".copy")) is None


def test_every_character_set_is_asked_and_one_that_cannot_be_is_not():
    readings = read_text("T1 контраст".encode("koi8_r"), ("GB18030",)).readings
    assert "T1 контраст" in readings
    assert not is_certain(readings)
    assert read_text("T1 增强扫描".encode(), ("ISO_IR 100",)).readings == ("T1 增强扫描",)
    assert read_text("T1 après".encode().decode("latin_1").encode(), ("ISO_IR 192",)).readings[0] == "T1 après"


def test_an_agent_whose_name_cannot_be_read_was_given(file):
    assert not described(file, b"ISO_IR 192", b"T1").contrast_agent
    for agent in (b"\x81\xff\xfe\x90", "钆喷酸".encode("gbk"), b"????"):
        volume = described(file, b"ISO_IR 192", b"T1", agent)
        assert volume.contrast_agent
        assert judge(volume).verdict is Verdict.NONE
    assert not described(file, b"", b"T1", "无".encode("gbk")).contrast_agent


@given(st.binary(max_size=70), st.lists(st.sampled_from([label.decode().strip() for label in LABELS]), max_size=3))
def test_no_bytes_under_no_label_disturb(raw, declared):
    text = read_text(raw, tuple(declared))
    assert all("\ufffd" not in reading for reading in (text.shown, *text.readings))
    assert is_certain(text.readings) <= bool(text.readings)


def test_a_last_character_that_was_cut_in_two_is_left_out():
    raw = ("T1 增强 " + "矢状位" * 9).encode()[:64]
    assert names_contrast(read_text(raw, ("ISO_IR 192",)).readings[0])
