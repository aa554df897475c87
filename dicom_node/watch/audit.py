"""Who did what with whose images: the events of the node as audit messages (DICOM PS3.15 A.5.3).

As with the log, a process configures the trail once, and whoever knows of an event records it; before that, and where
nothing is configured, nothing is recorded. A message names what the standard asks for: the patient by the Patient ID,
studies by their UID, who took part by AE title, user name, process and address. No name, date or description is in it.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any

from dicom_node.config import Config
from dicom_node.watch.audit_message import (
    ActionCode,
    EventID,
    EventType,
    Message,
    ObjectKind,
    Outcome,
    Participant,
    Participated,
    Role,
)
from dicom_node.watch.audit_refusals import Refusals, RefusedCaller
from dicom_node.watch.audit_trail import FOLDER, Trail
from models.whole_files import write_whole

_STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_LAST_CONFIGURATION = "configuration.sha256"


class _Audited:
    """The trail of this process, and the configuration by which it names peers."""

    def __init__(self) -> None:
        self.config: Config | None = None
        self.trail: Trail | None = None

    def record(self, message: Message) -> None:
        if self.trail:
            self.trail.record(message)


_audited = _Audited()
_acting: ContextVar[Participant | None] = ContextVar("acting", default=None)
"""Who asked for what this context does, where that is not the user of the process."""


def configure(config: Config | None) -> None:
    """Record the events of this process from now on; None ends that."""
    _audited.config = config
    _audited.trail = Trail(config.node.data_dir, source_name(config), config.audit.keep_days) if config else None


def source_name(config: Config) -> str:
    """Return the name of this node among those that are audited."""
    return f"{config.node.ae_title}@{socket.gethostname()}"


@contextmanager
def application(verb: str, config_file: Path) -> Iterator[None]:
    """Record that this process starts and stops, and whether its configuration is another one than the last."""
    _changed_configuration(config_file)
    _activity(verb, EventType.APPLICATION_START)
    try:
        yield
    finally:
        _refusals.close()
        _activity(verb, EventType.APPLICATION_STOP)


def received(
    study_uid: str, folder: Path, calling: str, address: str, instances: Mapping[str, int], *, whole: bool
) -> None:
    """Record what an association brought of a study.

    Parameters
    ----------
    study_uid, folder
        Of the study in the spool.
    calling, address
        Who sent it.
    instances
        How many, by what storing them came to: new, same, conflict, refused.
    whole
        Whether the association ended as it should.
    """
    action = ActionCode.READ
    if instances.get("new"):
        action = ActionCode.CREATE
    elif instances.get("conflict"):
        action = ActionCode.UPDATE
    counts = {f"NumberOfInstances {name}": str(count) for name, count in instances.items() if count}
    outcome = Outcome.SUCCESS if whole and not instances.get("refused") else Outcome.MINOR_FAILURE
    participants = (Participant(calling, requestor=True, role=Role.SOURCE, address=address), _here(Role.DESTINATION))
    objects = (Participated(ObjectKind.STUDY, study_uid, counts), *_patient(folder))
    _audited.record(Message(EventID.INSTANCES_TRANSFERRED, action, participants, objects, outcome))


def sent(study_uid: str, folder: Path, peer: str, kind: str, code: str = "") -> None:
    """Record that a result was sent to a peer, or why it was not taken."""
    participants = (_here(Role.SOURCE, requestor=True), _peer(peer))
    details = {"Kind": kind} | ({"Failure": code} if code else {})
    objects = (Participated(ObjectKind.STUDY, study_uid, details), *_patient(folder))
    outcome = Outcome.MINOR_FAILURE if code else Outcome.SUCCESS
    for event, action in (
        (EventID.BEGIN_TRANSFERRING, ActionCode.EXECUTE),
        (EventID.INSTANCES_TRANSFERRED, ActionCode.CREATE),
    ):
        _audited.record(Message(event, action, participants, objects, outcome))


def refused(calling: str, called: str, address: str, reason: str) -> None:
    """Record that a caller was refused: the first of each at once, the others counted once a minute."""
    if _audited.trail:
        _refusals.note(RefusedCaller(calling, called, address, reason))


def _record_refused(caller: RefusedCaller, times: int) -> None:
    stranger = Participant(caller.calling or "(none)", requestor=True, role=Role.SOURCE, address=caller.address)
    details = {"Alert Description": caller.reason, "Times": str(times)}
    told = Participated(ObjectKind.NODE, caller.called or "(none)", details)
    participants = (_here(Role.DESTINATION), stranger)
    types = (EventType.NODE_AUTHENTICATION,)
    _audited.record(
        Message(EventID.SECURITY_ALERT, ActionCode.EXECUTE, participants, (told,), Outcome.MINOR_FAILURE, types)
    )


_refusals = Refusals(_record_refused)


def acts(name: str, address: str) -> None:
    """Have whatever this context does recorded as done by a user of the web pages.

    Parameters
    ----------
    name, address
        Who, and from where.
    """
    _acting.set(Participant(name, requestor=True, role=Role.APPLICATION_LAUNCHER, address=address))


def signed_in(name: str, address: str, *, good: bool) -> None:
    """Record that somebody signed in at the web pages, or gave a wrong password."""
    who = Participant(name or "(none)", requestor=True, address=address)
    outcome = Outcome.SUCCESS if good else Outcome.MINOR_FAILURE
    types = (EventType.LOGIN,)
    _audited.record(
        Message(EventID.USER_AUTHENTICATION, ActionCode.EXECUTE, (who, _here()), outcome=outcome, types=types)
    )


def looked(*studies: tuple[str, Path], action: ActionCode = ActionCode.READ, verb: str = "") -> None:
    """Record that the user of this process looked at studies, or changed what becomes of them."""
    for study_uid, folder in studies:
        details = {"Verb": verb} if verb else {}
        objects = (Participated(ObjectKind.STUDY, study_uid, details), *_patient(folder))
        _audited.record(Message(EventID.INSTANCES_ACCESSED, action, (_user(), _here()), objects))


def listed(question: str, studies: int) -> None:
    """Record that the user of this process had studies listed."""
    asked = Participated(ObjectKind.QUERY, _STUDY_ROOT_FIND, {"Query": question, "Studies": str(studies)})
    _audited.record(Message(EventID.QUERY, ActionCode.EXECUTE, (_user(Role.SOURCE), _here(Role.DESTINATION)), (asked,)))


def deleted(study_uid: str, patient_id: str | None) -> None:
    """Record that a study was removed from the node, by a human or for its age."""
    who = (_user(), _here())
    objects = (Participated(ObjectKind.STUDY, study_uid), *_patient_of(patient_id))
    _audited.record(Message(EventID.STUDY_DELETED, ActionCode.DELETE, who, objects))


def patient_id(folder: Path) -> str | None:
    """Return the Patient ID of a study, from the first of its instances that tells it."""
    from pipeline.dicom_file import open_dataset  # noqa: PLC0415 - the receiver loads no imaging

    try:
        with os.scandir(folder / "instances") as entries:
            first = next((entry.path for entry in entries if entry.name.endswith(".dcm")), None)
        return str(open_dataset(Path(first), pixels=False)[0].get("PatientID") or "") or None if first else None
    except Exception:  # whatever pydicom stumbles over: the event counts, not the file
        return None


def _changed_configuration(config_file: Path) -> None:
    """Record a configuration that is not the one of the last start."""
    config = _audited.config
    if config is None or not config.node.data_dir.is_dir():
        return
    digest = hashlib.sha256(config_file.read_bytes()).hexdigest()
    last = config.node.data_dir / FOLDER / _LAST_CONFIGURATION
    before = last.read_text("ascii", "replace") if last.exists() else ""
    if before == digest:
        return
    changed = Participated(ObjectKind.FILE, config_file.as_uri(), {"SHA-256": digest, "SHA-256 before": before})
    types = (EventType.SOFTWARE_CONFIGURATION,)
    _audited.record(Message(EventID.SECURITY_ALERT, ActionCode.EXECUTE, (_here(),), (changed,), types=types))
    if last.parent.is_dir():
        write_whole(last, digest.encode())


def _activity(verb: str, kind: EventType) -> None:
    participants = (Participant(f"dicom-node {verb}", False, Role.APPLICATION, alternative=str(os.getpid())), _user())
    _audited.record(Message(EventID.APPLICATION_ACTIVITY, ActionCode.EXECUTE, participants, types=(kind,)))


def _here(role: Role | None = None, *, requestor: bool = False) -> Participant:
    config = _audited.config
    return Participant(
        config.node.ae_title if config else "", requestor, role, socket.gethostname(), alternative=str(os.getpid())
    )


def _user(role: Role | None = Role.APPLICATION_LAUNCHER) -> Participant:
    acting = _acting.get()
    if acting:
        return replace(acting, role=role)
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        name = str(os.getuid())
    return Participant(name, requestor=True, role=role, alternative=os.environ.get("SUDO_USER", ""))


def _peer(name: str) -> Participant:
    known: dict[str, Any] = {peer.name: peer for peer in _audited.config.peers} if _audited.config else {}
    peer = known.get(name)
    ae_title, host = (peer.ae_title, peer.host) if peer else (name, "")
    return Participant(ae_title, requestor=False, role=Role.DESTINATION, address=host)


def _patient(folder: Path) -> tuple[Participated, ...]:
    return _patient_of(patient_id(folder)) if _audited.trail else ()


def _patient_of(found: str | None) -> tuple[Participated, ...]:
    return (Participated(ObjectKind.PATIENT, found or "(none)"),)
