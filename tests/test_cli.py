"""The verbs as a shell sees them: exit codes, one sentence with a code, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.cli import app
from dicom_node.config import load
from pipeline.select import Role
from tests.services import command, copy_study

VERBS = {"init", "check", "serve", "receive", "work", "run", "explain", "demo", "studies", "show", "retry", "echo"}


def refused(*arguments: str) -> tuple[int, str]:
    """Run a verb that must fail; return its exit code and the only line it wrote to stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "dicom_node.cli", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return done.returncode, lines[0]


def test_all_verbs_are_there():
    registered = {info.name or info.callback.__name__ for info in app.registered_commands}
    assert registered == VERBS


def test_init_writes_a_configuration_that_loads(tmp_path: Path):
    file = tmp_path / "node.toml"
    command("init", str(file))
    assert load(file).node.ae_title == "TSCNODE"
    code, line = refused("init", str(file))
    assert (code, line.split(":")[0]) == (2, "config_exists")
    command("init", str(file), "--force")


def test_a_missing_configuration(tmp_path: Path):
    code, line = refused("studies", "--config", str(tmp_path / "none.toml"))
    assert (code, line.split(":")[0]) == (2, "config_missing")


def test_an_unknown_key(tmp_path: Path):
    file = tmp_path / "node.toml"
    file.write_text("[node]\naetitle = 'X'\n")
    code, line = refused("studies", "--config", str(file))
    assert (code, line.split(":")[0]) == (2, "config_unknown_key")
    assert "ae_title" in line


def test_a_folder_that_is_not_there(tmp_path: Path):
    assert refused("explain", str(tmp_path / "none"))[1].startswith("folder_missing:")
    assert refused("explain", str(tmp_path))[1].startswith("folder_empty:")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "node.toml"
    file.write_text('[node]\ndata_dir = "data"\n[receive]\naccept = "any"\n')
    return file


def test_an_unknown_study_and_an_unknown_peer(config: Path):
    for verb in ("show", "retry"):
        assert refused(verb, "1.2.3", "--config", str(config))[1].startswith("study_unknown:")
    assert refused("show", "../etc", "--config", str(config))[1].startswith("uid_invalid:")
    assert refused("echo", "nobody", "--config", str(config))[1].startswith("peer_unknown:")


def test_no_studies_yet(config: Path):
    assert json.loads(command("studies", "--config", str(config), "--json")) == []


def test_explain_names_the_series_of_each_role(quick_study, sent: Path):
    folder = copy_study(quick_study.files, sent / "study")
    table = json.loads(command("explain", str(folder), "--json"))
    assert table["state"] == "ready"
    assert set(table["roles"]) == {role.value for role in Role}
    text = command("explain", str(folder))
    assert text.splitlines()[-1] == "Ready: T1W = series 2, T2W = series 3, FLAIR = series 4"


def test_explain_exits_3_where_a_role_is_missing(quick_study, sent: Path):
    folder = copy_study({Role.T1W: quick_study.files[Role.T1W]}, sent / "study")
    assert "missing_role" in command("explain", str(folder), code=3)


def test_a_missing_device_stops_run_before_anything_is_read(tmp_path: Path, config: Path, quick_study):
    config.write_text(config.read_text() + '[model]\ndevice = "cuda:9"\n')
    folder = str(quick_study.files[Role.T1W][0].parent)
    code, line = refused("run", folder, "--out", str(tmp_path / "out"), "--config", str(config))
    assert (code, line.split(":")[0]) == (1, "device_missing")


def test_check_names_what_is_wrong(config: Path):
    config.write_text(
        config.read_text()
        + '[[peers]]\nname = "away"\nae_title = "AWAY"\nhost = "127.0.0.1"\nport = 9\nroles = ["destination"]\n'
    )
    verdicts = json.loads(command("check", "--json", "--config", str(config), code=1))
    assert not verdicts["good"]
    bad = [row for row in verdicts["checks"] if not row["good"]]
    assert [row["what"] for row in bad] == ["peer away"]
    assert bad[0]["sentence"].startswith("peer_unreachable:")
