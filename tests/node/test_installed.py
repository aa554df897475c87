"""What a configuration means is known without the engine that runs a node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.cohorts import made_cohort

MISSING = "cuda:99"
# Each verb gets as far as the device that is not there: what it imports is loaded by then.
RUN_VERBS = """
import json, sys
from dicom_node.cli.app import app
from dicom_node.errors import NodeError
for arguments in json.loads(sys.argv[1]):
    try:
        code = app(arguments, standalone_mode=False)
    except NodeError as error:
        code = error.code
    print(json.dumps([arguments[0], code, "torch" in sys.modules, "dbos" in sys.modules]), file=sys.stderr)
"""


def test_verbs_that_score_files_load_no_engine(tmp_path: Path):
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata_dir = "data"\n[receive]\naccept = "any"\n[model]\ndevice = "{MISSING}"\n')
    study = tmp_path / "study"
    study.mkdir()
    (study / "1.dcm").touch()
    (tmp_path / "labels.csv").write_text("patient,study,label\nP1,study,1\n")
    cohort = made_cohort(tmp_path / "cohort", patients=2).folder
    out = str(tmp_path / "out")
    verbs = [
        ["run", str(study), "--out", out, "--config", str(config)],
        ["cohort", "build", "--labels", str(tmp_path / "labels.csv"), "--out", out, "--config", str(config)],
        ["evaluate", "synthetic-demo", str(cohort), "--out", out, "--device", MISSING],
        ["check", "--config", str(config)],
    ]
    command = [sys.executable, "-P", "-c", RUN_VERBS, json.dumps(verbs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert [json.loads(line) for line in done.stderr.splitlines()] == [
        ["run", "device_missing", True, False],
        ["cohort", "device_missing", True, False],
        ["evaluate", "device_missing", True, False],
        ["check", 1, True, True],
    ]
