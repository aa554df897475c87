"""The bundle that ships: what it says of itself, and that it reads what it was trained to read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.brain_weights import EMBEDDED, open_brain_weights
from models.bundle import SHIPPED, Bundle, open_bundle
from pipeline.select import select_study
from pipeline.study import load_models, run_study
from pipeline.synthetic.made_cohort import FACTS, STUDIES, synthesize_cohort

SEED = 11
AT_MOST_MB = 30


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle("synthetic-demo")


def test_it_is_small(bundle: Bundle):
    files = [path for path in (SHIPPED / "synthetic-demo").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= AT_MOST_MB * 1e6


def test_it_says_what_it_is(bundle: Bundle):
    metadata = bundle.metadata
    assert metadata.notice.startswith("SYNTHETIC DATA")
    assert "NOT FOR DIAGNOSTIC USE" in metadata.intended_use
    assert metadata.grid.size_xyz == (128, 128, 64)
    assert metadata.evidence.synthetic
    assert metadata.evidence.weights_chosen_on == "out_of_fold"
    assert metadata.range.brain_weights_digest == open_brain_weights("embedded", EMBEDDED).digest
    card = (SHIPPED / "synthetic-demo" / "docs" / "README.md").read_text("utf-8")
    assert f"| AUC | {metadata.evidence.auc:.3f} " in card


def test_it_knows_studies_like_its_own():
    """Few of the patients that were set aside look unlike those that it was trained on; 2.5 % are to be expected."""
    found = json.loads((SHIPPED / "synthetic-demo" / "configs" / "training.json").read_text("utf-8"))["feature_space"]
    assert found["test_studies"] == 20
    assert found["test_studies_beyond_any"] <= 3


def test_it_tells_many_lesions_from_few(bundle: Bundle, tmp_path: Path):
    """Heads drawn by procedure: it was trained on none. Two of the four have many lesions, two have few."""
    out = tmp_path / "sent" / "cohort"
    synthesize_cohort(None, 4, out, seed=SEED)
    facts = json.loads((out / FACTS).read_text("utf-8"))["patients"]
    models = load_models(bundle, open_brain_weights("embedded", EMBEDDED), torch.device("cpu"))
    scores: dict[str, list[float]] = {"few": [], "many": []}
    for patient, fact in facts.items():
        files = sorted((out / STUDIES / patient).rglob("*.dcm"))
        result = run_study(select_study(files), tmp_path / "sent" / patient, models)
        assert result.finding is not None
        scores[fact["load"]].append(result.finding.score)
    print(scores)
    assert max(scores["few"]) < min(scores["many"])
