"""The result as FHIR R4: valid, whole, the same each time, and never without its notice."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from pydicom.dataset import Dataset

from models.contrast import Contrast
from pipeline.report import Predecessor, ScoredRun, Sources
from pipeline.report.fhir import build_fhir
from tests.support.reports import BRAIN, FINDING, FULL, NAMED, NOTICE, PROVENANCE, TWO, mr_header, with_raw

EARLIER = replace(PROVENANCE, predecessors=(Predecessor("2.25.1", "2.25.2", "2.25.3"),))


def run(header: Dataset | None = None, finding: Any = FINDING, provenance: Any = PROVENANCE) -> ScoredRun:
    sources = Sources(header or mr_header(Contrast.T1W, 1), {})
    return ScoredRun(finding.model, provenance, NAMED, sources, finding, BRAIN)


def written(made: ScoredRun) -> dict[str, Any]:
    bundle: dict[str, Any] = json.loads(build_fhir(made).model_dump_json())
    return bundle


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


@pytest.mark.parametrize("finding", [FINDING, FULL, TWO], ids=["plain", "full", "two sequences"])
def test_every_resource_is_valid_and_refers_to_what_is_there(finding: Any):
    bundle = written(run(finding=finding, provenance=EARLIER))
    get_fhir_model_class("Bundle").model_validate(bundle)
    there = {entry["fullUrl"] for entry in bundle["entry"]}
    text = json.dumps(bundle)
    named = {part.split('"')[0] for part in text.split('"reference": "')[1:]}
    assert named <= there
    for entry in bundle["entry"]:
        resource = entry["resource"]
        assert entry["request"] == {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}
        assert entry["fullUrl"] == f"urn:uuid:{resource['id']}"
    scores = len(finding.sequences)
    kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
    assert kinds == ["DiagnosticReport", *["Observation"] * (2 + scores), "Device", "Provenance"]


def test_numbers_and_names_are_those_of_the_finding():
    bundle = written(run())
    (report,), (device,) = resources(bundle, "DiagnosticReport"), resources(bundle, "Device")
    ensemble, category, *sequences = resources(bundle, "Observation")
    assert ensemble["valueQuantity"]["value"] == pytest.approx(FINDING.score)
    assert ensemble["component"][0]["valueQuantity"]["value"] == FINDING.threshold
    assert category["valueCodeableConcept"]["coding"][0]["code"] == "TSC006"
    assert [each["valueQuantity"]["value"] for each in sequences] == list(FINDING.scores.values())
    assert [each["component"][0]["valueQuantity"]["value"] for each in sequences] == list(FINDING.weights.values())
    assert (device["deviceName"][0]["name"], device["version"][0]["value"]) == ("WAE-net", "0.1.0")
    assert report["basedOn"][0]["identifier"]["value"] == "ACC-1"
    assert report["subject"]["identifier"] == {"value": "SEED-ID-4711", "assigner": {"display": "HOSPITAL"}}
    assert "AED-refractory score 0.73 on a scale from 0 to 1" in report["conclusion"]


def test_whatever_is_read_alone_says_research_only_and_is_preliminary():
    bundle = written(run())
    for entry in bundle["entry"]:
        assert NOTICE in json.dumps(entry["resource"])
        assert "FOR RESEARCH USE ONLY" in json.dumps(entry["resource"])
    judged = [*resources(bundle, "DiagnosticReport"), *resources(bundle, "Observation")]
    assert {resource["status"] for resource in judged} == {"preliminary"}


def test_a_revision_names_what_it_replaces():
    bundle = written(run(provenance=EARLIER))
    (report,), (provenance,) = resources(bundle, "DiagnosticReport"), resources(bundle, "Provenance")
    assert "that score is no longer valid" in report["conclusion"]
    assert [each["role"] for each in provenance["entity"]] == ["source", "revision"]
    assert provenance["entity"][1]["what"]["identifier"]["value"] == "urn:oid:2.25.3"


def test_equal_runs_give_equal_bytes_and_others_have_other_ids():
    first = build_fhir(run()).model_dump_json()
    assert build_fhir(run()).model_dump_json() == first
    other = written(run(provenance=replace(PROVENANCE, input_digest="00" * 32)))
    ids = [{entry["resource"]["id"] for entry in bundle["entry"]} for bundle in (json.loads(first), other)]
    # The device alone is the same.
    assert len(ids[0] & ids[1]) == 1


@pytest.mark.parametrize(
    ("charset", "value", "expected"),
    [
        ("ISO_IR 192", "MÄRÖÜ-7".encode(), "MÄRÖÜ-7"),
        ("ISO_IR 192", "Ä-7".encode(), None),  # or two letters of another set
        ("ISO_IR 100", b"\xc4\xd6-\xdc1", None),  # may be Latin or Cyrillic
        ("ISO_IR 100", b"", None),
        ("ISO_IR 100", b"a<b&'c\"", "a<b&'c\""),
    ],
)
def test_a_number_that_may_be_read_in_two_ways_names_nobody(charset: str, value: bytes, expected: str | None):
    header = mr_header(Contrast.T1W, 1)
    header.SpecificCharacterSet = charset
    with_raw("PatientID", "LO", value)(header)
    (report,) = resources(written(run(header)), "DiagnosticReport")
    found = report.get("subject", {}).get("identifier", {}).get("value")
    assert found == expected
