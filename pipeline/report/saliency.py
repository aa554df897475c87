"""Saliency as DICOM Parametric Maps, one for each sequence, and as one page; written only where a site asks for it."""

from __future__ import annotations

from typing import Final

import highdicom as hd
import numpy as np
import SimpleITK as sitk
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import MRImageStorage, ParametricMapStorage

from models.contrast import Contrast
from pipeline.predict import ModelIdentity
from pipeline.report import codes
from pipeline.report.character_sets import ascii_text
from pipeline.report.items import text
from pipeline.report.pen import MARGIN, MUTED, Pen
from pipeline.report.result_header import SALIENCY_MAPS, result_header, settled
from pipeline.report.run import ScoredRun
from pipeline.report.sources import Instance, instance_reference
from pipeline.report.views import LOWERS, RAISES, Views, paste_plane
from pipeline.report.wording import notice_line

NO_LOCALISATION: Final = (
    "This is no localisation of disease: it shows what the network reacts to, right or wrong, not where anything is."
)

COARSEST_MM: Final = 50.0
"""Longest side of a voxel of a Parametric Map, a third of a brain: a coarser one would be taken for a localisation."""

_WIDTH, _HEIGHT, _TILE, _ROW = 1024, 1024, 230, 264
_ROWS_TOP = 228
_DIRECTION: Final = "LPS"
_NARROWEST_WINDOW: Final = 2e-6
"""Window Width is above 0 (PS3.3 C.11.2.1.2), also where a map is 0 everywhere."""


def build_saliency(run: ScoredRun, role: Contrast, activation: sitk.Image) -> Dataset:
    """Return the map of one sequence's network as a Parametric Map in the study of a run.

    Parameters
    ----------
    run
        With a score; equal arguments give equal bytes and UIDs.
    role
        Whose series is the source of the map and of its frame of reference.
    activation
        As :func:`pipeline.activation.activation_image` returns it: float32 in patient space, on the network's own
        features. It is written as it is, neither interpolated nor scaled, as axial frames.

    Returns
    -------
    pydicom.Dataset
        Parametric Map (PS3.3 A.75), Float Pixel Data, Explicit VR Little Endian, with file meta information.
    """
    kind, names = SALIENCY_MAPS[role], run.names
    # The header is ours, like that of every result: highdicom's own refuses much of what real headers hold.
    target = result_header(kind, str(ParametricMapStorage), run)
    instances = run.sources.instances[role]
    frame_of_reference_uid = instances[0].frame_of_reference_uid or names.uid(f"{kind.name} frame of reference")
    axial = sitk.DICOMOrient(activation, _DIRECTION)
    written = _parametric_map(run, role, axial, frame_of_reference_uid)
    organization_uid = names.uid(f"{kind.name} dimensions")
    for item in (*written.DimensionOrganizationSequence, *written.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization_uid
    for element in written:
        # Text without a declared character set is copied as it came; nothing may be declared for it here.
        if element.tag not in target and element.keyword != "SpecificCharacterSet":
            target.add(element)
    _set_references(target, instances)
    target.BodyPartExamined = "HEAD"
    return settled(target)


def fine_enough(activation: sitk.Image) -> bool:
    """Return whether a map may be written as values in patient space.

    Parameters
    ----------
    activation
        As for `build_saliency`.
    """
    return bool(max(activation.GetSpacing()) <= COARSEST_MM)


def draw_saliency(run: ScoredRun, views: Views, spacing_xyz_mm: tuple[float, ...]) -> Image.Image:
    """Return the page: a row of planes for each role, with the map in colours over the image.

    Parameters
    ----------
    run
        Only notice and model are drawn.
    views
        With maps, as :func:`~pipeline.report.views.tri_planar` returns them; roles may be missing.
    spacing_xyz_mm
        Of the maps.

    Returns
    -------
    PIL.Image.Image
        RGB, 1024 x 1024 pixels.
    """
    pen = Pen(_WIDTH, _HEIGHT)
    pen.banner(notice_line(run.model) or "Research software.")
    width = _WIDTH - 2 * MARGIN
    pen.text(MARGIN, 102, "What the score of each network depends on (Grad-CAM)", 24)
    pen.text(MARGIN, 135, NO_LOCALISATION, 18)
    size = " x ".join(f"{length:.0f}" for length in spacing_xyz_mm)
    pen.text(MARGIN, 159, f"One value stands for {size} mm and gathers from beyond; colours between are made up.", 18)
    pen.text(MARGIN, 182, "raises the score", 18, RAISES)
    pen.text(MARGIN + 170, 182, "lowers the score", 18, LOWERS)
    pen.text(MARGIN + 340, 182, "relative to the greatest value of the same network", 18, MUTED)
    model = f"{run.model.name} {run.model.version}, {run.model.architecture}"
    pen.fitted(MARGIN, 206, model, 16, width, MUTED)
    for row, role in enumerate(role for role in Contrast if role in views):
        top = _ROWS_TOP + _ROW * row
        pen.text(MARGIN, top + _TILE // 2, role.value, 26, anchor="lm")
        for column, plane in enumerate(views[role]):
            paste_plane(pen, plane, (MARGIN + 170 + column * (_TILE + 8), top + 8), _TILE)
    return pen.picture


def _parametric_map(run: ScoredRun, role: Contrast, activation: sitk.Image, frame_of_reference_uid: str) -> Dataset:
    values_zyx = sitk.GetArrayFromImage(activation).astype(np.float32)
    column_mm, row_mm, slice_mm = activation.GetSpacing()
    largest = max(float(np.abs(values_zyx).max()), _NARROWEST_WINDOW / 2)
    positions = [activation.TransformIndexToPhysicalPoint((0, 0, z)) for z in range(len(values_zyx))]
    along = np.array(activation.GetDirection()).reshape(3, 3)
    written = hd.pm.ParametricMap(
        source_images=[stand_in(run.sources.study_uid, frame_of_reference_uid)],
        pixel_array=values_zyx,
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="none",
        device_serial_number="none",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(role, run.model, float(values_zyx.min()), float(values_zyx.max()))],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.0, window_width=2 * largest)],
        content_label="GRAD_CAM",
        content_description=ascii_text(f"What the {role} network's score depends on, no localisation"),
        pixel_measures=hd.PixelMeasuresSequence((row_mm, column_mm), slice_mm, slice_mm),
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", [*along[:, 0], *along[:, 1]]),
        plane_positions=[hd.PlanePositionSequence("PATIENT", position) for position in positions],
    )
    assert isinstance(written, Dataset)
    return written


def stand_in(study_uid: str, frame_of_reference_uid: str) -> Dataset:
    """Return a source image in highdicom's sense: geometry and references of the map are not taken from it.

    highdicom refuses sources without the attributes that the standard asks for, and means to (its issue 99): real
    headers lack them.

    Parameters
    ----------
    study_uid, frame_of_reference_uid
        Of the map.
    """
    source = Dataset()
    source.SOPClassUID, source.SOPInstanceUID = MRImageStorage, hd.UID()
    source.StudyInstanceUID, source.SeriesInstanceUID = study_uid, hd.UID()
    source.FrameOfReferenceUID = frame_of_reference_uid
    source.Rows = source.Columns = 1
    source.ImagePositionPatient, source.ImageOrientationPatient = [0, 0, 0], [0, 1, 0, 0, 0, -1]
    source.PixelSpacing, source.SliceThickness = [1, 1], 1
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(source, keyword, "")
    source.StudyDate, source.StudyTime, source.Manufacturer = "", "", "none"
    return source


def _set_references(target: Dataset, instances: tuple[Instance, ...]) -> None:
    """Name every image of the source series, whole; no single frame of the map comes from a single one."""
    references = [instance_reference(instance) for instance in instances]
    target.SourceImageSequence = references
    series = Dataset()
    series.SeriesInstanceUID = instances[0].series_uid
    series.ReferencedInstanceSequence = references
    target.ReferencedSeriesSequence = [series]


def _mapping(role: Contrast, model: ModelIdentity, low: float, high: float) -> hd.pm.RealWorldValueMapping:
    """Say what the stored values are: this quantity, without unit, as this algorithm has computed it."""
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="GRAD_CAM",
        lut_explanation="Gradient-weighted class activation, above 0 raises the score",
        unit=Code("1", "UCUM", "no units"),
        value_range=(low, high),
        slope=1.0,
        intercept=0.0,
        quantity_definition=codes.GRADIENT_WEIGHTED_ACTIVATION,
    )
    facts = (
        (codes.ALGORITHM_NAME, f"{model.name} {role} network"),
        (codes.ALGORITHM_VERSION, model.version),
        (codes.ALGORITHM_PARAMETERS, f"weights sha256={model.network_digests.get(role, 'unknown')}"),
    )
    for name, words in facts:
        # Items of this sequence are name and value, not nodes of a tree (PS3.3 C.7.6.16.2.11).
        mapping.QuantityDefinitionSequence.append(text(name, words, None))  # type: ignore[arg-type]
    return mapping
