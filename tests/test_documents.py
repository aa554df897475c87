"""The documents say what the code does: every key, verb, state, code, limit and term, and nothing that is not there."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml
from pydantic.fields import FieldInfo
from pydicom.uid import UID
from pynetdicom import (
    AE,
    PYNETDICOM_IMPLEMENTATION_UID,
    PYNETDICOM_IMPLEMENTATION_VERSION,
    AllStoragePresentationContexts,
)
from typer import Typer

from dicom_node import config
from dicom_node.cli import app as cli
from dicom_node.config import Config, TLSProfile, example_toml, load, parse
from dicom_node.config import sentences as config_text
from dicom_node.engine import sending, supervisor, underway, workflow
from dicom_node.net import (
    accepted,
    admission,
    association,
    contexts,
    scp,
    scu,
    upper_layer_accept,
    upper_layer_request,
    upper_layer_transfer,
)
from dicom_node.net.dimse import Status
from dicom_node.net.tls import CIPHERS
from dicom_node.net.tls_faults import TLSFault
from dicom_node.net.tls_sentences import REFUSED
from dicom_node.net.upper_layer import AbortReason, Rejection
from dicom_node.studies.routing import Filter
from dicom_node.studies.timeline import Event, State
from dicom_node.watch.alarm_rules import MEANING, Rule
from dicom_node.watch.metrics import METRICS
from dicom_node.web.probes import PROBES
from models.contrast import Contrast
from models.training.cohort import INCLUDED
from models.training.evaluation.simulated_coverage import coverage_rows
from models.training.fit.recipe import Recipe
from pipeline.cohort import labels
from pipeline.cohort.build import FULL, SMALL
from pipeline.errors import HoldReason
from pipeline.geometry import MAX_STEP_MM, MIN_COVERAGE_MM, MIN_SLICES
from pipeline.headers import ProblemCode
from pipeline.plausibility import LARGEST_ML, SMALLEST_ML, MaskFlag
from pipeline.report import codes, result_header, structured_report, uids
from pipeline.report.pen import SIDE
from tests.support.refusals import refusal
from tests.support.services import require

ROOT = Path(__file__).parents[1]
SYSTEMD_ANALYZE = Path("/usr/bin/systemd-analyze")
README, CHANGELOG, CONTRIBUTING = ROOT / "README.md", ROOT / ".github/CHANGELOG.md", ROOT / ".github/CONTRIBUTING.md"
INSTALL, RUNBOOK, CONFORMANCE, RADIOLOGIST, QUICKSTART = (
    ROOT / f"deploy/{name}.md" for name in ("INSTALL", "RUNBOOK", "CONFORMANCE", "RADIOLOGIST", "QUICKSTART")
)
PACKAGES = tuple(ROOT / package / "README.md" for package in ("dicom_node", "pipeline", "models"))
ARCHITECTURE, IMAGING, TRAINING = PACKAGES
SECURITY, REPORTING = ROOT / "deploy/security/README.md", ROOT / ".github/SECURITY.md"
EXAMPLE, UNIT = ROOT / "deploy/node.example.toml", ROOT / "deploy/dicom-node.service"
MARKDOWN = (
    README,
    INSTALL,
    RUNBOOK,
    CONFORMANCE,
    RADIOLOGIST,
    QUICKSTART,
    *PACKAGES,
    CHANGELOG,
    CONTRIBUTING,
    SECURITY,
    REPORTING,
)
DOCUMENTS = (*MARKDOWN, EXAMPLE, UNIT)
LINE_LENGTH = 120
MOST_LINES = {README: 150, RADIOLOGIST: 80, QUICKSTART: 80}

Row = dict[str, str]


# --- reading the documents --------------------------------------------------------------------------------------------


def name_of(document: Path) -> str:
    """Return how a test calls a document."""
    return str(document.relative_to(ROOT))


def table(document: Path, *header: str) -> list[Row]:
    """Return the rows of the tables with this header."""
    rows: list[Row] = []
    columns: list[str] = []
    for line in document.read_text("utf-8").splitlines():
        if not line.startswith("|"):
            columns = []
        elif not columns:
            columns = _cells(line)
        elif columns == list(header) and not set(line) <= set("|- "):
            cells = _cells(line)
            assert len(cells) == len(header), line
            rows.append(dict(zip(header, cells, strict=True)))
    assert rows, f"{document.name} has no table with the columns {', '.join(header)}"
    return rows


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def named(rows: Iterable[Row], column: str) -> list[str]:
    """Return what stands in backticks in one column; a row may name several."""
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row[column])]


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- reading the code -------------------------------------------------------------------------------------------------


def calls(folder: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call of a package with the name of what is called."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                yield name, node


def constant(call: ast.Call, position: int) -> str | None:
    """Return a positional argument of a call if it is a literal string."""
    argument = call.args[position] if len(call.args) > position else None
    return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else None


def node_codes() -> set[str]:
    """Return every code that an error of the node or of a model may have."""
    named = ("SpoolFull", "StudyUnknown", "PeerAway", "ObjectDenied", "ObjectRefused", "AccessRefused")
    places = {"ModelError": 0, "verify_checksums": 1, "_verified": 1, "refusal": 2}
    found = set(config_text.CODES.values()) | {"config_bad_value", "internal_error"} | set(TLSFault)
    for name, call in [*calls("dicom_node"), *calls("pipeline"), *calls("models")]:
        position = places.get(
            name,
            1 if name.endswith("Error") or name in named else None,
        )
        code = None if position is None else constant(call, position)
        if code and re.fullmatch(r"[a-z]+(_[a-z]+)+", code):
            found.add(code)
    for path in (ROOT / "dicom_node").rglob("*.py"):
        found |= set(re.findall(r'^    code = "(\w+)"$', path.read_text("utf-8"), re.MULTILINE))
    return found


def keys() -> dict[str, FieldInfo]:
    """Return every configuration key as section.key."""
    found: dict[str, FieldInfo] = {}
    for name, field in Config.model_fields.items():
        section = config_text.section_of(field)
        assert section is not None
        found |= {f"{name}.{key}": definition for key, definition in section.model_fields.items()}
    return found


def verbs() -> set[str]:
    """Return the verbs of the command line; those of a group have two words."""
    found = _verbs(cli.app)
    for group in cli.app.registered_groups:
        assert group.typer_instance is not None
        found |= {f"{group.name} {verb}" for verb in _verbs(group.typer_instance)}
    return found


def _verbs(app: Typer) -> set[str]:
    return {str(c.name or getattr(c.callback, "__name__", "")) for c in app.registered_commands}


def called(command: str) -> str:
    """Return the verb of a command line without the program."""
    first, *rest = command.split()
    return f"{first} {rest[0]}" if rest and first in {group.name for group in cli.app.registered_groups} else first


# --- configuration and command line -----------------------------------------------------------------------------------


def test_every_key_is_documented_with_its_default():
    rows = {row["key"].strip("`"): row["default"] for row in table(INSTALL, "key", "default", "meaning")}
    wanted = {}
    for name, field in keys().items():
        plain = "required" if field.is_required() else "none" if field.default is None else None
        wanted[name] = plain or f"`{config_text.toml(field.default)}`"
    assert rows == wanted


def test_the_example_is_the_one_that_init_writes():
    assert EXAMPLE.read_text("utf-8") == example_toml()
    load(EXAMPLE)
    sections = re.split(r"^(?:# )?\[+(\w+)\]+$", EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)
    written = dict(zip(sections[1::2], sections[2::2], strict=True))
    missing = [
        name
        for name in keys()
        if not re.search(rf"^(# )?{name.split('.')[1]} = ", written[name.split(".")[0]], re.MULTILINE)
    ]
    assert missing == []


@pytest.mark.parametrize("document", MARKDOWN, ids=name_of)
def test_examples_of_configuration_are_accepted(document: Path):
    for block in re.findall(r"^ *```toml\n(.*?)^ *```", document.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        if "[" in block:
            parse(block)
        else:
            assert {f"node.{key}" for key in tomllib.loads(block)} <= set(keys())


def test_keys_that_documents_name_exist():
    sections = "|".join(Config.model_fields)
    for document in MARKDOWN:
        said = set(re.findall(rf"`((?:{sections})\.[a-z_]+)`", document.read_text("utf-8")))
        assert {key for key in said if not key.endswith((".toml", ".log", ".dcm", ".py"))} <= set(keys()), document.name


def test_every_verb_is_documented():
    rows = named(table(INSTALL, "verb", "does", "exit code"), "verb")
    assert sorted(called(name.removeprefix("dicom-node ")) for name in rows) == sorted(verbs())


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_no_document_names_a_verb_that_does_not_exist(document: Path):
    commands = re.findall(r"\bdicom-node +([a-z][\w-]*(?: +[a-z]\w+)?)", document.read_text("utf-8"))
    assert {called(command) for command in commands} <= verbs()


# --- studies ----------------------------------------------------------------------------------------------------------


def test_every_reason_to_hold_a_study_stands_in_the_runbook():
    rows = table(RUNBOOK, "code", "sentence", "what to do")
    assert {row["code"].strip("`"): row["what to do"] for row in rows} == {r.value: r.advice for r in HoldReason}


@pytest.mark.parametrize("reason", HoldReason)
def test_the_runbook_quotes_what_a_study_is_held_with(reason: HoldReason):
    (row,) = (row for row in table(RUNBOOK, "code", "sentence", "what to do") if row["code"] == f"`{reason}`")
    held = refusal(reason)
    assert held.code is reason
    assert row["sentence"] == held.sentence


def test_numbers_in_the_reasons_are_those_of_the_code():
    said = {row["code"].strip("`"): row["sentence"] for row in table(RUNBOOK, "code", "sentence", "what to do")}
    assert f"at least {MIN_SLICES}." in said["geometry_too_few"]
    assert f"at most {MAX_STEP_MM} mm" in said["geometry_thick"]
    assert f"needs {MIN_COVERAGE_MM:.0f} mm" in said["geometry_coverage"]
    assert f"{SMALLEST_ML:.0f} to {LARGEST_ML:.0f} ml" in said["brain_mask_implausible"]
    text = " ".join(IMAGING.read_text("utf-8").split())
    assert f"fewer than {MIN_SLICES} slices, more than {MAX_STEP_MM} mm" in text
    assert f"less than {MIN_COVERAGE_MM:.0f} mm of coverage" in text
    assert f"{SMALLEST_ML:.0f} to {LARGEST_ML:.0f} ml" in text
    for grid in (FULL, SMALL):
        size, spacing = (" x ".join(f"{side:g}" for side in sides) for sides in (grid.size_xyz, grid.spacing_xyz_mm))
        assert f"{size} voxels of {spacing} mm" in text


def test_every_flag_of_a_mask_is_explained_to_the_radiologist():
    rows = table(RADIOLOGIST, "flag", "meaning")
    assert {name: row["meaning"] for row in rows for name in named([row], "flag")} == {
        flag.value: flag.meaning for flag in MaskFlag
    }


def test_every_state_is_explained_and_has_an_advice():
    for rows in (table(INSTALL, "state", "meaning"), table(RUNBOOK, "state", "what to do")):
        assert sorted(row["state"].strip("`") for row in rows) == sorted(State)


def test_every_filter_stands_in_the_runbook_with_its_keys():
    rows = table(RUNBOOK, "code", "filtered by")
    assert [row["code"].strip("`") for row in rows] == list(Filter)
    filtering = {key for key in keys() if key.startswith("routing.")} - {"routing.missing", "routing.keep_days"}
    assert {key for row in rows for key in named([row], "filtered by")} == filtering


def test_every_event_of_a_timeline_stands_in_the_runbook():
    listed = [name for row in table(RUNBOOK, "event", "meaning") for name in named([row], "event")]
    assert sorted(listed) == sorted(Event)


def test_every_event_of_the_log_stands_in_the_runbook():
    said = {constant(call, 1) for name, call in calls("dicom_node") if name == "say"} - {None}
    text = (ROOT / "dicom_node/log.py").read_text("utf-8")
    said |= set(re.findall(r'getLogger\([^)]*\)\.(?:error|warning)\("([^"]+)"', text))
    assert sorted(named(table(RUNBOOK, "event", "level", "meaning", "what to do"), "event")) == sorted(said)


def test_every_metric_stands_in_the_runbook():
    rows = table(RUNBOOK, "metric", "labels", "meaning")
    listed = {row["metric"].strip("`"): (row["meaning"], tuple(named([row], "labels"))) for row in rows}
    assert listed == {f"dicom_node_{name}": said for name, said in METRICS.items()}


def test_every_alarm_stands_in_the_runbook():
    assert {row["rule"].strip("`"): row["told when"] for row in table(RUNBOOK, "rule", "told when")} == MEANING
    assert set(MEANING) == set(Rule)


def test_every_probe_stands_in_the_runbook():
    assert {row["address"].strip("`"): row["answer"] for row in table(RUNBOOK, "address", "answer")} == PROBES


def test_every_page_is_documented():
    listed = {f"{row['page'].lower().removeprefix('a ')}_page.py" for row in table(INSTALL, "page", "shows")}
    assert listed == {path.name for path in (ROOT / "dicom_node/web").glob("*_page.py")} - {"sign_in_page.py"}


def test_every_code_of_an_error_stands_in_the_runbook():
    assert sorted(named(table(RUNBOOK, "code", "meaning", "what to do"), "code")) == sorted(node_codes())


def test_every_code_of_an_unused_file_stands_in_the_runbook():
    assert sorted(named(table(RUNBOOK, "code", "meaning"), "code")) == sorted(ProblemCode)


# --- architecture -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", table(ARCHITECTURE, "question", "open", "look for"), ids=lambda row: row["look for"])
def test_a_stranger_finds_the_answer(row: Row):
    """The file is there, and the name is defined in it."""
    assert row["question"].endswith("?")
    defined = set()
    for node in ast.walk(ast.parse((ROOT / row["open"].strip("`")).read_text("utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
    assert row["look for"].strip("`") in defined


def test_every_module_stands_in_its_room():
    rooms = {
        row["room"].strip("`/"): named([row], "what is in it") for row in table(ARCHITECTURE, "room", "what is in it")
    }
    listed = {
        f"{room}/{module}.py"
        for room, modules in rooms.items()
        if (ROOT / "dicom_node" / room).is_dir()
        for module in modules
    }
    assert listed == {
        str(path.relative_to(ROOT / "dicom_node"))
        for path in (ROOT / "dicom_node").glob("*/*.py")
        if path.name != "__init__.py"
    }


def test_modules_of_models_stand_in_its_rooms():
    listed = named(table(TRAINING, "room", "what is in it"), "room")
    assert {path.name for path in (ROOT / "models").glob("[a-z]*.py")} <= set(listed)


def test_the_table_of_the_patent_says_the_defaults_of_a_training():
    recipe = Recipe()
    rows = table(TRAINING, "paragraph", "in the patent", "here", "why")
    said = {row["paragraph"]: f"{row['in the patent']} {row['here']}" for row in reversed(rows)}
    assert f"learning rate {recipe.learning_rate:g}, {recipe.epochs} epochs" in said["[0081]"]
    assert recipe.folds == 5
    assert "five folds" in said["[0081]"]
    assert f"`copies {recipe.copies}`" in said["[0061]"]
    assert recipe.start is None
    assert "random" in said["[0068]"]
    assert not recipe.reproduce_patent_selection
    assert "out-of-fold" in said["[0085]"]
    assert {"[0056]", "[0057]", "[0061]", "[0065]", "[0068]", "[0078]", "[0081]", "[0085]", "claim 7"} <= set(said)


def test_the_simulated_coverage_is_that_of_the_card():
    assert [list(row.values()) for row in table(TRAINING, "design", "AUC", "sensitivity")] == coverage_rows()


def test_the_table_of_labels_is_documented():
    listed = named(table(TRAINING, "column", "what stands in it"), "column")
    assert listed == [*labels.REQUIRED, *labels.OPTIONAL]
    statuses = named(table(TRAINING, "status", "meaning"), "status")
    assert {INCLUDED, *(criterion.code for criterion in labels.CRITERIA.values())} <= set(statuses)


def test_every_benchmark_is_documented():
    commands = named(table(CONTRIBUTING, "command", "what it measures"), "command")
    modules = {path.stem for path in (ROOT / "tests/benchmarks").glob("*.py")}
    assert {command.split()[2].rpartition(".")[2] for command in commands} == modules


# --- conformance ------------------------------------------------------------------------------------------------------


def test_the_private_codes_are_those_of_the_report():
    rows = table(CONFORMANCE, "value", "meaning", "use")
    assert [tuple(row.values()) for row in rows] == [(term.value, term.meaning, term.note) for term in codes.TERMS]
    text = " ".join(CONFORMANCE.read_text("utf-8").split())
    assert f'designator {codes.SCHEME}, version {codes.SCHEME_VERSION}, name "{codes.SCHEME_NAME}"' in text


def test_limits_are_those_of_the_code():
    assert {row["limit"]: row["value"] for row in table(CONFORMANCE, "limit", "value")} == {
        "Associations accepted at the same time": f"{scp.MAXIMUM_ASSOCIATIONS}",
        "Associations accepted at the same time from one AE title and address": f"{scp.MAXIMUM_ASSOCIATIONS_OF_PEER}",
        "Connections that have not asked for an association yet": f"{upper_layer_accept.MOST_WAITING}",
        "Connections that have not asked for an association yet, from one address": (
            f"{upper_layer_accept.MOST_WAITING_OF_ADDRESS}"
        ),
        "Longest association request": f"{upper_layer_request.LONGEST_REQUEST_BYTES} bytes",
        "Presentation contexts of a request": f"{upper_layer_request.MOST_CONTEXTS}",
        "Largest PDU received, associations accepted": f"{upper_layer_transfer.LONGEST_PDU_BYTES} bytes",
        "Largest PDU received, associations requested": f"{AE().maximum_pdu_size} bytes",
        "Wait for an association request after connection": f"{upper_layer_accept.ARTIM_S:g} s",
        "Wait for the rest of a PDU": f"{upper_layer_transfer.PDU_TIMEOUT_S:g} s",
        "Wait for the rest of a message": f"{accepted.MESSAGE_TIMEOUT_S:g} s",
        "Wait on an idle association before it is ended": f"{accepted.IDLE_TIMEOUT_S:g} s",
        "Wait for a connection, as requestor": f"{association.CONNECT_TIMEOUT_S} s",
        "Wait for the answer to an association request or release, as requestor": f"{association.ANSWER_TIMEOUT_S} s",
        "Wait for the answer to a message, as requestor": f"{association.MESSAGE_TIMEOUT_S} s",
        "Wait on the association of a commitment request for its result": f"{scu.COMMITMENT_WAIT_S:g} s",
    }
    text = " ".join(CONFORMANCE.read_text("utf-8").split())
    assert f"up to {admission.MAXIMUM_OPERATIONS} operations performed at once" in text
    assert f"1 s more for each {accepted.SLOWEST_BYTES_PER_S:g} bytes" in text
    assert f"At most {sending.DELIVERIES_AT_ONCE} deliveries" in text


def test_transfer_syntaxes_are_those_accepted_in_this_order():
    listed = [row["UID"] for row in table(CONFORMANCE, "transfer syntax", "UID", "decoded")]
    assert listed == contexts.storage_transfer_syntaxes()


def test_decoded_transfer_syntaxes_are_those_that_pydicom_decodes_here():
    from pydicom.pixels.decoders.base import get_decoder

    def decoded(uid: str) -> str:
        try:
            return "yes" if get_decoder(UID(uid)).is_available else "no"
        except NotImplementedError:
            return "no"

    rows = table(CONFORMANCE, "transfer syntax", "UID", "decoded")
    assert [row["UID"] for row in rows if row["decoded"] != decoded(row["UID"])] == []


def test_storage_classes_are_those_accepted():
    listed = [row["UID"] for row in table(CONFORMANCE, "SOP class", "UID")]
    assert listed == [str(context.abstract_syntax) for context in AllStoragePresentationContexts]


def test_classes_of_results_are_those_proposed():
    rows = table(CONFORMANCE, "service", "abstract syntax", "transfer syntaxes", "role")
    reports = [row["abstract syntax"] for row in rows if row["service"].endswith("SR")]
    assert tuple(reports) == structured_report.SOP_CLASSES


def test_statuses_are_those_answered():
    rows = table(CONFORMANCE, "status", "meaning", "when", "what the sender should do")
    assert sorted(int(row["status"], 16) for row in rows) == sorted(Status)


def test_rejections_are_those_made():
    rows = table(CONFORMANCE, "reason", "result", "source", "diagnostic")
    numbers = [tuple(int(row[c].split()[0]) for c in ("result", "source", "diagnostic")) for row in rows]
    assert sorted(numbers) == sorted(rejection.value for rejection in Rejection)
    aborts = {
        int(row["reason of the A-ABORT"].split()[0]) for row in table(CONFORMANCE, "reason of the A-ABORT", "when")
    }
    assert aborts == set(AbortReason)


def test_every_refusal_of_a_caller_stands_in_the_runbook():
    rows = table(RUNBOOK, "reason", "what is wrong, and what to do")
    assert {row["reason"].strip("`"): row["what is wrong, and what to do"] for row in rows} == REFUSED


def test_cipher_suites_are_those_of_the_profiles():
    rows = table(CONFORMANCE, "suite, as OpenSSL names it", "B.12", "B.13")
    for profile, column in ((TLSProfile.BCP195, "B.12"), (TLSProfile.BCP195_MODIFIED, "B.13")):
        assert tuple(row["suite, as OpenSSL names it"] for row in rows if row[column] == "yes") == CIPHERS[profile]


def test_implementations_and_series_are_those_written():
    items = {row["item"]: row["value"] for row in table(CONFORMANCE, "item", "value")}
    assert items["Implementation class UID, associations"] == PYNETDICOM_IMPLEMENTATION_UID
    assert items["Implementation version name, associations"] == PYNETDICOM_IMPLEMENTATION_VERSION
    assert items["Implementation class UID, files of results"] == uids.IMPLEMENTATION_CLASS_UID
    kinds = {
        ("Structured Report", "summary page"): (result_header.REPORT, result_header.SUMMARY_PAGE),
        ("document", "report of a held study"): (result_header.DOCUMENT, result_header.HELD),
        ("key object",): (result_header.KEY_OBJECT,),
        ("saliency page", "saliency map T1W"): (result_header.SALIENCY_PAGE, result_header.SALIENCY_MAPS[Contrast.T1W]),
    }
    for columns, written in kinds.items():
        described = {row["attribute"]: row for row in table(CONFORMANCE, "attribute", *columns)}
        for column, kind in zip(columns, written, strict=True):
            assert described["Modality"][column] == kind.modality
            assert described["Series Number"][column] == str(kind.series_number)
            assert described["Series Description"][column] == kind.series_description
            assert f'{kind.series_number} "{kind.series_description}"' in RADIOLOGIST.read_text("utf-8")
    rows = {row["attribute"]: row for row in table(CONFORMANCE, "attribute", "Structured Report", "summary page")}
    assert rows["Manufacturer"]["Structured Report"] == result_header.MANUFACTURER
    assert f"{SIDE} x {SIDE}" in rows["Pixels"]["summary page"]


# --- deployment -------------------------------------------------------------------------------------------------------


def test_the_unit_starts_a_verb_and_leaves_time_to_stop():
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT.read_text("utf-8"))
    service = unit["Service"]
    assert service["ExecStart"].split()[1] in verbs()
    # Children end at once on a second SIGTERM: systemd must not send the first one.
    assert service["KillMode"] == "mixed"
    assert float(service["TimeoutStopSec"]) > supervisor.STOP_S > workflow.DRAIN_S


def test_the_unit_confines_the_node():
    require(SYSTEMD_ANALYZE)
    command = [str(SYSTEMD_ANALYZE), "security", "--offline=true", "--no-pager", str(UNIT)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stdout
    level = re.search(r"Overall exposure level for \S+: (\d+\.\d)", said)
    assert level
    assert float(level[1]) <= 3.0


def test_containers_start_verbs_with_configurations_that_are_accepted():
    parse(yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))["configs"]["node"]["content"])
    objects = yaml.safe_load_all((ROOT / "deploy/kubernetes/dicom-node.yaml").read_text("utf-8"))
    pods = [each["spec"]["template"]["spec"] for each in objects if each["kind"] == "StatefulSet"]
    started = {pod["containers"][0]["args"][0]: pod for pod in pods if "args" in pod["containers"][0]}
    assert set(started) == {"receive", "work", "web", "watch"} <= verbs()
    assert started["work"]["terminationGracePeriodSeconds"] > supervisor.STOP_S
    (command,) = re.findall(r'^CMD \["(\w+)"', (ROOT / "deploy/Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert command in verbs()


@pytest.mark.parametrize("file", ["alerts.yml", "dashboard.json"])
def test_what_is_monitored_is_a_metric(file: str):
    used = set(re.findall(r"\bdicom_node_(\w+)", (ROOT / "deploy/monitoring" / file).read_text("utf-8")))
    assert used
    assert {name.removesuffix("_bucket") for name in used} <= set(METRICS)


def test_numbers_for_the_operator_are_those_of_the_code():
    text = " ".join(RUNBOOK.read_text("utf-8").split())
    assert f"more than {workflow.STEP_LIMIT_S / 60:.0f} minutes" in text
    assert underway.MAX_CRASHES == 3, "the runbook says that a study may end the worker four times"
    text = " ".join(INSTALL.read_text("utf-8").split())
    assert " ".join(f"{name}={value}" for name, value in supervisor.KEEP_MEMORY.items()) in text
    assert "at most 1500" in text
    longest_s = next(
        limit.le
        for limit in config.DeliverySection.model_fields["commitment_timeout_s"].metadata
        if hasattr(limit, "le")
    )
    assert longest_s == 1500 < workflow.STEP_LIMIT_S


# --- form -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", MARKDOWN, ids=name_of)
def test_links_resolve(document: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        other = (document.parent / path).resolve() if path else document
        assert other.is_relative_to(ROOT), target
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


@pytest.mark.parametrize("document", MARKDOWN, ids=name_of)
def test_files_that_documents_name_exist(document: Path):
    folders = "deploy|tests|dicom_node|pipeline|models"
    for name in re.findall(rf"\b((?:{folders})/[\w./-]+\w)", document.read_text("utf-8")):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("document", PACKAGES, ids=name_of)
def test_files_of_a_package_that_its_readme_names_exist(document: Path):
    names = re.findall(r"`([a-z][\w/]*(?:\.py|/))`", document.read_text("utf-8"))
    assert names
    assert [name for name in names if not any((folder / name).exists() for folder in (document.parent, ROOT))] == []


@pytest.mark.parametrize("document", MOST_LINES, ids=name_of)
def test_what_is_read_first_is_short(document: Path):
    assert len(document.read_text("utf-8").splitlines()) <= MOST_LINES[document]


def test_the_warning_stands_at_the_top_of_the_readme():
    top = README.read_text("utf-8").split("\n## ")[0]
    for words in ("research use only", "not a medical device", "not for diagnosis", "drawn heads", "not a probability"):
        assert words in " ".join(top.replace("*", "").replace(">", "").lower().split()), words


@pytest.mark.parametrize("document", MARKDOWN, ids=name_of)
def test_text_is_wrapped(document: Path):
    long = [line for line in document.read_text("utf-8").splitlines() if len(line) > LINE_LENGTH and line[0] != "|"]
    assert long == []
