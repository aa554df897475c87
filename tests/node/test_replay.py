"""Changed rules rehearsed on the studies that the node has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config import Config, SelectionSection, load
from dicom_node.engine import worker
from dicom_node.studies.replay import replay, summary
from dicom_node.studies.spool import Spool
from models.contrast import Contrast
from pipeline.explain import NamedSeries
from tests.support.services import command
from tests.support.studies import SECOND_T2W, T2_SPACE, TRIPLET, receive_study, series_uid

PLAIN, SPACE, TIE = "2.25.5001", "2.25.5002", "2.25.5003"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a node that has selected three studies and received a fourth; read only."""
    folder = tmp_path_factory.mktemp("replay")
    (folder / "node.toml").write_text('[node]\ndata_dir = "data"\n[receive]\naccept = "any"\n')
    spool = Spool(folder / "data")
    hands = worker.Worker(load(folder / "node.toml"), spool, models=None)
    for uid, extra in ((PLAIN, ()), (SPACE, (T2_SPACE,)), (TIE, (SECOND_T2W,))):
        receive_study(spool, folder / "sent", uid, *TRIPLET, *extra)
        hands.select(uid)
    receive_study(spool, folder / "sent", "2.25.5004", TRIPLET[0])
    return folder


@pytest.fixture
def config(node: Path, tmp_path: Path) -> Path:
    """Return the configuration of a copy of that node."""
    shutil.copytree(node, tmp_path / "node")
    return tmp_path / "node" / "node.toml"


def content(folder: Path) -> dict[Path, bytes]:
    """Return every file but the audit trail, which says that somebody looked, and caches of the database."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.parent.name != "audit"}


def ruled(**rules: Any) -> Config:
    return Config.offline().model_copy(update={"selection": SelectionSection(**rules)})


def outcomes(rows: list[dict]) -> dict[str, str]:
    return {row["study_uid"]: row["outcome"] for row in rows}


def test_the_same_rules_change_nothing(config: Path):
    before = content(config.parent / "data")
    answer = json.loads(command("explain", "--replay", "10", "--config", str(config), "--json"))
    assert outcomes(answer["studies"]) == dict.fromkeys((TIE, SPACE, PLAIN), "unchanged")
    assert [row["study_uid"] for row in answer["studies"]] == [TIE, SPACE, PLAIN]
    assert answer["summary"] == {"unchanged": 3, "changed": 0, "not_judged": 0}
    assert content(config.parent / "data") == before


def test_another_rule_shows_what_it_would_change(config: Path):
    config.write_text(config.read_text() + '[selection]\nnever = ["t2_space"]\n')
    text = command("explain", "--replay", "10", "--config", str(config), code=3)
    assert text.splitlines() == [
        f"{TIE}: unchanged",
        f"{SPACE}: changed",
        "  T2W: series 5 (t2_space_tra) -> series 3 (t2_tse_tra)",
        f"{PLAIN}: unchanged",
        "2 unchanged, 1 changed, 0 not judged",
    ]
    (row,) = json.loads(command("explain", "--replay", "2", "--config", str(config), "--json", code=3))["studies"][1:]
    uids = [row["changes"]["T2W"][when]["series_uid"] for when in ("old", "new")]
    assert uids == [series_uid(SPACE, 5), series_uid(SPACE, 3)]


def test_a_rule_that_would_hold_studies_says_why(config: Path):
    (row,) = replay(Spool(config.parent / "data"), ruled(never=("t2_tse",)), 1)
    assert row.as_json()["changes"] == {"reason": {"old": "ambiguous_role", "new": "missing_role"}}
    rows = list(replay(Spool(config.parent / "data"), ruled(never=("t2_tse",)), 10))
    held = rows[-1]
    assert held.as_json()["changes"]["state"] == {"old": "ready", "new": "held"}
    assert {"T1W", "T2W", "FLAIR", "reason"} <= held.changes.keys()
    assert held.sentence.startswith("No series of the study is T2W")
    assert summary(rows) == {"unchanged": 1, "changed": 2, "not_judged": 0}


def test_a_choice_counts_as_it_is_stored_now(config: Path):
    spool = Spool(config.parent / "data")
    spool.study(TIE).choose({Contrast.T2W: series_uid(TIE, 5)})
    (row,) = replay(spool, ruled(), 1)
    new = row.changes["T2W"].new
    assert isinstance(new, NamedSeries)
    assert new.series_number == 5


def test_studies_that_cannot_be_judged_are_said_so(config: Path):
    spool = Spool(config.parent / "data")
    gone = spool.study(TIE).instances()[:7]
    for path in gone:
        path.unlink()
    for path in (config.parent / "data").glob(f"spool/{SPACE}/runs/*/explain.json"):
        path.unlink()
    text = command("explain", "--replay", "3", "--config", str(config))
    assert f"{TIE}: not judged: 7 of its 96 files are no longer there." in text
    assert f"{SPACE}: not judged: No table is stored with it" in text
    assert text.splitlines()[-1] == "1 unchanged, 0 changed, 2 not judged"
