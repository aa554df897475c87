"""What the report's tests share: a made finding, made headers, readers of content trees, and the validators."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from models.bundle import Evidence, TwoSequences
from models.contrast import Contrast
from pipeline.brain import MaskFacts, WeightsIdentity
from pipeline.errors import HoldReason, StudyHeld
from pipeline.out_of_range import NotStated, OutOfRange
from pipeline.plausibility import MaskFlag
from pipeline.predict import Calibrated, Category, Finding, ModelIdentity, combine
from pipeline.report import (
    Provenance,
    Run,
    ScoredRun,
    Sources,
    Title,
    build_document,
    build_held_reports,
    build_reports,
    build_summary,
    draw_page,
    header_of_study,
    read_run,
    tri_planar,
    write_dataset,
)
from pipeline.report.character_sets import ascii_text
from pipeline.report.result_files import document_pages
from pipeline.report.structured_report import SOP_CLASSES
from pipeline.report.views import Plane
from pipeline.select import Clue, ClueKind, SelectedSeries
from tests.support.services import require

PATIENT_NAME, PATIENT_ID, BIRTH_DATE = "SEEDED^PATIENT", "SEED-ID-4711", "19990102"
STUDY_UID = "1.2.826.0.1.3680043.8.498.4711"
NOTICE = "UNTRAINED DEMONSTRATION MODEL"
COMPREHENSIVE_3D = SOP_CLASSES[0]
WITH_LIBRARY = Title.IMAGING_MEASUREMENT_REPORT

MODEL = ModelIdentity(
    name="WAE-net",
    version="0.1.0",
    digest="ab" * 32,
    notice=NOTICE,
    intended_use="For research on brain MR of patients with tuberous sclerosis complex.",
    architecture="EfficientNet3D-B0, first-block stride 2",
    network_digests={Contrast.T1W: "1a" * 32, Contrast.T2W: "2b" * 32, Contrast.FLAIR: "3c" * 32},
)
FINDING = Finding(
    scores={Contrast.T1W: 0.61, Contrast.T2W: 0.7321, Contrast.FLAIR: 0.81},
    weights={Contrast.T1W: 0.3, Contrast.T2W: 0.3, Contrast.FLAIR: 0.4},
    score=0.72663,
    score_patent=0.24221,
    threshold=0.5,
    category=Category.AT_OR_ABOVE,
    model=MODEL,
)
FOLDS: dict[Contrast, tuple[float, ...]] = {
    Contrast.T1W: (0.5, 0.6, 0.73),
    Contrast.T2W: (0.7, 0.73, 0.7663),
    Contrast.FLAIR: (0.8, 0.78, 0.85),
}
FULL = replace(
    FINDING,
    model=replace(
        MODEL,
        evidence=Evidence(
            synthetic=False, development_patients=76, test_patients=19, weights_chosen_on="out_of_fold", auc=0.833,
            auc_interval=(0.65, 1.0),
        ),
    ),
    members=FOLDS,
    calibrated=Calibrated(0.6314, "platt", 76),
    out_of_range=(
        OutOfRange(
            HoldReason.OUT_OF_RANGE_AGE, "The patient's age is outside of 1 to 18 years. Its score may not hold."
        ),
        OutOfRange(NotStated.FIELD_STRENGTH, "The headers of T2W do not tell the field strength."),
    ),
)  # fmt: skip
"""A finding with everything that a trained bundle adds."""
MODE = TwoSequences(weights={Contrast.T2W: 0.4, Contrast.FLAIR: 0.6}, threshold=0.4, patients=19, auc=0.8)
TWO = combine(
    {Contrast.T2W: 0.5, Contrast.FLAIR: 0.7}, {Contrast.T2W: 0.4, Contrast.FLAIR: 0.6}, 0.4, MODEL, two_sequences=MODE
)
"""A finding of a study without T1W."""
BRAIN = {
    Contrast.T1W: MaskFacts(1321.26),
    Contrast.T2W: MaskFacts(1300.0, (MaskFlag.TOUCHES_BORDER, MaskFlag.FRAGMENTED)),
    Contrast.FLAIR: MaskFacts(1310.04),
}
PROVENANCE = Provenance(
    input_digest="ef" * 32,
    started=datetime(2024, 3, 4, 11, 22, 33),
    software="dicom-node 0.1.0",
    brain_weights=WeightsIdentity("embedded", "01" * 32),
)


def mr_header(role: Contrast, number: int) -> Dataset:
    """One ordinary MR header without pixels."""
    series = list(Contrast).index(role) + 1
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 100"
    header.SOPClassUID = MRImageStorage
    header.SOPInstanceUID = f"{STUDY_UID}.{series}.{number}"
    header.StudyInstanceUID = STUDY_UID
    header.SeriesInstanceUID = f"{STUDY_UID}.{series}"
    header.FrameOfReferenceUID = f"{STUDY_UID}.99"
    header.PatientName, header.PatientID, header.PatientBirthDate = PATIENT_NAME, PATIENT_ID, BIRTH_DATE
    header.PatientSex, header.PatientAge = "F", "005Y"
    header.IssuerOfPatientID = "HOSPITAL"
    header.StudyDate, header.StudyTime = "20240304", "101112.50"
    header.AccessionNumber, header.StudyID, header.ReferringPhysicianName = "ACC-1", "7", "DOCTOR^REFERRING"
    header.StudyDescription = "MR head"
    header.Modality, header.SeriesNumber, header.InstanceNumber = "MR", series, number
    header.Rows, header.Columns = 240, 256
    header.Manufacturer, header.ManufacturerModelName = "SCANNER MAKER", "SCANNER 3T"
    header.InstitutionName, header.DeviceSerialNumber, header.SoftwareVersions = "HOSPITAL", "4242", ["V1", "V2"]
    request = Dataset()
    request.RequestedProcedureID, request.RequestedProcedureDescription = "RP-1", "MR head"
    header.RequestAttributesSequence = [request]
    return header


def write_header(header: Dataset, path: Path, *, implicit: bool = False) -> Path:
    """Write a header as a file, without checks, as a modality would."""
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    labels = header.get("SpecificCharacterSet")
    header.set_original_encoding(implicit, True, convert_encodings(labels) if labels else default_encoding)
    header.save_as(path, enforce_file_format=True)
    return path


def write_inputs(
    folder: Path, change=None, *, images: int = 3, implicit: bool = False
) -> dict[Contrast, SelectedSeries]:
    """Three series of headers; `change` edits each header before it is written."""
    inputs = {}
    for series, role in enumerate(Contrast, start=1):
        files = []
        for number in range(1, images + 1):
            header = mr_header(role, number)
            if change is not None:
                change(header)
            files.append(write_header(header, folder / f"{role}-{number}.dcm", implicit=implicit))
        clues = (
            Clue(ClueKind.NAMES_ROLE, {"role": role, "words": role}),
            Clue(ClueKind.ACQUISITION, {"acquisition": "3D"}),
        )
        inputs[role] = SelectedSeries(f"{STUDY_UID}.{series}", series, f"AX {role} 头部", clues, tuple(files))
    return inputs


def written(dataset: Dataset, folder: Path, name: str = "result.dcm") -> Path:
    path = folder / name
    write_dataset(dataset, path)
    return path


def views_of() -> dict[Contrast, tuple[Plane, ...]]:
    """Planes of three made volumes with their masks."""
    return {role: tri_planar(*made_volume()) for role in Contrast}


def made_volume() -> tuple[sitk.Image, sitk.Image]:
    """An ellipsoid on canonical axes with a mask inside of it; slices are thick."""
    z, y, x = np.ogrid[-12:12, -60:60, -50:50]
    radius = np.sqrt((z / 11) ** 2 + (y / 55) ** 2 + (x / 45) ** 2)
    volume = sitk.GetImageFromArray((1000 * np.clip(1.2 - radius, 0, 1)).astype(np.float32))
    mask = sitk.GetImageFromArray((radius < 0.8).astype(np.uint8))
    for image in (volume, mask):
        image.SetSpacing((1.5, 1.5, 6.0))
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return volume, mask


def run_of(
    inputs: dict[Contrast, SelectedSeries],
    provenance: Provenance = PROVENANCE,
    finding: Finding = FINDING,
    brain: dict[Contrast, MaskFacts] = BRAIN,
) -> ScoredRun:
    """The run of a made finding on series whose headers are read."""
    return read_run(finding, brain, inputs, provenance)


NAMED = {
    Contrast.T1W: SelectedSeries("2.25.1", 3, "t1_mprage_sag_p2_iso", (), ()),
    Contrast.T2W: SelectedSeries("2.25.2", 5, "t2_tse_tra_512", (), ()),
    Contrast.FLAIR: SelectedSeries("2.25.3", 7, "AX FLAIR fs 3 mm", (Clue(ClueKind.BY_HAND),), ()),
}


def drawn_run(
    finding: Finding = FINDING, brain: dict[Contrast, MaskFacts] = BRAIN, provenance: Provenance = PROVENANCE
) -> ScoredRun:
    """The run of a made finding on series without files: enough for pictures."""
    return ScoredRun(finding.model, provenance, NAMED, Sources(Dataset(), {}), finding, brain)


def report_of(
    inputs: dict[Contrast, SelectedSeries], provenance: Provenance = PROVENANCE, finding: Finding = FINDING
) -> Dataset:
    return build_reports(run_of(inputs, provenance, finding))[COMPREHENSIVE_3D]


def summary_of(
    inputs: dict[Contrast, SelectedSeries], provenance: Provenance = PROVENANCE, finding: Finding = FINDING
) -> Dataset:
    run = run_of(inputs, provenance, finding)
    return build_summary(run, draw_page(run, views_of()).picture)


def document_of(
    inputs: dict[Contrast, SelectedSeries], provenance: Provenance = PROVENANCE, finding=FINDING
) -> Dataset:
    run = run_of(inputs, provenance, finding)
    return build_document(run, document_pages(run, views_of()))


HELD = StudyHeld(HoldReason.MISSING_ROLE, "No series of the study is FLAIR; acquire or send it.")


def held_of(inputs: dict[Contrast, SelectedSeries], provenance: Provenance = PROVENANCE) -> dict[str, Dataset]:
    """The reports of a study whose FLAIR is missing, by SOP class."""
    found: dict[Contrast, SelectedSeries] = {role: inputs[role] for role in inputs if role is not Contrast.FLAIR}
    header = header_of_study([path for series in found.values() for path in series.files], STUDY_UID)
    assert header is not None
    return build_held_reports(Run(MODEL, provenance, found, Sources(header, {})), HELD)


def content_items(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", []):
        yield child
        yield from content_items(child)


def named(item: Dataset, code) -> list[Dataset]:
    found = []
    for child in content_items(item):
        name = child.ConceptNameCodeSequence[0]
        if (name.CodeValue, name.CodingSchemeDesignator) == (code.value, code.scheme_designator):
            found.append(child)
    return found


def numbers(item: Dataset, code) -> list[float]:
    return [float(child.MeasuredValueSequence[0].NumericValue) for child in named(item, code)]


def raw(dataset: Dataset, keyword: str) -> bytes:
    return dataset.get_item(keyword).value.rstrip(b" ")


def without(*keywords: str):
    def change(header: Dataset) -> None:
        for keyword in keywords:
            if keyword in header:
                delattr(header, keyword)

    return change


def with_raw(keyword: str, vr: str, value: bytes):
    """Put bytes into a header as a modality would write them, right or wrong."""
    padded = value + b" " * (len(value) % 2)

    def change(header: Dataset) -> None:
        tag = Tag(tag_for_keyword(keyword))
        header[tag] = RawDataElement(tag, vr, len(padded), padded, 0, False, True)

    return change


# --- round trip -------------------------------------------------------------------------------------------------------

_STATEMENT = Path(__file__).parents[2] / "deploy" / "CONFORMANCE.md"
_SIDES = {"at_or_above_threshold": "TSC006", "below_threshold": "TSC007"}


def published_terms() -> dict[str, str]:
    """Return the private code table as the conformance statement publishes it: value and meaning."""
    return dict(re.findall(r"^\| (TSC\d{3}) \| ([^|]+?) \|", _STATEMENT.read_text("utf-8"), re.MULTILINE))


def values_of(report: Dataset) -> dict[str, list[str]]:
    """Return the values of a report by code value, read without any knowledge but that of codes."""
    found: dict[str, list[str]] = {}
    for item in content_items(report):
        name = item.ConceptNameCodeSequence[0]
        if name.CodingSchemeDesignator == "99TSCWAE":
            assert published_terms()[name.CodeValue] == name.CodeMeaning
        found.setdefault(str(name.CodeValue), []).append(_value_of(item))
    return found


def _value_of(item: Dataset) -> str:
    if item.ValueType == "NUM":
        return str(item.MeasuredValueSequence[0].NumericValue)
    if item.ValueType == "CODE":
        return str(item.ConceptCodeSequence[0].CodeValue)
    return str(item.get("TextValue", item.get("UID", "")))


def pointed_at(key: Dataset) -> list[str]:
    """Return the SOP Instance UIDs that a key object selects."""
    references = [item for item in key.ContentSequence if item.ValueType in {"COMPOSITE", "IMAGE"}]
    return [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in references]


def predecessors(report: Dataset) -> list[str]:
    """Return the SOP Instance UIDs of the reports that a report revises."""
    return [
        item.ReferencedSOPInstanceUID
        for study in report.PredecessorDocumentsSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def check_round_trip(result: dict[str, Any], report: Dataset) -> None:
    """Fail unless everything that ``result.json`` says of the finding stands in the report under its code."""
    values, roles = values_of(report), [Contrast(name) for name in result["sequences_used"]]

    def shown(code: str, wanted: list[float], decimals: int = 2) -> None:
        # A number in words is followed by its unit.
        found = [float(value.split()[0]) for value in values.get(code, [])]
        assert found == [float(f"{value:.{decimals}f}") for value in wanted], code

    assert report.StudyInstanceUID == result["study_uid"]
    score, threshold = (float(values[code][0]) for code in ("TSC001", "TSC004"))
    assert (score, threshold) == pytest.approx((result["score"], result["threshold"]), abs=0.005)
    assert (score >= threshold) == (result["score"] >= result["threshold"])
    shown("TSC019", [result["score_patent"]])
    shown("TSC002", [result["scores"][role] for role in roles])
    shown("TSC003", [100 * result["weights"][role] for role in roles], 1)
    shown("TSC021", [result["brain"][role]["volume_ml"] for role in roles], 0)
    spreads = [result["spread"][part] for part in ("ensemble", *roles)] if result["spread"] else []
    for code, key in (("TSC027", "sd"), ("TSC028", "low"), ("TSC029", "high")):
        shown(code, [spread[key] for spread in spreads])
    calibrated = result["calibrated"]
    shown("122157", [100 * calibrated["probability"]] if calibrated else [], 1)
    assert values.get("TSC031", []) == [f"{d['code']}: {d['sentence']}" for d in result["out_of_range"]]
    assert len(values.get("TSC033", [])) == ("two_sequences" in result["flags"])
    assert values["TSC005"] == [_SIDES[result["category"]]]
    assert values["112002"] == [result["roles"][role]["series_uid"] for role in roles]
    for row, doubts, role in zip(values["TSC011"], values["TSC022"], roles, strict=True):
        series = result["roles"][role]
        said = [f"{role}: series {series['series_number']}", series["description"], *series["evidence"]]
        assert [words for words in said if ascii_text(words) not in row] == []
        assert [flag for flag in result["brain"][role]["flags"] if flag not in doubts] == []
    model, weights = result["model"], result["brain_weights"]
    for code, words in (
        ("111001", model["name"]),
        ("111003", model["version"]),
        ("TSC012", model["digest"]),
        ("TSC010", model["intended_use"]),
        ("TSC023", weights["name"]),
        ("TSC023", weights["digest"]),
        ("TSC026", result["input_digest"]),
        ("121013", result["software"]),
        ("TSC034", result["notice"]),
    ):
        assert words in values[code][0], code


# --- validators -------------------------------------------------------------------------------------------------------

ALLOWED = (
    re.compile(r"Unrecognized defined term = <99TSCWAE>"),
    # IHE AIR asks for it; the tool is older than the attribute's place in the standard.
    re.compile(r"ContributingEquipmentSequence.*DeviceUID.*Attribute is not present in standard DICOM IOD"),
    # Synthetic Data, of test data only.
    re.compile(r"\((0x)?0008,(0x)?001c\)", re.IGNORECASE),
    re.compile(r"VR checker does not support"),
)
# A hint about media directories, given for attributes that may be empty and are, because the source has none.
EMPTY_IN_SOURCE = re.compile(r"Missing attribute or value that would be needed to build DICOMDIR")
COMPLAINT = re.compile(r"^\s*([EFW]:|error|warning|\(0x)", re.IGNORECASE)

# TID 1500 is extensible, and PixelMed's copy of it is of 2022: what is newer or ours is no mistake.
_EXTENSIONS = ("121111,DCM", "TSC034,99TSCWAE", "122405,DCM", "TSC017,99TSCWAE", "TSC005,99TSCWAE", "TSC009,99TSCWAE",
               "TSC031,99TSCWAE", "TSC039,99TSCWAE", "TSC033,99TSCWAE", "TSC035,99TSCWAE", "121106,DCM",
               "112002,DCM")  # fmt: skip
ALLOWED_BY_TEMPLATE = (
    re.compile(r"(" + "|".join(_EXTENSIONS) + r'),"[^"]*"\): Content Item not in template$'),
    # The tool takes a Baseline context group as a Defined one.
    re.compile(r'\(24590-2,LN,"MR Brain"\) not found in context group 100$'),
)
# Java's own limits on style sheets are below what the validator's need.
_JAVA = " ".join(f"-Djdk.xml.xpath{name}Limit=0" for name in ("TotalOp", "ExprOp", "ExprGrp"))


def complaints(tool: str, *arguments: str) -> list[str]:
    """Return every complaint of a validator that is not allowed; dciodvfy may return 0 in spite of errors."""
    result, lines = _run(tool, *arguments)
    found = [line for line in lines if COMPLAINT.match(line) and not any(allowed.search(line) for allowed in ALLOWED)]
    if tool != "dciodvfy" and (result.returncode or not any("Summary" in line for line in lines)):
        found.append(f"return code {result.returncode}, {len(lines)} lines")
    return found


def template_complaints(path: Path) -> list[str]:
    """Return what PixelMed's validator, the only one that knows templates, says of a report and is not allowed."""
    _, lines = _run("DicomSRValidator", str(path))
    assert "Found Root Template TID_1500 (MeasurementReport)" in lines, lines
    assert "IOD validation complete" in lines, lines
    found = [line for line in lines if COMPLAINT.match(line)]
    return [line for line in found if not any(allowed.search(line) for allowed in ALLOWED_BY_TEMPLATE)]


def check_object(path: Path, also: re.Pattern[str] | None = None) -> None:
    """Fail if dciodvfy complains; `also` is allowed here."""
    found = complaints("dciodvfy", "-new", str(path))
    assert [line for line in found if also is None or not also.search(line)] == []


def check_report(path: Path, also: re.Pattern[str] | None = None) -> None:
    """Fail if one of three validators complains of an SR; `also` is allowed here."""
    check_object(path, also)
    assert complaints("dsrdump", str(path)) == []
    assert complaints("dcsrdump", str(path)) == []


def _run(tool: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    program = Path("/usr/bin") / tool
    require(program)
    environment = {**os.environ, "JAVA_TOOL_OPTIONS": _JAVA}
    command: list[str | Path] = [program, *arguments]
    result = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, env=environment, timeout=300
    )
    return result, (result.stderr + "\n" + result.stdout).splitlines()
