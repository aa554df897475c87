"""Imports point down, the engine is fenced in, and the receiver is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
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


def names() -> dict[str, Path]:
    """Return the file of every module by its dotted name."""
    files = (path for package in PACKAGES for path in modules(package))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imported_names(path: Path) -> Iterator[tuple[str, str]]:
    """Yield module and name of each import in a module of ours, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path} imports relatively"
            assert node.level == 0, f"{path} imports relatively"
            yield from ((node.module, alias.name) for alias in node.names)


def loaded_by(name: str, known: dict[str, Path]) -> set[str]:
    """Return the modules that one loads: what it names, and the packages around it other than its own."""
    named = {whole for module, part in imported_names(known[name]) for whole in (module, f"{module}.{part}")}
    loaded = {whole.rsplit(".", cut)[0] for whole in named for cut in range(whole.count(".") + 1)}
    return {module for module in loaded & known.keys() if not f"{name}.".startswith(f"{module}.")}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_down(package: str):
    above = set(PACKAGES) - BELOW[package] - {package}
    upward = {str(path.relative_to(ROOT)): imports(path) & above for path in modules(package)}
    assert {name: found for name, found in upward.items() if found} == {}


def test_imports_make_no_circle():
    known = names()
    try:
        TopologicalSorter({name: loaded_by(name, known) for name in known}).prepare()
    except CycleError as error:
        circle = " <- ".join(error.args[1])
    else:
        circle = ""
    assert circle == ""


def after_python(path: Path) -> Iterator[str]:
    """Yield what follows the interpreter in each command of a module."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        words = [ast.unparse(word) for word in node.elts] if isinstance(node, ast.List) else []
        if "sys.executable" in words:
            yield words[words.index("sys.executable") + 1]


def test_our_processes_import_nothing_from_the_current_folder():
    options = {str(path.relative_to(ROOT)): list(after_python(path)) for name in PACKAGES for path in modules(name)}
    assert {file: found for file, found in options.items() if found} == {
        "dicom_node/cli/demo.py": ["'-P'"],
        "dicom_node/engine/supervisor.py": ["'-P'"],
        "dicom_node/web/pictures.py": ["'-P'"],
    }


def test_no_private_name_is_imported_from_another_module():
    taken = [
        f"{name}: {module}.{part}"
        for name, path in names().items()
        for module, part in imported_names(path)
        if module.split(".")[0] in PACKAGES and f"{module}.{part}".count("._")
    ]
    assert taken == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_two_modules_share_a_name(package: str):
    counts = Counter(path.name for path in modules(package) if path.name != "__init__.py")
    assert {name for name, count in counts.items() if count > 1} == set()


def test_only_the_workflow_module_knows_the_engine():
    users = [path.relative_to(ROOT) for package in PACKAGES for path in modules(package) if "dbos" in imports(path)]
    assert users == [Path("dicom_node/engine/workflow.py")]


@pytest.mark.parametrize(
    ("room", "above"),
    [
        ("config", {"watch", "net", "studies", "engine", "web", "cli"}),
        ("watch", {"net", "studies", "engine", "web", "cli"}),
        ("studies", {"net", "engine", "web", "cli"}),
        ("net", {"engine", "web", "cli"}),
        ("engine", {"web", "cli"}),
        ("web", {"cli"}),
    ],
)
def test_rooms_of_the_node_point_down(room: str, above: set[str]):
    taken = {
        f"{path.name}: {module}"
        for path in modules(f"dicom_node/{room}")
        for module, name in imported_names(path)
        if {*f"{module}.{name}".split(".")[1:2]} & above and module.startswith("dicom_node")
    }
    assert taken == set()


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
        "dicom_node.web.server",
        "dicom_node.studies.collect",
        "pipeline.explain",
    ],
)
def test_the_receiver_does_not_import_torch(module: str):
    code = f"import sys, {module}; print(sorted({{'torch', 'monai', 'nnunetv2'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["dicom_node.engine.installed", "models.hd_bet_predictor"])
def test_what_reads_a_study_does_not_import_monai(module: str):
    code = f"import sys, {module}; print('monai' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "False"


def test_the_top_level_holds_what_the_design_names():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {name.split("/")[0] for name in listed if not name.startswith(".")} <= TOP_LEVEL


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_stay_small(package: str):
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in modules(package)}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}
