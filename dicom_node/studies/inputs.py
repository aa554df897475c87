"""What a run was made from, and why: two files beside its results, written once and before the analysis begins.

::

    runs/<input_digest>/inputs.json     files, rules and choices that the series were selected from and by
                        explain.json    the series x role table of that selection

With the same files, rules and choices a selection comes out the same whenever it is repeated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dicom_node.config import SelectionSection
from dicom_node.studies.spool import Study
from dicom_node.studies.statements import Statements, received, statements
from models.contrast import Contrast
from models.whole_files import make_folder, write_json
from pipeline.explain import SelectionTable, explain
from pipeline.headers import NOTHING_KNOWN, Received
from pipeline.select import Selection, select_study

INPUTS_FILE = "inputs.json"
EXPLAIN_FILE = "explain.json"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the series of a run are selected from and by.

    Attributes
    ----------
    files
        All instances of the study at that time; some may be gone since.
    started
        When the analysis began.
    rules
        The ``[selection]`` of the configuration at that time.
    choices
        Series Instance UIDs that a human had chosen, by role.
    received
        In which order copies of instances had come, and which of them a human had stated to be right.
    statements
        What a human had stated.
    """

    files: tuple[Path, ...]
    started: datetime
    rules: SelectionSection
    choices: dict[Contrast, str]
    received: Received = NOTHING_KNOWN
    statements: Statements = field(default_factory=Statements)

    def select(self) -> Selection:
        """Return the selection, the same one whenever it is asked for."""
        stated = self.statements.identity
        return select_study(self.files, self.rules.rules(), self.choices, self.received, stated)

    def as_json(self) -> dict[str, object]:
        """Return what ``inputs.json`` holds."""
        return {
            "files": [path.name for path in self.files],
            "started": self.started.isoformat(),
            "rules": self.rules.model_dump(mode="json"),
            "choices": self.choices,
            "copies": [path.name for path in self.received.order],
            "statements": self.statements.as_json(),
        }


def present(study: Study, rules: SelectionSection) -> Inputs:
    """Return what a selection would be made from now."""
    stated = statements(study)
    files, now = tuple(study.instances()), datetime.now().astimezone()
    return Inputs(files, now, rules, study.choices(), received(study, stated), stated)


def pin(study: Study, selection: Selection, inputs: Inputs) -> bool:
    """Write down what a selection was made from, unless the analysis of the same one has begun already.

    Parameters
    ----------
    study
        A received one.
    selection
        As it is to be scored; its digest names the run.
    inputs
        What it was made from.

    Returns
    -------
    bool
        Whether it was written now; False if an earlier one stands.
    """
    folder = study.run_folder(selection.digest)
    if (folder / INPUTS_FILE).exists():
        return False
    make_folder(folder)
    write_json(folder / EXPLAIN_FILE, explain(selection).as_json())
    write_json(folder / INPUTS_FILE, inputs.as_json())
    return True


def pinned(study: Study, input_digest: str) -> Inputs:
    """Return what a run is to be made from."""
    inputs = json.loads((study.run_folder(input_digest) / INPUTS_FILE).read_text("utf-8"))
    stated, folder = Statements.from_json(inputs.get("statements", {})), study.folder / "instances"
    order = tuple(folder / name for name in inputs.get("copies", ()))
    return Inputs(
        tuple(folder / name for name in inputs["files"]),
        datetime.fromisoformat(inputs["started"]),
        SelectionSection.model_validate(inputs.get("rules", {})),
        _choices(inputs),
        Received(order, frozenset(folder / name for name in stated.copies)),
        stated,
    )


def last_table(study: Study) -> SelectionTable | None:
    """Return the series x role table of the last selection, if one is stored."""
    stored = _of_last_run(study, EXPLAIN_FILE)
    return SelectionTable.from_json(stored) if stored else None


def last_choices(study: Study) -> dict[Contrast, str]:
    """Return the series that a human had chosen when the last selection was made, by role."""
    return _choices(_of_last_run(study, INPUTS_FILE) or {})


def _of_last_run(study: Study, name: str) -> dict[str, Any] | None:
    """Return what a file of the last selection's run holds, if it is there."""
    selected = study.timeline().selected
    file = study.run_folder(selected.input_digest) / name if selected else None
    return json.loads(file.read_text("utf-8")) if file and file.exists() else None


def _choices(inputs: dict[str, Any]) -> dict[Contrast, str]:
    return {Contrast(role): series_uid for role, series_uid in inputs.get("choices", {}).items()}
