"""The study of an encoded data set: found in every encoding, in constant memory and bounded time."""

from __future__ import annotations

import io
import time
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_node.net.study_uid import find_study_uid
from models.uid import is_uid
from tests.support.services import DATA

STUDY = "1.2.826.0.1.3680043.8.498.4711"
PLAIN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


def nested(depth: int) -> Dataset:
    """Return a data set with sequences of undefined length before the study, some in a private group."""
    inner = Dataset()
    inner.StudyInstanceUID = "9.9.9"
    for _ in range(depth):
        outer = Dataset()
        outer.ReferencedImageSequence = [inner, Dataset()]
        outer["ReferencedImageSequence"].is_undefined_length = True
        for item in outer.ReferencedImageSequence:
            item.is_undefined_length_sequence_item = True
        inner = outer
    inner.SOPClassUID, inner.StudyInstanceUID, inner.SeriesInstanceUID = "1.2", STUDY, "1.3"
    inner.add_new(0x00090010, "LO", "SOMEBODY")
    inner.add_new(0x00091001, "UN", b"\x01\x02" * 500)
    return inner


def encoded(dataset: Dataset, syntax: UID) -> bytes:
    stream = BytesIO()
    from pydicom.filebase import DicomFileLike

    file = DicomFileLike(stream)
    file.is_implicit_VR, file.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    write_dataset(file, dataset)
    return stream.getvalue()


@pytest.mark.parametrize("syntax", PLAIN, ids=lambda uid: uid.name)
@pytest.mark.parametrize("depth", [0, 1, 7])
def test_it_is_found_behind_sequences_and_private_elements(syntax: UID, depth: int):
    assert find_study_uid(BytesIO(encoded(nested(depth), syntax)), syntax) == STUDY


def test_what_is_encoded_otherwise_than_negotiated_is_found_too():
    for said, done in ((ImplicitVRLittleEndian, ExplicitVRLittleEndian), PLAIN[:2]):
        assert find_study_uid(BytesIO(encoded(nested(2), done)), said) == STUDY


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA}: set DICOM_NODE_TEST_DATA")
def test_it_is_the_one_that_pydicom_reads_in_every_real_file():
    files = sorted((DATA / "transfer-syntaxes").glob("*.dcm")) + sorted(DATA.glob("*/**/*.dcm"))[:300:5]
    looked_at = 0
    for file in files:
        content = Path(file).read_bytes()
        if content[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
            continue
        header = dcmread(file, stop_before_pixels=True, force=True)
        data_set = content[144 + int.from_bytes(content[140:144], "little") :]
        expected = str(header.get("StudyInstanceUID", ""))
        found = find_study_uid(BytesIO(data_set), header.file_meta.TransferSyntaxUID)
        assert found == (expected if is_uid(expected) else None), file
        looked_at += 1
    assert looked_at > 10


class Zeros(io.RawIOBase):
    """Four gigabytes of zeros."""

    def __init__(self) -> None:
        self._left = 2**32

    def read(self, size: int = -1) -> bytes:
        size = min(size, self._left)
        self._left -= size
        return bytes(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._left -= min(offset, self._left)
        return 0


def test_what_has_no_end_is_given_up_soon():
    start_s = time.monotonic()
    for syntax in PLAIN:
        assert find_study_uid(Zeros(), syntax) is None  # type: ignore[arg-type]
    endless_items = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * 250_000
    assert find_study_uid(BytesIO(endless_items), ExplicitVRLittleEndian) is None
    deep = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 200_000
    assert find_study_uid(BytesIO(deep), ExplicitVRLittleEndian) is None
    assert time.monotonic() - start_s < 30


def test_a_deflated_data_set_is_inflated_within_a_bound_of_memory():
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = deflater.compress(b"\x09\x00\x01\x10OB\0\0\xf0\xff\xff\xff") + deflater.flush(zlib.Z_FULL_FLUSH)
    zeros = deflater.compress(bytes(2**20)) + deflater.flush(zlib.Z_FULL_FLUSH)
    bomb = start + zeros * 1200 + deflater.flush()
    tracemalloc.start()
    try:
        assert find_study_uid(BytesIO(bomb), DeflatedExplicitVRLittleEndian) is None
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_is_changed_nothing_but_a_uid_is_found(data: st.DataObject):
    syntax = data.draw(st.sampled_from(PLAIN))
    content = bytearray(encoded(nested(2), syntax))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    found = find_study_uid(BytesIO(content), syntax)
    assert found is None or is_uid(found)
