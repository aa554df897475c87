"""What a run was made from, and why: two files beside its results, written once and before the analysis begins.

::

    runs/<input_digest>/inputs.json     files, rules and choices that the series were selected from and by
                        explain.json    the series x role table of that selection

With the same files, rules and choices a selection comes out the same whenever it is repeated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dicom_node.config import Selection as Rules
from dicom_node.studies.spool import Study
from models.contrast import Contrast
from models.whole_files import OWNER_ALONE, write_json
from pipeline.explain import explain
from pipeline.select import Selection

INPUTS_FILE = "inputs.json"
EXPLAIN_FILE = "explain.json"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the series of a run were selected from and by.

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
    """

    files: tuple[Path, ...]
    started: datetime
    rules: Rules
    choices: dict[Contrast, str]


def choices(study: Study) -> dict[Contrast, str]:
    """Return the series that a human chose for a study, by role."""
    return _by_role(study.choices())


def pin(study: Study, selection: Selection, files: list[Path], rules: Rules, chosen: dict[Contrast, str]) -> None:
    """Write down what a selection was made from, unless the analysis of the same one has begun already."""
    folder = study.run_folder(selection.digest)
    if (folder / INPUTS_FILE).exists():
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(folder / EXPLAIN_FILE, explain(selection), OWNER_ALONE)
    inputs = {
        "files": [path.name for path in files],
        "started": datetime.now().astimezone().isoformat(),
        "rules": rules.model_dump(mode="json"),
        "choices": chosen,
    }
    write_json(folder / INPUTS_FILE, inputs, OWNER_ALONE)


def pinned(study: Study, input_digest: str) -> Inputs:
    """Return what a run is to be made from."""
    inputs = json.loads((study.run_folder(input_digest) / INPUTS_FILE).read_text("utf-8"))
    return Inputs(
        tuple(study.folder / "instances" / name for name in inputs["files"]),
        datetime.fromisoformat(inputs["started"]),
        Rules.model_validate(inputs.get("rules", {})),
        _by_role(inputs.get("choices", {})),
    )


def last_selected(study: Study) -> dict[str, Any] | None:
    """Return the timeline's entry of the last selection: its time and its input digest."""
    return next((entry for entry in reversed(study.timeline()) if entry["event"] == "selected"), None)


def last_table(study: Study) -> dict[str, Any] | None:
    """Return the series x role table of the last selection, if one is stored."""
    entry = last_selected(study)
    file = study.run_folder(entry["input_digest"]) / EXPLAIN_FILE if entry else None
    return json.loads(file.read_text("utf-8")) if file and file.exists() else None


def _by_role(values: dict[str, str]) -> dict[Contrast, str]:
    return {Contrast(name): series_uid for name, series_uid in values.items()}
