"""One file -> its planes, or the reason why it is not a usable MR image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.dicom_file import (
    MAX_INFLATED_BYTES,
    MAX_VOXELS,
    UNCOMPRESSED,
    Frame,
    InflatesTooLargeError,
    NotDicomError,
)
from pipeline.headers.attributes import Facts, Header, Values
from pipeline.headers.foreign import foreign_kind
from pipeline.headers.identity import Identity, identity_of
from pipeline.headers.quick import read_quickly
from pipeline.headers.records import Problem, ProblemCode
from pipeline.headers.thorough import DamagedHeaderError, read_thoroughly

MR_IMAGE_CLASSES = frozenset(
    {"1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4"}
)
"""MR Image, Enhanced MR Image and Legacy Converted Enhanced MR Image Storage (PS3.4 B.5)."""
_MAX_SIDE = 4096
_MAX_FRAMES = 20_000
_SMALL_BYTES = 2**26
"""Images below this do no harm even if the file holds much less, as an empty compressed slice does."""
_MOST_COMPRESSION = 1000


@dataclass(frozen=True, slots=True)
class Plane:
    """A frame with the attributes that hold for it."""

    facts: Facts
    frame: Frame
    identity: Identity


def read_instance(path: Path) -> list[Plane] | Problem:
    """Return the planes of an MR image, or why the file is none; nothing is raised.

    Parameters
    ----------
    path
        Any file.

    Returns
    -------
    list of Plane or Problem
        At least one plane, in the order of the frames. What lacks its UIDs, is of another class than PS3.4 B.5 has for
        MR, declares an implausible size or ends before its pixels is a problem with a code and a sentence.
    """
    try:
        if path.stat().st_size == 0:
            return Problem(path, ProblemCode.FILE_EMPTY, "The file is empty; send it again.")
        header = read_quickly(path) or read_thoroughly(path)
        return _unusable(path, header) or _planes(path, header)
    except OSError as error:
        if error.errno is None:  # pydicom's, where a sequence ends too early (no upstream issue known)
            return _damaged(path, error, {})
        sentence = f"The file cannot be opened ({type(error).__name__}); look at the disk and its rights."
        return Problem(path, ProblemCode.FILE_UNREADABLE, sentence)
    except NotDicomError:
        return _foreign(path)
    except InflatesTooLargeError:
        sentence = f"The deflated file holds more than {MAX_INFLATED_BYTES // 2**20} MB; send it in another encoding."
        return Problem(path, ProblemCode.DEFLATED_SIZE_IMPLAUSIBLE, sentence)
    except DamagedHeaderError as error:
        return _damaged(path, error.__cause__, error.values)
    except Exception as error:  # any malformed header: pydicom raises what its parser stumbled over
        return _damaged(path, error, {})


def _foreign(path: Path) -> Problem:
    kind = foreign_kind(path)
    return Problem(path, ProblemCode.FILE_NOT_DICOM, kind.sentence, foreign=kind)


def _damaged(path: Path, error: BaseException | None, values: Values) -> Problem:
    sentence = f"The header cannot be read ({type(error).__name__}); send the file again."
    return Problem(path, ProblemCode.FILE_DAMAGED, sentence, *_uids(Facts(values)))


def _uids(facts: Facts) -> tuple[str | None, str | None]:
    """Return the UIDs of series and instance, None where absent."""
    return facts.text("SeriesInstanceUID") or None, facts.text("SOPInstanceUID") or None


def _unusable(path: Path, header: Header) -> Problem | None:
    facts = Facts(header.values)
    uids = _uids(facts)
    if not (all(uids) and facts.text("StudyInstanceUID")):
        sentence = "The file lacks a study, series or instance UID; send it from where it was made."
        return Problem(path, ProblemCode.FILE_WITHOUT_IDENTITY, sentence)
    if facts.text("Modality") not in {"MR", ""} or facts.text("SOPClassUID") not in MR_IMAGE_CLASSES:
        sentence = f"The object is {_class_name(facts)}, not an MR image."
        return Problem(path, ProblemCode.NOT_MR_IMAGE, sentence, *uids, slice_lost=_may_be_slice(header, facts))
    rows, columns, frames = facts.number("Rows") or 0, facts.number("Columns") or 0, _frame_count(facts)
    sides_fit = 0 < rows <= _MAX_SIDE and 0 < columns <= _MAX_SIDE and 0 < frames <= _MAX_FRAMES
    expected_bytes = rows * columns * frames * _voxel_bytes(facts)
    present_bytes = header.pixels.length
    # Compressed pixels under an uncompressed transfer syntax are refused as such when they are read.
    plain = header.transfer_syntax in UNCOMPRESSED and not header.pixels.encapsulated
    if (
        not sides_fit
        or rows * columns * frames > MAX_VOXELS
        or present_bytes > 2 * expected_bytes + _SMALL_BYTES
        or (not plain and expected_bytes > max(_SMALL_BYTES, _MOST_COMPRESSION * present_bytes))
    ):
        sentence = "The header declares no image of a plausible size; send the original file."
        return Problem(path, ProblemCode.PIXEL_SIZE_IMPLAUSIBLE, sentence, *uids)
    if present_bytes < (expected_bytes if plain else 1):
        return Problem(
            path, ProblemCode.PIXEL_DATA_TRUNCATED, "The file ends before its pixels do; send it again.", *uids
        )
    if header.frames and len(header.frames) != frames:
        sentence = f"The header declares {frames} frames and describes {len(header.frames)}; send the file again."
        return Problem(path, ProblemCode.FRAMES_INCOMPLETE, sentence, *uids)
    return None


def _may_be_slice(header: Header, facts: Facts) -> bool:
    return facts.text("SOPClassUID") in MR_IMAGE_CLASSES or header.pixels.length > 0 or bool(facts.number("Rows"))


def _class_name(facts: Facts) -> str:
    from pydicom.uid import UID  # noqa: PLC0415 - takes longer to load than to read a series

    return f"{UID(facts.text('SOPClassUID')).name or 'of no class'} of modality {facts.text('Modality') or 'unknown'}"


def _frame_count(facts: Facts) -> int:
    return int(facts.number("NumberOfFrames") or 1)


def _voxel_bytes(facts: Facts) -> float:
    return (facts.number("SamplesPerPixel") or 1) * (facts.number("BitsAllocated") or 16) / 8


def _planes(path: Path, header: Header) -> list[Plane]:
    planes, identity = [], identity_of(header.identity)
    for index in range(_frame_count(Facts(header.values))):
        own = header.frames[index] if header.frames else {}
        facts = Facts({**header.values, **header.shared, **own}, header.texts)
        frame = Frame(
            path=path,
            index=index,
            sop_instance_uid=facts.text("SOPInstanceUID"),
            position_mm=facts.vector("ImagePositionPatient", 3),
            orientation=facts.vector("ImageOrientationPatient", 6),
            pixel_spacing_mm=facts.vector("PixelSpacing", 2),
            rows=int(facts.number("Rows") or 0),
            columns=int(facts.number("Columns") or 0),
        )
        planes.append(Plane(facts, frame, identity))
    return planes
