"""Volume to a classic DICOM MR series: MR Image Storage, one file per slice (PS3.3 A.4)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import DSfloat, format_number_as_ds

from pipeline.synthetic.study_tags import SeriesTags, StudyTags, derive_uid

STORED_MAX = 4095
"""Largest stored value of a volume that must be scaled: 12 bits, as scanners write."""
_AXES = 3


def write_series(
    volume: sitk.Image,
    folder: Path,
    study: StudyTags,
    series: SeriesTags,
    *,
    transfer_syntax: str = ExplicitVRLittleEndian,
    first_instance: int = 1,
) -> list[Path]:
    """Return the files of a volume written slice by slice, in the order of the slices.

    Parameters
    ----------
    volume
        Scalar, three-dimensional, in LPS millimetres as SimpleITK reads NIfTI too; its slices are those of the
        third axis. Whole numbers within 16 bits are stored as they are; others are scaled to 0..4095, with the
        rescale that leads back.
    folder
        Made if missing; files of the same series and instance number in it are replaced.
    study, series
        Attributes of the headers.
    transfer_syntax
        UID of an uncompressed little endian transfer syntax.
    first_instance
        Instance Number of the first slice: several volumes can form one series.

    Returns
    -------
    list of pathlib.Path
        ``SSSS-IIIII.dcm``, series and instance number.

    Raises
    ------
    ValueError
        If the volume is not three-dimensional and scalar, or the transfer syntax is compressed or big endian.
    """
    syntax = UID(transfer_syntax)
    if syntax.is_compressed or not syntax.is_little_endian:
        raise ValueError(f"only uncompressed little endian is written, not {syntax.name}")
    if volume.GetDimension() != _AXES or volume.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError("a series is written from a scalar three-dimensional volume")
    series = replace(series, series_uid=series.series_uid or derive_uid(study.study_uid, "series", series.number))
    folder.mkdir(parents=True, exist_ok=True)
    stored_zyx, slope, intercept = _stored_values(sitk.GetArrayViewFromImage(volume))
    template = _series_attributes(study, series)
    _add_plane(template, volume, series)
    _add_pixel_format(template, stored_zyx, slope, intercept)
    files = []
    for index, stored_yx in enumerate(stored_zyx):
        number = first_instance + index
        path = folder / f"{series.number:04d}-{number:05d}.dcm"
        _write_slice(path, template, stored_yx, number=number, position_mm=_position(volume, index), syntax=syntax)
        files.append(path)
    return files


def _write_slice(
    path: Path,
    template: Dataset,
    stored_yx: NDArray[np.int16],
    *,
    number: int,
    position_mm: tuple[float, float, float],
    syntax: UID,
) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = UID(derive_uid(template.SeriesInstanceUID, number))
    meta.TransferSyntaxUID = syntax
    instance = FileDataset(str(path), template, file_meta=meta, preamble=b"\0" * 128)
    instance.SOPClassUID = MRImageStorage
    instance.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    instance.InstanceNumber = number
    instance.ImagePositionPatient = [_decimal(value) for value in position_mm]
    normal = np.cross(*np.reshape([float(value) for value in template.ImageOrientationPatient], (2, 3)))
    instance.SliceLocation = _decimal(float(np.dot(normal, position_mm)))
    instance.PixelData = stored_yx.astype("<i2").tobytes()
    instance["PixelData"].VR = "OW"
    instance.save_as(path, enforce_file_format=True)


def _stored_values(array_zyx: NDArray[np.generic]) -> tuple[NDArray[np.int16], float, float]:
    """Return signed 16-bit values with slope and intercept."""
    values = array_zyx.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high):
        raise ValueError("the volume holds values that are not finite")
    if low >= -(2**15) and high < 2**15 and np.array_equal(values, np.rint(values)):
        return array_zyx.astype(np.int16), 1.0, 0.0
    slope = (high - low) / STORED_MAX if high > low else 1.0
    # Header and pixels must use the same numbers: a DS holds 16 characters at most.
    slope, intercept = float(format_number_as_ds(slope)), float(format_number_as_ds(low))
    return np.clip(np.rint((values - intercept) / slope), 0, STORED_MAX).astype(np.int16), slope, intercept


def _series_attributes(study: StudyTags, series: SeriesTags) -> Dataset:
    """Return the attributes that all instances share: patient, study, series, equipment, sequence."""
    header = Dataset()
    if study.character_set:
        header.SpecificCharacterSet = (
            study.character_set if isinstance(study.character_set, str) else list(study.character_set)
        )
    header.ImageType = list(series.image_type)
    header.InstanceCreationDate = header.StudyDate = header.SeriesDate = study.study_date
    header.InstanceCreationTime = header.StudyTime = header.SeriesTime = study.study_time
    header.AcquisitionDate = header.ContentDate = study.study_date
    header.AcquisitionTime = header.ContentTime = study.study_time
    header.AccessionNumber = study.accession_number
    header.Modality = "MR"
    header.Manufacturer = series.manufacturer
    header.ManufacturerModelName = series.model
    header.SoftwareVersions = "1"
    header.DeviceSerialNumber = "0"
    header.InstitutionName = study.institution
    header.ReferringPhysicianName = ""
    header.StudyDescription = study.study_description
    header.SeriesDescription = series.description
    header.ProtocolName = series.protocol or series.description
    header.PatientName = study.patient_name
    header.PatientID = study.patient_id
    header.PatientBirthDate = study.birth_date
    header.PatientSex = study.sex
    if study.age:
        header.PatientAge = study.age
    header.BodyPartExamined = series.body_part
    header.PatientPosition = series.patient_position
    header.StudyInstanceUID = study.study_uid
    header.SeriesInstanceUID = series.series_uid
    header.StudyID = study.study_id
    header.SeriesNumber = series.number
    header.AcquisitionNumber = 1
    header.FrameOfReferenceUID = derive_uid(study.study_uid, "frame of reference")
    header.PositionReferenceIndicator = ""
    _add_sequence(header, series)
    return header


def _add_sequence(header: Dataset, series: SeriesTags) -> None:
    """Add the attributes of the MR Image module (PS3.3 C.8.3.1)."""
    header.ScanningSequence = list(series.scanning_sequence)
    header.SequenceVariant = list(series.sequence_variant)
    header.ScanOptions = list(series.scan_options)
    header.MRAcquisitionType = series.mr_acquisition_type
    if series.sequence_name:
        header.SequenceName = series.sequence_name
    header.RepetitionTime = _decimal(series.tr_ms)
    header.EchoTime = _decimal(series.te_ms)
    if series.ti_ms is not None:
        header.InversionTime = _decimal(series.ti_ms)
    header.EchoTrainLength = series.echo_train
    header.FlipAngle = _decimal(series.flip_deg)
    header.NumberOfAverages = _decimal(series.averages)
    header.EchoNumbers = 1
    header.ImagedNucleus = "1H"
    header.MagneticFieldStrength = _decimal(series.field_strength_t)
    if series.contrast_agent is not None:
        header.ContrastBolusAgent = series.contrast_agent


def _add_plane(header: Dataset, volume: sitk.Image, series: SeriesTags) -> None:
    """Add the attributes of the Image Plane module that all slices share (PS3.3 C.7.6.2)."""
    column_mm, row_mm, slice_mm = volume.GetSpacing()
    direction = np.reshape(volume.GetDirection(), (3, 3))
    header.PixelSpacing = [_decimal(row_mm), _decimal(column_mm)]
    header.ImageOrientationPatient = [_decimal(value) for value in (*direction[:, 0], *direction[:, 1])]
    thickness_mm = slice_mm if series.slice_thickness_mm is None else series.slice_thickness_mm
    header.SliceThickness = _decimal(thickness_mm)
    if volume.GetSize()[2] > 1:
        header.SpacingBetweenSlices = _decimal(slice_mm)


def _add_pixel_format(header: Dataset, stored_zyx: NDArray[np.int16], slope: float, intercept: float) -> None:
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.Rows, header.Columns = stored_zyx.shape[1:]
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelRepresentation = 1
    if (slope, intercept) != (1.0, 0.0):
        header.RescaleIntercept, header.RescaleSlope = _decimal(intercept), _decimal(slope)
        header.RescaleType = "US"
    shown = stored_zyx[stored_zyx > stored_zyx.max() // 20]
    brightest = float(np.percentile(shown, 99)) if shown.size else 1.0
    header.WindowCenter = _decimal(round((brightest / 2) * slope + intercept, 3))
    header.WindowWidth = _decimal(round(max(brightest * slope, 1.0), 3))


def _position(volume: sitk.Image, index: int) -> tuple[float, float, float]:
    x_mm, y_mm, z_mm = volume.TransformIndexToPhysicalPoint((0, 0, index))
    return x_mm, y_mm, z_mm


def _decimal(value: float | None) -> DSfloat | None:
    """Return a decimal string of at most 16 characters (PS3.5 6.2), None for an empty value."""
    return None if value is None else DSfloat(format_number_as_ds(float(value) + 0.0))
