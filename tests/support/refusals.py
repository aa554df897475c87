"""Every reason to hold a study, brought about by the smallest input that has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian

from models.bundle import Range
from models.contrast import Contrast
from pipeline import out_of_range
from pipeline.brain import extract_brain
from pipeline.cohort.build import FULL
from pipeline.encapsulation import check_encoding
from pipeline.errors import HoldReason, StudyHeld
from pipeline.geometry import ordered_frames
from pipeline.grey_values import read_format
from pipeline.grid import brain_centred
from pipeline.headers import Foreign, Frame, Headers, Identity, Problem, ProblemCode, Volume, identity_of
from pipeline.intensity import standardise
from pipeline.mask_agreement import compare_masks
from pipeline.mask_measures import MaskMeasures
from pipeline.mirrored import Likeness
from pipeline.out_of_range import check_brain_weights, check_features, check_headers
from pipeline.pixels import read_pixels
from pipeline.plausibility import doubts
from pipeline.select import judge, select_roles, select_study, selection
from pipeline.volume import read_volume

Place = tuple[float, float, float]
ACROSS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TIMES = {Contrast.T1W: (550.0, 12.0, None), Contrast.T2W: (4500.0, 95.0, None), Contrast.FLAIR: (9000.0, 120.0, 2500.0)}


def frames(count: int = 30, step_mm: float = 5.0, place: Callable[[int], Place] | None = None) -> tuple[Frame, ...]:
    """Return planes of a head, or at other places."""
    at = place or (lambda number: (0.0, 0.0, number * step_mm))
    return tuple(
        Frame(Path(f"{number}"), 0, f"1.{number}", at(number), ACROSS, (1.0, 1.0), 256, 256) for number in range(count)
    )


def volume(role: Contrast, number: int, **facts: object) -> Volume:
    """Return a whole head in one contrast, by description and physics."""
    tr_ms, te_ms, ti_ms = TIMES[role]
    plain = Volume(
        "1", f"1.{number}", number, role.value, "", "MR", "", "", (), ("SE",), (), (), "2D", tr_ms, te_ms, ti_ms, None,
        None, contrast_agent=False, samples_per_pixel=1, frames=frames(),
    )  # fmt: skip
    return replace(plain, **facts)  # type: ignore[arg-type]


DAMAGED = Problem(Path("damaged"), ProblemCode.FILE_DAMAGED, "It ends early.", "1.1", "2.1")
"""A file of the T1W series."""
NIFTI = Problem(Path("nifti"), ProblemCode.FILE_NOT_DICOM, Foreign.NIFTI.sentence, foreign=Foreign.NIFTI)
T1W, T2W, FLAIR = (volume(role, number) for number, role in enumerate(Contrast, start=1))


def choose(*volumes: Volume, choices: Mapping[Contrast, str] | None = None) -> None:
    select_roles([judge(each) for each in volumes], choices=choices)


def select(
    *volumes: Volume,
    problems: Sequence[Problem] = (),
    conflicts: frozenset[str] = frozenset(),
    identities: Mapping[Path, Identity] | None = None,
) -> None:
    """Select from headers that were never in a file."""
    headers = Headers(volumes, tuple(problems), conflicts, identities=identities or {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "read_headers", lambda *_: headers)
        held = select_study([]).held
    assert held is not None
    raise held


def order(planes: Sequence[Frame], **second: object) -> None:
    """Order planes, the second of which may be another."""
    first, other, *rest = planes
    ordered_frames([first, replace(other, **second), *rest])  # type: ignore[arg-type]


def box(size_xyz: tuple[int, int, int], spacing_mm: float) -> sitk.Image:
    """Return a mask that fills its image."""
    mask = sitk.Image(size_xyz, sitk.sitkUInt8) + 1
    mask.SetSpacing([spacing_mm] * 3)
    return mask


def find_no_brain() -> None:
    volume_zyx = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    nothing = SimpleNamespace(mask=lambda volume_zyx, _: np.zeros(volume_zyx.shape, np.uint8))
    extract_brain(sitk.GetImageFromArray(volume_zyx), nothing)


def disagree() -> None:
    half = sitk.Paste(box((40, 40, 40), 3.0) * 0, box((40, 40, 10), 3.0), (40, 40, 10))
    compare_masks({Contrast.T1W: box((40, 40, 40), 3.0), Contrast.FLAIR: half})


def be_adult() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(out_of_range, "read_age_years", lambda _: 30.0)
        check_headers({Contrast.T1W: T1W}, (), Range(age_years=(1, 18)))


def look_unlike() -> None:
    known = SimpleNamespace(limits={Contrast.FLAIR: 40.2})
    check_features({Contrast.FLAIR: 55.1}, Range.model_construct(features=known, actions={"features": "withhold"}))


def show_inverted() -> None:
    dataset = Dataset()
    dataset.PhotometricInterpretation = "MONOCHROME1"
    read_format(dataset)


def mislabel() -> None:
    dataset = FileDataset("", {}, file_meta=FileMetaDataset())
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.PixelData = encapsulate([b"\xff\xd8"])
    check_encoding(dataset)


def of_another_patient(series: Volume) -> Volume:
    """Return a series whose files are the second patient's of `TWO_PATIENTS`."""
    return replace(series, frames=tuple(replace(each, path=Path("other")) for each in series.frames))


TWO_PATIENTS = {
    **{frame.path: identity_of({"PatientID": b"1", "PatientName": b"A"}) for frame in T1W.frames},
    Path("other"): identity_of({"PatientID": b"2", "PatientName": b"B"}),
}

PROVOKED: dict[HoldReason, Callable[[], object]] = {
    HoldReason.MISSING_ROLE: lambda: choose(T1W, T2W),
    HoldReason.AMBIGUOUS_ROLE: lambda: choose(T1W, volume(Contrast.T2W, 5), volume(Contrast.T2W, 7), FLAIR),
    HoldReason.CHOICE_UNUSABLE: lambda: choose(T1W, T2W, FLAIR, choices={Contrast.FLAIR: "1.9"}),
    HoldReason.CONFLICTING_INSTANCES: lambda: select(T1W, T2W, FLAIR, conflicts=frozenset({"1.0"})),
    HoldReason.IDENTITY_CONFLICT: lambda: select(T1W, T2W, of_another_patient(FLAIR), identities=TWO_PATIENTS),
    HoldReason.SEVERAL_STUDIES: lambda: select(T1W, replace(T2W, study_uid="2")),
    HoldReason.NO_DICOM_FILES: lambda: select(problems=[NIFTI] * 3),
    HoldReason.PIXEL_DATA_DAMAGED: lambda: select(T1W, T2W, FLAIR, problems=[DAMAGED]),
    HoldReason.PIXEL_VALUES_UNCLEAR: show_inverted,
    HoldReason.PIXEL_ENCODING_UNCLEAR: mislabel,
    HoldReason.PIXEL_SIZE_IMPLAUSIBLE: lambda: read_pixels([replace(frames(1)[0], rows=2048, columns=2048)] * 900),
    HoldReason.GEOMETRY_MOSAIC: lambda: read_volume(replace(T1W, image_type=("MOSAIC",))),
    HoldReason.GEOMETRY_POSITION: lambda: order(frames(), position_mm=None),
    HoldReason.GEOMETRY_SPACING: lambda: order(frames(), pixel_spacing_mm=(2.0, 2.0)),
    HoldReason.GEOMETRY_MATRIX: lambda: order(frames(), rows=128),
    HoldReason.GEOMETRY_ORIENTATION: lambda: order(frames(), orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0)),
    HoldReason.GEOMETRY_DUPLICATE: lambda: order(frames(), position_mm=(0.0, 0.0, 0.0)),
    HoldReason.GEOMETRY_GAP: lambda: order(frames(place=lambda n: (0.0, 0.0, n + 2.0 * (n > 9)))),
    HoldReason.GEOMETRY_TILT: lambda: order(frames(place=lambda n: (0.0, 0.5 * n, 5.0 * n))),
    HoldReason.GEOMETRY_TOO_FEW: lambda: order(frames(9)),
    HoldReason.GEOMETRY_THICK: lambda: order(frames(20, 8.0)),
    HoldReason.GEOMETRY_COVERAGE: lambda: order(frames(20, 4.0)),
    HoldReason.GEOMETRY_BRAIN_OUTSIDE_GRID: lambda: brain_centred(box((28, 18, 16), 10.0), FULL),
    HoldReason.BRAIN_MASK_EMPTY: find_no_brain,
    HoldReason.BRAIN_MASK_IMPLAUSIBLE: lambda: doubts(
        MaskMeasures(210.0, 1.0, 100.0, 0.0, 0.0, 0.0, 0.4, 1.0, 1.0, 0.3, 1.0, 0.9, Likeness(0.9, 0.4))
    ),
    HoldReason.BRAIN_MASKS_DISAGREE: disagree,
    HoldReason.INTENSITY_CONSTANT: lambda: standardise(np.ones((2, 2, 2)), np.ones((2, 2, 2))),
    HoldReason.OUT_OF_RANGE_AGE: be_adult,
    HoldReason.OUT_OF_RANGE_CONTRAST: lambda: check_headers(
        {Contrast.T1W: replace(T1W, contrast_agent=True)}, (), Range(contrast_agent="never")
    ),
    HoldReason.OUT_OF_RANGE_FIELD_STRENGTH: lambda: check_headers(
        {Contrast.FLAIR: replace(FLAIR, field_strength_t=7.0)}, (), Range(field_strength_t=(1.5, 3.0))
    ),
    HoldReason.OUT_OF_RANGE_BRAIN_WEIGHTS: lambda: check_brain_weights(
        "1" * 64, Range(brain_weights_digest="0" * 64, actions={"brain_weights": "withhold"})
    ),
    HoldReason.OUT_OF_RANGE_FEATURES: look_unlike,
}
"""What is held for each reason; the sentences are those that the runbook quotes."""


def refusal(reason: HoldReason) -> StudyHeld:
    """Return how a study is held for a reason."""
    with pytest.raises(StudyHeld) as caught:
        PROVOKED[reason]()
    return caught.value
