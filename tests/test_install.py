"""`deploy/install.sh` below a root of its own: idempotent, what is there stays, and there is a way back.

Making the virtual environment takes minutes and is left to a trial by hand; here the environment of the tests stands in
its place, as one that an earlier call finished.
"""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.config import load

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*(ROOT / "deploy").rglob("*.sh"), ROOT / "tests/run.sh"])


def install(root: Path, *options: str, code: int = 0) -> str:
    command = ["bash", str(ROOT / "deploy/install.sh"), "--root", str(root), *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def make_version(folder: Path) -> Path:
    """Make what the installation of a version leaves: this environment's program, and the mark that it is whole."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/dicom-node").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m dicom_node "$@"\n')
    (folder / "bin/dicom-node").chmod(0o755)
    (folder / "whole").touch()
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_installing_twice_upgrading_and_going_back(tmp_path: Path):
    versions, current = tmp_path / "opt/dicom-node/versions", tmp_path / "opt/dicom-node/.venv"
    config, data = tmp_path / "etc/dicom-node/node.toml", tmp_path / "var/lib/dicom-node"
    this = make_version(versions / install(tmp_path, "--print-version").strip())
    first = install(tmp_path)
    assert "Password of the user admin" in first
    assert "models and device" in first
    assert current.resolve() == this
    assert (mode(config), mode(data)) == (0o640, 0o700)
    assert load(config).node.data_dir == data
    assert (
        "/opt/dicom-node/.venv/bin/dicom-node serve" in (tmp_path / "etc/systemd/system/dicom-node.service").read_text()
    )

    config.write_text(config.read_text().replace('"TSCNODE"', '"OURS"'))
    older = make_version(versions / "0.0.9-older")
    current.unlink()
    current.symlink_to(older)
    assert "Password" not in install(tmp_path)
    assert current.resolve() == this
    assert load(config).node.ae_title == "OURS"
    assert len(list(data.glob("before-*.tar"))) == 1
    assert str(older) in install(tmp_path, "--roll-back")
    assert current.resolve() == older


def test_a_version_that_does_not_take_the_configuration_changes_nothing(tmp_path: Path):
    versions, current = tmp_path / "opt/dicom-node/versions", tmp_path / "opt/dicom-node/.venv"
    make_version(versions / install(tmp_path, "--print-version").strip())
    older = make_version(versions / "0.0.9-older")
    current.symlink_to(older)
    config = tmp_path / "etc/dicom-node/node.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[node]\nold_key = "x"\n')
    said = install(tmp_path, code=1)
    assert "config_unknown_key" in said
    assert "nothing was changed" in said
    assert current.resolve() == older


def test_what_cannot_be_done_is_said_before_anything_is(tmp_path: Path):
    assert "There is no version before." in install(tmp_path, "--roll-back", code=1)
    (tmp_path / "opt/dicom-node/.venv").mkdir(parents=True)
    assert "was made by hand" in install(tmp_path, code=1)
    assert "--wheel-house DIR" in install(tmp_path, "--bogus", code=2)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound(script: Path):
    subprocess.run(["bash", "-n", str(script)], check=True)
    if shellcheck := shutil.which("shellcheck"):
        subprocess.run([shellcheck, "-x", str(script)], cwd=ROOT, check=True)
