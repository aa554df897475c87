"""One outcome, in the same words wherever it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.outcome import UNCONTROLLED
from models.training.bundling.card import OUTCOME
from models.training.bundling.write_bundle import intended_use
from models.training.fit.recipe import Recipe
from pipeline.report.wording import CONDITION_DEFINITION

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "models/README.md", "deploy/RADIOLOGIST.md")


@pytest.mark.parametrize("text", [OUTCOME, CONDITION_DEFINITION, intended_use(Recipe(), synthetic=False)])
def test_programs_say_the_outcome_of_the_patent(text: str):
    assert UNCONTROLLED in text


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_say_the_same(name: str):
    text = " ".join((ROOT / name).read_text("utf-8").split())
    assert UNCONTROLLED in text
    assert "at one year" not in text
