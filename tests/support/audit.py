"""The audit trail of a data folder, read by a test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAY_HOLD = {
    "EventIdentification.EventActionCode",
    "EventIdentification.EventDateTime",
    "EventIdentification.EventOutcomeIndicator",
    "EventIdentification.EventID",
    "EventIdentification.EventTypeCode",
    "ActiveParticipant.UserID",
    "ActiveParticipant.AlternativeUserID",
    "ActiveParticipant.UserIsRequestor",
    "ActiveParticipant.NetworkAccessPointID",
    "ActiveParticipant.NetworkAccessPointTypeCode",
    "ActiveParticipant.RoleIDCode",
    "AuditSourceIdentification.AuditSourceID",
    "ParticipantObjectIdentification.ParticipantObjectID",
    "ParticipantObjectIdentification.ParticipantObjectTypeCode",
    "ParticipantObjectIdentification.ParticipantObjectTypeCodeRole",
    "ParticipantObjectIdentification.ParticipantObjectIDTypeCode",
    "ParticipantObjectIdentification.ParticipantObjectDetail",
}
"""Every field of PS3.15 A.5.1 that a message has here, and nothing else."""
DETAILS = {
    "NumberOfInstances new", "NumberOfInstances same", "NumberOfInstances conflict", "NumberOfInstances refused",
    "Kind", "Failure", "Verb", "Query", "Studies", "Alert Description", "Times", "SHA-256", "SHA-256 before",
    "MessagesLost",
}  # fmt: skip
"""Every fact that an object may have besides."""


def messages(data_dir: Path) -> list[dict[str, Any]]:
    """Return the messages of a trail, each of which has no field and no fact that it may not have."""
    lines = [line for file in sorted((data_dir / "audit").glob("*.jsonl")) for line in file.read_text().splitlines()]
    found = [json.loads(line) for line in lines]
    for message in found:
        assert set(_fields(message)) <= MAY_HOLD
        objects = message["ParticipantObjectIdentification"]
        assert {d["type"] for each in objects for d in each.get("ParticipantObjectDetail", ())} <= DETAILS
    return found


def events(data_dir: Path) -> list[str]:
    """Return what the messages of a trail are about, in their order."""
    return [message["EventIdentification"]["EventID"]["originalText"] for message in messages(data_dir)]


def of_event(data_dir: Path, name: str) -> list[dict[str, Any]]:
    """Return the messages of a trail about one event."""
    return [m for m in messages(data_dir) if m["EventIdentification"]["EventID"]["originalText"] == name]


def users(message: dict[str, Any]) -> list[str]:
    """Return who took part."""
    return [each["UserID"] for each in message["ActiveParticipant"]]


def objects(message: dict[str, Any]) -> dict[str, str]:
    """Return what a message was about, by what its ID means."""
    found = message["ParticipantObjectIdentification"]
    return {each["ParticipantObjectIDTypeCode"]["originalText"]: each["ParticipantObjectID"] for each in found}


def _fields(message: dict[str, Any]) -> Iterator[str]:
    for name, content in message.items():
        for each in content if isinstance(content, list) else [content]:
            yield from (f"{name}.{field}" for field in each)
