"""Audit messages of DICOM PS3.15 A.5 as records; the names of their fields are those of its schema (A.5.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple


class Code(NamedTuple):
    """A coded value."""

    value: str
    meaning: str
    scheme: str = "DCM"

    def as_json(self) -> dict[str, str]:
        """Return the attributes of the schema."""
        return {"csd-code": self.value, "codeSystemName": self.scheme, "originalText": self.meaning}


class EventID(Enum):
    """What a message is about (PS3.15 A.5.3, PS3.16 CID 400)."""

    APPLICATION_ACTIVITY = Code("110100", "Application Activity")
    BEGIN_TRANSFERRING = Code("110102", "Begin Transferring DICOM Instances")
    INSTANCES_ACCESSED = Code("110103", "DICOM Instances Accessed")
    INSTANCES_TRANSFERRED = Code("110104", "DICOM Instances Transferred")
    STUDY_DELETED = Code("110105", "DICOM Study Deleted")
    EXPORT = Code("110106", "Export")
    QUERY = Code("110112", "Query")
    SECURITY_ALERT = Code("110113", "Security Alert")
    USER_AUTHENTICATION = Code("110114", "User Authentication")


class EventType(Enum):
    """What kind of it (PS3.16 CID 401)."""

    APPLICATION_START = Code("110120", "Application Start")
    APPLICATION_STOP = Code("110121", "Application Stop")
    LOGIN = Code("110122", "Login")
    NODE_AUTHENTICATION = Code("110126", "Node Authentication")
    SOFTWARE_CONFIGURATION = Code("110131", "Software Configuration")
    RECORDING_STARTED = Code("110134", "Audit Recording Started")


class ActionCode(StrEnum):
    """What was done."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"


class Outcome(IntEnum):
    """How it went."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8


class Role(Enum):
    """What a participant was to it (PS3.16 CID 402)."""

    APPLICATION = Code("110150", "Application")
    APPLICATION_LAUNCHER = Code("110151", "Application Launcher")
    DESTINATION = Code("110152", "Destination Role ID")
    SOURCE = Code("110153", "Source Role ID")


IP_ADDRESS, MACHINE_NAME = "2", "1"
"""Kinds of a NetworkAccessPointID."""


@dataclass(frozen=True, slots=True)
class Participant:
    """Who took part: a person, a process, or another machine.

    Attributes
    ----------
    user_id
        Name of a user or process, or an AE title.
    requestor
        Whether it began the event.
    role
        What it was to it.
    address
        Where on the network it is; empty where it is here or not known.
    alternative
        Another name of it: the process's number, or who had become this user.
    """

    user_id: str
    requestor: bool
    role: Role | None = None
    address: str = ""
    alternative: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the schema."""
        found: dict[str, Any] = {"UserID": self.user_id}
        if self.alternative:
            found["AlternativeUserID"] = self.alternative
        found["UserIsRequestor"] = self.requestor
        if self.address:
            kind = IP_ADDRESS if self.address.replace(".", "").isdigit() or ":" in self.address else MACHINE_NAME
            found |= {"NetworkAccessPointID": self.address, "NetworkAccessPointTypeCode": kind}
        if self.role:
            found["RoleIDCode"] = [self.role.value.as_json()]
        return found


class ObjectKind(Enum):
    """What an object of a message is: its type, its role, and what its ID means (PS3.15 tables A.5.2-1 and A.5.3)."""

    PATIENT = ("1", "1", Code("2", "Patient Number", "RFC-3881"))
    STUDY = ("2", "3", Code("110180", "Study Instance UID"))
    QUERY = ("2", "3", Code("110181", "SOP Class UID"))
    NODE = ("2", "13", Code("110182", "Node ID"))
    FILE = ("2", "13", Code("12", "URI", "RFC-3881"))


@dataclass(frozen=True, slots=True)
class Participated:
    """An object that an event was about, with facts of it."""

    kind: ObjectKind
    object_id: str
    details: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the schema."""
        type_code, role, id_type = self.kind.value
        found: dict[str, Any] = {
            "ParticipantObjectID": self.object_id,
            "ParticipantObjectTypeCode": type_code,
            "ParticipantObjectTypeCodeRole": role,
            "ParticipantObjectIDTypeCode": id_type.as_json(),
        }
        if self.details:
            found["ParticipantObjectDetail"] = [{"type": name, "value": value} for name, value in self.details.items()]
        return found


@dataclass(frozen=True, slots=True)
class Message:
    """One audit message.

    Attributes
    ----------
    event, action, outcome, types
        What happened, and how it went.
    participants
        At least one.
    objects
        What it was about.
    """

    event: EventID
    action: ActionCode
    participants: tuple[Participant, ...]
    objects: tuple[Participated, ...] = ()
    outcome: Outcome = Outcome.SUCCESS
    types: tuple[EventType, ...] = ()

    def as_json(self, source: str, time: datetime) -> dict[str, Any]:
        """Return the message as the schema has it; `source` is the name of this node among those that are audited."""
        event: dict[str, Any] = {
            "EventActionCode": self.action.value,
            "EventDateTime": time.isoformat(timespec="milliseconds"),
            "EventOutcomeIndicator": str(int(self.outcome)),
            "EventID": self.event.value.as_json(),
        }
        if self.types:
            event["EventTypeCode"] = [each.value.as_json() for each in self.types]
        return {
            "EventIdentification": event,
            "ActiveParticipant": [each.as_json() for each in self.participants],
            "AuditSourceIdentification": {"AuditSourceID": source},
            "ParticipantObjectIdentification": [each.as_json() for each in self.objects],
        }
