"""The security pack says what is so: pins with hashes and without places, answers to every section."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACK = ROOT / "deploy/security"
SECTIONS = {
    "MPII", "ALOF", "AUDT", "AUTH", "CSUP", "DTBK", "EMRG", "IGAU", "MLDP", "NAUT", "CONN", "PAUT", "PLOK", "SBOM",
    "RDMP", "SAHD", "SGUD", "STCF", "TXCF", "TXIG", "RMOT",
}  # fmt: skip
"""Of ANSI/NEMA HN 1-2019, but those on personal records that it shares with others."""
_PIN = re.compile(r"([a-z0-9][a-z0-9._-]*)==([^ +]+)((?: --hash=sha256:[0-9a-f]{64})+)")


def pins() -> dict[str, str]:
    """Return the pinned versions, each line of which is a package, a version and hashes, and nothing else."""
    text = (PACK / "requirements.txt").read_text("ascii").replace(" \\\n    ", " ")
    found = [_PIN.fullmatch(line) for line in text.splitlines()]
    assert found
    assert all(found), "a line that names a place, an option or a build"
    return {match[1]: match[2] for match in found if match}


def test_the_pins_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = dict(requirement.split("==") for requirement in project["dependencies"])
    pinned = pins()
    for name, version in wanted.items():
        assert re.fullmatch(re.escape(version).replace(r"\*", ".*"), pinned[name.lower()]), f"pack.sh pins: {name}"


def test_every_section_has_an_answer():
    text = (PACK / "README.md").read_text("utf-8")
    assert {line.split("|")[1].strip() for line in text.splitlines() if re.match(r"\| [A-Z]{4} \|", line)} == SECTIONS


def test_the_script_says_what_it_does():
    done = subprocess.run(["bash", "-n", PACK / "pack.sh"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    said = (PACK / "README.md").read_text("utf-8")
    for verb in re.findall(r"^  (\w+)\) ", (PACK / "pack.sh").read_text(), re.MULTILINE):
        assert f"pack.sh {verb}`" in said
