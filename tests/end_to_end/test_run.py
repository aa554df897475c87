"""One study from files, and the demo: what a newcomer tries first."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from models.contrast import Contrast
from pipeline.report.views import OUTLINE
from tests.support.private_files import open_to_others
from tests.support.services import command, copy_study

NOTICE = "SYNTHETIC DATA"


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_run_writes_the_result_objects(quick_study, sent: Path, tmp_path: Path, no_umask):
    folder = copy_study(quick_study.files, sent / "study")
    out = tmp_path / "out"
    text = command("run", str(folder), "--out", str(out))
    assert text.splitlines()[0].startswith(NOTICE)
    result = json.loads((out / "result.json").read_text())
    assert next(iter(result)) == "notice"
    assert result["notice"].startswith(NOTICE)
    assert result["state"] == "scored"
    assert result["score"] == pytest.approx(sum(result["weights"][r] * result["scores"][r] for r in result["scores"]))
    assert result["score_patent"] == pytest.approx(result["score"] / 3)
    assert 0 < result["score"] < 1
    assert sorted(path.name for path in out.iterdir()) == [
        "document.dcm", "key.basic.dcm", "key.comprehensive.dcm", "key.dcm", "key.enhanced.dcm", "overlay.png",
        "report.basic.dcm", "report.comprehensive.dcm", "report.dcm",
        "report.enhanced.dcm", "result.json", "summary.dcm", "summary.png",
    ]  # fmt: skip
    assert pydicom.dcmread(out / "report.dcm").Modality == "SR"
    assert open_to_others(out) == [], "a report names the patient"
    assert pydicom.dcmread(out / "summary.dcm").Rows == 1024
    drawn = np.asarray(Image.open(out / "summary.png"))
    assert np.array_equal(drawn, pydicom.dcmread(out / "summary.dcm").pixel_array)
    for picture in (drawn, np.asarray(Image.open(out / "overlay.png"))):
        assert (picture == OUTLINE).all(axis=2).sum() > 9 * 100, "nine planes with an outline each"


def test_damaged_files_do_no_harm_and_are_reported(quick_study, sent: Path, tmp_path: Path):
    folder = copy_study(quick_study.files, sent / "study")
    # What the score depends on is asked for, and does not change it.
    config = tmp_path / "node.toml"
    config.write_text('[receive]\naccept = "any"\n[report]\nsend = ["sr", "saliency"]\n')
    arguments = ["run", str(folder), "--out", str(tmp_path / "whole"), "--json", "--config", str(config)]
    whole = json.loads(command(*arguments))
    # One value of the small grid stands for 64 x 64 x 96 mm: no map.
    assert sorted(path.name for path in (tmp_path / "whole").glob("saliency*")) == ["saliency.dcm", "saliency.png"]
    bystander = quick_study.bystanders[0]
    (folder / "truncated.dcm").write_bytes(bystander.read_bytes()[:-5000])
    (folder / "cut-header.dcm").write_bytes(bystander.read_bytes()[:700])
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "text.dcm").write_text("this is no image\n" * 100)
    result = json.loads(command("run", str(folder), "--out", str(tmp_path / "damaged"), "--json"))
    assert not list((tmp_path / "damaged").glob("saliency*"))
    assert result["state"] == "scored"
    assert result["score"] == whole["score"]
    reported = {entry["file"]: entry["code"] for entry in result["ignored_files"]}
    assert set(reported) == {"truncated.dcm", "cut-header.dcm", "empty.dcm", "text.dcm"}
    assert reported["truncated.dcm"] == "pixel_data_truncated"
    assert reported["empty.dcm"] == "file_empty"
    assert reported["text.dcm"] == "file_not_dicom"


def test_a_truncated_slice_of_a_chosen_series_holds_the_study(quick_study, sent: Path, tmp_path: Path):
    folder = copy_study(quick_study.files, sent / "study")
    last = folder / f"{len(quick_study.files[Contrast.T1W]) - 1:05d}.dcm"
    last.write_bytes(last.read_bytes()[:-1000])
    text = command("run", str(folder), "--out", str(tmp_path / "out"), code=3)
    assert "pixel_data_damaged" in text
    assert not (tmp_path / "out" / "report.dcm").exists()


def test_a_study_without_flair_is_held(quick_study, sent: Path, tmp_path: Path):
    folder = copy_study({role: quick_study.files[role] for role in (Contrast.T1W, Contrast.T2W)}, sent / "study")
    result = json.loads(command("run", str(folder), "--out", str(tmp_path / "out"), "--json", code=3))
    assert (result["state"], result["reason"]) == ("held", "missing_role")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result.json"]


def test_run_goes_by_the_rules_of_the_configuration(quick_study, tmp_path: Path):
    config = tmp_path / "node.toml"
    config.write_text('[receive]\naccept = "any"\n[selection]\nnever = ["t2_tse"]\n')
    folder = str(quick_study.files[Contrast.T1W][0].parents[1])
    arguments = ["run", folder, "--out", str(tmp_path / "out"), "--config", str(config), "--json"]
    result = json.loads(command(*arguments, code=3))
    assert result["reason"] == "missing_role"
    assert "No series of the study is T2W" in result["sentence"]


def test_progress_goes_to_a_terminal_only(quick_study, sent: Path, tmp_path: Path):
    folder = copy_study({Contrast.T1W: quick_study.files[Contrast.T1W]}, sent / "study")
    arguments = [sys.executable, "-P", "-m", "dicom_node", "run", str(folder), "--out", str(tmp_path / "out")]
    piped = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert piped.stderr == ""
    script = shutil.which("script")
    if script is None:
        pytest.skip("script (util-linux) is missing: the terminal is not tried")
    terminal = subprocess.run(
        [script, "-qec", " ".join(arguments), "/dev/null"], capture_output=True, text=True, check=False
    )
    assert "loading the models" in terminal.stdout
