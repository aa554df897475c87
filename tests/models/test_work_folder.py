"""Processes of one training begin at the same time: none fails, and what they write is whole."""

from __future__ import annotations

import json
import multiprocessing
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.bundle import ModelError
from models.training.cohort import Cohort
from models.training.fit.folds import Split
from models.training.fit.recipe import Recipe
from models.training.train import IDENTITY, claim
from models.whole_files import OWNER_ALONE, READABLE_BY_ALL, drop_unfinished, write_json, write_whole
from tests.support.cohorts import made_cohort

ROUNDS = 60
RECIPE = Recipe(folds=2)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return made_cohort(tmp_path_factory.mktemp("cohort"), patients=4)


def parts(cohort: Cohort) -> Split:
    return Split(cohort.included[:1], (cohort.included[1:2], cohort.included[2:]))


def claim_and_write(folder: Path, cohort: Cohort, seed: int, start: Any, said: Any) -> None:
    """Claim new folders and write one file, each together with the other process; put what failed."""
    failed: list[str] = []
    for number in range(ROUNDS):
        start.wait(60)
        try:
            write_whole(folder / "file", str(seed).encode() * 100_000)
            if number < 5:
                claim(folder / f"work{number}", cohort, RECIPE, parts(cohort))
        except Exception as error:
            failed.append(repr(error))
    said.put(failed)


def test_two_processes_write_one_file_and_claim_one_folder(cohort: Cohort, tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    start, said = context.Barrier(2), context.Queue()
    both = [context.Process(target=claim_and_write, args=(tmp_path, cohort, n, start, said)) for n in (1, 2)]
    for process in both:
        process.start()
    assert [said.get(timeout=120) for _ in both] == [[], []]
    for process in both:
        process.join(60)
    assert (tmp_path / "file").read_bytes() in (b"1" * 100_000, b"2" * 100_000)
    assert {json.loads(file.read_text())["cohort"] for file in tmp_path.glob(f"*/{IDENTITY}")} == {cohort.digest}
    assert not list(tmp_path.rglob("*.part"))


def test_a_claim_that_another_process_overtook_is_refused(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def overtaken(file: Path, value: Any) -> None:
        write_json(file, value)
        claim_alone(cohort, tmp_path / "other")
        (tmp_path / "other" / IDENTITY).replace(file)

    def claim_alone(cohort: Cohort, work: Path) -> None:
        with monkeypatch.context() as alone:
            alone.setattr("models.training.train.write_json", write_json)
            claim(work, cohort, replace(RECIPE, seed=9), parts(cohort))

    monkeypatch.setattr("models.training.train.write_json", overtaken)
    with pytest.raises(ModelError) as refused:
        claim(tmp_path / "work", cohort, RECIPE, parts(cohort))
    assert refused.value.code == "work_folder_other"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path):
    write_whole(tmp_path / "file", b"old")
    with pytest.raises(TypeError):
        write_whole(tmp_path / "file", "no bytes")  # type: ignore[arg-type]
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("file", b"old")]


def test_json_that_is_none_leaves_the_old_file(tmp_path: Path):
    write_json(tmp_path / "file", {"name": "\u5927", "loss": float("nan")})
    before = (tmp_path / "file").read_bytes()
    assert before.decode() == '{\n  "name": "\u5927",\n  "loss": NaN\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file", [float("inf")], allow_nan=False)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("file", before)]


def test_what_a_killed_process_left_is_dropped(tmp_path: Path):
    (tmp_path / "checkpoint.pt.7-0a.part").write_bytes(b"cut")
    (tmp_path / "checkpoint.pt").write_bytes(b"whole")
    drop_unfinished(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_what_holds_patient_data_is_its_owners_alone(tmp_path: Path):
    write_whole(tmp_path / "report", b"", OWNER_ALONE)
    write_whole(tmp_path / "said of nothing", b"")
    write_whole(tmp_path / "weights", b"", READABLE_BY_ALL)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {"report": 0o600, "said of nothing": 0o600, "weights": 0o644}
