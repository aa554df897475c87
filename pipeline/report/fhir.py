"""The result as FHIR R4: a transaction Bundle with DiagnosticReport, Observations, Device and Provenance.

::

    DiagnosticReport --result--> Observation (ensemble, category) --derivedFrom--> Observation (each sequence)
          |                             |
          +--> study, order, patient    +--device--> Device
                                                       ^
    Provenance --target--> all of them    agent -------+

Every resource has an id that derives from its run, under which it is put: a Bundle that is posted again changes
nothing. Patient, order and study are named by their identifiers, and never created. The notice stands in every resource
that somebody may read alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from html import escape
from typing import Any, Final
from uuid import UUID

from fhir.resources.R4B.bundle import Bundle
from pydicom.sr.coding import Code

from models.contrast import Contrast
from pipeline.predict import Category
from pipeline.report import codes
from pipeline.report.patient_study import certain_text
from pipeline.report.result_header import MANUFACTURER
from pipeline.report.run import ScoredRun
from pipeline.report.uids import result_uid
from pipeline.report.wording import CONDITION_DEFINITION, replaced_words, research_notice, result_sentence

URI: Final = "urn:ietf:rfc:3986"
"""System of identifiers that are URIs."""
_DICOM_UID: Final = "urn:dicom:uid"
_SCHEME: Final = f"urn:oid:{result_uid('coding scheme', codes.SCHEME, codes.SCHEME_VERSION)}"
_TYPES: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"
_PRELIMINARY: Final = "preliminary"
_CATEGORIES: Final = {Category.AT_OR_ABOVE: codes.AT_OR_ABOVE, Category.BELOW: codes.BELOW}
Resource = dict[str, Any]


def build_fhir(run: ScoredRun) -> Bundle:
    """Return the result of a run as a Bundle, which is valid FHIR R4.

    Parameters
    ----------
    run
        With a score; equal ones give equal Bundles.

    Raises
    ------
    ValueError
        If it would not be valid.
    """
    sequences = {role: _sequence(run, role) for role in run.finding.sequences}
    ensemble = _ensemble(run, sequences)
    observations = [ensemble, _category(run, ensemble), *sequences.values()]
    report, device = _report(run, observations), _device(run)
    resources = [report, *observations, device]
    entries = [_entry(each) for each in [*resources, _provenance(run, resources)]]
    return Bundle.model_validate(
        {
            "resourceType": "Bundle",
            "identifier": _identifier(run, "bundle"),
            "type": "transaction",
            "timestamp": _moment(run),
            "entry": entries,
        }
    )


def _report(run: ScoredRun, observations: Iterable[Resource]) -> Resource:
    notice, sentence = research_notice(run.model), result_sentence(run.finding)
    words = [notice, sentence, *replaced_words(run.provenance.predecessors)]
    accession = certain_text(run.header, "AccessionNumber")
    order = {"identifier": {"type": {"coding": [{"system": _TYPES, "code": "ACSN"}]}, "value": accession}}
    study = {"type": "ImagingStudy", "identifier": _study(run)}
    return {
        **_named(run, "report", "DiagnosticReport"),
        "text": {"status": "generated", "div": _narrative([*words, CONDITION_DEFINITION])},
        **({"basedOn": [{"type": "ServiceRequest", **order}]} if accession else {}),
        "status": _PRELIMINARY,
        "category": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]},
        ],
        "code": _concept(codes.TITLE),
        **_subject(run),
        "issued": _moment(run),
        "result": [_ref(each) for each in observations],
        "imagingStudy": [study],
        "conclusion": " ".join(words),
    }


def _ensemble(run: ScoredRun, sequences: Mapping[Contrast, Resource]) -> Resource:
    threshold = {"code": _concept(codes.DECISION_THRESHOLD), "valueQuantity": _number(run.finding.threshold)}
    return {
        **_observation(run, "ensemble", codes.ENSEMBLE_SCORE),
        "valueQuantity": _number(run.finding.score),
        "derivedFrom": [_ref(each) for each in sequences.values()],
        "component": [threshold],
    }


def _category(run: ScoredRun, ensemble: Resource) -> Resource:
    return {
        **_observation(run, "category", codes.OUTPUT_CATEGORY),
        "valueCodeableConcept": _concept(_CATEGORIES[run.finding.category]),
        "derivedFrom": [_ref(ensemble)],
    }


def _sequence(run: ScoredRun, role: Contrast) -> Resource:
    code = {**_concept(codes.SEQUENCE_SCORE), "text": f"{codes.SEQUENCE_SCORE.meaning}: {role}"}
    weight = {"code": _concept(codes.ENSEMBLE_WEIGHT), "valueQuantity": _number(run.finding.weights[role])}
    return {
        **_observation(run, f"sequence {role}", codes.SEQUENCE_SCORE),
        "code": code,
        "valueQuantity": _number(run.finding.scores[role]),
        "component": [weight],
    }


def _observation(run: ScoredRun, kind: str, code: Code) -> Resource:
    return {
        **_named(run, kind, "Observation"),
        "status": _PRELIMINARY,
        "code": _concept(code),
        **_subject(run),
        "issued": _moment(run),
        "note": [{"text": research_notice(run.model)}],
        "device": _to_device(run),
    }


def _device(run: ScoredRun) -> Resource:
    model = run.model
    software = {"type": {"text": "node"}, "value": run.provenance.software}
    return {
        **_named(run, "device", "Device"),
        "manufacturer": MANUFACTURER,
        "deviceName": [{"name": model.name, "type": "model-name"}],
        "version": [{"type": {"text": "model"}, "value": model.version}, software],
        "property": [{"type": _concept(codes.MODEL_DIGEST), "valueCode": [{"text": model.digest}]}],
        "note": [{"text": research_notice(model)}, {"text": model.intended_use}],
    }


def _provenance(run: ScoredRun, targets: Iterable[Resource]) -> Resource:
    earlier = [
        {"role": "revision", "what": {"identifier": {"system": _DICOM_UID, "value": f"urn:oid:{one.sop_instance_uid}"}}}
        for one in run.provenance.predecessors
    ]
    return {
        **_named(run, "provenance", "Provenance"),
        "target": [_ref(each) for each in targets],
        "recorded": _moment(run),
        "activity": {"text": research_notice(run.model)},
        "agent": [{"who": _to_device(run)}],
        "entity": [{"role": "source", "what": {"type": "ImagingStudy", "identifier": _study(run)}}, *earlier],
    }


# --- what all of them are made of -------------------------------------------------------------------------------------


def _entry(resource: Resource) -> Resource:
    url = f"{resource['resourceType']}/{resource['id']}"
    return {"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource, "request": {"method": "PUT", "url": url}}


def _named(run: ScoredRun, kind: str, resource_type: str) -> Resource:
    """Return what every resource begins with; its id is the UUID behind the UID of its identifier."""
    named = {"resourceType": resource_type, "id": _id(run, kind)}
    return named if resource_type == "Provenance" else {**named, "identifier": [_identifier(run, kind)]}


def _identifier(run: ScoredRun, kind: str) -> dict[str, str]:
    return {"system": URI, "value": f"urn:oid:{_uid(run, kind)}"}


def _id(run: ScoredRun, kind: str) -> str:
    return str(UUID(int=int(_uid(run, kind).rpartition(".")[2])))


def _uid(run: ScoredRun, kind: str) -> str:
    return run.device_uid if kind == "device" else run.names.uid("fhir", kind)


def _ref(resource: Resource) -> dict[str, str]:
    return {"reference": f"urn:uuid:{resource['id']}"}


def _to_device(run: ScoredRun) -> dict[str, str]:
    return {"reference": f"urn:uuid:{_id(run, 'device')}"}


def _subject(run: ScoredRun) -> Resource:
    """Name the patient by number and issuer; none where there is no number."""
    number, issuer = certain_text(run.header, "PatientID"), certain_text(run.header, "IssuerOfPatientID")
    assigner = {"assigner": {"display": issuer}} if issuer else {}
    return {"subject": {"type": "Patient", "identifier": {"value": number, **assigner}}} if number else {}


def _study(run: ScoredRun) -> dict[str, str]:
    return {"system": _DICOM_UID, "value": f"urn:oid:{run.sources.study_uid}"}


def _concept(code: Code) -> Resource:
    return {"coding": [{"system": _SCHEME, "code": code.value, "display": code.meaning}], "text": code.meaning}


def _number(value: float) -> Resource:
    return {"value": round(value, 6), "unit": "1", "system": "http://unitsofmeasure.org", "code": "1"}


def _moment(run: ScoredRun) -> str:
    started: datetime = run.provenance.started
    return (started if started.tzinfo else started.astimezone()).isoformat(timespec="seconds")


def _narrative(words: Iterable[str]) -> str:
    paragraphs = "".join(f"<p>{escape(each)}</p>" for each in words)
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{paragraphs}</div>'
