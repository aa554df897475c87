"""What the whole suite shares: a synthetic study, and the last look for patient data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.audit import messages
from tests.support.services import SEEDED

# Where patient attributes belong: received objects, result objects, the PACS, and the studies that tests send.
_OBJECT_FOLDERS = {"spool", "orthanc", "sent"}
# What an audit message names a patient by (PS3.15 A.5.3); names and dates do not belong there either.
_IN_AUDIT = SEEDED["patient_id"].encode()
_UID = re.compile(r"(?<![\d.])2\.25\.\d{20,39}")
"""Of a study, a series or an instance that a test made: a log has pseudonyms in their place."""


@pytest.fixture(scope="session", autouse=True)
def no_patient_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the session if a seeded patient attribute stands in anything written outside spool and result objects."""
    yield
    base = tmp_path_factory.getbasetemp()
    needles = [value.encode() for value in SEEDED.values()]
    looked_at, found = 0, []
    for path in base.rglob("*"):
        if not path.is_file() or path.is_symlink() or _OBJECT_FOLDERS & set(path.relative_to(base).parts):
            continue
        content = path.read_bytes()
        if content[128:132] == b"DICM":
            continue
        looked_at += 1
        audited = path.parent.name == "audit" and path.suffix == ".jsonl"
        wrong = [needle for needle in needles if needle in content and not (audited and needle == _IN_AUDIT)]
        found += [f"{path.relative_to(base)} holds {needle.decode()}" for needle in wrong]
        found += [f"the name {path.relative_to(base)} holds it" for n in needles if n.decode() in path.name]
        if path.name == "node.log":
            found += [f"{path.relative_to(base)} holds the UID {uid}" for uid in _UID.findall(content.decode("utf-8"))]
    for folder in base.rglob("audit"):
        if folder.is_dir():
            messages(folder.parent)  # Asserts that each has what it may have, and nothing else.
    print(f"\nlooked for patient data in {looked_at} files")
    assert not found, "\n".join(found)


@pytest.fixture(scope="session")
def quick_study(tmp_path_factory: pytest.TempPathFactory):
    """Return a small synthetic study of the seeded patient; read only."""
    from pipeline.synthetic import StudyTags, write_study

    folder = tmp_path_factory.mktemp("sent") / "sent"
    tags = StudyTags(study_uid="2.25.1700000000000000000000000000000001", **SEEDED)
    return write_study(folder, seed=3, study=tags, quick=True, bystanders=True)


@pytest.fixture
def inputs(tmp_path: Path):
    """Return three series of made headers, by role."""
    from tests.support.reports import write_inputs

    return write_inputs(tmp_path)


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    """Return a folder for studies that a test sends."""
    folder = tmp_path / "sent"
    folder.mkdir()
    return folder
