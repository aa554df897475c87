"""Headers of the result objects: patient and study copied, series, equipment and labels our own.

Everything ordinary in real headers passes: attributes that are missing become empty, a sex or date that is not one
becomes empty, and text keeps its bytes (:mod:`pipeline.report.character_sets`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import Final

from pydicom import dcmread
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from models.contrast import Contrast
from pipeline.report import codes
from pipeline.report.character_sets import CharacterSet, character_set, copy_text, declare, short_text, text_of
from pipeline.report.patient_study import copy_patient_and_study
from pipeline.report.provenance import Predecessor
from pipeline.report.run import Run
from pipeline.report.uids import IMPLEMENTATION_CLASS_UID

MANUFACTURER: Final = "dicom-node (research software)"
RESEARCH_ONLY: Final = "RESEARCH ONLY"

_OFFSET = re.compile(r"([+-])(\d{2})([0-5]\d)")
_LARGEST_OFFSET_H: Final = 14
"""PS3.5 6.2 (DT): from -1200 to +1400."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What distinguishes one kind of result object from another.

    Attributes
    ----------
    name
        Distinguishes the UIDs.
    modality, series_number, series_description
        Of the object's own series; the number is high, so that the series stands after the images.
    """

    name: str
    modality: str
    series_number: int
    series_description: str


REPORT: Final = Kind("sr", "SR", 9901, f"AED-refractory score SR - {RESEARCH_ONLY}")
SUMMARY_PAGE: Final = Kind("summary", "OT", 9902, f"AED-refractory score page - {RESEARCH_ONLY}")
HELD: Final = Kind("held", "SR", 9904, f"No AED-refractory score SR - {RESEARCH_ONLY}")
DOCUMENT: Final = Kind("document", "DOC", 9903, f"AED-refractory score PDF - {RESEARCH_ONLY}")
SALIENCY_PAGE: Final = Kind("saliency page", "OT", 9905, f"Saliency page - {RESEARCH_ONLY}")
KEY_OBJECT: Final = Kind("key object", "KO", 9909, f"AED-refractory score key object - {RESEARCH_ONLY}")
# Not MR: no viewer shall hang a map of what a network reacts to among the images of the scanner.
SALIENCY_MAPS: Final = {
    role: Kind(f"saliency {role}", "OT", number, f"Saliency map {role} - {RESEARCH_ONLY}")
    for number, role in enumerate(Contrast, start=9906)
}


def result_header(kind: Kind, sop_class_uid: str, run: Run) -> Dataset:
    """Return the modules that all result objects share, with file meta information.

    Parameters
    ----------
    kind
        Of the object; each kind has a series of its own.
    sop_class_uid
        Of the object; objects of one kind and different SOP classes share a series.
    run
        Names the object and its equipment; patient and study are copied from its header, which is not changed.

    Returns
    -------
    pydicom.Dataset
        Patient, General Study, Series, Equipment and SOP Common modules (PS3.3 C.7.1.1, C.7.2.1, C.7.3.1, C.7.5.1,
        C.12.1).
    """
    names, header, charset = run.names, run.header, character_set(run.header)
    target = Dataset()
    declare(target, charset)
    copy_patient_and_study(header, target, charset)
    target.SOPClassUID = sop_class_uid
    target.SOPInstanceUID = names.uid(f"{kind.name} instance", sop_class_uid)
    target.SeriesInstanceUID = names.uid(f"{kind.name} series")
    target.Modality, target.SeriesNumber, target.InstanceNumber = kind.modality, kind.series_number, 1
    target.SeriesDescription = kind.series_description
    target.ContentQualification = "RESEARCH"
    _set_times(header, target, run.provenance.started)
    _set_equipment(target, run)
    target.ContributingEquipmentSequence = [_scanner(header, charset), _algorithm(target, run.device_uid)]
    target.file_meta = _file_meta(target)
    return target


def replaced(kind: Kind, run: Run) -> tuple[Predecessor, ...]:
    """Return the reports that one of a kind replaces: written again, it has the UIDs it had, and replaces not itself.

    Parameters
    ----------
    kind
        Of the report.
    run
        Names it, and knows what was sent before.
    """
    own = run.names.uid(f"{kind.name} series")
    return tuple(earlier for earlier in run.provenance.predecessors if earlier.series_uid != own)


def settled(dataset: Dataset) -> Dataset:
    """Return `dataset` as it reads back from its own file, so that writing it again gives the same bytes.

    Text that was copied by its bytes is then decoded by its character set when it is looked at, and not before.

    Parameters
    ----------
    dataset
        Whole result object with file meta information; not to be used afterwards.
    """
    character_sets = dataset.get("SpecificCharacterSet")
    _keep_bytes(dataset, convert_encodings(character_sets) if character_sets else default_encoding)
    buffer = BytesIO()
    dataset.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)


def _keep_bytes(dataset: Dataset, encodings: str | list[str]) -> None:
    """Declare bytes that were copied as already encoded: else pydicom decodes and encodes them before it writes."""
    dataset.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding=encodings)
    for element in dataset.elements():
        if isinstance(element, DataElement) and element.VR == "SQ":
            for item in element.value:
                _keep_bytes(item, default_encoding)


def _set_times(source: Dataset, target: Dataset, started: datetime) -> None:
    offset = text_of(source, "TimezoneOffsetFromUTC")
    zone = _zone(offset)
    if zone is not None:
        target.TimezoneOffsetFromUTC = offset
    # Without an offset in the source, dates of the study are local, and so must these be.
    local = started if started.tzinfo is None else started.astimezone(zone)
    date, time = local.strftime("%Y%m%d"), local.strftime("%H%M%S")
    for event in ("InstanceCreation", "Series", "Content"):
        setattr(target, f"{event}Date", date)
        setattr(target, f"{event}Time", time)


def _set_equipment(target: Dataset, run: Run) -> None:
    model = run.model
    target.Manufacturer = MANUFACTURER
    target.ManufacturerModelName = short_text(model.name) or "unnamed"
    target.DeviceSerialNumber = short_text(model.digest) or "none"
    target.SoftwareVersions = [
        short_text(run.provenance.software) or "unknown",
        short_text(f"{model.name} {model.version}"),
        short_text(f"brain extraction {run.provenance.brain_weights.name}"),
    ]


def _scanner(source: Dataset, charset: CharacterSet) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [codes.code_item(codes.ACQUISITION_EQUIPMENT)]
    for keyword in ("Manufacturer", "InstitutionName", "StationName", "ManufacturerModelName", "DeviceSerialNumber"):
        copy_text(source, item, keyword, charset)
    copy_text(source, item, "SoftwareVersions", charset)
    if "Manufacturer" not in item:
        item.Manufacturer = "UNKNOWN"
    return item


def _algorithm(target: Dataset, device_uid: str) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [codes.code_item(codes.PROCESSING_EQUIPMENT)]
    item.Manufacturer = target.Manufacturer
    item.ManufacturerModelName = target.ManufacturerModelName
    item.DeviceSerialNumber = target.DeviceSerialNumber
    item.SoftwareVersions = target.SoftwareVersions
    item.DeviceUID = device_uid
    item.ContributionDateTime = target.ContentDate + target.ContentTime
    item.ContributionDescription = "Analysis of T1W, T2W and FLAIR for research"
    return item


def _file_meta(target: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = target.SOPClassUID
    meta.MediaStorageSOPInstanceUID = target.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = "DICOM-NODE"
    return meta


def _zone(offset: str) -> timezone | None:
    match = _OFFSET.fullmatch(offset)
    if match is None or int(match[2]) > _LARGEST_OFFSET_H:
        return None
    minutes = int(match[2]) * 60 + int(match[3])
    return timezone(timedelta(minutes=-minutes if match[1] == "-" else minutes))
