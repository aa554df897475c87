"""One study through the whole chain with all that a bundle may carry: folds, calibration, range, two sequences."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import dcmread
from safetensors.torch import save_file

from models.brain_weights import EMBEDDED, open_brain_weights
from models.bundle import SHIPPED, Range, open_bundle
from models.calibration import calibrated
from models.contrast import Contrast
from models.efficientnet3d import efficientnet3d_b0
from models.feature_space import fit_feature_space, save_axes
from models.result_records import RECORD_FILES, Record
from pipeline.report import render_tree
from pipeline.report.result_files import REPORT_FILES
from pipeline.result import RESULT_FILE
from pipeline.select import select_study
from pipeline.study import Models, load_models, run_study
from tests.support.bundles import change_metadata
from tests.support.reports import check_round_trip

FOLDS = ["models/0.safetensors", "models/1.safetensors"]
METADATA = {
    "grid": {"size_xyz": [64, 64, 64], "spacing_xyz_mm": [3.0, 3.0, 3.0], "centre": "brain"},
    "network_files": {"T1W": FOLDS, "T2W": FOLDS[::-1], "FLAIR": FOLDS},
    "calibration": {"method": "platt", "slope": 1.5, "intercept": -0.2, "patients": 76},
    "range": {
        "age_years": [0, 120],
        "field_strength_t": [1.5],
        "brain_weights_digest": "0" * 64,
        "contrast_agent": "never",
        "features": {"file": "models/features.safetensors", "limits": dict.fromkeys(tuple(Contrast), 1e-3)},
        "actions": {"field_strength": "flag"},
    },
    "two_sequences": [{"weights": {"T1W": 0.25, "T2W": 0.75}, "threshold": 0.9, "patients": 19, "auc": 0.7}],
    "evidence": {
        "synthetic": True,
        "development_patients": 76,
        "test_patients": 19,
        "weights_chosen_on": "out_of_fold",
    },
}


@dataclass
class Run:
    """A run of a study, and the value of each step."""

    result: dict[str, Any]
    out: Path
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = Path(shutil.copytree(SHIPPED / "untrained-demo", tmp_path_factory.mktemp("study") / "bundle"))
    (folder / "models").mkdir()
    for seed, name in enumerate(FOLDS):
        save_file(efficientnet3d_b0(2, seed).state_dict(), folder / name)
    space = fit_feature_space(np.random.default_rng(0).normal(size=(5, 1280)), 2)
    save_axes(folder / "models" / "features.safetensors", dict.fromkeys(tuple(Contrast), space))
    (folder / "configs" / "inference.json").write_text("{}")
    change_metadata(folder, seed=None, **METADATA)
    return load_models(open_bundle(folder), open_brain_weights("embedded", EMBEDDED), torch.device("cpu"))


def run(files: list[Path], out: Path, models: Models, known: dict[str, dict[str, Any]] | None = None) -> Run:
    """Run a study; steps whose value is known are not run again."""
    steps: dict[str, dict[str, Any]] = {}

    def step(name: str, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        steps[name] = json.loads(json.dumps((known or {}).get(name) or function()))
        return steps[name]

    return Run(run_study(select_study(files), out, models, records=tuple(Record), step=step).as_json(), out, steps)


@pytest.fixture(scope="module")
def scored(quick_study: Any, models: Models, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(quick_study.all_files, tmp_path_factory.mktemp("sent") / "sent", models)


@pytest.fixture(scope="module")
def without_flair(quick_study: Any, models: Models, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(lacking(quick_study, Contrast.FLAIR), tmp_path_factory.mktemp("sent") / "sent", models)


def lacking(study: Any, role: Contrast) -> list[Path]:
    return [path for path in study.all_files if path not in study.files[role]]


def limited(models: Models, **limits: Any) -> Models:
    """Return the same models with another range."""
    ensemble = copy.copy(models.ensemble)
    metadata = models.bundle.metadata.model_copy(update={"range": Range.model_validate(limits)})
    ensemble.bundle = replace(models.bundle, metadata=metadata)
    return replace(models, ensemble=ensemble)


def test_the_result_tells_folds_spread_calibration_and_doubts(scored: Run, models: Models):
    result = scored.result
    assert result["state"] == "scored"
    assert result == json.loads((scored.out / RESULT_FILE).read_text())
    assert result["sequences_used"] == list(Contrast)
    for name in Contrast:
        members, spread = result["members"][name], result["spread"][name]
        assert len(members) == 2
        assert result["scores"][name] == pytest.approx(fmean(members))
        assert (spread["low"], spread["high"], spread["sd"]) == (
            min(members),
            max(members),
            pytest.approx(stdev(members)),
        )
    folds = [sum(result["weights"][s] * result["members"][s][fold] for s in Contrast) for fold in (0, 1)]
    assert result["spread"]["ensemble"]["low"] == pytest.approx(min(folds))
    assert result["score"] == pytest.approx(fmean(folds))
    calibration = models.bundle.metadata.calibration
    assert calibration is not None
    assert result["calibrated"] == {
        "probability": pytest.approx(calibrated(calibration, result["score"])), "method": "platt", "patients": 76,
    }  # fmt: skip
    assert result["flags"] == [doubt["code"] for doubt in result["out_of_range"]]
    assert result["flags"] == [
        "out_of_range_brain_weights", "out_of_range_field_strength", "out_of_range_features",
    ]  # fmt: skip


def test_everything_in_the_result_stands_in_the_report(scored: Run):
    for name in REPORT_FILES:
        check_round_trip(scored.result, dcmread(scored.out / name))


def test_the_records_say_what_the_result_says(scored: Run, without_flair: Run):
    for run_ in (scored, without_flair):
        bundle = json.loads((run_.out / RECORD_FILES[Record.FHIR]).read_text())
        report, ensemble = (entry["resource"] for entry in bundle["entry"][:2])
        assert ensemble["valueQuantity"]["value"] == pytest.approx(run_.result["score"], abs=1e-6)
        assert report["imagingStudy"][0]["identifier"]["value"] == f"urn:oid:{run_.result['study_uid']}"
        patient = report["subject"]["identifier"]["value"]
        message = (run_.out / RECORD_FILES[Record.HL7]).read_text()
        assert f"|{patient}" in message
        # As people see it: with more decimals where two would hide the side of the threshold.
        shown = message.partition("TSC001^AED-refractory score (ensemble)^99TSCWAE||")[2].partition("|")[0]
        assert float(shown) == pytest.approx(run_.result["score"], abs=0.005)


def test_the_step_that_is_remembered_holds_numbers_and_no_features(scored: Run):
    value = scored.steps["predict"]
    assert value.keys() == {"members", "distances", "seconds"}
    assert value["distances"].keys() == set(Contrast)
    assert len(json.dumps(value)) < 1000


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"age_years": [110, 120]}, "out_of_range_age"),
        ({"field_strength_t": [1.5]}, "out_of_range_field_strength"),
        (
            {"brain_weights_digest": "0" * 64, "actions": {"brain_weights": "withhold"}},
            "out_of_range_brain_weights",
        ),
    ],
)
def test_what_is_known_to_lie_outside_holds_the_study_before_anything_is_computed(
    quick_study: Any, models: Models, tmp_path: Path, limits: dict[str, Any], code: str
):
    held = run(quick_study.all_files, tmp_path / "sent", limited(models, **limits))
    assert (held.result["state"], held.result["reason"]) == ("held", code)
    assert held.steps == {}
    assert "score" not in held.result
    assert not list(held.out.glob("*.dcm"))


def test_features_outside_hold_the_study_where_the_bundle_withholds(
    quick_study: Any, models: Models, scored: Run, tmp_path: Path
):
    space = METADATA["range"]["features"]  # type: ignore[index]
    strict = limited(models, features=space, actions={"features": "withhold"})
    held = run(quick_study.all_files, tmp_path / "sent", strict, scored.steps)
    assert (held.result["state"], held.result["reason"]) == ("held", "out_of_range_features")
    assert "score" not in held.result
    assert not (held.out / REPORT_FILES[0]).exists()


def test_two_sequences_are_scored_by_their_own_weights_and_threshold(without_flair: Run):
    result = without_flair.result
    assert (result["state"], result["sequences_used"]) == ("scored", ["T1W", "T2W"])
    assert result["weights"] == {"T1W": 0.25, "T2W": 0.75}
    assert (result["threshold"], result["category"]) == (0.9, "below_threshold")
    assert result["score"] == pytest.approx(0.25 * result["scores"]["T1W"] + 0.75 * result["scores"]["T2W"])
    assert result["calibrated"] is None, "the calibration is that of three sequences"
    assert result["flags"][-1] == "two_sequences"
    for name in REPORT_FILES:
        report = dcmread(without_flair.out / name)
        check_round_trip(result, report)
        assert "no FLAIR series" in render_tree(report)
    assert (without_flair.out / "summary.dcm").exists()


def test_a_run_of_two_sequences_goes_by_the_digest_of_these(quick_study: Any, without_flair: Run):
    two = select_study(quick_study.files[Contrast.T1W] + quick_study.files[Contrast.T2W]).without
    assert two is not None
    assert without_flair.result["input_digest"] == two.digest


def test_a_bundle_that_was_not_validated_on_two_holds_the_study(quick_study: Any, models: Models, tmp_path: Path):
    other = run(lacking(quick_study, Contrast.T1W), tmp_path / "sent", models)
    assert (other.result["state"], other.result["reason"]) == ("held", "missing_role")
    assert other.steps == {}
