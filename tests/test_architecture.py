"""Imports point down, the engine is fenced in, and the receiver is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("dicom_node", "pipeline", "models")
BELOW = {"dicom_node": {"pipeline", "models"}, "pipeline": {"models"}, "models": set()}
TOP_LEVEL = {"pyproject.toml", "README.md", "LICENSE", "dicom_node", "pipeline", "models", "deploy", "tests"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Return the top-level packages that a module imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_down(package: str):
    above = set(PACKAGES) - BELOW[package] - {package}
    upward = {str(path.relative_to(ROOT)): imports(path) & above for path in modules(package)}
    assert {name: found for name, found in upward.items() if found} == {}


def test_only_the_workflow_module_knows_the_engine():
    users = [path.relative_to(ROOT) for package in PACKAGES for path in modules(package) if "dbos" in imports(path)]
    assert users == [Path("dicom_node/engine/workflow.py")]


@pytest.mark.parametrize("package", ["pipeline", "models"])
def test_imaging_knows_no_network_and_no_queue(package: str):
    forbidden = {"pynetdicom", "socket", "sqlalchemy", "dbos", "typer"}
    assert all(not imports(path) & forbidden for path in modules(package))


@pytest.mark.parametrize(
    "module",
    [
        "dicom_node.engine.processes",
        "dicom_node.cli.app",
        "dicom_node.net.scp",
        "dicom_node.studies.collect",
        "pipeline.explain",
    ],
)
def test_the_receiver_does_not_import_torch(module: str):
    code = f"import sys, {module}; print(sorted({{'torch', 'monai', 'nnunetv2'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_top_level_holds_what_the_design_names():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {name.split("/")[0] for name in listed if not name.startswith(".")} <= TOP_LEVEL


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_stay_small(package: str):
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in modules(package)}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}
