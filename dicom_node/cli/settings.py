"""What every verb shares: its options, the configuration that it reads, and what it may log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node import log
from dicom_node.errors import CommandError, NodeError, StudyUnknown
from dicom_node.studies.spool import Spool, Study
from dicom_node.watch import audit
from dicom_node.watch.audit_syslog import forwarding
from dicom_node.watch.last_lines import LastLines

if TYPE_CHECKING:
    from dicom_node.config import Config
    from dicom_node.engine.workflow import Engine
    from pipeline.select import SiteRules

HELD = 3
"""Exit status of a verb whose study gets no score."""
_TAKEN = frozenset({"output_exists", "bundle_exists", "cohort_folder_taken", "cohort_folder_not_empty"})
"""Codes of files and folders that were to be written, and are there: the command line names another."""
CONFIGS = (Path("node.toml"), Path("/etc/dicom-node/node.toml"))

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; default node.toml, then /etc/dicom-node/node.toml.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
FolderArgument = Annotated[Path, typer.Argument(help="Folder with the DICOM files of one study.")]
StudyArgument = Annotated[
    str, typer.Argument(metavar="UID", help="Study Instance UID, or the pseudonym that the log has in its place.")
]


def load_config(file: Path | None, *, offline: bool = False) -> Config:
    """Return the configuration; a verb that needs no network does without a file where none was named."""
    from dicom_node.config import Config, load

    config = Config.offline() if offline and not (file or _default()) else load(config_file(file))
    audit.configure(config)
    return config


def site_rules(file: Path | None) -> SiteRules:
    """Return the site's rules; without a configuration none is loaded, which would take as long as a series."""
    from pipeline.select import BUILT_IN

    return load_config(file).selection.rules() if file or _default() else BUILT_IN


def config_file(file: Path | None) -> Path:
    """Return the file that was named, else the first default that is there, else the first default."""
    return file or _default() or CONFIGS[0]


def _default() -> Path | None:
    """Return the first default that is there; one in a folder that this user may not enter is not."""
    return next((candidate for candidate in CONFIGS if _is_there(candidate)), None)


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:
        return False


def study_of(config: Config, name: str) -> Study:
    """Return the study of a UID, or of a pseudonym of the log.

    Raises
    ------
    SpoolError
        If it is neither, or of no received study.
    """
    spool = Spool(config.node.data_dir, make=False)
    if name in spool or not log.is_pseudonym(name):
        return spool.study(name)
    pseudonym = log.Pseudonym(log.read_key(config.node.data_dir))
    for uid in spool.uids():
        if pseudonym(uid) == name:
            return spool.study(uid)
    raise StudyUnknown(f"No received study has the pseudonym {name}: compare the log of this node.")


@contextmanager
def engine_of(config: Config) -> Iterator[Engine]:
    """Yield a connection to the queues."""
    from dicom_node.engine.retrying import queues_of

    with queues_of(config) as engine:
        yield engine


@contextmanager
def service(verb: str, file: Path | None) -> Iterator[tuple[Config, Path]]:
    """Yield configuration and file of a long-running verb, whose stderr is JSON lines from here on."""
    from dicom_node.engine import ending

    ending.end_with_supervisor()
    ending.end_on_signals()
    config = load_config(file)
    Spool(config.node.data_dir)
    log.configure(key=log.read_key(config.node.data_dir))
    log.also_to(LastLines(config.node.data_dir, verb))
    named = config_file(file).resolve()
    try:
        with forwarding(config), audit.application(verb, named):
            yield config, named
    except NodeError as error:
        log.say(logging.getLogger(__name__), "stopped", level=logging.ERROR, code=error.code, sentence=str(error))
        sys.exit(error.exit_code)
    except Exception:
        log.say(logging.getLogger(__name__), "stopped", level=logging.ERROR, code="internal_error")
        sys.exit(1)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn a refusal of models or pipeline into an error that the command line prints."""
    from models.bundle import ModelError

    try:
        yield
    except ModelError as error:
        kind = CommandError if error.code in _TAKEN else NodeError
        raise kind(str(error), error.code) from None


def quiet() -> None:
    """Keep library warnings, which may quote headers, off the terminal."""
    log.configure(level=logging.CRITICAL)
    logging.disable(logging.ERROR)
