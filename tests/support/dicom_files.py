"""DICOM files that tests change, re-encode or make: what `pipeline.synthetic` would never write."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian

from pipeline.synthetic import derive_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def edit(path: Path, **attributes) -> Path:
    """Set attributes in place."""
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def encode(path: Path, syntax: UID) -> Path:
    """Write a file of 16-bit grey values in another transfer syntax, in place."""
    dataset = pydicom.dcmread(path)
    if syntax.is_compressed:
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path)
        return path
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.decompress(generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        dataset["PixelData"].VR = "OW"
        list(dataset.iterall())  # no element may stay as the bytes that were read
        pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=False, force_encoding=True)
        return path
    dataset.save_as(path)
    return path


def overwrite(path: Path, keyword: str, vr: str, value: bytes) -> Path:
    """Replace or add an element of an explicit little endian file by its bytes, which pydicom would refuse to write."""
    edit(path, **{keyword: {"FD": 1.0, "CS": "ISO_IR 100", "AS": "010Y", "LO": "x"}.get(vr, 1)})
    content = path.read_bytes()
    at = content.index(tag_bytes(keyword) + vr.encode())
    (length,) = struct.unpack_from("<H", content, at + 6)
    changed = content[at : at + 6] + struct.pack("<H", len(value)) + value
    path.write_bytes(content[:at] + changed + content[at + 8 + length :])
    return path


def tag_bytes(keyword: str) -> bytes:
    """Return the tag of an attribute as it stands in a little endian file."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF)


def item(**attributes) -> Dataset:
    """Return a data set, or an item of a sequence."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def write_enhanced(path: Path, study_uid: str, planes: list[dict], **attributes) -> Path:
    """Write an Enhanced MR object of 6 x 8 pixels with one functional-group item per plane."""
    dataset = item(
        SOPClassUID=EnhancedMRImageStorage, SOPInstanceUID=derive_uid(path.name), StudyInstanceUID=study_uid,
        SeriesInstanceUID=derive_uid("enhanced"), SeriesNumber=7, Modality="MR", SeriesDescription="enhanced",
        ImageType=["ORIGINAL", "PRIMARY", "M", "NONE"], MRAcquisitionType="3D", EchoPulseSequence="GRADIENT",
        InversionRecovery="YES", NumberOfFrames=len(planes), Rows=6, Columns=8, SamplesPerPixel=1, BitsAllocated=16,
        BitsStored=16, HighBit=15, PixelRepresentation=0, PhotometricInterpretation="MONOCHROME2",
        PixelData=bytes(6 * 8 * 2 * len(planes)),
    )  # fmt: skip
    dataset["PixelData"].VR = "OW"
    timing = item(RepetitionTime=1800.0, InversionTimes=[900.0], FlipAngle=8.0)
    dataset.SharedFunctionalGroupsSequence = [
        item(
            MRTimingAndRelatedParametersSequence=[timing],
            PixelMeasuresSequence=[item(PixelSpacing=[1.5, 1.25])],
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [_groups(plane) for plane in planes]
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def _groups(plane: dict) -> Dataset:
    groups = item(
        PlanePositionSequence=[item(ImagePositionPatient=list(plane["position"]))],
        PlaneOrientationSequence=[item(ImageOrientationPatient=list(plane.get("orientation", AXIAL)))],
        MREchoSequence=[item(EffectiveEchoTime=plane.get("te", 2.4))],
        MRImageFrameTypeSequence=[
            item(
                FrameType=plane.get("type", ["ORIGINAL", "PRIMARY", "M", "NONE"]),
                ComplexImageComponent=plane.get("component", "MAGNITUDE"),
            )
        ],
        FrameContentSequence=[
            item(
                TemporalPositionIndex=plane.get("time", 1),
                StackID=plane.get("stack", "1"),
                FrameAcquisitionNumber=plane.get("acquisition", 1),
            )
        ],
    )
    if "slope" in plane:
        groups.PixelValueTransformationSequence = [
            item(RescaleSlope=plane["slope"], RescaleIntercept=plane["intercept"])
        ]
    if "b" in plane:
        groups.MRDiffusionSequence = [item(DiffusionBValue=plane["b"])]
    if "administered" in plane:
        groups.ContrastBolusUsageSequence = [item(ContrastBolusAgentAdministered=plane["administered"])]
    return groups
