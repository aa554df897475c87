"""What is shipped: the wheel, in an environment without this checkout, run where other packages have our names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.shadows import OURS, write_shadows

NOTICE = "SYNTHETIC DATA"
ROOT = Path(__file__).parents[2]
BESIDE = ("pyproject.toml", "README.md", "LICENSE")
PIP = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of a copy of the checkout: what an earlier build left behind would be packed too."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in OURS:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in BESIDE:
        shutil.copy(ROOT / name, folder / "source")
    build = ["wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*PIP, *build, "--wheel-dir", folder / "dist", folder / "source"], check=True)
    (built,) = (folder / "dist").iterdir()
    return built


@dataclass(frozen=True)
class Installed:
    """An environment of its own, and a folder that shadows what it must import."""

    folder: Path
    elsewhere: Path

    def run(self, program: str, *arguments: str) -> str:
        """Return what a program of the environment prints."""
        own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=self.elsewhere, env=own, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Return an environment with the wheel and, of the one that runs the tests, the dependencies alone."""
    folder = tmp_path_factory.mktemp("installed")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run([*PIP, "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    # Paths that a .pth file names are not searched for .pth files, so our editable installation stays out.
    (own,) = environment.glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(environment, write_shadows(folder / "elsewhere"))


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path):
    shipped = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (path for name in OURS for path in (ROOT / name).rglob("*") if path.is_file())
    there = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    documents = {f"{name}/README.md" for name in OURS}
    assert shipped == there - documents


def test_verbs_and_their_processes_import_what_is_installed(installed: Installed):
    for name in OURS:
        file = installed.run("python", "-P", "-c", f"import {name}; print({name}.__file__)")
        assert Path(file).is_relative_to(installed.folder)
    installed.run("dicom-node", "synthesize", "--patients", "2", "--workers", "2", "--out", "made")
    assert (installed.elsewhere / "made" / "labels.csv").is_file()


@pytest.mark.measures
def test_the_demo_prints_the_report(installed: Installed, tmp_path: Path):
    started_s = time.monotonic()
    text = installed.run("dicom-node", "demo", "--keep", str(tmp_path / "sent"))
    seconds = time.monotonic() - started_s
    print(f"demo took {seconds:.0f} s")
    lines = text.splitlines()
    assert lines[0].startswith(NOTICE)
    for words in ("AED-refractory score (ensemble)", "Ensemble weight", "NOT FOR DIAGNOSTIC USE"):
        assert words in text
    assert text.count("AED-refractory score (single sequence)") == 3
    assert seconds < 90
